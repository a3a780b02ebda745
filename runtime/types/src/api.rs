//! Bodies of the coordinator's REST interface: the coordinator writes them, the operator and
//! `kubectl streamjob` read them, also those of a coordinator of another version.
//!
//! So what is not known is ignored, and all may be missing but what an answer is nothing without. A
//! state that is not known is `Unknown`; of errors and kinds, which people read, the name stays
//! ([`Told`]).

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod configuration;
mod history;

use crate::advice::Advice;
use crate::change::Changelog;
use crate::load::TaskLoad;
use crate::snapshot::Counters;
use crate::told::Told;
use crate::{
    Attempt, CheckpointId, CheckpointKind, Deployment, ErrorCode, ErrorKind, Failure, JobId,
    OperatorUid, SubtaskIndex, Timestamp, VertexId,
};

pub use configuration::JobConfiguration;
pub use history::{FailureList, FailureReport, SubtaskCheckpoint};

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
    /// A state that only a newer coordinator knows. Nobody writes it.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
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
    #[serde(default = "unnamed")]
    pub job: JobId,
    /// What it is doing.
    pub state: JobState,
    /// Since when.
    #[serde(default)]
    pub since: Timestamp,
    /// The deployment of the job that this coordinator was started for, where an operator has
    /// started it.
    #[serde(default)]
    pub deployment: Option<Deployment>,
    /// The current or last attempt.
    #[serde(default)]
    pub attempt: Attempt,
    /// Restarts since this coordinator began.
    #[serde(default)]
    pub restarts: u64,
    /// Parallelism of the current attempt.
    #[serde(default)]
    pub parallelism: u32,
    /// Registered workers and their slots.
    #[serde(default)]
    pub workers: Vec<WorkerStatus>,
    /// Path of the checkpoint or savepoint that the current or last attempt was restored from.
    #[serde(default)]
    pub restored_from: Option<String>,
    /// The newest checkpoint that this coordinator has gone back from, because all of its output
    /// was aborted before it could be committed.
    #[serde(default)]
    pub given_up: Option<GivenUp>,
    /// Path of the savepoint that the job was stopped with.
    #[serde(default)]
    pub savepoint: Option<String>,
    /// The newest completed checkpoint.
    #[serde(default)]
    pub last_checkpoint: Option<CheckpointSummary>,
    /// Checkpoints that have failed since one completed, while the attempt goes on.
    #[serde(default)]
    pub checkpoint_failures: Option<CheckpointFailures>,
    /// Tasks of the current attempt: where each runs and how busy it is. At most 1,000, those that
    /// are busy or held up the most.
    #[serde(default)]
    pub tasks: Vec<TaskStatus>,
    /// Totals per operator over all subtasks, as last reported.
    #[serde(default)]
    pub operators: BTreeMap<OperatorUid, Counters>,
    /// How far each source is behind, where it can say so: those of Kafka, every few seconds while
    /// the job runs.
    #[serde(default)]
    pub lags: BTreeMap<OperatorUid, Vec<SplitLag>>,
    /// What is not wrong and should be thought about, as things stand now: pitfalls with a heading in
    /// `docs/pitfalls.md`.
    #[serde(default)]
    pub warnings: Vec<Advice>,
    /// Why the last attempt failed.
    #[serde(default)]
    pub last_failure: Option<ReportedFailure>,
    /// What is waited for, since when, and what a person can do. Empty when all is well.
    #[serde(default)]
    pub message: String,
}

impl JobStatus {
    /// Nothing is known of a job but its name and what it is doing.
    pub const fn new(job: JobId, state: JobState) -> Self {
        Self {
            job,
            state,
            since: Timestamp(0),
            deployment: None,
            attempt: Attempt(0),
            restarts: 0,
            parallelism: 0,
            workers: Vec::new(),
            restored_from: None,
            given_up: None,
            savepoint: None,
            last_checkpoint: None,
            checkpoint_failures: None,
            tasks: Vec::new(),
            operators: BTreeMap::new(),
            lags: BTreeMap::new(),
            warnings: Vec::new(),
            last_failure: None,
            message: String::new(),
        }
    }
}

const fn unnamed() -> JobId {
    JobId {
        namespace: String::new(),
        name: String::new(),
    }
}

/// A [`Failure`] as a coordinator tells it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(rename = "Failure")]
pub struct ReportedFailure {
    /// Which error; has a page in `docs/errors/`.
    pub code: Told<ErrorCode>,
    /// What to do about it.
    pub kind: Told<ErrorKind>,
    /// What happened, where, and what to do.
    pub message: String,
}

impl From<Failure> for ReportedFailure {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.code.into(),
            kind: failure.kind.into(),
            message: failure.message,
        }
    }
}

impl fmt::Display for ReportedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// One task: one parallel copy of a vertex, which is a chain of operators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TaskStatus {
    /// Number of its vertex.
    pub vertex: VertexId,
    /// Which copy it is.
    pub subtask: SubtaskIndex,
    /// Its operators, from its input to its outputs.
    #[serde(default)]
    pub operators: Vec<OperatorUid>,
    /// The worker that runs it.
    #[serde(default)]
    pub worker: String,
    /// How busy it is, as last reported; nothing until it has been measured once.
    #[serde(default)]
    pub load: Option<TaskLoad>,
}

/// `GET /v1/job/graph`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobGraphReport {
    /// Hash over everything that all processes of the job agree on.
    pub fingerprint: String,
    /// Into how many key groups the records of a node with `partitionBy` are divided.
    pub max_parallelism: u32,
    /// All nodes, each after those it reads from.
    pub nodes: Vec<NodeReport>,
    /// Chains of nodes that one task runs, each after those it reads from.
    pub vertices: Vec<VertexReport>,
    /// Where records flow.
    pub edges: Vec<EdgeReport>,
}

/// A node of the dataflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// Its uid.
    pub operator: OperatorUid,
    /// What it does: `source`, `sql`, `aggregate` or `sink`.
    #[serde(default)]
    pub kind: String,
    /// Kind of the connector of a source or sink, as in the job file.
    #[serde(default)]
    pub connector: Option<String>,
}

/// Nodes that one task runs, in as many subtasks as its parallelism.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct VertexReport {
    /// Its number, which is that of its tasks.
    pub id: VertexId,
    /// Its nodes, each after those it reads from.
    pub operators: Vec<OperatorUid>,
    /// How many subtasks run it.
    pub parallelism: u32,
    /// What its nodes keep by key.
    pub states: Vec<StateReport>,
}

/// Keyed state of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    /// The node that keeps it.
    pub operator: OperatorUid,
    /// Its name.
    pub name: String,
    /// The key's columns and what is kept for each key, with their types.
    #[serde(rename = "type")]
    pub state_type: String,
}

/// Records of one node that another one gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeReport {
    /// Who sends them.
    pub from: OperatorUid,
    /// Whether they are those that the source could not decode.
    #[serde(default)]
    pub dead_letters: bool,
    /// Who gets them.
    pub to: OperatorUid,
    /// Which input of that node it is, from 0.
    #[serde(default)]
    pub input: u32,
    /// Which subtask gets a record: `forward`, the one with the same number; `hash`, the one that
    /// the values of `partitionBy` belong to; `rebalance`, any.
    #[serde(default)]
    pub partitioning: String,
    /// The columns that `hash` looks at.
    #[serde(default)]
    pub partition_by: Vec<String>,
    /// What a record may do: `append`, it is new; `retract`, an update comes as the row before and the
    /// row after; `upsert`, a row replaces the one of its key.
    #[serde(default)]
    pub changelog: Changelog,
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
    #[serde(default)]
    pub at: Timestamp,
    /// Why.
    #[serde(default)]
    pub failure: ReportedFailure,
}

/// Checkpoints that have failed one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointFailures {
    /// How many.
    pub in_a_row: u32,
    /// How many in a row are tolerated; one more restarts the job.
    #[serde(default)]
    pub tolerable: u32,
    /// Why the last of them failed.
    #[serde(default)]
    pub last: ReportedFailure,
}

/// One registered worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerStatus {
    /// Its name.
    pub worker: String,
    /// Its slots.
    #[serde(default)]
    pub slots: u32,
    /// Tasks that run in it.
    #[serde(default)]
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
    /// A state that only a newer coordinator knows. Nobody writes it.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// One checkpoint or savepoint in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointSummary {
    /// Its number.
    pub id: CheckpointId,
    /// What it is for.
    #[serde(default)]
    pub kind: Told<CheckpointKind>,
    /// How it stands.
    #[serde(default = "unknown")]
    pub state: CheckpointState,
    /// The attempt that took it.
    #[serde(default)]
    pub attempt: Attempt,
    /// When it was triggered.
    #[serde(default)]
    pub triggered_at: Timestamp,
    /// When it was decided and committed.
    #[serde(default)]
    pub completed_at: Option<Timestamp>,
    /// From trigger to decision, milliseconds.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// Bytes of everything its manifest names, and of the manifest.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Bytes of the keyed state in it: of all files that it names, also those that older checkpoints
    /// have written. Nothing without keyed state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_size: Option<u64>,
    /// Bytes of the files among them that are new: what this checkpoint has uploaded. A savepoint
    /// copies all of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpointed_size: Option<u64>,
    /// Bytes of the records that its barriers have overtaken; nothing if they have overtaken none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight_size: Option<u64>,
    /// Whether a barrier has overtaken in any task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unaligned: bool,
    /// The longest that a task has waited from the first of its barriers until it passed, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment_ms: Option<u64>,
    /// Where its manifest lies.
    #[serde(default)]
    pub path: Option<String>,
    /// Why it failed.
    #[serde(default)]
    pub failure: Option<ReportedFailure>,
}

impl CheckpointSummary {
    /// Whether sinks commit what belongs to it once it is decided.
    pub fn commits(&self) -> bool {
        self.kind.known().is_some_and(|kind| kind.commits())
    }

    /// When it was decided and committed. Older coordinators say only when it was triggered and how
    /// long it took.
    pub fn ended_at(&self) -> Timestamp {
        let took = self.duration_ms.unwrap_or(0);
        self.completed_at
            .unwrap_or_else(|| Timestamp(self.triggered_at.0.saturating_add(took)))
    }
}

const fn unknown() -> CheckpointState {
    CheckpointState::Unknown
}

/// `GET /v1/checkpoints`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointList {
    /// Counts since this coordinator began.
    pub counts: CheckpointCounts,
    /// The newest first, at most 100.
    pub checkpoints: Vec<CheckpointSummary>,
}

/// Numbers of checkpoints since this coordinator began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointCounts {
    /// Triggered.
    pub triggered: u64,
    /// Decided.
    pub completed: u64,
    /// Failed.
    pub failed: u64,
    /// Failed since one completed, also where that restarted the job. Savepoints are not counted.
    pub failed_in_a_row: u64,
}

/// `GET /v1/checkpoints/{id}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub summary: CheckpointSummary,
    /// Tasks that have acknowledged it.
    #[serde(default)]
    pub acknowledged: u32,
    /// Tasks that must.
    #[serde(default)]
    pub tasks: u32,
    /// Totals per operator in it.
    #[serde(default)]
    pub operators: BTreeMap<OperatorUid, Counters>,
    /// Tasks that have acknowledged it, in the order in which they did: the last 1,000.
    #[serde(default)]
    pub subtasks: Vec<SubtaskCheckpoint>,
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
    #[serde(default)]
    pub id: Option<CheckpointId>,
    /// Where it lies, once completed.
    #[serde(default)]
    pub path: Option<String>,
    /// Bytes of it, once completed.
    #[serde(default)]
    pub size_bytes: Option<u64>,
    /// Why it failed.
    #[serde(default)]
    pub failure: Option<ReportedFailure>,
}

/// `GET /v1/audit`: what became of the records, by the newest manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "Audit")]
pub struct AuditReport {
    /// The manifest it is of.
    pub checkpoint: Option<CheckpointId>,
    /// Totals of every source over all subtasks.
    pub sources: BTreeMap<OperatorUid, Counters>,
    /// Totals of every sink over all subtasks.
    pub sinks: BTreeMap<OperatorUid, Counters>,
    /// What has ever not added up since this coordinator began, at most 20. Empty when every
    /// record is accounted for.
    pub gaps: Vec<String>,
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
    #[serde(default)]
    pub code: Option<String>,
    /// What was wrong and what to do.
    pub message: String,
}

#[cfg(test)]
mod tests;
