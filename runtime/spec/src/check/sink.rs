//! One sink: its connector and format, and what it needs of the checkpoint settings.

use std::collections::BTreeMap;

use super::source::one_connector;
use super::{Report, Settings, kafka};
use crate::path::key;
use crate::wording::shown;
use crate::{Sink, Source};

pub(super) fn check(sink: &Sink, path: &str, settings: &Settings, report: &mut Report<'_>) {
    let given = [
        ("kafka", sink.kafka.is_some()),
        ("files", sink.files.is_some()),
        ("print", sink.print.is_some()),
        ("blackhole", sink.blackhole.is_some()),
    ];
    one_connector(&given, path, report);
    if let Some(options) = &sink.kafka {
        kafka::sink(options, &key(path, "kafka"), settings, report);
    }
    if let Some(files) = &sink.files {
        check_path(&files.path, &key(path, "files"), report);
    }
    if sink.blackhole.is_some() && sink.format.is_some() {
        let message = "does not go with `blackhole`, which writes no bytes. Remove it";
        report.add(&key(path, "format"), message);
    }
}

/// Checks the path of a files connector.
pub(super) fn check_path(files: &str, path: &str, report: &mut Report<'_>) {
    let path = key(path, "path");
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
    pub(super) fn source(&mut self, source: &Source, path: &str) {
        if let Some(files) = &source.files {
            self.used.insert(normal(&files.path), path.to_owned());
        }
    }

    /// Reports a directory that another node reads or writes.
    pub(super) fn sink(&mut self, sink: &Sink, path: &str, report: &mut Report<'_>) {
        let Some(files) = &sink.files else { return };
        if let Some(other) = self.used.insert(normal(&files.path), path.to_owned()) {
            report.add(
                &key(&key(path, "files"), "path"),
                format!(
                    "`{}` is the path of {other} as well. Choose a directory that nothing else \
                     reads or writes",
                    shown(&files.path)
                ),
            );
        }
    }
}

/// The path without parts that do not change it.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}
