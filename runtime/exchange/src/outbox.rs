//! The sending side of a connection: a queue of frames, and the credit of its channels.
//!
//! Tasks put frames in on their threads, the connection's own task takes them out and writes them.
//! Nothing waits to be put in. A task looks for room before it reads what it will send something of: what
//! waits here, is on its way, or lies unread at the receiver is less than the channel's window and what
//! one step of the task adds to that. A channel without room stops the task that writes it, and no other.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use arrow_schema::SchemaRef;
use millstream_types::{Batch, Element, ErrorCode, ErrorKind, Failure};
use tokio::sync::Notify;

use crate::frame::body::{self, BatchEncoder};
use crate::frame::{Body, ChannelId, Frame, FrameError, Kind};

/// Why an element is not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Nobody will read it: the attempt is over, or the reading task has stopped.
    #[error("the other end is gone")]
    Closed,
    /// It cannot be sent to another worker at all.
    #[error(transparent)]
    Failed(Failure),
}

/// What a connection has to write.
#[derive(Debug)]
pub(crate) struct Outbox {
    attempt: u64,
    state: Mutex<State>,
    /// Wakes the connection: there is something to write, or nothing will be.
    written: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Frame>,
    /// How many frames have left the queue.
    taken: u64,
    /// Nothing is taken any more, because the attempt or the connection is at its end.
    closed: bool,
    channels: BTreeMap<ChannelId, Channel>,
}

#[derive(Debug, Default)]
struct Channel {
    /// Number of the next frame.
    sequence: u64,
    /// Bytes of records that were put in and not yet taken by the reading task.
    in_flight: usize,
    /// Nobody reads.
    gone: bool,
    /// Where in the queue, counted from the first frame ever, a watermark is the channel's last frame.
    watermark: Option<u64>,
    /// Wakes the task that waits for room.
    waiting: Option<Waker>,
}

impl State {
    fn push(
        &mut self,
        attempt: u64,
        id: ChannelId,
        kind: Kind,
        body: Body,
    ) -> Result<(), FrameError> {
        let end = self.taken + self.queue.len() as u64;
        let channel = self.channels.entry(id).or_default();
        let place = channel
            .watermark
            .filter(|place| kind == Kind::Watermark && *place >= self.taken);
        let waiting = place.and_then(|place| {
            self.queue
                .get_mut(usize::try_from(place - self.taken).ok()?)
        });
        if let Some(waiting) = waiting {
            // A stream without records must not fill the queue with its watermarks.
            *waiting = Frame::new(id, attempt, channel.sequence - 1, kind, body)?;
            return Ok(());
        }
        let frame = Frame::new(id, attempt, channel.sequence, kind, body)?;
        channel.sequence += 1;
        channel.watermark = (kind == Kind::Watermark).then_some(end);
        self.queue.push_back(frame);
        Ok(())
    }
}

impl Outbox {
    pub(crate) fn new(attempt: u64) -> Self {
        Self {
            attempt,
            state: Mutex::default(),
            written: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in a frame that needs no credit. What is put into a closed outbox is not sent.
    pub(crate) fn put(&self, id: ChannelId, kind: Kind, body: Body) -> Result<(), FrameError> {
        let mut state = self.lock();
        if !state.closed {
            state.push(self.attempt, id, kind, body)?;
        }
        drop(state);
        self.written.notify_one();
        Ok(())
    }

    /// Puts in a frame of no channel.
    pub(crate) fn say(&self, kind: Kind) -> Result<(), FrameError> {
        let frame = Frame::new(ChannelId::default(), self.attempt, 0, kind, Body::default())?;
        self.lock().queue.push_back(frame);
        self.written.notify_one();
        Ok(())
    }

    /// Takes everything that is to be written; `None` when that was all.
    pub(crate) fn take(&self) -> Option<VecDeque<Frame>> {
        let mut state = self.lock();
        let frames = std::mem::take(&mut state.queue);
        state.taken += frames.len() as u64;
        (!state.closed || !frames.is_empty()).then_some(frames)
    }

    /// Until there may be something to take.
    pub(crate) async fn filled(&self) {
        self.written.notified().await;
    }

    /// The receiver has room again.
    pub(crate) fn credit(&self, id: ChannelId, bytes: u64) {
        self.change(id, |channel| {
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            channel.in_flight = channel.in_flight.saturating_sub(bytes);
        });
    }

    /// Nobody reads the channel any more.
    pub(crate) fn gone(&self, id: ChannelId) {
        self.change(id, |channel| channel.gone = true);
    }

    /// Whoever waits for room looks again, with nothing locked here.
    fn change(&self, id: ChannelId, change: impl FnOnce(&mut Channel)) {
        let mut state = self.lock();
        let waiting = state.channels.get_mut(&id).and_then(|channel| {
            change(channel);
            channel.waiting.take()
        });
        drop(state);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    /// Takes no more frames, and wakes whoever waits to put some in.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let channels = state.channels.values_mut();
        let waiting: Vec<Waker> = channels.filter_map(|it| it.waiting.take()).collect();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        self.written.notify_one();
    }
}

/// The writing end of a channel to a task in another worker. Belongs to the task before it.
pub struct RemoteSender {
    id: ChannelId,
    window: usize,
    outbox: Arc<Outbox>,
    encoding: Mutex<Encoding>,
}

#[derive(Default)]
struct Encoding {
    schema: Option<SchemaRef>,
    encoder: BatchEncoder,
}

impl fmt::Debug for RemoteSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteSender")
            .field("id", &self.id)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}

impl RemoteSender {
    pub(crate) fn new(id: ChannelId, window: usize, outbox: &Arc<Outbox>) -> Self {
        outbox.lock().channels.entry(id).or_default();
        Self {
            id,
            window,
            outbox: Arc::clone(outbox),
            encoding: Mutex::default(),
        }
    }

    /// Which channel it is.
    pub const fn id(&self) -> ChannelId {
        self.id
    }

    /// Whether less than its window is in the channel, or nobody reads it any more. If not, `waker` is
    /// told when there may be room.
    pub fn has_room(&self, waker: &Waker) -> bool {
        let mut state = self.outbox.lock();
        let closed = state.closed;
        let channel = state.channels.entry(self.id).or_default();
        let is_full = channel.in_flight > 0 && channel.in_flight >= self.window;
        let has_room = closed || channel.gone || !is_full;
        channel.waiting = (!has_room).then(|| waker.clone());
        has_room
    }

    /// Appends an element.
    ///
    /// # Errors
    /// Nobody will read it, or it cannot be sent.
    pub fn send(&self, element: &Element) -> Result<(), SendError> {
        match element {
            Element::Batch(batch) => self.send_batch(batch),
            Element::Watermark(time) => {
                self.put(Kind::Watermark, body::encode_watermark(*time), false)
            }
            Element::Idle => self.put(Kind::Idle, Body::default(), false),
            Element::Barrier(barrier) => {
                self.put(Kind::Barrier, body::encode_barrier(*barrier), false)
            }
            Element::End => self.put(Kind::End, Body::default(), false),
        }
    }

    fn send_batch(&self, batch: &Batch) -> Result<(), SendError> {
        let mut encoding = self.encoding.lock().unwrap_or_else(PoisonError::into_inner);
        let schema = batch.records().schema_ref();
        if encoding.schema.as_ref() != Some(schema) {
            let body = body::encode_schema(schema).map_err(|error| self.unsendable(&error))?;
            self.put(Kind::Schema, body, false)?;
            encoding.schema = Some(Arc::clone(schema));
        }
        let body = encoding.encoder.encode(batch);
        let body = body.map_err(|error| self.unsendable(&error))?;
        self.put(Kind::Batch, body, true)
    }

    fn put(&self, kind: Kind, body: Body, needs_credit: bool) -> Result<(), SendError> {
        let bytes = if needs_credit { body.len() } else { 0 };
        let mut state = self.outbox.lock();
        let closed = state.closed;
        let channel = state.channels.entry(self.id).or_default();
        if closed || channel.gone {
            return Err(SendError::Closed);
        }
        channel.in_flight += bytes;
        let pushed = state.push(self.outbox.attempt, self.id, kind, body);
        drop(state);
        self.outbox.written.notify_one();
        pushed.map_err(|error| self.unsendable(&error))
    }

    fn unsendable(&self, error: &FrameError) -> SendError {
        SendError::Failed(Failure::new(
            ErrorCode::ExchangeFrame,
            ErrorKind::Internal,
            format!(
                "records for {} cannot be sent to another worker: {error}",
                self.id
            ),
        ))
    }
}

impl Drop for RemoteSender {
    fn drop(&mut self) {
        if let Err(error) = self.outbox.put(self.id, Kind::Closed, Body::default()) {
            tracing::error!(channel = %self.id, %error, "the end of a channel is not told");
        }
    }
}
