//! One sink: its connector and format, and what it needs of the checkpoint settings.

use std::collections::BTreeMap;

use super::source::one_connector;
use super::{Report, Settings, kafka};
use crate::connector::KafkaSink;
use crate::path::key;
use crate::read::tree::Node;
use crate::wording::shown;

const CONNECTORS: [&str; 4] = ["kafka", "files", "print", "blackhole"];

pub(super) fn check(sink: &Node, path: &str, settings: &Settings, report: &mut Report<'_>) {
    one_connector(sink, &CONNECTORS, path, report);
    let at = key(path, "kafka");
    if let Some(options) = report.read::<KafkaSink>(sink.get("kafka"), &at) {
        kafka::sink(&options, &at, settings, report);
    }
    check_path(sink, path, report);
    if sink.get("blackhole").is_some() && sink.get("format").is_some() {
        let message = "does not go with `blackhole`, which writes no bytes. Remove it";
        report.add(&key(path, "format"), message);
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

/// The path without parts that do not change it.
fn normal(path: &str) -> String {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Vec<&str> = parts.collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}
