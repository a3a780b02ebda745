//! One sink: its connector and format, and what it needs of the checkpoint settings.

use std::collections::{BTreeMap, BTreeSet};

use super::source::one_connector;
use super::{Report, Settings, format, kafka, metadata, postgres};
use crate::connector::{KafkaSink, PostgresSink};
use crate::path::key;
use crate::read::tree::Node;
use crate::wording::shown;

/// Port of a broker that is written without one.
const DEFAULT_PORT: u16 = 9_092;

const CONNECTORS: [&str; 6] = ["kafka", "files", "postgres", "custom", "print", "blackhole"];
/// Those that write columns, and what is said of a format beside them.
const WITHOUT_FORMAT: [(&str, &str); 3] = [
    ("postgres", "which writes columns as the table has them"),
    ("custom", "which is given columns"),
    ("blackhole", "which writes no bytes"),
];

pub(super) fn check(sink: &Node, path: &str, settings: &Settings, report: &mut Report<'_>) {
    one_connector(sink, &CONNECTORS, path, report);
    let at = key(path, "kafka");
    if let Some(options) = report.read::<KafkaSink>(sink.get("kafka"), &at) {
        kafka::sink(&options, &at, settings, report);
    }
    let at = key(path, "postgres");
    if let Some(options) = report.read::<PostgresSink>(sink.get("postgres"), &at) {
        postgres::sink(&options, &at, report);
    }
    check_path(sink, path, report);
    format::sink(sink, path, report);
    metadata::sink(sink, path, report);
    for (connector, why) in WITHOUT_FORMAT {
        if sink.get(connector).is_some() && sink.get("format").is_some() {
            let message = format!("does not go with `{connector}`, {why}. Remove it");
            report.add(&key(path, "format"), message);
        }
    }
}

/// The path of a node's files connector.
fn files(node: &Node) -> Option<&str> {
    node.get("files")?.get("path")?.text()
}

/// Checks the path of a files connector.
pub(super) fn check_path(node: &Node, path: &str, report: &mut Report<'_>) {
    let Some(files) = files(node) else { return };
    let path = key(&key(path, "files"), "path");
    if files.contains("://") {
        let message = format!("`{}` is a URI. Write the path of a directory", shown(files));
        report.add(&path, message);
    } else if files.chars().any(char::is_control) {
        report.add(&path, "contains a control character. Choose another path");
    } else if let Some(c) = files.chars().find(|c| matches!(c, '*' | '?')) {
        let message = format!(
            "contains `{c}`, and patterns are not supported. Write the path of a directory, of which \
             every file is read, or of one file"
        );
        report.add(&path, message);
    }
}

/// Directories that files are read from and written to.
#[derive(Default)]
pub(super) struct FilePaths {
    used: BTreeMap<String, String>,
}

impl FilePaths {
    pub(super) fn source(&mut self, source: &Node, path: &str) {
        if let Some(files) = files(source) {
            self.used.insert(normal(files), path.to_owned());
        }
    }

    /// Reports a directory that another node reads or writes.
    pub(super) fn sink(&mut self, sink: &Node, path: &str, report: &mut Report<'_>) {
        let Some(files) = files(sink) else { return };
        if let Some(other) = self.used.insert(normal(files), path.to_owned()) {
            let files = shown(files);
            let message = format!(
                "`{files}` is the path of {other} as well. Choose a directory that nothing else \
                 reads or writes"
            );
            report.add(&key(&key(path, "files"), "path"), message);
        }
    }
}

/// Topics that are read.
#[derive(Default)]
pub(super) struct Topics {
    read: Vec<ReadTopic>,
}

struct ReadTopic {
    servers: BTreeSet<String>,
    topic: String,
    /// Path of the source.
    by: String,
}

impl Topics {
    pub(super) fn source(&mut self, source: &Node, path: &str) {
        let Some(kafka) = source.get("kafka") else {
            return;
        };
        let topics = kafka.get("topics").map(Node::items).unwrap_or_default();
        let read = topics.iter().filter_map(Node::text).map(|topic| ReadTopic {
            servers: servers(kafka),
            topic: topic.to_owned(),
            by: path.to_owned(),
        });
        self.read.extend(read);
    }

    /// Reports a sink that writes what the job reads. That two addresses are those of one cluster
    /// is known only where they have a server in common.
    pub(super) fn sink(&self, sink: &Node, path: &str, report: &mut Report<'_>) {
        let Some(kafka) = sink.get("kafka") else {
            return;
        };
        let Some(topic) = kafka.get("topic").and_then(Node::text) else {
            return;
        };
        let servers = servers(kafka);
        let is_it = |read: &&ReadTopic| read.topic == topic && !read.servers.is_disjoint(&servers);
        if let Some(read) = self.read.iter().find(is_it) {
            let message = format!(
                "`{}` is read by {} as well: the job would read what it writes, for ever. Write to \
                 another topic",
                shown(topic),
                read.by
            );
            report.add(&key(&key(path, "kafka"), "topic"), message);
        }
    }
}

/// The bootstrap servers of a Kafka connector, each in one spelling.
fn servers(kafka: &Node) -> BTreeSet<String> {
    let text = kafka.get("bootstrapServers").and_then(Node::text);
    let servers = text.unwrap_or_default().split(',').map(str::trim);
    servers
        .filter(|server| !server.is_empty())
        .map(|server| {
            let server = server.to_ascii_lowercase();
            let has_port = match server.strip_prefix('[') {
                Some(_) => server.contains("]:"),
                None => server.contains(':'),
            };
            if has_port {
                server
            } else {
                format!("{server}:{DEFAULT_PORT}")
            }
        })
        .collect()
}

/// What the transactional ids of Kafka sinks begin with.
pub(super) struct TransactionIds {
    default_prefix: String,
    /// Paths and names of sinks, by it.
    used: BTreeMap<String, (String, String)>,
}

impl TransactionIds {
    pub(super) fn new(metadata: Option<&Node>) -> Self {
        let text = |name| metadata.and_then(|metadata| metadata.get(name)?.text());
        let namespace = text("namespace").unwrap_or("default");
        Self {
            default_prefix: format!("{namespace}.{}", text("name").unwrap_or_default()),
            used: BTreeMap::new(),
        }
    }

    /// Reports a sink whose ids are those of another one: prefix `a` with sink `b-c`, and prefix
    /// `a-b` with sink `c`.
    pub(super) fn sink(&mut self, sink: &Node, path: &str, report: &mut Report<'_>) {
        let (Some(kafka), Some(name)) = (sink.get("kafka"), sink.get("name").and_then(Node::text))
        else {
            return;
        };
        let given = kafka.get("transactionalIdPrefix").and_then(Node::text);
        let stem = format!("{}-{name}", given.unwrap_or(&self.default_prefix));
        let new = (path.to_owned(), name.to_owned());
        let other = self.used.insert(stem.clone(), new);
        // Two sinks of one name are reported as such.
        if let Some((other, other_name)) = other
            && other_name != name
        {
            let message = format!(
                "makes the same transactional ids, `{}-…`, as {other}. Choose another prefix",
                shown(&stem)
            );
            let kafka = key(path, "kafka");
            let prefix = key(&kafka, "transactionalIdPrefix");
            report.add(if given.is_some() { &prefix } else { &kafka }, message);
        }
    }
}

/// The path without parts that do not change it.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}
