//! Kafka JSON → filter and map → Kafka JSON: Millstream, Flink and the bare client loop on one
//! broker, interleaved. Prints one JSON line per measured run and appends it to a file.

use std::path::{Path, PathBuf};

use clap::Parser;
use millstream_benches::contender::{Contender, Field, Settings};
use millstream_benches::orders::{CUSTOMERS, Enrich, Order};
use millstream_benches::report::Report;
use millstream_benches::topics::Topics;
use millstream_benches::{Result, setup};

/// Settings of the benchmark.
#[derive(Parser)]
struct Arguments {
    /// Orders in the input topic.
    #[arg(long, default_value_t = 10_000_000)]
    rows: u64,
    /// Measured runs of every contender and interval.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Checkpoint intervals, milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "10000,1000")]
    intervals: Vec<u64>,
    /// Runs of Flink before the first measured one, so that its JVM is warm.
    #[arg(long, default_value_t = 5)]
    warmup: u32,
    /// Flink installations, as `name=directory` (what `tools/flink.sh` prints).
    #[arg(long)]
    flink: Vec<String>,
    /// Binaries of Millstream, the one to measure first; others, as `name=binary`, are builds
    /// to compare it with.
    #[arg(long, required = true)]
    millstream: Vec<String>,
    /// The release binary of the client loop.
    #[arg(long)]
    client_loop: Option<PathBuf>,
    /// Also run Millstream and Flink at least once.
    #[arg(long)]
    at_least_once: bool,
    /// Also run Millstream with records that have key, timestamp and a header.
    #[arg(long)]
    metadata: bool,
    /// Version of the broker.
    #[arg(long, default_value = "3.9.2")]
    kafka: String,
    /// Profile that the builds of Millstream were compiled with.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Where results are appended.
    #[arg(long)]
    results: PathBuf,
}

fn contenders(arguments: &Arguments, directory: &Path) -> Result<Vec<Contender>> {
    let builds = arguments.millstream.iter();
    let mut contenders: Vec<_> = builds.map(|build| setup::millstream(build)).collect();
    contenders.extend(arguments.client_loop.iter().map(|binary| Contender::Loop {
        binary: binary.clone(),
    }));
    for flink in &arguments.flink {
        let (name, cluster) = setup::flink(flink, directory)?;
        contenders.push(Contender::Flink {
            name,
            cluster,
            options: Vec::new(),
        });
    }
    Ok(contenders)
}

fn settings(arguments: &Arguments) -> Vec<Settings> {
    let mut settings = Vec::new();
    for &interval_ms in &arguments.intervals {
        let plain = Settings {
            interval_ms,
            exactly_once: true,
            metadata: false,
        };
        settings.push(plain);
        if arguments.at_least_once {
            settings.push(Settings {
                exactly_once: false,
                ..plain
            });
        }
        if arguments.metadata {
            settings.push(Settings {
                metadata: true,
                ..plain
            });
        }
    }
    settings
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let mut broker = setup::start_broker(&arguments.kafka)?;
    let bootstrap = broker.bootstrap();
    let topics = Topics::new(&bootstrap, 4);
    topics.create("orders")?;
    let orders = (0..arguments.rows).map(|index| Order::new(index, CUSTOMERS));
    topics.fill("orders", orders)?;
    let field = Field {
        job: &Enrich,
        bootstrap: &bootstrap,
        broker_pid: u32::try_from(broker.server().pid())?,
        topics: &topics,
        input: "orders",
        rows: arguments.rows,
        directory: directory.path(),
    };
    let contenders = contenders(&arguments, directory.path())?;
    let mut report = Report::open(&arguments.results, "orders", &arguments.profile)?;
    setup::warm_up(&contenders, &field, arguments.warmup)?;
    for round in 0..arguments.rounds {
        for (number, settings) in settings(&arguments).into_iter().enumerate() {
            let able = |contender: &&Contender| {
                !settings.metadata || matches!(contender, Contender::Millstream { .. })
            };
            for contender in contenders.iter().filter(able) {
                let name = setup::run_name(contender, &format!("{number}-{round}"));
                report.line(&contender.run(&field, settings, &name)?)?;
            }
        }
    }
    Ok(())
}
