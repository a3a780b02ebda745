//! The state machine driven with facts, as the service drives it.

mod checkpoints;
mod endings;
mod failures;
mod invariants;
mod leaving;
mod savepoints;
mod starting;

use std::collections::BTreeMap;

use millstream_checkpoint::{MANIFEST_VERSION, Manifest, ReleaseReason};
use millstream_spec::RestartStrategy;
use millstream_spec::restart::{ExponentialDelay, FixedDelay};
use millstream_types::api::JobState;
use millstream_types::duration::KubeDuration;
use millstream_types::ids::TaskId;
use millstream_types::protocol::{Deploy, ToCoordinator};
use millstream_types::{
    Barrier, CheckpointId, CheckpointKind, Committable, ErrorCode, Failure, Opaque,
    OperatorSnapshot, OperatorUid, SplitState, SubtaskIndex, TaskSnapshot, VertexId, WorkerId,
};

use super::*;
use crate::topology::{Edge, VertexOperators};

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn worker(name: &str) -> WorkerId {
    WorkerId::from(name)
}

const fn task(vertex: u32, subtask: u32) -> TaskId {
    TaskId {
        vertex: VertexId(vertex),
        subtask: SubtaskIndex(subtask),
    }
}

fn failure(kind: ErrorKind) -> Failure {
    Failure::new(ErrorCode::KafkaBroker, kind, "as the test wants")
}

fn split(name: &str) -> SplitState {
    SplitState {
        split: name.to_owned(),
        position: Opaque("0".to_owned()),
        records: 0,
        finished: false,
    }
}

fn transaction(checkpoint: u64) -> Committable {
    Committable {
        checkpoint: CheckpointId(checkpoint),
        transaction: Opaque(format!("\"t{checkpoint}\"")),
        records: 1,
    }
}

/// `orders` (vertex 0) → `out` (vertex 1), two subtasks each.
fn topology() -> Topology {
    let vertex = |id, operator: &str| VertexOperators {
        id: VertexId(id),
        operators: vec![operator.into()],
        parallelism: 2,
    };
    Topology {
        vertices: vec![vertex(0, "orders"), vertex(1, "out")],
        sources: BTreeMap::from([("orders".into(), VertexId(0))]),
        sinks: ["out".into()].into(),
        edges: vec![Edge {
            from: "orders".into(),
            dead_letters: false,
            to: "out".into(),
        }],
        max_parallelism: 128,
        inputs: BTreeMap::new(),
    }
}

fn settings() -> Settings {
    Settings {
        job: JobId {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
        },
        deployment: None,
        job_text: "the job file".to_owned(),
        fingerprint: "abc".to_owned(),
        connectors: BTreeMap::new(),
        parallelism: 2,
        topology: topology(),
        checkpoint: TriggerSettings {
            interval: millis(1_000),
            min_pause: millis(0),
            timeout: millis(10_000),
            aligned_timeout: None,
            max_concurrent: 1,
        },
        tolerable_failures: 0,
        cancel_timeout: millis(2_000),
        deploy_timeout: millis(10_000),
        look_interval: millis(5_000),
        discards: false,
        without_ttl: Vec::new(),
    }
}

fn strategy() -> RestartStrategy {
    RestartStrategy::ExponentialDelay(ExponentialDelay {
        jitter: 0.0,
        ..ExponentialDelay::default()
    })
}

/// A job under test, its clock, and the commands it has given.
struct Rig {
    job: Job,
    now: Duration,
    commands: Vec<Command>,
}

impl Rig {
    fn new() -> Self {
        Self::with(settings(), strategy())
    }

    fn with(settings: Settings, strategy: RestartStrategy) -> Self {
        let mut rig = Self {
            job: Job::new(settings, RestartPolicy::new(strategy), Timestamp(0)),
            now: millis(0),
            commands: Vec::new(),
        };
        rig.collect();
        rig
    }

    /// A job whose four tasks run in two workers, with no checkpoint under way.
    fn running() -> Self {
        Self::new().run()
    }

    fn run(mut self) -> Self {
        self.join("a", 1);
        self.join("b", 1);
        self.prepared(1);
        self.all_run();
        self
    }

    fn moment(&self) -> Now {
        Now {
            monotonic: self.now,
            wall: Timestamp(u64::try_from(self.now.as_millis()).unwrap()),
            random: 0.5,
        }
    }

    fn tell(&mut self, event: Event) {
        let now = self.moment();
        self.job.handle(event, now);
        self.collect();
    }

    fn collect(&mut self) {
        self.commands.extend(self.job.take_commands());
    }

    /// Lets time pass, in the steps that the job asks for.
    fn pass(&mut self, time: u64) {
        let end = self.now + millis(time);
        while let Some(at) = self.job.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            let before = self.commands.len();
            self.tell(Event::Tick);
            if self.commands.len() == before && self.job.wake_at() == Some(at) {
                break;
            }
        }
        self.now = end;
        self.tell(Event::Tick);
    }

    fn join(&mut self, name: &str, slots: u32) {
        self.tell(Event::WorkerJoined {
            worker: worker(name),
            slots,
        });
    }

    fn lose(&mut self, name: &str) {
        self.tell(Event::WorkerLost {
            worker: worker(name),
            failure: Failure::new(ErrorCode::WorkerLost, ErrorKind::Retryable, "gone"),
        });
    }

    fn say(&mut self, name: &str, message: ToCoordinator) {
        self.tell(Event::Message {
            worker: worker(name),
            message,
        });
    }

    /// A claimed attempt that starts from checkpoint 10 with four splits.
    fn prepared(&mut self, attempt: u64) {
        self.tell(Event::Prepared(Box::new(prepared(attempt))));
    }

    fn attempt(&self) -> Attempt {
        self.job.run.attempt
    }

    fn deploys(&self) -> Vec<(&WorkerId, &Deploy)> {
        self.sent()
            .filter_map(|(worker, message)| match message {
                ToWorker::Deploy(deploy) => Some((worker, deploy)),
                _ => None,
            })
            .collect()
    }

    fn sent(&self) -> impl Iterator<Item = (&WorkerId, &ToWorker)> {
        self.commands.iter().filter_map(|command| match command {
            Command::Send { worker, message } => Some((worker, message)),
            _ => None,
        })
    }

    /// Where the tasks of the newest deployment run.
    fn hosts(&self) -> Vec<(String, TaskId)> {
        let attempt = self.attempt();
        self.deploys()
            .into_iter()
            .filter(|(_, deploy)| deploy.attempt == attempt)
            .flat_map(|(worker, deploy)| {
                let tasks = deploy.tasks.iter();
                tasks.map(|deployment| (worker.to_string(), deployment.task))
            })
            .collect()
    }

    fn all_run(&mut self) {
        let attempt = self.attempt();
        for (host, task) in self.hosts() {
            self.say(&host, ToCoordinator::TaskRunning { attempt, task });
        }
    }

    /// The last barrier that was sent.
    fn last_barrier(&self) -> Option<Barrier> {
        self.sent()
            .filter_map(|(_, message)| match message {
                ToWorker::Trigger { barrier, .. } => Some(*barrier),
                _ => None,
            })
            .last()
    }

    fn barriers(&self) -> Vec<u64> {
        let mut numbers: Vec<u64> = self
            .sent()
            .filter_map(|(_, message)| match message {
                ToWorker::Trigger { barrier, .. } => Some(barrier.checkpoint.0),
                _ => None,
            })
            .collect();
        numbers.dedup();
        numbers
    }

    /// Acknowledges a checkpoint from every task; `transactions` are listed by the first sink
    /// subtask.
    fn acknowledge_with(&mut self, checkpoint: u64, transactions: &[Committable]) {
        let attempt = self.attempt();
        for (host, task) in self.hosts() {
            let listed = if task.subtask.0 == 0 {
                transactions
            } else {
                &[]
            };
            let snapshot = snapshot_of(task, listed);
            self.say(
                &host,
                ToCoordinator::CheckpointAcknowledged {
                    attempt,
                    checkpoint: CheckpointId(checkpoint),
                    task,
                    snapshot,
                    passage: millstream_types::protocol::Passage::default(),
                },
            );
        }
    }

    fn acknowledge(&mut self, checkpoint: u64) {
        self.acknowledge_with(checkpoint, &[]);
    }

    fn finalized(&mut self, checkpoint: u64) {
        let attempt = self.attempt();
        self.tell(Event::Finalized {
            attempt,
            checkpoint: CheckpointId(checkpoint),
            result: Ok(written()),
        });
    }

    /// Takes a checkpoint from acknowledgement to commit.
    fn complete(&mut self, checkpoint: u64) {
        self.acknowledge(checkpoint);
        self.finalized(checkpoint);
    }

    fn cancelled(&mut self, name: &str) {
        let attempt = self.attempt();
        self.say(name, ToCoordinator::Cancelled { attempt });
    }

    fn savepoint(&mut self, name: &str) -> Result<(), crate::RequestError> {
        let now = self.moment();
        let result = self.job.request_savepoint(name, now);
        self.collect();
        result.map(drop)
    }

    fn stop(&mut self, savepoint: Option<&str>) -> Result<(), crate::RequestError> {
        let now = self.moment();
        let request = millstream_types::api::StopRequest {
            savepoint: savepoint.map(str::to_owned),
            drain: false,
        };
        let result = self.job.request_stop(request, now);
        self.collect();
        result
    }

    fn cancel(&mut self) -> Result<(), crate::RequestError> {
        let now = self.moment();
        let result = self.job.request_cancel(now);
        self.collect();
        result
    }

    fn finalizing(&self) -> Vec<&Manifest> {
        self.commands
            .iter()
            .filter_map(|command| match command {
                Command::Chain(Operation::Finalize { manifest, .. }) => Some(manifest.as_ref()),
                _ => None,
            })
            .collect()
    }

    fn written_savepoints(&self) -> Vec<(&str, &Manifest)> {
        self.commands
            .iter()
            .filter_map(|command| match command {
                Command::Chain(Operation::WriteSavepoint { name, manifest, .. }) => {
                    Some((name.as_str(), manifest.as_ref()))
                }
                _ => None,
            })
            .collect()
    }

    fn outcome(&self) -> Option<&Outcome> {
        self.commands.iter().find_map(|command| match command {
            Command::Finish(outcome) => Some(outcome),
            _ => None,
        })
    }

    fn count(&self, wanted: impl Fn(&Command) -> bool) -> usize {
        self.commands
            .iter()
            .filter(|command| wanted(command))
            .count()
    }

    fn prepares(&self) -> usize {
        self.count(|command| *command == Command::Chain(Operation::Prepare))
    }

    fn was_sent(&self, name: &str, message: &ToWorker) -> bool {
        self.sent()
            .any(|(worker, sent)| worker.as_str() == name && sent == message)
    }
}

fn released_as(command: &Command, reason: ReleaseReason) -> bool {
    matches!(command, Command::Chain(Operation::Release(release)) if release.reason == reason)
}

fn written() -> Written {
    Written {
        path: "file:///chain/x.json".to_owned(),
        bytes: 100,
    }
}

fn snapshot_of(task: TaskId, transactions: &[Committable]) -> TaskSnapshot {
    let (uid, state) = if task.vertex.0 == 0 {
        let splits = splits_of(task.subtask.0);
        let state = OperatorSnapshot {
            splits: splits.iter().map(|name| split(name)).collect(),
            ..OperatorSnapshot::default()
        };
        ("orders", state)
    } else {
        let state = OperatorSnapshot {
            committables: transactions.to_vec(),
            ..OperatorSnapshot::default()
        };
        ("out", state)
    };
    TaskSnapshot {
        operators: BTreeMap::from([(uid.into(), state)]),
    }
}

/// How four splits are dealt to two subtasks.
fn splits_of(subtask: u32) -> [&'static str; 2] {
    if subtask == 0 {
        ["p0", "p2"]
    } else {
        ["p1", "p3"]
    }
}

fn manifest(attempt: u64) -> Manifest {
    let snapshots = [OperatorSnapshot {
        splits: ["p0", "p1", "p2", "p3"].map(split).to_vec(),
        ..OperatorSnapshot::default()
    }];
    Manifest {
        version: MANIFEST_VERSION,
        job: settings().job,
        checkpoint: CheckpointId(10),
        attempt: Attempt(attempt),
        kind: CheckpointKind::Checkpoint,
        fingerprint: "abc".to_owned(),
        parallelism: 1,
        max_parallelism: None,
        triggered_at: Timestamp(0),
        decided_at: Timestamp(0),
        identities: BTreeMap::from([("orders".into(), Opaque("\"cluster\"".to_owned()))]),
        connectors: BTreeMap::new(),
        operators: BTreeMap::from([(
            OperatorUid::from("orders"),
            (0..).map(SubtaskIndex).zip(snapshots).collect(),
        )]),
        inputs: BTreeMap::new(),
        swept_through: Attempt(0),
        imported_from: None,
        beginning: None,
        origins: Vec::new(),
        previous: None,
        ended: false,
    }
}

fn prepared(attempt: u64) -> Prepared {
    let manifest = manifest(attempt);
    Prepared {
        lineage: None,
        attempt: Attempt(attempt),
        identities: manifest.identities.clone(),
        manifest,
        path: "file:///chain/10.json".to_owned(),
        restored: attempt > 1,
        next_checkpoint: CheckpointId(11),
        discovered: BTreeMap::new(),
        discovering: ["orders".into()].into(),
        given_up: None,
    }
}
