//! Writes what a task has frozen of its state, and what a barrier has overtaken, beside the task.
//!
//! One checkpoint after the other, in the order of their barriers: what a later one names may be what
//! an earlier one has written.

use std::sync::Arc;

use millstream_exchange::{InFlight, in_flight};
use millstream_state::{Frozen, StateFiles, Written};
use millstream_types::{CheckpointId, ErrorCode, ErrorKind, Failure, FileRef, OperatorUid};
use tokio::sync::mpsc;
use tokio::task::JoinError;

use crate::inbox::{Command, InboxHandle};
use crate::threads::Threads;

/// A part of a task's snapshot that is to be written.
pub struct Snapshot {
    /// For which checkpoint.
    pub checkpoint: CheckpointId,
    /// What.
    pub part: Part,
}

/// What is to be written of a snapshot.
pub enum Part {
    /// The state of each operator, as it was frozen at the barrier.
    States(Vec<(OperatorUid, Frozen)>),
    /// Records to an operator that the barrier has overtaken.
    InFlight(OperatorUid, Vec<InFlight>),
}

/// Name of a file of records in flight: an operator and a checkpoint have one for each subtask.
const IN_FLIGHT: &str = "in-flight";

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
            let checkpoint = snapshot.checkpoint;
            let written = match snapshot.part {
                Part::States(frozen) => {
                    let mut states = Vec::with_capacity(frozen.len());
                    for (uid, frozen) in frozen {
                        let written = self.write(frozen).await;
                        states.push((uid, written));
                    }
                    Command::Written { checkpoint, states }
                }
                Part::InFlight(uid, records) => {
                    let file = self.write_in_flight(checkpoint, uid, records).await;
                    Command::InFlightWritten { checkpoint, file }
                }
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
            let (rest, encoded) = encoding.await.map_err(|error| panicked(&error))?;
            let Some(encoded) = encoded? else {
                return Ok(written);
            };
            written.add(encoded.upload(self.files.as_ref()).await?);
            pieces = rest;
        }
    }

    async fn write_in_flight(
        &self,
        checkpoint: CheckpointId,
        uid: OperatorUid,
        records: Vec<InFlight>,
    ) -> Result<FileRef, Failure> {
        let encoded = self.threads.work(move || in_flight::encode(&records)).await;
        let encoded = encoded.map_err(|error| panicked(&error))?;
        let encoded = encoded.map_err(|error| {
            Failure::new(
                ErrorCode::PlanMismatch,
                ErrorKind::Internal,
                format!("records in flight to `{uid}` cannot be written: {error}"),
            )
        })?;
        (self.files.put(checkpoint, &uid, IN_FLIGHT, encoded)).await
    }
}

fn panicked(error: &JoinError) -> Failure {
    Failure::new(
        ErrorCode::TaskPanicked,
        ErrorKind::Internal,
        format!("writing a snapshot panicked: {error}"),
    )
}
