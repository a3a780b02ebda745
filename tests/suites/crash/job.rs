//! The order job with checkpoints in files, beside others on one broker.

use std::path::PathBuf;
use std::time::Duration;

use millstream_tests::audit::early::{EarlyWatch, Looks, Totals};
use millstream_tests::audit::observer::Observer;
use millstream_tests::audit::sightings::Sightings;
use millstream_tests::audit::store::{SOURCES, Store, Verified};
use millstream_tests::audit::{self, Anomalies, Report, Topics};
use millstream_tests::chain::{ChainFolder, Slot};
use millstream_tests::cluster::{Cluster, Coordinator};
use millstream_tests::feed::Feed;
use millstream_tests::kafka::transactions::Transaction;
use millstream_tests::order_job::OrderJobFile;
use millstream_tests::server::Server;
use millstream_tests::wait::{poll_until, wait_for, wait_until};
use millstream_tests::workload::Workload;
use millstream_tests::{Broker, Scratch};
use millstream_types::Attempt;
use millstream_types::api::{JobStatus, StopRequest};

use serde::de::DeserializeOwned;

pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
/// Exit status of a process that has aborted.
const ABORTED: i32 = 128 + 6;
const PARTITIONS: i32 = 4;
const WORKERS: usize = 2;
/// Between two looks whether readers see what is not decided.
const LOOKS: Duration = Duration::from_millis(10);
/// Names of the order job's sinks.
pub(crate) const SINKS: [&str; 2] = ["processed-orders", "rejected-orders"];

/// Which process of a job is armed with what (the syntax of `FAILPOINTS`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Armed<'a> {
    Nobody,
    Coordinator(&'a str),
    /// The first worker.
    Worker(&'a str),
}

impl<'a> Armed<'a> {
    const fn coordinator(self) -> &'a str {
        match self {
            Self::Coordinator(points) => points,
            Self::Nobody | Self::Worker(_) => "",
        }
    }

    const fn worker(self) -> &'a str {
        match self {
            Self::Worker(points) => points,
            Self::Nobody | Self::Coordinator(_) => "",
        }
    }
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
    early: EarlyWatch,
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
        let coordinator =
            cluster.coordinator_with(None, |launch| launch.env("FAILPOINTS", armed.coordinator()));
        let orders = Observer::start(broker, &topic_name(name, "processed"));
        let dead_letters = Observer::start(broker, &topic_name(name, "rejected"));
        let chain = ChainFolder::new(storage.path().join("default").join(name));
        let sinks = [(SINKS[0], &orders), (SINKS[1], &dead_letters)];
        let early = EarlyWatch::start(&sinks, LOOKS, move || decided(&chain));
        let mut job = Self {
            orders,
            dead_letters,
            early,
            name: name.to_owned(),
            storage,
            bootstrap,
            cluster,
            coordinator,
            workers: Vec::new(),
            feed,
        };
        for number in 0..WORKERS {
            let points = if number == 0 { armed.worker() } else { "" };
            let worker = job.start_worker((number, points));
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
        self.restart_worker_with(number, "")
    }

    /// As [`restart_worker`](Self::restart_worker), armed.
    pub(crate) fn restart_worker_with(&mut self, number: usize, points: &str) -> Server {
        let new = self.start_worker((number, points));
        std::mem::replace(&mut self.workers[number], new)
    }

    /// Starts one more worker, of one slot as all.
    pub(crate) fn add_worker(&mut self) {
        let worker = self.start_worker((self.workers.len(), ""));
        self.workers.push(worker);
    }

    /// Kills all workers.
    pub(crate) fn kill_workers(&mut self) {
        for worker in &mut self.workers {
            worker.kill();
        }
    }

    /// Starts those workers again that have ended, or that were told that the job is over.
    pub(crate) fn restart_ended_workers(&mut self) {
        for number in 0..self.workers.len() {
            if !self.workers[number].is_running() {
                drop(self.restart_worker(number));
            }
        }
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
            self.has_checkpoint()
        });
    }

    /// Whether this coordinator has completed a checkpoint.
    pub(crate) fn has_checkpoint(&self) -> bool {
        let status = self.status();
        status.is_some_and(|status| status.last_checkpoint.is_some())
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

    /// The job's chain.
    pub(crate) fn chain(&self) -> ChainFolder {
        ChainFolder::new(self.folder())
    }

    /// The newest decided checkpoint.
    #[track_caller]
    pub(crate) fn newest_checkpoint(&self) -> Slot {
        let newest = || self.chain().newest_checkpoint().ok().flatten();
        wait_for("the chain has a checkpoint", DEADLINE, newest)
    }

    /// What readers see while no coordinator runs, against what this checkpoint has written.
    #[track_caller]
    pub(crate) fn audit_checkpoint(&self, broker: &Broker, checkpoint: &Slot) -> Report {
        // Markers of what is committed may still be on their way.
        poll_until(DEADLINE, || {
            let open = broker.open_transactions();
            let ending = |open: &&Transaction| open.state == "PrepareCommit";
            let mut ending = open.iter().filter(ending);
            ending.all(|open| !is_of(open, &self.name)).then_some(())
        });
        let names = TopicNames::of(&self.name);
        audit::audit_checkpoint(broker, names.topics(), &checkpoint.understood())
    }

    /// Address of the storage.
    pub(crate) fn storage(&self) -> String {
        format!("file://{}", self.storage.path().display())
    }

    /// Runs a command in the job's directory to its end. Its exit code and everything it says.
    #[track_caller]
    pub(crate) fn millstream(
        &mut self,
        command: &str,
        arguments: &[&str],
    ) -> (Option<i32>, String) {
        let launch = self.cluster.millstream(command).args(arguments);
        let mut process = self.cluster.start(command, &launch);
        let status = process.wait(DEADLINE);
        (status.code(), process.output())
    }

    /// The newest slot of the chain.
    #[track_caller]
    pub(crate) fn newest_slot(&self) -> Slot {
        let newest = || self.chain().newest();
        wait_for("the chain has a slot", DEADLINE, newest)
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

    /// Replaces the job file by a changed one, for coordinators from now on.
    pub(crate) fn change_file(&self, change: impl FnOnce(OrderJobFile) -> OrderJobFile) {
        let file = job_file(
            &self.name,
            &self.name,
            &self.bootstrap,
            &self.storage,
            "300ms",
        );
        self.cluster.rewrite_job(&change(file).into_text());
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
    pub(crate) fn finish_without(self, broker: &Broker, given_up: u64) {
        let mut ended = self.end(given_up);
        let report = ended.audit(broker);
        println!("{report}");
        assert_eq!(report.input, ended.workload.records, "records of the input");
        assert!(ended.looks.count > 0, "what readers see was never compared");
        report.assert_exactly_once_without(given_up);
    }

    /// Ends the flow, waits until everything is in the output, and stops the job.
    #[track_caller]
    pub(crate) fn end(mut self, given_up: u64) -> Ended {
        let workload = self.feed.end();
        let kept = workload.kept() - given_up;
        // Records that are there twice are no progress.
        let distinct = || self.orders.distinct() + self.dead_letters.distinct();
        // Not reaching it is for the audit to explain.
        let complete = poll_until(DEADLINE, || (distinct() >= kept).then_some(()));
        if complete.is_none() {
            let status = self.coordinator.rest.job();
            eprintln!(
                "only {} of {kept} records came out; the job says: {status:?}",
                distinct()
            );
        }
        let stopped = self.coordinator.rest.stop(&StopRequest::default());
        stopped.expect("the coordinator stops the job");
        assert_done(&mut self.coordinator.server);
        self.workers.iter_mut().for_each(assert_done);
        Ended {
            looks: self.early.stop(),
            orders: self.orders.stop(),
            dead_letters: self.dead_letters.stop(),
            name: self.name,
            storage: self.storage,
            cluster: self.cluster,
            workload,
        }
    }
}

/// A job that was stopped, and what was seen of it.
pub(crate) struct Ended {
    name: String,
    storage: Scratch,
    cluster: Cluster,
    pub(crate) workload: Workload,
    pub(crate) looks: Looks,
    pub(crate) orders: Sightings,
    pub(crate) dead_letters: Sightings,
}

impl Ended {
    /// Judges everything: what readers saw and see, what the broker holds, what the store holds.
    #[track_caller]
    pub(crate) fn audit(&mut self, broker: &Broker) -> Report {
        let names = TopicNames::of(&self.name);
        let mut report = audit::audit(broker, names.topics(), &self.orders, &self.dead_letters);
        // Other jobs of this broker go on.
        report.anomalies.dangling = open_transactions(broker, &self.name);
        report.add_looks(&self.looks);
        let store = Store {
            manifest: self.checkpoints("show"),
            verified: self.checkpoints("verify"),
            sources: SOURCES,
        };
        report.add_store(&store);
        report
    }

    /// The chain that it has left.
    pub(crate) fn chain(&self) -> ChainFolder {
        ChainFolder::new(self.storage.path().join("default").join(&self.name))
    }

    /// Name of its topic of processed orders, of dead letters.
    pub(crate) fn outputs(&self) -> [String; 2] {
        let names = TopicNames::of(&self.name);
        [names.output, names.dead_letters]
    }

    /// Counts what is wrong with the objects of its chain.
    #[track_caller]
    pub(crate) fn verified(&mut self) -> Anomalies {
        let verified: Verified = self.checkpoints("verify");
        verified.judge().anomalies
    }

    /// What `millstream checkpoints` says of the job's chain.
    #[track_caller]
    fn checkpoints<T: DeserializeOwned>(&mut self, what: &str) -> T {
        let chain = format!("file://{}", self.chain().path().display());
        self.cluster.checkpoints(what, &chain)
    }
}

/// Topics of one job of the broker.
struct TopicNames {
    input: String,
    output: String,
    dead_letters: String,
}

impl TopicNames {
    fn of(job: &str) -> Self {
        Self {
            input: topic_name(job, "orders"),
            output: topic_name(job, "processed"),
            dead_letters: topic_name(job, "rejected"),
        }
    }

    fn topics(&self) -> Topics<'_> {
        Topics {
            input: &self.input,
            other_input: None,
            output: &self.output,
            dead_letters: &self.dead_letters,
            ids: "",
        }
    }
}

/// Records that the newest decided checkpoint says were written, by sink.
fn decided(chain: &ChainFolder) -> Option<Totals> {
    let Some(newest) = chain.newest_checkpoint().ok()? else {
        return Some(Totals::new());
    };
    let totals = newest.understood().totals().into_iter();
    Some(
        totals
            .map(|(uid, counters)| (uid, counters.records_out))
            .collect(),
    )
}

fn topic_name(job: &str, topic: &str) -> String {
    format!("{job}-{topic}")
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

/// Those that nobody has begun to commit or to abort.
#[track_caller]
pub(crate) fn undecided(broker: &Broker, job: &str) -> Vec<Transaction> {
    let mut open = broker.open_transactions();
    open.retain(|open| open.state == "Ongoing" && is_of(open, job));
    open
}

/// How many of them nobody has begun to commit or to abort.
#[track_caller]
pub(crate) fn undecided_transactions(broker: &Broker, job: &str) -> u64 {
    count_transactions(broker, job, |open| open.state == "Ongoing")
}

#[track_caller]
fn count_transactions(broker: &Broker, job: &str, counts: impl Fn(&Transaction) -> bool) -> u64 {
    let open = broker.open_transactions();
    let own = open.iter().filter(|open| is_of(open, job));
    let count = own.filter(|open| counts(open)).count();
    u64::try_from(count).expect("few transactions")
}

/// Whether it is a transaction of this job.
fn is_of(transaction: &Transaction, job: &str) -> bool {
    let rest = transaction.transactional_id.strip_prefix(job);
    rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_alphanumeric()))
}

#[track_caller]
pub(crate) fn assert_aborted(server: &mut Server) {
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
