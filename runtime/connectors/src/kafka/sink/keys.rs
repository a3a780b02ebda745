//! The column that is a record's key.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use millstream_operators::Result;
use millstream_types::{ErrorCode, ErrorKind, Failure};

/// Where keys come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyColumn {
    index: usize,
}

/// The keys of one batch.
pub(super) enum Keys {
    Text(ArrayRef),
    Bytes(ArrayRef),
    Numbers(Vec<Option<String>>),
}

impl KeyColumn {
    /// Finds the key column of the sink `sink`.
    ///
    /// # Errors
    /// There is no such column, or its type has no text that is a key.
    pub(super) fn new(sink: &str, column: &str, schema: &SchemaRef) -> Result<Self> {
        let invalid = |message| Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message);
        let index = schema.index_of(column).map_err(|_| {
            let names: Vec<&str> = schema
                .fields()
                .iter()
                .map(|field| field.name().as_str())
                .collect();
            invalid(format!(
                "sink `{sink}`: key column `{column}` is not among the columns it is given: {}",
                names.join(", ")
            ))
        })?;
        match schema.field(index).data_type() {
            DataType::Utf8 | DataType::Binary | DataType::Int32 | DataType::Int64 => {
                Ok(Self { index })
            }
            other => Err(invalid(format!(
                "sink `{sink}`: key column `{column}` has type {other}; a key is string, bytes, \
                 int32 or int64: CAST it in a transform"
            ))),
        }
    }

    /// The keys of a batch.
    pub(super) fn of(self, batch: &RecordBatch) -> Keys {
        let column = batch.column(self.index);
        match column.data_type() {
            DataType::Utf8 => Keys::Text(Arc::clone(column)),
            DataType::Int32 => Keys::Numbers(
                column
                    .as_primitive::<Int32Type>()
                    .iter()
                    .map(|key| key.map(|key| key.to_string()))
                    .collect(),
            ),
            DataType::Int64 => Keys::Numbers(
                column
                    .as_primitive::<Int64Type>()
                    .iter()
                    .map(|key| key.map(|key| key.to_string()))
                    .collect(),
            ),
            _ => Keys::Bytes(Arc::clone(column)),
        }
    }
}

impl Keys {
    /// The key of one row; `None` where the column is null.
    pub(super) fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Text(column) => column
                .is_valid(row)
                .then(|| column.as_string::<i32>().value(row).as_bytes()),
            Self::Bytes(column) => column
                .is_valid(row)
                .then(|| column.as_binary::<i32>().value(row)),
            Self::Numbers(keys) => keys[row].as_deref().map(str::as_bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{BinaryArray, Int32Array, Int64Array, StringArray};
    use arrow_schema::{Field, Schema};

    use super::*;

    fn batch(column: ArrayRef) -> RecordBatch {
        let field = Field::new("id", column.data_type().clone(), true);
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap()
    }

    fn keys_of(column: ArrayRef) -> Vec<Option<String>> {
        let batch = batch(column);
        let keys = KeyColumn::new("out", "id", &batch.schema())
            .unwrap()
            .of(&batch);
        (0..batch.num_rows())
            .map(|row| {
                keys.get(row)
                    .map(|key| String::from_utf8(key.to_vec()).unwrap())
            })
            .collect()
    }

    #[test]
    fn text_bytes_and_whole_numbers_are_keys_and_null_is_no_key() {
        let expected = [Some("12".to_owned()), None];
        assert_eq!(
            keys_of(Arc::new(StringArray::from(vec![Some("12"), None]))),
            expected
        );
        assert_eq!(
            keys_of(Arc::new(BinaryArray::from(vec![
                Some(b"12".as_slice()),
                None
            ]))),
            expected
        );
        assert_eq!(
            keys_of(Arc::new(Int32Array::from(vec![Some(12), None]))),
            expected
        );
        assert_eq!(
            keys_of(Arc::new(Int64Array::from(vec![Some(12), None]))),
            expected
        );
    }

    #[test]
    fn a_column_that_is_missing_or_of_another_type_is_refused_by_name() {
        let batch = batch(Arc::new(arrow_array::Float64Array::from(vec![1.0])));
        let error = KeyColumn::new("out", "id", &batch.schema()).unwrap_err();
        assert!(error.message.contains("Float64"), "{error}");
        let error = KeyColumn::new("out", "key", &batch.schema()).unwrap_err();
        assert!(
            error.message.contains("`key`") && error.message.contains("id"),
            "{error}"
        );
    }
}
