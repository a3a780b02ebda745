//! What a coordinator says of its job. Fields that are not listed are ignored, and all that a
//! coordinator of another version may not send are optional.

use std::collections::BTreeMap;
use std::fmt;

use millstream_types::ErrorCode;
use serde::Deserialize;
use serde_json::Value;

/// `GET /v1/job`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobAnswer {
    /// What the job is doing.
    pub state: String,
    /// Since when, milliseconds since 1970-01-01T00:00:00Z.
    pub since: u64,
    /// The current or last attempt.
    pub attempt: u64,
    /// Restarts since this coordinator began.
    pub restarts: u64,
    /// What the current attempt was restored from: a path, or a checkpoint's number.
    pub restored_from: Value,
    /// The newest completed checkpoint.
    pub last_checkpoint: Option<CheckpointAnswer>,
    /// Totals per operator.
    pub operators: BTreeMap<String, CountersAnswer>,
    /// Why the last attempt failed.
    pub last_failure: Option<FailureAnswer>,
    /// What is waited for; empty when all is well.
    pub message: String,
}

/// Totals of an operator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CountersAnswer {
    /// Records that came in.
    pub records_in: u64,
    /// Records that went out.
    pub records_out: u64,
    /// Records skipped.
    pub skipped: u64,
    /// Records sent to the dead-letter output.
    pub dead_letters: u64,
}

/// Why something failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct FailureAnswer {
    /// Which error.
    pub code: String,
    /// What happened, and what to do.
    pub message: String,
}

impl fmt::Display for FailureAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", ErrorCode::title_of(&self.code), self.message)
    }
}

/// `GET /v1/checkpoints`
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CheckpointsAnswer {
    /// The newest first.
    pub checkpoints: Vec<CheckpointAnswer>,
}

/// One checkpoint or savepoint.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointAnswer {
    /// Its number.
    pub id: u64,
    /// What it is for: a word, or an object with one key.
    pub kind: Value,
    /// How it stands.
    pub state: String,
    /// When it was triggered, milliseconds since 1970-01-01T00:00:00Z.
    pub triggered_at: u64,
    /// When it completed, milliseconds since 1970-01-01T00:00:00Z.
    pub completed_at: Option<u64>,
    /// From trigger to decision, milliseconds.
    pub duration_ms: Option<u64>,
    /// Bytes of everything it names.
    pub size_bytes: Option<u64>,
    /// Where its manifest lies.
    pub path: Option<String>,
    /// Why it failed.
    pub failure: Option<FailureAnswer>,
}

impl CheckpointAnswer {
    /// What it is for, in one word.
    pub fn kind(&self) -> String {
        match &self.kind {
            Value::String(kind) => kind.clone(),
            Value::Object(kind) => kind.keys().next().cloned().unwrap_or_default(),
            _ => String::new(),
        }
    }
}

/// Whether and how a coordinator answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Coordinator {
    /// There is no coordinator pod.
    None,
    /// There is one, and it does not answer.
    Silent {
        /// Why.
        reason: String,
    },
    /// It answered.
    Answers {
        /// About the job.
        job: Box<JobAnswer>,
        /// About checkpoints, the newest first.
        checkpoints: Vec<CheckpointAnswer>,
    },
}

impl Coordinator {
    /// What it says of the job.
    pub fn job(&self) -> Option<&JobAnswer> {
        match self {
            Self::Answers { job, .. } => Some(job),
            Self::None | Self::Silent { .. } => None,
        }
    }

    /// What it says of checkpoints.
    pub fn checkpoints(&self) -> &[CheckpointAnswer] {
        match self {
            Self::Answers { checkpoints, .. } => checkpoints,
            Self::None | Self::Silent { .. } => &[],
        }
    }
}
