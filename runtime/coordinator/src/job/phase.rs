//! Where a job stands, and what an event makes of that.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_checkpoint::ReleaseReason;
use millstream_types::{Attempt, Failure, WorkerId};

use crate::job::event::Prepared;
use crate::job::execution::Execution;
use crate::job::outcome::Outcome;
use crate::job::savepoints::Write;

/// Where a job stands.
#[derive(Debug)]
pub(crate) enum Phase {
    /// An attempt is being claimed; nothing runs.
    Preparing {
        /// What that waits for.
        note: String,
    },
    /// An attempt is claimed and waits for slots.
    Waiting(Waiting),
    /// Tasks are started or run.
    Executing(Box<Execution>),
    /// Everything is committed; a savepoint or the release is being written.
    Closing(Closing),
    /// Tasks of a failed attempt are being stopped.
    Cancelling(Cancelling),
    /// Between two attempts.
    Delaying {
        /// When the next one begins, monotonic.
        until: Duration,
    },
    /// The run is over.
    Ended(Outcome),
}

/// Between the claim of an attempt and its deployment.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) prepared: Box<Prepared>,
    /// When to look whether the claim is still the newest, monotonic; nothing while that is asked.
    pub(crate) look_at: Option<Duration>,
}

/// The end of a job that went well, or was given up.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) reason: ReleaseReason,
    pub(crate) outcome: Outcome,
    /// The attempt's tasks, if any run.
    pub(crate) execution: Option<Box<Execution>>,
}

/// The stopping of a failed attempt.
#[derive(Debug)]
pub(crate) struct Cancelling {
    pub(crate) attempt: Attempt,
    /// Workers that have not answered.
    pub(crate) waiting: BTreeSet<WorkerId>,
    /// When to give them up, monotonic.
    pub(crate) deadline: Duration,
    pub(crate) next: Next,
}

/// What follows an attempt.
#[derive(Debug, Clone)]
pub(crate) enum Next {
    /// Another one at this monotonic time.
    Restart(Duration),
    /// None.
    GiveUp(Failure),
    /// None: the job is cancelled.
    Cancel,
}

/// What an event makes of the phase.
#[derive(Debug)]
pub(crate) enum Transition {
    /// Nothing.
    Stay,
    /// A claimed attempt waits for slots.
    Wait(Box<Prepared>),
    /// The next attempt begins.
    Prepare,
    /// The attempt has failed; the restart strategy says what follows.
    Fail(Failure),
    /// The attempt ends without having failed, for this reason.
    Leave(Failure, Next),
    /// No tasks run, or none any more: goes on so.
    Follow(Next),
    /// Everything is committed, and the job comes to its end.
    Close(Box<Close>),
    /// The run is over at once.
    End(Outcome),
}

/// How a job comes to its end.
#[derive(Debug)]
pub(crate) struct Close {
    pub(crate) reason: ReleaseReason,
    pub(crate) outcome: Outcome,
    /// A savepoint that is written before the release.
    pub(crate) savepoint: Option<Write>,
}
