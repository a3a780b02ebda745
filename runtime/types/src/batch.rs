//! Columnar records.

use arrow_array::cast::AsArray;
use arrow_array::types::ByteArrayType;
use arrow_array::{Array, GenericByteArray, RecordBatch};
use arrow_schema::{DataType, SchemaRef};

/// Most rows that a source or decoder puts into one batch.
pub const MAX_BATCH_ROWS: usize = 4_096;
/// Most bytes of input that a source or decoder puts into one batch.
pub const MAX_BATCH_BYTES: usize = 256 * 1_024;

/// Rows of one schema, in columns: what travels along every edge.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    records: RecordBatch,
}

impl Batch {
    /// Wraps an Arrow record batch.
    pub const fn new(records: RecordBatch) -> Self {
        Self { records }
    }

    /// The columns.
    pub const fn records(&self) -> &RecordBatch {
        &self.records
    }

    /// Gives the columns away.
    pub fn into_records(self) -> RecordBatch {
        self.records
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.records.num_rows()
    }

    /// Bytes of the rows in the columns: what bounded queues count. Of buffers that the batch shares
    /// with others, only the part that its rows use.
    pub fn bytes(&self) -> usize {
        let columns = self.records.columns().iter();
        columns.map(|column| bytes_of(column.as_ref())).sum()
    }

    /// Names and types of the columns.
    pub fn schema(&self) -> SchemaRef {
        self.records.schema()
    }
}

impl From<RecordBatch> for Batch {
    fn from(records: RecordBatch) -> Self {
        Self::new(records)
    }
}

fn bytes_of(array: &dyn Array) -> usize {
    let bits = |rows: usize| rows.div_ceil(8);
    let rows = array.len();
    let nulls = array.nulls().map_or(0, |_| bits(rows));
    let data_type = array.data_type();
    let values = match data_type {
        DataType::Boolean => bits(rows),
        DataType::Utf8 => text_bytes(array.as_string::<i32>()),
        DataType::Binary => text_bytes(array.as_binary::<i32>()),
        _ => match data_type.primitive_width() {
            Some(width) => rows * width,
            // No stream has such a column; what is unknown counts as what its buffers hold.
            None => return array.get_array_memory_size(),
        },
    };
    nulls + values
}

fn text_bytes<T: ByteArrayType<Offset = i32>>(array: &GenericByteArray<T>) -> usize {
    let offsets = array.value_offsets();
    let used = offsets
        .last()
        .zip(offsets.first())
        .map_or(0, |(end, start)| end - start);
    size_of_val(offsets) + usize::try_from(used).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BooleanArray, Decimal128Array, Int64Array, StringArray};

    use super::*;

    fn batch(rows: i64) -> Batch {
        let optional = |row: i64| (row % 3 > 0).then_some(row);
        let columns: [(&str, ArrayRef); 4] = [
            (
                "number",
                Arc::new((0..rows).map(optional).collect::<Int64Array>()),
            ),
            (
                "exact",
                Arc::new(Decimal128Array::from_iter_values((0..rows).map(i128::from))),
            ),
            (
                "truth",
                Arc::new((0..rows).map(|row| Some(row > 7)).collect::<BooleanArray>()),
            ),
            (
                "text",
                Arc::new(StringArray::from_iter_values((0..rows).map(|_| "four"))),
            ),
        ];
        Batch::new(RecordBatch::try_from_iter(columns).unwrap())
    }

    #[test]
    fn bytes_are_those_of_the_rows() {
        // Numbers and which are null, decimals, bits, offsets and texts.
        let expected = (8 * 1_024 + 128) + 16 * 1_024 + 128 + (4 * 1_025 + 4 * 1_024);
        assert_eq!(batch(1_024).bytes(), expected);
        assert_eq!(batch(0).bytes(), 4, "an offset");
    }

    #[test]
    fn a_slice_counts_its_rows_and_not_the_buffers_of_its_parent() {
        let whole = batch(4_096);
        for (offset, rows) in [(0, 64), (1_000, 64), (4_032, 64), (17, 1)] {
            let slice = Batch::new(whole.records().slice(offset, rows));
            let copied = batch(i64::try_from(rows).unwrap());
            assert_eq!(slice.bytes(), copied.bytes(), "{rows} rows from {offset}");
        }
        let parts: usize = (0..64)
            .map(|n| whole.records().slice(n * 64, 64))
            .map(|part| Batch::new(part).bytes())
            .sum();
        assert!(
            parts < whole.bytes() + 64 * 8,
            "{parts} of {}",
            whole.bytes()
        );
    }
}
