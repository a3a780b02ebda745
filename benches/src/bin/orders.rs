//! Kafka JSON → filter and map → Kafka JSON: Millstream, Flink and the bare client loop on one
//! broker, interleaved. Prints one JSON line per measured run and appends it to a file.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use millstream_benches::Result;
use millstream_benches::contender::{Contender, Field, Settings};
use millstream_benches::flink::Flink;
use millstream_benches::topics::Topics;
use millstream_tests::kafka::{Broker, BrokerOptions, KafkaVersion};

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
    /// Release binaries of Millstream, the one to measure first; others, as `name=binary`, are builds
    /// to compare it with.
    #[arg(long, required = true)]
    millstream: Vec<String>,
    /// The release binary of the client loop.
    #[arg(long)]
    client_loop: PathBuf,
    /// Also run Millstream and Flink at least once.
    #[arg(long)]
    at_least_once: bool,
    /// Version of the broker.
    #[arg(long, default_value = "3.9.2")]
    kafka: String,
    /// Where results are appended.
    #[arg(long)]
    results: PathBuf,
}

fn contenders(arguments: &Arguments, directory: &Path) -> Result<Vec<Contender>> {
    let millstream = arguments.millstream.iter().map(|build| {
        let (name, binary) = build.split_once('=').unwrap_or(("millstream", build));
        Contender::Millstream {
            name: name.to_owned(),
            binary: PathBuf::from(binary),
        }
    });
    let mut contenders: Vec<_> = millstream.collect();
    contenders.push(Contender::Loop {
        binary: arguments.client_loop.clone(),
    });
    for flink in &arguments.flink {
        let (name, home) = flink.split_once('=').ok_or("--flink name=directory")?;
        let cluster = Flink::start(Path::new(home), &directory.join(name))?;
        let name = format!("flink {name}");
        contenders.push(Contender::Flink {
            name,
            cluster: Box::new(cluster),
        });
    }
    Ok(contenders)
}

fn start_broker(version: &str) -> Result<Broker> {
    let version = KafkaVersion::ALL
        .into_iter()
        .find(|known| known.text() == version);
    let version = version.ok_or("--kafka must be a version that tools/kafka.sh knows")?;
    let options = BrokerOptions::version(version)
        .property("group.initial.rebalance.delay.ms", "0")
        .property("log.segment.delete.delay.ms", "1000");
    Ok(Broker::start(options))
}

fn settings(arguments: &Arguments) -> Vec<Settings> {
    let guarantees: &[bool] = if arguments.at_least_once {
        &[true, false]
    } else {
        &[true]
    };
    let of_interval = |interval_ms: u64| {
        guarantees.iter().map(move |&exactly_once| Settings {
            interval_ms,
            exactly_once,
        })
    };
    arguments
        .intervals
        .iter()
        .copied()
        .flat_map(of_interval)
        .collect()
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let mut broker = start_broker(&arguments.kafka)?;
    let bootstrap = broker.bootstrap();
    let topics = Topics::new(&bootstrap, 4);
    topics.create("orders")?;
    topics.fill("orders", arguments.rows)?;
    let field = Field {
        bootstrap: &bootstrap,
        broker_pid: u32::try_from(broker.server().pid())?,
        topics: &topics,
        input: "orders",
        rows: arguments.rows,
        directory: directory.path(),
    };
    let contenders = contenders(&arguments, directory.path())?;
    let warm = Settings {
        interval_ms: 10_000,
        exactly_once: true,
    };
    for contender in contenders
        .iter()
        .filter(|one| matches!(one, Contender::Flink { .. }))
    {
        for turn in 0..arguments.warmup {
            let run = format!("warm-{}-{turn}", contender.name().replace([' ', '.'], "-"));
            let measured = contender.run(&field, warm, &run)?;
            eprintln!("warm-up: {}", serde_json::to_string(&measured)?);
        }
    }
    let mut results = std::fs::File::options()
        .create(true)
        .append(true)
        .open(&arguments.results)?;
    for round in 0..arguments.rounds {
        for (number, settings) in settings(&arguments).into_iter().enumerate() {
            for contender in &contenders {
                let name = contender.name().replace([' ', '.'], "-");
                let measured =
                    contender.run(&field, settings, &format!("{name}-{number}-{round}"))?;
                let line = serde_json::to_string(&measured)?;
                println!("{line}");
                writeln!(results, "{line}")?;
            }
        }
    }
    Ok(())
}
