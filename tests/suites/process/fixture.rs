//! The order job and everything around it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_tests::audit::early::{self, EarlyWatch};
use millstream_tests::audit::observer::Observer;
use millstream_tests::audit::store::SOURCES;
use millstream_tests::audit::{self, Report, Topics};
use millstream_tests::certificates::Authority;
use millstream_tests::cluster::{Addresses, Cluster, Coordinator, binary};
use millstream_tests::kafka::brokers::Brokers;
use millstream_tests::link::Link;
use millstream_tests::order_job::OrderJobFile;
use millstream_tests::ports::free_port;
use millstream_tests::proxy::Proxy;
use millstream_tests::server::Server;
use millstream_tests::wait::{pause, poll_until, wait_until};
use millstream_tests::workload::Workload;
use millstream_tests::{Broker, BrokerOptions};
use millstream_types::api::{JobState, StopRequest};

use crate::store::{Kind, Store};

pub(crate) const TOPICS: Topics<'static> = Topics {
    input: "orders",
    other_input: None,
    output: "processed-orders",
    dead_letters: "rejected-orders",
    ids: "",
};
const PARTITIONS: i32 = 4;
/// Processes that end by themselves are started again, as a cluster would, at most this often.
const RESTARTS: u32 = 20;
/// Between two looks whether readers see what is not decided; each starts a process.
const LOOKS: Duration = Duration::from_secs(1);

/// The job file, with a checkpoint every second.
fn job(bootstrap: &str, storage: &str) -> OrderJobFile {
    let file = OrderJobFile::new(bootstrap, storage);
    file.replace("interval: 10s", "interval: 1s")
}

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setup {
    pub(crate) name: &'static str,
    /// Workers of one slot each.
    pub(crate) workers: usize,
    /// Changes the job file.
    pub(crate) change: fn(OrderJobFile) -> OrderJobFile,
    pub(crate) between: Between,
    /// Whether the processes of the job talk by TLS.
    pub(crate) tls: bool,
    /// Where checkpoints lie.
    pub(crate) store_kind: Kind,
    /// Whether there are three brokers that all keep every record, or one.
    pub(crate) three_brokers: bool,
    pub(crate) topics: Topics<'static>,
    /// Topics that the audit does not know of.
    pub(crate) more_topics: &'static [&'static str],
    /// The sources of the job.
    pub(crate) sources: &'static [&'static str],
}

impl Setup {
    /// The order job of the example, on one broker.
    pub(crate) fn new(name: &'static str, workers: usize) -> Self {
        Self {
            name,
            workers,
            change: |file| file,
            between: Between::Nothing,
            tls: false,
            store_kind: Kind::S3,
            three_brokers: false,
            topics: TOPICS,
            more_topics: &[],
            sources: SOURCES,
        }
    }

    fn brokers(&self) -> Brokers {
        let options = BrokerOptions::default();
        let brokers = if self.three_brokers {
            Brokers::start(options)
        } else {
            Brokers::from(Broker::start(options))
        };
        let topics = [
            self.topics.input,
            self.topics.output,
            self.topics.dead_letters,
        ];
        let more = self.more_topics.iter().copied();
        for topic in topics
            .into_iter()
            .chain(self.topics.other_input)
            .chain(more)
        {
            brokers.any().create_topic(topic, PARTITIONS);
        }
        brokers
    }
}

/// A running order job: brokers, store, coordinator, workers, readers.
pub(crate) struct OrderJob {
    setup: Setup,
    pub(crate) brokers: Arc<Brokers>,
    pub(crate) checkpoints: Store,
    /// Stands before the store, if it was asked for.
    pub(crate) store: Option<Proxy>,
    pub(crate) cluster: Cluster,
    file: OrderJobFile,
    pub(crate) coordinator: Coordinator,
    pub(crate) workers: Vec<Server>,
    /// By worker: the way by which the others reach it, if it was asked for.
    pub(crate) links: Vec<Link>,
    /// Those of workers that were replaced, which may live on.
    old_links: Vec<Link>,
    restarts: u32,
    orders: Observer,
    dead_letters: Observer,
    early: EarlyWatch,
}

impl OrderJob {
    /// Starts everything; returns when the job runs.
    #[track_caller]
    pub(crate) fn start(setup: Setup) -> Self {
        let Setup { name, between, .. } = setup;
        let brokers = Arc::new(setup.brokers());
        let checkpoints = Store::start(setup.store_kind);
        let store = matches!(between, Between::Store)
            .then(|| Proxy::start("127.0.0.1", &checkpoints.http()));
        let endpoint = store
            .iter()
            .map(|proxy| ("AWS_ENDPOINT_URL", format!("http://{}", proxy.address())));
        let file = (setup.change)(job(&brokers.bootstrap(), &checkpoints.storage()));
        let mut cluster = Cluster::new(name, &file.clone().into_text())
            .environment(checkpoints.environment())
            .environment(endpoint);
        if setup.tls {
            let files = Authority::make(cluster.directory()).sign_process("order-job");
            cluster = cluster.environment([("MILLSTREAM_TLS", files.display().to_string())]);
        }
        let coordinator = cluster.coordinator(None);
        let links: Vec<Link> = match between {
            Between::Workers => (0..setup.workers).map(|_| new_link()).collect(),
            Between::Store | Between::Nothing => Vec::new(),
        };
        let grpc = &coordinator.addresses.grpc;
        let workers = (0..setup.workers)
            .map(|number| worker(&mut cluster, number, grpc, links.get(number)))
            .collect();
        let orders = Observer::start(brokers.any(), setup.topics.output);
        let dead_letters = Observer::start(brokers.any(), setup.topics.dead_letters);
        let sinks = [
            (setup.topics.output, &orders),
            (setup.topics.dead_letters, &dead_letters),
        ];
        let decided = early::decided_in(binary(), checkpoints.chain(), checkpoints.environment());
        let job = Self {
            early: EarlyWatch::start(&sinks, LOOKS, decided),
            orders,
            dead_letters,
            setup,
            brokers,
            checkpoints,
            store,
            cluster,
            file,
            coordinator,
            workers,
            links,
            old_links: Vec::new(),
            restarts: 0,
        };
        job.wait_until_running();
        job
    }

    /// Waits until the coordinator says that all tasks run.
    #[track_caller]
    pub(crate) fn wait_until_running(&self) {
        wait_until("the job runs", Duration::from_mins(1), || {
            let job = self.coordinator.rest.job();
            job.is_ok_and(|job| job.state == JobState::Running)
        });
    }

    /// Kills a worker and starts it again at once.
    pub(crate) fn kill_worker(&mut self, number: usize) {
        assert!(self.workers[number].kill(), "worker {number} was running");
        self.restart_worker(number);
    }

    /// Starts a worker in the place of one that has ended or been set aside.
    pub(crate) fn restart_worker(&mut self, number: usize) -> Server {
        let grpc = self.coordinator.addresses.grpc.clone();
        if let Some(link) = self.links.get_mut(number) {
            self.old_links.push(std::mem::replace(link, new_link()));
        }
        let link = self.links.get(number);
        let new = worker(&mut self.cluster, number, &grpc, link);
        std::mem::replace(&mut self.workers[number], new)
    }

    /// Kills the coordinator and starts it again at once, in the same place.
    #[track_caller]
    pub(crate) fn kill_coordinator(&mut self) {
        assert!(
            self.coordinator.server.kill(),
            "the coordinator was running"
        );
        self.restart_coordinator();
    }

    #[track_caller]
    fn restart_coordinator(&mut self) {
        let addresses = self.coordinator.addresses.clone();
        self.coordinator = self.cluster.coordinator(Some(&addresses));
    }

    /// Kills the coordinator, and starts it again with a changed job file.
    #[track_caller]
    pub(crate) fn change_file(&mut self, change: impl FnOnce(OrderJobFile) -> OrderJobFile) {
        self.file = change(self.file.clone());
        self.cluster.rewrite_job(&self.file.clone().into_text());
        self.kill_coordinator();
    }

    /// Starts a second coordinator elsewhere, with workers of its own. The first one and its
    /// workers are returned.
    #[track_caller]
    pub(crate) fn replace_everything(&mut self) -> (Coordinator, Vec<Server>) {
        let new = self.cluster.coordinator(None::<&Addresses>);
        let old = std::mem::replace(&mut self.coordinator, new);
        let workers = (0..self.workers.len())
            .map(|number| self.restart_worker(number))
            .collect();
        (old, workers)
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
            "a {role} ended by itself, again and again"
        );
    }

    /// Asks what the newest decided checkpoint says was written, by sink.
    pub(crate) fn decided(&self) -> impl Fn() -> Option<early::Totals> + Send + 'static {
        early::decided_in(
            binary(),
            self.checkpoints.chain(),
            self.checkpoints.environment(),
        )
    }

    /// Records that readers have seen so far.
    pub(crate) fn seen(&self) -> u64 {
        self.orders.seen() + self.dead_letters.seen()
    }

    /// Waits until everything is in the output, stops the job, and audits it.
    #[track_caller]
    pub(crate) fn finish(mut self, workload: Workload) -> Finished {
        let expected = workload.kept();
        // Not reaching it is for the audit to explain.
        let complete = poll_until(Duration::from_mins(2), || {
            self.tend();
            // Records that are there twice are no progress.
            let distinct = self.orders.distinct() + self.dead_letters.distinct();
            (distinct >= expected).then_some(())
        });
        let status = self
            .coordinator
            .rest
            .job()
            .expect("the coordinator answers");
        if complete.is_none() {
            eprintln!(
                "only {} of {expected} records came out; the job says: {status:?}",
                self.seen()
            );
        }
        self.stop();
        let chain = self.checkpoints.chain();
        let store = audit::store::Store {
            manifest: self.cluster.checkpoints("show", &chain),
            verified: self.cluster.checkpoints("verify", &chain),
            sources: self.setup.sources,
        };
        let mut report = audit::audit(
            self.brokers.any(),
            self.setup.topics,
            &self.orders.stop(),
            &self.dead_letters.stop(),
        );
        report.add_store(&store);
        let looks = self.early.stop();
        assert!(looks.count > 10, "what readers see was hardly compared");
        report.add_looks(&looks);
        Finished {
            report,
            attempts: status.attempt.0,
            checkpoints: status.last_checkpoint.map_or(0, |last| last.id.0),
            swept: self
                .cluster
                .log_lines("transactions of older attempts aborted"),
            fenced: self.cluster.log_lines("MS0304"),
            objects: self.checkpoints.objects(),
            _cluster: self.cluster,
        }
    }

    /// Stops the job after a last checkpoint; all processes end by themselves.
    #[track_caller]
    fn stop(&mut self) {
        let stopped = self.coordinator.rest.stop(&StopRequest::default());
        stopped.expect("the coordinator stops the job");
        let status = self.coordinator.server.wait(Duration::from_mins(1));
        assert!(
            status.success(),
            "the coordinator ends with {status}:\n{}",
            self.coordinator.server.output()
        );
        for worker in &mut self.workers {
            let status = worker.wait(Duration::from_mins(1));
            assert!(
                status.success(),
                "a worker ends with {status}:\n{}",
                worker.output()
            );
        }
    }
}

/// How it ended. Holds the logs of all processes, which stay if the test fails.
#[derive(Debug)]
pub(crate) struct Finished {
    _cluster: Cluster,
    pub(crate) report: Report,
    /// Lives of the job.
    pub(crate) attempts: u64,
    /// Number of the newest checkpoint.
    pub(crate) checkpoints: u64,
    /// How often a recovery found transactions of an older attempt open and aborted them.
    pub(crate) swept: usize,
    /// Log lines about a process that met a newer claim.
    pub(crate) fenced: usize,
    /// Objects left in the store.
    pub(crate) objects: usize,
}

impl Finished {
    /// Fails unless nothing happened that must not.
    #[track_caller]
    pub(crate) fn check(&self, workload: Workload) {
        println!("{}", self.report);
        println!(
            "{} attempts, {} checkpoints, {} sweeps, {} times fenced, {} objects",
            self.attempts, self.checkpoints, self.swept, self.fenced, self.objects
        );
        assert_eq!(self.report.input, workload.records, "records of the input");
        assert!(self.report.anomalies.is_clean(), "{}", self.report);
    }
}

/// What stands between the parts, to be broken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Between {
    Nothing,
    /// A proxy before the store.
    Store,
    /// Links between the workers.
    Workers,
}

/// A link to a worker, which says where it leads when it starts.
fn new_link() -> Link {
    Link::to("127.0.0.1:1")
}

/// Starts a worker, which the others reach over the link if there is one.
#[track_caller]
fn worker(cluster: &mut Cluster, number: usize, grpc: &str, link: Option<&Link>) -> Server {
    let name = worker_name(number);
    let Some(link) = link else {
        return cluster.worker(&name, grpc, 1);
    };
    let listens = format!("127.0.0.1:{}", free_port());
    link.lead_to(&listens);
    cluster.worker_with(&name, grpc, 1, |launch| {
        launch
            .args(["--exchange", &listens])
            .args(["--exchange-address", &link.address()])
    })
}

fn worker_name(number: usize) -> String {
    format!("worker-{number}")
}

/// Writes the workload at an even pace; returns when the last record is acknowledged.
#[track_caller]
pub(crate) fn feed(brokers: &Brokers, workload: Workload, duration: Duration) {
    let written = feed_part(brokers, TOPICS.input, workload, duration, |_| true);
    assert_eq!(written, workload.records);
}

/// Writes the records of some customers, told by their numbers, to a topic. How many they were.
#[track_caller]
pub(crate) fn feed_part(
    brokers: &Brokers,
    topic: &str,
    workload: Workload,
    duration: Duration,
    belongs: impl Fn(u64) -> bool,
) -> u64 {
    let started = Instant::now();
    let paced = (0..workload.records).inspect(|number| {
        if number % 1_000 == 0 {
            let part = *number as f64 / workload.records as f64;
            pause(duration.mul_f64(part).saturating_sub(started.elapsed()));
        }
    });
    let numbers = paced.filter(|number| belongs(workload.customer(*number)));
    let records = numbers.map(|number| workload.record(number));
    brokers.any().produce(topic, records)
}
