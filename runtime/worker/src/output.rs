//! The channels of one edge, as the task writes them that the edge begins in.

use millstream_exchange::Partitioner;
use millstream_types::{Batch, Element};

use crate::chain::Stop;
use crate::inbox::ChannelSender;
use crate::plan::Partitioning;

/// Sends records to one task or to several, and control elements to all of them.
#[derive(Debug)]
pub struct Output {
    /// By the number of the subtask that reads.
    channels: Vec<ChannelSender>,
    partitioner: Option<Partitioner>,
    /// What the partitioner has given out and nobody has been sent.
    ready: Vec<(usize, Batch)>,
    /// Whether the partitioner may hold records.
    holds: bool,
}

impl Output {
    /// The channels of subtask `from`, by the number of the subtask that reads.
    pub fn new(partitioning: &Partitioning, channels: Vec<ChannelSender>, from: usize) -> Self {
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
            for channel in &self.channels {
                channel.send(Element::Batch(batch.clone()))?;
            }
            return Ok(());
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
