//! What travels along an edge of the dataflow.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Batch, CheckpointId, EventTime, Timestamp};

/// One element of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Element {
    /// Records.
    Batch(Batch),
    /// No record older than this follows on this edge, except late ones.
    Watermark(EventTime),
    /// This edge has no records for now and must not hold back the watermark.
    Idle,
    /// Everything before it belongs to the checkpoint, everything after it does not.
    Barrier(Barrier),
    /// Nothing follows.
    End,
}

/// Marks the place of one checkpoint in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Barrier {
    /// Which checkpoint.
    pub checkpoint: CheckpointId,
    /// What it is for.
    pub kind: CheckpointKind,
    /// When the coordinator triggered it.
    pub triggered_at: Timestamp,
    /// How long from here on, in milliseconds, a task may wait for the records before it; then it overtakes
    /// them. Without this it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aligned_timeout_ms: Option<u64>,
}

/// What a checkpoint is for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum CheckpointKind {
    /// Periodic; decided by the chain, commits sinks, subsumes older ones.
    Checkpoint,
    /// By a person, kept until deleted; commits nothing and subsumes nothing.
    Savepoint,
    /// A savepoint after which the job stops: sources emit nothing after the barrier, sinks
    /// commit.
    StopWithSavepoint {
        /// Send the largest watermark before the barrier, so that windows and timers fire. For
        /// ending a job for good.
        drain: bool,
    },
}

impl CheckpointKind {
    /// Its name, as it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Savepoint => "savepoint",
            Self::StopWithSavepoint { .. } => "stopWithSavepoint",
        }
    }

    /// Whether sources stop after the barrier.
    pub const fn stops_job(self) -> bool {
        matches!(self, Self::StopWithSavepoint { .. })
    }

    /// Whether sinks commit what belongs to it once it is decided.
    pub const fn commits(self) -> bool {
        !matches!(self, Self::Savepoint)
    }
}
