//! Columns under construction.

use std::sync::Arc;

use arrow_array::types::Decimal128Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array,
    PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray, TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, SchemaRef, TimeUnit};

use crate::error::{DecodeReason, UnsupportedColumn};
use crate::json::Written;
use crate::timestamp::Timestamps;

/// Values of one column, one per row so far.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: Box<[u8]>,
    pub(crate) nullable: bool,
    pub(crate) values: Values,
    data_type: DataType,
    nulls: NullBufferBuilder,
}

/// The values, by type. A null has a value too, which nobody looks at.
#[derive(Debug)]
pub(crate) enum Values {
    Boolean(BooleanBufferBuilder),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    String(Texts),
    Bytes(Texts),
    Decimal(Decimals),
    /// As RFC 3339 text or epoch milliseconds.
    Timestamp(Vec<i64>),
    /// As the user says.
    TimestampAs(Vec<i64>, Timestamps),
    /// Texts that are JSON.
    Json(Texts),
    Date(Vec<i32>),
}

/// Decimals of one precision and scale.
#[derive(Debug)]
pub(crate) struct Decimals {
    pub(crate) values: Vec<i128>,
    pub(crate) precision: u8,
    pub(crate) scale: i8,
    /// `10^precision`: what every value is below.
    pub(crate) limit: i128,
}

/// Byte strings, end to end.
#[derive(Debug)]
pub(crate) struct Texts {
    /// Where each begins, and where the last one ends.
    offsets: Vec<i32>,
    /// All bytes. Longer than the last offset only while a value is being appended.
    pub(crate) data: Vec<u8>,
}

impl Texts {
    fn new() -> Self {
        Self {
            offsets: vec![0],
            data: Vec::new(),
        }
    }

    /// Makes what was appended to `data` since the last value the next value.
    pub(crate) fn end_value(&mut self) -> Result<(), DecodeReason> {
        let end = i32::try_from(self.data.len()).map_err(|_| DecodeReason::BatchTooLarge)?;
        self.offsets.push(end);
        Ok(())
    }

    pub(crate) fn push(&mut self, value: &[u8]) -> Result<(), DecodeReason> {
        self.data.extend_from_slice(value);
        self.end_value()
    }

    fn truncate(&mut self, rows: usize) {
        self.offsets.truncate(rows + 1);
        let end = self.offsets.last().copied().unwrap_or_default();
        self.data.truncate(usize::try_from(end).unwrap_or_default());
    }

    /// Gives the values away and makes room for as many again.
    fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let mut offsets = Vec::with_capacity(self.offsets.len());
        offsets.push(0);
        let offsets = std::mem::replace(&mut self.offsets, offsets);
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        (offsets, Buffer::from_vec(renew(&mut self.data)))
    }
}

/// Takes a vector and leaves one with room for as many elements.
fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    std::mem::replace(values, room)
}

impl Column {
    /// From now on its values are written like this. Before any value.
    pub(crate) fn write_as(&mut self, written: Written) {
        match (&self.values, written) {
            (Values::String(_), Written::Json) => self.values = Values::Json(Texts::new()),
            (Values::Timestamp(_), Written::Timestamp(timestamps)) => {
                self.values = Values::TimestampAs(Vec::new(), timestamps);
            }
            _ => {}
        }
    }

    fn new(field: &Field, format: &'static str) -> Result<Self, UnsupportedColumn> {
        let values = match field.data_type() {
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Utf8 => Values::String(Texts::new()),
            DataType::Binary => Values::Bytes(Texts::new()),
            &DataType::Decimal128(precision, scale) => {
                let power = crate::number::power_of_ten(usize::from(precision));
                Values::Decimal(Decimals {
                    values: Vec::new(),
                    precision,
                    scale,
                    limit: power.ok_or_else(|| unsupported(field, format))?,
                })
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => Values::Timestamp(Vec::new()),
            DataType::Date32 => Values::Date(Vec::new()),
            _ => return Err(unsupported(field, format)),
        };
        Ok(Self {
            name: field.name().as_bytes().into(),
            nullable: field.is_nullable(),
            values,
            data_type: field.data_type().clone(),
            nulls: NullBufferBuilder::new(0),
        })
    }

    /// Marks the value that was just pushed as one that counts.
    #[inline]
    pub(crate) fn value_pushed(&mut self) {
        if self.nullable {
            self.nulls.append_non_null();
        }
    }

    /// Appends a null; false, and nothing is appended, if the column may have none.
    pub(crate) fn push_null(&mut self) -> bool {
        if !self.nullable {
            return false;
        }
        match &mut self.values {
            Values::Boolean(values) => values.append(false),
            Values::Int32(values) | Values::Date(values) => values.push(0),
            Values::Int64(values) | Values::Timestamp(values) | Values::TimestampAs(values, _) => {
                values.push(0);
            }
            Values::Float64(values) => values.push(0.0),
            Values::String(texts) | Values::Json(texts) | Values::Bytes(texts) => {
                let end = texts.offsets.last().copied().unwrap_or_default();
                texts.offsets.push(end);
            }
            Values::Decimal(decimals) => decimals.values.push(0),
        }
        self.nulls.append_null();
        true
    }

    fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(values) if values.len() > rows => values.truncate(rows),
            Values::Boolean(_) => {}
            Values::Int32(values) | Values::Date(values) => values.truncate(rows),
            Values::Int64(values) | Values::Timestamp(values) | Values::TimestampAs(values, _) => {
                values.truncate(rows);
            }
            Values::Float64(values) => values.truncate(rows),
            Values::String(texts) | Values::Json(texts) | Values::Bytes(texts) => {
                texts.truncate(rows);
            }
            Values::Decimal(decimals) => decimals.values.truncate(rows),
        }
        if self.nulls.len() > rows {
            self.nulls.truncate(rows);
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish();
        Ok(match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::Int32(values) => Arc::new(Int32Array::try_new(renew(values).into(), nulls)?),
            Values::Int64(values) => Arc::new(Int64Array::try_new(renew(values).into(), nulls)?),
            Values::Float64(values) => {
                Arc::new(Float64Array::try_new(renew(values).into(), nulls)?)
            }
            Values::String(texts) | Values::Json(texts) => {
                let (offsets, data) = texts.finish();
                Arc::new(StringArray::try_new(offsets, data, nulls)?)
            }
            Values::Bytes(texts) => {
                let (offsets, data) = texts.finish();
                Arc::new(BinaryArray::try_new(offsets, data, nulls)?)
            }
            Values::Decimal(decimals) => {
                let values = renew(&mut decimals.values).into();
                let array = PrimitiveArray::<Decimal128Type>::try_new(values, nulls)?;
                Arc::new(array.with_data_type(self.data_type.clone()))
            }
            Values::Timestamp(values) | Values::TimestampAs(values, _) => {
                let array = TimestampMicrosecondArray::try_new(renew(values).into(), nulls)?;
                Arc::new(array.with_data_type(self.data_type.clone()))
            }
            Values::Date(values) => Arc::new(Date32Array::try_new(renew(values).into(), nulls)?),
        })
    }
}

fn unsupported(field: &Field, format: &'static str) -> UnsupportedColumn {
    UnsupportedColumn {
        column: field.name().clone(),
        data_type: field.data_type().clone(),
        format,
    }
}

/// All columns of a batch under construction. Outside [`Columns::attempt`] every column has
/// exactly [`rows`](Self::rows) values.
#[derive(Debug)]
pub(crate) struct Columns {
    schema: SchemaRef,
    each: Vec<Column>,
    rows: usize,
    bytes: usize,
}

impl Columns {
    pub(crate) fn new(schema: &SchemaRef, format: &'static str) -> Result<Self, UnsupportedColumn> {
        let columns = schema
            .fields()
            .iter()
            .map(|field| Column::new(field, format));
        Ok(Self {
            schema: Arc::clone(schema),
            each: columns.collect::<Result<_, _>>()?,
            rows: 0,
            bytes: 0,
        })
    }

    /// From now on the values of a column are written like this. Before any value.
    pub(crate) fn write_as(&mut self, index: usize, written: Written) {
        if let Some(column) = self.each.get_mut(index) {
            column.write_as(written);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.each.len()
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Column> {
        self.each.get(index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Column> {
        self.each.iter()
    }

    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Runs `append`, which appends one value to every column, and counts the row with the bytes
    /// it came from; if it does not succeed, everything that it has appended is taken back.
    #[inline]
    pub(crate) fn attempt<E>(
        &mut self,
        bytes: usize,
        append: impl FnOnce(&mut [Column]) -> Result<(), E>,
    ) -> Result<(), E> {
        let outcome = append(&mut self.each);
        if outcome.is_ok() {
            self.rows += 1;
            self.bytes += bytes;
        } else {
            self.take_back();
        }
        outcome
    }

    #[cold]
    fn take_back(&mut self) {
        for column in &mut self.each {
            column.truncate(self.rows);
        }
    }

    /// Gives the rows away.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        (self.rows, self.bytes) = (0, 0);
        let arrays = self.each.iter_mut().map(Column::finish);
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_, _>>()?;
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)
    }
}
