//! `millstream drill`, on real processes, a real broker and a directory.

use std::path::PathBuf;
use std::time::Duration;

use millstream_tests::cluster::Cluster;
use millstream_tests::server::Server;
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, BrokerOptions, Scratch};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_mins(5);

/// Orders without an end, into a topic and into files, each exactly once.
fn job(broker: &Broker, scratch: &Scratch) -> String {
    let here = scratch.path().display();
    let servers = broker.bootstrap();
    format!(
        "apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {{name: drilled}}
spec:
  parallelism: 2
  checkpoint: {{storage: 'file://{here}/checkpoints', interval: 500ms, tolerableFailures: 3}}
  restart: {{fixedDelay: {{delay: 200ms, attempts: 1000}}}}
  dataflow:
    sources:
      - {{name: orders, generator: {{rowsPerSecond: 400}}}}
    transforms:
      - {{name: valid, input: orders, sql: SELECT * FROM orders WHERE quantity > 0}}
    sinks:
      - {{name: to-topic, input: valid, kafka: {{bootstrapServers: '{servers}', topic: out}}}}
      - {{name: to-files, input: valid, files: {{path: '{here}/out'}}}}
"
    )
}

struct Drill {
    cluster: Cluster,
    process: Server,
}

impl Drill {
    #[track_caller]
    fn start(name: &str, job: &str, more: &[&str]) -> Self {
        let mut cluster = Cluster::new(name, job);
        let launch = cluster.millstream("drill");
        let logs = cluster.directory().join("drilled");
        let launch = launch
            .arg(cluster.directory().join("streamjob.yaml"))
            .args(["--output", "json", "--logs"])
            .arg(logs)
            .args(more);
        let process = cluster.start("drill", &launch);
        Self { cluster, process }
    }

    /// Its report and exit code.
    #[track_caller]
    fn end(mut self) -> (Value, Option<i32>) {
        let code = self.process.wait(DEADLINE).code();
        let output = self.process.output();
        let start = output.find("\n{\n");
        let start = start.unwrap_or_else(|| panic!("no report in:\n{output}"));
        let report = serde_json::from_str(&output[start..]);
        (
            report.unwrap_or_else(|error| panic!("{error} in:\n{output}")),
            code,
        )
    }
}

#[test]
fn a_job_recovers_from_every_fault_of_a_drill_and_no_record_is_missing_or_there_twice() {
    let broker = Broker::start(BrokerOptions::default());
    broker.create_topic("out", 2);
    let scratch = Scratch::new("drill-out");
    let job = job(&broker, &scratch);
    let more = ["--yes", "--pause", "12s", "--storage-delay", "300ms"];
    let (report, code) = Drill::start("drill", &job, &more).end();
    assert_eq!(
        (code, &report["passed"]),
        (Some(0), &Value::Bool(true)),
        "{report:#}"
    );
    let faults = report["faults"].as_array().expect("faults");
    let names: Vec<&str> = faults
        .iter()
        .filter_map(|it| it["fault"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "kill-worker",
            "kill-coordinator",
            "pause-worker",
            "slow-store"
        ]
    );
    for fault in faults {
        let attempts = [&fault["attempts"][0], &fault["attempts"][1]].map(Value::as_u64);
        assert!(attempts[1] > attempts[0], "it was a new attempt: {fault}");
        assert!(
            fault["recoveryMs"].as_u64().is_some_and(|it| it > 0),
            "{fault}"
        );
    }
    // A frozen worker is noticed after ten seconds.
    assert!(
        faults[2]["recoveryMs"].as_u64() >= Some(8_000),
        "{report:#}"
    );
    for sink in report["sinks"].as_array().expect("sinks") {
        assert!(
            sink["written"].as_u64().is_some_and(|it| it > 100),
            "{sink}"
        );
        assert_eq!(sink["visible"], sink["written"], "{sink}");
    }
}

#[test]
fn a_drill_sees_records_that_are_there_twice_and_records_that_are_gone() {
    let broker = Broker::start(BrokerOptions::default());
    broker.create_topic("out", 2);
    let scratch = Scratch::new("drill-tampered");
    let job = job(&broker, &scratch);
    let drill = Drill::start(
        "drill-tampered",
        &job,
        &["--yes", "--fault", "kill-worker", "--rounds", "3"],
    );
    let begins = || drill.cluster.log_lines("round 1: kill -9 of a worker") > 0;
    wait_until("the drill is under way", DEADLINE, begins);
    // Somebody writes what the job has not, and removes what it has written in this drill.
    broker.produce("out", [(b"key".to_vec(), b"{}".to_vec())]);
    let before: Vec<_> = files(&scratch);
    let mut removed = 0;
    wait_until("new files of output", DEADLINE, || {
        let new = files(&scratch)
            .into_iter()
            .filter(|file| !before.contains(file));
        let mut new: Vec<_> = new.collect();
        // Each checkpoint has two; nobody looks for those of one before the newest.
        if new.len() < 3 {
            return false;
        }
        let written = |file: &PathBuf| file.metadata().and_then(|it| it.modified()).ok();
        new.sort_by_key(written);
        removed = std::fs::read_to_string(&new[0])
            .expect("the file")
            .lines()
            .count();
        std::fs::remove_file(&new[0]).expect("the file goes");
        true
    });
    let (report, code) = drill.end();
    assert_eq!(
        (code, &report["passed"]),
        (Some(1), &Value::Bool(false)),
        "{report:#}"
    );
    let sinks = report["sinks"].as_array().expect("sinks");
    let counts = |name: &str| {
        let sink = sinks
            .iter()
            .find(|it| it["sink"] == name)
            .expect("the sink");
        ["duplicates", "missing"].map(|key| sink[key].as_u64().expect("a count"))
    };
    assert_eq!(counts("to-topic"), [1, 0]);
    let removed = u64::try_from(removed).expect("a count");
    assert!(removed > 0);
    assert_eq!(counts("to-files"), [0, removed]);
}

/// Files that readers of the output see.
fn files(scratch: &Scratch) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(scratch.path().join("out"));
    let entries = entries.into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let is_visible = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        path.is_file() && name.is_some_and(|name| !name.starts_with(['.', '_']))
    };
    paths.filter(is_visible).collect()
}

#[test]
fn a_drill_that_nobody_has_confirmed_touches_nothing() {
    let scratch = Scratch::new("drill-unconfirmed");
    let storage = scratch.path().join("checkpoints");
    let job = format!(
        "apiVersion: millstream.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: spared}}\nspec:\n  \
         checkpoint: {{storage: 'file://{}'}}\n  dataflow:\n    \
         sources: [{{name: orders, generator: {{rowsPerSecond: 10}}}}]\n    \
         sinks: [{{name: out, input: orders, blackhole: {{}}}}]\n",
        storage.display()
    );
    let mut drill = Drill::start("drill-unconfirmed", &job, &[]);
    assert_eq!(drill.process.wait(DEADLINE).code(), Some(2));
    let said = drill.process.output();
    assert!(
        said.contains("MS1001 DrillRefused") && said.contains("--yes"),
        "{said}"
    );
    assert!(
        !std::fs::exists(&storage).expect("the disk answers"),
        "nothing was started"
    );
}
