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
    input: Option<&'a str>,
}

pub(super) fn check(dataflow: Option<&Tree>, report: &mut Report<'_>) {
    let nodes = nodes(dataflow);
    let by_name = check_names(&nodes, report);
    let guesses = check_inputs(&nodes, &by_name, report);
    check_cycles(&nodes, &by_name, report);
    // A node that cannot be read may be the reader that is missed.
    let is_readable = |node: &Node<'_>| {
        node.name.is_some() && (node.input.is_some() || matches!(node.kind, Kind::Source(_)))
    };
    let has_sinks = nodes.iter().any(|node| node.kind == Kind::Sink);
    if has_sinks && nodes.iter().all(is_readable) {
        check_readers(&nodes, &guesses, report);
    }
}

fn nodes(dataflow: Option<&Tree>) -> Vec<Node<'_>> {
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
            path,
            kind,
            name: tree.get("name").and_then(Tree::text),
            input: tree.get("input").and_then(Tree::text),
        })
        .collect()
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
    for node in nodes
        .iter()
        .filter(|node| !matches!(node.kind, Kind::Source(_)))
    {
        let Some(text) = node.input else { continue };
        let (name, of_dead_letters) = match text.strip_suffix(DEAD_LETTERS) {
            Some(name) => (name, true),
            None => (text, false),
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
            report.add(&path::key(&node.path, "input"), message);
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
        let mut way: Vec<&str> = Vec::new();
        let mut current = node.name;
        while let Some(name) = current.filter(|name| !done.contains(name)) {
            if let Some(start) = way.iter().position(|seen| *seen == name) {
                report_cycle(way.get(start..).unwrap_or_default(), by_name, report);
                break;
            }
            way.push(name);
            let next = by_name
                .get(name)
                .filter(|node| node.kind == Kind::Transform);
            current = next.and_then(|node| node.input);
        }
        done.extend(way);
    }
}

fn report_cycle(names: &[&str], by_name: &ByName<'_>, report: &mut Report<'_>) {
    let Some(first) = names.first().and_then(|name| by_name.get(name)) else {
        return;
    };
    let way = names.iter().chain(names.first());
    let way: Vec<String> = way.map(|name| format!("`{}`", shown(name))).collect();
    report.add(
        &path::key(&first.path, "input"),
        format!(
            "is part of a cycle: {}. A transform cannot read, directly or through others, what it \
             writes: let one of them read a source",
            way.join(" reads ")
        ),
    );
}

/// Reports records that nobody reads.
fn check_readers(nodes: &[Node<'_>], guesses: &BTreeSet<String>, report: &mut Report<'_>) {
    let read: BTreeSet<&str> = nodes.iter().filter_map(|node| node.input).collect();
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
