//! One checkpoint under way: who has acknowledged it, and what it becomes. Pure.
//!
//! Tasks that have read their bounded input to its end still take part, so every checkpoint waits
//! for every task.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_types::ids::TaskId;
use millstream_types::{
    Bug, CheckpointId, CheckpointKind, Opaque, OperatorSnapshot, OperatorUid, SubtaskIndex,
    TaskSnapshot, Timestamp,
};

use crate::placement::keyed::{self, Misfit};

/// State by operator uid and subtask, as a manifest holds it.
pub type OperatorStates = BTreeMap<OperatorUid, BTreeMap<SubtaskIndex, OperatorSnapshot>>;

/// What sources are pinned to, as a manifest holds it.
pub type Identities = BTreeMap<OperatorUid, Opaque>;

/// Names of the splits that have been given to tasks, by source.
pub type KnownSplits = BTreeMap<OperatorUid, BTreeSet<String>>;

/// A checkpoint or savepoint whose barriers flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Its number.
    pub id: CheckpointId,
    /// What it is for.
    pub kind: CheckpointKind,
    /// When it was triggered, by the wall clock.
    pub triggered_at: Timestamp,
    /// When it was triggered, monotonic.
    pub triggered: Duration,
    splits: KnownSplits,
    identities: Identities,
    waiting: BTreeSet<TaskId>,
    snapshots: BTreeMap<TaskId, TaskSnapshot>,
}

/// What an acknowledgement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// It counts; others are still waited for.
    Accepted,
    /// It counts and was the last one.
    Complete,
    /// The task had acknowledged before; the first snapshot stays.
    Duplicate,
    /// The task does not belong to the attempt.
    Unknown,
}

/// What a complete checkpoint puts into its manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    /// Its number.
    pub id: CheckpointId,
    /// What it is for.
    pub kind: CheckpointKind,
    /// When it was triggered.
    pub triggered_at: Timestamp,
    /// What sources were pinned to at the trigger.
    pub identities: Identities,
    /// State by operator uid and subtask.
    pub operators: OperatorStates,
}

/// The acknowledgements do not fit together: a bug in a worker or connector. Deciding such a
/// checkpoint would lose or repeat records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistent {
    /// Two tasks claim the same operator subtask.
    #[error("two tasks sent a snapshot of operator {uid}, subtask {subtask}")]
    OperatorTwice {
        /// The operator.
        uid: OperatorUid,
        /// The subtask.
        subtask: SubtaskIndex,
    },
    /// Two subtasks hold the same split.
    #[error("split {split} of source {uid} is in the snapshots of two subtasks")]
    SplitTwice {
        /// The source.
        uid: OperatorUid,
        /// The split.
        split: String,
    },
    /// No subtask holds a split that was given out before the trigger.
    #[error("split {split} of source {uid} is in no subtask's snapshot")]
    SplitMissing {
        /// The source.
        uid: OperatorUid,
        /// The split.
        split: String,
    },
    /// Only barriers of checkpoints may overtake records.
    #[error("operator {uid}, subtask {subtask}, has records in flight in a {kind}")]
    InFlight {
        /// The operator.
        uid: OperatorUid,
        /// The subtask.
        subtask: SubtaskIndex,
        /// What it was for.
        kind: &'static str,
    },
    /// The keyed state of an operator's subtasks does not fit together.
    #[error("keyed state of operator {uid}: {misfit}")]
    State {
        /// The operator.
        uid: OperatorUid,
        /// Why.
        #[source]
        misfit: Misfit,
    },
}

impl Pending {
    /// A checkpoint that has just been triggered. `splits` are those given to tasks so far,
    /// `identities` what their sources are pinned to.
    pub fn new(
        (id, kind): (CheckpointId, CheckpointKind),
        (triggered_at, triggered): (Timestamp, Duration),
        tasks: BTreeSet<TaskId>,
        splits: KnownSplits,
        identities: Identities,
    ) -> Self {
        Self {
            id,
            kind,
            triggered_at,
            triggered,
            splits,
            identities,
            waiting: tasks,
            snapshots: BTreeMap::new(),
        }
    }

    /// Takes a task's acknowledgement.
    pub fn acknowledge(&mut self, task: TaskId, snapshot: TaskSnapshot) -> Ack {
        let was_waiting = self.waiting.remove(&task)
            || (Bug::AcknowledgementCountedTwice.is_seeded() && self.waiting.pop_first().is_some());
        if !was_waiting {
            return if self.snapshots.contains_key(&task) {
                Ack::Duplicate
            } else {
                Ack::Unknown
            };
        }
        self.snapshots.insert(task, snapshot);
        if self.waiting.is_empty() {
            Ack::Complete
        } else {
            Ack::Accepted
        }
    }

    /// How many tasks have acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.snapshots.len()
    }

    /// How many tasks must.
    pub fn tasks(&self) -> usize {
        self.snapshots.len() + self.waiting.len()
    }

    /// Tasks that have not acknowledged.
    pub const fn waiting(&self) -> &BTreeSet<TaskId> {
        &self.waiting
    }

    /// Puts the snapshots together, of tasks whose keys are divided into so many groups.
    ///
    /// # Errors
    /// They do not fit together.
    pub fn into_parts(self, max_parallelism: u32) -> Result<Parts, Inconsistent> {
        let mut operators = OperatorStates::new();
        for (task, snapshot) in self.snapshots {
            for (uid, state) in snapshot.operators {
                if self.kind != CheckpointKind::Checkpoint && !state.in_flight.is_empty() {
                    return Err(Inconsistent::InFlight {
                        uid,
                        subtask: task.subtask,
                        kind: self.kind.name(),
                    });
                }
                let subtasks = operators.entry(uid.clone()).or_default();
                if subtasks.insert(task.subtask, state).is_some() {
                    let subtask = task.subtask;
                    return Err(Inconsistent::OperatorTwice { uid, subtask });
                }
            }
        }
        let found = splits_of(&operators)?;
        for (uid, splits) in self.splits {
            let there = found.get(&uid);
            for split in splits {
                if !there.is_some_and(|there| there.contains(&split)) {
                    return Err(Inconsistent::SplitMissing { uid, split });
                }
            }
        }
        check_states(&operators, max_parallelism)?;
        Ok(Parts {
            id: self.id,
            kind: self.kind,
            triggered_at: self.triggered_at,
            identities: self.identities,
            operators,
        })
    }
}

/// Checks the keyed state of all operators.
///
/// # Errors
/// That of one does not fit together.
pub fn check_states(operators: &OperatorStates, max_parallelism: u32) -> Result<(), Inconsistent> {
    for (uid, subtasks) in operators {
        keyed::check(subtasks, max_parallelism).map_err(|misfit| {
            let uid = uid.clone();
            Inconsistent::State { uid, misfit }
        })?;
    }
    Ok(())
}

/// Names of all splits in a state.
///
/// # Errors
/// A split is there twice.
pub fn splits_of(operators: &OperatorStates) -> Result<KnownSplits, Inconsistent> {
    let mut found = KnownSplits::new();
    for (uid, subtasks) in operators {
        for snapshot in subtasks.values() {
            for split in &snapshot.splits {
                let names = found.entry(uid.clone()).or_default();
                if !names.insert(split.split.clone()) {
                    return Err(Inconsistent::SplitTwice {
                        uid: uid.clone(),
                        split: split.split.clone(),
                    });
                }
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
