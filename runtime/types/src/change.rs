//! What a row does to the result that its stream stands for.
//!
//! A stream that only appends has no column for it: every row is an insertion. In a stream that updates,
//! the last column of every batch is [`CHANGE_COLUMN`].

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt8Type;
use arrow_array::{Array as _, RecordBatch, UInt8Array};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Name of the last column of a stream that updates. No column of a user has it.
pub const CHANGE_COLUMN: &str = "$change";

/// What a row does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Change {
    /// The row is new.
    Insert = 0,
    /// The row is replaced by the update that follows it, or by nothing.
    UpdateBefore = 1,
    /// The row replaces the one of its key.
    UpdateAfter = 2,
    /// The row is gone.
    Delete = 3,
}

impl Change {
    /// The change that a value of [`CHANGE_COLUMN`] means.
    pub const fn of(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Insert),
            1 => Some(Self::UpdateBefore),
            2 => Some(Self::UpdateAfter),
            3 => Some(Self::Delete),
            _ => None,
        }
    }

    /// Whether the row counts from now on; else it counts no more.
    pub const fn adds(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateAfter)
    }

    /// How people write it.
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }
}

/// Which changes the rows of a stream may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Changelog {
    /// Insertions.
    #[default]
    Append,
    /// All of them: an update is the row before and the row after.
    Retract,
    /// All but [`Change::UpdateBefore`]: a row replaces the one of its key.
    Upsert,
}

impl Changelog {
    /// Whether batches have [`CHANGE_COLUMN`].
    pub const fn updates(self) -> bool {
        !matches!(self, Self::Append)
    }

    /// Its name, as it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Retract => "retract",
            Self::Upsert => "upsert",
        }
    }
}

/// The column of changes.
pub fn change_field() -> Field {
    Field::new(CHANGE_COLUMN, DataType::UInt8, false)
}

/// A schema with the column of changes behind all others.
pub fn with_changes(schema: &Schema) -> SchemaRef {
    let mut fields = schema.fields().to_vec();
    fields.push(Arc::new(change_field()));
    Arc::new(Schema::new(fields))
}

/// Which changes rows with these columns may be: any, where there is the column for it.
pub fn changelog(schema: &Schema) -> Changelog {
    let last = schema.fields().last();
    if last.is_some_and(|last| last.name() == CHANGE_COLUMN) {
        Changelog::Retract
    } else {
        Changelog::Append
    }
}

/// A schema without the column of changes, if it has one.
pub fn without_changes(schema: &SchemaRef) -> SchemaRef {
    match schema.fields().split_last() {
        Some((last, fields)) if last.name() == CHANGE_COLUMN => {
            Arc::new(Schema::new(fields.to_vec()))
        }
        _ => Arc::clone(schema),
    }
}

/// The changes of a batch's rows, as numbers of [`Change`]; none for a stream that only appends.
pub fn changes(records: &RecordBatch) -> Option<&UInt8Array> {
    let last = records.num_columns().checked_sub(1)?;
    if records.schema_ref().field(last).name() != CHANGE_COLUMN {
        return None;
    }
    let column = records.column(last).as_primitive_opt::<UInt8Type>()?;
    (column.null_count() == 0).then_some(column)
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn changes_are_the_last_column_of_a_stream_that_updates() {
        let values: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let ops: ArrayRef = Arc::new(UInt8Array::from(vec![1, 2]));
        let appends = RecordBatch::try_from_iter([("n", Arc::clone(&values))]).unwrap();
        assert_eq!(changes(&appends), None);
        let schema = with_changes(appends.schema_ref());
        let updates = RecordBatch::try_new(schema, vec![values, ops]).unwrap();
        let found: Vec<_> = changes(&updates).unwrap().values().to_vec();
        let found: Vec<_> = found.into_iter().map(Change::of).collect();
        assert_eq!(
            found,
            [Some(Change::UpdateBefore), Some(Change::UpdateAfter)]
        );
        assert_eq!(Change::of(4), None);
        assert_eq!(changelog(&updates.schema()), Changelog::Retract);
        assert_eq!(changelog(&appends.schema()), Changelog::Append);
        assert_eq!(without_changes(&updates.schema()), appends.schema());
        assert_eq!(without_changes(&appends.schema()), appends.schema());
    }

    #[test]
    fn each_change_has_its_number() {
        for change in [
            Change::Insert,
            Change::UpdateBefore,
            Change::UpdateAfter,
            Change::Delete,
        ] {
            assert_eq!(Change::of(change as u8), Some(change));
            assert_eq!(change.adds(), change.symbol().starts_with('+'));
        }
    }
}
