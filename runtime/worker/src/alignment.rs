//! Where a checkpoint cuts through the inputs of a task. Pure.
//!
//! A barrier comes over every channel. From the first to the last of one checkpoint, channels that
//! have brought it are held: what lies behind the barrier waits. Then the task takes its snapshot,
//! which speaks of the records before the barriers of all channels and of none behind one.
//!
//! A channel brings barriers in the order of their numbers, each at most once, also when its records
//! have ended. It may leave out checkpoints that were given up.
//!
//! Source: Chandy and Lamport, "Distributed Snapshots"; Carbone et al., "Lightweight Asynchronous
//! Snapshots for Distributed Dataflows", section 4.

use std::collections::BTreeSet;

use millstream_types::{Barrier, CheckpointId};

/// One of the channels that lead to a task, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelIndex(pub usize);

/// What a task is to do about a barrier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// A checkpoint that can no longer be taken, because a channel has gone on to a newer one.
    pub declined: Option<CheckpointId>,
    /// All channels are at this barrier: take the snapshot now, before anything else.
    pub snapshot: Option<Barrier>,
}

/// Which channels of a task are held for which checkpoint.
#[derive(Debug, Clone)]
pub struct Alignment {
    held: Vec<bool>,
    pending: Option<Barrier>,
    /// The newest checkpoint that a channel is past: it and older ones can be taken no more.
    over: Option<CheckpointId>,
    /// Newer ones that will never be decided.
    cancelled: BTreeSet<CheckpointId>,
}

impl Alignment {
    /// No channel is held.
    pub fn new(channels: usize) -> Self {
        Self {
            held: vec![false; channels],
            pending: None,
            over: None,
            cancelled: BTreeSet::new(),
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

    /// A barrier has come over a channel that is not held.
    pub fn barrier(&mut self, channel: ChannelIndex, barrier: Barrier) -> Verdict {
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
            verdict.snapshot = Some(barrier);
            self.release();
        }
        verdict
    }

    /// A checkpoint will never be decided.
    pub fn cancelled(&mut self, checkpoint: CheckpointId) {
        if self.pending() == Some(checkpoint) {
            self.release();
        } else if self.over < Some(checkpoint) {
            self.cancelled.insert(checkpoint);
        }
    }

    /// Nobody waits for the pending checkpoint any more.
    fn release(&mut self) {
        self.held.fill(false);
        if let Some(barrier) = self.pending.take() {
            self.over = Some(barrier.checkpoint);
            self.cancelled
                .retain(|cancelled| *cancelled > barrier.checkpoint);
        }
    }
}

#[cfg(test)]
mod tests;
