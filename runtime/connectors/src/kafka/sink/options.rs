//! Options of librdkafka's producer.

use std::time::Duration;

use millstream_connect::Result;
use millstream_spec::connector::{KafkaPartitioner, KafkaSink};

use crate::kafka::access::{Access, SOCKET_TIMEOUT};

/// How long a record may wait for its delivery, unless the transaction ends before.
const DELIVERY_TIMEOUT: Duration = Duration::from_mins(2);
/// Payload of the records that wait to be sent, KiB. Each takes some 200 bytes more.
const QUEUE_KIB: u32 = 64 * 1_024;
/// Records that wait to be sent.
const QUEUE_RECORDS: u32 = 200_000;

/// The topic's setting that bounds batches, and so records.
pub(super) const BATCH_LIMIT_SETTING: &str = "max.message.bytes";
/// Largest batch, bytes, where the topic does not allow less.
const BATCH_SIZE: u64 = 1_000_000;
/// Largest record that librdkafka takes, bytes, where the topic does not allow more.
const RECORD_SIZE: u64 = 1_000_000;
/// What librdkafka allows for `message.max.bytes`.
const RECORD_SIZE_MAX: u64 = 1_000_000_000;

/// How large batches and records may be, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// `max.message.bytes` of the topic; `None` if the user may not see it.
    pub(super) topic: Option<u64>,
    /// `batch.size`: what the job file says, but never more than the topic takes.
    batch: u64,
    /// `message.max.bytes`: what the job file says, or else as much as the topic takes.
    pub(super) record: u64,
}

impl Limits {
    /// Fits the options to a topic's limit.
    pub(super) fn new(options: &KafkaSink, topic: Option<u64>) -> Self {
        let given = |name| {
            options
                .properties
                .get(name)
                .and_then(|text| text.parse().ok())
        };
        let batch: u64 = given("batch.size").unwrap_or(BATCH_SIZE);
        let wanted = topic.unwrap_or(RECORD_SIZE);
        Self {
            topic,
            batch: batch.min(topic.unwrap_or(u64::MAX)).max(1),
            record: given("message.max.bytes")
                .unwrap_or_else(|| wanted.clamp(RECORD_SIZE, RECORD_SIZE_MAX)),
        }
    }
}

/// Options of a producer of this sink; with a transactional id, of a producer of one transaction.
///
/// Defaults come first, then the user's choice, then what the promises of the sink
/// rest on: later entries win.
///
/// # Errors
/// The password file cannot be read.
pub(super) fn producer_options<'a>(
    access: &Access,
    options: &'a KafkaSink,
    limits: Limits,
    transactional_id: Option<&str>,
) -> Result<Vec<(&'a str, String)>> {
    let delivery_timeout = DELIVERY_TIMEOUT.min(options.transaction_timeout.0);
    let text = ToString::to_string;
    let mut config: Vec<(&str, String)> = access.librdkafka()?;
    config.extend([
        ("linger.ms", text("5")),
        ("batch.num.messages", text("10000")),
        ("queue.buffering.max.kbytes", QUEUE_KIB.to_string()),
        ("queue.buffering.max.messages", QUEUE_RECORDS.to_string()),
        (
            "message.timeout.ms",
            delivery_timeout.as_millis().to_string(),
        ),
    ]);
    if options.partitioner == KafkaPartitioner::Random {
        config.push(("sticky.partitioning.linger.ms", text("0")));
    }
    config.extend(
        options
            .properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    );
    let partitioner = match options.partitioner {
        KafkaPartitioner::Murmur2 => "murmur2_random",
        KafkaPartitioner::Crc32 => "consistent_random",
        KafkaPartitioner::Random => "random",
    };
    config.extend([
        ("batch.size", limits.batch.to_string()),
        ("message.max.bytes", limits.record.to_string()),
        ("partitioner", text(partitioner)),
        ("acks", text("all")),
        ("enable.idempotence", text("true")),
        ("delivery.report.only.error", text("true")),
    ]);
    if let Some(id) = transactional_id {
        let timeout = options.transaction_timeout.millis().to_string();
        config.extend([
            ("transactional.id", text(id)),
            ("transaction.timeout.ms", timeout),
            // librdkafka refuses one that is longer than the transaction's.
            (
                "socket.timeout.ms",
                SOCKET_TIMEOUT
                    .min(options.transaction_timeout.0)
                    .as_millis()
                    .to_string(),
            ),
        ]);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    /// What librdkafka is given, the last of several values of a name.
    fn given(more: &Value, id: Option<&str>) -> BTreeMap<String, String> {
        given_for_topic(more, id, Some(1_048_588))
    }

    /// As [`given`], for a topic that takes batches of so many bytes.
    fn given_for_topic(
        more: &Value,
        id: Option<&str>,
        limit: Option<u64>,
    ) -> BTreeMap<String, String> {
        let mut options = json!({"bootstrapServers": "kafka", "topic": "orders"});
        if let (Value::Object(into), Value::Object(from)) = (&mut options, more) {
            into.extend(from.clone());
        }
        let sink: KafkaSink = serde_json::from_value(options).unwrap();
        let access = Access::new("out", "kafka", (None, None), Duration::from_secs(1)).unwrap();
        let options = producer_options(&access, &sink, Limits::new(&sink, limit), id).unwrap();
        let pairs = options.into_iter();
        pairs
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    #[test]
    fn each_partitioner_has_its_name_in_librdkafka() {
        for (word, name) in [
            ("Murmur2", "murmur2_random"),
            ("Crc32", "consistent_random"),
            ("Random", "random"),
        ] {
            let given = given(&json!({ "partitioner": word }), None);
            assert_eq!(given["partitioner"], name);
        }
        assert_eq!(given(&json!({}), None)["partitioner"], "murmur2_random");
    }

    #[test]
    fn properties_of_the_job_file_are_options_of_librdkafka() {
        let properties = json!({"properties": {"linger.ms": "77", "compression.type": "zstd"}});
        let given = given(&properties, None);
        assert_eq!(given["linger.ms"], "77", "instead of our default");
        assert_eq!(given["compression.type"], "zstd");
        assert_eq!(given["acks"], "all");
    }

    #[test]
    fn batches_are_fitted_to_what_the_topic_takes_and_so_are_records() {
        let sizes = |properties: Value, limit| {
            let given = given_for_topic(&json!({ "properties": properties }), None, limit);
            let number = |name: &str| given[name].parse::<u64>().unwrap();
            (number("batch.size"), number("message.max.bytes"))
        };
        let none = || json!({});
        assert_eq!(sizes(none(), Some(1_048_588)), (1_000_000, 1_048_588));
        assert_eq!(sizes(none(), Some(20_000)), (20_000, 1_000_000));
        assert_eq!(sizes(none(), Some(5_000_000)), (1_000_000, 5_000_000));
        assert_eq!(
            sizes(none(), Some(4_000_000_000)),
            (1_000_000, 1_000_000_000)
        );
        assert_eq!(sizes(none(), None), (1_000_000, 1_000_000));
        let own = || json!({"batch.size": "15000", "message.max.bytes": "2000"});
        assert_eq!(sizes(own(), Some(20_000)), (15_000, 2_000));
        assert_eq!(sizes(own(), Some(10_000)), (10_000, 2_000));
    }

    #[test]
    fn a_transaction_lives_as_long_as_the_job_file_says() {
        let options = json!({"transactionTimeout": "77s"});
        let transactional = given(&options, Some("orders-1"));
        assert_eq!(transactional["transaction.timeout.ms"], "77000");
        assert_eq!(transactional["message.timeout.ms"], "77000");
        assert!(!given(&options, None).contains_key("transaction.timeout.ms"));
    }
}
