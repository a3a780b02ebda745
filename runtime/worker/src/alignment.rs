//! Where a checkpoint cuts through the inputs of a task. Pure; time comes in.
//!
//! A barrier comes over every channel. From the first to the last of one checkpoint, channels that
//! have brought it are held: what lies behind the barrier waits. Then the task takes its snapshot,
//! which speaks of the records before the barriers of all channels and of none behind one.
//!
//! That takes long where a channel is full of records in front of its barrier. A barrier that may, and has
//! been in the task's channels for its aligned timeout, *overtakes* them: the task takes its snapshot at
//! once, and the records that each channel has brought, or still brings, before the barrier are persisted
//! with it. They are read behind the snapshot as if they had come after it. So each record is before the
//! barrier and in the state, or persisted, or behind the barrier.
//!
//! - A channel brings barriers in the order of their numbers, each at most once, also when its records
//!   have ended. It may leave out checkpoints that were given up.
//! - A barrier is known from when it is put into its channel, and overtakes no other one: only the oldest
//!   checkpoint that can still be taken may.
//! - Channels whose records cannot be dealt out to other subtasks are never overtaken: their barrier must
//!   have come to the front.
//!
//! Source: Chandy and Lamport, "Distributed Snapshots"; Carbone et al., "Lightweight Asynchronous
//! Snapshots for Distributed Dataflows", section 4; Flink's `AlternatingWaitingForFirstBarrier` and FLIP-76.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_types::{Barrier, CheckpointId};

/// One of the channels that lead to a task, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelIndex(pub usize);

/// A barrier that the task passes now, as it is to be forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The barrier, with what is left of its aligned timeout.
    pub barrier: Barrier,
    /// Since when it has been in a channel.
    pub since: Duration,
}

/// What a task is to do about a barrier that has come to the front of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// A checkpoint that can no longer be taken, because a channel has gone on to a newer one.
    pub declined: Option<CheckpointId>,
    /// All channels are at this barrier: take the snapshot now, before anything else.
    pub snapshot: Option<Cut>,
}

/// What a task is to do about a barrier that was put into a channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    /// Checkpoints that can no longer be taken, because the channel has gone on to a newer one.
    pub declined: Vec<CheckpointId>,
    /// The snapshot is taken already: take the barrier out of the channel, and persist the records before it.
    pub take: bool,
    /// With that, all that the barrier has overtaken is known.
    pub complete: bool,
}

/// A barrier overtakes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overtaking {
    /// Take the snapshot now, before anything else.
    pub cut: Cut,
    /// An older checkpoint, which can no longer be taken.
    pub declined: Option<CheckpointId>,
    /// Take the barrier out of these channels, and persist the records before it.
    pub take: Vec<ChannelIndex>,
    /// With that, all that it has overtaken is known; there are others whose barrier has not come.
    pub complete: bool,
}

/// Which channels of a task are held for which checkpoint, and which are persisted for one.
#[derive(Debug, Clone)]
pub struct Alignment {
    held: Vec<bool>,
    pending: Option<Barrier>,
    /// The newest checkpoint that a channel is past: it and older ones can be taken no more.
    over: Option<CheckpointId>,
    /// Newer ones that will never be decided.
    cancelled: BTreeSet<CheckpointId>,
    /// By channel, whether its records can be dealt out to any subtasks.
    overtakable: Vec<bool>,
    /// Barriers that are in channels and were not passed.
    come: BTreeMap<CheckpointId, Come>,
    /// By channel, the newest barrier that was put into it.
    newest: Vec<Option<CheckpointId>>,
    /// Barriers that have overtaken; by channel, whether theirs has yet to come.
    overtaken: BTreeMap<CheckpointId, Vec<bool>>,
}

/// A barrier that is in channels.
#[derive(Debug, Clone)]
struct Come {
    barrier: Barrier,
    since: Duration,
    /// When it overtakes, if ever.
    deadline: Option<Duration>,
    /// By channel.
    channels: Vec<bool>,
}

impl Alignment {
    /// No channel is held. Of each channel, whether it may be overtaken.
    pub fn new(overtakable: Vec<bool>) -> Self {
        let channels = overtakable.len();
        Self {
            held: vec![false; channels],
            pending: None,
            over: None,
            cancelled: BTreeSet::new(),
            overtakable,
            come: BTreeMap::new(),
            newest: vec![None; channels],
            overtaken: BTreeMap::new(),
        }
    }

    /// Whether each channel, by its number, is held: its elements have to wait.
    pub fn held(&self) -> &[bool] {
        &self.held
    }

    /// The checkpoint whose barriers have come over some channels and not yet over all.
    pub fn pending(&self) -> Option<CheckpointId> {
        self.pending.map(|barrier| barrier.checkpoint)
    }

    /// The checkpoints that records which are read from a channel now are to be persisted for.
    pub fn persisting(&self, channel: ChannelIndex) -> impl Iterator<Item = CheckpointId> {
        let overtaken = self.overtaken.iter();
        overtaken.filter_map(move |(checkpoint, waiting)| {
            let waits = waiting.get(channel.0).copied().unwrap_or_default();
            waits.then_some(*checkpoint)
        })
    }

    /// A barrier was put into a channel, behind what nobody has read of it yet.
    pub fn announced(
        &mut self,
        channel: ChannelIndex,
        barrier: Barrier,
        now: Duration,
    ) -> Announced {
        let checkpoint = barrier.checkpoint;
        let mut announced = Announced {
            declined: self
                .persisting(channel)
                .filter(|it| *it < checkpoint)
                .collect(),
            ..Announced::default()
        };
        for declined in &announced.declined {
            self.overtaken.remove(declined);
        }
        if let Some(newest) = self.newest.get_mut(channel.0) {
            *newest = (*newest).max(Some(checkpoint));
        }
        if let Some(waiting) = self.overtaken.get_mut(&checkpoint) {
            if let Some(waits) = waiting.get_mut(channel.0) {
                announced.take = std::mem::take(waits);
            }
            announced.complete = announced.take && waiting.iter().all(|waits| !waits);
            if announced.complete {
                self.overtaken.remove(&checkpoint);
            }
            return announced;
        }
        if self.over >= Some(checkpoint) || self.cancelled.contains(&checkpoint) {
            return announced;
        }
        let channels = self.held.len();
        let come = self.come.entry(checkpoint).or_insert_with(|| Come {
            barrier,
            since: now,
            deadline: None,
            channels: vec![false; channels],
        });
        if let Some(has_come) = come.channels.get_mut(channel.0) {
            *has_come = true;
        }
        let timeout = barrier.aligned_timeout_ms.map(Duration::from_millis);
        let deadline = timeout.map(|timeout| now.saturating_add(timeout));
        come.deadline = come.deadline.into_iter().chain(deadline).min();
        announced
    }

    /// A barrier has come to the front of a channel that is not held.
    pub fn barrier(&mut self, channel: ChannelIndex, barrier: Barrier, now: Duration) -> Verdict {
        let mut verdict = Verdict::default();
        let checkpoint = barrier.checkpoint;
        if self.over >= Some(checkpoint) || self.pending() > Some(checkpoint) {
            return verdict;
        }
        if self.pending() != Some(checkpoint) {
            // The channel is past the one that the others wait with.
            verdict.declined = self.pending();
            self.release();
            self.pending = Some(barrier);
        }
        if self.cancelled.contains(&checkpoint) {
            self.release();
            return verdict;
        }
        if let Some(held) = self.held.get_mut(channel.0) {
            *held = true;
        }
        if self.held.iter().all(|held| *held) {
            verdict.snapshot = Some(self.cut(barrier, now));
            self.release();
        }
        verdict
    }

    /// When the next barrier overtakes, if nothing else happens.
    pub fn deadline(&self) -> Option<Duration> {
        self.candidate()?.deadline
    }

    /// Lets a barrier overtake whose time has come.
    pub fn overtake(&mut self, now: Duration) -> Option<Overtaking> {
        let Come {
            barrier, channels, ..
        } = self.candidate().filter(|come| come.deadline <= Some(now))?;
        let (barrier, has_come) = (*barrier, channels.clone());
        let checkpoint = barrier.checkpoint;
        let cut = self.cut(barrier, now);
        let is_pending = self.pending() == Some(checkpoint);
        let in_front: Vec<bool> = self.held.iter().map(|held| is_pending && *held).collect();
        let channels = 0..has_come.len();
        let take = channels.filter(|channel| has_come[*channel] && !in_front[*channel]);
        let take = take.map(ChannelIndex).collect();
        let waiting: Vec<bool> = has_come.iter().map(|has_come| !has_come).collect();
        let declined = self.pending().filter(|_| !is_pending);
        self.release();
        self.past(checkpoint);
        let complete = waiting.iter().all(|waits| !waits);
        if !complete {
            self.overtaken.insert(checkpoint, waiting);
        }
        Some(Overtaking {
            cut,
            declined,
            take,
            complete,
        })
    }

    /// A checkpoint will never be decided.
    pub fn cancelled(&mut self, checkpoint: CheckpointId) {
        self.come.remove(&checkpoint);
        self.overtaken.remove(&checkpoint);
        if self.pending() == Some(checkpoint) {
            self.release();
        } else if self.over < Some(checkpoint) {
            self.cancelled.insert(checkpoint);
        }
    }

    /// The oldest checkpoint that can still be taken, if it may overtake once its time has come.
    fn candidate(&self) -> Option<&Come> {
        let channels = || 0..self.held.len();
        let is_passed = |come: &Come| {
            let checkpoint = Some(come.barrier.checkpoint);
            channels().any(|it| !come.channels[it] && self.newest[it] > checkpoint)
        };
        let mut alive = self.come.values().filter(|come| !is_passed(come));
        let come = alive.next()?;
        come.deadline?;
        let is_pending = self.pending() == Some(come.barrier.checkpoint);
        let may = |channel: usize| self.overtakable[channel] || is_pending && self.held[channel];
        channels().all(may).then_some(come)
    }

    fn cut(&self, barrier: Barrier, now: Duration) -> Cut {
        let come = self.come.get(&barrier.checkpoint);
        let left = |deadline: Duration| {
            let left = deadline.saturating_sub(now).as_millis();
            u64::try_from(left).unwrap_or(u64::MAX)
        };
        let deadline = come.and_then(|come| come.deadline);
        Cut {
            barrier: Barrier {
                aligned_timeout_ms: deadline.map(left).or(barrier.aligned_timeout_ms),
                ..barrier
            },
            since: come.map_or(now, |come| come.since),
        }
    }

    /// Nobody waits for the pending checkpoint any more.
    fn release(&mut self) {
        self.held.fill(false);
        if let Some(barrier) = self.pending.take() {
            self.past(barrier.checkpoint);
        }
    }

    /// This checkpoint and older ones can be taken no more.
    fn past(&mut self, checkpoint: CheckpointId) {
        self.over = self.over.max(Some(checkpoint));
        self.cancelled.retain(|cancelled| *cancelled > checkpoint);
        self.come.retain(|come, _| *come > checkpoint);
    }
}

#[cfg(test)]
mod tests;
