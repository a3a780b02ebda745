//! The parts of the screen. As JSON they are the answer of `status -o json`.

use jiff::Timestamp;
use serde::Serialize;

/// What is asked for, and what runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentView {
    /// `Running` or `Suspended`, as the spec says.
    pub wanted: String,
    /// Image of the spec.
    pub image: Option<String>,
    /// Whether the spec is that of the revision that runs: no other one is coming or rejected.
    pub is_current: bool,
    /// Revision that runs, or ran last.
    pub revision: Option<String>,
    /// Whether that has completed the checkpoints that make it good.
    pub is_good: bool,
    /// Parallelism of the spec.
    pub parallelism_wanted: Option<i64>,
    /// Parallelism that runs.
    pub parallelism: Option<i64>,
    /// Workers that are ready, and that there should be.
    pub workers: Option<(i32, i32)>,
    /// State that it was stopped with.
    pub restore_point: Option<String>,
    /// Revision that it was rolled back from.
    pub rolled_back_from: Option<String>,
}

/// How often a job was restarted, and from what.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AttemptView {
    /// The current or last attempt.
    pub number: Option<i64>,
    /// Restarts since the coordinator's process began.
    pub restarts: Option<u64>,
    /// Restarts of containers.
    pub container_restarts: i32,
    /// What it was restored from.
    pub restored_from: Option<String>,
    /// Why the last attempt failed.
    pub last_failure: Option<String>,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointView {
    /// Its number.
    pub id: i64,
    /// What it is for.
    pub kind: String,
    /// How it stands.
    pub state: String,
    /// When it completed, or was triggered if it has not.
    pub at: Option<Timestamp>,
    /// How long it took, milliseconds.
    pub duration_ms: Option<u64>,
    /// Bytes of everything it names.
    pub size_bytes: Option<u64>,
    /// Bytes of keyed state that it has uploaded; nothing without keyed state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpointed_size: Option<u64>,
    /// Where its manifest lies.
    pub path: Option<String>,
    /// Why it failed.
    pub failure: Option<String>,
}

/// A savepoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SavepointView {
    /// Name of its resource.
    pub name: String,
    /// How it stands.
    pub state: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Bytes of everything it names.
    pub size_bytes: Option<i64>,
    /// Where it lies.
    pub path: Option<String>,
    /// What is waited for or went wrong.
    pub message: Option<String>,
}

/// Totals of an operator of the dataflow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorView {
    /// Its uid.
    pub name: String,
    /// Records that came in.
    pub records_in: u64,
    /// Records that went out.
    pub records_out: u64,
    /// Records skipped.
    pub skipped: u64,
    /// Records sent to the dead-letter output.
    pub dead_letters: u64,
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    /// What it is about.
    #[serde(rename = "type")]
    pub condition_type: String,
    /// Its value.
    pub status: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// In full.
    pub message: String,
    /// Whether it is about an older spec.
    pub is_outdated: bool,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventView {
    /// When it was seen last.
    pub at: Option<Timestamp>,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What it is about, as `kind/name`.
    pub object: String,
    /// Why.
    pub reason: String,
    /// In full.
    pub message: String,
    /// How often it was seen.
    pub count: i32,
}
