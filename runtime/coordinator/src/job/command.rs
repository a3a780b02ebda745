//! What the job's state machine wants done.

use std::time::Duration;

use millstream_checkpoint::{Manifest, Release};
use millstream_types::protocol::ToWorker;
use millstream_types::{Attempt, CheckpointId, WorkerId};

use crate::job::news::Progress;
use crate::job::outcome::Outcome;

/// Something to do. Commands are carried out in order.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Do something with the chain. Operations are done one after the other.
    Chain(Operation),
    /// Look for more splits from now on.
    StartDiscovery {
        /// For this attempt.
        attempt: Attempt,
    },
    /// Stop looking for more splits.
    StopDiscovery,
    /// Send a message to a worker. Dropped if it is gone.
    Send {
        /// To whom.
        worker: WorkerId,
        /// What.
        message: ToWorker,
    },
    /// Close the connection to a worker that does not answer. No `WorkerLost` follows.
    Disconnect {
        /// Which.
        worker: WorkerId,
    },
    /// Tell the observers.
    News(Progress),
    /// The run is over.
    Finish(Outcome),
}

/// Something to do with the chain.
#[derive(Debug, PartialEq)]
pub enum Operation {
    /// Begin a new attempt: claim, resolve, discover. Answered by `Prepared` or one of its
    /// siblings.
    Prepare,
    /// Look whether the attempt's claim is still the newest. Answered by `Held`.
    EnsureHeld,
    /// Decide a checkpoint, commit what it lists, and confirm it. Answered by `Finalized`.
    Finalize {
        /// What it holds.
        manifest: Box<Manifest>,
        /// When it must be decided, monotonic.
        deadline: Duration,
    },
    /// Write a savepoint. Answered by `SavepointWritten`.
    WriteSavepoint {
        /// The attempt that asks.
        attempt: Attempt,
        /// Number under which the attempt knows the savepoint.
        checkpoint: CheckpointId,
        /// Its name.
        name: String,
        /// What it holds.
        manifest: Box<Manifest>,
    },
    /// Undo what the attempt has left open, which has ended.
    Sweep,
    /// Release the chain. Answered by `Released`.
    Release(Box<Release>),
    /// Delete the job's checkpoints and release the chain. Answered by `Released`.
    Discard(Box<Release>),
}

impl From<Operation> for Command {
    fn from(operation: Operation) -> Self {
        Self::Chain(operation)
    }
}
