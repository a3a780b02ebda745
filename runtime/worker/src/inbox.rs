//! What reaches a task: commands, and elements over channels from the tasks before it.
//!
//! There is one place to wait: whatever comes first wakes the task. Each channel has one sender and
//! is bounded in bytes by itself, so that one that is held never keeps another from being read.
//!
//! Nothing waits to be put in. Who sends looks for room before it reads what it will send something
//! of, so a channel holds less than its bound and what one step adds to that; a task that waits for room
//! is woken by whoever makes it, and takes commands meanwhile. Control elements keep their place among
//! the records.
//!
//! A task in another worker sends through a connection, with a credit for what it puts in: when the
//! element is taken, so is the credit, and as much may follow.
//!
//! A barrier is announced when it is put into a channel, whatever lies before it there, so that the task can
//! take it out of the channel and persist what it overtakes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use millstream_exchange::{Credit, Deliver, Gone};
use millstream_state::Written;
use millstream_types::{
    Barrier, Batch, CheckpointId, Element, Failure, FileRef, OperatorUid, SplitState,
};

use crate::alignment::ChannelIndex;

/// Bytes of records from which on a channel has no room: two of the largest batches a source makes, with
/// room for their decoded form. More only delays barriers.
pub const CHANNEL_BYTES: usize = 2 * 1_024 * 1_024;

/// Bytes of records from which on all channels of a task together have no room, unless each has its least.
const INBOX_BYTES: usize = 8 * CHANNEL_BYTES;

/// The least that a channel has room for: below one full batch, its ends would wait for each other in turn.
const CHANNEL_BYTES_MIN: usize = 512 * 1_024;

/// Bytes of records that each of so many channels of one task has room for.
pub fn channel_bytes(channels: usize) -> usize {
    let share = INBOX_BYTES / channels.max(1);
    share.clamp(CHANNEL_BYTES_MIN, CHANNEL_BYTES)
}

/// Commands that a task has not looked at yet. A task looks between two polls; one that lets this
/// many pile up is stuck in a connector.
pub const COMMANDS_MAX: usize = 1_024;

/// What a task is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Read these splits too.
    AddSplits {
        /// Which source.
        uid: OperatorUid,
        /// The splits.
        splits: Vec<SplitState>,
    },
    /// A source: emit this barrier now.
    Trigger(Barrier),
    /// The checkpoint is decided.
    Completed {
        /// Which.
        checkpoint: CheckpointId,
        /// Whether everything that it lists is committed.
        committed: bool,
    },
    /// The checkpoint will never be decided.
    Aborted(CheckpointId),
    /// What was frozen at a barrier is written, or cannot be.
    Written {
        /// For which checkpoint.
        checkpoint: CheckpointId,
        /// By operator.
        states: Vec<(OperatorUid, Result<Written, Failure>)>,
    },
    /// The records that the barrier of a checkpoint has overtaken are written, or cannot be.
    InFlightWritten {
        /// For which checkpoint.
        checkpoint: CheckpointId,
        /// Their file.
        file: Result<FileRef, Failure>,
    },
}

/// What a task is ready to take, besides commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read<'a> {
    /// Nothing: it waits for room in what it writes, and is woken by that.
    Nothing,
    /// What comes over channels that are not held.
    Channels {
        /// By the number of the channel; those behind the last one are not held.
        held: &'a [bool],
    },
}

/// The other end is gone, or the inbox was closed because its attempt is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the other end is gone")]
pub struct Closed;

/// A task does not take commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// It has stopped.
    #[error("the task has stopped")]
    Stopped,
    /// It does not look at its commands.
    #[error("the task is stuck: {COMMANDS_MAX} commands wait for it")]
    Stuck,
}

/// What a task finds in its inbox.
#[derive(Debug, Clone, PartialEq)]
pub enum Received {
    /// A command.
    Command(Command),
    /// A barrier that was put into a channel. It is still there.
    Announced(ChannelIndex, Barrier),
    /// The next element of a channel.
    Element(ChannelIndex, Element),
}

/// The reading end, which belongs to the task.
#[derive(Debug)]
pub struct Inbox {
    shared: Arc<Shared>,
    /// The channel that comes first next time.
    turn: usize,
}

/// The writing end of one channel, which belongs to the task before.
#[derive(Debug)]
pub struct ChannelSender {
    shared: Arc<Shared>,
    channel: usize,
}

/// Reaches the task from outside, and closes its inbox.
#[derive(Debug, Clone)]
pub struct InboxHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bound: usize,
    state: Mutex<State>,
    /// Something came, or nothing will.
    readable: Condvar,
}

#[derive(Debug, Default)]
struct State {
    commands: VecDeque<Command>,
    /// Barriers that were put into channels since the task looked.
    announced: VecDeque<(ChannelIndex, Barrier)>,
    channels: Vec<Channel>,
    /// A channel that the task writes has room again, or nobody reads it any more.
    woken: bool,
    /// What is in the inbox reaches nobody.
    closed: bool,
}

#[derive(Debug, Default)]
struct Channel {
    elements: VecDeque<Entry>,
    bytes: usize,
    /// No element follows those in the channel.
    sender_gone: bool,
    /// Wakes its sender, which waits for room.
    waiting: Option<Waker>,
}

/// An element that nobody has read yet.
#[derive(Debug)]
struct Entry {
    element: Element,
    bytes: usize,
    /// Of a sender in another worker.
    credit: Option<Credit>,
}

/// Makes the inbox of a task with so many channels, each of which has room while it holds less than
/// `bound` bytes of records, or none.
pub fn inbox(channels: usize, bound: usize) -> (Inbox, Vec<ChannelSender>, InboxHandle) {
    let shared = Arc::new(Shared {
        bound,
        state: Mutex::new(State {
            channels: (0..channels).map(|_| Channel::default()).collect(),
            ..State::default()
        }),
        readable: Condvar::new(),
    });
    let sender = |channel| ChannelSender {
        shared: Arc::clone(&shared),
        channel,
    };
    let senders = (0..channels).map(sender).collect();
    let inbox = Inbox {
        shared: Arc::clone(&shared),
        turn: 0,
    };
    (inbox, senders, InboxHandle { shared })
}

fn bytes_of(element: &Element) -> usize {
    match element {
        Element::Batch(batch) => batch.bytes(),
        Element::Watermark(_) | Element::Idle | Element::Barrier(_) | Element::End => 0,
    }
}

impl Channel {
    /// Appends an element. A watermark replaces one that nobody has read yet, so that a stream
    /// without records cannot fill the channel with them.
    fn push(&mut self, entry: Entry) {
        if let (Some(last), Element::Watermark(_)) = (self.elements.back_mut(), &entry.element)
            && matches!(last.element, Element::Watermark(_))
        {
            *last = entry;
            return;
        }
        self.bytes += entry.bytes;
        self.elements.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.elements.pop_front()?;
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Takes the barrier of a checkpoint out. The records before it, which stay; none if it is not there.
    fn take_barrier(&mut self, checkpoint: CheckpointId) -> Option<Vec<Batch>> {
        let is_it = |entry: &Entry| match &entry.element {
            Element::Barrier(barrier) => barrier.checkpoint == checkpoint,
            _ => false,
        };
        let place = self.elements.iter().position(is_it)?;
        self.elements.remove(place);
        let before = self.elements.iter().take(place);
        let records = before.filter_map(|entry| match &entry.element {
            Element::Batch(batch) => Some(batch.clone()),
            _ => None,
        });
        Some(records.collect())
    }

    const fn has_room(&self, bound: usize) -> bool {
        self.bytes == 0 || self.bytes < bound
    }

    fn is_done(&self) -> bool {
        self.sender_gone && self.elements.is_empty()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.commands.clear();
        let mut unread = Vec::new();
        let mut waiting = Vec::new();
        for channel in &mut state.channels {
            unread.push(std::mem::take(&mut channel.elements));
            waiting.extend(channel.waiting.take());
            channel.bytes = 0;
        }
        drop(state);
        // Credits go back to their connections, and others are woken, when nothing is locked here.
        drop(unread);
        waiting.into_iter().for_each(Waker::wake);
        self.readable.notify_all();
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.lock().woken = true;
        self.readable.notify_one();
    }
}

impl ChannelSender {
    /// Whether less than its bound is in the channel, or nobody reads it any more. If not, `waker` is
    /// told when there is room.
    pub fn has_room(&self, waker: &Waker) -> bool {
        let mut state = self.shared.lock();
        if state.closed {
            return true;
        }
        let Some(channel) = state.channels.get_mut(self.channel) else {
            return true;
        };
        let has_room = channel.has_room(self.shared.bound);
        channel.waiting = (!has_room).then(|| waker.clone());
        has_room
    }

    /// Appends an element.
    ///
    /// # Errors
    /// Nobody will read it.
    pub fn send(&self, element: Element) -> Result<(), Closed> {
        let bytes = bytes_of(&element);
        let state = self.shared.lock();
        if state.closed {
            return Err(Closed);
        }
        self.append(state, element, bytes, None);
        Ok(())
    }

    fn append(
        &self,
        mut state: MutexGuard<'_, State>,
        element: Element,
        bytes: usize,
        credit: Option<Credit>,
    ) {
        if let Element::Barrier(barrier) = &element {
            let channel = ChannelIndex(self.channel);
            state.announced.push_back((channel, *barrier));
        }
        if let Some(channel) = state.channels.get_mut(self.channel) {
            channel.push(Entry {
                element,
                bytes,
                credit,
            });
        }
        drop(state);
        self.shared.readable.notify_one();
    }
}

impl Deliver for ChannelSender {
    fn deliver(&mut self, element: Element, credit: Option<Credit>) -> Result<(), Gone> {
        let bytes = bytes_of(&element);
        let state = self.shared.lock();
        if state.closed {
            return Err(Gone);
        }
        self.append(state, element, bytes, credit);
        Ok(())
    }
}

impl Drop for ChannelSender {
    fn drop(&mut self) {
        if let Some(channel) = self.shared.lock().channels.get_mut(self.channel) {
            channel.sender_gone = true;
        }
        self.shared.readable.notify_one();
    }
}

impl Inbox {
    /// Takes what comes next, waiting at most `timeout` for it; `None` if there is nothing by then.
    /// Commands come first, then barriers that were put into channels, then the channels in turn, without
    /// those that are held.
    ///
    /// # Errors
    /// The attempt is over, or a channel that is read has lost its sender.
    pub fn next(&mut self, read: Read<'_>, timeout: Duration) -> Result<Option<Received>, Closed> {
        // The clock is asked only by who has to wait.
        let mut deadline = None;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        loop {
            if state.closed {
                return Err(Closed);
            }
            if let Some(command) = state.commands.pop_front() {
                return Ok(Some(Received::Command(command)));
            }
            if let Some((channel, barrier)) = state.announced.pop_front() {
                return Ok(Some(Received::Announced(channel, barrier)));
            }
            let woken = std::mem::take(&mut state.woken);
            match read {
                Read::Channels { held } => {
                    if let Some(taken) = self.entry(&mut state, held)? {
                        drop(state);
                        return Ok(Some(taken.received()));
                    }
                }
                Read::Nothing if woken => return Ok(None),
                Read::Nothing => {}
            }
            let left = if timeout.is_zero() {
                timeout
            } else {
                let now = Instant::now();
                let deadline = *deadline.get_or_insert(now + timeout);
                deadline.saturating_duration_since(now)
            };
            if left.is_zero() {
                return Ok(None);
            }
            let waited = shared.readable.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a barrier that was announced out of its channel. The records before it, which stay there; none
    /// if it is not there.
    pub fn take_barrier(
        &self,
        channel: ChannelIndex,
        checkpoint: CheckpointId,
    ) -> Option<Vec<Batch>> {
        let mut state = self.shared.lock();
        let channel = state.channels.get_mut(channel.0)?;
        channel.take_barrier(checkpoint)
    }

    /// Bytes of records in each channel.
    pub fn queued(&self) -> Vec<usize> {
        let state = self.shared.lock();
        state.channels.iter().map(|channel| channel.bytes).collect()
    }

    /// Bytes of records from which on a channel has no room.
    pub fn bound(&self) -> usize {
        self.shared.bound
    }

    fn entry(&mut self, state: &mut State, held: &[bool]) -> Result<Option<Taken>, Closed> {
        let count = state.channels.len();
        for number in (0..count).map(|offset| (self.turn + offset) % count) {
            let is_held = held.get(number).copied().unwrap_or_default();
            let Some(channel) = state.channels.get_mut(number).filter(|_| !is_held) else {
                continue;
            };
            if let Some(entry) = channel.pop() {
                self.turn = (number + 1) % count;
                let has_room = channel.has_room(self.shared.bound);
                return Ok(Some(Taken {
                    channel: ChannelIndex(number),
                    entry,
                    waiting: channel.waiting.take_if(|_| has_room),
                }));
            }
            if channel.is_done() {
                return Err(Closed);
            }
        }
        Ok(None)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// What was taken out of a channel.
struct Taken {
    channel: ChannelIndex,
    entry: Entry,
    waiting: Option<Waker>,
}

impl Taken {
    /// Tells the sender that there is room, with nothing locked here.
    fn received(self) -> Received {
        if let Some(waiting) = self.waiting {
            waiting.wake();
        }
        drop(self.entry.credit);
        Received::Element(self.channel, self.entry.element)
    }
}

impl InboxHandle {
    /// Puts in a command.
    ///
    /// # Errors
    /// The task has stopped or is stuck.
    pub fn send(&self, command: Command) -> Result<(), Unreachable> {
        let mut state = self.shared.lock();
        if state.closed {
            return Err(Unreachable::Stopped);
        }
        if state.commands.len() >= COMMANDS_MAX {
            return Err(Unreachable::Stuck);
        }
        state.commands.push_back(command);
        drop(state);
        self.shared.readable.notify_one();
        Ok(())
    }

    /// Wakes the task when a channel that it writes has room again.
    pub fn waker(&self) -> Waker {
        Waker::from(Arc::clone(&self.shared))
    }

    /// Wakes all ends with [`Closed`] and drops what is in the inbox.
    pub fn close(&self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests;
