//! Columns of what Kafka keeps beside a record's value.

use std::collections::BTreeSet;

use millstream_types::change::CHANGE_COLUMN;

use super::Report;
use super::source::{Column, own_columns, reserved};
use crate::metadata::{SinkMetadata, SourceMetadata};
use crate::path::{item, key};
use crate::read::tree::Node;
use crate::wording::{listed, shown};

pub(super) fn source(source: &Node, path: &str, report: &mut Report<'_>) {
    let path = key(path, "metadata");
    let Some(items) = given(source, &path, report) else {
        return;
    };
    let own = own_columns(source);
    let mut taken: BTreeSet<String> = own.into_iter().map(|(name, _)| name).collect();
    for (index, node) in items.iter().enumerate() {
        let path = item(&path, index);
        if let Some(name) = node.get("name").and_then(Node::text)
            && !taken.insert(name.to_owned())
        {
            let message = format!(
                "`{}` is the name of another column as well. Rename one",
                shown(name)
            );
            report.add(&key(&path, "name"), message);
        }
        if node.get("name").and_then(Node::text) == Some(CHANGE_COLUMN) {
            report.add(&key(&path, "name"), reserved());
        }
        if let Some(column) = report.read::<SourceMetadata>(Some(node), &path) {
            check_type(&column, &path, report);
        }
    }
}

fn check_type(column: &SourceMetadata, path: &str, report: &mut Report<'_>) {
    let types = column.from.types();
    let Some(wanted) = column.column_type.filter(|wanted| !types.contains(wanted)) else {
        return;
    };
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    let message = format!(
        "is {wanted}, but this is of type {}. Write that, or remove the key and CAST the column in a \
         transform",
        listed(types.iter().map(String::as_str), "or")
    );
    report.add(&key(path, "type"), message);
}

/// The columns as far as they can be read.
pub(super) fn columns(source: &Node) -> Vec<Column> {
    let items = source.get("metadata").map(Node::items).unwrap_or_default();
    let read = items.iter().filter_map(|node| {
        let column = serde_json::from_value::<SourceMetadata>(node.json()).ok()?;
        let column = column.column();
        Some((column.name, Some(column.column_type)))
    });
    read.collect()
}

pub(super) fn sink(sink: &Node, path: &str, report: &mut Report<'_>) {
    let path = key(path, "metadata");
    let Some(items) = given(sink, &path, report) else {
        return;
    };
    let (mut names, mut written) = (BTreeSet::new(), BTreeSet::new());
    for (index, node) in items.iter().enumerate() {
        let path = item(&path, index);
        let Some(column) = report.read::<SinkMetadata>(Some(node), &path) else {
            continue;
        };
        if !written.insert(column.to) {
            report.add(
                &key(&path, "to"),
                "is written by another column as well. Remove one",
            );
        }
        if !names.insert(column.name.clone()) {
            let message = format!("`{}` is listed twice. Remove one", shown(&column.name));
            report.add(&key(&path, "name"), message);
        }
    }
}

/// The items, if the node is of Kafka.
fn given<'a>(node: &'a Node, path: &str, report: &mut Report<'_>) -> Option<&'a [Node]> {
    let items = node.get("metadata")?.items();
    if node.get("kafka").is_none() && !items.is_empty() {
        let message =
            "is what Kafka keeps beside a record, and this node is not of `kafka`. Remove it";
        report.add(path, message);
        return None;
    }
    Some(items)
}
