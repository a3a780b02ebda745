//! Options of the Kafka connector, as far as they can be judged without a broker.

use std::collections::BTreeSet;

use millstream_types::duration::KubeDuration;

use super::checkpoint::between;
use super::properties::{self, Client};
use super::{Report, Settings};
use crate::budget::TransactionBudget;
use crate::connector::{
    DeliveryGuarantee, KafkaSink, KafkaSource, StartingOffsets, Tls, ValueFields,
};
use crate::path::{item, key};
use crate::wording::shown;
use crate::{CheckpointMode, CheckpointSpec};

const SHORTEST: KubeDuration = KubeDuration::from_millis(100);
const LONGEST: KubeDuration = KubeDuration::from_secs(24 * 3_600);
const LONGEST_CONNECT: KubeDuration = KubeDuration::from_secs(3_600);
/// What librdkafka takes for `transaction.timeout.ms`.
const SHORTEST_TRANSACTION: KubeDuration = KubeDuration::from_secs(1);

pub(super) fn source(options: &KafkaSource, path: &str, report: &mut Report<'_>) {
    bootstrap_servers(&options.bootstrap_servers, path, report);
    tls(options.tls.as_ref(), path, report);
    let connect = key(path, "connectTimeout");
    between(
        options.connect_timeout,
        SHORTEST,
        LONGEST_CONNECT,
        &connect,
        report,
    );
    let discovery = options.partition_discovery_interval;
    if discovery != KubeDuration::default() {
        let path = key(path, "partitionDiscoveryInterval");
        between(discovery, SHORTEST, LONGEST, &path, report);
    }
    topics(&options.topics, &key(path, "topics"), report);
    if matches!(options.starting_offsets, StartingOffsets::Committed(_))
        && options.group_id.is_none()
    {
        let message = "is missing, and startingOffsets `committed` means the offsets of a consumer \
            group. Name the group";
        report.add(&key(path, "groupId"), message);
    }
    properties::check(&options.properties, Client::Consumer, path, report);
}

fn topics(topics: &[String], path: &str, report: &mut Report<'_>) {
    let mut seen = BTreeSet::new();
    for (index, name) in topics.iter().enumerate() {
        topic(name, &item(path, index), report);
        if !seen.insert(name) {
            let message = format!("`{}` is listed twice. Remove one", shown(name));
            report.add(&item(path, index), message);
        }
    }
}

/// Source: `org.apache.kafka.common.internals.Topic`; characters and length are in the schema.
fn topic(name: &str, path: &str, report: &mut Report<'_>) {
    if matches!(name, "." | "..") {
        report.add(path, format!("`{name}` cannot be the name of a topic"));
    }
}

pub(super) fn sink(options: &KafkaSink, path: &str, settings: &Settings, report: &mut Report<'_>) {
    bootstrap_servers(&options.bootstrap_servers, path, report);
    tls(options.tls.as_ref(), path, report);
    topic(&options.topic, &key(path, "topic"), report);
    let connect = key(path, "connectTimeout");
    between(
        options.connect_timeout,
        SHORTEST,
        LONGEST_CONNECT,
        &connect,
        report,
    );
    properties::check(&options.properties, Client::Producer, path, report);
    key_columns(options, path, report);
    if let Some(checkpoint) = &settings.checkpoint {
        match (options.delivery_guarantee, checkpoint.mode) {
            (Some(DeliveryGuarantee::AtLeastOnce), _) | (None, CheckpointMode::AtLeastOnce) => {}
            (_, CheckpointMode::ExactlyOnce) => {
                transaction_timeout(options, path, checkpoint, settings, report);
            }
            (Some(DeliveryGuarantee::ExactlyOnce), CheckpointMode::AtLeastOnce) => {
                let message = "is ExactlyOnce, but checkpoint.mode is AtLeastOnce, so records may \
                    count twice before they reach this sink. Remove it, set it to AtLeastOnce, or \
                    set checkpoint.mode to ExactlyOnce";
                report.add(&key(path, "deliveryGuarantee"), message);
                transaction_timeout(options, path, checkpoint, settings, report);
            }
        }
    }
}

fn key_columns(options: &KafkaSink, path: &str, report: &mut Report<'_>) {
    let fields = key(path, "keyFields");
    if options.key.is_some() && !options.key_fields.is_empty() {
        let message = "does not go with `key`, which is one column as it is. Remove one of them";
        report.add(&fields, message);
    }
    let mut seen = BTreeSet::new();
    for (index, name) in options.key_fields.iter().enumerate() {
        if !seen.insert(name) {
            let message = format!("`{}` is listed twice. Remove one", shown(name));
            report.add(&item(&fields, index), message);
        }
    }
    if options.value_fields_include == ValueFields::ExceptKey && !options.has_key() {
        let message = "is ExceptKey, and there is no key. Give `key` or `keyFields`, or remove it";
        report.add(&key(path, "valueFieldsInclude"), message);
    }
}

/// A transaction must live until it can be committed.
fn transaction_timeout(
    options: &KafkaSink,
    path: &str,
    checkpoint: &CheckpointSpec,
    settings: &Settings,
    report: &mut Report<'_>,
) {
    let timeout = options.transaction_timeout;
    let path = key(path, "transactionTimeout");
    between(timeout, SHORTEST_TRANSACTION, LONGEST, &path, report);
    let Some(restart) = &settings.restart else {
        return;
    };
    let budget = TransactionBudget::new(checkpoint, restart);
    if timeout <= budget.total() {
        report.add(
            &path,
            format!(
                "is {timeout}, and must be longer than the longest time from a transaction's first \
                 record to its commit: {budget}. Raise it (brokers allow 15m unless \
                 transaction.max.timeout.ms says otherwise), or lower checkpoint.timeout, \
                 checkpoint.tolerableFailures, checkpoint.interval or the restart delay"
            ),
        );
    }
}

fn bootstrap_servers(text: &str, path: &str, report: &mut Report<'_>) {
    let path = key(path, "bootstrapServers");
    for server in text.split(',').map(str::trim) {
        if server.contains('@') {
            // Not shown: what stands before the `@` is a secret.
            let message = "contains a user name or password (`…@`). Leave it out: how to log in at the \
                brokers is said by `sasl`, and the password lies in a file";
            report.add(&path, message);
        } else if !is_server(server) {
            let message = format!(
                "`{}` is not a broker's address. Write `host:port`, several separated by commas",
                shown(server)
            );
            report.add(&path, message);
        }
    }
}

/// Whether a text is a host, or a host and a port.
pub(super) fn is_server(text: &str) -> bool {
    let is_name = |host: &str| {
        !host.is_empty()
            && host
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    if let Some(rest) = text.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, rest)| {
            address.parse::<std::net::Ipv6Addr>().is_ok() && is_port(rest)
        });
    }
    match text.find(':') {
        None => is_name(text),
        Some(colon) => text
            .split_at_checked(colon)
            .is_some_and(|(host, port)| is_name(host) && is_port(port)),
    }
}

/// Whether a text is empty or a colon and a port.
fn is_port(text: &str) -> bool {
    let Some(port) = text.strip_prefix(':') else {
        return text.is_empty();
    };
    port.chars().all(|c| c.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

pub(super) fn tls(tls: Option<&Tls>, path: &str, report: &mut Report<'_>) {
    let Some(tls) = tls else { return };
    let path = key(path, "tls");
    let missing = match (&tls.certificate_file, &tls.key_file) {
        (Some(_), None) => "keyFile",
        (None, Some(_)) => "certificateFile",
        _ => return,
    };
    let message = "is missing. A client certificate needs both certificateFile and keyFile";
    report.add(&key(&path, missing), message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_names_or_addresses_with_a_port() {
        for server in [
            "kafka:9092",
            "kafka",
            "10.0.0.1:9092",
            "[::1]:9092",
            "a-b.c_d.svc:1",
        ] {
            assert!(is_server(server), "{server}");
        }
        for server in [
            "",
            ":9092",
            "kafka:",
            "kafka:0",
            "kafka:65536",
            "kafka:+1",
            "::1",
            "[::1",
            "PLAINTEXT://kafka:9092",
            "a b:1",
        ] {
            assert!(!is_server(server), "{server}");
        }
    }
}
