//! JSON: one object per record.

#[cfg(test)]
mod against_serde;
mod encode;
mod fields;
mod options;
mod scan;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod written;

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};

pub use encode::JsonEncoder;
pub use options::{JsonOptions, Written};
pub use scan::MAX_DEPTH;

use crate::column::Columns;
use crate::error::{DecodeError, DecodeReason, Fault, UnsupportedColumn};
use fields::Fields;
use shape::Shape;

/// Shapes that are remembered at a time: enough for a few optional fields.
const SHAPES: usize = 4;

/// Decodes JSON objects into the columns of a schema.
///
/// What it accepts is RFC 8259 with objects and arrays at most [`MAX_DEPTH`] deep; UTF-8 is
/// checked in the whole record. Of a repeated key the last value counts; the earlier ones, like
/// the values of fields that the schema does not have, only have to be well formed.
#[derive(Debug)]
pub struct JsonDecoder {
    columns: Columns,
    fields: Fields,
    /// The one that matched last is first.
    shapes: Vec<Shape>,
    shape_misses: u64,
}

impl JsonDecoder {
    /// A decoder into these columns.
    ///
    /// # Errors
    /// A column has a type that is not one of
    /// [`ColumnType`](millstream_types::schema::ColumnType).
    pub fn new(schema: &SchemaRef) -> Result<Self, UnsupportedColumn> {
        Self::with_options(schema, &JsonOptions::default())
    }

    /// A decoder into these columns, written as the options say.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_options(
        schema: &SchemaRef,
        options: &JsonOptions,
    ) -> Result<Self, UnsupportedColumn> {
        let mut columns = Columns::new(schema, "the json decoder")?;
        for (index, field) in schema.fields().iter().enumerate() {
            if let Some(written) = options.of(field) {
                columns.write_as(index, written);
            }
        }
        Ok(Self {
            fields: Fields::new(&columns),
            columns,
            shapes: Vec::with_capacity(SHAPES),
            shape_misses: 0,
        })
    }

    /// Appends one row, or nothing.
    ///
    /// # Errors
    /// The record is not JSON, or does not fit the columns.
    pub fn decode(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        if let Err(error) = std::str::from_utf8(record) {
            return Err(self.not_utf8(record, error.valid_up_to()));
        }
        if self.decode_by_shape(record) {
            return Ok(());
        }
        self.shape_misses += 1;
        self.decode_with_care(record)?;
        self.remember(record);
        Ok(())
    }

    fn decode_by_shape(&mut self, record: &[u8]) -> bool {
        for index in 0..self.shapes.len() {
            let Some(shape) = self.shapes.get(index) else {
                return false;
            };
            let append = |columns: &mut [_]| shape.decode(record, columns).ok_or(());
            if self.columns.attempt(record.len(), append).is_ok() {
                if let Some(hit @ [_, _, ..]) = self.shapes.get_mut(..=index) {
                    hit.rotate_right(1);
                }
                return true;
            }
        }
        false
    }

    fn decode_with_care(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        self.fields.find(record, &self.columns)?;
        let fields = &self.fields;
        let append = |columns: &mut [_]| fields.push(record, columns);
        self.columns.attempt(record.len(), append)
    }

    /// Makes the record that was just decoded with care the first shape.
    fn remember(&mut self, record: &[u8]) {
        let Some(seen) = self.fields.learnable() else {
            return;
        };
        let mut shape = match self.shapes.len() {
            SHAPES => self.shapes.pop().unwrap_or_default(),
            _ => Shape::default(),
        };
        if shape.learn(record, seen, self.columns.len()) {
            self.shapes.insert(0, shape);
        }
    }

    /// Names the field in which the bytes stop being UTF-8.
    #[cold]
    fn not_utf8(&mut self, record: &[u8], offset: usize) -> DecodeError {
        let valid = record.get(..offset).unwrap_or_default();
        let field = match self.fields.find(valid, &self.columns) {
            Err(error) if error.offset == offset => error.field,
            _ => None,
        };
        DecodeError {
            field,
            ..Fault::new(offset, DecodeReason::NotUtf8).in_field(None)
        }
    }

    /// Rows since the last [`finish`](Self::finish).
    pub const fn rows(&self) -> usize {
        self.columns.rows()
    }

    /// Bytes of the records that became those rows.
    pub const fn bytes(&self) -> usize {
        self.columns.bytes()
    }

    /// Records that no remembered shape fitted, since the decoder was made. They take about five
    /// times as long.
    pub const fn shape_misses(&self) -> u64 {
        self.shape_misses
    }

    /// Gives the rows away as a batch and begins the next one.
    ///
    /// # Errors
    /// None of these rows can be the cause: it is a bug of the decoder.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.columns.finish()
    }
}
