//! The operator: batches in, batches out.

use millstream_state::Table;
use millstream_types::{Batch, EventTime};

use crate::Result;

/// Which input of an operator an element came from, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InputIndex(pub usize);

/// What an operator may do while it handles an element.
#[derive(Debug, Default)]
pub struct Context {
    emitted: Vec<Batch>,
}

impl Context {
    /// Sends a batch to everything downstream. An empty batch is dropped.
    pub fn emit(&mut self, batch: Batch) {
        if batch.rows() > 0 {
            self.emitted.push(batch);
        }
    }

    /// Takes what was emitted, in order.
    pub fn take(&mut self) -> Vec<Batch> {
        std::mem::take(&mut self.emitted)
    }
}

/// A step of the dataflow. Called by one thread; must not block.
pub trait Operator: Send {
    /// Handles records.
    ///
    /// # Errors
    /// A failure stops the task and with it the attempt.
    fn on_batch(&mut self, input: InputIndex, batch: &Batch, cx: &mut Context) -> Result<()>;

    /// Emits what it holds back only to emit less: results that may change again with the next batch.
    ///
    /// A task calls it when it has no further input for now, and before it handles or forwards
    /// anything that is not a batch: a watermark, a barrier, the end. So nothing is held back over
    /// those, nor while a task waits.
    ///
    /// # Errors
    /// As [`on_batch`](Self::on_batch).
    fn flush(&mut self, cx: &mut Context) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Whether [`flush`](Self::flush) might emit something now.
    fn holds(&self) -> bool {
        false
    }

    /// Handles the news that no record older than `watermark` follows, except late ones. The
    /// watermark is forwarded afterwards.
    ///
    /// # Errors
    /// As [`on_batch`](Self::on_batch).
    fn on_watermark(&mut self, watermark: EventTime, cx: &mut Context) -> Result<()> {
        let _ = (watermark, cx);
        Ok(())
    }

    /// What it keeps by key: its tables, in an order that does not change. None without state. A task
    /// snapshots them at a barrier, behind a [`flush`](Self::flush), and fills them before the first batch
    /// where it restores.
    fn tables(&mut self) -> Vec<&mut dyn Table> {
        Vec::new()
    }

    /// Emits what is left when a bounded input has ended.
    ///
    /// # Errors
    /// As [`on_batch`](Self::on_batch).
    fn on_end(&mut self, cx: &mut Context) -> Result<()> {
        let _ = cx;
        Ok(())
    }
}
