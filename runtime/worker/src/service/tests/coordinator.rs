//! The other end of a worker's connection, and jobs for it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_connect::SinkWriter;
use millstream_operators::{InputIndex, Operator};
use millstream_state::StateFiles;
use millstream_types::clock::SystemClock;
use millstream_types::ids::TaskId;
use millstream_types::protocol::{Deploy, Heartbeat, TaskDeployment, TaskProgress};
use millstream_types::{
    Attempt, CheckpointId, CheckpointKind, EdgeId, SubtaskIndex, TaskSnapshot, Timestamp, VertexId,
};
use tokio::task::JoinSet;

use super::*;
use crate::plan::{
    JobTasks, Partitioning, PlannedNode, PlannedOutput, Port, Root, SourceRoot, Step, TaskEdge,
    TaskPlan, WatermarkPlan,
};
use crate::testing::{Counting, Memory, MemoryFiles, Seen, Tally, Watching, split};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    OneVertex,
    TwoVertices,
    /// Two sources, `source` and `other`, each in a vertex, and the operator with both as inputs.
    Union,
    /// The same, over edges by the first column.
    Keyed,
}

type MakeOperator = fn(&Shared) -> Box<dyn Operator>;
type MakeSink = fn(&Shared) -> Box<dyn SinkWriter>;

/// `source → operator → sink`, in one vertex or with an edge behind the source.
#[derive(Clone)]
pub(super) struct Job {
    end: u64,
    shape: Shape,
    seen: Shared,
    operator: MakeOperator,
    /// The operator is a [`Tally`] instead.
    is_keyed: bool,
    files: Arc<MemoryFiles>,
    /// Most bytes of its state.
    memory: Option<u64>,
    sink: MakeSink,
    /// Sources that are said to find no more splits.
    bounded: BTreeSet<&'static str>,
    /// Planning waits here.
    gate: Option<Arc<Barrier>>,
}

impl Job {
    pub(super) fn counting_to(end: u64) -> Self {
        Self {
            end,
            shape: Shape::OneVertex,
            seen: Shared::default(),
            operator: |seen| Box::new(Watching::new(seen)),
            is_keyed: false,
            files: Arc::default(),
            memory: None,
            sink: |seen| Box::new(Memory::new(seen)),
            bounded: BTreeSet::new(),
            gate: None,
        }
    }

    pub(super) fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    pub(super) fn bounded(mut self, uid: &'static str) -> Self {
        self.bounded.insert(uid);
        self
    }

    pub(super) fn with_operator(self, operator: MakeOperator) -> Self {
        Self { operator, ..self }
    }

    pub(super) fn keyed(self) -> Self {
        Self {
            is_keyed: true,
            ..self
        }
    }

    pub(super) fn with_memory(self, memory: u64) -> Self {
        Self {
            memory: Some(memory),
            ..self
        }
    }

    pub(super) fn to(self, end: u64) -> Self {
        Self { end, ..self }
    }

    pub(super) fn files(&self) -> &MemoryFiles {
        &self.files
    }

    pub(super) fn with_sink(self, sink: MakeSink) -> Self {
        Self { sink, ..self }
    }

    pub(super) fn planned_at(self, gate: &Arc<Barrier>) -> Self {
        Self {
            gate: Some(Arc::clone(gate)),
            ..self
        }
    }

    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    pub(super) fn shared(&self) -> Shared {
        Arc::clone(&self.seen)
    }

    fn vertices(&self) -> u32 {
        match self.shape {
            Shape::OneVertex => 1,
            Shape::TwoVertices => 2,
            Shape::Union | Shape::Keyed => 3,
        }
    }

    /// Every source and the vertex that it is in.
    fn sources(&self) -> Vec<(&'static str, u32)> {
        match self.shape {
            Shape::OneVertex | Shape::TwoVertices => vec![("source", 0)],
            Shape::Union | Shape::Keyed => vec![("source", 0), ("other", 1)],
        }
    }

    fn deploy(&self, attempt: u64, restore: Option<&TaskSnapshot>) -> Deploy {
        let deployment = |vertex| TaskDeployment {
            task: TaskId {
                vertex: VertexId(vertex),
                subtask: SubtaskIndex(0),
            },
            restore: restore.map_or_else(Vec::new, |snapshot| {
                snapshot.operators.clone().into_iter().collect()
            }),
        };
        Deploy {
            lineage: None,
            attempt: Attempt(attempt),
            job: String::new(),
            fingerprint: String::new(),
            parallelism: 1,
            bounded: self.bounded.iter().map(|uid| (*uid).into()).collect(),
            peers: Vec::new(),
            tasks: (0..self.vertices()).map(deployment).collect(),
        }
    }

    fn nodes(&self) -> Vec<PlannedNode> {
        let step = if self.is_keyed {
            let (tally, keeper) = Tally::new("operator", &self.seen);
            Step::Keyed(Box::new(tally), keeper)
        } else {
            Step::Operator((self.operator)(&self.seen))
        };
        let operator = PlannedNode {
            uid: "operator".into(),
            input: Port::Root,
            step,
        };
        let sink = PlannedNode {
            uid: "sink".into(),
            input: Port::Node(0),
            step: Step::Sink((self.sink)(&self.seen)),
        };
        vec![operator, sink]
    }
}

impl JobTasks for Job {
    fn edges(&self) -> Vec<TaskEdge> {
        let edge = |from, to| TaskEdge {
            id: EdgeId(from),
            from: VertexId(from),
            to: VertexId(to),
            input: InputIndex(usize::try_from(from).unwrap_or_default()),
            partitioning: if self.shape == Shape::Keyed {
                Partitioning::Hash {
                    columns: vec![0],
                    max_parallelism: 16,
                }
            } else {
                Partitioning::Forward
            },
        };
        match self.shape {
            Shape::OneVertex => Vec::new(),
            Shape::TwoVertices => vec![edge(0, 1)],
            Shape::Union | Shape::Keyed => vec![edge(0, 2), edge(1, 2)],
        }
    }

    fn parallelism(&self, _: VertexId) -> u32 {
        1
    }

    fn task(&self, task: TaskId, _: &Arc<dyn Clock>) -> millstream_operators::Result<TaskPlan> {
        let sources = self.sources();
        let mut own = sources
            .iter()
            .filter(|(_, vertex)| *vertex == task.vertex.0);
        let source = |uid: &str| {
            Root::Source(SourceRoot {
                uid: uid.into(),
                reader: Box::new(Counting::to(self.end)),
                watermark: Some(WatermarkPlan {
                    column: 1,
                    max_out_of_orderness: Duration::ZERO,
                    idle_timeout: None,
                }),
            })
        };
        let edges = self.edges().into_iter();
        let outputs = edges.filter(|edge| edge.from == task.vertex);
        let outputs: Vec<PlannedOutput> = outputs
            .map(|edge| PlannedOutput {
                input: Port::Root,
                edge: edge.id,
            })
            .collect();
        let is_last = task.vertex.0 + 1 == self.vertices();
        Ok(TaskPlan {
            root: own.next().map_or(Root::Edges, |(uid, _)| source(uid)),
            nodes: if is_last { self.nodes() } else { Vec::new() },
            outputs,
        })
    }

    fn state_memory(&self) -> Option<u64> {
        self.memory
    }

    fn state_directory(&self) -> Option<PathBuf> {
        None
    }

    fn state_files(&self, _: TaskId) -> Arc<dyn StateFiles> {
        Arc::clone(&self.files) as Arc<dyn StateFiles>
    }
}

/// Gives the worker whatever job is the current one.
struct Factory(Arc<Mutex<Job>>);

impl TaskFactory for Factory {
    fn job(&self, _: &Deploy) -> millstream_operators::Result<Box<dyn JobTasks>> {
        let job = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(gate) = &job.gate {
            gate.wait();
        }
        Ok(Box::new(job))
    }
}

pub(super) struct Coordinator {
    outgoing: Option<mpsc::Sender<ToWorker>>,
    incoming: mpsc::Receiver<ToCoordinator>,
    worker: JoinSet<Ended>,
    departure: Departure,
    activity: watch::Receiver<Activity>,
    job: Arc<Mutex<Job>>,
    attempt: Attempt,
    /// Of the barriers that it triggers.
    pub(super) aligned_timeout_ms: Option<u64>,
    /// Ends that were told while something else was waited for.
    ends: usize,
}

impl Coordinator {
    pub(super) async fn registered(job: &Job) -> Self {
        let (outgoing, to_worker) = mpsc::channel(16);
        let (to_coordinator, incoming) = mpsc::channel(16);
        let current = Arc::new(Mutex::new(job.clone()));
        let worker = Worker::new(Options {
            worker: WorkerId::from("test"),
            slots: 1,
            build: String::new(),
            factory: Arc::new(Factory(Arc::clone(&current))),
            clock: Arc::new(SystemClock::default()),
            threads: Threads::Own,
            state_memory: u64::MAX,
            state_directory: std::env::temp_dir(),
            pinning: Pinning::Off,
            exchange: None,
            cancel_timeout: Duration::from_secs(2),
        });
        let connection = CoordinatorConnection {
            outgoing: to_coordinator,
            incoming: to_worker,
            exchange: None,
        };
        let mut running = JoinSet::new();
        let departure = Departure::default();
        let activity = worker.activity();
        let told = departure.clone();
        running.spawn(async move { worker.run(connection, told).await });
        let mut coordinator = Self {
            outgoing: Some(outgoing),
            incoming,
            worker: running,
            departure,
            activity,
            job: current,
            attempt: Attempt(0),
            aligned_timeout_ms: None,
            ends: 0,
        };
        let register = coordinator.next().await;
        assert!(
            matches!(register, ToCoordinator::Register(_)),
            "{register:?}"
        );
        let heartbeat = Heartbeat {
            interval_ms: 50,
            timeout_ms: 60_000,
        };
        coordinator.say(ToWorker::Registered { heartbeat }).await;
        coordinator
    }

    pub(super) async fn with_running(job: &Job, attempt: u64) -> Self {
        let mut coordinator = Self::registered(job).await;
        coordinator.deploy(job, attempt, None).await;
        coordinator
    }

    pub(super) fn replace_job(&self, job: &Job) {
        *self.job.lock().unwrap() = job.clone();
    }

    /// Deploys, waits until everything runs, and gives the source its split if it has none.
    pub(super) async fn deploy(&mut self, job: &Job, attempt: u64, restore: Option<&TaskSnapshot>) {
        self.attempt = Attempt(attempt);
        self.ends = 0;
        let deploy = job.deploy(attempt, restore);
        let tasks = deploy.tasks.clone();
        self.say(ToWorker::Deploy(deploy)).await;
        for _ in 0..job.vertices() {
            let running =
                self.until(|message| matches!(message, ToCoordinator::TaskRunning { .. }));
            running.await;
        }
        if restore.is_none() {
            for (uid, vertex) in job.sources() {
                let task = tasks.iter().find(|one| one.task.vertex.0 == vertex);
                self.say(ToWorker::AddSplits {
                    attempt: self.attempt,
                    task: task.unwrap().task,
                    uid: uid.into(),
                    splits: vec![split("part-0")],
                })
                .await;
            }
        }
    }

    /// Deploys, and waits for nothing.
    pub(super) async fn deploy_from(&mut self, job: &Job, attempt: u64, restore: &TaskSnapshot) {
        self.attempt = Attempt(attempt);
        self.say(ToWorker::Deploy(job.deploy(attempt, Some(restore))))
            .await;
    }

    /// Sends a deployment that the worker must not act on.
    pub(super) async fn deploy_unseen(&self, job: &Job, attempt: u64) {
        self.say(ToWorker::Deploy(job.deploy(attempt, None))).await;
    }

    pub(super) async fn trigger(&self, checkpoint: u64, kind: CheckpointKind) {
        self.trigger_in(self.attempt.0, checkpoint, kind).await;
    }

    pub(super) async fn trigger_in(&self, attempt: u64, checkpoint: u64, kind: CheckpointKind) {
        let barrier = millstream_types::Barrier {
            checkpoint: CheckpointId(checkpoint),
            kind,
            triggered_at: Timestamp(0),
            aligned_timeout_ms: self.aligned_timeout_ms,
        };
        let attempt = Attempt(attempt);
        self.say(ToWorker::Trigger { attempt, barrier }).await;
    }

    pub(super) async fn completed(&self, checkpoint: u64, committed: bool) {
        self.say(ToWorker::Completed {
            attempt: self.attempt,
            checkpoint: CheckpointId(checkpoint),
            committed,
        })
        .await;
    }

    pub(super) async fn aborted(&self, checkpoint: u64) {
        self.say(ToWorker::Aborted {
            attempt: self.attempt,
            checkpoint: CheckpointId(checkpoint),
        })
        .await;
    }

    pub(super) async fn acknowledged(&mut self, number: u64) -> TaskSnapshot {
        self.acknowledged_by_all(number, 1).await
    }

    /// The snapshots of all tasks in one.
    pub(super) async fn acknowledged_by_all(&mut self, number: u64, tasks: u32) -> TaskSnapshot {
        let mut all = TaskSnapshot::default();
        for _ in 0..tasks {
            let acknowledged = |message: &ToCoordinator| {
                matches!(message, ToCoordinator::CheckpointAcknowledged { .. })
            };
            let ToCoordinator::CheckpointAcknowledged {
                checkpoint,
                snapshot,
                ..
            } = self.until(acknowledged).await
            else {
                unreachable!()
            };
            assert_eq!(checkpoint, CheckpointId(number));
            all.operators.extend(snapshot.operators);
        }
        all
    }

    /// Whether no snapshot has come, in what has come so far.
    pub(super) fn has_not_acknowledged(&mut self) -> bool {
        while let Ok(message) = self.incoming.try_recv() {
            if matches!(message, ToCoordinator::CheckpointAcknowledged { .. }) {
                return false;
            }
        }
        true
    }

    pub(super) async fn declined(&mut self, number: u64) -> Failure {
        let declined = self
            .until(|message| matches!(message, ToCoordinator::CheckpointDeclined { .. }))
            .await;
        let ToCoordinator::CheckpointDeclined {
            checkpoint,
            failure,
            ..
        } = declined
        else {
            unreachable!()
        };
        assert_eq!(checkpoint, CheckpointId(number));
        failure
    }

    pub(super) async fn ended(&mut self) {
        if self.ends > 0 {
            self.ends -= 1;
            return;
        }
        self.until(|message| matches!(message, ToCoordinator::TaskEnded { .. }))
            .await;
    }

    pub(super) async fn failed(&mut self) -> Failure {
        let failed = self
            .until(|message| matches!(message, ToCoordinator::TaskFailed { .. }))
            .await;
        let ToCoordinator::TaskFailed { failure, .. } = failed else {
            unreachable!()
        };
        failure
    }

    pub(super) async fn heartbeat(&mut self) -> Vec<TaskProgress> {
        let beat = self
            .until(|message| matches!(message, ToCoordinator::Heartbeat { .. }))
            .await;
        let ToCoordinator::Heartbeat { progress } = beat else {
            unreachable!()
        };
        progress
    }

    /// Waits until a task spends all its time on waiting for room.
    pub(super) async fn backpressured(&mut self) {
        let is_full = |task: &TaskProgress| {
            let load = task.load.as_ref();
            load.is_some_and(|load| load.backpressured > 900)
        };
        let within = tokio::time::Instant::now() + PATIENCE;
        while !self.heartbeat().await.iter().any(is_full) {
            assert!(
                tokio::time::Instant::now() < within,
                "no task waits for room"
            );
        }
    }

    /// Tells the worker to leave, and waits until it asks for that.
    pub(super) async fn told_to_leave(&mut self) {
        self.departure.leave.cancel();
        self.until(|message| *message == ToCoordinator::Leaving)
            .await;
    }

    pub(super) fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.clone()
    }

    pub(super) async fn cancel(&mut self, attempt: u64) {
        let attempt = Attempt(attempt);
        self.say(ToWorker::Cancel { attempt }).await;
        let cancelled = ToCoordinator::Cancelled { attempt };
        self.until(move |message| *message == cancelled).await;
    }

    /// Waits until the sink has written more than it had.
    pub(super) async fn more_written(&self, job: &Job) {
        let before = job.seen().written;
        let more = async {
            while job.seen().written == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, more)
            .await
            .expect("more rows");
    }

    /// What the worker wants to tell from now on cannot be sent.
    pub(super) fn listen_no_more(&mut self) {
        self.incoming.close();
    }

    pub(super) fn close(&mut self) {
        self.outgoing = None;
    }

    pub(super) async fn end(mut self) -> Ended {
        let ended = tokio::time::timeout(PATIENCE, self.worker.join_next()).await;
        ended.expect("an end in time").expect("a worker").unwrap()
    }

    pub(super) async fn shut_down(self) {
        self.say(ToWorker::Shutdown).await;
        assert_eq!(self.end().await, Ended::Shutdown);
    }

    async fn say(&self, message: ToWorker) {
        let outgoing = self.outgoing.as_ref().expect("an open connection");
        outgoing.send(message).await.expect("a listening worker");
    }

    async fn next(&mut self) -> ToCoordinator {
        let message = tokio::time::timeout(PATIENCE, self.incoming.recv()).await;
        message.expect("a message in time").expect("a message")
    }

    /// The next message that is wanted; heartbeats and progress in between are passed over, a
    /// failure that is not wanted is not.
    async fn until(&mut self, wanted: impl Fn(&ToCoordinator) -> bool) -> ToCoordinator {
        loop {
            let message = self.next().await;
            if wanted(&message) {
                return message;
            }
            self.ends += usize::from(matches!(message, ToCoordinator::TaskEnded { .. }));
            assert!(
                !matches!(message, ToCoordinator::TaskFailed { .. }),
                "{message:?}"
            );
        }
    }
}
