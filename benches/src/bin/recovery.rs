//! Start, recovery and memory of the order job: how long until the first committed output, how
//! long a killed worker interrupts the output, what the processes hold in memory.
//!
//! Real broker, real object store, a checkpoint every second, two workers. Prints one JSON line.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use millstream_benches::Result;
use millstream_benches::process::{peak_rss_bytes, rss_bytes};
use millstream_tests::audit::observer::Observer;
use millstream_tests::cluster::{Cluster, Coordinator};
use millstream_tests::order_job::OrderJobFile;
use millstream_tests::server::Server;
use millstream_tests::wait::{pause, poll_until};
use millstream_tests::workload::Workload;
use millstream_tests::{Broker, BrokerOptions, Minio};
use millstream_types::api::{JobState, JobStatus};
use serde::Serialize;

const INTERVAL: &str = "1s";
const DEADLINE: Duration = Duration::from_mins(1);
const MEGABYTE: f64 = 1_048_576.0;

/// Settings of the benchmark.
#[derive(Parser)]
struct Arguments {
    /// Workers killed, one after the other.
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// Orders a second while workers are killed.
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// The release binary of Millstream.
    #[arg(long)]
    millstream: PathBuf,
}

/// What was measured. Times in milliseconds, memory in MiB.
#[derive(Serialize)]
struct Measured {
    interval: &'static str,
    /// From the start of the first process to the first committed record, as a reader sees it;
    /// the checkpoint interval is part of it.
    start_to_first_output_ms: u128,
    /// From the start of the first process to all tasks running.
    start_to_running_ms: u128,
    /// From `kill -9` of a worker, replaced at once, to the first record committed by the next
    /// attempt.
    kill_to_next_output_ms: Vec<u128>,
    /// From `kill -9` of a worker to all tasks of the next attempt running.
    kill_to_running_ms: Vec<u128>,
    idle_mib: Memory,
    loaded_peak_mib: Memory,
}

#[derive(Serialize)]
struct Memory {
    coordinator: f64,
    workers: Vec<f64>,
}

struct Job {
    broker: Arc<Broker>,
    _minio: Minio,
    cluster: Cluster,
    coordinator: Coordinator,
    workers: Vec<Server>,
    output: Observer,
    started: Instant,
}

impl Job {
    fn start() -> Self {
        let options = BrokerOptions::default().property("group.initial.rebalance.delay.ms", "0");
        let broker = Arc::new(Broker::start(options));
        for topic in ["orders", "processed-orders", "rejected-orders"] {
            broker.create_topic(topic, 4);
        }
        let minio = Minio::start();
        let file = OrderJobFile::new(&broker.bootstrap(), "s3://checkpoints/recovery")
            .replace("interval: 10s", "interval: 1s");
        let mut cluster =
            Cluster::new("recovery", &file.into_text()).environment(minio.environment());
        let output = Observer::start(&broker, "processed-orders");
        let started = Instant::now();
        let coordinator = cluster.coordinator(None);
        let grpc = coordinator.addresses.grpc.clone();
        let workers = (0..2)
            .map(|n| cluster.worker(&format!("worker-{n}"), &grpc, 1))
            .collect();
        Self {
            broker,
            _minio: minio,
            cluster,
            coordinator,
            workers,
            output,
            started,
        }
    }

    fn wait(&self, what: &str, mut holds: impl FnMut(&JobStatus) -> bool) -> Result<()> {
        let found = poll_until(DEADLINE, || {
            let status = self.coordinator.rest.job().ok()?;
            holds(&status).then_some(())
        });
        found.ok_or_else(|| format!("{what}: not within {DEADLINE:?}").into())
    }

    fn wait_for_output(&self, after: u64) -> Result<()> {
        let more = poll_until(DEADLINE, || (self.output.seen() > after).then_some(()));
        more.ok_or_else(|| format!("no output after {after} records").into())
    }

    /// Kills a worker, starts it again, and says when tasks ran and when output came.
    fn kill(&mut self, number: usize) -> Result<(u128, u128)> {
        let before = self
            .coordinator
            .rest
            .job()
            .map_err(|error| format!("{error:?}"))?
            .attempt;
        let grpc = self.coordinator.addresses.grpc.clone();
        let killed = Instant::now();
        if !self.workers[number].kill() {
            return Err("the worker had ended by itself".into());
        }
        self.workers[number] = self.cluster.worker(&format!("worker-{number}"), &grpc, 1);
        self.wait("the next attempt runs", |status| {
            status.attempt > before && status.state == JobState::Running
        })?;
        let running = killed.elapsed().as_millis();
        // What the last attempt had decided is committed by now.
        self.wait_for_output(self.output.seen())?;
        Ok((running, killed.elapsed().as_millis()))
    }

    fn memory(&self, of: fn(u32) -> Result<u64>) -> Result<Memory> {
        let mib = |pid: i32| -> Result<f64> {
            Ok((of(u32::try_from(pid)?)? as f64 / MEGABYTE * 10.0).round() / 10.0)
        };
        let workers = self.workers.iter().map(|worker| mib(worker.pid()));
        Ok(Memory {
            coordinator: mib(self.coordinator.server.pid())?,
            workers: workers.collect::<Result<_>>()?,
        })
    }
}

/// Writes orders at a rate until it is told to stop; at most ten minutes of them.
fn feed(broker: &Arc<Broker>, rate: u64, stop: &Arc<AtomicBool>) -> JoinHandle<()> {
    let (broker, stop) = (Arc::clone(broker), Arc::clone(stop));
    std::thread::spawn(move || {
        let workload = Workload::new(1, rate * 600);
        let started = Instant::now();
        let batch = usize::try_from(rate / 20).expect("a rate").max(1);
        let paced = workload
            .records()
            .enumerate()
            .map_while(|(number, record)| {
                if number % batch == 0 {
                    let due = Duration::from_secs_f64(number as f64 / rate as f64);
                    pause(due.saturating_sub(started.elapsed()));
                }
                (!stop.load(Ordering::Relaxed)).then_some(record)
            });
        broker.produce("orders", paced);
    })
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // The harness takes the binary from here.
    if std::env::var_os("MILLSTREAM_BIN").is_none_or(|path| arguments.millstream != path) {
        return Err("set MILLSTREAM_BIN to the same path as --millstream".into());
    }
    let mut job = Job::start();
    job.wait("the job runs", |status| status.state == JobState::Running)?;
    let start_to_running_ms = job.started.elapsed().as_millis();
    job.wait("five checkpoints", |status| {
        status
            .last_checkpoint
            .as_ref()
            .is_some_and(|last| last.id.0 >= 6)
    })?;
    let idle_mib = job.memory(rss_bytes)?;

    let stop = Arc::new(AtomicBool::new(false));
    let feeder = feed(&job.broker, arguments.rate, &stop);
    job.wait_for_output(0)?;
    // A fresh life of the whole job, with input waiting.
    let grpc = job.coordinator.addresses.clone();
    let attempt = job
        .coordinator
        .rest
        .job()
        .map_err(|error| format!("{error:?}"))?
        .attempt;
    job.coordinator.server.kill();
    for worker in &mut job.workers {
        worker.kill();
    }
    let restarted = Instant::now();
    job.coordinator = job.cluster.coordinator(Some(&grpc));
    for number in 0..2 {
        job.workers[number] = job
            .cluster
            .worker(&format!("worker-{number}"), &grpc.grpc, 1);
    }
    job.wait("the new life runs", |status| {
        status.attempt > attempt && status.state == JobState::Running
    })?;
    job.wait_for_output(job.output.seen())?;
    let start_to_first_output_ms = restarted.elapsed().as_millis();

    let mut kills = Vec::new();
    for turn in 0..arguments.kills {
        job.wait("a checkpoint after the last kill", |status| {
            status.state == JobState::Running
        })?;
        // Spread over the interval, so that not all kills fall on the same part of it.
        pause(Duration::from_millis(1_500 + u64::from(turn) * 137 % 1_000));
        kills.push(job.kill(usize::try_from(turn % 2)?)?);
    }
    let loaded_peak_mib = job.memory(peak_rss_bytes)?;
    stop.store(true, Ordering::Relaxed);
    feeder.join().map_err(|_| "the feeder panicked")?;
    let measured = Measured {
        interval: INTERVAL,
        start_to_first_output_ms,
        start_to_running_ms,
        kill_to_running_ms: kills.iter().map(|kill| kill.0).collect(),
        kill_to_next_output_ms: kills.iter().map(|kill| kill.1).collect(),
        idle_mib,
        loaded_peak_mib,
    };
    println!("{}", serde_json::to_string(&measured)?);
    Ok(())
}
