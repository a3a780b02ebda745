//! Columnar records.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

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

    /// Bytes that the columns hold in memory: what bounded queues count.
    pub fn bytes(&self) -> usize {
        self.records.get_array_memory_size()
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
