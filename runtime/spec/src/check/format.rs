//! How JSON is written: options of the format, and of the columns of a source.

use std::collections::BTreeSet;

use millstream_types::Zone;
use millstream_types::schema::{ColumnType, TimestampFormat};

use super::Report;
use crate::path::{item, key};
use crate::read::tree::Node;
use crate::wording::{did_you_mean, shown};

/// Checks the format of a source, and what its columns say of it.
pub(super) fn source(source: &Node, path: &str, report: &mut Report<'_>) {
    let columns = source.get("schema").map(Node::items).unwrap_or_default();
    let mut any_sql = false;
    for (index, column) in columns.iter().enumerate() {
        let path = item(&key(path, "schema"), index);
        check_column(column, &path, report);
        any_sql |= is_sql(column);
    }
    let Some(json) = json(source) else { return };
    let path = key(&key(path, "format"), "json");
    check_zone(json, any_sql, &path, report);
    if json.get("jsonColumns").is_some() {
        let message = "is for sinks. Write `json: true` beside the columns in `schema`";
        report.add(&key(&path, "jsonColumns"), message);
    }
}

/// Checks the format of a sink.
pub(super) fn sink(sink: &Node, path: &str, report: &mut Report<'_>) {
    let Some(json) = json(sink) else { return };
    let path = key(&key(path, "format"), "json");
    check_zone(json, false, &path, report);
    let columns = json.get("jsonColumns").map(Node::items).unwrap_or_default();
    let mut names = BTreeSet::new();
    for (index, column) in columns.iter().enumerate() {
        if let Some(name) = column.text()
            && !names.insert(name)
        {
            let path = item(&key(&path, "jsonColumns"), index);
            report.add(
                &path,
                format!("`{}` is listed twice. Remove one", shown(name)),
            );
        }
    }
}

fn json(node: &Node) -> Option<&Node> {
    node.get("format")?.get("json")
}

fn is_sql(node: &Node) -> bool {
    timestamp_format(node) == Some(TimestampFormat::Sql)
}

fn timestamp_format(node: &Node) -> Option<TimestampFormat> {
    serde_json::from_value(node.get("timestampFormat")?.json()).ok()
}

fn check_column(column: &Node, path: &str, report: &mut Report<'_>) {
    let read: Option<ColumnType> = column
        .get("type")
        .and_then(Node::text)
        .and_then(|text| text.parse().ok());
    let Some(column_type) = read else { return };
    let is_json = column.get("json").map(Node::json) == Some(true.into());
    if is_json && column_type != ColumnType::String {
        let message = format!(
            "is true, but the column is of type {column_type}, and the text of a JSON value is of \
             type string. Write `type: string`, or remove the key"
        );
        report.add(&key(path, "json"), message);
    }
    if timestamp_format(column).is_some() && column_type != ColumnType::Timestamp {
        let message = format!(
            "is how a column of type timestamp is written, but this one is of type {column_type}. \
             Write `type: timestamp`, or remove the key"
        );
        report.add(&key(path, "timestampFormat"), message);
    }
}

/// Checks the time zone, which only texts without one are in need of.
fn check_zone(json: &Node, any_sql_column: bool, path: &str, report: &mut Report<'_>) {
    let Some(text) = json.get("timeZone").and_then(Node::text) else {
        return;
    };
    let at = key(path, "timeZone");
    if Zone::read(text).is_none() {
        let near = did_you_mean(text, Zone::names());
        let message = format!(
            "there is no time zone `{}`. {near}Write a name such as `Europe/Berlin`, or an offset such \
             as `+02:00`",
            shown(text)
        );
        report.add(&at, message);
    } else if !is_sql(json) && !any_sql_column && !report.any_within(path) {
        let message = "goes with `timestampFormat: sql`, whose texts have no time zone, and nothing here \
            is written so. Add that, or remove the key";
        report.add(&at, message);
    }
}
