//! Options of librdkafka's producer.

use std::time::Duration;

use millstream_operators::Result;
use millstream_spec::connector::{KafkaPartitioner, KafkaSink};

use crate::kafka::access::{Access, SOCKET_TIMEOUT};

/// How long a record may wait for its delivery, unless the transaction ends before.
const DELIVERY_TIMEOUT: Duration = Duration::from_mins(2);
/// Payload of the records that wait to be sent, KiB. Each takes some 200 bytes more.
const QUEUE_KIB: u32 = 64 * 1_024;
/// Records that wait to be sent.
const QUEUE_RECORDS: u32 = 200_000;

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
    transactional_id: Option<&str>,
) -> Result<Vec<(&'a str, String)>> {
    let delivery_timeout = DELIVERY_TIMEOUT.min(options.transaction_timeout.0);
    let text = ToString::to_string;
    let mut config: Vec<(&str, String)> = access.librdkafka()?;
    config.extend([
        ("linger.ms", text("5")),
        ("batch.size", text("1000000")),
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
        let mut options = json!({"bootstrapServers": "kafka", "topic": "orders"});
        if let (Value::Object(into), Value::Object(from)) = (&mut options, more) {
            into.extend(from.clone());
        }
        let sink: KafkaSink = serde_json::from_value(options).unwrap();
        let access = Access::new("out", "kafka", (None, None), Duration::from_secs(1)).unwrap();
        let options = producer_options(&access, &sink, id).unwrap();
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
    fn a_transaction_lives_as_long_as_the_job_file_says() {
        let options = json!({"transactionTimeout": "77s"});
        let transactional = given(&options, Some("orders-1"));
        assert_eq!(transactional["transaction.timeout.ms"], "77000");
        assert_eq!(transactional["message.timeout.ms"], "77000");
        assert!(!given(&options, None).contains_key("transaction.timeout.ms"));
    }
}
