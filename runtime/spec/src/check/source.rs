//! One source: its connector, format, columns and event time.

use std::collections::BTreeMap;

use millstream_types::duration::KubeDuration;
use millstream_types::schema::{Column, ColumnType};

use super::build::raw_column;
use super::checkpoint::between;
use super::{Report, kafka};
use crate::connector::GeneratorSource;
use crate::path::{item, key};
use crate::wording::{did_you_mean, listed, shown};
use crate::{Format, OnError, Source, Watermark};

/// Longest that records may be late or a source idle: a year.
const LONGEST: KubeDuration = KubeDuration::from_secs(365 * 24 * 3_600);

pub(super) fn check(source: &Source, path: &str, report: &mut Report<'_>) {
    let given = [
        ("kafka", source.kafka.is_some()),
        ("files", source.files.is_some()),
        ("generator", source.generator.is_some()),
    ];
    one_connector(&given, path, report);
    if let Some(options) = &source.kafka {
        kafka::source(options, &key(path, "kafka"), report);
    }
    if let Some(files) = &source.files {
        super::sink::check_path(&files.path, &key(path, "files"), report);
    }
    if source.generator.is_some() {
        check_generator(source, path, report);
    } else {
        check_columns(source, path, report);
    }
    if let Some(watermark) = &source.watermark {
        check_watermark(watermark, &columns(source), &key(path, "watermark"), report);
    }
}

/// Keys of sources and sinks that are no connectors.
const OTHER_KEYS: [&str; 6] = ["name", "input", "format", "schema", "watermark", "onError"];

/// Reports a node without a connector, or with several.
pub(super) fn one_connector(given: &[(&str, bool)], path: &str, report: &mut Report<'_>) {
    let all = listed(given.iter().map(|(name, _)| *name), "or");
    let used: Vec<&str> = given
        .iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| *name)
        .collect();
    match used.as_slice() {
        [_] => {}
        // A key that is not known, or has no value, may have been meant as one.
        [] if report
            .faulty_keys(path)
            .any(|key| !OTHER_KEYS.contains(&key)) => {}
        [] => report.add(path, format!("has no connector. Give it one of {all}")),
        several => report.add(
            path,
            format!(
                "has {}, and must have exactly one connector. Make a node of each",
                listed(several.iter().copied(), "and")
            ),
        ),
    }
}

fn check_generator(source: &Source, path: &str, report: &mut Report<'_>) {
    if source.format.is_some() {
        let message = "does not go with `generator`, which makes columns, not bytes. Remove it";
        report.add(&key(path, "format"), message);
    }
    if !source.schema.is_empty() {
        let message = "does not go with `generator`, which has its own columns: order_id, \
            customer_id, quantity, price and ts. Remove it";
        report.add(&key(path, "schema"), message);
    }
    if source.on_error != OnError::Fail {
        let message = "does not go with `generator`, whose records are never corrupt. Remove it";
        report.add(&key(path, "onError"), message);
    }
}

fn check_columns(source: &Source, path: &str, report: &mut Report<'_>) {
    let path = key(path, "schema");
    match source.format {
        Some(Format::Raw(_)) if !source.schema.is_empty() => {
            let message = "does not go with format `raw`, whose one column is `value`. Remove it, \
                or use `format: {json: {}}`";
            report.add(&path, message);
        }
        Some(Format::Raw(_)) => {}
        _ if source.schema.is_empty() && !report.any_within(&path) => {
            let message = "is missing, and format `json` needs it. List the columns to read, each \
                with name and type, or use `format: {raw: {}}`";
            report.add(&path, message);
        }
        _ => {}
    }
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, column) in source.schema.iter().enumerate() {
        if let Some(first) = first.get(column.name.as_str()) {
            let message = format!(
                "`{}` is the name of column {first} as well. Rename or remove one",
                shown(&column.name)
            );
            report.add(&key(&item(&path, index), "name"), message);
        } else {
            first.insert(&column.name, index);
        }
    }
}

/// The columns that a source has.
fn columns(source: &Source) -> Vec<Column> {
    match (&source.generator, &source.format) {
        (Some(_), _) => GeneratorSource::columns(),
        (None, Some(Format::Raw(_))) if source.schema.is_empty() => vec![raw_column()],
        (None, _) => source.schema.clone(),
    }
}

fn check_watermark(watermark: &Watermark, columns: &[Column], path: &str, report: &mut Report<'_>) {
    let column = columns
        .iter()
        .find(|column| column.name == watermark.column);
    let path_of_column = key(path, "column");
    let name = shown(&watermark.column);
    match column.map(|column| column.column_type) {
        Some(ColumnType::Timestamp) => {}
        Some(other) => report.add(
            &path_of_column,
            format!("`{name}` is of type {other}, and event time must be of type timestamp"),
        ),
        // Without columns that has been said already.
        None if columns.is_empty() => {}
        None => {
            let names = || columns.iter().map(|column| column.name.as_str());
            let near = did_you_mean(&watermark.column, names());
            let message = format!(
                "there is no column `{name}`. {near}Columns: {}",
                listed(names(), "and")
            );
            report.add(&path_of_column, message);
        }
    }
    let lateness = key(path, "maxOutOfOrderness");
    between(
        watermark.max_out_of_orderness,
        KubeDuration::default(),
        LONGEST,
        &lateness,
        report,
    );
    if let Some(idle) = watermark.idle_timeout {
        between(
            idle,
            KubeDuration::default(),
            LONGEST,
            &key(path, "idleTimeout"),
            report,
        );
    }
    if watermark.idle_timeout == Some(KubeDuration::default()) {
        let message = "is 0s, so a split would always be idle. Choose a time without records after \
            which it is, or remove the key";
        report.add(&key(path, "idleTimeout"), message);
    }
}
