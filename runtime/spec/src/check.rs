//! What a schema cannot say: rules between the parts of a job.
//!
//! Every part is looked at on its own and as far as it can be read, so that one fault does not
//! hide another, and a part with a fault of form is not reported a second time for what follows
//! from it.

mod build;
mod checkpoint;
mod draft;
mod format;
mod graph;
mod kafka;
mod metadata;
mod partition;
mod postgres;
mod properties;
mod restart;
mod sink;
mod source;
mod state;
mod storage;

pub(crate) use draft::draft;
use serde::de::DeserializeOwned;

use crate::fault::Faults;
use crate::path;
use crate::read::tree::Node;
use crate::{CheckpointSpec, RestartStrategy, ValidJob};

/// Checks a job file that has been compared with the schema; faults of form are in `faults`.
/// Returns the job if there are none of any kind.
pub(crate) fn check(root: &Node, faults: &mut Faults) -> Option<ValidJob> {
    let mut report = Report { root, faults };
    let part = |name| root.get("spec").and_then(|spec| spec.get(name));
    let storage = part("checkpoint").and_then(|checkpoint| checkpoint.get("storage"));
    if let Some(Err(problem)) = storage.and_then(Node::text).map(storage::check) {
        report.add("spec.checkpoint.storage", problem);
    }
    let checkpoint = report.read::<CheckpointSpec>(part("checkpoint"), "spec.checkpoint");
    let restart = match part("restart") {
        None => Some(RestartStrategy::default()),
        given => report.read::<RestartStrategy>(given, "spec.restart"),
    };
    if let Some(checkpoint) = &checkpoint {
        checkpoint::check(checkpoint, &mut report);
    }
    if let Some(restart) = &restart {
        restart::check(restart, &mut report);
    }
    let dataflow = part("dataflow");
    if let Some(checkpoint) = &checkpoint {
        state::check(root.get("spec"), checkpoint, &mut report);
    }
    graph::check(dataflow, &mut report);
    partition::check(root.get("spec"), &mut report);
    let settings = Settings {
        checkpoint,
        restart,
    };
    let mut paths = sink::FilePaths::default();
    let mut topics = sink::Topics::default();
    let mut ids = sink::TransactionIds::new(root.get("metadata"));
    for (path, source) in items(dataflow, "sources") {
        source::check(source, &path, &mut report);
        paths.source(source, &path);
        topics.source(source, &path);
    }
    for (path, sink) in items(dataflow, "sinks") {
        sink::check(sink, &path, &settings, &mut report);
        paths.sink(sink, &path, &mut report);
        topics.sink(sink, &path, &mut report);
        ids.sink(sink, &path, &mut report);
    }
    if !faults.is_empty() {
        return None;
    }
    build::build(root)
        .map_err(|(path, message)| faults.add(&path, root.place_of(&path), message))
        .ok()
}

/// The sections that sinks are checked against, as far as they can be read.
struct Settings {
    checkpoint: Option<CheckpointSpec>,
    restart: Option<RestartStrategy>,
}

/// The items of a list of the dataflow, with their paths.
fn items<'a>(dataflow: Option<&'a Node>, list: &str) -> Vec<(String, &'a Node)> {
    let path = path::key("spec.dataflow", list);
    let items = dataflow
        .and_then(|dataflow| dataflow.get(list))
        .map(Node::items);
    let items = items.unwrap_or_default().iter().enumerate();
    items
        .map(|(index, node)| (path::item(&path, index), node))
        .collect()
}

/// Where faults go, and the tree that says where they stand.
struct Report<'a> {
    root: &'a Node,
    faults: &'a mut Faults,
}

impl Report<'_> {
    fn add(&mut self, path: &str, message: impl Into<String>) {
        self.faults
            .add(path, self.root.place_of(path), message.into());
    }

    /// Whether this part or anything in it has a fault.
    fn any_within(&self, path: &str) -> bool {
        self.faults.any_within(path)
    }

    /// The keys of a mapping that have a fault, or one in them.
    fn faulty_keys<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        self.faults.keys_within(path)
    }

    /// A part as its type; `None` if it is not there or too broken.
    fn read<T: DeserializeOwned>(&mut self, node: Option<&Node>, path: &str) -> Option<T> {
        match serde_json::from_value(node?.json()) {
            Ok(value) => Some(value),
            Err(error) => {
                // The schema has said it better, where it could.
                if !self.any_within(path) {
                    self.add(path, error.to_string());
                }
                None
            }
        }
    }
}
