//! Waiting for brokers to take records, and what it means when they do not.

use std::time::{Duration, Instant};

use millstream_connect::Result;
use millstream_types::Failure;

use crate::kafka::failure::{self, Sizes};
use crate::kafka::ffi::{ErrorCode, Problem, Producer};

/// Between two looks at a full queue. librdkafka has no call that waits for room and also notices
/// failed deliveries.
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(2);
/// Between two looks at a flush.
const FLUSH_WAIT: Duration = Duration::from_millis(100);
/// How long the last question before giving up may take.
const PROBE: Duration = Duration::from_secs(1);

/// Who writes where, for messages, and how long to wait without any broker.
#[derive(Debug, Clone)]
pub(super) struct Destination {
    pub(super) topic: String,
    pub(super) servers: String,
    pub(super) patience: Duration,
    /// How large what is written to the current producer is.
    pub(super) sizes: Sizes,
    /// Whether timestamps come from a column, or from the clock of this machine.
    pub(super) writes_timestamps: bool,
}

/// One wait, which goes on as long as records are delivered or a broker is there to deliver to.
/// A record that a broker does not take fails by itself after `message.timeout.ms`.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    destination: &'a Destination,
    queued: usize,
    since: Instant,
    /// How long it has been.
    waited: Duration,
}

impl<'a> Wait<'a> {
    pub(super) fn new(destination: &'a Destination) -> Self {
        Self {
            destination,
            queued: usize::MAX,
            since: Instant::now(),
            waited: Duration::ZERO,
        }
    }

    /// How long it has been.
    pub(super) const fn waited(&self) -> Duration {
        self.waited
    }

    /// Waits a moment for room in the queue.
    ///
    /// # Errors
    /// A delivery has failed, or there has been no broker for too long.
    pub(super) fn for_room(&mut self, producer: &Producer) -> Result<()> {
        let before = Instant::now();
        producer.poll(FULL_QUEUE_WAIT);
        self.waited += before.elapsed();
        self.check(producer)
    }

    /// Waits until every record is delivered.
    ///
    /// # Errors
    /// As [`for_room`](Self::for_room).
    pub(super) fn for_delivery(&mut self, producer: &Producer) -> Result<()> {
        let before = Instant::now();
        while !producer.flush(FLUSH_WAIT) {
            self.check(producer)?;
        }
        self.waited += before.elapsed();
        self.destination.check(producer)
    }

    fn check(&mut self, producer: &Producer) -> Result<()> {
        self.destination.check(producer)?;
        let queued = producer.queued();
        let events = producer.events();
        if queued < self.queued {
            self.since = Instant::now();
            events.heard();
        }
        self.queued = queued;
        let patience = self.destination.patience;
        let is_in_trouble = events
            .trouble_for()
            .is_some_and(|trouble| trouble >= patience);
        if !is_in_trouble || self.since.elapsed() < patience {
            return Ok(());
        }
        if producer.reaches_a_broker(PROBE) {
            events.answered();
            return Ok(());
        }
        Err(events.unreachable(&self.destination.servers, patience))
    }
}

impl Destination {
    /// Takes note of the largest record of what is written next: key, value and headers.
    pub(super) fn note_written(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.sizes.largest = self.sizes.largest.max(bytes);
    }

    /// Whether everything has gone well so far.
    ///
    /// # Errors
    /// A delivery has failed.
    pub(super) fn check(&self, producer: &Producer) -> Result<()> {
        match producer.events().problem() {
            None => Ok(()),
            Some(problem) => Err(self.failure(&problem, producer)),
        }
    }

    fn failure(&self, problem: &Problem, producer: &Producer) -> Failure {
        match problem {
            Problem::Delivery(error) | Problem::Fatal(error) => match error.code {
                ErrorCode::MessageSizeTooLarge
                | ErrorCode::InvalidTimestamp
                | ErrorCode::InvalidRecord => self.refused(error.code, &error.text),
                ErrorCode::MessageTimedOut if !producer.reaches_a_broker(PROBE) => {
                    producer.events().unreachable(&self.servers, self.patience)
                }
                ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopic => {
                    failure::topic_gone(&self.topic, &self.servers, &error.text)
                }
                _ => failure::delivery(&self.topic, &error.to_string()),
            },
            Problem::Transaction(text) => failure::delivery(&self.topic, text),
        }
    }

    /// librdkafka or the broker does not take a record at all.
    pub(super) fn refused(&self, code: ErrorCode, text: &str) -> Failure {
        match code {
            ErrorCode::MessageSizeTooLarge => failure::too_large(&self.topic, self.sizes),
            ErrorCode::InvalidTimestamp if !self.writes_timestamps => {
                failure::wrong_clock(&self.topic, text)
            }
            ErrorCode::InvalidTimestamp => failure::undeliverable(
                &self.topic,
                &format!(
                    "its timestamp is too far from now for the topic: {text}. Correct it in SQL, or \
                     change the topic's `message.timestamp.before.max.ms` and \
                     `message.timestamp.after.max.ms`"
                ),
            ),
            ErrorCode::InvalidRecord => failure::undeliverable(
                &self.topic,
                &format!(
                    "the broker finds it invalid: {text}. A compacted topic takes no record without \
                     a key: give the sink `key` or `keyFields`, and leave out rows whose key is null"
                ),
            ),
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopic => {
                failure::topic_gone(&self.topic, &self.servers, text)
            }
            _ => failure::delivery(&self.topic, text),
        }
    }
}
