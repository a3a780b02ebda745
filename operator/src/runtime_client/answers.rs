//! What the operator reads of a coordinator's answers. Fields that are not listed are ignored.

use std::fmt;

use millstream_types::ErrorCode;
use serde::Deserialize;

use crate::text;

/// Longest text of an answer that is kept, bytes.
pub(super) const TEXT_BYTES_MAX: usize = 2_000;
/// Most gaps of an audit that are kept.
const GAPS_MAX: usize = 20;

/// What a job is doing, as its coordinator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum RuntimeState {
    /// Claims the chain, reads it and resolves what the last attempt left.
    Restoring,
    /// Waits until enough workers have registered.
    WaitingForWorkers,
    /// Tasks are being started.
    Deploying,
    /// All tasks run.
    Running,
    /// An attempt has failed; the next begins after the restart delay.
    Restarting,
    /// Takes the checkpoint or savepoint it stops with.
    Stopping,
    /// Stopped by request; the chain is released.
    Stopped,
    /// Bounded sources have ended and everything is committed.
    Completed,
    /// Given up; a person must act.
    Failed,
    /// A state of a runtime that is newer than this operator.
    #[serde(other)]
    Unknown,
}

impl RuntimeState {
    /// Whether the job will not change its state any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped | Self::Completed | Self::Failed)
    }
}

/// `GET /v1/job`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeStatus {
    /// What it is doing.
    pub state: RuntimeState,
    /// Since when, milliseconds since 1970-01-01T00:00:00Z.
    pub since: u64,
    /// The current or last attempt.
    pub attempt: u64,
    /// Restarts since this coordinator began.
    pub restarts: u64,
    /// Parallelism of the current attempt.
    pub parallelism: u32,
    /// The deployment that this coordinator was started for.
    #[serde(default)]
    pub deployment: Option<u64>,
    /// Path that the current attempt was restored from.
    pub restored_from: Option<String>,
    /// Path of the savepoint that the job has been stopped with.
    #[serde(default)]
    pub savepoint: Option<String>,
    /// The newest completed checkpoint.
    pub last_checkpoint: Option<CompletedCheckpoint>,
    /// Checkpoints that have failed since one completed, while the attempt goes on.
    #[serde(default)]
    pub checkpoint_failures: Option<CheckpointFailures>,
    /// Why the last attempt failed.
    pub last_failure: Option<RuntimeFailure>,
    /// What is waited for; empty when all is well.
    pub message: String,
    /// Registered workers.
    pub workers: Vec<WorkerSlots>,
}

impl RuntimeStatus {
    /// With texts that fit into a status.
    pub(super) fn bounded(mut self) -> Self {
        self.message = text::cut(self.message, TEXT_BYTES_MAX);
        self.last_failure = self.last_failure.map(RuntimeFailure::bounded);
        if let Some(failures) = &mut self.checkpoint_failures {
            failures.last = failures.last.clone().bounded();
        }
        self
    }
}

/// A completed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "WireCheckpoint")]
pub struct CompletedCheckpoint {
    /// Its number.
    pub id: u64,
    /// Where its manifest lies.
    pub path: String,
    /// When it completed, milliseconds since 1970-01-01T00:00:00Z.
    pub completed_at: u64,
    /// From trigger to decision, milliseconds.
    pub duration_ms: u64,
    /// Bytes of everything it names.
    pub size_bytes: u64,
}

/// A checkpoint as it is sent. The time of completion is sent, or follows from when the
/// checkpoint was triggered and how long it took.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireCheckpoint {
    id: u64,
    path: Option<String>,
    #[serde(default)]
    completed_at: Option<u64>,
    #[serde(default)]
    triggered_at: u64,
    duration_ms: Option<u64>,
    size_bytes: Option<u64>,
}

impl From<WireCheckpoint> for CompletedCheckpoint {
    fn from(wire: WireCheckpoint) -> Self {
        let duration_ms = wire.duration_ms.unwrap_or(0);
        let completed_at = wire.completed_at;
        Self {
            id: wire.id,
            path: wire.path.unwrap_or_default(),
            completed_at: completed_at
                .unwrap_or_else(|| wire.triggered_at.saturating_add(duration_ms)),
            duration_ms,
            size_bytes: wire.size_bytes.unwrap_or(0),
        }
    }
}

/// Checkpoints that have failed one after another.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointFailures {
    /// How many.
    pub in_a_row: u32,
    /// How many in a row are tolerated; one more restarts the job.
    pub tolerable: u32,
    /// Why the last of them failed.
    pub last: RuntimeFailure,
}

/// An error of the runtime.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RuntimeFailure {
    /// Which error; has a page in `docs/errors/`.
    pub code: String,
    /// What to do about it: `Retryable`, `InvalidJob`, `DataLoss`, …
    pub kind: String,
    /// What happened, where, and what to do.
    pub message: String,
}

impl RuntimeFailure {
    fn bounded(self) -> Self {
        Self {
            code: text::cut(self.code, 100),
            kind: text::cut(self.kind, 100),
            message: text::cut(self.message, TEXT_BYTES_MAX),
        }
    }
}

impl fmt::Display for RuntimeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", ErrorCode::title_of(&self.code), self.message)
    }
}

/// One registered worker.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct WorkerSlots {
    /// Its name.
    pub worker: String,
    /// Its slots.
    pub slots: u32,
    /// Tasks that run in it.
    pub tasks: u32,
}

/// How far a savepoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum SavepointProgress {
    /// It is being taken.
    InProgress,
    /// It is complete.
    Completed,
    /// It failed; asking again tries again.
    Failed,
}

/// `GET /v1/savepoints/{name}`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeSavepoint {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub state: SavepointProgress,
    /// Its checkpoint number, once triggered.
    #[serde(default)]
    pub id: Option<u64>,
    /// Where it lies, once completed.
    #[serde(default)]
    pub path: Option<String>,
    /// Bytes of everything it names, if the coordinator says so here.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Why it failed.
    #[serde(default)]
    pub failure: Option<RuntimeFailure>,
}

impl RuntimeSavepoint {
    /// With texts that fit into a status.
    pub(super) fn bounded(mut self) -> Self {
        self.failure = self.failure.map(RuntimeFailure::bounded);
        self
    }
}

/// `GET /v1/audit`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AuditReport {
    /// The checkpoint that the counters are of.
    #[serde(default)]
    pub checkpoint: Option<u64>,
    /// What has not added up; empty when every record is accounted for.
    #[serde(default)]
    pub gaps: Vec<String>,
}

impl AuditReport {
    /// With texts that fit into a status.
    pub(super) fn bounded(mut self) -> Self {
        self.gaps.truncate(GAPS_MAX);
        for gap in &mut self.gaps {
            *gap = text::cut(std::mem::take(gap), TEXT_BYTES_MAX);
        }
        self
    }
}

/// `GET /v1/checkpoints`
#[derive(Debug, Deserialize)]
pub(super) struct CheckpointList {
    pub(super) checkpoints: Vec<ListedCheckpoint>,
}

/// One checkpoint or savepoint of the list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedCheckpoint {
    #[serde(default)]
    pub(super) path: Option<String>,
    #[serde(default)]
    pub(super) size_bytes: Option<u64>,
}

/// Body of an answer of 400 or above.
#[derive(Debug, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) code: Option<String>,
    pub(super) message: String,
}
