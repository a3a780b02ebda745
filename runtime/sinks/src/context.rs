//! What a sink is told when it is made.

use arrow_schema::SchemaRef;
use millstream_connect::WriterContext;
use millstream_types::{JobId, OperatorUid};

/// Which sink of which job it is, and where it runs.
#[derive(Debug, Clone)]
pub struct SinkContext {
    /// The job.
    pub job: JobId,
    /// The sink's name in the job.
    pub sink: OperatorUid,
    /// The subtask that it writes for; none in the coordinator, where nothing is written.
    pub writer: Option<WriterContext>,
}

impl SinkContext {
    /// The columns of its batches without that of changes; none in the coordinator.
    pub fn columns(&self) -> Option<SchemaRef> {
        self.writer.as_ref().map(WriterContext::columns)
    }
}
