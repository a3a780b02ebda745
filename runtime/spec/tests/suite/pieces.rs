//! Pieces of job files in the documentation: each is taken where it is put into the smallest job that has
//! a place for it.

use std::path::{Path, PathBuf};

use millstream_spec::read;
use serde_yaml::{Mapping, Value};

use super::project;

/// The smallest job.
const JOB: &str = "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: piece}
spec:
  checkpoint: {storage: 'file:///tmp/piece'}
  dataflow:
    sources: [{name: orders, generator: {}}]
    sinks: [{name: out, input: orders, blackhole: {}}]
";

fn pages(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            self::pages(&path, pages);
        } else if path.extension().is_some_and(|end| end == "md") {
            pages.push(path);
        }
    }
}

/// The YAML of a page, of blocks that stand in lists too.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if line.trim() == "```yaml" {
            let block = lines.by_ref().take_while(|line| line.trim() != "```");
            let block = block.map(|line| line.get(indent..).unwrap_or_default().to_owned() + "\n");
            blocks.push(block.collect());
        }
    }
    blocks
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

/// Puts the keys of `from` into `into`, and those of mappings into mappings.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Mapping(into), Value::Mapping(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn names<'a>(nodes: &'a Value, key: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let nodes = nodes.as_sequence().into_iter().flatten();
    nodes.flat_map(move |node| match &node[key] {
        Value::String(name) => vec![name.clone()],
        Value::Sequence(names) => names
            .iter()
            .filter_map(|it| Some(it.as_str()?.to_owned()))
            .collect(),
        _ => Vec::new(),
    })
}

fn generators(names: impl IntoIterator<Item = String>) -> Value {
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort();
    names.dedup();
    let sources = names.into_iter().map(|name| match name.strip_suffix(".deadLetters") {
        Some(name) => yaml(&format!(
            "{{name: {name}, files: {{path: /tmp/in}}, format: {{json: {{}}}}, schema: [{{name: a, type: string}}], onError: DeadLetter}}"
        )),
        None => yaml(&format!("{{name: {name}, generator: {{}}}}")),
    });
    Value::Sequence(sources.collect())
}

fn blackholes(inputs: impl IntoIterator<Item = String>) -> Value {
    let sinks = inputs.into_iter().enumerate().map(|(number, input)| {
        yaml(&format!(
            "{{name: out-{number}, input: {input}, blackhole: {{}}}}"
        ))
    });
    Value::Sequence(sinks.collect())
}

/// A whole job around a piece; `None` if the piece is none of a job.
fn whole(piece: Value) -> Option<Value> {
    let piece = match piece {
        Value::Sequence(transforms) => {
            let mut piece = Mapping::new();
            piece.insert("transforms".into(), Value::Sequence(transforms));
            piece
        }
        Value::Mapping(piece) => piece,
        _ => return None,
    };
    let mut job = yaml(JOB);
    for (key, value) in piece {
        let dataflow = &mut job["spec"]["dataflow"];
        match key.as_str()? {
            "spec" => merge(&mut job["spec"], value),
            "checkpoint" => merge(&mut job["spec"]["checkpoint"], value),
            "sources" => {
                let set_aside = value.as_sequence().into_iter().flatten();
                let set_aside = set_aside.filter(|it| it["onError"] == "DeadLetter");
                let set_aside = set_aside
                    .filter_map(|it| Some(format!("{}.deadLetters", it["name"].as_str()?)));
                let inputs: Vec<String> = names(&value, "name").chain(set_aside).collect();
                dataflow["sinks"] = blackholes(inputs);
                dataflow["sources"] = value;
            }
            "sinks" => {
                dataflow["sources"] =
                    generators(names(&value, "input").chain(names(&value, "inputs")));
                dataflow["sinks"] = value;
            }
            "transforms" => {
                let made: Vec<String> = names(&value, "name").collect();
                let read: Vec<String> = names(&value, "input")
                    .chain(names(&value, "inputs"))
                    .collect();
                let unread = made.iter().filter(|name| !read.contains(name)).cloned();
                dataflow["sinks"] = blackholes(unread);
                dataflow["sources"] =
                    generators(read.iter().filter(|name| !made.contains(name)).cloned());
                dataflow["transforms"] = value;
            }
            "schema" | "format" => {
                let source = "{name: orders, files: {path: /tmp/in}, format: {json: {}}, schema: [{name: a, type: string}]}";
                let mut source = yaml(source);
                merge(&mut source[key], value);
                dataflow["sources"] = Value::Sequence(vec![source]);
            }
            "sql" => {
                let mut transform = yaml("{name: made, input: orders}");
                transform["sql"] = value;
                dataflow["transforms"] = Value::Sequence(vec![transform]);
                dataflow["sinks"] = blackholes(["made".to_owned()]);
            }
            _ => return None,
        }
    }
    Some(job)
}

#[test]
fn every_piece_of_a_job_in_the_documentation_is_taken() {
    let mut all = vec![project("README.md")];
    pages(&project("docs"), &mut all);
    let mut seen = 0;
    for page in all {
        let name = page.to_string_lossy();
        for block in blocks(&std::fs::read_to_string(&page).unwrap()) {
            let piece = serde_yaml::from_str(&block);
            let piece: Value = piece.unwrap_or_else(|error| panic!("{name}: {error}\n{block}"));
            let Some(job) = whole(piece) else { continue };
            seen += 1;
            let job = serde_yaml::to_string(&job).unwrap();
            if let Err(error) = read(&job, &name) {
                panic!("{error}\n{block}\nas\n{job}");
            }
        }
    }
    assert!(seen >= 20, "only {seen} pieces");
}

#[test]
fn a_piece_that_is_wrong_is_not_taken() {
    for piece in [
        "sinks: [{name: out, input: orders, blackhole: {}, colour: red}]",
        "checkpoint: {interval: soon}",
        "spec: {parallelism: 0}",
    ] {
        let job = serde_yaml::to_string(&whole(yaml(piece)).unwrap()).unwrap();
        assert!(read(&job, "page").is_err(), "{piece}");
    }
    assert!(whole(yaml("kind: Secret")).is_none());
}
