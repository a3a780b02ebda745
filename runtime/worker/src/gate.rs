//! The channels of a task as one stream: aligned at barriers, with one event time and one end. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use millstream_exchange::{ChannelId, InFlight};
use millstream_operators::InputIndex;
use millstream_types::{Barrier, Batch, Bug, CheckpointId, Element, EventTime};

use crate::alignment::{Alignment, Announced, ChannelIndex, Cut, Overtaking, Verdict};
use crate::event_time::Channels;
use crate::inbox::Read;
use crate::watermark::Progress;

/// What the first node of a task is given, in the order in which it is given it.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrival {
    /// Records of an input.
    Batch(InputIndex, Batch),
    /// No record older than this follows, except late ones.
    Watermark(EventTime),
    /// No input has records for now.
    Idle,
    /// Every channel is at this barrier.
    Barrier(Cut),
    /// This checkpoint can no longer be taken here.
    Declined(CheckpointId),
    /// Nothing follows over any channel.
    End,
}

/// A channel that leads to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Which input of the task's first node its records are for.
    pub input: InputIndex,
    /// What it is called where its records are persisted.
    pub channel: ChannelId,
    /// Whether a barrier may overtake its records.
    pub overtakable: bool,
}

/// The channels that lead to a task.
#[derive(Debug, Clone)]
pub struct Gate {
    inputs: Vec<Input>,
    alignment: Alignment,
    event_time: Channels,
    /// Records that a barrier had overtaken in the checkpoint that the task goes on from. They are before
    /// all that comes over channels.
    restored: VecDeque<InFlight>,
    /// Records that barriers have overtaken, as far as they are known.
    overtaken: BTreeMap<CheckpointId, Overtaken>,
    /// Bytes of them, of one channel, from which on it is held.
    bound: usize,
    held: Vec<bool>,
}

#[derive(Debug, Clone)]
struct Overtaken {
    records: Vec<InFlight>,
    /// By channel.
    bytes: Vec<usize>,
}

impl Gate {
    /// Nothing has come over any channel. Of what is persisted of a channel while it is read, there is
    /// little more than `bound` bytes.
    pub fn new(inputs: Vec<Input>, bound: usize) -> Self {
        let overtakable = inputs.iter().map(|input| input.overtakable);
        Self {
            alignment: Alignment::new(overtakable.collect()),
            event_time: Channels::new(inputs.len()),
            restored: VecDeque::new(),
            overtaken: BTreeMap::new(),
            bound,
            held: vec![false; inputs.len()],
            inputs,
        }
    }

    /// The task goes on from a checkpoint with these records in flight.
    #[must_use]
    pub fn restored(mut self, records: Vec<InFlight>) -> Self {
        self.restored = records.into();
        self
    }

    /// The event time of all channels.
    pub const fn event_time(&self) -> &Channels {
        &self.event_time
    }

    /// Which channels, by their numbers, have to wait.
    pub fn held(&self) -> &[bool] {
        if Bug::ChannelNotHeld.is_seeded() {
            return &[];
        }
        &self.held
    }

    /// What is to be read next: every channel that is not held, behind all restored records.
    pub fn read(&self) -> Read<'_> {
        if self.has_restored() {
            Read::Nothing
        } else {
            Read::Channels { held: self.held() }
        }
    }

    /// Whether there are restored records that were not given out.
    pub fn has_restored(&self) -> bool {
        !self.restored.is_empty()
    }

    /// Gives out the next restored records.
    pub fn next_restored(&mut self) -> Option<(InputIndex, Batch)> {
        let InFlight { channel, batch } = self.restored.pop_front()?;
        let input = usize::try_from(channel.edge).unwrap_or(usize::MAX);
        Some((InputIndex(input), batch))
    }

    /// A barrier was put into a channel.
    pub fn announced(
        &mut self,
        channel: ChannelIndex,
        barrier: Barrier,
        now: Duration,
    ) -> Announced {
        let announced = self.alignment.announced(channel, barrier, now);
        for declined in &announced.declined {
            self.overtaken.remove(declined);
        }
        self.hold();
        announced
    }

    /// When a barrier overtakes, if nothing else happens.
    pub fn deadline(&self) -> Option<Duration> {
        self.alignment.deadline()
    }

    /// Lets a barrier overtake whose time has come. Restored records that were not given out are before it.
    pub fn overtake(&mut self, now: Duration) -> Option<Overtaking> {
        let overtaking = self.alignment.overtake(now)?;
        let overtaken = Overtaken {
            records: self.restored.iter().cloned().collect(),
            bytes: vec![0; self.inputs.len()],
        };
        let checkpoint = overtaking.cut.barrier.checkpoint;
        self.overtaken.insert(checkpoint, overtaken);
        self.hold();
        Some(overtaking)
    }

    /// Records of a channel that the barrier of a checkpoint has overtaken.
    pub fn persist(
        &mut self,
        checkpoint: CheckpointId,
        channel: ChannelIndex,
        batches: Vec<Batch>,
    ) {
        let Some(input) = self.inputs.get(channel.0) else {
            return;
        };
        if let Some(overtaken) = self.overtaken.get_mut(&checkpoint) {
            for batch in batches {
                if let Some(bytes) = overtaken.bytes.get_mut(channel.0) {
                    *bytes += batch.bytes();
                }
                let channel = input.channel;
                overtaken.records.push(InFlight { channel, batch });
            }
        }
    }

    /// All records that the barrier of a checkpoint has overtaken.
    pub fn take_overtaken(&mut self, checkpoint: CheckpointId) -> Vec<InFlight> {
        let overtaken = self.overtaken.remove(&checkpoint);
        self.hold();
        overtaken.map_or_else(Vec::new, |overtaken| overtaken.records)
    }

    /// An element has come over a channel that is not held.
    pub fn element(
        &mut self,
        channel: ChannelIndex,
        element: Element,
        now: Duration,
    ) -> impl Iterator<Item = Arrival> + use<> {
        let (first, second) = match element {
            Element::Batch(batch) => {
                let persisting: Vec<CheckpointId> = self.alignment.persisting(channel).collect();
                for checkpoint in persisting {
                    if Bug::LateRecordsNotPersisted.is_seeded() {
                        continue;
                    }
                    self.persist(checkpoint, channel, vec![batch.clone()]);
                    self.hold();
                }
                let input = self.inputs.get(channel.0);
                let input = input.map(|input| input.input).unwrap_or_default();
                let batch = Arrival::Batch(input, batch);
                (
                    self.event_time.records(channel).map(Arrival::from),
                    Some(batch),
                )
            }
            Element::Watermark(watermark) => {
                let progress = self.event_time.watermark(channel, watermark);
                (progress.map(Arrival::from), None)
            }
            Element::Idle => (self.event_time.idle(channel).map(Arrival::from), None),
            Element::Barrier(barrier) => {
                let Verdict { declined, snapshot } = self.alignment.barrier(channel, barrier, now);
                self.hold();
                (
                    declined.map(Arrival::Declined),
                    snapshot.map(Arrival::Barrier),
                )
            }
            Element::End => {
                let progress = self.event_time.ended(channel).map(Arrival::from);
                let end = self.event_time.have_ended().then_some(Arrival::End);
                (progress, end)
            }
        };
        first.into_iter().chain(second)
    }

    /// A checkpoint will never be decided.
    pub fn cancelled(&mut self, checkpoint: CheckpointId) {
        self.alignment.cancelled(checkpoint);
        self.overtaken.remove(&checkpoint);
        self.hold();
    }

    /// A channel is held at its barrier, and where enough of it is persisted before its barrier has come.
    fn hold(&mut self) {
        self.held.copy_from_slice(self.alignment.held());
        for (checkpoint, overtaken) in &self.overtaken {
            for (number, bytes) in overtaken.bytes.iter().enumerate() {
                let mut persisting = self.alignment.persisting(ChannelIndex(number));
                if *bytes >= self.bound.max(1) && persisting.any(|it| it == *checkpoint) {
                    self.held[number] = true;
                }
            }
        }
    }
}

impl From<Progress> for Arrival {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Watermark(time) => Self::Watermark(time),
            Progress::Idle => Self::Idle,
        }
    }
}

#[cfg(test)]
mod tests;
