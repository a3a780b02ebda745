//! What a checkpoint keeps of a running job.
//!
//! A task's snapshot holds, per operator uid, where its source splits stand, what its sinks
//! have prepared, and which files hold its state. Connectors write positions and transactions as
//! [`Opaque`] JSON that only they read.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CheckpointId, EventTime, OperatorUid};

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
    /// In a checkpoint: records in flight. They were sent and have not come in.
    #[serde(skip_serializing_if = "is_zero")]
    pub in_flight: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Counters {
    /// Adds another subtask's totals.
    pub const fn add(&mut self, other: Self) {
        self.records_in += other.records_in;
        self.records_out += other.records_out;
        self.bytes += other.bytes;
        self.skipped += other.skipped;
        self.dead_letters += other.dead_letters;
        self.in_flight += other.in_flight;
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
    /// What it keeps by key; none for an operator without state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateSnapshot>,
    /// Records that were on their way to it when the barrier overtook them, in their order. Subtasks may
    /// share a file, of which each takes what is its own.
    #[serde(default, rename = "inFlight", skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<FileRef>,
}

impl OperatorSnapshot {
    /// Every file that it names.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        let state = self.state.iter().flat_map(StateSnapshot::files);
        state.chain(&self.in_flight)
    }

    /// As [`files`](Self::files), to be changed.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut FileRef> {
        let state = self.state.iter_mut().flat_map(StateSnapshot::files_mut);
        state.chain(&mut self.in_flight)
    }
}

/// Keyed state of one operator in one subtask: the files that hold it. Together they are the whole
/// state, also where a checkpoint has written only what had changed since the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateSnapshot {
    /// The states that the operator has declared.
    pub declarations: Vec<StateDeclaration>,
    /// The key groups that the subtask had.
    pub key_groups: KeyGroupRange,
    /// Its runs, in any order. A key that several of them hold has the value of the one with the
    /// highest sequence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
    /// Up to which event time its timers have fired; none without timers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer_watermark: Option<EventTime>,
}

impl StateSnapshot {
    /// Every file that it names.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        self.runs.iter().map(|run| &run.file)
    }

    /// As [`files`](Self::files), to be changed.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut FileRef> {
        self.runs.iter_mut().map(|run| &mut run.file)
    }
}

/// One state of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateDeclaration {
    /// Its name, unique within the operator.
    pub name: String,
    /// Its type, as the operator has declared it.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Schema of its newest values; older ones carry the id of their own.
    pub schema: u32,
}

/// A sorted file of keyed state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Name of the state that it holds.
    #[serde(default)]
    pub state: String,
    /// The file.
    pub file: FileRef,
    /// The key groups that it holds.
    pub range: KeyGroupRange,
    /// Runs of one subtask are newer with higher numbers.
    pub sequence: u64,
}

/// A file that a checkpoint names.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub struct FileRef {
    /// Path below the folder of the job or savepoint that names it.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// CRC-32C of all its bytes.
    pub crc32c: u32,
}

/// Consecutive key groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyGroupRange {
    /// The first of them.
    pub first: u32,
    /// The one behind the last.
    pub end: u32,
}

impl fmt::Display for KeyGroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.first, self.end)
    }
}

impl From<Range<u32>> for KeyGroupRange {
    fn from(range: Range<u32>) -> Self {
        Self {
            first: range.start,
            end: range.end,
        }
    }
}

/// Snapshot of one task: what it acknowledges a checkpoint with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct TaskSnapshot {
    /// By operator uid.
    pub operators: BTreeMap<OperatorUid, OperatorSnapshot>,
}
