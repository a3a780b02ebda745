//! How records are spread over the subtasks of a node.

use std::collections::BTreeSet;

use millstream_types::keys::DEFAULT_MAX_PARALLELISM;

use super::{Report, items};
use crate::path::{item, key};
use crate::read::tree::Node;
use crate::wording::shown;

pub(super) fn check(spec: Option<&Node>, report: &mut Report<'_>) {
    let dataflow = spec.and_then(|spec| spec.get("dataflow"));
    let nodes = items(dataflow, "transforms")
        .into_iter()
        .chain(items(dataflow, "sinks"));
    for (path, node) in nodes {
        let Some(columns) = node.get("partitionBy") else {
            continue;
        };
        let at = key(&path, "partitionBy");
        if columns.items().is_empty() && !report.any_within(&at) {
            report.add(&at, "is empty. Name the columns, or remove the key");
        }
        check_columns(columns, &at, report);
        check_parallelism(spec, node, &path, report);
    }
}

fn check_columns(columns: &Node, path: &str, report: &mut Report<'_>) {
    let mut seen = BTreeSet::new();
    for (index, column) in columns.items().iter().enumerate() {
        if let Some(name) = column.text()
            && !seen.insert(name)
        {
            let message = format!("`{}` is there twice. Remove one", shown(name));
            report.add(&item(path, index), message);
        }
    }
}

/// A node has no more subtasks than there are key groups.
fn check_parallelism(spec: Option<&Node>, node: &Node, path: &str, report: &mut Report<'_>) {
    let number = |of: Option<&Node>, name| of.and_then(|of| of.get(name)).map(Node::json);
    let number = |of, name| {
        number(of, name)
            .as_ref()
            .and_then(serde_json::Value::as_u64)
    };
    let most = number(spec, "maxParallelism").unwrap_or_else(|| DEFAULT_MAX_PARALLELISM.into());
    let (at, parallelism) = match number(Some(node), "parallelism") {
        Some(own) => (key(path, "parallelism"), own),
        None => (
            "spec.parallelism".to_owned(),
            number(spec, "parallelism").unwrap_or(1),
        ),
    };
    if parallelism > most && !report.any_within(&at) {
        let name = node.get("name").and_then(Node::text).unwrap_or_default();
        let message = format!(
            "is {parallelism}, and `{}` has `partitionBy`: its keys are divided into {most} groups \
             (`spec.maxParallelism`). Choose a parallelism of at most {most}, or a higher \
             `maxParallelism`",
            shown(name)
        );
        report.add(&at, message);
    }
}
