//! Orders that flow through a job, and the audit of what became of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::stage::Stage;
use crate::audit::observer::Observer;
use crate::audit::store::{SOURCES, Store};
use crate::audit::{self, Report, Topics};
use crate::cluster;
use crate::feed::Feed;
use crate::server::Launch;
use crate::wait::{pause, poll_until, wait_until};
use crate::workload::Workload;

/// Between two hundreds of records.
const PACE: Duration = Duration::from_millis(250);
const DEADLINE: Duration = Duration::from_mins(2);

/// Records on their way through a job, seen by readers all the while.
#[derive(Debug)]
pub struct Flow {
    feed: Feed,
    orders: Observer,
    dead_letters: Observer,
    namespace: String,
}

impl Flow {
    /// Begins to write orders to the stage's input and to watch its outputs.
    #[track_caller]
    pub fn start(stage: &Stage) -> Self {
        Self::start_with_pause(stage, PACE)
    }

    /// As [`start`](Self::start), with five times as many orders, so that pauses of the output
    /// are the job's.
    #[track_caller]
    pub fn start_fast(stage: &Stage) -> Self {
        Self::start_with_pause(stage, PACE / 5)
    }

    #[track_caller]
    fn start_with_pause(stage: &Stage, pause: Duration) -> Self {
        let broker = &stage.world.broker;
        let topic = |name: &str| stage.topic(name);
        Self {
            orders: Observer::start(broker, &topic("processed")),
            dead_letters: Observer::start(broker, &topic("rejected")),
            feed: Feed::start_with_pause(broker, &topic("orders"), pause),
            namespace: stage.namespace.clone(),
        }
    }

    /// Records that readers have seen so far.
    pub fn seen(&self) -> u64 {
        self.orders.seen() + self.dead_letters.seen()
    }

    /// Waits until more is committed than now; how long that took.
    #[track_caller]
    pub fn wait_for_more(&self, what: &str) -> Duration {
        let (before, started) = (self.seen(), Instant::now());
        wait_until(&format!("output is committed {what}"), DEADLINE, || {
            self.seen() > before
        });
        started.elapsed()
    }

    /// The longest time without newly committed output while `work` is done.
    pub fn gap_during(&self, work: impl FnOnce()) -> Duration {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut longest, mut seen, mut since) =
                    (Duration::ZERO, self.seen(), Instant::now());
                while !done.load(Ordering::Relaxed) {
                    pause(Duration::from_millis(5));
                    if self.seen() != seen {
                        longest = longest.max(since.elapsed());
                        (seen, since) = (self.seen(), Instant::now());
                    }
                }
                longest
            });
            work();
            done.store(true, Ordering::Relaxed);
            watcher.join().expect("the watcher ends")
        })
    }

    /// Stops writing and waits until everything is in the output.
    #[track_caller]
    pub fn drain(self) -> Drained {
        self.drain_without(0)
    }

    /// As [`drain`](Self::drain), where exactly so many records of the output must be missing.
    #[track_caller]
    pub fn drain_without(self, given_up: u64) -> Drained {
        let workload = self.feed.end();
        let kept = workload.kept() - given_up;
        // Records that are there twice are no progress.
        let distinct = || self.orders.distinct() + self.dead_letters.distinct();
        // Not reaching it is for the audit to explain.
        if poll_until(DEADLINE, || (distinct() >= kept).then_some(())).is_none() {
            eprintln!(
                "{}: only {} of {kept} records came out",
                self.namespace,
                distinct()
            );
        }
        Drained {
            given_up,
            workload,
            orders: self.orders,
            dead_letters: self.dead_letters,
        }
    }
}

/// Everything is in the output; the job may still run.
#[derive(Debug)]
pub struct Drained {
    given_up: u64,
    workload: Workload,
    orders: Observer,
    dead_letters: Observer,
}

impl Drained {
    /// Judges topics and store once the job has ended: every record exactly once. Prints and
    /// returns the report.
    #[track_caller]
    pub fn audit(self, stage: &Stage, job: &str) -> Report {
        let store = Store {
            manifest: checkpoints(stage, "show", job),
            verified: checkpoints(stage, "verify", job),
            sources: SOURCES,
        };
        let (workload, given_up) = (self.workload, self.given_up);
        let mut report = self.audit_topics(stage);
        report.add_store(&store);
        println!("{}: {report}", stage.namespace);
        assert_eq!(report.input, workload.records, "records of the input");
        report.assert_exactly_once_without(given_up);
        report
    }

    /// As [`audit`](Self::audit), without the store and without a verdict.
    #[track_caller]
    pub fn audit_topics(self, stage: &Stage) -> Report {
        let [input, output, dead_letters] =
            ["orders", "processed", "rejected"].map(|topic| stage.topic(topic));
        let topics = Topics {
            input: &input,
            other_input: None,
            output: &output,
            dead_letters: &dead_letters,
            ids: &stage.namespace,
        };
        let (orders, letters) = (self.orders.stop(), self.dead_letters.stop());
        audit::audit(&stage.world.broker, topics, &orders, &letters)
    }
}

/// What `millstream checkpoints` says of a job's chain.
#[track_caller]
pub fn checkpoints<T: DeserializeOwned>(stage: &Stage, what: &str, job: &str) -> T {
    let output = checkpoints_text(stage, &[what, &stage.chain(job), "--output", "json"]);
    let json = output.find('{').map(|start| &output[start..]);
    serde_json::from_str(json.unwrap_or_default())
        .unwrap_or_else(|error| panic!("checkpoints {what}: {error} in:\n{output}"))
}

/// What `millstream checkpoints` prints.
#[track_caller]
pub fn checkpoints_text(stage: &Stage, arguments: &[&str]) -> String {
    let mut launch = Launch::new(cluster::binary())
        .arg("checkpoints")
        .args(arguments);
    for (name, value) in stage.world.minio.environment() {
        launch = launch.env(name, value);
    }
    let mut process = launch.start(&stage.log("checkpoints"));
    process.wait(Duration::from_mins(1));
    process.output()
}
