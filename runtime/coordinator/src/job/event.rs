//! What the job's state machine is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_checkpoint::{CheckpointEntry, Manifest, Release};
use millstream_connect::Discovery;
use millstream_types::api::{GivenUp, SplitLag};
use millstream_types::protocol::ToCoordinator;
use millstream_types::{
    Attempt, CheckpointId, Failure, OperatorUid, SplitState, Timestamp, WorkerId,
};

/// Time and chance at the instant of an event.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Now {
    /// Monotonic time.
    pub monotonic: Duration,
    /// Wall-clock time, for people.
    pub wall: Timestamp,
    /// Uniform in [0, 1).
    pub random: f64,
}

/// A fact.
#[derive(Debug)]
pub enum Event {
    /// A new attempt is claimed, everything older is resolved, and this is what it starts from.
    Prepared(Box<Prepared>),
    /// The chain says that the job has completed before, with this checkpoint; nothing was
    /// claimed.
    AlreadyCompleted(Option<Box<Manifest>>),
    /// The chain says that the deployment has ended before; nothing was claimed.
    Over(Box<Over>),
    /// Preparing an attempt failed.
    PrepareFailed(Failure),
    /// What preparing waits for, for people.
    Preparing(String),
    /// Whether the attempt's claim is still the newest. Failed where it is not, or where the store
    /// does not say.
    Held(Result<(), Failure>),
    /// A worker has registered.
    WorkerJoined {
        /// Its name.
        worker: WorkerId,
        /// Its slots.
        slots: u32,
    },
    /// A worker is gone.
    WorkerLost {
        /// Its name.
        worker: WorkerId,
        /// Why.
        failure: Failure,
    },
    /// A registered worker says something.
    Message {
        /// Its name.
        worker: WorkerId,
        /// What.
        message: ToCoordinator,
    },
    /// A checkpoint that was to be finalized is.
    Finalized {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which.
        checkpoint: CheckpointId,
        /// Where its manifest lies, or what went wrong.
        result: Result<Written, NotFinalized>,
    },
    /// A savepoint that was to be written is.
    SavepointWritten {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Its number.
        checkpoint: CheckpointId,
        /// Its name.
        name: String,
        /// Where it lies, or what went wrong.
        result: Result<Written, Failure>,
    },
    /// The chain is released, or could not be.
    Released(Result<(), Failure>),
    /// A source has more splits.
    Discovered {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which source.
        uid: OperatorUid,
        /// What was found.
        discovery: Discovery,
    },
    /// How far a source is behind; nothing if that is not known.
    Measured {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Which source.
        uid: OperatorUid,
        /// By split.
        lags: Vec<SplitLag>,
    },
    /// Looking for more splits failed for good.
    DiscoveryFailed {
        /// The attempt it belongs to.
        attempt: Attempt,
        /// Why.
        failure: Failure,
    },
    /// The coordinator itself cannot go on.
    Broken(Failure),
    /// The process is told to end.
    Interrupted,
    /// Time has passed.
    Tick,
}

/// A manifest that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Where it lies.
    pub path: String,
    /// Size of the manifest and everything it names, bytes.
    pub bytes: u64,
}

/// How far finalizing a checkpoint came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotFinalized {
    /// It is not known to be decided.
    NotDecided(Failure),
    /// It must not be decided, nor any later one of the attempt: something that it lists is gone.
    Undecidable(Failure),
    /// It is decided, and not everything it lists is committed.
    NotCommitted(Written, Failure),
}

/// How a deployment has ended, as its chain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Its last attempt.
    pub attempt: Attempt,
    /// How that has ended.
    pub release: Release,
    /// The newest checkpoint.
    pub manifest: Option<Manifest>,
    /// Checkpoints that are still there, oldest first.
    pub checkpoints: Vec<CheckpointEntry>,
}

/// What an attempt starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The attempt.
    pub attempt: Attempt,
    /// The name of the chain.
    pub lineage: Option<millstream_types::Lineage>,
    /// The newest checkpoint of the chain, with nothing left to commit.
    pub manifest: Manifest,
    /// Where it lies.
    pub path: String,
    /// Whether it is an older checkpoint, and not the one that pins where the job begins.
    pub restored: bool,
    /// Number of the next checkpoint.
    pub next_checkpoint: CheckpointId,
    /// Splits that are not in the manifest.
    pub discovered: BTreeMap<OperatorUid, Vec<SplitState>>,
    /// What sources are pinned to now.
    pub identities: BTreeMap<OperatorUid, millstream_types::Opaque>,
    /// Sources that may find more splits later.
    pub discovering: BTreeSet<OperatorUid>,
    /// The checkpoint that the attempt has gone back from, because all of its output was aborted.
    pub given_up: Option<GivenUp>,
}

impl Prepared {
    /// Whether there is nothing to run any more: all sources were bounded and had ended.
    pub fn is_ended(&self) -> bool {
        let reading = |splits: &Vec<SplitState>| splits.iter().any(|split| !split.finished);
        self.manifest.ended && self.discovering.is_empty() && !self.discovered.values().any(reading)
    }
}
