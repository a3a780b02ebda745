//! The receiving side of a connection: checks what came, and delivers it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_buffer::Buffer;
use arrow_schema::SchemaRef;
use millstream_types::Element;

use crate::frame::body;
use crate::frame::{BODY_BYTES_MAX, Body, ChannelId, FrameError, Header, Kind};
use crate::outbox::Outbox;

/// Credit is given back in parts of the window, so that there is not a frame for each batch.
const PARTS: usize = 8;

/// Bytes by which one step of the task that sends may go beyond the window. It looks for room before the
/// step; whatever it sends of one batch is far less.
const STEP_MAX: usize = BODY_BYTES_MAX;

/// Nobody reads what is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads the channel")]
pub struct Gone;

/// Where the elements of a channel go. Dropped when none follows.
pub trait Deliver: Send {
    /// Takes an element, without waiting. Records come with a credit: to be dropped when they are
    /// taken, so that as many may follow.
    ///
    /// # Errors
    /// Nobody reads the channel any more.
    fn deliver(&mut self, element: Element, credit: Option<Credit>) -> Result<(), Gone>;
}

/// Bytes of a channel's window that are in use until this is dropped.
#[derive(Debug)]
pub struct Credit {
    bytes: usize,
    window: Arc<Window>,
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.window.give_back(self.bytes);
    }
}

/// How much of a channel the receiver holds.
#[derive(Debug)]
struct Window {
    id: ChannelId,
    bytes: usize,
    outbox: Arc<Outbox>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// What has come and was not yet given back.
    outstanding: usize,
    /// What was taken of it, and is not worth a frame yet.
    taken: usize,
}

impl Window {
    fn take(self: &Arc<Self>, bytes: usize) -> Result<Credit, FrameError> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let most = self.bytes.saturating_add(STEP_MAX);
        if held.outstanding + bytes > most {
            return Err(FrameError::Credit {
                channel: self.id,
                length: bytes as u64,
                credit: most.saturating_sub(held.outstanding) as u64,
            });
        }
        held.outstanding += bytes;
        let window = Arc::clone(self);
        Ok(Credit { bytes, window })
    }

    fn give_back(&self, bytes: usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.taken += bytes;
        if held.taken < held.outstanding && held.taken < self.bytes / PARTS {
            return;
        }
        held.outstanding -= held.taken;
        let credit = std::mem::take(&mut held.taken) as u64;
        // Under the lock: what has been counted as free must have been said before it is used.
        self.say(Kind::Credit, body::encode_number(credit));
    }

    fn say(&self, kind: Kind, body: Body) {
        if let Err(error) = self.outbox.put(self.id, kind, body) {
            tracing::error!(channel = %self.id, %error, "a channel's sender is told nothing");
        }
    }
}

/// One channel that leads here.
pub(crate) struct Receiving {
    window: Arc<Window>,
    schema: Option<SchemaRef>,
    /// None once nobody reads, or nothing follows.
    deliver: Option<Box<dyn Deliver>>,
}

impl Receiving {
    pub(crate) fn new(
        id: ChannelId,
        window: usize,
        deliver: Box<dyn Deliver>,
        outbox: &Arc<Outbox>,
    ) -> Self {
        let window = Window {
            id,
            bytes: window,
            outbox: Arc::clone(outbox),
            held: Mutex::default(),
        };
        Self {
            window: Arc::new(window),
            schema: None,
            deliver: Some(deliver),
        }
    }

    fn take(&mut self, header: &Header, body: &Buffer) -> Result<(), FrameError> {
        let element = match header.kind {
            Kind::Schema => {
                self.schema = Some(body::decode_schema(body)?);
                return Ok(());
            }
            Kind::Closed => {
                self.deliver = None;
                return Ok(());
            }
            Kind::Batch => {
                let credit = self.window.take(body.len())?;
                let schema = self.schema.as_ref().ok_or(FrameError::Unexpected {
                    channel: header.channel,
                    kind: header.kind,
                })?;
                let batch = body::decode_batch(body, schema)?;
                self.deliver(Element::Batch(batch), Some(credit));
                return Ok(());
            }
            Kind::Watermark => Element::Watermark(body::decode_watermark(body)?),
            Kind::Idle => Element::Idle,
            Kind::Barrier => Element::Barrier(body::decode_barrier(body)?),
            Kind::End => Element::End,
            Kind::Credit | Kind::Gone | Kind::Heartbeat | Kind::Bye => {
                let (channel, kind) = (header.channel, header.kind);
                return Err(FrameError::Unexpected { channel, kind });
            }
        };
        self.deliver(element, None);
        Ok(())
    }

    fn deliver(&mut self, element: Element, credit: Option<Credit>) {
        if let Some(deliver) = &mut self.deliver
            && deliver.deliver(element, credit) == Err(Gone)
        {
            self.deliver = None;
            self.window.say(Kind::Gone, Body::default());
        }
    }
}

/// Frames of one connection in one direction: complete, in order, each once.
#[derive(Debug)]
pub(crate) struct Sequences {
    attempt: u64,
    next: BTreeMap<ChannelId, u64>,
}

impl Sequences {
    pub(crate) fn new(attempt: u64, channels: impl IntoIterator<Item = ChannelId>) -> Self {
        Self {
            attempt,
            next: channels.into_iter().map(|id| (id, 0)).collect(),
        }
    }

    pub(crate) fn check(&mut self, header: &Header) -> Result<(), FrameError> {
        let (channel, kind) = (header.channel, header.kind);
        if header.attempt != self.attempt {
            return Err(FrameError::Attempt {
                expected: self.attempt,
                actual: header.attempt,
            });
        }
        if matches!(kind, Kind::Heartbeat | Kind::Bye) {
            return Ok(());
        }
        let next = self.next.get_mut(&channel);
        let next = next.ok_or(FrameError::Unexpected { channel, kind })?;
        if header.sequence != *next {
            return Err(FrameError::Sequence {
                channel,
                expected: *next,
                actual: header.sequence,
            });
        }
        *next += 1;
        Ok(())
    }
}

/// The channels of a connection that lead here.
pub(crate) struct Inbound {
    sequences: Sequences,
    channels: BTreeMap<ChannelId, Receiving>,
}

impl Inbound {
    pub(crate) fn new(attempt: u64, channels: BTreeMap<ChannelId, Receiving>) -> Self {
        Self {
            sequences: Sequences::new(attempt, channels.keys().copied()),
            channels,
        }
    }

    /// A frame whose checksum holds has come.
    pub(crate) fn take(&mut self, header: &Header, body: &Buffer) -> Result<(), FrameError> {
        self.sequences.check(header)?;
        if header.kind == Kind::Heartbeat {
            return Ok(());
        }
        let (channel, kind) = (header.channel, header.kind);
        let receiving = self.channels.get_mut(&channel);
        let receiving = receiving.ok_or(FrameError::Unexpected { channel, kind })?;
        receiving.take(header, body)
    }
}

/// What comes back over a connection whose channels lead away from here.
pub(crate) struct Answers {
    sequences: Sequences,
    outbox: Arc<Outbox>,
}

impl Answers {
    pub(crate) fn new(
        attempt: u64,
        channels: impl IntoIterator<Item = ChannelId>,
        outbox: &Arc<Outbox>,
    ) -> Self {
        Self {
            sequences: Sequences::new(attempt, channels),
            outbox: Arc::clone(outbox),
        }
    }

    pub(crate) fn take(&mut self, header: &Header, body: &Buffer) -> Result<(), FrameError> {
        self.sequences.check(header)?;
        let (channel, kind) = (header.channel, header.kind);
        match kind {
            Kind::Heartbeat => {}
            Kind::Credit => {
                let bytes = body::decode_number(kind, body)?;
                self.outbox.credit(channel, bytes);
            }
            Kind::Gone => self.outbox.gone(channel),
            _ => return Err(FrameError::Unexpected { channel, kind }),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
