//! Topics: made, filled, measured.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};

use crate::Result;
use crate::orders::Order;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A view on the broker that all contenders share.
pub struct Topics {
    bootstrap: String,
    /// Partitions of every topic.
    pub partitions: i32,
}

impl Topics {
    /// For one broker.
    pub fn new(bootstrap: &str, partitions: i32) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            partitions,
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// Makes a topic.
    pub fn create(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let new = NewTopic::new(topic, self.partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let made = block_on(admin.create_topics(&[new], &options))?;
        made.into_iter()
            .next()
            .ok_or("no answer")?
            .map_err(|(topic, code)| format!("{topic}: {code}"))?;
        Ok(())
    }

    /// Removes a topic; the broker frees its space a minute later.
    pub fn delete(&self, topic: &str) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = self.config().create()?;
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let gone = block_on(admin.delete_topics(&[topic], &options))?;
        gone.into_iter()
            .next()
            .ok_or("no answer")?
            .map_err(|(topic, code)| format!("{topic}: {code}"))?;
        Ok(())
    }

    /// Adds orders to a topic, in batches over all partitions.
    pub fn fill(&self, topic: &str, orders: impl Iterator<Item = Order>) -> Result<()> {
        let producer: BaseProducer = self
            .config()
            .set("linger.ms", "50")
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "500000")
            .create()?;
        let mut text = Vec::new();
        for (order, partition) in orders.zip((0..self.partitions).cycle()) {
            order.write(&mut text);
            let mut record: BaseRecord<'_, (), Vec<u8>> =
                BaseRecord::to(topic).partition(partition).payload(&text);
            while let Err((error, back)) = producer.send(record) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                producer.poll(Duration::from_millis(20));
                record = back;
            }
        }
        producer.flush(TIMEOUT)?;
        Ok(())
    }

    /// Whether a group has committed the end of every partition.
    pub fn group_is_at_end(&self, group: &str, topic: &str) -> Result<bool> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create()?;
        let mut wanted = TopicPartitionList::new();
        for partition in 0..self.partitions {
            wanted.add_partition(topic, partition);
        }
        let committed = match consumer.committed_offsets(wanted, TIMEOUT) {
            // The broker makes its offsets topic at the first use of any group.
            Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress,
            )) => return Ok(false),
            committed => committed?,
        };
        for partition in 0..self.partitions {
            let (_, end) = consumer.fetch_watermarks(topic, partition, TIMEOUT)?;
            let at = committed
                .find_partition(topic, partition)
                .ok_or("no partition")?
                .offset();
            if at != Offset::Offset(end) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Counts the records that a `read_committed` reader sees.
    pub fn count_committed(&self, topic: &str) -> Result<u64> {
        let mut rows = 0;
        self.read_committed(topic, |message| {
            rows += u64::from(message.payload().is_some());
        })?;
        Ok(rows)
    }

    /// Shows what a `read_committed` reader sees, each partition from its beginning to its end.
    pub fn read_committed(
        &self,
        topic: &str,
        mut see: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<()> {
        let consumer: BaseConsumer = self
            .config()
            .set("group.id", "count")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed")
            .create()?;
        let mut assignment = TopicPartitionList::new();
        for partition in 0..self.partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut ended = 0;
        let began = Instant::now();
        while ended < self.partitions {
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => see(&message),
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                Some(Err(error)) => return Err(error.into()),
                None if began.elapsed() > Duration::from_mins(5) => {
                    return Err(format!("{topic} was not read to its end in 5 minutes").into());
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// Runs a future of the admin client, which needs no runtime of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let thread = std::thread::current();
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(thread)));
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}
