//! A reader that watches a topic while faults happen.

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
    thread: JoinHandle<Sightings>,
}

impl Observer {
    /// Begins to read a topic from its beginning.
    #[track_caller]
    pub fn start(broker: &Broker, topic: &str) -> Self {
        let consumer = broker.reader(topic, Isolation::Committed);
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(AtomicU64::new(0));
        let thread = std::thread::spawn({
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            move || watch(&consumer, &stop, &seen)
        });
        Self { stop, seen, thread }
    }

    /// How many records it has seen so far.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Ends it. Everything that it saw.
    #[track_caller]
    pub fn stop(self) -> Sightings {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader ended well")
    }
}

fn watch(consumer: &BaseConsumer, stop: &AtomicBool, seen: &AtomicU64) -> Sightings {
    let mut sightings = Sightings::default();
    while !stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                sightings.add(&Record::from_message(&message));
                seen.fetch_add(1, Ordering::Relaxed);
            }
            Some(Err(error)) => assert!(is_harmless(&error), "the reader cannot read: {error}"),
            None => {}
        }
    }
    sightings
}

/// The end of a partition, or a broker that a test has killed for a while.
fn is_harmless(error: &KafkaError) -> bool {
    match error {
        KafkaError::PartitionEOF(_) => true,
        error => matches!(
            error.rdkafka_error_code(),
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown)
        ),
    }
}
