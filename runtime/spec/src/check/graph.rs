//! Nodes and what they read: names, inputs, cycles, and records that nobody reads.
//!
//! Looks at names and inputs only, so it works on nodes that are otherwise broken.

use std::collections::{BTreeMap, BTreeSet};

use super::{Report, items};
use crate::path;
use crate::read::tree::Node as Tree;
use crate::valid::Input;
use crate::wording::{listed, nearest, shown};

/// What follows a source's name in the name of its dead-letter output.
const DEAD_LETTERS: &str = ".deadLetters";

/// The output that a text names.
pub(super) fn input(text: &str) -> Input {
    text.strip_suffix(DEAD_LETTERS).map_or_else(
        || Input::Main(text.to_owned()),
        |source| Input::DeadLetters(source.to_owned()),
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Source(DeadLetters),
    Transform,
    Sink,
}

/// Whether a source has a dead-letter output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DeadLetters {
    Yes,
    No,
    /// `onError` has a fault.
    Unknown,
}

impl Kind {
    const fn described(self) -> &'static str {
        match self {
            Self::Source(_) => "a source",
            Self::Transform => "a transform",
            Self::Sink => "a sink",
        }
    }
}

struct Node<'a> {
    path: String,
    kind: Kind,
    name: Option<&'a str>,
    inputs: Vec<Read<'a>>,
}

/// An output that a node reads.
struct Read<'a> {
    /// Where it is named.
    path: String,
    text: &'a str,
}

pub(super) fn check(dataflow: Option<&Tree>, report: &mut Report<'_>) {
    let nodes = nodes(dataflow, report);
    let by_name = check_names(&nodes, report);
    let guesses = check_inputs(&nodes, &by_name, report);
    check_cycles(&nodes, &by_name, report);
    // A node that cannot be read may be the reader that is missed.
    let is_readable = |node: &Node<'_>| {
        node.name.is_some() && (!node.inputs.is_empty() || matches!(node.kind, Kind::Source(_)))
    };
    let has_sinks = nodes.iter().any(|node| node.kind == Kind::Sink);
    if has_sinks && nodes.iter().all(is_readable) {
        check_readers(&nodes, &guesses, report);
    }
}

fn nodes<'a>(dataflow: Option<&'a Tree>, report: &mut Report<'_>) -> Vec<Node<'a>> {
    let source = |tree: &Tree| Kind::Source(dead_letters(tree.get("onError")));
    let sources = items(dataflow, "sources")
        .into_iter()
        .map(|item| (source(item.1), item));
    let transforms = items(dataflow, "transforms")
        .into_iter()
        .map(|item| (Kind::Transform, item));
    let sinks = items(dataflow, "sinks")
        .into_iter()
        .map(|item| (Kind::Sink, item));
    let nodes = sources.chain(transforms).chain(sinks);
    nodes
        .map(|(kind, (path, tree))| Node {
            kind,
            name: tree.get("name").and_then(Tree::text),
            inputs: match kind {
                Kind::Source(_) => Vec::new(),
                Kind::Transform | Kind::Sink => inputs(tree, &path, report),
            },
            path,
        })
        .collect()
}

/// What a transform or sink reads: `input`, or `inputs`.
fn inputs<'a>(tree: &'a Tree, path: &str, report: &mut Report<'_>) -> Vec<Read<'a>> {
    let (one, several) = (path::key(path, "input"), path::key(path, "inputs"));
    match (tree.get("input"), tree.get("inputs")) {
        (Some(_), Some(_)) => {
            let message =
                "does not go with `input`. Name all that it reads here, and remove `input`";
            report.add(&several, message);
            Vec::new()
        }
        (None, None) => {
            // A key that is not known may have been meant as one.
            if !report.any_within(path) {
                let message = "reads nothing. Give it `input`, the name of a source or transform, or \
                               `inputs`, a list of them";
                report.add(path, message);
            }
            Vec::new()
        }
        (Some(input), None) => {
            let text = input.text().into_iter();
            text.map(|text| Read {
                path: one.clone(),
                text,
            })
            .collect()
        }
        (None, Some(inputs)) => {
            if inputs.items().is_empty() && !report.any_within(&several) {
                report.add(
                    &several,
                    "is empty. Name the sources and transforms that it reads",
                );
            }
            named(inputs.items(), &several, report)
        }
    }
}

/// The texts of a list, each once.
fn named<'a>(items: &'a [Tree], path: &str, report: &mut Report<'_>) -> Vec<Read<'a>> {
    let mut reads: Vec<Read<'a>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let (Some(text), path) = (item.text(), path::item(path, index)) else {
            continue;
        };
        if reads.iter().any(|read| read.text == text) {
            report.add(
                &path,
                format!("`{}` is there twice. Remove one", shown(text)),
            );
        } else {
            reads.push(Read { path, text });
        }
    }
    reads
}

fn dead_letters(on_error: Option<&Tree>) -> DeadLetters {
    match on_error.map(Tree::text) {
        None | Some(Some("Fail" | "Skip")) => DeadLetters::No,
        Some(Some("DeadLetter")) => DeadLetters::Yes,
        Some(_) => DeadLetters::Unknown,
    }
}

type ByName<'a> = BTreeMap<&'a str, &'a Node<'a>>;

fn check_names<'a>(nodes: &'a [Node<'a>], report: &mut Report<'_>) -> ByName<'a> {
    let mut by_name = ByName::new();
    for node in nodes {
        let Some(name) = node.name else { continue };
        match by_name.get(name) {
            None => {
                by_name.insert(name, node);
            }
            Some(first) => report.add(
                &path::key(&node.path, "name"),
                format!(
                    "`{}` is already the name of {}, {}. State is found by a node's name, so it \
                     must be unique: choose another one",
                    shown(name),
                    first.kind.described(),
                    first.path
                ),
            ),
        }
    }
    by_name
}

/// Checks that every input is there. Returns the names that were probably meant by those that are
/// not.
fn check_inputs<'a>(
    nodes: &'a [Node<'a>],
    by_name: &ByName<'a>,
    report: &mut Report<'_>,
) -> BTreeSet<String> {
    let outputs = outputs(nodes);
    let mut guesses = BTreeSet::new();
    for Read { path, text } in nodes.iter().flat_map(|node| &node.inputs) {
        let (name, of_dead_letters) = match text.strip_suffix(DEAD_LETTERS) {
            Some(name) => (name, true),
            None => (*text, false),
        };
        let message = match by_name.get(name).map(|node| (node.kind, of_dead_letters)) {
            None => {
                let near = nearest(text, outputs.iter().map(String::as_str));
                guesses.extend(near.map(str::to_owned));
                Some(unknown_input(text, near, &outputs))
            }
            Some((kind, true)) => no_dead_letters(name, kind),
            Some((Kind::Sink, false)) => Some(format!(
                "`{}` is a sink, and nothing comes out of a sink. Read what it reads",
                shown(name)
            )),
            Some((_, false)) => None,
        };
        if let Some(message) = message {
            report.add(path, message);
        }
    }
    guesses
}

/// Everything that can be read.
fn outputs(nodes: &[Node<'_>]) -> Vec<String> {
    let mut outputs = Vec::new();
    for node in nodes {
        let Some(name) = node.name else { continue };
        if node.kind != Kind::Sink {
            outputs.push(name.to_owned());
        }
        if node.kind == Kind::Source(DeadLetters::Yes) {
            outputs.push(format!("{name}{DEAD_LETTERS}"));
        }
    }
    outputs
}

fn unknown_input(text: &str, near: Option<&str>, outputs: &[String]) -> String {
    let near = near.map_or_else(String::new, |near| format!("Did you mean `{near}`? "));
    format!(
        "there is no node `{}`. {near}Sources and transforms: {}",
        shown(text),
        listed(outputs.iter().map(String::as_str), "and")
    )
}

fn no_dead_letters(name: &str, kind: Kind) -> Option<String> {
    let name = shown(name);
    match kind {
        Kind::Source(DeadLetters::Yes | DeadLetters::Unknown) => None,
        Kind::Source(DeadLetters::No) => Some(format!(
            "source `{name}` has no dead letters. Give it `onError: DeadLetter`"
        )),
        Kind::Transform | Kind::Sink => Some(format!(
            "`{name}` is {}, and only sources have dead letters",
            kind.described()
        )),
    }
}

fn check_cycles<'a>(nodes: &'a [Node<'a>], by_name: &ByName<'a>, report: &mut Report<'_>) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for node in nodes.iter().filter(|node| node.kind == Kind::Transform) {
        // The transforms on the way here, each with the inputs that are still to be looked at.
        let mut way: Vec<(&Node<'_>, usize)> = vec![(node, 0)];
        while let Some((node, next)) = way.last_mut() {
            let Some(name) = node.name.filter(|name| !done.contains(name)) else {
                way.pop();
                continue;
            };
            let Some(input) = node.inputs.get(*next) else {
                done.insert(name);
                way.pop();
                continue;
            };
            *next += 1;
            let Some(read) = by_name
                .get(input.text)
                .filter(|it| it.kind == Kind::Transform)
            else {
                continue;
            };
            match way.iter().position(|(seen, _)| seen.name == read.name) {
                Some(start) => {
                    report_cycle(way.get(start..).unwrap_or_default(), report);
                    done.extend(way.iter().filter_map(|(node, _)| node.name));
                }
                None => way.push((read, 0)),
            }
        }
    }
}

/// Reports transforms each of which reads the next, and the last the first.
fn report_cycle(way: &[(&Node<'_>, usize)], report: &mut Report<'_>) {
    let Some((first, next)) = way.first() else {
        return;
    };
    let names = way.iter().chain(way.first());
    let names = names.filter_map(|(node, _)| node.name);
    let names: Vec<String> = names.map(|name| format!("`{}`", shown(name))).collect();
    let Some(input) = first.inputs.get(next.saturating_sub(1)) else {
        return;
    };
    report.add(
        &input.path,
        format!(
            "is part of a cycle: {}. A transform cannot read, directly or through others, what it \
             writes: let one of them read a source",
            names.join(" reads ")
        ),
    );
}

/// Reports records that nobody reads.
fn check_readers(nodes: &[Node<'_>], guesses: &BTreeSet<String>, report: &mut Report<'_>) {
    let reads = nodes.iter().flat_map(|node| &node.inputs);
    let read: BTreeSet<&str> = reads.map(|read| read.text).collect();
    let is_read = |output: &str| read.contains(output) || guesses.contains(output);
    for node in nodes.iter().filter(|node| node.kind != Kind::Sink) {
        let Some(name) = node.name else { continue };
        if !is_read(name) {
            report.add(
                &node.path,
                format!(
                    "nobody reads the records of {} `{}`. Let a sink or a transform read them, or \
                     remove it",
                    node.kind.described().trim_start_matches("a "),
                    shown(name)
                ),
            );
        }
        let letters = format!("{name}{DEAD_LETTERS}");
        if node.kind == Kind::Source(DeadLetters::Yes) && !is_read(&letters) {
            report.add(
                &path::key(&node.path, "onError"),
                format!(
                    "is DeadLetter, and nobody reads `{}`. Add a sink with `input: {}`, or choose \
                     Fail or Skip",
                    shown(&letters),
                    shown(&letters)
                ),
            );
        }
    }
}
