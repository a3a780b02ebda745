//! What a plan asks of an operator that aggregates.

use std::time::Duration;

use crate::change::Changelog;

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AggregateFunction {
    /// Rows, or values that are not null: `int64`, never null.
    Count,
    /// Null if there is no value.
    Sum,
    /// Null if there is no value.
    Avg,
    /// Null if there is no value.
    Min,
    /// Null if there is no value.
    Max,
    /// Whether no value is false; null if there is no value.
    BoolAnd,
    /// Whether a value is true; null if there is no value.
    BoolOr,
    /// The value of the row that came first, null or not.
    FirstValue,
    /// The value of the row that came last, null or not.
    LastValue,
}

impl AggregateFunction {
    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::BoolAnd => "bool_and",
            Self::BoolOr => "bool_or",
            Self::FirstValue => "first_value",
            Self::LastValue => "last_value",
        }
    }
}

/// One call of an aggregate function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AggregateCall {
    /// What is computed.
    pub function: AggregateFunction,
    /// Position of the argument in the batch that comes in; none for `count(*)`.
    pub argument: Option<usize>,
    /// Position of a boolean column: rows for which it is not true do not count.
    pub filter: Option<usize>,
    /// Each value counts once.
    pub distinct: bool,
    /// As the user has written it, for messages.
    pub text: String,
}

/// Which half of an aggregation a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateStage {
    /// Rows of a task into one row for each of their keys, before they are sent to the task that owns
    /// the key. Keeps nothing over a barrier. Emits the key's columns and, for each call, its partial
    /// columns.
    Partial,
    /// What a [`Partial`](Self::Partial) emits into results.
    Final,
    /// Rows into results.
    Whole,
}

/// An aggregation: `GROUP BY` with its calls. Without calls, the keys that are there: `DISTINCT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregation {
    /// Which half.
    pub stage: AggregateStage,
    /// Positions of the key's columns in the batch that comes in; what goes out has them first.
    pub keys: Vec<usize>,
    /// The calls, in the order of the columns that go out. For [`AggregateStage::Final`], arguments are
    /// the positions of their first partial column, and filters are applied already.
    pub calls: Vec<AggregateCall>,
    /// Whether rows that come in may take others back.
    pub input: Changelog,
    /// Which changes go out. [`Changelog::Append`] only for `DISTINCT` over a stream that appends, and
    /// for [`AggregateStage::Partial`].
    pub output: Changelog,
    /// How long a key is kept after its last change; for ever if none.
    pub ttl: Option<Duration>,
}
