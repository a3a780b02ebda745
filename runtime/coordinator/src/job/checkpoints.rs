//! The life of every checkpoint of one attempt, from the trigger to the commit. Pure.
//!
//! ```text
//! triggered → pending ── every task has acknowledged ──→ finalizing ── decided, committed ──→ done
//!                │                                            │
//!                └── declined, expired, superseded ───────────┴── not decided ──→ failed
//! ```
//!
//! A savepoint is triggered and acknowledged here as well; from the last acknowledgement on it is a
//! matter of [`savepoints`](super::savepoints).

pub mod pending;
pub mod trigger;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_checkpoint::Manifest;
use millstream_types::ids::TaskId;
use millstream_types::{
    Barrier, Bug, CheckpointId, CheckpointKind, ErrorCode, ErrorKind, Failure, TaskSnapshot,
};

use crate::job::event::Now;
use pending::{Ack, Identities, Inconsistent, KnownSplits, Parts, Pending};
use trigger::{FailureCounter, FailureReason, Purpose, Settings, Trigger, Wanted};

/// The checkpoints of one attempt.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    timeout: Duration,
    /// When barriers of periodic checkpoints overtake, if ever.
    aligned_timeout: Option<Duration>,
    /// Into how many groups keys are divided.
    max_parallelism: u32,
    next: CheckpointId,
    trigger: Trigger,
    failures: FailureCounter,
    pending: BTreeMap<CheckpointId, (Pending, Purpose)>,
    finalizing: BTreeMap<CheckpointId, Finalizing>,
}

/// A checkpoint that every task has acknowledged and that is being decided and committed.
#[derive(Debug)]
pub(crate) struct Finalizing {
    pub(crate) purpose: Purpose,
    pub(crate) manifest: Manifest,
}

/// What a checkpoint is taken of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) tasks: &'a BTreeSet<TaskId>,
    /// Splits that have been given to them.
    pub(crate) splits: &'a KnownSplits,
    pub(crate) identities: &'a Identities,
}

/// What an acknowledgement has come to.
#[derive(Debug)]
pub(crate) enum Acknowledged {
    /// Nothing: the checkpoint is over, or the task has acknowledged it before.
    Dropped,
    /// So many tasks have; others are waited for.
    Accepted(usize),
    /// So many tasks have, and that is all of them.
    Complete(usize, Box<Complete>),
    /// All have, and their snapshots do not fit together.
    Inconsistent(Failure),
}

/// A checkpoint that every task has acknowledged.
#[derive(Debug)]
pub(crate) struct Complete {
    pub(crate) purpose: Purpose,
    pub(crate) parts: Parts,
    /// When it must be decided, monotonic.
    pub(crate) deadline: Duration,
}

/// A checkpoint that has failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) purpose: Purpose,
    /// How many have failed in a row, if that is more than is tolerated.
    pub(crate) too_many: Option<u32>,
}

impl Checkpoints {
    /// Those of an attempt whose tasks do not run yet.
    pub(crate) const fn new(
        settings: Settings,
        tolerable: u32,
        next: CheckpointId,
        max_parallelism: u32,
    ) -> Self {
        Self {
            timeout: settings.timeout,
            aligned_timeout: settings.aligned_timeout,
            max_parallelism,
            next,
            trigger: Trigger::new(settings),
            failures: FailureCounter::new(tolerable),
            pending: BTreeMap::new(),
            finalizing: BTreeMap::new(),
        }
    }

    /// All tasks run: the first checkpoint is due.
    pub(crate) const fn running(&mut self, now: Now) {
        self.trigger.running(now.monotonic);
    }

    /// All bounded sources have ended: the final checkpoint is due.
    pub(crate) const fn ended(&mut self) {
        self.trigger.ended();
    }

    /// Somebody waits for the next checkpoint.
    pub(crate) const fn expedite(&mut self) {
        self.trigger.expedite();
    }

    /// As [`expedite`](Self::expedite), for the checkpoint that begins next. Its number.
    pub(crate) const fn expedite_next(&mut self) -> CheckpointId {
        self.trigger.expedite();
        self.next
    }

    /// Triggers what is due, if anything is. The caller sends the barrier.
    pub(crate) fn trigger_next(
        &mut self,
        wanted: Wanted<'_>,
        scope: Scope<'_>,
        now: Now,
    ) -> Option<(&Pending, &Purpose, Barrier)> {
        let purpose = self.trigger.next(wanted, now.monotonic)?;
        let id = self.next;
        self.next = id.next();
        let kind = match &purpose {
            Purpose::Periodic | Purpose::Final => CheckpointKind::Checkpoint,
            Purpose::Savepoint(_) => CheckpointKind::Savepoint,
            Purpose::Stop => CheckpointKind::StopWithSavepoint {
                drain: wanted.stop.is_some_and(|stop| stop.drain),
            },
        };
        // A savepoint is restored by other jobs as well, and what ends the attempt leaves nothing behind it.
        let aligned_timeout = self
            .aligned_timeout
            .filter(|_| purpose == Purpose::Periodic);
        let millis = |timeout: Duration| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX - 1);
        self.trigger.triggered(id, &purpose, now.monotonic);
        let pending = Pending::new(
            (id, kind),
            (now.wall, now.monotonic),
            scope.tasks.clone(),
            scope.splits.clone(),
            scope.identities.clone(),
        );
        let barrier = Barrier {
            checkpoint: id,
            kind,
            triggered_at: now.wall,
            aligned_timeout_ms: aligned_timeout.map(millis),
        };
        let (pending, purpose) = &*self.pending.entry(id).or_insert((pending, purpose));
        Some((pending, purpose, barrier))
    }

    /// Takes a task's acknowledgement.
    pub(crate) fn acknowledge(
        &mut self,
        id: CheckpointId,
        task: TaskId,
        snapshot: TaskSnapshot,
    ) -> Acknowledged {
        let Some((pending, _)) = self.pending.get_mut(&id) else {
            return Acknowledged::Dropped;
        };
        let ack = pending.acknowledge(task, snapshot);
        let count = pending.acknowledged();
        match ack {
            Ack::Duplicate | Ack::Unknown => Acknowledged::Dropped,
            Ack::Accepted => Acknowledged::Accepted(count),
            Ack::Complete => self.complete(id, count),
        }
    }

    fn complete(&mut self, id: CheckpointId, count: usize) -> Acknowledged {
        let Some((pending, purpose)) = self.pending.remove(&id) else {
            return Acknowledged::Dropped;
        };
        let deadline = pending.triggered.saturating_add(self.timeout);
        match pending.into_parts(self.max_parallelism) {
            Ok(parts) => {
                if matches!(purpose, Purpose::Savepoint(_)) {
                    self.trigger.remove(id);
                } else {
                    self.trigger.acknowledged(id);
                }
                let complete = Complete {
                    purpose,
                    parts,
                    deadline,
                };
                Acknowledged::Complete(count, Box::new(complete))
            }
            Err(inconsistent) => Acknowledged::Inconsistent(broken(id, &inconsistent)),
        }
    }

    /// The checkpoint is being decided and committed from now on.
    pub(crate) fn finalize(&mut self, purpose: Purpose, manifest: Manifest) {
        let finalizing = Finalizing { purpose, manifest };
        let id = finalizing.manifest.checkpoint;
        self.finalizing.insert(id, finalizing);
    }

    /// It is decided and committed. `None` if it is not known.
    pub(crate) fn committed(&mut self, id: CheckpointId, now: Now) -> Option<Finalizing> {
        let finalizing = self.finalizing.remove(&id)?;
        self.failures.succeeded(id);
        self.trigger.completed(id, now.monotonic);
        Some(finalizing)
    }

    /// It will never be decided, or is not known to be. `None` if it is not known.
    pub(crate) fn fail(&mut self, id: CheckpointId, reason: FailureReason) -> Option<Failed> {
        let pending = self.pending.remove(&id).map(|(_, purpose)| purpose);
        let purpose = pending.or_else(|| Some(self.finalizing.remove(&id)?.purpose))?;
        self.trigger.remove(id);
        if Bug::AbortedNumberReused.is_seeded() {
            self.next = id;
        }
        if purpose.is_last() {
            self.trigger.reopen();
        }
        // Those of savepoints never count.
        let counts = !matches!(purpose, Purpose::Savepoint(_));
        let too_many = counts && self.failures.failed(id, reason);
        Some(Failed {
            purpose,
            too_many: too_many.then(|| self.failures.in_a_row()),
        })
    }

    /// Checkpoints that a later one makes needless. Savepoints stay.
    pub(crate) fn superseded_by(&self, id: CheckpointId) -> Vec<CheckpointId> {
        let older = self.pending.range(..id);
        let periodic = older.filter(|(_, (_, purpose))| *purpose == Purpose::Periodic);
        periodic.map(|(older, _)| *older).collect()
    }

    /// Checkpoints that have taken too long, and the tasks that they wait for.
    pub(crate) fn expired(&self, now: Now) -> Vec<(CheckpointId, BTreeSet<TaskId>)> {
        let expired = self.trigger.expired(now.monotonic).into_iter();
        let waiting = |id: CheckpointId| {
            let pending = self.pending.get(&id);
            pending.map_or_else(BTreeSet::new, |(pending, _)| pending.waiting().clone())
        };
        expired.map(|id| (id, waiting(id))).collect()
    }

    pub(crate) fn wake_at(&self) -> Option<Duration> {
        self.trigger.wake_at()
    }

    pub(crate) fn is_pending(&self, id: CheckpointId) -> bool {
        self.pending.contains_key(&id)
    }

    pub(crate) fn is_finalizing(&self, id: CheckpointId) -> bool {
        self.finalizing.contains_key(&id)
    }

    /// Those whose barriers flow.
    pub(crate) fn pending(&self) -> BTreeSet<CheckpointId> {
        self.pending.keys().copied().collect()
    }

    /// Whether the last barrier of the attempt has gone out.
    pub(crate) const fn is_closed(&self) -> bool {
        self.trigger.is_closed()
    }

    /// Whether the last checkpoint of the attempt has every acknowledgement: from then on it does
    /// not matter what becomes of the tasks.
    pub(crate) fn is_sealed(&self) -> bool {
        let mut finalizing = self.finalizing.values();
        finalizing.any(|finalizing| finalizing.purpose.is_last())
    }

    /// How many have failed in a row.
    pub(crate) const fn failed_in_a_row(&self) -> u32 {
        self.failures.in_a_row()
    }
}

fn broken(id: CheckpointId, inconsistent: &Inconsistent) -> Failure {
    Failure::new(
        ErrorCode::InconsistentSnapshot,
        ErrorKind::Internal,
        format!(
            "checkpoint {id} is not decided, because its snapshots do not fit together: \
             {inconsistent}"
        ),
    )
}
