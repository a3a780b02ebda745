//! What of a faulty job file can be planned nevertheless, so that faults of its SQL are named
//! together with the others.

use std::collections::BTreeSet;

use super::{build, items};
use crate::ValidJob;
use crate::fault::Faults;
use crate::path::key;
use crate::read::tree::{Entry, Node, Value};

/// Keys of a source that make its columns.
const OF_COLUMNS: [&str; 4] = ["name", "format", "schema", "metadata"];

/// The sources, transforms and sinks that have no fault of their own, nor anything that they read,
/// as a job that is never run. `None` if there are none.
pub(crate) fn draft(root: &Node, faults: &Faults) -> Option<ValidJob> {
    let dataflow = root.get("spec")?.get("dataflow");
    let mut known = BTreeSet::new();
    let mut sources = Vec::new();
    for (path, source) in items(dataflow, "sources") {
        let is_clear = OF_COLUMNS
            .iter()
            .all(|one| !faults.any_within(&key(&path, one)));
        let name = source.get("name").and_then(Node::text);
        if let Some(name) = name.filter(|_| is_clear)
            && known.insert(name.to_owned())
        {
            sources.push(columns_only(source));
        }
    }
    let transforms = readable(items(dataflow, "transforms"), &mut known, faults);
    let sinks = readable(items(dataflow, "sinks"), &mut known, faults);
    let dataflow = mapping([
        ("sources", list(sources)),
        ("transforms", list(transforms)),
        ("sinks", list(sinks)),
    ]);
    let checkpoint = mapping([("storage", text("file:///never-written"))]);
    let draft = mapping([
        ("metadata", mapping([("name", text("draft"))])),
        (
            "spec",
            mapping([("checkpoint", checkpoint), ("dataflow", dataflow)]),
        ),
    ]);
    build::build(&draft).ok()
}

/// Those without a fault that read what is known, each after what it reads.
fn readable(
    mut waiting: Vec<(String, &Node)>,
    known: &mut BTreeSet<String>,
    faults: &Faults,
) -> Vec<Node> {
    waiting.retain(|(path, _)| !faults.any_within(path));
    let mut found = Vec::new();
    loop {
        let before = waiting.len();
        waiting.retain(|(_, node)| {
            let Some(name) = node.get("name").and_then(Node::text) else {
                return false;
            };
            if !inputs(node).all(|input| known.contains(input)) {
                return true;
            }
            if known.insert(name.to_owned()) {
                found.push((*node).clone());
            }
            false
        });
        if waiting.len() == before {
            return found;
        }
    }
}

/// Names of the nodes that one reads.
fn inputs(node: &Node) -> impl Iterator<Item = &str> {
    let several = node.get("inputs").map(Node::items).unwrap_or_default();
    let texts = node.get("input").into_iter().chain(several);
    let name = |text| str::strip_suffix(text, ".deadLetters").unwrap_or(text);
    texts.filter_map(Node::text).map(name)
}

/// A source with the same columns that reads nothing.
fn columns_only(source: &Node) -> Node {
    let mut node = source.clone();
    if let Value::Mapping(entries) = &mut node.value {
        let is_kept = |name: &str| OF_COLUMNS.contains(&name) || name == "generator";
        entries.retain(|entry| is_kept(&entry.key));
        match entries.iter_mut().find(|entry| entry.key == "generator") {
            Some(generator) => generator.node.value = Value::Mapping(Vec::new()),
            None => entries.push(entry("files", mapping([("path", text("never-read"))]))),
        }
    }
    node
}

fn node(value: Value) -> Node {
    Node {
        place: crate::Place { line: 1, column: 1 },
        value,
    }
}

fn text(text: &str) -> Node {
    node(Value::Text(text.to_owned()))
}

fn list(items: Vec<Node>) -> Node {
    node(Value::List(items))
}

fn entry(key: &str, node: Node) -> Entry {
    Entry {
        key: key.to_owned(),
        place: node.place,
        node,
    }
}

fn mapping<const N: usize>(pairs: [(&str, Node); N]) -> Node {
    let entries = pairs.into_iter().map(|(key, node)| entry(key, node));
    node(Value::Mapping(entries.collect()))
}
