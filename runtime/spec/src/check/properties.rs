//! Which options of librdkafka a job may set.
//!
//! An allow-list. Not on it is everything that loads code, reads or writes files, opens other
//! connections, carries a secret, has its own key in the job file, or would break a guarantee.
//!
//! Source: librdkafka 2.12, CONFIGURATION.md; ranges are those given there.

use std::collections::BTreeMap;

use super::Report;
use crate::path::key;
use crate::wording::{did_you_mean, listed, shown};

/// Which of librdkafka's clients.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Consumer,
    Producer,
}

/// What an option takes.
#[derive(Clone, Copy)]
enum Takes {
    Number(i64, i64),
    OneOf(&'static [&'static str]),
    Text,
}

const FLAG: Takes = Takes::OneOf(&["true", "false"]);
const INT_MAX: i64 = 2_147_483_647;

const BOTH: [(&str, Takes); 19] = [
    ("broker.address.family", Takes::OneOf(&["any", "v4", "v6"])),
    ("broker.address.ttl", Takes::Number(0, 86_400_000)),
    (
        "client.dns.lookup",
        Takes::OneOf(&[
            "use_all_dns_ips",
            "resolve_canonical_bootstrap_servers_only",
        ]),
    ),
    ("client.id", Takes::Text),
    ("client.rack", Takes::Text),
    ("connections.max.idle.ms", Takes::Number(0, INT_MAX)),
    ("enable.metrics.push", FLAG),
    ("message.max.bytes", Takes::Number(1_000, 1_000_000_000)),
    ("metadata.max.age.ms", Takes::Number(1, 86_400_000)),
    ("receive.message.max.bytes", Takes::Number(1_000, INT_MAX)),
    ("reconnect.backoff.max.ms", Takes::Number(0, 3_600_000)),
    ("reconnect.backoff.ms", Takes::Number(0, 3_600_000)),
    ("retry.backoff.max.ms", Takes::Number(1, 300_000)),
    ("retry.backoff.ms", Takes::Number(1, 300_000)),
    (
        "socket.connection.setup.timeout.ms",
        Takes::Number(1_000, INT_MAX),
    ),
    ("socket.nagle.disable", FLAG),
    ("socket.receive.buffer.bytes", Takes::Number(0, 100_000_000)),
    ("socket.send.buffer.bytes", Takes::Number(0, 100_000_000)),
    (
        "topic.metadata.refresh.interval.ms",
        Takes::Number(-1, 3_600_000),
    ),
];

const CONSUMER: [(&str, Takes); 9] = [
    ("check.crcs", FLAG),
    ("fetch.error.backoff.ms", Takes::Number(0, 300_000)),
    ("fetch.max.bytes", Takes::Number(0, 2_147_483_135)),
    ("fetch.min.bytes", Takes::Number(1, 100_000_000)),
    ("fetch.queue.backoff.ms", Takes::Number(0, 300_000)),
    ("fetch.wait.max.ms", Takes::Number(0, 300_000)),
    ("max.partition.fetch.bytes", Takes::Number(1, 1_000_000_000)),
    ("queued.max.messages.kbytes", Takes::Number(1, 2_097_151)),
    ("queued.min.messages", Takes::Number(1, 10_000_000)),
];

const PRODUCER: [(&str, Takes); 9] = [
    ("batch.num.messages", Takes::Number(1, 1_000_000)),
    ("batch.size", Takes::Number(1, INT_MAX)),
    ("compression.level", Takes::Number(-1, 12)),
    (
        "compression.type",
        Takes::OneOf(&["none", "gzip", "snappy", "lz4", "zstd"]),
    ),
    ("linger.ms", Takes::Number(0, 900_000)),
    ("queue.buffering.max.kbytes", Takes::Number(1, INT_MAX)),
    ("queue.buffering.max.messages", Takes::Number(1, INT_MAX)),
    ("request.timeout.ms", Takes::Number(1, 900_000)),
    ("sticky.partitioning.linger.ms", Takes::Number(0, 900_000)),
];

/// Beginnings of options that are set in another way, or never.
const ELSEWHERE: [(&str, &str); 20] = [
    ("security.protocol", "It follows from `tls` and `sasl`"),
    ("ssl", "Use `tls`"),
    ("https.", "Use `tls`"),
    (
        "enable.ssl.",
        "Certificates are always verified; trust others with `tls: {caFile: …}`",
    ),
    ("sasl.", "Use `sasl`"),
    ("enable.sasl.", "Use `sasl`"),
    ("bootstrap.servers", "Use `bootstrapServers`"),
    ("metadata.broker.list", "Use `bootstrapServers`"),
    ("group.id", "Use `groupId`"),
    ("auto.offset.reset", "Use `startingOffsets`"),
    ("transactional.id", "Use `transactionalIdPrefix`"),
    ("transaction.timeout.ms", "Use `transactionTimeout`"),
    ("partitioner", "Use `partitioner` of the sink"),
    (
        "isolation.level",
        "Sources always read committed records only",
    ),
    (
        "enable.auto",
        "Offsets are part of the checkpoint and committed with it",
    ),
    (
        "auto.commit",
        "Offsets are part of the checkpoint and committed with it",
    ),
    ("enable.idempotence", "It follows from `deliveryGuarantee`"),
    ("acks", "All replicas always acknowledge"),
    ("request.required.acks", "All replicas always acknowledge"),
    ("plugin.", "No code is loaded into the job"),
];

pub(super) fn check(
    properties: &BTreeMap<String, String>,
    client: Client,
    path: &str,
    report: &mut Report<'_>,
) {
    let path = key(path, "properties");
    let allowed = || allowed(client);
    for (name, value) in properties {
        let path = key(&path, name);
        match allowed().find(|(allowed, _)| allowed == name) {
            Some((_, takes)) => {
                if let Some(problem) = problem(value, takes) {
                    report.add(&path, problem);
                }
            }
            None => report.add(&path, refused(name, allowed().map(|(name, _)| name))),
        }
    }
}

fn allowed(client: Client) -> impl Iterator<Item = (&'static str, Takes)> + Clone {
    let own = match client {
        Client::Consumer => CONSUMER,
        Client::Producer => PRODUCER,
    };
    BOTH.into_iter().chain(own)
}

fn refused(name: &str, allowed: impl Iterator<Item = &'static str> + Clone) -> String {
    let elsewhere = ELSEWHERE
        .iter()
        .find(|(beginning, _)| name.starts_with(beginning));
    if let Some((_, what)) = elsewhere {
        return format!("cannot be set here. {what}");
    }
    let near = did_you_mean(name, allowed.clone());
    format!("cannot be set. {near}Allowed: {}", listed(allowed, "and"))
}

fn problem(value: &str, takes: Takes) -> Option<String> {
    let shown = shown(value);
    match takes {
        Takes::Number(least, most) => {
            let fits = value
                .parse::<i64>()
                .is_ok_and(|value| (least..=most).contains(&value));
            (!fits).then(|| format!("is `{shown}`, and must be a number from {least} to {most}"))
        }
        Takes::OneOf(words) => (!words.contains(&value)).then(|| {
            format!(
                "is `{shown}`, and must be {}",
                listed(words.iter().copied(), "or")
            )
        }),
        Takes::Text => {
            let fits = !value.is_empty() && value.len() <= 249 && value.chars().all(is_name);
            let what = "1 to 249 letters, digits, `.`, `_` and `-`";
            (!fits).then(|| format!("is `{shown}`, and must be {what}"))
        }
    }
}

const fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}
