//! The half of a transactional sink that runs in a subtask.

use std::time::{Duration, Instant};

use millstream_connect::{Result, SinkWriter};
use millstream_types::{Batch, CheckpointId, Committable, ErrorCode, ErrorKind, Failure, Opaque};

use crate::id::TransactionId;
use crate::transactional::TwoPhaseCommit;

/// Writes one transaction per checkpoint, if there are rows for it.
pub(crate) struct Writer<S> {
    sink: S,
    /// Name of the next transaction.
    next: TransactionId,
    /// Rows of the open transaction; none if none is open.
    open: Option<u64>,
    bytes: u64,
    waited: Duration,
    /// Sticky: what was written since the last barrier is not whole any more.
    failed: Option<Failure>,
}

impl<S: TwoPhaseCommit> Writer<S> {
    pub(crate) const fn new(sink: S, first: TransactionId) -> Self {
        Self {
            sink,
            next: first,
            open: None,
            bytes: 0,
            waited: Duration::ZERO,
            failed: None,
        }
    }

    fn once<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(failure) = &self.failed {
            return Err(failure.clone());
        }
        let started = Instant::now();
        let outcome = run(self);
        self.waited += started.elapsed();
        if let Err(failure) = &outcome {
            self.failed = Some(failure.clone());
        }
        outcome
    }

    fn write_rows(&mut self, batch: &Batch) -> Result<u64> {
        let open = if let Some(rows) = self.open {
            rows
        } else {
            self.sink.begin(&self.next)?;
            self.next.number += 1;
            0
        };
        self.bytes += self.sink.write(batch)?;
        let rows = u64::try_from(batch.rows()).unwrap_or(u64::MAX);
        self.open = Some(open + rows);
        Ok(rows)
    }

    fn prepare_open(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>> {
        let Some(records) = self.open.take() else {
            return Ok(Vec::new());
        };
        let Some(transaction) = self.sink.prepare()? else {
            return Ok(Vec::new());
        };
        let text = serde_json::to_string(&transaction).map_err(|error| {
            let message = format!("a transaction cannot be written into a checkpoint: {error}");
            Failure::new(ErrorCode::SinkFailed, ErrorKind::Internal, message)
        })?;
        Ok(vec![Committable {
            checkpoint,
            transaction: Opaque(text),
            records,
        }])
    }
}

impl<S: TwoPhaseCommit> SinkWriter for Writer<S> {
    fn write(&mut self, batch: &Batch) -> Result<u64> {
        if batch.rows() == 0 {
            return Ok(0);
        }
        self.once(|writer| writer.write_rows(batch))
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>> {
        self.once(|writer| writer.prepare_open(checkpoint))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn waited(&self) -> Duration {
        self.waited
    }
}
