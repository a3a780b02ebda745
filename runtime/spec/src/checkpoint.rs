//! The `checkpoint` section.

use millstream_types::duration::KubeDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When and where checkpoints are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointSpec {
    /// Where checkpoints lie: `s3://bucket/path`, `hdfs://namenode:port/path`,
    /// `hdfs://nameservice/path` or `file:///path`. The job's chain lies below it at
    /// `<namespace>/<name>/`.
    #[schemars(length(min = 1, max = 1024))]
    pub storage: String,
    /// From one trigger to the next. Default: 10s.
    #[serde(default = "interval")]
    pub interval: KubeDuration,
    /// What holds for state and committed output after a restart; Kafka sinks without a
    /// `deliveryGuarantee` of their own follow it. Default: `ExactlyOnce`.
    #[serde(default)]
    pub mode: CheckpointMode,
    /// From the end of one checkpoint to the trigger of the next, at least. Default: 0s.
    #[serde(default)]
    pub min_pause: KubeDuration,
    /// A checkpoint that takes longer is given up. Default: 1m.
    #[serde(default = "timeout")]
    pub timeout: KubeDuration,
    /// How long a task may wait for the records in front of a checkpoint's barrier. Then the barrier
    /// overtakes them and they become a part of the checkpoint, so that it completes under backpressure
    /// as well; with 0s it never waits. Default: without it, checkpoints are always aligned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "KubeDuration")]
    pub aligned_timeout: Option<KubeDuration>,
    /// How many checkpoints may be under way at once. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub max_concurrent: u32,
    /// How many checkpoints in a row may fail before the job is restarted. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub tolerable_failures: u32,
    /// How many completed checkpoints are kept. Default: 3.
    #[serde(default = "retained")]
    #[schemars(range(min = 1, max = 1000))]
    pub retained: u32,
    /// What becomes of checkpoints when the job is cancelled: when its `StreamJob` is deleted, or
    /// by `POST /v1/cancel`. Savepoints stay. Default: `RetainOnCancellation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Retention")]
    pub retention: Option<Retention>,
}

impl CheckpointSpec {
    /// What becomes of checkpoints when the job is cancelled.
    pub fn retention(&self) -> Retention {
        self.retention.unwrap_or_default()
    }
}

/// What holds for state and committed output after a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CheckpointMode {
    /// Every record counts exactly once.
    #[default]
    ExactlyOnce,
    /// Every record counts at least once: output does not wait for checkpoints.
    AtLeastOnce,
}

/// What becomes of checkpoints when the job is cancelled. A job that fails, is suspended, upgraded
/// or stopped, also without a savepoint, is not cancelled and keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retention {
    /// They stay.
    #[default]
    RetainOnCancellation,
    /// They are deleted with the job.
    DeleteOnCancellation,
}

const fn interval() -> KubeDuration {
    KubeDuration::from_secs(10)
}

const fn timeout() -> KubeDuration {
    KubeDuration::from_secs(60)
}

const fn one() -> u32 {
    1
}

const fn retained() -> u32 {
    3
}
