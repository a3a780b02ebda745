//! What a plan asks of an operator that aggregates.

use std::time::Duration;

use arrow_schema::{DataType, Field};

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

    /// Type of the result for an argument of a type, none for `count(*)`; nothing if the function does
    /// not take it.
    pub fn result_type(self, argument: Option<&DataType>) -> Option<DataType> {
        let Some(argument) = argument else {
            return (self == Self::Count).then_some(DataType::Int64);
        };
        Some(match (self, argument) {
            (Self::Count, _) | (Self::Sum, DataType::Int32 | DataType::Int64) => DataType::Int64,
            (Self::Sum | Self::Avg, DataType::Float64)
            | (Self::Avg, DataType::Int32 | DataType::Int64) => DataType::Float64,
            (Self::Sum, DataType::Decimal128(_, scale)) => DataType::Decimal128(MAX_DIGITS, *scale),
            (Self::Avg, DataType::Decimal128(_, scale)) => {
                DataType::Decimal128(MAX_DIGITS, (*scale).max(AVG_SCALE))
            }
            (Self::BoolAnd | Self::BoolOr, DataType::Boolean) => DataType::Boolean,
            (Self::Min | Self::Max | Self::FirstValue | Self::LastValue, _) => argument.clone(),
            _ => return None,
        })
    }

    /// The columns that [`AggregateStage::Partial`] emits for a call: what its rows add. Nothing if the
    /// function does not take the argument, or cannot be computed in parts.
    pub fn partial_fields(self, argument: Option<&DataType>) -> Option<Vec<Field>> {
        let result = self.result_type(argument)?;
        let number = |name: &str| Field::new(name, DataType::Int64, false);
        Some(match self {
            Self::Count => vec![number("count")],
            Self::Sum => vec![Field::new("sum", result, false), number("count")],
            Self::Avg => vec![
                Field::new("sum", Self::sum_for_avg(argument?), false),
                number("count"),
            ],
            Self::Min | Self::Max => vec![Field::new(self.name(), result, true)],
            Self::BoolAnd | Self::BoolOr => vec![number("false"), number("true")],
            Self::FirstValue | Self::LastValue => return None,
        })
    }

    /// What values are summed up in for their average: integers so that no sum is too large.
    pub fn sum_for_avg(argument: &DataType) -> DataType {
        match argument {
            DataType::Decimal128(_, scale) => DataType::Decimal128(MAX_DIGITS, *scale),
            DataType::Int32 | DataType::Int64 => DataType::Decimal128(MAX_DIGITS, 0),
            _ => DataType::Float64,
        }
    }
}

/// Most digits of a decimal.
const MAX_DIGITS: u8 = 38;
/// Fewest digits behind the point of an average of decimals.
const AVG_SCALE: i8 = 6;

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
    /// Which changes go out. [`Changelog::Append`] only over a stream that appends, for
    /// [`AggregateStage::Partial`] and where no result changes: for `DISTINCT`, and for first values of all
    /// rows.
    pub output: Changelog,
    /// How long a key is kept after its last change; for ever if none.
    pub ttl: Option<Duration>,
    /// What is kept, as [`state_type`] writes it: the type that the operator's
    /// [declarations](crate::StateDeclaration) name, so that a checkpoint's state is never taken for that
    /// of another aggregation. Empty for [`AggregateStage::Partial`].
    pub state: String,
}

/// Name of the state that holds what belongs to each key.
pub const GROUPS: &str = "groups";

/// What an aggregation keeps, as people read it: `customer string -> count(*) int64`.
///
/// `keys` and `calls` are expressions with their types. What rows that may be taken back need is other
/// than what rows that stay need, so `input` is part of it.
pub fn state_type(keys: &[String], calls: &[String], input: Changelog) -> String {
    let mut parts = Vec::with_capacity(3);
    if !keys.is_empty() {
        parts.push(keys.join(", "));
    }
    if !calls.is_empty() {
        parts.push(format!("-> {}", calls.join(", ")));
    }
    if input.updates() {
        parts.push("over updates".to_owned());
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_as_wide_as_they_can_be_and_averages_have_a_fraction() {
        use AggregateFunction::{Avg, Count, FirstValue, Max, Sum};
        use DataType::{Boolean, Decimal128, Float64, Int32, Int64, Utf8};
        let result = |function: AggregateFunction, argument| function.result_type(Some(&argument));
        assert_eq!(Count.result_type(None), Some(Int64));
        assert_eq!(Sum.result_type(None), None);
        assert_eq!(result(Sum, Int32), Some(Int64));
        assert_eq!(result(Sum, Decimal128(12, 2)), Some(Decimal128(38, 2)));
        assert_eq!(result(Avg, Decimal128(12, 2)), Some(Decimal128(38, 6)));
        assert_eq!(result(Avg, Decimal128(12, 8)), Some(Decimal128(38, 8)));
        assert_eq!(result(Avg, Int64), Some(Float64));
        assert_eq!(result(Sum, Utf8), None);
        assert_eq!(result(Max, Utf8), Some(Utf8));
        assert_eq!(result(Max, Boolean), Some(Boolean));
        assert_eq!(FirstValue.partial_fields(Some(&Int64)), None);
        let parts = Avg.partial_fields(Some(&Int64)).unwrap();
        let types: Vec<_> = parts.iter().map(Field::data_type).collect();
        assert_eq!(types, [&Decimal128(38, 0), &Int64]);
    }

    #[test]
    fn a_state_says_what_it_keeps_for_which_keys() {
        let text = |keys: &[&str], calls: &[&str], input| {
            let owned = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
            state_type(&owned(keys), &owned(calls), input)
        };
        assert_eq!(
            text(
                &["a string", "b int64"],
                &["count(*) int64"],
                Changelog::Append
            ),
            "a string, b int64 -> count(*) int64"
        );
        assert_eq!(
            text(&[], &["sum(x) int64"], Changelog::Upsert),
            "-> sum(x) int64 over updates"
        );
        assert_eq!(text(&["a string"], &[], Changelog::Append), "a string");
    }
}
