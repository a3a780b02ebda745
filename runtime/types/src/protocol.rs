//! What coordinator and worker say to each other.
//!
//! One connection per worker carries both directions, in order. Its end is the news that the
//! other side is gone; heartbeats are the fallback. Every message about a running job carries
//! the attempt; receivers drop those of older attempts.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::ids::TaskId;
use crate::load::TaskLoad;
use crate::snapshot::{Counters, OperatorSnapshot, SplitState, TaskSnapshot};
use crate::{Attempt, Barrier, CheckpointId, Failure, Lineage, OperatorUid, WorkerId};

/// Version of this protocol. Both sides refuse another one.
pub const PROTOCOL_VERSION: u32 = 4;

/// From a worker to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ToCoordinator {
    /// First message of a connection.
    Register(Register),
    /// The worker is alive. Sent every heartbeat interval.
    Heartbeat {
        /// How every running task stands, for people and metrics.
        progress: Vec<TaskProgress>,
    },
    /// A task of the attempt runs.
    TaskRunning {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which task.
        task: TaskId,
    },
    /// A task has passed the barrier and everything its snapshot names is durable.
    CheckpointAcknowledged {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Which task.
        task: TaskId,
        /// Its state.
        snapshot: TaskSnapshot,
        /// How the barrier has come through it.
        #[serde(default)]
        passage: Passage,
    },
    /// A task cannot take part in a checkpoint, but goes on.
    CheckpointDeclined {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Which task.
        task: TaskId,
        /// Why.
        failure: Failure,
    },
    /// A bounded task has emitted everything. It waits for the final checkpoint.
    TaskEnded {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which task.
        task: TaskId,
    },
    /// A task has failed and stopped.
    TaskFailed {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which task.
        task: TaskId,
        /// Why.
        failure: Failure,
    },
    /// The worker is to go, and waits for [`ToWorker::Shutdown`]. Its tasks run on until then, so
    /// that a checkpoint can be taken with them.
    Leaving,
    /// Every task of the attempt has stopped after [`ToWorker::Cancel`].
    Cancelled {
        /// The attempt.
        attempt: Attempt,
    },
}

/// How a barrier has come through a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// From when it was in the first channel until the task passed it, milliseconds.
    pub alignment_ms: u64,
    /// Whether it has overtaken records.
    pub unaligned: bool,
}

/// Who a worker is and what it offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Register {
    /// [`PROTOCOL_VERSION`] of the worker.
    pub protocol: u32,
    /// Name of the process.
    pub worker: WorkerId,
    /// How many subtasks of each vertex may run in it.
    pub slots: u32,
    /// Version of the build, for people.
    pub build: String,
    /// Where other workers reach its exchange, as `host:port`; none if they cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
}

/// How one running task stands. It is no snapshot: nothing is restored from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskProgress {
    /// Which task.
    pub task: TaskId,
    /// Running totals of its operators.
    #[serde(default)]
    pub counters: BTreeMap<OperatorUid, Counters>,
    /// Where the splits of its source stand.
    #[serde(default)]
    pub positions: BTreeMap<OperatorUid, Vec<SplitState>>,
    /// How busy it is; `None` until it has been measured once.
    #[serde(default)]
    pub load: Option<TaskLoad>,
}

impl TaskProgress {
    /// Counters and positions of a snapshot.
    pub fn of(task: TaskId, snapshot: TaskSnapshot) -> Self {
        let mut counters = BTreeMap::new();
        let mut positions = BTreeMap::new();
        for (uid, operator) in snapshot.operators {
            if !operator.splits.is_empty() {
                positions.insert(uid.clone(), operator.splits);
            }
            counters.insert(uid, operator.counters);
        }
        Self {
            task,
            counters,
            positions,
            load: None,
        }
    }
}

/// From the coordinator to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ToWorker {
    /// Answer to [`ToCoordinator::Register`].
    Registered {
        /// How often to send heartbeats, and after how much silence to give up, milliseconds.
        heartbeat: Heartbeat,
    },
    /// The coordinator refuses the worker; the connection ends.
    Refused {
        /// Why.
        failure: Failure,
    },
    /// Start these tasks.
    Deploy(Deploy),
    /// New splits of a source for one subtask, to read from their positions.
    AddSplits {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which task.
        task: TaskId,
        /// Which source in it.
        uid: OperatorUid,
        /// The splits.
        splits: Vec<SplitState>,
    },
    /// Sources: emit this barrier now.
    Trigger {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// The barrier.
        barrier: Barrier,
    },
    /// The checkpoint is decided and, if its kind commits, every committable in it is committed.
    Completed {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which checkpoint.
        checkpoint: CheckpointId,
        /// Whether its committables were committed (not so for a savepoint).
        committed: bool,
    },
    /// The checkpoint will never be decided. Prepared transactions stay for the next one.
    Aborted {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which checkpoint.
        checkpoint: CheckpointId,
    },
    /// Stop all tasks of the attempt and answer [`ToCoordinator::Cancelled`].
    Cancel {
        /// The attempt.
        attempt: Attempt,
    },
    /// The job is over, or goes on without the worker that wanted to leave: it may exit.
    Shutdown,
}

/// Heartbeat settings of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Between two heartbeats, milliseconds.
    pub interval_ms: u64,
    /// Silence after which the other side counts as gone, milliseconds.
    pub timeout_ms: u64,
}

/// Tasks for one worker in one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// The attempt that begins.
    pub attempt: Attempt,
    /// The chain that it is an attempt of; chains of older builds have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lineage: Option<Lineage>,
    /// The job file, as the coordinator read it. The worker plans it again.
    pub job: String,
    /// Fingerprint of the coordinator's job graph; the worker's own must be equal.
    pub fingerprint: String,
    /// The job's parallelism in this attempt.
    pub parallelism: u32,
    /// Sources that will find no more splits than the tasks are deployed with.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub bounded: BTreeSet<OperatorUid>,
    /// The other workers of the attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// What to start.
    pub tasks: Vec<TaskDeployment>,
}

/// Another worker of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub worker: WorkerId,
    /// Where its exchange is reached, as it has registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<String>,
    /// The tasks that it runs.
    pub tasks: Vec<TaskId>,
}

/// One task to start, with the state it starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskDeployment {
    /// Which task.
    pub task: TaskId,
    /// State by operator uid. Committables are already resolved and not in it.
    pub restore: Vec<(OperatorUid, OperatorSnapshot)>,
}
