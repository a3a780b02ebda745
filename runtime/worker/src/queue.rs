//! A queue of elements between two tasks of one worker, bounded in bytes.
//!
//! One sender, one receiver. Records wait for room; control elements never wait, so that a barrier
//! reaches the queue before its task acknowledges. They keep their place among the records.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millstream_types::Element;

/// Bytes of records that a queue holds: two of the largest batches a source makes, with room for
/// their decoded form. More only delays barriers.
pub const QUEUE_BYTES: usize = 2 * 1_024 * 1_024;

/// The other end is gone, or the queue was closed because its attempt is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue is closed")]
pub struct Closed;

/// The writing end.
#[derive(Debug)]
pub struct QueueSender {
    shared: Arc<Shared>,
}

/// The reading end.
#[derive(Debug)]
pub struct QueueReceiver {
    shared: Arc<Shared>,
}

/// Ends a queue from outside.
#[derive(Debug, Clone)]
pub struct QueueCloser {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bound: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    elements: VecDeque<Element>,
    bytes: usize,
    /// No element follows those in the queue.
    sender_gone: bool,
    /// Elements in the queue reach nobody.
    closed: bool,
}

/// Makes a queue that holds records of up to `bound` bytes; a larger batch passes alone.
pub fn queue(bound: usize) -> (QueueSender, QueueReceiver, QueueCloser) {
    let shared = Arc::new(Shared {
        bound,
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let sender = QueueSender {
        shared: Arc::clone(&shared),
    };
    let receiver = QueueReceiver {
        shared: Arc::clone(&shared),
    };
    (sender, receiver, QueueCloser { shared })
}

fn bytes_of(element: &Element) -> usize {
    match element {
        Element::Batch(batch) => batch.bytes(),
        Element::Watermark(_) | Element::Idle | Element::Barrier(_) | Element::End => 0,
    }
}

impl State {
    /// Appends an element. A watermark replaces one that nobody has read yet, so that a stream
    /// without records cannot fill the queue with them.
    fn push(&mut self, element: Element, bytes: usize) {
        if let (Some(last @ Element::Watermark(_)), Element::Watermark(_)) =
            (self.elements.back_mut(), &element)
        {
            *last = element;
            return;
        }
        self.bytes += bytes;
        self.elements.push_back(element);
    }

    fn pop(&mut self) -> Option<Element> {
        let element = self.elements.pop_front()?;
        self.bytes -= bytes_of(&element);
        Some(element)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.elements.clear();
        state.bytes = 0;
        drop(state);
        self.changed.notify_all();
    }
}

impl QueueSender {
    /// Appends an element; records wait until there is room.
    ///
    /// # Errors
    /// Nobody will read it.
    pub fn send(&self, element: Element) -> Result<(), Closed> {
        let bytes = bytes_of(&element);
        let mut state = self.shared.lock();
        while !state.closed
            && bytes > 0
            && state.bytes > 0
            && state.bytes + bytes > self.shared.bound
        {
            state = self
                .shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(Closed);
        }
        state.push(element, bytes);
        drop(state);
        self.shared.changed.notify_all();
        Ok(())
    }
}

impl Drop for QueueSender {
    fn drop(&mut self) {
        self.shared.lock().sender_gone = true;
        self.shared.changed.notify_all();
    }
}

impl QueueReceiver {
    /// Takes the next element, waiting at most `timeout` for it; `None` if there is none by then.
    ///
    /// # Errors
    /// None will ever come.
    pub fn receive(&self, timeout: Duration) -> Result<Option<Element>, Closed> {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        loop {
            if let Some(element) = state.pop() {
                drop(state);
                self.shared.changed.notify_all();
                return Ok(Some(element));
            }
            if state.closed || state.sender_gone {
                return Err(Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            (state, _) = self
                .shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for QueueReceiver {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl QueueCloser {
    /// Wakes both ends with [`Closed`] and drops what is in the queue.
    pub fn close(&self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests;
