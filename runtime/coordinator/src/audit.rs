//! What became of the records: totals of every manifest, checked against each other.

use std::collections::BTreeMap;

use millstream_types::snapshot::Counters;
use millstream_types::{CheckpointId, OperatorUid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What became of the records, by the newest manifest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// The manifest it is of.
    pub checkpoint: Option<CheckpointId>,
    /// Totals of every source over all subtasks.
    pub sources: BTreeMap<OperatorUid, Counters>,
    /// Totals of every sink over all subtasks.
    pub sinks: BTreeMap<OperatorUid, Counters>,
    /// What does not add up. Empty when every record is accounted for.
    pub gaps: Vec<String>,
}
