//! The channels of a task as one stream: aligned at barriers, with one event time and one end. Pure.

use millstream_operators::InputIndex;
use millstream_types::{Barrier, Batch, Bug, CheckpointId, Element, EventTime};

use crate::alignment::{Alignment, ChannelIndex, Verdict};
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
    Barrier(Barrier),
    /// This checkpoint can no longer be taken here.
    Declined(CheckpointId),
    /// Nothing follows over any channel.
    End,
}

/// The channels that lead to a task.
#[derive(Debug, Clone)]
pub struct Gate {
    /// By channel: which input of the task's first node its records are for.
    inputs: Vec<InputIndex>,
    alignment: Alignment,
    event_time: Channels,
}

impl Gate {
    /// Nothing has come over any channel; `inputs` says for which input of the task's first node
    /// each one's records are.
    pub fn new(inputs: Vec<InputIndex>) -> Self {
        Self {
            alignment: Alignment::new(inputs.len()),
            event_time: Channels::new(inputs.len()),
            inputs,
        }
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
        self.alignment.held()
    }

    /// What is to be read next: every channel that is not held.
    pub fn read(&self) -> Read<'_> {
        Read::Channels { held: self.held() }
    }

    /// An element has come over a channel that is not held.
    pub fn element(
        &mut self,
        channel: ChannelIndex,
        element: Element,
    ) -> impl Iterator<Item = Arrival> + use<> {
        let (first, second) = match element {
            Element::Batch(batch) => {
                let input = self.inputs.get(channel.0).copied().unwrap_or_default();
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
                let Verdict { declined, snapshot } = self.alignment.barrier(channel, barrier);
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
