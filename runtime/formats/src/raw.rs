//! Raw: the bytes of a record as one column.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::column::{Column, Columns, Values};
use crate::error::{DecodeError, DecodeReason, EncodeError, Fault, UnsupportedColumn};
use crate::{EncodedRows, encoded};

/// Name of the column that a raw source has.
pub const VALUE: &str = "value";

const DECODER: &str = "the raw decoder (one string or bytes column, or none)";
const ENCODER: &str = "the raw encoder (exactly one string or bytes column)";

/// Makes a record the value of one column. A string column takes UTF-8 only, a bytes column
/// anything. Without a column it only counts.
#[derive(Debug)]
pub struct RawDecoder {
    columns: Columns,
}

impl RawDecoder {
    /// A decoder into these columns.
    ///
    /// # Errors
    /// There is more than one column, or it is not of type string or bytes.
    pub fn new(schema: &SchemaRef) -> Result<Self, UnsupportedColumn> {
        let unsupported = schema.fields().iter().enumerate().find(|(index, field)| {
            *index > 0 || !matches!(field.data_type(), DataType::Utf8 | DataType::Binary)
        });
        if let Some((_, field)) = unsupported {
            return Err(UnsupportedColumn {
                column: field.name().clone(),
                data_type: field.data_type().clone(),
                format: DECODER,
            });
        }
        let columns = Columns::new(schema, DECODER)?;
        Ok(Self { columns })
    }

    /// Appends one row, or nothing.
    ///
    /// # Errors
    /// The column is a string and the record is not UTF-8.
    pub fn decode(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        self.columns.attempt(record.len(), |columns| {
            for column in columns {
                push(column, record).map_err(|fault| fault.in_field(Some(&column.name)))?;
            }
            Ok(())
        })
    }

    /// Appends a row for a record without a value: null. False, and nothing is appended, if the
    /// column may have none.
    pub fn decode_absent(&mut self) -> bool {
        let append = |columns: &mut [Column]| {
            let is_null = columns.iter_mut().all(Column::push_null);
            if is_null { Ok(()) } else { Err(()) }
        };
        self.columns.attempt(0, append).is_ok()
    }

    /// Rows since the last [`finish`](Self::finish).
    pub const fn rows(&self) -> usize {
        self.columns.rows()
    }

    /// Bytes of the records that became those rows.
    pub const fn bytes(&self) -> usize {
        self.columns.bytes()
    }

    /// Gives the rows away as a batch and begins the next one.
    ///
    /// # Errors
    /// None of these rows can be the cause: it is a bug of the decoder.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.columns.finish()
    }
}

fn push(column: &mut Column, record: &[u8]) -> Result<(), Fault> {
    match &mut column.values {
        Values::String(texts) => {
            std::str::from_utf8(record)
                .map_err(|error| Fault::new(error.valid_up_to(), DecodeReason::NotUtf8))?;
            texts.push(record)
        }
        Values::Bytes(texts) => texts.push(record),
        _ => Ok(()),
    }
    .map_err(|reason| Fault::new(0, reason))?;
    column.value_pushed();
    Ok(())
}

/// Writes the values of a batch's only column as they are.
#[derive(Debug)]
pub struct RawEncoder {
    schema: SchemaRef,
    rows: EncodedRows,
    takes_nulls: bool,
}

impl RawEncoder {
    /// An encoder of batches with this column.
    ///
    /// # Errors
    /// There is not exactly one column, or it is not of type string or bytes.
    pub fn new(schema: &SchemaRef) -> Result<Self, UnsupportedColumn> {
        let fields = schema.fields();
        let wrong = match fields.iter().as_slice() {
            [only] if is_bytes(only.data_type()) => None,
            [] => Some((String::new(), DataType::Null)),
            [only] => Some((only.name().clone(), only.data_type().clone())),
            [_, second, ..] => Some((second.name().clone(), second.data_type().clone())),
        };
        if let Some((column, data_type)) = wrong {
            return Err(UnsupportedColumn {
                column,
                data_type,
                format: ENCODER,
            });
        }
        Ok(Self {
            schema: Arc::clone(schema),
            rows: EncodedRows::default(),
            takes_nulls: false,
        })
    }

    /// The same, for where a record may be without a value: a null becomes an
    /// [absent](EncodedRows::is_absent) row.
    pub fn with_nulls(self) -> Self {
        Self {
            takes_nulls: true,
            ..self
        }
    }

    /// The columns that the encoder was made for.
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Encodes every row of a batch. What is returned is valid until the next call.
    ///
    /// # Errors
    /// The batch has other columns than the encoder was made for, or a null that it does not take.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<&EncodedRows, EncodeError> {
        self.rows.clear();
        encoded::check_types(&self.schema, batch)?;
        let column: &dyn Array = batch.column(0);
        let mut rows = 0..column.len();
        if !self.takes_nulls
            && let Some(row) = rows.find(|row| column.is_null(*row))
        {
            return Err(EncodeError::Value {
                row,
                column: batch.schema_ref().field(0).name().clone(),
                reason: "raw cannot write a null",
            });
        }
        match column.data_type() {
            DataType::Utf8 => self.write(column.as_string::<i32>().iter()),
            DataType::LargeUtf8 => self.write(column.as_string::<i64>().iter()),
            DataType::Utf8View => self.write(column.as_string_view().iter()),
            DataType::Binary => self.write(column.as_binary::<i32>().iter()),
            DataType::LargeBinary => self.write(column.as_binary::<i64>().iter()),
            _ => self.write(column.as_binary_view().iter()),
        }
        Ok(&self.rows)
    }

    fn write<'a, V: AsRef<[u8]> + ?Sized + 'a>(
        &mut self,
        values: impl Iterator<Item = Option<&'a V>>,
    ) {
        for value in values {
            if let Some(value) = value {
                self.rows.out().extend_from_slice(value.as_ref());
                self.rows.end_row();
            } else {
                self.rows.push_absent();
            }
        }
    }
}

const fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
    )
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, BinaryArray, Int64Array, StringArray, StringViewArray};
    use arrow_schema::{Field, Schema};

    use super::*;

    fn schema(types: &[DataType]) -> SchemaRef {
        let fields = types.iter().enumerate();
        let fields = fields.map(|(index, data_type)| {
            let name = if index == 0 { VALUE } else { "more" };
            Field::new(name, data_type.clone(), false)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    #[test]
    fn a_record_is_its_value_and_text_must_be_utf8() {
        let mut decoder = RawDecoder::new(&schema(&[DataType::Utf8])).unwrap();
        decoder.decode("one ü".as_bytes()).unwrap();
        let error = decoder.decode(b"tw\xff").unwrap_err();
        assert_eq!(error.to_string(), "invalid UTF-8 (byte 2, field `value`)");
        decoder.decode(b"").unwrap();
        assert_eq!((decoder.rows(), decoder.bytes()), (2, 6));
        let batch = decoder.finish().unwrap();
        let values: Vec<_> = batch.column(0).as_string::<i32>().iter().collect();
        assert_eq!(values, [Some("one ü"), Some("")]);
    }

    #[test]
    fn bytes_may_be_anything_and_no_column_only_counts() {
        let mut decoder = RawDecoder::new(&schema(&[DataType::Binary])).unwrap();
        decoder.decode(b"tw\xff").unwrap();
        let batch = decoder.finish().unwrap();
        assert_eq!(batch.column(0).as_binary::<i32>().value(0), b"tw\xff");
        let mut decoder = RawDecoder::new(&schema(&[])).unwrap();
        decoder.decode(b"tw\xff").unwrap();
        assert_eq!(decoder.finish().unwrap().num_rows(), 1);
    }

    #[test]
    fn other_columns_than_one_text_are_refused() {
        for types in [vec![DataType::Int64], vec![DataType::Utf8, DataType::Utf8]] {
            assert!(RawDecoder::new(&schema(&types)).is_err());
            assert!(RawEncoder::new(&schema(&types)).is_err());
        }
        assert!(RawEncoder::new(&schema(&[])).is_err());
    }

    #[test]
    fn values_are_written_as_they_are() {
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec!["a\"b", "", "ü"])),
            Arc::new(StringViewArray::from(vec!["a\"b", "", "ü"])),
            Arc::new(BinaryArray::from(vec![
                "a\"b".as_bytes(),
                b"",
                "ü".as_bytes(),
            ])),
        ];
        for column in columns {
            let batch = RecordBatch::try_from_iter([(VALUE, column)]).unwrap();
            let mut encoder = RawEncoder::new(&batch.schema()).unwrap();
            let rows = encoder.encode(&batch).unwrap();
            let rows: Vec<_> = rows.iter().collect();
            assert_eq!(rows, ["a\"b".as_bytes(), b"", "ü".as_bytes()]);
        }
    }

    #[test]
    fn a_record_without_a_value_is_null_both_ways() {
        let nullable = |nullable| {
            let field = Field::new(VALUE, DataType::Utf8, nullable);
            Arc::new(Schema::new(vec![field]))
        };
        let mut decoder = RawDecoder::new(&nullable(true)).unwrap();
        decoder.decode(b"").unwrap();
        assert!(decoder.decode_absent());
        decoder.decode(b"one").unwrap();
        let batch = decoder.finish().unwrap();
        let values: Vec<_> = batch.column(0).as_string::<i32>().iter().collect();
        assert_eq!(values, [Some(""), None, Some("one")]);

        let encoder = RawEncoder::new(&batch.schema()).unwrap();
        let mut encoder = encoder.with_nulls();
        let rows = encoder.encode(&batch).unwrap();
        let absent: Vec<bool> = (0..rows.len()).map(|row| rows.is_absent(row)).collect();
        assert_eq!(absent, [false, true, false]);
        let rows: Vec<_> = rows.iter().collect();
        assert_eq!(rows, [b"".as_slice(), b"", b"one"]);

        let mut strict = RawDecoder::new(&nullable(false)).unwrap();
        strict.decode(b"one").unwrap();
        assert!(!strict.decode_absent());
        assert_eq!(strict.finish().unwrap().num_rows(), 1);
    }

    #[test]
    fn nulls_and_other_columns_cannot_be_written() {
        let nulls: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let batch = RecordBatch::try_from_iter([(VALUE, nulls)]).unwrap();
        let mut encoder = RawEncoder::new(&batch.schema()).unwrap();
        let error = encoder.encode(&batch).unwrap_err();
        assert_eq!(
            error.to_string(),
            "row 1 of column `value`: raw cannot write a null"
        );
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([(VALUE, numbers)]).unwrap();
        assert!(matches!(
            encoder.encode(&batch),
            Err(EncodeError::OtherSchema(_))
        ));
    }
}
