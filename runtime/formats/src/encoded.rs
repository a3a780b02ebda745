//! What encoders return.

use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Schema};

use crate::EncodeError;

/// One byte string per row of a batch, end to end in one buffer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedRows {
    bytes: Vec<u8>,
    /// Where each row ends in `bytes`.
    ends: Vec<usize>,
    /// Rows without any bytes at all, not even none of them; in order.
    absent: Vec<usize>,
}

impl EncodedRows {
    /// Number of rows.
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no row.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of all rows, end to end.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where each row ends in [`bytes`](Self::bytes).
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// The bytes of one row.
    ///
    /// # Panics
    /// There is no such row.
    pub fn row(&self, row: usize) -> &[u8] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[row]]
    }

    /// Whether a row is null, which only [`RawEncoder`](crate::RawEncoder) makes, if it may.
    pub fn is_absent(&self, row: usize) -> bool {
        !self.absent.is_empty() && self.absent.binary_search(&row).is_ok()
    }

    /// The rows in order; an absent one is empty.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        (0..self.ends.len()).map(|row| self.row(row))
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.absent.clear();
    }

    /// Where a row is written to; [`end_row`](Self::end_row) follows.
    pub(crate) const fn out(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn end_row(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// The next row is null.
    pub(crate) fn push_absent(&mut self) {
        self.absent.push(self.ends.len());
        self.end_row();
    }
}

/// Checks that a batch has the types that an encoder was made for.
pub(crate) fn check_types(schema: &Schema, batch: &RecordBatch) -> Result<(), EncodeError> {
    let wanted = schema.fields().iter().map(|field| field.data_type());
    let found = batch.columns().iter().map(Array::data_type);
    if wanted.clone().eq(found.clone()) {
        return Ok(());
    }
    let list = |types: &mut dyn Iterator<Item = &DataType>| {
        types
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    Err(EncodeError::OtherSchema(format!(
        "it has ({}), not ({})",
        list(&mut { found }),
        list(&mut { wanted }),
    )))
}
