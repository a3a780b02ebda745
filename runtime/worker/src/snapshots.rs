//! Writes what a task has frozen of its state, beside the task.
//!
//! One checkpoint after the other, in the order of their barriers: what a later one names may be what
//! an earlier one has written.

use std::sync::Arc;

use millstream_state::{Frozen, StateFiles, Written};
use millstream_types::{CheckpointId, ErrorCode, ErrorKind, Failure, OperatorUid};
use tokio::sync::mpsc;

use crate::inbox::{Command, InboxHandle};
use crate::threads::Threads;

/// What a task has frozen at a barrier.
pub struct Snapshot {
    /// For which checkpoint.
    pub checkpoint: CheckpointId,
    /// The state of each operator.
    pub states: Vec<(OperatorUid, Frozen)>,
}

/// Takes snapshots of a task to be written.
pub type Snapshots = mpsc::Sender<Snapshot>;

/// Snapshots that may wait to be written: more than the coordinator lets be under way.
const WAITING_MAX: usize = 256;

/// Writes the snapshots of one task until the task is gone.
pub(crate) struct Writer {
    snapshots: mpsc::Receiver<Snapshot>,
    files: Arc<dyn StateFiles>,
    threads: Threads,
    task: InboxHandle,
}

impl Writer {
    /// The writer of the task behind `task`, and what it is given snapshots by.
    pub(crate) fn new(
        files: Arc<dyn StateFiles>,
        threads: Threads,
        task: InboxHandle,
    ) -> (Self, Snapshots) {
        let (sender, snapshots) = mpsc::channel(WAITING_MAX);
        let writer = Self {
            snapshots,
            files,
            threads,
            task,
        };
        (writer, sender)
    }

    /// # Cancel safety
    /// A file that is being written may be there or not, and no checkpoint names it.
    pub(crate) async fn run(mut self) {
        while let Some(snapshot) = self.snapshots.recv().await {
            let mut states = Vec::with_capacity(snapshot.states.len());
            for (uid, frozen) in snapshot.states {
                let written = self.write(frozen).await;
                states.push((uid, written));
            }
            let written = Command::Written {
                checkpoint: snapshot.checkpoint,
                states,
            };
            if self.task.send(written).is_err() {
                return;
            }
        }
    }

    async fn write(&self, frozen: Frozen) -> Result<Written, Failure> {
        let mut pieces = frozen.pieces();
        let mut written = pieces.nothing_written();
        loop {
            let encoding = self.threads.work(move || {
                let encoded = pieces.encode();
                (pieces, encoded)
            });
            let (rest, encoded) = encoding.await.map_err(|error| {
                Failure::new(
                    ErrorCode::TaskPanicked,
                    ErrorKind::Internal,
                    format!("writing a snapshot panicked: {error}"),
                )
            })?;
            let Some(encoded) = encoded? else {
                return Ok(written);
            };
            written.add(encoded.upload(self.files.as_ref()).await?);
            pieces = rest;
        }
    }
}
