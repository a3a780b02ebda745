//! Faults that tests seed to show that they would find them, and the simulation too. Outside of tests
//! there are none.

#[cfg(test)]
use std::cell::Cell;

#[cfg(not(test))]
use millstream_types::Bug;

/// A fault, by what it does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// Deletions are not written.
    DeletionLost,
    /// A deletion is forgotten although older runs hold the key.
    DeletionsForgottenEarly,
    /// A run that could not be written counts as written.
    FailedIsSettled,
    /// A run that is needed no more is named.
    ReplacedIsNamed,
    /// A run replaces one that holds more than itself.
    ReplacesTooMuch,
    /// Of the groups that a run renews the last is not in it.
    LastGroupLeftOut,
    /// Of several runs with a key the oldest counts.
    OlderWins,
    /// Keys of other subtasks are taken in a restore.
    ForeignGroupsAreTaken,
    /// In a restore the life of a key begins again.
    RestoreRenews,
    /// Small runs are not merged.
    SmallRunsStay,
    /// No run renews a part of the state.
    NothingIsRenewed,
    /// What is not in memory counts although the key is there.
    ColdIsNotHidden,
    /// What has changed and leaves memory is not listed.
    ChangeIsNotListed,
    /// A row is taken for the same after a change.
    ChangeIsTheSame,
}

#[cfg(test)]
thread_local! {
    static SEEDED: Cell<Option<Breakage>> = const { Cell::new(None) };
}

impl Breakage {
    /// Whether the code that runs on this thread has the fault.
    #[cfg(test)]
    pub(crate) fn is_seeded(self) -> bool {
        SEEDED.get() == Some(self)
    }

    /// Whether the simulation has seeded the fault.
    #[cfg(not(test))]
    pub(crate) fn is_seeded(self) -> bool {
        let bug = match self {
            Self::DeletionLost => Bug::DeletionLost,
            Self::FailedIsSettled => Bug::ChangesLostAfterFailedUpload,
            Self::OlderWins => Bug::OlderRunWins,
            _ => return false,
        };
        bug.is_seeded()
    }

    /// Runs with this fault.
    #[cfg(test)]
    pub(crate) fn with<T>(breakage: Option<Self>, run: impl FnOnce() -> T) -> T {
        SEEDED.set(breakage);
        let result = run();
        SEEDED.set(None);
        result
    }
}
