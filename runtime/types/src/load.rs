//! How busy a task is and what holds it up: measured by its worker, shown in metrics, in
//! `GET /v1/job` and by `kubectl streamjob status`. Nothing is decided by it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::TaskId;
use crate::{CheckpointId, EventTime};

/// What a task has done with its time since the report before, and how its input stands now.
///
/// The three times are milliseconds of each second, as Flink's `busyTimeMsPerSecond` and its
/// siblings; together they are 1,000.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TaskLoad {
    /// With records.
    pub busy: u32,
    /// Waiting for room: in a channel that it writes, or in what its sink writes to.
    pub backpressured: u32,
    /// Waiting for input.
    pub idle: u32,
    /// The watermark that it has come to; `None` before the first.
    pub watermark: Option<EventTime>,
    /// The channels that it reads, in the order of its inputs. A source has none.
    pub channels: Vec<ChannelLoad>,
    /// The newest checkpoint whose barrier has come over all of them: that of their `alignmentMs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aligned: Option<CheckpointId>,
    /// What its operators keep by key; `None` if none of them keeps state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StateLoad>,
}

impl TaskLoad {
    /// How long the task waited in the newest checkpoint for the last of its barriers, milliseconds.
    pub fn alignment(&self) -> Option<(CheckpointId, u64)> {
        let channels = self.channels.iter();
        let slowest = channels.filter_map(|channel| channel.alignment_ms).max();
        Some((self.aligned?, slowest?))
    }
}

/// How much keyed state a task has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StateLoad {
    /// Keys.
    pub keys: u64,
    /// Keys that have changed since the last barrier; ones that are gone are among them.
    pub dirty_keys: u64,
    /// Bytes that it takes in memory.
    pub bytes: u64,
    /// Runs that the next snapshot names.
    pub runs: u64,
    /// Their bytes in the checkpoint storage.
    pub run_bytes: u64,
    /// Of the keys, those that are on the local disk and not in memory.
    pub cold_keys: u64,
    /// Their bytes before they are compressed, about.
    pub cold_bytes: u64,
    /// How often a key was looked for that was in memory, since the task began.
    pub hot_reads: u64,
    /// How often a key was brought back from the local disk, since the task began.
    pub cold_reads: u64,
    /// How often a key has left memory, since the task began.
    pub evictions: u64,
}

impl StateLoad {
    /// Adds that of another operator, or task.
    pub const fn add(&mut self, other: Self) {
        self.keys += other.keys;
        self.dirty_keys += other.dirty_keys;
        self.bytes += other.bytes;
        self.runs += other.runs;
        self.run_bytes += other.run_bytes;
        self.cold_keys += other.cold_keys;
        self.cold_bytes += other.cold_bytes;
        self.hot_reads += other.hot_reads;
        self.cold_reads += other.cold_reads;
        self.evictions += other.evictions;
    }
}

/// How one channel that a task reads stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelLoad {
    /// The task that writes it.
    pub from: TaskId,
    /// Which input of the reading task it belongs to, from 0.
    #[serde(default)]
    pub input: u32,
    /// Bytes that wait in it.
    #[serde(default)]
    pub queued_bytes: u64,
    /// How full it is, in thousandths of the bytes that may wait in it.
    #[serde(default)]
    pub queue_fill: u32,
    /// Its watermark; `None` before the first, and while it is idle.
    #[serde(default)]
    pub watermark: Option<EventTime>,
    /// In the newest checkpoint: from the first barrier at any channel of the task to the barrier
    /// of this one, milliseconds. The slowest channel has the most. `None` before the first
    /// checkpoint.
    #[serde(default)]
    pub alignment_ms: Option<u64>,
}
