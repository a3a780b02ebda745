//! The order job, and where it meets the faults.

use std::time::Duration;

use millstream_tests::audit::early::{self, EarlyWatch, Totals};
use millstream_tests::audit::observer::Observer;
use millstream_tests::audit::store::{SOURCES, Store};
use millstream_tests::audit::{self, Report, Topics};
use millstream_tests::chain::{ChainFolder, Manifest};
use millstream_tests::cluster::{Cluster, Coordinator, binary};
use millstream_tests::feed::Feed;
use millstream_tests::order_job::OrderJobFile;
use millstream_tests::server::{Launch, Server};
use millstream_tests::wait::{poll_until, wait_until};
use millstream_tests::{Broker, Scratch};
use millstream_types::Attempt;
use millstream_types::api::{JobStatus, StopRequest};

pub(crate) const DEADLINE: Duration = Duration::from_mins(2);
/// Of its sinks' topics and its source's.
const PARTITIONS: i32 = 4;
const WORKERS: usize = 2;
/// Between two looks whether readers see what is not decided.
const LOOKS: Duration = Duration::from_millis(20);
/// The same, where each look starts a process.
const SLOW_LOOKS: Duration = Duration::from_secs(1);
/// Processes that end by themselves are started again, as a cluster would, at most this often.
const RESTARTS: u32 = 40;
/// Between two chunks of a hundred orders.
const FEED_PAUSE: Duration = Duration::from_millis(50);

const TOPICS: Topics<'static> = Topics {
    input: "orders",
    other_input: None,
    output: "processed-orders",
    dead_letters: "rejected-orders",
    ids: "",
};

/// Gives a process something on its way: a clock, a variable.
pub(crate) type Wrap<'a> = &'a dyn Fn(Launch) -> Launch;

/// Where a job is to run.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    /// For whoever writes its orders and reads its output: it never meets a fault.
    pub(crate) broker: &'a Broker,
    /// Where the job finds the brokers.
    pub(crate) bootstrap: String,
    pub(crate) storage: Storage,
    pub(crate) change: fn(OrderJobFile) -> OrderJobFile,
}

/// Where its checkpoints lie.
pub(crate) enum Storage {
    /// In a directory of their own.
    Scratch,
    /// In this directory.
    Directory(String),
    /// In a bucket: where the job finds it, and where its judge does.
    Bucket([Vec<(&'static str, String)>; 2]),
}

/// A running order job.
pub(crate) struct Job {
    folder: String,
    chain: Option<ChainFolder>,
    pub(crate) cluster: Cluster,
    pub(crate) coordinator: Coordinator,
    pub(crate) workers: Vec<Server>,
    /// Where workers find the coordinator.
    pub(crate) grpc: String,
    restarts: u32,
    orders: Observer,
    dead_letters: Observer,
    early: EarlyWatch,
    feed: Feed,
    _scratch: Scratch,
}

impl Job {
    /// Starts everything, with a checkpoint every 300 ms; orders flow from now on. `wrap` is for the
    /// coordinator, and one of the workers each.
    #[track_caller]
    pub(crate) fn start(place: &Place<'_>, wrap: [Wrap<'_>; 1 + WORKERS]) -> Self {
        Self::start_over(place, wrap, str::to_owned)
    }

    /// As [`start`](Self::start), where workers do not find the coordinator at its own address.
    #[track_caller]
    pub(crate) fn start_over(
        place: &Place<'_>,
        wrap: [Wrap<'_>; 1 + WORKERS],
        reached_at: impl FnOnce(&str) -> String,
    ) -> Self {
        for topic in [TOPICS.input, TOPICS.output, TOPICS.dead_letters] {
            place.broker.create_topic(topic, PARTITIONS);
        }
        let scratch = Scratch::new(place.name);
        let (storage, environment) = match &place.storage {
            Storage::Scratch => (format!("file://{}", scratch.path().display()), Vec::new()),
            Storage::Directory(path) => (format!("file://{path}"), Vec::new()),
            Storage::Bucket([environment, _]) => {
                ("s3://checkpoints/faults".to_owned(), environment.clone())
            }
        };
        let folder = format!("{storage}/default/order-processor");
        let chain = folder.strip_prefix("file://").map(ChainFolder::new);
        let file = OrderJobFile::new(&place.bootstrap, &storage);
        let file = (place.change)(file.replace("interval: 10s", "interval: 300ms"));
        let mut cluster = Cluster::new(place.name, &file.into_text()).environment(environment);
        let [at_coordinator, at_workers @ ..] = wrap;
        let coordinator = cluster.coordinator_with(None, at_coordinator);
        let grpc = reached_at(&coordinator.addresses.grpc);
        let workers = at_workers
            .iter()
            .zip(0..)
            .map(|(wrap, number)| cluster.worker_with(&worker_name(number), &grpc, 1, wrap));
        let workers = workers.collect();
        let orders = Observer::start(place.broker, TOPICS.output);
        let dead_letters = Observer::start(place.broker, TOPICS.dead_letters);
        let sinks = [
            (TOPICS.output, &orders),
            (TOPICS.dead_letters, &dead_letters),
        ];
        let early = match (&chain, &place.storage) {
            (_, Storage::Bucket([_, judge])) => {
                let decided = early::decided_in(binary(), folder.clone(), judge.clone());
                EarlyWatch::start(&sinks, SLOW_LOOKS, decided)
            }
            (chain, _) => {
                let chain = chain.clone().expect("the storage is a directory");
                EarlyWatch::start(&sinks, LOOKS, move || decided(&chain))
            }
        };
        Self {
            folder,
            chain,
            early,
            feed: Feed::start_with_pause(place.broker, TOPICS.input, FEED_PAUSE),
            cluster,
            coordinator,
            workers,
            grpc,
            restarts: 0,
            orders,
            dead_letters,
            _scratch: scratch,
        }
    }

    /// Records that readers have seen so far.
    pub(crate) fn seen(&self) -> u64 {
        self.orders.seen() + self.dead_letters.seen()
    }

    /// What the coordinator says, if it answers.
    pub(crate) fn status(&self) -> Option<JobStatus> {
        self.coordinator.rest.job().ok()
    }

    /// The attempt that the coordinator speaks of.
    pub(crate) fn attempt(&self) -> Attempt {
        self.status().map_or(Attempt(0), |status| status.attempt)
    }

    /// The newest checkpoint, where the storage is a directory.
    #[track_caller]
    pub(crate) fn newest_checkpoint(&self) -> serde_json::Value {
        let chain = self.chain.as_ref().expect("the storage is a directory");
        let newest = chain.newest_checkpoint().ok().flatten();
        newest
            .expect("the chain has a checkpoint")
            .manifest()
            .clone()
    }

    /// Waits until readers see new records: committed ones.
    #[track_caller]
    pub(crate) fn wait_for_output(&mut self) {
        let seen = self.seen();
        wait_until("more orders are committed", DEADLINE, || {
            self.tend();
            self.seen() > seen
        });
    }

    /// Starts again what has ended by itself, as a cluster would.
    #[track_caller]
    pub(crate) fn tend(&mut self) {
        if !self.coordinator.server.is_running() {
            self.count_restart("coordinator");
            self.restart_coordinator();
        }
        for number in 0..self.workers.len() {
            if !self.workers[number].is_running() {
                self.count_restart("worker");
                self.restart_worker(number);
            }
        }
    }

    fn count_restart(&mut self, role: &str) {
        self.restarts += 1;
        assert!(
            self.restarts <= RESTARTS,
            "a {role} ended by itself, again and again; logs in {}",
            self.cluster.directory().display()
        );
    }

    /// Kills the coordinator, if it runs, and starts it in the same place.
    #[track_caller]
    pub(crate) fn restart_coordinator(&mut self) {
        self.coordinator.server.kill();
        let addresses = self.coordinator.addresses.clone();
        self.coordinator = self.cluster.coordinator(Some(&addresses));
    }

    /// Kills a worker, if it runs, and starts it again.
    pub(crate) fn restart_worker(&mut self, number: usize) {
        self.workers[number].kill();
        self.workers[number] = self.cluster.worker(&worker_name(number), &self.grpc, 1);
    }

    /// Ends the flow, waits until everything is in the output, stops the job and audits it: nothing
    /// happened that must not.
    #[track_caller]
    pub(crate) fn finish(mut self, broker: &Broker) -> Report {
        assert_eq!(
            self.cluster.log_lines("MS0204"),
            0,
            "nothing is taken for lost; logs in {}",
            self.cluster.directory().display()
        );
        let restarts = (self.attempt(), self.restarts);
        let workload = self.feed.end();
        let kept = workload.kept();
        let distinct = || self.orders.distinct() + self.dead_letters.distinct();
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
        let status = self.coordinator.server.wait(DEADLINE);
        assert!(
            status.success(),
            "{status}:\n{}",
            self.coordinator.server.output()
        );
        let (orders, dead_letters) = (self.orders.stop(), self.dead_letters.stop());
        let mut report = audit::audit(broker, TOPICS, &orders, &dead_letters);
        let store = Store {
            manifest: self.cluster.checkpoints::<Manifest>("show", &self.folder),
            verified: self.cluster.checkpoints("verify", &self.folder),
            sources: SOURCES,
        };
        report.add_store(&store);
        let looks = self.early.stop();
        assert!(looks.count > 0, "what readers see was never compared");
        report.add_looks(&looks);
        println!("{report}; attempt and processes that ended by themselves: {restarts:?}");
        assert_eq!(report.input, workload.records, "records of the input");
        report.assert_exactly_once_without(0);
        report
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

fn worker_name(number: usize) -> String {
    format!("worker-{number}")
}

/// Nothing on its way.
pub(crate) fn plain(launch: Launch) -> Launch {
    launch
}

/// The job file as it is.
pub(crate) fn unchanged(file: OrderJobFile) -> OrderJobFile {
    file
}
