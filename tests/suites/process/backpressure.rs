//! A subtask that is far slower than what feeds it, over connections between two workers: its channels are
//! full all the time. Aligned, a checkpoint waits for all that lies in them and is given up; with barriers
//! that overtake it is complete within the same time, and the job goes on from it at another parallelism.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_tests::cluster::{Cluster, Coordinator};
use millstream_tests::server::Server;
use millstream_tests::wait::{wait_for, wait_until};
use millstream_types::api::{CheckpointList, CheckpointState};
use serde_json::Value;

use crate::machine;

const DEADLINE: Duration = Duration::from_mins(3);
const ROWS: usize = 1_500_000;
/// Within this a checkpoint must be complete.
const TIMEOUT: &str = "2s";
/// What a slow subtask needs for a row. Its eight channels hold some 560,000 rows, a batch has 4,096: it would
/// have to be seven times as fast, or fifteen times as slow, for this to show something else.
const ROW: Duration = Duration::from_micros(25);

const JOB: &str = "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: slow}
spec:
  parallelism: 8
  checkpoint: {storage: 'file://DIRECTORY/checkpoints', interval: 300ms, timeout: TIMEOUT, tolerableFailures: 1000ALIGNED}
  restart: {exponentialDelay: {initial: 100ms, max: 1s}}
  dataflow:
    sources:
    - {name: orders, generator: {seed: 5, rows: ROWS, customers: 1000, splits: 8}}
    transforms:
    - name: slow
      input: orders
      partitionBy: [customer_id]
      parallelism: READERS
      sql: SELECT order_id, customer_id, md5(repeat(customer_id, WORK)) AS digest FROM orders
    sinks:
    - {name: out, input: slow, parallelism: READERS, files: {path: DIRECTORY/out}}
";

struct Job {
    cluster: Cluster,
    coordinator: Option<Coordinator>,
    workers: Vec<Server>,
}

/// How a job is run.
#[derive(Clone, Copy)]
struct Manner {
    aligned_timeout: Option<&'static str>,
    readers: u32,
    /// How often the customer stands in what is hashed for each row.
    work: u32,
    rows: usize,
}

impl Job {
    fn start(manner: Manner) -> Self {
        let mut job = Self {
            cluster: Cluster::new("backpressure", ""),
            coordinator: None,
            workers: Vec::new(),
        };
        job.coordinate(manner);
        let grpc = job.coordinator().addresses.grpc.clone();
        for number in 0..2 {
            let worker = job.cluster.worker(&format!("w{number}"), &grpc, 4);
            job.workers.push(worker);
        }
        job
    }

    fn coordinate(&mut self, manner: Manner) {
        let here = self.cluster.directory().to_string_lossy().into_owned();
        let aligned = manner.aligned_timeout;
        let aligned = aligned.map(|it| format!(", alignedTimeout: {it}"));
        let text = JOB
            .replace("DIRECTORY", &here)
            .replace("TIMEOUT", TIMEOUT)
            .replace("ALIGNED", &aligned.unwrap_or_default())
            .replace("READERS", &manner.readers.to_string())
            .replace("WORK", &manner.work.to_string())
            .replace("ROWS", &manner.rows.to_string());
        self.cluster.rewrite_job(&text);
        let at = self.coordinator.take().map(|before| before.addresses);
        self.coordinator = Some(self.cluster.coordinator(at.as_ref()));
    }

    fn coordinator(&self) -> &Coordinator {
        self.coordinator.as_ref().expect("it was started")
    }

    /// Its checkpoints, the newest first.
    fn checkpoints(&self) -> CheckpointList {
        let checkpoints = self.coordinator().rest.checkpoints();
        checkpoints.unwrap_or_default()
    }

    fn wait_until_full(&self) {
        wait_until("all that feeds it waits for room", DEADLINE, || {
            let Ok(status) = self.coordinator().rest.job() else {
                return false;
            };
            let sources = status
                .tasks
                .iter()
                .filter(|task| task.operators[0].as_str() == "orders");
            let loads = sources.map(|task| task.load.as_ref().map_or(0, |it| it.backpressured));
            let loads: Vec<u32> = loads.collect();
            loads.len() == 8 && loads.iter().all(|load| *load > 900)
        });
    }

    #[track_caller]
    fn wait_for_end(&mut self) {
        let coordinator = self.coordinator.as_mut().expect("it was started");
        let status = coordinator.server.wait(DEADLINE);
        assert!(status.success(), "{}", coordinator.server.output());
    }

    /// The ids of all orders that were written, sorted.
    fn written(&self) -> Vec<String> {
        let mut ids = Vec::new();
        let files = std::fs::read_dir(self.cluster.directory().join("out"));
        for file in files.into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if !file.path().is_file() || name.starts_with(['.', '_']) {
                continue;
            }
            let text = std::fs::read_to_string(file.path()).expect("an output file is text");
            for line in text.lines() {
                let row: Value = serde_json::from_str(line).expect("every line is JSON");
                ids.push(row["order_id"].as_str().expect("it has an id").to_owned());
            }
        }
        ids.sort_unstable();
        ids
    }
}

/// How much is to be hashed for a row here so that it takes [`ROW`].
fn work() -> u32 {
    const TRIED: u32 = 500;
    const FEW: u32 = 60_000;
    let mut job = Job::start(Manner {
        aligned_timeout: None,
        readers: 1,
        work: TRIED,
        rows: usize::try_from(FEW).expect("few"),
    });
    wait_until("rows flow", DEADLINE, || {
        let status = job.coordinator().rest.job();
        status.is_ok_and(|status| status.operators.values().any(|it| it.records_out > 0))
    });
    let began = Instant::now();
    job.wait_for_end();
    let row = began.elapsed() / FEW;
    let work = ROW.as_nanos() * u128::from(TRIED) / row.as_nanos().max(1);
    println!("{row:?} for a row of {TRIED} customers: hashes {work}");
    u32::try_from(work).unwrap_or(u32::MAX).clamp(50, 6_000)
}

#[test]
fn a_slow_subtask_does_not_hold_up_checkpoints_that_may_overtake() {
    let _machine = machine();
    let slow = Manner {
        aligned_timeout: None,
        readers: 1,
        work: work(),
        rows: ROWS,
    };
    let job = Job::start(slow);
    job.wait_until_full();
    let before = job.checkpoints().counts;
    wait_until("three checkpoints are given up", DEADLINE, || {
        job.checkpoints().counts.failed >= before.failed + 3
    });
    let completed = job.checkpoints().counts.completed;
    assert_eq!(completed, before.completed, "aligned, none is complete");
    drop(job);

    let unaligned = Manner {
        aligned_timeout: Some("100ms"),
        ..slow
    };
    let mut job = Job::start(unaligned);
    job.wait_until_full();
    check_overtaking(&job);
    // A worker dies; then the coordinator, and the job goes on with three readers, which are fast.
    assert!(job.workers[0].kill(), "it ran");
    let grpc = job.coordinator().addresses.grpc.clone();
    job.workers[0] = job.cluster.worker("w2", &grpc, 4);
    job.wait_until_full();
    check_overtaking(&job);
    let killed = job.coordinator.as_mut().is_some_and(|it| it.server.kill());
    assert!(killed, "it ran");
    job.coordinate(Manner {
        readers: 3,
        work: 1,
        ..unaligned
    });
    job.wait_for_end();
    let written = job.written();
    let distinct: BTreeSet<&String> = written.iter().collect();
    assert_eq!(
        (written.len(), distinct.len()),
        (ROWS, ROWS),
        "each order once"
    );
}

/// Waits for checkpoints that are complete though everything is full.
#[track_caller]
fn check_overtaking(job: &Job) {
    let newest = job.checkpoints().checkpoints.first().map(|it| it.id);
    let complete = wait_for("three checkpoints are complete", DEADLINE, || {
        let mut checkpoints = job.checkpoints().checkpoints;
        checkpoints.retain(|it| Some(it.id) > newest && it.state == CheckpointState::Completed);
        (checkpoints.len() >= 3).then_some(checkpoints)
    });
    for summary in complete {
        println!(
            "checkpoint {}: {:?} ms, aligned for {:?} ms, {:?} bytes in flight",
            summary.id, summary.duration_ms, summary.alignment_ms, summary.in_flight_size
        );
        assert!(summary.unaligned, "{summary:?}");
        assert!(summary.in_flight_size > Some(100_000), "{summary:?}");
    }
}
