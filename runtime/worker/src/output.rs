//! The channels of one edge, as the task writes them that the edge begins in.

use std::task::Waker;

use millstream_exchange::{Partitioner, RemoteSender, SendError};
use millstream_types::{Batch, Element};

use crate::chain::Stop;
use crate::inbox::ChannelSender;
use crate::plan::Partitioning;

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
    /// Whether there is room in it, or nobody reads it any more. If not, `waker` is told when there is.
    pub fn has_room(&self, waker: &Waker) -> bool {
        match self {
            Self::Local(channel) => channel.has_room(waker),
            Self::Remote(channel) => channel.has_room(waker),
        }
    }

    /// Appends an element.
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
}

impl Output {
    /// The channels of subtask `from`, by the number of the subtask that reads.
    pub fn new(partitioning: &Partitioning, channels: Vec<Channel>, from: usize) -> Self {
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

    /// Whether there is room in every channel. If not, `waker` is told when there may be.
    pub fn has_room(&self, waker: &Waker) -> bool {
        self.channels.iter().all(|channel| channel.has_room(waker))
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

    fn send_ready(&mut self) -> Result<(), Stop> {
        for (destination, batch) in self.ready.drain(..) {
            if let Some(channel) = self.channels.get(destination) {
                channel.send(Element::Batch(batch))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
