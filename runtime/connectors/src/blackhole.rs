//! A sink that counts records and drops them, whatever they change.

use std::sync::Arc;

use millstream_connect::{Result, SinkCommitter, SinkConnector, SinkWriter, WriterContext};
use millstream_types::{Batch, CheckpointId, Committable, JobId, OperatorUid};

/// The `blackhole` sink.
pub fn sink() -> Arc<dyn SinkConnector> {
    Arc::new(Blackhole)
}

#[derive(Debug)]
struct Blackhole;

impl SinkConnector for Blackhole {
    fn writer(&self, _: WriterContext) -> Result<Box<dyn SinkWriter>> {
        Ok(Box::new(BlackholeWriter { bytes: 0 }))
    }

    fn committer(&self, _: &JobId, _: &OperatorUid) -> Result<Option<Arc<dyn SinkCommitter>>> {
        Ok(None)
    }
}

#[derive(Debug)]
struct BlackholeWriter {
    bytes: u64,
}

impl SinkWriter for BlackholeWriter {
    fn write(&mut self, batch: &Batch) -> Result<u64> {
        self.bytes += u64::try_from(batch.bytes()).unwrap_or(u64::MAX);
        Ok(u64::try_from(batch.rows()).unwrap_or(u64::MAX))
    }

    fn prepare(&mut self, _: CheckpointId) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }

    /// Memory that the dropped columns held.
    fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use millstream_types::change::Changelog;
    use millstream_types::{Attempt, SubtaskIndex};

    use super::*;

    #[test]
    fn rows_are_counted_and_leave_nothing_to_commit() {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let batch: Batch = RecordBatch::try_from_iter([("id", column)]).unwrap().into();
        let job = JobId {
            namespace: "default".to_owned(),
            name: "test".to_owned(),
        };
        let uid = OperatorUid::from("nowhere");
        assert!(sink().committer(&job, &uid).unwrap().is_none());
        let context = WriterContext {
            job,
            uid,
            attempt: Attempt(1),
            lineage: None,
            subtask: SubtaskIndex(0),
            parallelism: 1,
            schema: batch.schema(),
            changelog: Changelog::Append,
        };
        let mut writer = sink().writer(context).unwrap();
        assert_eq!(writer.write(&batch), Ok(3));
        assert!(writer.bytes() >= 24);
        assert_eq!(writer.prepare(CheckpointId(1)).unwrap(), []);
    }
}
