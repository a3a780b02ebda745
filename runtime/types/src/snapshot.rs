//! What a checkpoint keeps of a running job.
//!
//! A task's snapshot holds, per operator uid, where its source splits stand and what its sinks
//! have prepared. Connectors write these as [`Opaque`] JSON that only they read.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CheckpointId, OperatorUid};

/// JSON text that belongs to one connector; nobody else looks inside.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct Opaque(pub String);

/// One split of a source (a Kafka partition, a file, a generator's range) and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SplitState {
    /// Name of the split, unique within its source, for example `orders/3`.
    pub split: String,
    /// Where the next record is read from.
    pub position: Opaque,
    /// Records read from this split since the job began.
    pub records: u64,
    /// The split is bounded and has been read to its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub finished: bool,
}

/// One prepared transaction of a sink: durable, survives its process, not yet visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Committable {
    /// The checkpoint at whose barrier it was prepared. It is committed with the first decided
    /// checkpoint that lists it, which may be a later one.
    pub checkpoint: CheckpointId,
    /// What the connector needs to commit it.
    pub transaction: Opaque,
    /// Records in it.
    pub records: u64,
}

/// Running totals of one operator subtask since the job began. They go into the manifest, so the
/// sums over all subtasks say what became of every record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Counters {
    /// Records that came in.
    pub records_in: u64,
    /// Records that went out; for a sink, records written.
    pub records_out: u64,
    /// Bytes read or written by a source or sink.
    pub bytes: u64,
    /// Records skipped because they could not be decoded (`onError: Skip`).
    pub skipped: u64,
    /// Records sent to the dead-letter output (`onError: DeadLetter`).
    pub dead_letters: u64,
}

impl Counters {
    /// Adds another subtask's totals.
    pub const fn add(&mut self, other: Self) {
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.bytes += other.bytes;
        self.skipped += other.skipped;
        self.dead_letters += other.dead_letters;
    }
}

/// Snapshot of one operator in one subtask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperatorSnapshot {
    /// Source: where its splits stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<SplitState>,
    /// Sink: everything prepared and not yet known to be committed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub committables: Vec<Committable>,
    /// Running totals.
    #[serde(default)]
    pub counters: Counters,
}

/// Snapshot of one task: what it acknowledges a checkpoint with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TaskSnapshot {
    /// By operator uid.
    pub operators: BTreeMap<OperatorUid, OperatorSnapshot>,
}
