//! A batch under construction: chosen rows of other batches, column by column.

use std::fmt;
use std::sync::Arc;

use arrow_array::builder::{ArrayBuilder, BooleanBuilder, GenericByteBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, BinaryType, ByteArrayType, Date32Type, Decimal128Type, Float64Type,
    Int32Type, Int64Type, TimestampMicrosecondType, Utf8Type,
};
use arrow_array::{
    Array, ArrayRef, PrimitiveArray, RecordBatch, RecordBatchOptions, UInt32Array, new_empty_array,
};
use arrow_buffer::NullBufferBuilder;
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef, TimeUnit};
use millstream_types::batch::{MAX_BATCH_BYTES, MAX_BATCH_ROWS};

pub(super) struct Builder {
    columns: Vec<Box<dyn Column>>,
    rows: usize,
    bytes: usize,
}

impl Builder {
    pub(super) fn new(schema: &Schema) -> Self {
        let fields = schema.fields().iter();
        Self {
            columns: fields.map(|field| column(field.data_type())).collect(),
            rows: 0,
            bytes: 0,
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub(super) const fn is_full(&self) -> bool {
        self.rows >= MAX_BATCH_ROWS || self.bytes >= MAX_BATCH_BYTES
    }

    /// How many further rows of about this size it takes: at least one.
    pub(super) fn room(&self, bytes_of_row: usize) -> usize {
        let of_bytes = MAX_BATCH_BYTES
            .saturating_sub(self.bytes)
            .div_ceil(bytes_of_row);
        of_bytes
            .min(MAX_BATCH_ROWS.saturating_sub(self.rows))
            .max(1)
    }

    /// Appends rows of a batch that has the builder's schema.
    pub(super) fn append(&mut self, records: &RecordBatch, rows: &[u32]) -> Result<(), ArrowError> {
        self.bytes = 0;
        for (column, array) in self.columns.iter_mut().zip(records.columns()) {
            column.append(array, rows)?;
            self.bytes += column.bytes();
        }
        self.rows += rows.len();
        Ok(())
    }

    /// The batch. The next one begins.
    pub(super) fn finish(&mut self, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
        let columns: Result<Vec<_>, _> = self
            .columns
            .iter_mut()
            .map(|column| column.finish())
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        self.rows = 0;
        self.bytes = 0;
        RecordBatch::try_new_with_options(schema, columns?, &options)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut builder = f.debug_struct("Builder");
        builder
            .field("rows", &self.rows)
            .field("bytes", &self.bytes);
        builder.finish_non_exhaustive()
    }
}

trait Column: Send {
    /// Appends the values of these rows.
    fn append(&mut self, array: &ArrayRef, rows: &[u32]) -> Result<(), ArrowError>;
    /// About how much it holds.
    fn bytes(&self) -> usize;
    /// Gives what it holds away.
    fn finish(&mut self) -> Result<ArrayRef, ArrowError>;
}

fn column(data_type: &DataType) -> Box<dyn Column> {
    match data_type {
        DataType::Boolean => Box::new(Booleans(BooleanBuilder::new())),
        DataType::Int32 => fixed::<Int32Type>(data_type),
        DataType::Int64 => fixed::<Int64Type>(data_type),
        DataType::Float64 => fixed::<Float64Type>(data_type),
        DataType::Decimal128(..) => fixed::<Decimal128Type>(data_type),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            fixed::<TimestampMicrosecondType>(data_type)
        }
        DataType::Date32 => fixed::<Date32Type>(data_type),
        DataType::Utf8 => Box::new(Texts(GenericByteBuilder::<Utf8Type>::new())),
        DataType::Binary => Box::new(Texts(GenericByteBuilder::<BinaryType>::new())),
        other => Box::new(Others {
            data_type: other.clone(),
            parts: Vec::new(),
        }),
    }
}

fn fixed<T: ArrowPrimitiveType>(data_type: &DataType) -> Box<dyn Column> {
    Box::new(Fixed::<T> {
        data_type: data_type.clone(),
        values: Vec::new(),
        nulls: NullBufferBuilder::new(0),
    })
}

/// Values of one width.
struct Fixed<T: ArrowPrimitiveType> {
    data_type: DataType,
    values: Vec<T::Native>,
    nulls: NullBufferBuilder,
}

impl<T: ArrowPrimitiveType> Column for Fixed<T> {
    fn append(&mut self, array: &ArrayRef, rows: &[u32]) -> Result<(), ArrowError> {
        let array = array.as_primitive::<T>();
        let values: &[T::Native] = array.values();
        self.values
            .extend(rows.iter().map(|row| values[*row as usize]));
        match array.nulls().filter(|nulls| nulls.null_count() > 0) {
            Some(nulls) => {
                for row in rows {
                    self.nulls.append(nulls.is_valid(*row as usize));
                }
            }
            None => self.nulls.append_n_non_nulls(rows.len()),
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        size_of_val(self.values.as_slice())
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        // The next batch is most likely as long.
        let next = Vec::with_capacity(self.values.len());
        let values = std::mem::replace(&mut self.values, next);
        let array = PrimitiveArray::<T>::try_new(values.into(), self.nulls.finish())?;
        Ok(Arc::new(array.with_data_type(self.data_type.clone())))
    }
}

struct Booleans(BooleanBuilder);

impl Column for Booleans {
    fn append(&mut self, array: &ArrayRef, rows: &[u32]) -> Result<(), ArrowError> {
        let array = array.as_boolean();
        for row in rows {
            let row = *row as usize;
            self.0
                .append_option(array.is_valid(row).then(|| array.value(row)));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.0.len().div_ceil(8)
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(self.0.finish()))
    }
}

/// Strings and bytes.
struct Texts<T: ByteArrayType<Offset = i32>>(GenericByteBuilder<T>);

impl<T: ByteArrayType<Offset = i32>> Column for Texts<T> {
    fn append(&mut self, array: &ArrayRef, rows: &[u32]) -> Result<(), ArrowError> {
        let array = array.as_bytes::<T>();
        if array.null_count() == 0 {
            for row in rows {
                self.0.append_value(array.value(*row as usize));
            }
            return Ok(());
        }
        for row in rows {
            let row = *row as usize;
            self.0
                .append_option(array.is_valid(row).then(|| array.value(row)));
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.0.values_slice().len() + size_of_val(self.0.offsets_slice())
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let next = GenericByteBuilder::with_capacity(self.0.len(), self.0.values_slice().len());
        let mut builder = std::mem::replace(&mut self.0, next);
        Ok(Arc::new(builder.finish()))
    }
}

/// Any other type: no job's column has one, an operator of a user's own may.
struct Others {
    data_type: DataType,
    parts: Vec<ArrayRef>,
}

impl Column for Others {
    fn append(&mut self, array: &ArrayRef, rows: &[u32]) -> Result<(), ArrowError> {
        let rows = UInt32Array::from(rows.to_vec());
        self.parts
            .push(arrow_select::take::take(array, &rows, None)?);
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.parts.iter().map(Array::get_array_memory_size).sum()
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let parts = std::mem::take(&mut self.parts);
        let arrays: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        if arrays.is_empty() {
            return Ok(new_empty_array(&self.data_type));
        }
        arrow_select::concat::concat(&arrays)
    }
}
