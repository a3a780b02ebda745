//! News of a job.

use std::time::Duration;

use millstream_types::api::{CheckpointSummary, GivenUp, JobState};
use millstream_types::{Attempt, Failure, WorkerId};

/// One piece of news. For progress displays; whoever lags behind misses some and reads the
/// [`Snapshot`] instead.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The job does something else now.
    State {
        /// What it does.
        state: JobState,
        /// In which attempt.
        attempt: Attempt,
    },
    /// A checkpoint or savepoint is complete and, if its kind commits, committed.
    Completed(CheckpointSummary),
    /// A checkpoint or savepoint has failed.
    Failed(CheckpointSummary),
    /// An attempt has failed and another follows.
    Restarting {
        /// Why.
        failure: Failure,
        /// When.
        delay: Duration,
    },
    /// All output of a checkpoint was aborted before it could be committed: the job has gone back
    /// to the one before.
    GaveUp(GivenUp),
    /// A worker has registered.
    WorkerJoined {
        /// Which.
        worker: WorkerId,
        /// Its slots.
        slots: u32,
    },
    /// A worker is gone.
    WorkerLeft {
        /// Which.
        worker: WorkerId,
        /// Why.
        failure: Failure,
    },
}
