//! Kafka JSON → number and sum of every customer's orders → Kafka upserts, exactly once:
//! Millstream and Flink on one broker, interleaved. Prints one JSON line per measured run and
//! appends it to a file.

use std::path::PathBuf;

use clap::Parser;
use millstream_benches::contender::{Field, Measurement, Settings};
use millstream_benches::keyed::Sums;
use millstream_benches::orders::Order;
use millstream_benches::report::Report;
use millstream_benches::topics::Topics;
use millstream_benches::{Result, setup};
use serde::Serialize;

/// Settings of the benchmark.
#[derive(Parser)]
struct Arguments {
    /// Orders in each input topic.
    #[arg(long, default_value_t = 4_000_000)]
    rows: u64,
    /// Customers whose orders they are, one input topic for each number.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000")]
    customers: Vec<u64>,
    /// Measured runs of every contender, number of customers and interval.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Checkpoint intervals, milliseconds.
    #[arg(long, value_delimiter = ',', default_value = "10000,1000")]
    intervals: Vec<u64>,
    /// Runs of Flink before the first measured one, with the first number of customers, so that
    /// its JVM is warm.
    #[arg(long, default_value_t = 3)]
    warmup: u32,
    /// Flink installations, as `name=directory` (what `tools/flink.sh` prints).
    #[arg(long)]
    flink: Vec<String>,
    /// What Flink runs with: a state backend (`hashmap`, `rocksdb`) and how its job is written
    /// (`datastream`, `sql`, `sql-mini-batch`).
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "hashmap/datastream,hashmap/sql,hashmap/sql-mini-batch,rocksdb/datastream,rocksdb/sql,rocksdb/sql-mini-batch"
    )]
    variants: Vec<String>,
    /// Binaries of Millstream, as `binary` or `name=binary`.
    #[arg(long)]
    millstream: Vec<String>,
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

/// A line of the results.
#[derive(Serialize)]
struct Line {
    customers: u64,
    #[serde(flatten)]
    measured: Measurement,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let mut broker = setup::start_broker(&arguments.kafka)?;
    let bootstrap = broker.bootstrap();
    let topics = Topics::new(&bootstrap, 4);
    let contenders = setup::keyed_contenders(
        &arguments.millstream,
        &arguments.flink,
        &arguments.variants,
        directory.path(),
    )?;
    let mut report = Report::open(&arguments.results, "keyed", &arguments.profile)?;
    let mut turns = arguments.warmup;
    for &customers in &arguments.customers {
        let input = format!("orders-{customers}");
        topics.create(&input)?;
        let orders = (0..arguments.rows).map(|index| Order::new(index, customers));
        topics.fill(&input, orders)?;
        let field = Field {
            job: &Sums::new(arguments.rows, customers)?,
            bootstrap: &bootstrap,
            broker_pid: u32::try_from(broker.server().pid())?,
            topics: &topics,
            input: &input,
            rows: arguments.rows,
            directory: directory.path(),
        };
        setup::warm_up(&contenders, &field, std::mem::take(&mut turns))?;
        for round in 0..arguments.rounds {
            for &interval_ms in &arguments.intervals {
                let settings = Settings {
                    interval_ms,
                    exactly_once: true,
                    metadata: false,
                };
                for contender in &contenders {
                    let turn = format!("{customers}-{interval_ms}-{round}");
                    let name = setup::run_name(contender, &turn);
                    let measured = contender.run(&field, settings, &name)?;
                    report.line(&Line {
                        customers,
                        measured,
                    })?;
                }
            }
        }
        topics.delete(&input)?;
    }
    Ok(())
}
