//! Topics: creating, filling and reading them.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::Broker;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Without any news from the broker while records are outstanding.
const STALLED: Duration = Duration::from_mins(1);

/// What a reader is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything, also of open and aborted transactions.
    Uncommitted,
    /// Committed records only.
    Committed,
}

impl Isolation {
    /// As `isolation.level` spells it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Uncommitted => "read_uncommitted",
            Self::Committed => "read_committed",
        }
    }
}

/// One record as a reader saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Which partition.
    pub partition: i32,
    /// Where in it.
    pub offset: i64,
    /// Its key, empty if it has none.
    pub key: Vec<u8>,
    /// Its value, empty if it has none.
    pub value: Vec<u8>,
}

/// One record with all that Kafka keeps of it but its place.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WholeRecord {
    /// Its key, if it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Its timestamp, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

impl Broker {
    /// Creates a topic and waits until its partitions have a leader.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32) {
        self.create_topic_with(name, partitions, &[]);
    }

    /// As [`create_topic`](Self::create_topic), with settings of its own.
    #[track_caller]
    pub fn create_topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let replicas = i32::try_from(self.node.replicas()).expect("few brokers");
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(replicas));
        let topic = settings
            .iter()
            .fold(topic, |topic, (setting, value)| topic.set(setting, value));
        let created = self
            .admin(|admin, options| async move { admin.create_topics([&topic], &options).await });
        for result in created {
            result.unwrap_or_else(|(topic, code)| panic!("cannot create topic {topic}: {code}"));
        }
        let consumer = self.consumer(Isolation::Uncommitted);
        crate::wait_until("the topic has leaders", TIMEOUT, || {
            consumer
                .fetch_metadata(Some(name), TIMEOUT)
                .is_ok_and(|metadata| {
                    metadata.topics().first().is_some_and(|topic| {
                        i32::try_from(topic.partitions().len()) == Ok(partitions)
                            && topic.partitions().iter().all(|found| found.leader() >= 0)
                    })
                })
        });
    }

    /// Deletes a topic.
    #[track_caller]
    pub fn delete_topic(&self, name: &str) {
        let deleted = self
            .admin(|admin, options| async move { admin.delete_topics(&[name], &options).await });
        for result in deleted {
            result.unwrap_or_else(|(topic, code)| panic!("cannot delete topic {topic}: {code}"));
        }
    }

    /// Deletes the records of a partition that lie before an offset.
    #[track_caller]
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))
            .expect("the offset is valid");
        let deleted =
            self.admin(|admin, options| async move { admin.delete_records(&list, &options).await });
        for partition in deleted.elements() {
            let answer = partition.error();
            answer.unwrap_or_else(|error| panic!("cannot delete records of {topic}: {error}"));
        }
    }

    /// Writes records (key, value), idempotently and as fast as the broker takes them; returns
    /// when all are acknowledged. Records of one key keep their order. Returns how many.
    #[track_caller]
    pub fn produce(
        &self,
        topic: &str,
        records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
    ) -> u64 {
        produce(&self.client(), topic, records)
    }

    /// Writes records one after the other to a partition.
    #[track_caller]
    pub fn produce_whole(&self, topic: &str, partition: i32, records: &[WholeRecord]) {
        let producer: ThreadedProducer<DefaultProducerContext> = self
            .client()
            .set("enable.idempotence", "true")
            .create()
            .expect("the producer settings are valid");
        for whole in records {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic).partition(partition);
            record.key = whole.key.as_deref();
            record.payload = whole.value.as_deref();
            record.timestamp = whole.timestamp_ms;
            if !whole.headers.is_empty() {
                let headers = OwnedHeaders::new_with_capacity(whole.headers.len());
                let headers = whole.headers.iter().fold(headers, |headers, (key, value)| {
                    headers.insert(Header {
                        key,
                        value: value.as_deref(),
                    })
                });
                record = record.headers(headers);
            }
            let sent = producer.send(record).map_err(|(error, _)| error);
            sent.unwrap_or_else(|error| panic!("cannot produce to {topic}: {error}"));
        }
        producer
            .flush(STALLED)
            .unwrap_or_else(|error| panic!("records for {topic} are not acknowledged: {error}"));
    }

    /// As [`read_to_end`](Self::read_to_end), with everything that a record has.
    #[track_caller]
    pub fn read_whole(&self, topic: &str, isolation: Isolation) -> Vec<WholeRecord> {
        let mut records = Vec::new();
        self.for_each_message(topic, isolation, |message| {
            records.push(WholeRecord::from_message(message));
        });
        records
    }

    /// Reads a topic from its beginning to its end as it is now: the last stable offset or the
    /// high watermark, as the isolation says. In order within each partition.
    #[track_caller]
    pub fn read_to_end(&self, topic: &str, isolation: Isolation) -> Vec<Record> {
        let mut records = Vec::new();
        self.for_each_to_end(topic, isolation, |record| records.push(record));
        records
    }

    /// As [`read_to_end`](Self::read_to_end), without keeping the records.
    #[track_caller]
    pub fn for_each_to_end(
        &self,
        topic: &str,
        isolation: Isolation,
        mut visit: impl FnMut(Record),
    ) {
        self.for_each_message(topic, isolation, |message| {
            visit(Record::from_message(message));
        });
    }

    #[track_caller]
    fn for_each_message(
        &self,
        topic: &str,
        isolation: Isolation,
        mut visit: impl FnMut(&BorrowedMessage<'_>),
    ) {
        let ends = self.ends(topic, isolation);
        let consumer = self.consumer(isolation);
        assign(&consumer, topic, ends.len());
        let mut unread: BTreeSet<i32> = ends
            .iter()
            .zip(0..)
            .filter(|(end, _)| **end > 0)
            .map(|(_, partition)| partition)
            .collect();
        while !unread.is_empty() {
            match consumer.poll(STALLED) {
                Some(Ok(message)) => {
                    let partition = usize::try_from(message.partition()).expect("not negative");
                    if message.offset() < ends[partition] {
                        visit(&message);
                    }
                    if message.offset() + 1 >= ends[partition] {
                        unread.remove(&message.partition());
                    }
                }
                // Also where the last records are not shown: aborted ones, markers.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    unread.remove(&partition);
                }
                Some(Err(error)) => panic!("cannot read {topic}: {error}"),
                None => panic!("nothing more from {topic}, and its end is not reached"),
            }
        }
    }

    /// End of each partition: the last stable offset for `Committed`, the high watermark for
    /// `Uncommitted`. They differ while a transaction is open.
    #[track_caller]
    pub fn ends(&self, topic: &str, isolation: Isolation) -> Vec<i64> {
        let consumer = self.consumer(isolation);
        let metadata = consumer
            .fetch_metadata(Some(topic), TIMEOUT)
            .unwrap_or_else(|error| panic!("cannot see topic {topic}: {error}"));
        let partitions = metadata
            .topics()
            .first()
            .map_or(0, |t| t.partitions().len());
        assert!(partitions > 0, "topic {topic} does not exist");
        (0..partitions)
            .map(|partition| {
                let partition = i32::try_from(partition).expect("few partitions");
                crate::wait::wait_for("the leader tells the partition's end", TIMEOUT, || {
                    match consumer.fetch_watermarks(topic, partition, TIMEOUT) {
                        Ok((_, end)) => Some(end),
                        Err(error) if has_moved(&error) => None,
                        Err(error) => panic!("cannot see the end of {topic}: {error}"),
                    }
                })
            })
            .collect()
    }

    /// A consumer of all partitions of a topic, from their beginnings.
    #[track_caller]
    pub fn reader(&self, topic: &str, isolation: Isolation) -> BaseConsumer {
        let consumer = self.consumer(isolation);
        assign(&consumer, topic, self.ends(topic, isolation).len());
        consumer
    }

    fn consumer(&self, isolation: Isolation) -> BaseConsumer {
        let mut config: ClientConfig = self.client();
        config
            .set("group.id", "tests")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("isolation.level", isolation.text());
        config.create().expect("the consumer settings are valid")
    }

    #[track_caller]
    fn admin<T, F, W>(&self, work: W) -> T
    where
        W: FnOnce(AdminClient<DefaultClientContext>, AdminOptions) -> F,
        F: Future<Output = Result<T, KafkaError>>,
    {
        let admin = self
            .client()
            .create()
            .expect("the client settings are valid");
        let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime starts")
            .block_on(work(admin, options))
            .unwrap_or_else(|error| panic!("the broker refused: {error}"))
    }
}

impl WholeRecord {
    fn from_message(message: &impl Message) -> Self {
        let headers = message.headers().map(|headers| {
            let each = headers.iter();
            each.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect()
        });
        Self {
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis(),
        }
    }
}

impl Record {
    /// Copies what a consumer was given.
    pub fn from_message(message: &impl Message) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
        }
    }
}

/// As [`Broker::produce`], with a client's settings.
#[track_caller]
pub fn produce(
    client: &ClientConfig,
    topic: &str,
    records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>,
) -> u64 {
    let producer: ThreadedProducer<DefaultProducerContext> = client
        .clone()
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "500000")
        .set("compression.type", "lz4")
        .create()
        .expect("the producer settings are valid");
    let mut produced = 0;
    for (key, value) in records {
        let mut record = BaseRecord::to(topic).key(&key).payload(&value);
        while let Err((error, refused)) = producer.send(record) {
            assert_eq!(
                error.rdkafka_error_code(),
                Some(RDKafkaErrorCode::QueueFull),
                "cannot produce to {topic}"
            );
            record = refused;
            producer.poll(Duration::from_millis(20));
        }
        produced += 1;
    }
    producer
        .flush(STALLED)
        .unwrap_or_else(|error| panic!("records for {topic} are not acknowledged: {error}"));
    produced
}

/// Whether a partition has another leader than the client knew, which it has learned with that.
fn has_moved(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::NotLeaderForPartition)
}

fn assign(consumer: &BaseConsumer, topic: &str, partitions: usize) {
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        let partition = i32::try_from(partition).expect("few partitions");
        list.add_partition_offset(topic, partition, Offset::Beginning)
            .expect("the beginning is a valid offset");
    }
    consumer.assign(&list).expect("the assignment is valid");
}
