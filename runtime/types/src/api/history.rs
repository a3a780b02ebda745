//! What has happened to a job: its failures, and how each task took part in a checkpoint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ReportedFailure;
use crate::{Attempt, SubtaskIndex, Timestamp, VertexId};

/// `GET /v1/job/failures`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FailureList {
    /// Failures of attempts since this coordinator began, the newest first, at most 100.
    pub failures: Vec<FailureReport>,
}

/// An attempt that has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureReport {
    /// The attempt.
    #[serde(default)]
    pub attempt: Attempt,
    /// When it failed.
    #[serde(default)]
    pub at: Timestamp,
    /// Why.
    #[serde(default)]
    pub failure: ReportedFailure,
    /// The page of the error: `MS` and four digits.
    #[serde(default)]
    pub page: String,
    /// How long the job waited before the next attempt, milliseconds. Nothing if none followed: the
    /// job was given up.
    #[serde(default)]
    pub restart_delay_ms: Option<u64>,
}

/// How one task took part in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubtaskCheckpoint {
    /// Number of its vertex.
    pub vertex: VertexId,
    /// Which copy it is.
    pub subtask: SubtaskIndex,
    /// From the trigger to its acknowledgement, milliseconds.
    #[serde(default)]
    pub acknowledged_after_ms: u64,
    /// From the first barrier at any of its channels to the last, milliseconds. Nothing for a source,
    /// and where the next checkpoint began before the task's next report.
    #[serde(default)]
    pub alignment_ms: Option<u64>,
    /// Bytes of its keyed state. Nothing without keyed state.
    #[serde(default)]
    pub state_size: Option<u64>,
    /// Bytes of it that this checkpoint has written.
    #[serde(default)]
    pub checkpointed_size: Option<u64>,
}
