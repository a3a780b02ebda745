//! A worker that speaks the protocol: it runs no records, but keeps positions and transactions as
//! tasks do.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_coordinator::{OUTGOING_CAPACITY, WorkerConnection};
use millstream_types::ids::TaskId;
use millstream_types::load::{ChannelLoad, TaskLoad};
use millstream_types::protocol::{
    Deploy, PROTOCOL_VERSION, Register, TaskProgress, ToCoordinator, ToWorker,
};
use millstream_types::{
    Attempt, Barrier, CheckpointId, Committable, EventTime, Opaque, OperatorUid, TaskSnapshot,
    WorkerId,
};
use tokio::sync::{Notify, mpsc};

use crate::keyed::{Keyed, step_of};
use crate::sink::{Stand, TestSink};

/// Records that a split grows by from one barrier to the next.
pub(crate) const STEP: u64 = 10;

/// What a worker has been told.
pub(crate) type Log = Arc<Mutex<Vec<ToWorker>>>;

/// How a worker behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    /// Sends no heartbeats.
    pub(crate) silent: bool,
    /// Its source tasks end after so many barriers.
    pub(crate) ends_after: Option<u64>,
    /// Does not acknowledge checkpoints.
    pub(crate) ignores_barriers: bool,
    /// Speaks another version of the protocol.
    pub(crate) protocol: Option<u32>,
    /// One of its operators keeps state.
    pub(crate) keyed: Option<Keyed>,
}

/// A connected worker; dropping it breaks the connection.
pub(crate) struct TestWorker {
    /// What it was told.
    pub(crate) log: Log,
    leave: Arc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl TestWorker {
    /// Connects a worker with slots.
    #[expect(
        clippy::disallowed_methods,
        reason = "the worker owns the task and aborts it"
    )]
    pub(crate) async fn connect(
        name: &str,
        slots: u32,
        sink: &TestSink,
        manners: Manners,
        connections: &mpsc::Sender<WorkerConnection>,
    ) -> Self {
        let (outgoing, from_coordinator) = mpsc::channel(OUTGOING_CAPACITY);
        let (to_coordinator, incoming) = mpsc::channel(256);
        let connection = WorkerConnection { outgoing, incoming };
        connections.send(connection).await.unwrap();
        let log = Log::default();
        let leave = Arc::new(Notify::new());
        let life = Life {
            name: name.to_owned(),
            slots,
            manners,
            sink: sink.clone(),
            log: Arc::clone(&log),
            leave: Arc::clone(&leave),
            attempt: Attempt(0),
            tasks: BTreeMap::new(),
            barriers: 0,
            passed: None,
            outgoing: to_coordinator,
        };
        let task = tokio::spawn(life.run(from_coordinator));
        Self { log, leave, task }
    }

    /// Tells the coordinator that it wants to go.
    pub(crate) fn leave(&self) {
        self.leave.notify_one();
    }

    /// Whether it was told anything like this.
    pub(crate) fn was_told(&self, wanted: impl Fn(&ToWorker) -> bool) -> bool {
        self.log.lock().unwrap().iter().any(wanted)
    }

    /// The newest deployment.
    pub(crate) fn deployment(&self) -> Option<Deploy> {
        let log = self.log.lock().unwrap();
        log.iter().rev().find_map(|message| match message {
            ToWorker::Deploy(deploy) => Some(deploy.clone()),
            _ => None,
        })
    }
}

/// What every task says of its load.
fn load(task: TaskId, aligned: Option<CheckpointId>) -> TaskLoad {
    TaskLoad {
        busy: 700,
        backpressured: 250,
        idle: 50,
        watermark: Some(EventTime(1_500_000)),
        channels: vec![ChannelLoad {
            from: task,
            input: 0,
            queued_bytes: 512,
            queue_fill: 500,
            watermark: None,
            alignment_ms: Some(40),
        }],
        aligned,
        state: None,
    }
}

struct Life {
    name: String,
    slots: u32,
    manners: Manners,
    sink: TestSink,
    log: Log,
    leave: Arc<Notify>,
    attempt: Attempt,
    tasks: BTreeMap<TaskId, TaskSnapshot>,
    barriers: u64,
    /// The newest checkpoint that its tasks have acknowledged.
    passed: Option<CheckpointId>,
    outgoing: mpsc::Sender<ToCoordinator>,
}

impl Life {
    async fn run(mut self, mut incoming: mpsc::Receiver<ToWorker>) {
        let register = Register {
            protocol: self.manners.protocol.unwrap_or(PROTOCOL_VERSION),
            worker: WorkerId(self.name.clone()),
            slots: self.slots,
            build: "test".to_owned(),
            exchange: Some(format!("{}:6124", self.name)),
        };
        self.say(ToCoordinator::Register(register)).await;
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        loop {
            tokio::select! {
                message = incoming.recv() => {
                    let Some(message) = message else { return };
                    self.log.lock().unwrap().push(message.clone());
                    self.obey(message).await;
                }
                _ = beat.tick(), if !self.manners.silent => self.beat().await,
                () = self.leave.notified() => self.say(ToCoordinator::Leaving).await,
            }
        }
    }

    async fn say(&self, message: ToCoordinator) {
        // The coordinator may be gone; then the next receive ends this worker.
        drop(self.outgoing.send(message).await);
    }

    async fn beat(&self) {
        let progress = self
            .tasks
            .iter()
            .map(|(task, snapshot)| TaskProgress {
                load: Some(load(*task, self.passed)),
                ..TaskProgress::of(*task, snapshot.clone())
            })
            .collect();
        self.say(ToCoordinator::Heartbeat { progress }).await;
    }

    async fn obey(&mut self, message: ToWorker) {
        match message {
            ToWorker::Deploy(deploy) => self.deploy(deploy).await,
            ToWorker::AddSplits {
                task, uid, splits, ..
            } => {
                let snapshot = self.tasks.get_mut(&task).unwrap();
                let operator = snapshot.operators.get_mut(&uid).unwrap();
                operator.splits.extend(splits);
            }
            ToWorker::Trigger { barrier, .. } => self.pass(barrier).await,
            ToWorker::Completed {
                checkpoint,
                committed: true,
                ..
            } => self.committed(checkpoint),
            ToWorker::Cancel { attempt } => {
                self.tasks.clear();
                self.say(ToCoordinator::Cancelled { attempt }).await;
            }
            ToWorker::Registered { .. }
            | ToWorker::Refused { .. }
            | ToWorker::Completed { .. }
            | ToWorker::Aborted { .. }
            | ToWorker::Shutdown => {}
        }
    }

    async fn deploy(&mut self, deploy: Deploy) {
        let attempt = deploy.attempt;
        self.attempt = attempt;
        self.barriers = 0;
        self.tasks = deploy
            .tasks
            .into_iter()
            .map(|deployment| {
                let operators = deployment.restore.into_iter().collect();
                (deployment.task, TaskSnapshot { operators })
            })
            .collect();
        self.restore().await;
        for task in self.tasks.keys().copied().collect::<Vec<_>>() {
            self.say(ToCoordinator::TaskRunning { attempt, task }).await;
        }
    }

    /// Takes over keyed state, if there is any.
    async fn restore(&mut self) {
        let Some(keyed) = &self.manners.keyed else {
            return;
        };
        let step = step_of(self.tasks.values());
        for (task, snapshot) in &mut self.tasks {
            if let Some(operator) = snapshot.operators.get_mut(&keyed.operator) {
                keyed.restore(*task, operator, step).await;
            }
        }
    }

    /// Writes keyed state, if there is any.
    async fn keep(&mut self, at: (Attempt, CheckpointId)) {
        let Some(keyed) = &self.manners.keyed else {
            return;
        };
        let step = step_of(self.tasks.values());
        for (task, snapshot) in &mut self.tasks {
            if let Some(operator) = snapshot.operators.get_mut(&keyed.operator) {
                keyed.pass(operator, *task, at, step).await;
            }
        }
    }

    /// Reads a step from every split and writes it into a transaction of its own.
    async fn pass(&mut self, barrier: Barrier) {
        if self.manners.ignores_barriers {
            return;
        }
        self.barriers += 1;
        let (attempt, checkpoint) = (self.attempt, barrier.checkpoint);
        let ends = self.manners.ends_after == Some(self.barriers);
        let ended = self
            .manners
            .ends_after
            .is_some_and(|after| self.barriers > after);
        for (task, snapshot) in &mut self.tasks {
            let emitted = if ended { 0 } else { read(snapshot, ends) };
            write(&self.sink, snapshot, emitted, *task, (attempt, checkpoint));
        }
        self.keep((attempt, checkpoint)).await;
        let keyed = self.manners.keyed.clone();
        if keyed.as_ref().is_some_and(|keyed| keyed.withholds) {
            return;
        }
        for (task, mut snapshot) in self.tasks.clone() {
            if let Some(keyed) = &keyed
                && let Some(operator) = snapshot.operators.get_mut(&keyed.operator)
            {
                keyed.told(operator);
            }
            self.say(ToCoordinator::CheckpointAcknowledged {
                attempt,
                checkpoint,
                task,
                snapshot,
                passage: millstream_types::protocol::Passage::default(),
            })
            .await;
            if ends {
                self.say(ToCoordinator::TaskEnded { attempt, task }).await;
            }
        }
        self.passed = Some(checkpoint);
    }

    fn committed(&mut self, checkpoint: CheckpointId) {
        for snapshot in self.tasks.values_mut() {
            for operator in snapshot.operators.values_mut() {
                operator
                    .committables
                    .retain(|committable| committable.checkpoint > checkpoint);
            }
        }
    }
}

/// What a task emits: from its source, or the counts of those that have grouped.
fn read(snapshot: &mut TaskSnapshot, ends: bool) -> u64 {
    if snapshot
        .operators
        .contains_key(&OperatorUid::from("counts"))
    {
        return STEP;
    }
    let mut operators = snapshot.operators.values_mut();
    let Some(source) = operators.find(|operator| !operator.splits.is_empty()) else {
        return 0;
    };
    for split in &mut source.splits {
        let position: u64 = split.position.0.parse().unwrap();
        split.position = Opaque((position + STEP).to_string());
        split.records += STEP;
        split.finished = ends;
    }
    let emitted = STEP * source.splits.len() as u64;
    source.counters.records_in += emitted;
    source.counters.records_out += emitted;
    emitted
}

fn write(
    sink: &TestSink,
    snapshot: &mut TaskSnapshot,
    records: u64,
    task: TaskId,
    (attempt, checkpoint): (Attempt, CheckpointId),
) {
    let out = snapshot.operators.get_mut(&OperatorUid::from("out"));
    let Some(out) = out else {
        return;
    };
    out.counters.records_in += records;
    out.counters.records_out += records;
    if records == 0 {
        return;
    }
    let name = format!("{attempt}-{checkpoint}-{}", task.subtask);
    let mut ledger = sink.0.lock().unwrap();
    ledger
        .transactions
        .insert(name.clone(), (attempt, Stand::Open));
    out.committables.push(Committable {
        checkpoint,
        transaction: Opaque(name),
        records,
    });
}
