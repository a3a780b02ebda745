//! The channels of one edge, as the task writes them that the edge begins in.

use std::sync::Arc;
use std::time::Duration;

use millstream_exchange::{Partitioner, RemoteSender, SendError};
use millstream_types::{Batch, Clock, Element};

use crate::chain::Stop;
use crate::inbox::ChannelSender;
use crate::plan::Partitioning;

/// Sending takes less, unless there is no room.
const WAITED: Duration = Duration::from_micros(100);

/// The writing end of a channel.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a task has a few, which stay where they are"
)]
pub enum Channel {
    /// To a task of this worker.
    Local(ChannelSender),
    /// To a task of another worker.
    Remote(RemoteSender),
}

impl Channel {
    /// Appends an element; records wait until there is room.
    ///
    /// # Errors
    /// Nobody will read it, or it cannot be sent to another worker.
    pub fn send(&self, element: Element) -> Result<(), Stop> {
        match self {
            Self::Local(channel) => Ok(channel.send(element)?),
            Self::Remote(channel) => channel.send(&element).map_err(|error| match error {
                SendError::Closed => Stop::Cancelled,
                SendError::Failed(failure) => Stop::Failed(failure),
            }),
        }
    }
}

#[cfg(feature = "simulation")]
impl Channel {
    pub(crate) fn has_room(&self, bound: usize) -> bool {
        match self {
            Self::Local(channel) => channel.has_room(bound),
            // Simulated workers are not connected.
            Self::Remote(_) => true,
        }
    }
}

impl From<ChannelSender> for Channel {
    fn from(channel: ChannelSender) -> Self {
        Self::Local(channel)
    }
}

/// Sends records to one task or to several, and control elements to all of them.
pub struct Output {
    /// By the number of the subtask that reads.
    channels: Vec<Channel>,
    partitioner: Option<Partitioner>,
    /// What the partitioner has given out and nobody has been sent.
    ready: Vec<(usize, Batch)>,
    /// Whether the partitioner may hold records.
    holds: bool,
    clock: Arc<dyn Clock>,
    /// How long it has waited for room.
    waited: Duration,
}

impl Output {
    /// The channels of subtask `from`, by the number of the subtask that reads.
    pub fn new(
        partitioning: &Partitioning,
        channels: Vec<Channel>,
        from: usize,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let destinations = channels.len();
        let partitioner = match partitioning {
            Partitioning::Forward => None,
            Partitioning::Hash {
                columns,
                max_parallelism,
            } => Some(Partitioner::hash(
                columns.clone(),
                *max_parallelism,
                destinations,
            )),
            // Not all begin with the same one.
            Partitioning::Rebalance => Some(Partitioner::rebalance(
                destinations,
                from % destinations.max(1),
            )),
        };
        Self {
            channels,
            partitioner,
            ready: Vec::new(),
            holds: false,
            clock,
            waited: Duration::ZERO,
        }
    }

    /// Sends records, or holds them back until there are more.
    ///
    /// # Errors
    /// A channel is closed, or the records are not those of the edge.
    pub fn batch(&mut self, batch: &Batch) -> Result<(), Stop> {
        let Some(partitioner) = &mut self.partitioner else {
            let all = 0..self.channels.len();
            self.ready
                .extend(all.map(|channel| (channel, batch.clone())));
            return self.send_ready();
        };
        partitioner.push(batch, &mut self.ready)?;
        self.holds = true;
        self.send_ready()
    }

    /// Sends what is held back.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn flush(&mut self) -> Result<(), Stop> {
        if !std::mem::take(&mut self.holds) {
            return Ok(());
        }
        if let Some(partitioner) = &mut self.partitioner {
            partitioner.flush(&mut self.ready)?;
        }
        self.send_ready()
    }

    /// How long it has waited for room in its channels.
    pub const fn waited(&self) -> Duration {
        self.waited
    }

    /// Whether records may be held back.
    pub const fn holds(&self) -> bool {
        self.holds
    }

    /// Sends a control element to everybody, behind all records that came before it.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn control(&mut self, element: &Element) -> Result<(), Stop> {
        self.flush()?;
        for channel in &self.channels {
            channel.send(element.clone())?;
        }
        Ok(())
    }

    /// Whether less than so many bytes are in every channel that is read.
    #[cfg(feature = "simulation")]
    pub(crate) fn has_room(&self, bound: usize) -> bool {
        self.channels.iter().all(|channel| channel.has_room(bound))
    }

    fn send_ready(&mut self) -> Result<(), Stop> {
        let before = self.clock.monotonic();
        for (destination, batch) in self.ready.drain(..) {
            if let Some(channel) = self.channels.get(destination) {
                channel.send(Element::Batch(batch))?;
            }
        }
        let took = self.clock.monotonic().saturating_sub(before);
        if took >= WAITED {
            self.waited += took;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
