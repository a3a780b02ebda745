//! Bodies of the coordinator's REST interface, as the coordinator writes them. The operator and
//! `kubectl streamjob` read them with types of their own that allow for other versions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::snapshot::Counters;
use crate::{
    Attempt, CheckpointId, CheckpointKind, Deployment, Failure, JobId, OperatorUid, Timestamp,
};

/// What the job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JobState {
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
    /// Takes the savepoint it stops with.
    Stopping,
    /// Stopped by request; the chain is released.
    Stopped,
    /// Bounded sources have ended and everything is committed.
    Completed,
    /// Given up; a person must act.
    Failed,
}

impl JobState {
    /// Whether the job will not change its state any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped | Self::Completed | Self::Failed)
    }
}

/// `GET /v1/job`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobStatus {
    /// Which job.
    pub job: JobId,
    /// What it is doing.
    pub state: JobState,
    /// Since when.
    pub since: Timestamp,
    /// The deployment of the job that this coordinator was started for, where an operator has
    /// started it.
    #[serde(default)]
    pub deployment: Option<Deployment>,
    /// The current or last attempt.
    pub attempt: Attempt,
    /// Restarts since this coordinator began.
    pub restarts: u64,
    /// Parallelism of the current attempt.
    pub parallelism: u32,
    /// Registered workers and their slots.
    pub workers: Vec<WorkerStatus>,
    /// Path of the checkpoint or savepoint that the current or last attempt was restored from.
    pub restored_from: Option<String>,
    /// The newest checkpoint that this coordinator has gone back from, because all of its output
    /// was aborted before it could be committed.
    #[serde(default)]
    pub given_up: Option<GivenUp>,
    /// Path of the savepoint that the job was stopped with.
    #[serde(default)]
    pub savepoint: Option<String>,
    /// The newest completed checkpoint.
    pub last_checkpoint: Option<CheckpointSummary>,
    /// Checkpoints that have failed since one completed, while the attempt goes on.
    #[serde(default)]
    pub checkpoint_failures: Option<CheckpointFailures>,
    /// Totals per operator over all subtasks, as last reported.
    pub operators: BTreeMap<OperatorUid, Counters>,
    /// How far each source is behind, where it can say so: those of Kafka, every few seconds while
    /// the job runs.
    #[serde(default)]
    pub lags: BTreeMap<OperatorUid, Vec<SplitLag>>,
    /// Why the last attempt failed.
    pub last_failure: Option<Failure>,
    /// What is waited for, since when, and what a person can do. Empty when all is well.
    pub message: String,
}

/// How far a split is from being read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SplitLag {
    /// Its name: `<topic>/<partition>`.
    pub split: String,
    /// Offsets that can be read now and are not yet: records, and what stands between them in a
    /// topic with transactions.
    pub pending_records: u64,
    /// What cannot be read yet.
    #[serde(default)]
    pub held_back: Option<HeldBack>,
}

/// The end of a partition that nobody sees who reads committed records only, because a transaction is
/// open before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldBack {
    /// Offsets from the first record of the open transaction on.
    pub records: u64,
    /// `transactional.id` of the transaction, where it may be seen.
    #[serde(default)]
    pub transactional_id: Option<String>,
    /// Id of its producer, where that may be seen.
    #[serde(default)]
    pub producer_id: Option<i64>,
}

/// A checkpoint that the job has gone back from: all of its output was aborted before it could be
/// committed, and nothing of it was ever visible. Nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GivenUp {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// The checkpoint before it, from which the job went on.
    pub went_back_to: CheckpointId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub failure: Failure,
}

/// Checkpoints that have failed one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointFailures {
    /// How many.
    pub in_a_row: u32,
    /// How many in a row are tolerated; one more restarts the job.
    pub tolerable: u32,
    /// Why the last of them failed.
    pub last: Failure,
}

/// One registered worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Its name.
    pub worker: String,
    /// Its slots.
    pub slots: u32,
    /// Tasks that run in it.
    pub tasks: u32,
}

/// How a checkpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CheckpointState {
    /// Barriers flow.
    InProgress,
    /// Decided; its manifest is in the chain (or savepoint).
    Completed,
    /// Will never be decided.
    Failed,
}

/// One checkpoint or savepoint in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSummary {
    /// Its number.
    pub id: CheckpointId,
    /// What it is for.
    pub kind: CheckpointKind,
    /// How it stands.
    pub state: CheckpointState,
    /// The attempt that took it.
    pub attempt: Attempt,
    /// When it was triggered.
    pub triggered_at: Timestamp,
    /// When it was decided and committed.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
    /// From trigger to decision, milliseconds.
    pub duration_ms: Option<u64>,
    /// Bytes of everything its manifest names, and of the manifest.
    pub size_bytes: Option<u64>,
    /// Where its manifest lies.
    pub path: Option<String>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// `GET /v1/checkpoints`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointList {
    /// Counts since this coordinator began.
    pub counts: CheckpointCounts,
    /// The newest first, at most 100.
    pub checkpoints: Vec<CheckpointSummary>,
}

/// Numbers of checkpoints since this coordinator began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointCounts {
    /// Triggered.
    pub triggered: u64,
    /// Decided.
    pub completed: u64,
    /// Failed.
    pub failed: u64,
}

/// `GET /v1/checkpoints/{id}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: CheckpointSummary,
    /// Tasks that have acknowledged it.
    pub acknowledged: u32,
    /// Tasks that must.
    pub tasks: u32,
    /// Totals per operator in it.
    pub operators: BTreeMap<OperatorUid, Counters>,
}

/// Body of `POST /v1/savepoints`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SavepointRequest {
    /// Name of the savepoint, chosen by the caller, so that a repeated request is the same one:
    /// lower-case letters, digits and `-`, at most 63.
    pub name: String,
}

/// `GET /v1/savepoints/{name}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SavepointStatus {
    /// Its name.
    pub name: String,
    /// How it stands.
    pub state: CheckpointState,
    /// Its checkpoint number, once triggered.
    pub id: Option<CheckpointId>,
    /// Where it lies, once completed.
    pub path: Option<String>,
    /// Bytes of it, once completed.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// Body of `POST /v1/stop`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct StopRequest {
    /// Take a savepoint of this name and stop after it. Without it the job stops after a last
    /// checkpoint.
    pub savepoint: Option<String>,
    /// End the job for good: fire windows and timers before the savepoint.
    pub drain: bool,
}

/// Body of an answer with a status of 400 or above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// Code with a page in `docs/errors/`, where there is one.
    pub code: Option<String>,
    /// What was wrong and what to do.
    pub message: String,
}
