//! The ceiling of the client: consume with librdkafka, produce the same bytes in transactions,
//! commit every interval together with the offsets. No decoding, no state, no checkpoint.
//!
//! Usage: `kafka_loop BOOTSTRAP INPUT OUTPUT PARTITIONS INTERVAL_MS GROUP`. Runs until the input
//! is read to its end, commits, and exits.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

const DEADLINE: Duration = Duration::from_mins(1);

struct Arguments {
    bootstrap: String,
    input: String,
    output: String,
    partitions: i32,
    interval: Duration,
    group: String,
}

fn arguments() -> Option<Arguments> {
    let mut words = std::env::args().skip(1);
    Some(Arguments {
        bootstrap: words.next()?,
        input: words.next()?,
        output: words.next()?,
        partitions: words.next()?.parse().ok()?,
        interval: Duration::from_millis(words.next()?.parse().ok()?),
        group: words.next()?,
    })
}

fn consumer(arguments: &Arguments) -> Result<BaseConsumer, KafkaError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.bootstrap)
        .set("group.id", &arguments.group)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "10")
        .set("isolation.level", "read_committed")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..arguments.partitions {
        assignment.add_partition_offset(&arguments.input, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    Ok(consumer)
}

fn producer(arguments: &Arguments) -> Result<BaseProducer, KafkaError> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &arguments.bootstrap)
        .set("transactional.id", &arguments.group)
        .set("linger.ms", "20")
        .set("batch.num.messages", "100000")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "1000000")
        .create()?;
    producer.init_transactions(DEADLINE)?;
    Ok(producer)
}

fn send(producer: &BaseProducer, topic: &str, payload: &[u8]) -> Result<(), KafkaError> {
    let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(topic).payload(payload);
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(10));
                record = back;
            }
            Err((error, _)) => return Err(error),
        }
    }
}

fn commit(consumer: &BaseConsumer, producer: &BaseProducer) -> Result<(), KafkaError> {
    let group = consumer.group_metadata().ok_or(KafkaError::Canceled)?;
    producer.send_offsets_to_transaction(&consumer.position()?, &group, DEADLINE)?;
    producer.commit_transaction(DEADLINE)
}

fn run(arguments: &Arguments) -> Result<u64, KafkaError> {
    let consumer = consumer(arguments)?;
    let producer = producer(arguments)?;
    producer.begin_transaction()?;
    let mut began = Instant::now();
    let mut rows: u64 = 0;
    let mut ended = 0;
    while ended < arguments.partitions {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                send(
                    &producer,
                    &arguments.output,
                    message.payload().unwrap_or_default(),
                )?;
                rows += 1;
                if rows.is_multiple_of(1024) {
                    producer.poll(Duration::ZERO);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
            Some(Err(error)) => return Err(error),
            None => {}
        }
        if began.elapsed() >= arguments.interval {
            commit(&consumer, &producer)?;
            producer.begin_transaction()?;
            began = Instant::now();
        }
    }
    commit(&consumer, &producer)?;
    Ok(rows)
}

fn main() {
    let Some(arguments) = arguments() else {
        eprintln!("usage: kafka_loop BOOTSTRAP INPUT OUTPUT PARTITIONS INTERVAL_MS GROUP");
        std::process::exit(2);
    };
    match run(&arguments) {
        Ok(rows) => println!("{rows}"),
        Err(error) => {
            eprintln!("kafka_loop: {error}");
            std::process::exit(1);
        }
    }
}
