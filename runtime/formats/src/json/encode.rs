//! Batches into JSON objects, one per row.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, LargeBinaryArray, LargeStringArray,
    PrimitiveArray, RecordBatch, StringArray, StringViewArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::options::{JsonOptions, Written};
use super::scan::plain_length;
use crate::calendar::{write_date, write_timestamp};
use crate::encoded::{EncodedRows, check_types};
use crate::error::{EncodeError, UnsupportedColumn};
use crate::number::write_decimal;

const NOT_IN_CALENDAR: &str = "the year is not one of 0000 to 9999";

/// Writes one JSON object per row, with the columns in order and without whitespace.
///
/// Decimals are plain numbers with all digits of their scale, timestamps RFC 3339 in UTC, dates
/// `YYYY-MM-DD`, bytes base64, nulls `null`. JSON has no NaN and no infinities; they become
/// `null`.
#[derive(Debug)]
pub struct JsonEncoder {
    schema: SchemaRef,
    /// What stands before each column's value: `{"a":`, `,"b":`.
    keys: Vec<Box<[u8]>>,
    /// How each column is written, where its type does not say it.
    written: Vec<Option<Written>>,
    rows: EncodedRows,
}

impl JsonEncoder {
    /// An encoder of batches with these columns.
    ///
    /// # Errors
    /// A column has a type that JSON is not written for: nested ones, intervals, times of day and
    /// the like.
    pub fn new(schema: &SchemaRef) -> Result<Self, UnsupportedColumn> {
        Self::with_options(schema, &JsonOptions::default())
    }

    /// An encoder of batches with these columns, written as the options say.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_options(
        schema: &SchemaRef,
        options: &JsonOptions,
    ) -> Result<Self, UnsupportedColumn> {
        let mut keys = Vec::with_capacity(schema.fields().len());
        for (index, field) in schema.fields().iter().enumerate() {
            if !is_supported(field.data_type()) {
                return Err(UnsupportedColumn {
                    column: field.name().clone(),
                    data_type: field.data_type().clone(),
                    format: "the json encoder",
                });
            }
            let mut key = vec![if index == 0 { b'{' } else { b',' }];
            write_string(field.name().as_bytes(), &mut key);
            key.push(b':');
            keys.push(key.into_boxed_slice());
        }
        Ok(Self {
            schema: Arc::clone(schema),
            keys,
            written: schema
                .fields()
                .iter()
                .map(|field| options.of(field))
                .collect(),
            rows: EncodedRows::default(),
        })
    }

    /// The columns that the encoder was made for.
    pub const fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Encodes every row of a batch. What is returned is valid until the next call.
    ///
    /// # Errors
    /// The batch has other columns than the encoder was made for, a date or timestamp outside the
    /// years 0000 to 9999, or a text that is not the JSON it should be.
    pub fn encode(&mut self, batch: &RecordBatch) -> Result<&EncodedRows, EncodeError> {
        self.rows.clear();
        check_types(&self.schema, batch)?;
        let columns = batch
            .columns()
            .iter()
            .zip(self.keys.iter().zip(&self.written))
            .map(|(array, (key, written))| Column {
                key,
                written: *written,
                nulls: array.nulls(),
                values: Values::of(array),
            });
        let columns: Vec<Column<'_>> = columns.collect();
        for row in 0..batch.num_rows() {
            for (index, column) in columns.iter().enumerate() {
                if let Err(reason) = column.write(row, self.rows.out()) {
                    self.rows.clear();
                    let column = batch.schema_ref().field(index).name().clone();
                    return Err(EncodeError::Value {
                        row,
                        column,
                        reason,
                    });
                }
            }
            let close: &[u8] = if columns.is_empty() { b"{}" } else { b"}" };
            self.rows.out().extend_from_slice(close);
            self.rows.end_row();
        }
        Ok(&self.rows)
    }
}

const fn is_supported(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Null
            | DataType::Boolean
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Float32
            | DataType::Float64
            | DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::Decimal128(_, _)
            | DataType::Timestamp(_, _)
            | DataType::Date32
    )
}

/// One column of the batch that is being encoded.
struct Column<'a> {
    key: &'a [u8],
    written: Option<Written>,
    nulls: Option<&'a NullBuffer>,
    values: Values<'a>,
}

pub(super) enum Values<'a> {
    Null,
    Boolean(&'a BooleanArray),
    Int8(&'a PrimitiveArray<Int8Type>),
    Int16(&'a PrimitiveArray<Int16Type>),
    Int32(&'a PrimitiveArray<Int32Type>),
    Int64(&'a PrimitiveArray<Int64Type>),
    UInt8(&'a PrimitiveArray<UInt8Type>),
    UInt16(&'a PrimitiveArray<UInt16Type>),
    UInt32(&'a PrimitiveArray<UInt32Type>),
    UInt64(&'a PrimitiveArray<UInt64Type>),
    Float32(&'a PrimitiveArray<Float32Type>),
    Float64(&'a PrimitiveArray<Float64Type>),
    Utf8(&'a StringArray),
    LargeUtf8(&'a LargeStringArray),
    Utf8View(&'a StringViewArray),
    Binary(&'a BinaryArray),
    LargeBinary(&'a LargeBinaryArray),
    BinaryView(&'a BinaryViewArray),
    Decimal(&'a PrimitiveArray<Decimal128Type>, i8),
    Seconds(&'a PrimitiveArray<TimestampSecondType>),
    Millis(&'a PrimitiveArray<TimestampMillisecondType>),
    Micros(&'a PrimitiveArray<TimestampMicrosecondType>),
    Nanos(&'a PrimitiveArray<TimestampNanosecondType>),
    Date(&'a PrimitiveArray<Date32Type>),
}

impl<'a> Values<'a> {
    /// The values of an array whose type is supported.
    fn of(array: &'a dyn Array) -> Self {
        match array.data_type() {
            DataType::Boolean => Self::Boolean(array.as_boolean()),
            DataType::Int8 => Self::Int8(array.as_primitive()),
            DataType::Int16 => Self::Int16(array.as_primitive()),
            DataType::Int32 => Self::Int32(array.as_primitive()),
            DataType::Int64 => Self::Int64(array.as_primitive()),
            DataType::UInt8 => Self::UInt8(array.as_primitive()),
            DataType::UInt16 => Self::UInt16(array.as_primitive()),
            DataType::UInt32 => Self::UInt32(array.as_primitive()),
            DataType::UInt64 => Self::UInt64(array.as_primitive()),
            DataType::Float32 => Self::Float32(array.as_primitive()),
            DataType::Float64 => Self::Float64(array.as_primitive()),
            DataType::Utf8 => Self::Utf8(array.as_string()),
            DataType::LargeUtf8 => Self::LargeUtf8(array.as_string()),
            DataType::Utf8View => Self::Utf8View(array.as_string_view()),
            DataType::Binary => Self::Binary(array.as_binary()),
            DataType::LargeBinary => Self::LargeBinary(array.as_binary()),
            DataType::BinaryView => Self::BinaryView(array.as_binary_view()),
            DataType::Decimal128(_, scale) => Self::Decimal(array.as_primitive(), *scale),
            DataType::Timestamp(TimeUnit::Second, _) => Self::Seconds(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Millisecond, _) => Self::Millis(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Self::Micros(array.as_primitive()),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Self::Nanos(array.as_primitive()),
            DataType::Date32 => Self::Date(array.as_primitive()),
            _ => Self::Null,
        }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
        let in_calendar = match self {
            Self::Null => write(out, b"null"),
            Self::Boolean(values) => write(out, if values.value(row) { b"true" } else { b"false" }),
            Self::Int8(values) => write_integer(values.value(row), out),
            Self::Int16(values) => write_integer(values.value(row), out),
            Self::Int32(values) => write_integer(values.value(row), out),
            Self::Int64(values) => write_integer(values.value(row), out),
            Self::UInt8(values) => write_integer(values.value(row), out),
            Self::UInt16(values) => write_integer(values.value(row), out),
            Self::UInt32(values) => write_integer(values.value(row), out),
            Self::UInt64(values) => write_integer(values.value(row), out),
            Self::Float32(values) => write_float(&values.value(row), out),
            Self::Float64(values) => write_float(&values.value(row), out),
            Self::Utf8(values) => write_string(values.value(row).as_bytes(), out),
            Self::LargeUtf8(values) => write_string(values.value(row).as_bytes(), out),
            Self::Utf8View(values) => write_string(values.value(row).as_bytes(), out),
            Self::Binary(values) => write_base64(values.value(row), out),
            Self::LargeBinary(values) => write_base64(values.value(row), out),
            Self::BinaryView(values) => write_base64(values.value(row), out),
            Self::Decimal(values, scale) => {
                write_decimal(values.value(row), *scale, out);
                true
            }
            Self::Seconds(values) => instant(values.value(row).checked_mul(1_000_000), out),
            Self::Millis(values) => instant(values.value(row).checked_mul(1_000), out),
            Self::Micros(values) => instant(Some(values.value(row)), out),
            Self::Nanos(values) => instant(Some(values.value(row).div_euclid(1_000)), out),
            Self::Date(values) => {
                out.push(b'"');
                let written = write_date(values.value(row), out);
                out.push(b'"');
                written
            }
        };
        if in_calendar {
            Ok(())
        } else {
            Err(NOT_IN_CALENDAR)
        }
    }
}

impl Column<'_> {
    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
        out.extend_from_slice(self.key);
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match self.written {
            None => self.values.write(row, out),
            Some(written) => written.write(&self.values, row, out),
        }
    }
}

/// As all writers below, says whether the value could be written.
fn write(out: &mut Vec<u8>, text: &[u8]) -> bool {
    out.extend_from_slice(text);
    true
}

fn write_integer(value: impl itoa::Integer, out: &mut Vec<u8>) -> bool {
    write(out, itoa::Buffer::new().format(value).as_bytes())
}

/// The shortest text that reads back as the same number; `null` where there is none.
fn write_float(value: &impl serde::Serialize, out: &mut Vec<u8>) -> bool {
    serde_json::to_writer(out, value).is_ok()
}

fn instant(micros: Option<i64>, out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    let written = micros.is_some_and(|micros| write_timestamp(micros, out));
    out.push(b'"');
    written
}

fn write_base64(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    let start = out.len();
    let length = base64::encoded_len(bytes.len(), true).unwrap_or_default();
    out.resize(start + length, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    let encoded = STANDARD.encode_slice(bytes, room).is_ok();
    out.push(b'"');
    encoded
}

/// Appends a string in quotes, with the escapes that JSON demands and no others.
fn write_string(text: &[u8], out: &mut Vec<u8>) -> bool {
    out.push(b'"');
    let mut rest = text;
    loop {
        let (plain, after) = rest
            .split_at_checked(plain_length(rest))
            .unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        let Some((&special, after)) = after.split_first() else {
            break;
        };
        write_escape(special, out);
        rest = after;
    }
    out.push(b'"');
    true
}

#[cold]
fn write_escape(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| HEX[usize::from(digit)]);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}
