//! Options of librdkafka's consumer.

use millstream_connect::Result;
use millstream_spec::connector::KafkaSource;

use crate::kafka::access::Access;

/// Payload of records that were fetched ahead, KiB, for all partitions of one reader together.
/// Each record takes some 300 bytes more.
const PREFETCH_KIB: u32 = 32 * 1_024;
/// Records that are fetched ahead, per partition.
const PREFETCH_RECORDS: u32 = 50_000;

/// Options of a consumer of this source.
///
/// Defaults come first, then the user's choice, then what the promises of the
/// source rest on: later entries win. `fallback_group` is the group where the user names none; it
/// is needed by librdkafka, and nothing is committed to it.
///
/// # Errors
/// The password file cannot be read.
pub(super) fn consumer_options<'a>(
    access: &Access,
    options: &'a KafkaSource,
    fallback_group: &str,
) -> Result<Vec<(&'a str, String)>> {
    let text = ToString::to_string;
    let mut config: Vec<(&str, String)> = access.librdkafka()?;
    config.extend([
        ("queued.min.messages", PREFETCH_RECORDS.to_string()),
        ("queued.max.messages.kbytes", PREFETCH_KIB.to_string()),
        ("max.partition.fetch.bytes", text("4194304")),
        ("fetch.wait.max.ms", text("100")),
        ("fetch.queue.backoff.ms", text("20")),
        ("fetch.error.backoff.ms", text("100")),
        ("topic.metadata.refresh.interval.ms", text("300000")),
        // As the Java client does: what was damaged on its way is fetched again.
        ("check.crcs", text("true")),
    ]);
    config.extend(
        options
            .properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone())),
    );
    let group = options.group_id.as_deref().unwrap_or(fallback_group);
    config.extend([
        ("group.id", text(group)),
        // How long a commit waits for its coordinator, and the end of the reader for the commit.
        ("session.timeout.ms", text("3000")),
        ("heartbeat.interval.ms", text("1000")),
        ("isolation.level", text("read_committed")),
        ("enable.auto.commit", text("false")),
        ("enable.auto.offset.store", text("false")),
        ("auto.offset.reset", text("error")),
        ("enable.partition.eof", text("true")),
        ("allow.auto.create.topics", text("false")),
    ]);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn properties_and_group_of_the_job_file_are_options_of_librdkafka() {
        let source: KafkaSource = serde_json::from_value(json!({
            "bootstrapServers": "kafka",
            "topics": ["orders"],
            "groupId": "shop",
            "properties": {"fetch.wait.max.ms": "77", "check.crcs": "true"},
        }))
        .unwrap();
        let access = Access::new("in", "kafka", (None, None), Duration::from_secs(1)).unwrap();
        let options = consumer_options(&access, &source, "none").unwrap();
        let given: BTreeMap<&str, String> = options.into_iter().collect();
        assert_eq!(given["fetch.wait.max.ms"], "77", "instead of our default");
        assert_eq!(given["check.crcs"], "true");
        assert_eq!(given["group.id"], "shop");
        assert_eq!(given["isolation.level"], "read_committed");
    }
}
