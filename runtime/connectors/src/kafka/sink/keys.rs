//! The columns that are a record's key.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use millstream_connect::Result;
use millstream_formats::{EncodeError, EncodedRows, JsonEncoder, JsonOptions};
use millstream_spec::Format;
use millstream_spec::connector::KafkaSink;
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::encoding;

/// Where keys come from.
#[derive(Debug)]
pub(super) enum Key {
    /// One column as it is.
    Column(KeyColumn),
    /// Several columns as a JSON object.
    Fields {
        columns: Vec<usize>,
        encoder: Box<JsonEncoder>,
    },
}

/// A column that is the key.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyColumn {
    index: usize,
}

/// The keys of one batch.
pub(super) enum Keys<'a> {
    Text(ArrayRef),
    Bytes(ArrayRef),
    Numbers(Vec<Option<String>>),
    Objects(&'a EncodedRows),
}

impl Key {
    /// Finds the columns of the key of the sink `sink`; `None` if its records have none.
    ///
    /// # Errors
    /// There is no such column, or its type has no text that is a key.
    pub(super) fn new(
        sink: &str,
        format: &Format,
        options: &KafkaSink,
        schema: &SchemaRef,
    ) -> Result<Option<Self>> {
        if let Some(column) = &options.key {
            return Ok(Some(Self::Column(KeyColumn::new(sink, column, schema)?)));
        }
        if options.key_fields.is_empty() {
            return Ok(None);
        }
        let fields = options.key_fields.iter();
        let columns = fields
            .map(|column| index_of(sink, column, schema))
            .collect::<Result<Vec<usize>>>()?;
        let invalid = |message| Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message);
        let key = schema
            .project(&columns)
            .map_err(|error| invalid(format!("sink `{sink}`: {error}")))?;
        let written = match format {
            Format::Json(json) => encoding::json_options(json),
            Format::Raw(_) => JsonOptions::default(),
        };
        let encoder = JsonEncoder::with_options(&Arc::new(key), &written)
            .map_err(|error| invalid(format!("sink `{sink}`: keyFields: {error}")))?;
        Ok(Some(Self::Fields {
            columns,
            encoder: Box::new(encoder),
        }))
    }

    /// The keys of a batch.
    ///
    /// # Errors
    /// A value has no representation in JSON.
    pub(super) fn of(&mut self, batch: &RecordBatch) -> std::result::Result<Keys<'_>, EncodeError> {
        match self {
            Self::Column(column) => Ok(column.of(batch)),
            Self::Fields { columns, encoder } => {
                let key = batch
                    .project(columns)
                    .map_err(|error| EncodeError::OtherSchema(error.to_string()))?;
                encoder.encode(&key).map(Keys::Objects)
            }
        }
    }
}

fn index_of(sink: &str, column: &str, schema: &SchemaRef) -> Result<usize> {
    schema.index_of(column).map_err(|_| {
        let names: Vec<&str> = schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        let message = format!(
            "sink `{sink}`: key column `{column}` is not among the columns it is given: {}",
            names.join(", ")
        );
        Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message)
    })
}

impl KeyColumn {
    /// Finds the key column of the sink `sink`.
    ///
    /// # Errors
    /// There is no such column, or its type has no text that is a key.
    fn new(sink: &str, column: &str, schema: &SchemaRef) -> Result<Self> {
        let invalid = |message| Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message);
        let index = index_of(sink, column, schema)?;
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
    fn of(self, batch: &RecordBatch) -> Keys<'static> {
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

impl Keys<'_> {
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
            Self::Objects(rows) => Some(rows.row(row)),
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
    fn several_columns_are_a_json_object_in_their_order() {
        let columns: [(&str, ArrayRef); 2] = [
            ("id", Arc::new(Int32Array::from(vec![12, 13]))),
            ("shop", Arc::new(StringArray::from(vec![Some("a"), None]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let options = r#"{"bootstrapServers":"kafka","topic":"t","keyFields":["shop","id"]}"#;
        let options: KafkaSink = serde_json::from_str(options).unwrap();
        let key = Key::new("out", &Format::default(), &options, &batch.schema()).unwrap();
        let mut key = key.unwrap();
        let keys = key.of(&batch).unwrap();
        assert_eq!(keys.get(0), Some(br#"{"shop":"a","id":12}"#.as_slice()));
        assert_eq!(keys.get(1), Some(br#"{"shop":null,"id":13}"#.as_slice()));
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
