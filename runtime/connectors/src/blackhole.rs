//! A sink that counts records and drops them.

use std::sync::Arc;

use millstream_operators::{Result, SinkCommitter, SinkConnector, SinkWriter, WriterContext};
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
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.bytes += u64::try_from(batch.bytes()).unwrap_or(u64::MAX);
        Ok(())
    }

    fn prepare(&mut self, _: CheckpointId) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }

    /// Memory that the dropped columns held.
    fn bytes(&self) -> u64 {
        self.bytes
    }
}
