//! Sizes of checkpoints of the keyed job: so many customers have an order each, then the same
//! share of them has another one before each checkpoint. Prints one JSON line for each contender
//! and appends it to a file.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use millstream_benches::contender::{Contender, Field, Run, Settings};
use millstream_benches::flink::Flink;
use millstream_benches::http::{free_port, request};
use millstream_benches::keyed::Sums;
use millstream_benches::orders::Order;
use millstream_benches::process::Process;
use millstream_benches::report::Report;
use millstream_benches::topics::Topics;
use millstream_benches::{Result, Sizes, setup};
use serde::Serialize;
use serde_json::Value;

/// Has no factor in common with numbers of customers that end with a zero, so that multiples of
/// it meet every customer before they meet one again.
const STRIDE: u64 = 618_033;
const DEADLINE: Duration = Duration::from_mins(5);

/// Settings of the benchmark.
#[derive(Parser)]
struct Arguments {
    /// Customers; a multiple of ten.
    #[arg(long, default_value_t = 1_000_000)]
    customers: u64,
    /// Customers with an order before each checkpoint.
    #[arg(long, default_value_t = 10_000)]
    dirty: u64,
    /// Checkpoints.
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Checkpoint interval, milliseconds.
    #[arg(long, default_value_t = 1_000)]
    interval: u64,
    /// Flink installations, as `name=directory` (what `tools/flink.sh` prints).
    #[arg(long)]
    flink: Vec<String>,
    /// What Flink runs with: a state backend and how its job is written.
    #[arg(long, value_delimiter = ',', default_value = "rocksdb/sql,hashmap/sql")]
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

/// A line of the results. Bytes.
#[derive(Serialize)]
struct Line {
    contender: String,
    customers: u64,
    dirty: u64,
    /// Uploaded until every customer had an order.
    loaded: u64,
    /// Uploaded by the checkpoint of each round; by the largest one, where a machine is so busy
    /// that there is more than one before the next round.
    uploaded: Vec<u64>,
    /// Checkpoints of all rounds.
    checkpoints: usize,
    /// What the newest checkpoint of each round names.
    whole: Vec<u64>,
}

/// A job that runs.
enum Running<'a> {
    Millstream { process: Process, port: u16 },
    Flink { cluster: &'a Flink, job: String },
}

impl<'a> Running<'a> {
    fn start(contender: &'a Contender, run: &Run<'_>) -> Result<Self> {
        match contender {
            Contender::Millstream { binary, .. } => {
                let port = free_port()?;
                let directory = run.field.directory;
                let file = directory.join(format!("{}.yaml", run.name));
                std::fs::write(&file, run.field.job.file(run))?;
                let mut command = Command::new(binary);
                command.arg("run").arg(file).args(["--restore", "fresh"]);
                command.arg("--listen").arg(format!("127.0.0.1:{port}"));
                let log = directory.join(format!("{}.log", run.name));
                let process = Process::start(&mut command, &log)?;
                Ok(Self::Millstream { process, port })
            }
            Contender::Flink {
                cluster, options, ..
            } => {
                let arguments = run.flink_arguments(options);
                let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
                let job = cluster.submit(run.field.job.class(), &arguments)?;
                Ok(Self::Flink { cluster, job })
            }
            Contender::Loop { .. } => Err("the loop takes no checkpoints".into()),
        }
    }

    fn checkpoints(&self) -> Result<Vec<Sizes>> {
        match self {
            Self::Millstream { port, .. } => of_millstream(*port),
            Self::Flink { cluster, job } => cluster.checkpoints(job),
        }
    }

    fn end(self) -> Result<()> {
        match self {
            Self::Millstream { mut process, .. } => process.stop(),
            Self::Flink { cluster, job } => cluster.cancel(&job),
        }
    }
}

fn of_millstream(port: u16) -> Result<Vec<Sizes>> {
    let told: Value = serde_json::from_str(&request(port, "GET", "/v1/checkpoints")?)?;
    let history = told["checkpoints"].as_array().ok_or("no checkpoints")?;
    let sizes = history.iter().filter_map(|one| {
        Some(Sizes {
            id: one["id"].as_u64()?,
            uploaded: one["checkpointedSize"].as_u64()?,
            whole: one["stateSize"].as_u64()?,
        })
    });
    Ok(sizes.collect())
}

/// Checkpoints after number `id`.
fn newer(running: &Running<'_>, id: u64) -> Result<Vec<Sizes>> {
    let sizes = running.checkpoints()?.into_iter();
    Ok(sizes.filter(|one| one.id > id).collect())
}

/// Looks at checkpoints, round after round.
struct Watch {
    newest: u64,
}

impl Watch {
    /// Waits until the input is in a checkpoint; those since the last look, the oldest first.
    fn until_end(&mut self, running: &Running<'_>, run: &Run<'_>) -> Result<Vec<Sizes>> {
        let began = Instant::now();
        let at_end = || run.field.topics.group_is_at_end(run.name, run.field.input);
        // The offsets may be committed a little before the checkpoint is told of.
        while !at_end()? || newer(running, self.newest)?.is_empty() {
            if began.elapsed() > DEADLINE {
                return Err(format!("{} is not at the end after {DEADLINE:?}", run.name).into());
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
        let mut new = newer(running, self.newest)?;
        new.sort_by_key(|one| one.id);
        self.newest = new.last().map_or(self.newest, |last| last.id);
        Ok(new)
    }
}

fn measure(contender: &Contender, run: &Run<'_>, arguments: &Arguments) -> Result<Line> {
    let (field, customers, dirty) = (run.field, arguments.customers, arguments.dirty);
    field.topics.create(field.input)?;
    field.topics.create(run.output)?;
    let all = (0..customers).map(|customer| Order::of(customer, customer));
    field.topics.fill(field.input, all)?;
    let running = Running::start(contender, run)?;
    let mut watch = Watch { newest: 0 };
    let loading = watch.until_end(&running, run)?;
    let mut line = Line {
        contender: contender.name().to_owned(),
        customers,
        dirty,
        loaded: loading.iter().map(|one| one.uploaded).sum(),
        uploaded: Vec::new(),
        checkpoints: 0,
        whole: Vec::new(),
    };
    for round in 0..arguments.rounds {
        let some = (round * dirty..(round + 1) * dirty)
            .map(|turn| Order::of(customers + turn, turn * STRIDE % customers));
        field.topics.fill(field.input, some)?;
        let new = watch.until_end(&running, run)?;
        line.checkpoints += new.len();
        line.uploaded
            .extend(new.iter().map(|one| one.uploaded).max());
        line.whole.extend(new.last().map(|last| last.whole));
    }
    running.end()?;
    field.topics.delete(field.input)?;
    field.topics.delete(run.output)?;
    Ok(line)
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
    let job = Sums::new(0, 0)?;
    let broker_pid = u32::try_from(broker.server().pid())?;
    let mut report = Report::open(&arguments.results, "sizes", &arguments.profile)?;
    for contender in &contenders {
        let name = setup::run_name(contender, "sizes");
        let field = Field {
            job: &job,
            bootstrap: &bootstrap,
            broker_pid,
            topics: &topics,
            input: &format!("orders-{name}"),
            rows: arguments.customers,
            directory: directory.path(),
        };
        let run = Run {
            field: &field,
            settings: Settings {
                interval_ms: arguments.interval,
                exactly_once: true,
                metadata: false,
            },
            name: &name,
            output: &format!("out-{name}"),
        };
        report.line(&measure(contender, &run, &arguments)?)?;
    }
    Ok(())
}
