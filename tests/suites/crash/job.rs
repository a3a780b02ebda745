//! The order job with checkpoints in files, beside others on one broker.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream_tests::audit::observer::Observer;
use millstream_tests::audit::{self, Report, Topics};
use millstream_tests::cluster::{Cluster, Coordinator};
use millstream_tests::feed::Feed;
use millstream_tests::kafka::transactions::Transaction;
use millstream_tests::order_job::OrderJobFile;
use millstream_tests::server::Server;
use millstream_tests::wait::{poll_until, wait_until};
use millstream_tests::{Broker, Scratch};
use millstream_types::Attempt;
use millstream_types::api::{JobStatus, StopRequest};

use serde::Deserialize;
use serde_json::Value;

pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
/// Exit status of a process that has aborted.
const ABORTED: i32 = 128 + 6;
const PARTITIONS: i32 = 4;
const WORKERS: usize = 2;

/// Which process of a job is armed with what (the syntax of `FAILPOINTS`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Armed<'a> {
    Nobody,
    Coordinator(&'a str),
    /// The first worker.
    Worker(&'a str),
}

/// A running order job.
pub(crate) struct Job {
    name: String,
    storage: Scratch,
    bootstrap: String,
    pub(crate) cluster: Cluster,
    pub(crate) coordinator: Coordinator,
    pub(crate) workers: Vec<Server>,
    orders: Observer,
    dead_letters: Observer,
    feed: Feed,
}

impl Job {
    /// Starts everything, with a checkpoint per `interval`; orders flow from now on.
    #[track_caller]
    pub(crate) fn start(broker: &Broker, name: &str, interval: &str, armed: Armed<'_>) -> Self {
        Self::start_with(broker, name, interval, armed, |file| file)
    }

    /// As [`start`](Self::start), with a change of the job file.
    #[track_caller]
    pub(crate) fn start_with(
        broker: &Broker,
        name: &str,
        interval: &str,
        armed: Armed<'_>,
        change: fn(OrderJobFile) -> OrderJobFile,
    ) -> Self {
        for topic in ["orders", "processed", "rejected"] {
            broker.create_topic(&topic_name(name, topic), PARTITIONS);
        }
        let storage = Scratch::new("checkpoints");
        let bootstrap = broker.bootstrap();
        let file = job_file(name, name, &bootstrap, &storage, interval);
        let mut cluster = Cluster::new(name, &change(file).into_text());
        let feed = Feed::start(broker, &topic_name(name, "orders"));
        let coordinator = cluster.coordinator_with(None, |launch| match armed {
            Armed::Coordinator(points) => launch.env("FAILPOINTS", points),
            _ => launch,
        });
        let mut job = Self {
            orders: Observer::start(broker, &topic_name(name, "processed")),
            dead_letters: Observer::start(broker, &topic_name(name, "rejected")),
            name: name.to_owned(),
            storage,
            bootstrap,
            cluster,
            coordinator,
            workers: Vec::new(),
            feed,
        };
        for number in 0..WORKERS {
            let worker = job.start_worker(match armed {
                Armed::Worker(points) if number == 0 => (number, points),
                _ => (number, ""),
            });
            job.workers.push(worker);
        }
        job
    }

    fn start_worker(&mut self, (number, points): (usize, &str)) -> Server {
        let grpc = self.coordinator.addresses.grpc.clone();
        let arm = |launch: millstream_tests::server::Launch| launch.env("FAILPOINTS", points);
        self.cluster
            .worker_with(&format!("worker-{number}"), &grpc, 1, arm)
    }

    /// Waits until the coordinator has aborted at its crash point. The attempt that was.
    #[track_caller]
    pub(crate) fn wait_for_coordinator_crash(&mut self) -> Attempt {
        assert_aborted(&mut self.coordinator.server);
        self.newest_slot().attempt
    }

    /// Waits until the first worker has aborted at its crash point. The attempt that was.
    #[track_caller]
    pub(crate) fn wait_for_worker_crash(&mut self) -> Attempt {
        let mut attempt = Attempt(0);
        wait_until("a worker ends", DEADLINE, || {
            let newest = self.attempt();
            let runs = self.workers[0].is_running();
            // Once it is gone the next attempt may have begun.
            if runs {
                attempt = newest;
            }
            !runs
        });
        assert_aborted(&mut self.workers[0]);
        attempt
    }

    /// Starts a coordinator in the place of the former one.
    #[track_caller]
    pub(crate) fn restart_coordinator(&mut self, points: &str, arguments: &[&str]) {
        let addresses = self.coordinator.addresses.clone();
        self.coordinator = self.cluster.coordinator_with(Some(&addresses), |launch| {
            launch.env("FAILPOINTS", points).args(arguments)
        });
    }

    /// Starts a worker in the place of one, which is returned.
    pub(crate) fn restart_worker(&mut self, number: usize) -> Server {
        let new = self.start_worker((number, ""));
        std::mem::replace(&mut self.workers[number], new)
    }

    /// Starts a second coordinator elsewhere, with workers of its own. The first one and its
    /// workers are returned.
    #[track_caller]
    pub(crate) fn replace_everything(&mut self) -> (Coordinator, Vec<Server>) {
        let new = self.cluster.coordinator(None);
        let old = std::mem::replace(&mut self.coordinator, new);
        let workers = (0..WORKERS)
            .map(|number| self.restart_worker(number))
            .collect();
        (old, workers)
    }

    /// The attempt that runs, or the last one that this coordinator knows.
    pub(crate) fn attempt(&self) -> Attempt {
        self.status().map_or(Attempt(0), |status| status.attempt)
    }

    fn status(&self) -> Option<JobStatus> {
        self.coordinator.rest.job().ok()
    }

    /// Waits until a checkpoint has completed.
    #[track_caller]
    pub(crate) fn wait_for_checkpoint(&self) {
        wait_until("a checkpoint has completed", DEADLINE, || {
            self.status()
                .is_some_and(|status| status.last_checkpoint.is_some())
        });
    }

    /// Waits until an attempt behind `attempt` has taken a checkpoint and readers have seen more.
    #[track_caller]
    pub(crate) fn wait_until_beyond(&self, attempt: Attempt) {
        wait_until("a newer attempt takes a checkpoint", DEADLINE, || {
            let newest = self.status().and_then(|status| status.last_checkpoint);
            newest.is_some_and(|newest| newest.attempt > attempt)
        });
        let seen = self.seen();
        wait_until("more orders are committed", DEADLINE, || self.seen() > seen);
    }

    /// Records that readers have seen so far.
    pub(crate) fn seen(&self) -> u64 {
        self.orders.seen() + self.dead_letters.seen()
    }

    /// Where the job's chain and savepoints lie.
    pub(crate) fn folder(&self) -> PathBuf {
        self.storage.path().join("default").join(&self.name)
    }

    /// The newest slot of the chain.
    #[track_caller]
    pub(crate) fn newest_slot(&self) -> Slot {
        let slot = poll_until(DEADLINE, || {
            let entries = std::fs::read_dir(self.folder().join("chain")).ok()?;
            let paths = entries.flatten().map(|entry| entry.path());
            let newest = paths.filter(|path| is_slot(path)).max()?;
            let text = std::fs::read_to_string(newest).ok()?;
            Some(serde_json::from_str::<Envelope>(&text).ok()?.body)
        });
        slot.expect("the chain has a slot")
    }

    /// Replaces the job file by one with another interval, for coordinators from now on.
    pub(crate) fn change_interval(&self, interval: &str) {
        let file = job_file(
            &self.name,
            &self.name,
            &self.bootstrap,
            &self.storage,
            interval,
        );
        self.cluster.rewrite_job(&file.into_text());
    }

    /// The file of a job of another name that is like this one in everything else.
    pub(crate) fn file_of_double(&self, name: &str) -> String {
        job_file(name, &self.name, &self.bootstrap, &self.storage, "300ms").into_text()
    }

    /// Ends the flow, waits until everything is in the output, stops the job, and audits it.
    #[track_caller]
    pub(crate) fn finish(self, broker: &Broker) {
        self.finish_without(broker, 0);
    }

    /// As [`finish`](Self::finish), where exactly so many records of the output must be missing.
    #[track_caller]
    pub(crate) fn finish_without(mut self, broker: &Broker, given_up: u64) {
        let workload = self.feed.end();
        let (kept, seen) = (workload.kept() - given_up, || {
            self.orders.seen() + self.dead_letters.seen()
        });
        // Not reaching it is for the audit to explain.
        let complete = poll_until(DEADLINE, || (seen() >= kept).then_some(()));
        if complete.is_none() {
            let status = self.coordinator.rest.job();
            eprintln!(
                "only {} of {kept} records came out; the job says: {status:?}",
                seen()
            );
        }
        let stopped = self.coordinator.rest.stop(&StopRequest::default());
        stopped.expect("the coordinator stops the job");
        assert_done(&mut self.coordinator.server);
        self.workers.iter_mut().for_each(assert_done);
        let (orders, dead_letters) = (self.orders.stop(), self.dead_letters.stop());
        let [input, output, rejected] =
            ["orders", "processed", "rejected"].map(|topic| topic_name(&self.name, topic));
        let topics = Topics {
            input: &input,
            output: &output,
            dead_letters: &rejected,
            ids: "",
        };
        let mut report = audit::audit(broker, topics, &orders, &dead_letters);
        // Other jobs of this broker go on.
        report.anomalies.dangling = open_transactions(broker, &self.name);
        add_verification(&mut self.cluster, &self.storage, &self.name, &mut report);
        println!("{report}");
        assert_eq!(report.input, workload.records, "records of the input");
        report.assert_exactly_once_without(given_up);
    }
}

#[derive(Debug, Deserialize)]
struct Envelope {
    body: Slot,
}

/// One slot of a chain, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(crate) struct Slot {
    #[serde(rename = "slot")]
    pub(crate) number: u64,
    pub(crate) attempt: Attempt,
    entry: serde_json::Map<String, Value>,
}

impl Slot {
    /// Whether it is a `claim`, a `checkpoint`, or that this is `committed`.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.entry.contains_key(kind)
    }

    /// The manifest of a checkpoint.
    #[track_caller]
    pub(crate) fn manifest(&self) -> &Value {
        let checkpoint = self.entry.get("checkpoint");
        &checkpoint.expect("the slot holds a checkpoint")["manifest"]
    }
}

fn topic_name(job: &str, topic: &str) -> String {
    format!("{job}-{topic}")
}

fn is_slot(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "json")
}

/// The job file of the job `name` on the topics and transactions of `owner`.
fn job_file(
    name: &str,
    owner: &str,
    bootstrap: &str,
    storage: &Scratch,
    interval: &str,
) -> OrderJobFile {
    let storage = format!("file://{}", storage.path().display());
    OrderJobFile::new(bootstrap, &storage)
        .replace("interval: 10s", &format!("interval: {interval}"))
        .replace("groupId: order-processor", &format!("groupId: {name}"))
        .replace("Prefix: order-processor", &format!("Prefix: {owner}"))
        .replace("name: order-processor", &format!("name: {name}"))
        .replace("topics: [orders]", &format!("topics: [{owner}-orders]"))
        .replace(
            "topic: processed-orders",
            &format!("topic: {owner}-processed"),
        )
        .replace(
            "topic: rejected-orders",
            &format!("topic: {owner}-rejected"),
        )
}

/// How many transactions of a job the broker holds open.
#[track_caller]
pub(crate) fn open_transactions(broker: &Broker, job: &str) -> u64 {
    count_transactions(broker, job, |_| true)
}

/// How many of them nobody has begun to commit or to abort.
#[track_caller]
pub(crate) fn undecided_transactions(broker: &Broker, job: &str) -> u64 {
    count_transactions(broker, job, |open| open.state == "Ongoing")
}

#[track_caller]
fn count_transactions(broker: &Broker, job: &str, counts: impl Fn(&Transaction) -> bool) -> u64 {
    let open = broker.open_transactions();
    let own = open.iter().filter(|open| {
        let rest = open.transactional_id.strip_prefix(job);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
    });
    let count = own.filter(|open| counts(open)).count();
    u64::try_from(count).expect("few transactions")
}

fn add_verification(cluster: &mut Cluster, storage: &Scratch, name: &str, report: &mut Report) {
    let chain = format!("file://{}/default/{name}", storage.path().display());
    let verify = cluster.millstream("checkpoints").args(["verify", &chain]);
    let mut verify = cluster.start("verify", &verify);
    if !verify.wait(DEADLINE).success() {
        report.anomalies.missing_objects += 1;
        report.examples.push(verify.output());
    }
}

#[track_caller]
fn assert_aborted(server: &mut Server) {
    let status = server.wait(DEADLINE);
    assert_eq!(
        status.code(),
        Some(ABORTED),
        "the process ends at its crash point:\n{}",
        server.output()
    );
}

#[track_caller]
fn assert_done(server: &mut Server) {
    let status = server.wait(DEADLINE);
    assert!(
        status.success(),
        "it ends with {status}:\n{}",
        server.output()
    );
}
