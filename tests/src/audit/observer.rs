//! A reader that watches a topic while faults happen.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::BaseConsumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::sightings::Sightings;
use crate::kafka::Broker;
use crate::kafka::topics::{Isolation, Record};

/// A `read_committed` reader of one topic on its own thread.
#[derive(Debug)]
pub struct Observer {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    distinct: Arc<AtomicU64>,
    thread: JoinHandle<Sightings>,
}

impl Observer {
    /// Begins to read a topic from its beginning.
    #[track_caller]
    pub fn start(broker: &Broker, topic: &str) -> Self {
        let consumer = broker.reader(topic, Isolation::Committed);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU64::new(0));
        let distinct = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            let (seen, distinct) = (Arc::clone(&seen), Arc::clone(&distinct));
            move || watch(&consumer, &stop, &seen, &distinct)
        });
        Self {
            stop,
            seen,
            distinct,
            thread,
        }
    }

    /// How many records it has seen so far.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// How many of them had a content that no other one before had: what is there twice is no
    /// progress.
    pub fn distinct(&self) -> u64 {
        self.distinct.load(Ordering::SeqCst)
    }

    /// What [`seen`](Self::seen) reads.
    pub(super) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.seen)
    }

    /// Ends it. Everything that it saw.
    #[track_caller]
    pub fn stop(self) -> Sightings {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader ended well")
    }
}

fn watch(
    consumer: &BaseConsumer,
    stop: &AtomicBool,
    seen: &AtomicU64,
    distinct: &AtomicU64,
) -> Sightings {
    let mut sightings = Sightings::default();
    let mut contents = HashSet::new();
    while !stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let record = Record::from_message(&message);
                sightings.add(&record);
                if contents.insert(content(&record)) {
                    distinct.fetch_add(1, Ordering::SeqCst);
                }
                seen.fetch_add(1, Ordering::SeqCst);
            }
            Some(Err(error)) => assert!(is_harmless(&error), "the reader cannot read: {error}"),
            None => {}
        }
    }
    sightings
}

fn content(record: &Record) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&record.key, &record.value).hash(&mut hasher);
    hasher.finish()
}

/// The end of a partition, or brokers that a test keeps busy, away or apart for a while. An offset
/// that is gone is not: nothing of what is watched may go.
fn is_harmless(error: &KafkaError) -> bool {
    match error {
        KafkaError::PartitionEOF(_) => true,
        error => matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::RequestTimedOut
                    | RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::ReplicaNotAvailable
                    | RDKafkaErrorCode::FencedLeaderEpoch
                    | RDKafkaErrorCode::UnknownLeaderEpoch
            )
        ),
    }
}
