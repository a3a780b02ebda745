//! Coordinators as the Kubernetes operator starts them.

use std::process::ExitStatus;

use millstream_tests::ports::free_port;
use rustix::process::Signal;
use serde_json::Value;

use crate::job::Job;
use crate::process::{Process, get, post, wait_for};

struct Deployed {
    job: Job,
    grpc: u16,
    rest: u16,
}

impl Deployed {
    fn new(rows_per_second: Option<u64>) -> Self {
        let job = Job::new(rows_per_second);
        Self {
            job,
            grpc: free_port(),
            rest: free_port(),
        }
    }

    fn coordinator(&self, deployment: u64, options: &[&str]) -> Process {
        let file = self.job.file().display().to_string();
        let (grpc, rest) = (
            format!("127.0.0.1:{}", self.grpc),
            format!("127.0.0.1:{}", self.rest),
        );
        let deployment = deployment.to_string();
        let arguments = [
            "coordinator",
            "--job",
            &file,
            "--listen",
            &grpc,
            "--rest",
            &rest,
            "--deployment",
            &deployment,
        ];
        Process::start(self.job.path(), &[arguments.as_slice(), options].concat())
    }

    fn worker(&self, options: &[&str]) -> Process {
        let address = format!("127.0.0.1:{}", self.grpc);
        let arguments = ["worker", "--coordinator", &address];
        Process::start(self.job.path(), &[arguments.as_slice(), options].concat())
    }

    /// What `GET /v1/job` says, once it looks like this.
    fn status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, || {
            let answer = get(self.rest, "/v1/job")?;
            let (_, body) = answer.split_once("\r\n\r\n")?;
            let status: Value = serde_json::from_str(body).ok()?;
            wanted(&status).then_some(status)
        })
    }

    fn state(&self, state: &str) -> Value {
        self.status(state, |status| status["state"] == state)
    }

    fn checkpoint(&self) -> Value {
        let before = self.state("Running")["lastCheckpoint"]["id"].clone();
        self.status("a checkpoint", |status| {
            status["lastCheckpoint"]["id"].is_number() && status["lastCheckpoint"]["id"] != before
        })
    }
}

fn terminated(process: Process) -> (ExitStatus, String) {
    process.signal(Signal::TERM);
    let (status, _, log) = process.end();
    (status, log)
}

#[test]
fn a_deployed_job_is_rescaled_stopped_upgraded_and_completed() {
    let deployed = Deployed::new(Some(12_000));
    let first = deployed.coordinator(1, &["--parallelism", "1"]);
    let workers = [
        deployed.worker(&["--slots", "1"]),
        deployed.worker(&["--slots", "1"]),
    ];
    let status = deployed.checkpoint();
    assert_eq!(
        (&status["parallelism"], &status["deployment"]),
        (&1.into(), &1.into())
    );
    assert_eq!(status["restoredFrom"], Value::Null);
    first.signal(Signal::TERM);
    first.end();

    // Rescaled: the same deployment. `--restore` is for its first start only.
    let second = deployed.coordinator(1, &["--parallelism", "2", "--restore", "fresh"]);
    let status = deployed.checkpoint();
    assert_eq!(status["parallelism"], 2);
    assert!(status["restoredFrom"].as_str().unwrap().contains("/chain/"));
    let answer = post(deployed.rest, "/v1/stop", r#"{"savepoint": "upgrade"}"#);
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
    let stopped = deployed.state("Stopped");
    let savepoint = stopped["savepoint"].as_str().unwrap().to_owned();
    for worker in workers {
        worker.succeeds();
    }
    let ready = get(deployed.rest, "/readyz").unwrap();
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.contains(&savepoint),
        "{ready}"
    );
    assert_eq!(terminated(second).0.code(), Some(0));

    // The pod comes back: nothing runs, and the end is still known.
    let again = deployed.coordinator(1, &["--parallelism", "2"]);
    let still = deployed.state("Stopped");
    for field in ["savepoint", "lastCheckpoint", "restoredFrom", "attempt"] {
        let same = match field {
            // What the running coordinator measured from trigger to commit is not kept.
            "lastCheckpoint" => still[field]["path"] == stopped[field]["path"],
            _ => still[field] == stopped[field],
        };
        assert!(same, "{field}: {} and {}", still[field], stopped[field]);
    }
    assert_eq!(terminated(again).0.code(), Some(0));

    let next = deployed.coordinator(2, &["--restore", &savepoint]);
    let workers = [deployed.worker(&["--slots", "2"])];
    let completed = deployed.state("Completed");
    assert_eq!(completed["restoredFrom"], savepoint.as_str());
    for worker in workers {
        worker.succeeds();
    }
    assert_eq!(terminated(next).0.code(), Some(0));
    deployed.job.assert_exact();

    let (status, _, log) = deployed.coordinator(1, &[]).end();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(
        log.contains("MS0304") && log.contains("newer deployment 2"),
        "{log}"
    );
}

#[test]
fn a_job_that_cannot_start_stays_to_say_why() {
    let deployed = Deployed::new(None);
    let nowhere = format!("file://{}/nowhere", deployed.job.path().display());
    let process = deployed.coordinator(1, &["--restore", &nowhere]);
    let failed = deployed.state("Failed");
    assert_eq!(failed["lastFailure"]["code"], "CheckpointMissing");
    let (status, log) = terminated(process);
    assert_eq!(status.code(), Some(2), "{log}");
    // A fault of the job file itself ends the process at once.
    deployed.job.edit("quantity * price", "quantity * priec");
    let (status, _, log) = deployed.coordinator(1, &[]).end();
    assert_eq!(status.code(), Some(2), "{log}");
    assert!(log.contains("MS0102"), "{log}");
}

#[test]
fn a_worker_that_is_told_to_end_leaves_behind_a_checkpoint() {
    let deployed = Deployed::new(Some(12_000));
    // Between its first checkpoint and the end only the worker gives a reason for one.
    deployed.job.edit("interval: 100ms", "interval: 1h");
    let coordinator = deployed.coordinator(1, &[]);
    let probes = free_port();
    let address = format!("127.0.0.1:{probes}");
    let leaving = deployed.worker(&["--slots", "2", "--rest", &address]);
    wait_for("the worker is ready", || {
        get(probes, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    assert!(get(probes, "/healthz").unwrap().starts_with("HTTP/1.1 200"));
    let first = deployed.status("the first checkpoint", |status| {
        status["lastCheckpoint"]["id"].is_number()
    });
    let metrics = get(probes, "/metrics").unwrap();
    assert!(metrics.contains("millstream_worker_tasks 2"), "{metrics}");
    let (status, log) = terminated(leaving);
    assert_eq!(status.code(), Some(0), "{log}");
    let waiting = deployed.state("WaitingForWorkers");
    let last = &waiting["lastCheckpoint"];
    assert_eq!(last["attempt"], first["attempt"]);
    assert!(
        last["id"].as_u64() > first["lastCheckpoint"]["id"].as_u64(),
        "{waiting}"
    );
    assert_eq!(waiting["restoredFrom"], last["path"]);
    let message = waiting["message"].as_str().unwrap();
    assert!(
        message.contains("2 slots are needed and 0 are offered"),
        "{message}"
    );
    assert_eq!(waiting["lastFailure"], Value::Null);
    let replacement = deployed.worker(&["--slots", "2"]);
    deployed.state("Completed");
    replacement.succeeds();
    deployed.job.assert_exact();
    assert_eq!(terminated(coordinator).0.code(), Some(0));
}
