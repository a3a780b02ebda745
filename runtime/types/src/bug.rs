//! Bugs that the simulation seeds into the code to show that it finds them.
//!
//! Without the feature `seeded-bugs`, which no program has that is shipped, there are none.

#[cfg(feature = "seeded-bugs")]
use std::cell::Cell;

/// A bug, by the place that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// A snapshot lists only what was prepared last.
    EarlierTransactionNotListed,
    /// An aborted checkpoint takes what was prepared for it out of the next snapshots.
    AbortForgetsTransaction,
    /// A completed checkpoint counts as having committed what was prepared after it, too.
    CompletedForgetsLaterTransaction,
    /// A barrier is forwarded after the first records behind it.
    BarrierOvertaken,
    /// A channel whose barrier has come is read on while others wait for theirs.
    ChannelNotHeld,
    /// A second acknowledgement of a task counts as another's.
    AcknowledgementCountedTwice,
    /// The number of an aborted checkpoint is used again.
    AbortedNumberReused,
    /// A job whose sources have ended is complete without a last checkpoint.
    EndWithoutCheckpoint,
    /// What a checkpoint lists is committed before it is decided.
    CommitBeforeDecision,
    /// A commit without an answer counts as done.
    UnknownCommitIsDone,
    /// A restart goes on from the checkpoint before the newest.
    RestoreFromOlder,
    /// What the newest checkpoint lists is not committed in a recovery.
    RecoveryDoesNotCommit,
    /// A conditional write of a slot whose outcome is unknown counts as done.
    UnknownDecisionIsDone,
    /// A conditional write of a slot that another has taken counts as done.
    TakenSlotIsWritten,
    /// Dealing splits out to another number of subtasks leaves one out.
    SplitLostAtRescale,
    /// What older attempts have left open stays open.
    FenceSkipped,
    /// A subtask that is dealt runs of state is not dealt its last key group.
    StateRangeTooShort,
    /// A file of state that could not be written is named as if it had been.
    FailedUploadNamed,
    /// A task acknowledges while its files of state are on their way.
    AcknowledgedBeforeUpload,
    /// After a snapshot that could not be written the next one covers only what has changed since.
    ChangesLostAfterFailedUpload,
    /// Deleted keys are left out of snapshots.
    DeletionLost,
    /// Snapshots of a restored task do not name the runs that it was restored from.
    RestoredRunsNotNamed,
    /// Of several runs that hold a key the oldest counts.
    OlderRunWins,
    /// Records in flight are restored by every subtask that reads their file.
    InFlightRestoredTwice,
    /// The last records in flight of a subtask are not restored.
    InFlightLost,
    /// Records in a channel are overtaken and not persisted.
    OvertakenNotPersisted,
    /// Records that come before a barrier that has overtaken already are not persisted.
    LateRecordsNotPersisted,
}

#[cfg(feature = "seeded-bugs")]
thread_local! {
    static SEEDED: Cell<Option<Bug>> = const { Cell::new(None) };
}

impl Bug {
    /// Whether the code that runs on this thread has the bug.
    #[cfg(feature = "seeded-bugs")]
    pub fn is_seeded(self) -> bool {
        SEEDED.get() == Some(self)
    }

    /// Whether the code that runs on this thread has the bug.
    #[cfg(not(feature = "seeded-bugs"))]
    pub const fn is_seeded(self) -> bool {
        false
    }

    /// Seeds a bug into the code that runs on this thread; `None` takes it out again.
    #[cfg(feature = "seeded-bugs")]
    pub fn seed(bug: Option<Self>) {
        SEEDED.set(bug);
    }
}
