//! Kafka JSON → filter and map → a table of PostgreSQL: Millstream in its three modes and Flink's JDBC
//! sink, interleaved. Prints one JSON line per measured run and appends it to a file.

use std::path::PathBuf;

use clap::Parser;
use millstream_benches::contender::{Contender, Field, Settings};
use millstream_benches::orders::{CUSTOMERS, Order};
use millstream_benches::report::Report;
use millstream_benches::tables::Tables;
use millstream_benches::topics::Topics;
use millstream_benches::{Result, setup};
use millstream_tests::{Postgres, PostgresOptions};

/// Ways to write, and whether Flink has them: its transactions are those of XA, which are prepared too.
const MODES: [(&str, bool); 3] = [
    ("TwoPhaseCommit", true),
    ("Buffered", false),
    ("Upsert", true),
];

/// Settings of the benchmark.
#[derive(Parser)]
struct Arguments {
    /// Orders in the input topic.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Measured runs of every contender.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Checkpoint interval, milliseconds.
    #[arg(long, default_value_t = 5_000)]
    interval: u64,
    /// Runs of every Flink before the first measured one, so that its JVM is warm.
    #[arg(long, default_value_t = 2)]
    warmup: u32,
    /// Flink installations, as `name=directory` (what `tools/flink.sh` prints).
    #[arg(long)]
    flink: Vec<String>,
    /// The release binary.
    #[arg(long)]
    millstream: PathBuf,
    /// Version of the broker.
    #[arg(long, default_value = "3.9.2")]
    kafka: String,
    /// Profile that it was compiled with.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Where results are appended.
    #[arg(long)]
    results: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let mut broker = setup::start_broker(&arguments.kafka)?;
    let bootstrap = broker.bootstrap();
    let server = Postgres::start_with(&PostgresOptions {
        settings: vec![("max_prepared_transactions", "16".to_owned())],
        is_secure: false,
    });
    let topics = Topics::new(&bootstrap, 4);
    topics.create("orders")?;
    let orders = (0..arguments.rows).map(|index| Order::new(index, CUSTOMERS));
    topics.fill("orders", orders)?;
    let broker_pid = u32::try_from(broker.server().pid())?;
    let clusters: Vec<_> = arguments
        .flink
        .iter()
        .map(|flink| setup::flink(flink, directory.path()))
        .collect::<Result<_>>()?;
    let mut report = Report::open(&arguments.results, "tables", &arguments.profile)?;
    let settings = Settings {
        interval_ms: arguments.interval,
        exactly_once: true,
        metadata: false,
    };
    for round in 0..arguments.rounds {
        for (mode, flink_too) in MODES {
            let job = Tables {
                server: &server,
                mode,
            };
            let field = Field {
                job: &job,
                bootstrap: &bootstrap,
                broker_pid,
                topics: &topics,
                input: "orders",
                rows: arguments.rows,
                directory: directory.path(),
            };
            let mut contenders = vec![Contender::Millstream {
                name: format!("millstream {mode}"),
                binary: arguments.millstream.clone(),
            }];
            let peers = clusters.iter().filter(|_| flink_too);
            contenders.extend(peers.map(|(name, cluster)| Contender::Flink {
                name: format!("{name} {mode}"),
                cluster: std::rc::Rc::clone(cluster),
                options: vec![job.url(), mode.to_owned()],
            }));
            if round == 0 {
                setup::warm_up(&contenders, &field, arguments.warmup)?;
            }
            for contender in &contenders {
                let name = setup::run_name(contender, &round.to_string());
                report.line(&contender.run(&field, settings, &name)?)?;
            }
        }
    }
    Ok(())
}
