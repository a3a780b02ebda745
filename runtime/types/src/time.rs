//! Points in time: of events and of the wall clock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Time at which an event happened, by its own data: microseconds since 1970-01-01T00:00:00Z.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct EventTime(pub i64);

impl EventTime {
    /// Before every event: the watermark of a source that has seen nothing.
    pub const MIN: Self = Self(i64::MIN);
    /// After every event: the watermark of a source that has ended.
    pub const MAX: Self = Self(i64::MAX);
}

/// Time of the wall clock of the process that writes it: milliseconds since
/// 1970-01-01T00:00:00Z. For people and for timeouts, never for ordering.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds from `earlier` to `self`, 0 if `earlier` is later.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}
