//! One source: its connector, format, columns and event time.

use std::collections::BTreeMap;

use millstream_types::change::CHANGE_COLUMN;
use millstream_types::duration::KubeDuration;
use millstream_types::schema::ColumnType;

use super::build::raw_column;
use super::checkpoint::between;
use super::{Report, format, kafka, metadata, sink};
use crate::connector::{GeneratorSource, KafkaSource};
use crate::path::{item, key};
use crate::read::tree::Node;
use crate::wording::{did_you_mean, listed, shown};
use crate::{OnError, Watermark};

/// Longest that records may be late or a source idle: a year.
const LONGEST: KubeDuration = KubeDuration::from_secs(365 * 24 * 3_600);

const CONNECTORS: [&str; 3] = ["kafka", "files", "generator"];

pub(super) fn check(source: &Node, path: &str, report: &mut Report<'_>) {
    one_connector(source, &CONNECTORS, path, report);
    let at = key(path, "kafka");
    if let Some(options) = report.read::<KafkaSource>(source.get("kafka"), &at) {
        kafka::source(&options, &at, report);
    }
    sink::check_path(source, path, report);
    if source.get("generator").is_some() {
        check_generator(source, path, report);
    } else {
        check_columns(source, path, report);
    }
    format::source(source, path, report);
    metadata::source(source, path, report);
    let at = key(path, "watermark");
    if let Some(watermark) = report.read::<Watermark>(source.get("watermark"), &at) {
        check_watermark(&watermark, &columns(source), &at, report);
    }
}

/// Keys of sources and sinks that are no connectors.
const OTHER_KEYS: [&str; 10] = [
    "name",
    "input",
    "inputs",
    "parallelism",
    "partitionBy",
    "format",
    "schema",
    "metadata",
    "watermark",
    "onError",
];

/// Reports a node without a connector, or with several.
pub(super) fn one_connector(node: &Node, connectors: &[&str], path: &str, report: &mut Report<'_>) {
    let given = connectors
        .iter()
        .copied()
        .filter(|name| node.get(name).is_some());
    let given: Vec<&str> = given.collect();
    match given.as_slice() {
        [_] => {}
        // A key that is not known may have been meant as one.
        [] if report
            .faulty_keys(path)
            .any(|key| !OTHER_KEYS.contains(&key)) => {}
        [] => {
            let all = listed(connectors.iter().copied(), "or");
            report.add(path, format!("has no connector. Give it one of {all}"));
        }
        several => {
            let several = listed(several.iter().copied(), "and");
            let message =
                format!("has {several}, and must have exactly one connector. Make a node of each");
            report.add(path, message);
        }
    }
}

fn check_generator(source: &Node, path: &str, report: &mut Report<'_>) {
    if source.get("format").is_some() {
        let message = "does not go with `generator`, which makes columns, not bytes. Remove it";
        report.add(&key(path, "format"), message);
    }
    if source
        .get("schema")
        .is_some_and(|schema| !schema.items().is_empty())
    {
        let message = "does not go with `generator`, which has its own columns: order_id, \
            customer_id, quantity, price and ts. Remove it";
        report.add(&key(path, "schema"), message);
    }
    let at = key(path, "onError");
    let on_error = report.read::<OnError>(source.get("onError"), &at);
    if on_error.is_some_and(|on_error| on_error != OnError::Fail) {
        let message = "does not go with `generator`, whose records are never corrupt. Remove it";
        report.add(&at, message);
    }
}

fn check_columns(source: &Node, path: &str, report: &mut Report<'_>) {
    let path = key(path, "schema");
    let schema = source.get("schema");
    let declared = schema.map(Node::items).unwrap_or_default();
    if is_raw(source) {
        if !declared.is_empty() {
            let message = "does not go with format `raw`, whose one column is `value`. Remove it, \
                or use `format: {json: {}}`";
            report.add(&path, message);
        }
    } else if declared.is_empty() && !report.any_within(&path) {
        let message = "is missing, and format `json` needs it. List the columns to read, each \
            with name and type, or use `format: {raw: {}}`";
        report.add(&path, message);
    }
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, column) in declared.iter().enumerate() {
        let Some(name) = column.get("name").and_then(Node::text) else {
            continue;
        };
        if name == CHANGE_COLUMN {
            let at = key(&item(&path, index), "name");
            report.add(&at, reserved());
        }
        if let Some(first) = first.get(name) {
            let name = shown(name);
            let message =
                format!("`{name}` is the name of column {first} as well. Rename or remove one");
            report.add(&key(&item(&path, index), "name"), message);
        } else {
            first.insert(name, index);
        }
    }
}

/// What is said of a column with the name of that of changes.
pub(super) fn reserved() -> String {
    format!(
        "`{CHANGE_COLUMN}` is the column in which streams say what a row does. Choose another name"
    )
}

fn is_raw(source: &Node) -> bool {
    source
        .get("format")
        .is_some_and(|format| format.get("raw").is_some())
}

/// A column's name, and its type if that can be read.
pub(super) type Column = (String, Option<ColumnType>);

/// The columns that a source has.
fn columns(source: &Node) -> Vec<Column> {
    let mut columns = own_columns(source);
    columns.extend(metadata::columns(source));
    columns
}

/// The columns of a record's value.
pub(super) fn own_columns(source: &Node) -> Vec<Column> {
    let declared = source.get("schema").map(Node::items).unwrap_or_default();
    let own = if source.get("generator").is_some() {
        GeneratorSource::columns()
    } else if is_raw(source) && declared.is_empty() {
        vec![raw_column()]
    } else {
        let text = |column: &Node, key| column.get(key).and_then(Node::text).map(str::to_owned);
        let named = declared.iter().filter_map(|column| {
            let column_type = text(column, "type").and_then(|text| text.parse().ok());
            Some((text(column, "name")?, column_type))
        });
        return named.collect();
    };
    own.into_iter()
        .map(|column| (column.name, Some(column.column_type)))
        .collect()
}

fn check_watermark(watermark: &Watermark, columns: &[Column], path: &str, report: &mut Report<'_>) {
    if let Some(message) = event_time_problem(&watermark.column, columns) {
        report.add(&key(path, "column"), message);
    }
    let shortest = KubeDuration::default();
    let lateness = key(path, "maxOutOfOrderness");
    between(
        watermark.max_out_of_orderness,
        shortest,
        LONGEST,
        &lateness,
        report,
    );
    let Some(idle) = watermark.idle_timeout else {
        return;
    };
    if idle == shortest {
        let message = "is 0s, so a split would always be idle. Choose a time without records after \
            which it is, or remove the key";
        report.add(&key(path, "idleTimeout"), message);
    }
    between(idle, shortest, LONGEST, &key(path, "idleTimeout"), report);
}

fn event_time_problem(column: &str, columns: &[Column]) -> Option<String> {
    let name = shown(column);
    match columns.iter().find(|(name, _)| name == column) {
        Some((_, None | Some(ColumnType::Timestamp))) => None,
        Some((_, Some(other))) => Some(format!(
            "`{name}` is of type {other}, and event time must be of type timestamp"
        )),
        // Without columns that has been said already.
        None if columns.is_empty() => None,
        None => {
            let names = || columns.iter().map(|(name, _)| name.as_str());
            let near = did_you_mean(column, names());
            let all = listed(names(), "and");
            Some(format!("there is no column `{name}`. {near}Columns: {all}"))
        }
    }
}
