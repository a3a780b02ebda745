//! What a start asks of sources, sinks and the store before anything runs. `millstream validate`
//! asks the same questions and gets the same answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_checkpoint::{Manifest, Storage};
use millstream_connect::{Discovery, SinkCommitter, SourceConnector, SplitEnumerator};
use millstream_plan::JobGraph;
use millstream_types::{ErrorCode, ErrorKind, Failure, Opaque, OperatorUid};

use crate::opened::Committers;

/// Sources of a job, by node.
pub type Sources = BTreeMap<OperatorUid, Arc<dyn SourceConnector>>;

/// Who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Nobody outside this process.
    Local,
    /// Brokers and file systems as well.
    Live,
}

/// Checks what a start with this state would check, and returns all that is wrong.
pub async fn connectors(
    graph: &JobGraph,
    sources: &Sources,
    committers: &Committers,
    state: Option<&Manifest>,
    reach: Reach,
) -> Vec<Failure> {
    let mut failures = Vec::new();
    let mut reads = Reads::new();
    for (uid, source) in sources {
        match ask_source(uid, source.as_ref(), state, reach).await {
            Ok(places) => reads.extend(places.into_iter().map(|place| (place, uid.clone()))),
            Err(failure) => failures.push(failure),
        }
    }
    if reach == Reach::Live {
        for (uid, committer) in committers {
            let has_run = has_run(uid, graph, state);
            match committer.inspect(has_run).await {
                Ok(()) => {
                    let read = ensure_not_read(uid, committer.as_ref(), &reads).await;
                    failures.extend(read.err());
                }
                Err(failure) => failures.push(failure),
            }
        }
    }
    failures
}

/// What sources read, and which.
pub(crate) type Reads = BTreeMap<String, OperatorUid>;

/// Checks that a sink does not write to what a source of the job reads, whatever addresses they have
/// been given: the job would read what it writes, for ever.
///
/// # Errors
/// It does, or the other side cannot be asked.
pub(crate) async fn ensure_not_read(
    uid: &OperatorUid,
    committer: &dyn SinkCommitter,
    reads: &Reads,
) -> Result<(), Failure> {
    if reads.is_empty() {
        return Ok(());
    }
    let Some((place, source)) = committer
        .writes()
        .await?
        .and_then(|place| reads.get_key_value(&place))
    else {
        return Ok(());
    };
    Err(Failure::new(
        ErrorCode::InvalidJob,
        ErrorKind::InvalidJob,
        format!(
            "sink `{uid}` writes to {place}, which source `{source}` reads: the job would read what it \
             writes, for ever. Write to another topic"
        ),
    ))
}

/// Checks that a store does what the chain needs of it.
///
/// # Errors
/// It does not, or does not answer.
pub async fn store(storage: &Storage) -> Result<(), Failure> {
    Ok(storage.probe().await?)
}

async fn ask_source(
    uid: &OperatorUid,
    source: &dyn SourceConnector,
    state: Option<&Manifest>,
    reach: Reach,
) -> Result<Vec<String>, Failure> {
    let mut enumerator = source.enumerator()?;
    if reach == Reach::Local && !enumerator.is_local() {
        return Ok(Vec::new());
    }
    let subtasks = state.and_then(|state| state.operators.get(uid));
    for snapshot in subtasks.into_iter().flat_map(BTreeMap::values) {
        enumerator.fit(snapshot.splits.clone()).await?;
    }
    let identity = state.and_then(|state| state.identities.get(uid));
    let known = state.and_then(|state| known(state, uid));
    let first = known.is_none();
    let known = known.unwrap_or_default();
    discover(enumerator.as_mut(), identity, &known, first).await?;
    Ok(enumerator.reads())
}

/// Whether a source is still what the state was taken of, and what of it is new.
pub(crate) async fn discover(
    enumerator: &mut dyn SplitEnumerator,
    identity: Option<&Opaque>,
    known: &BTreeSet<String>,
    first: bool,
) -> Result<Discovery, Failure> {
    if let Some(identity) = identity {
        enumerator.verify(identity).await?;
    }
    enumerator.discover(known, first).await
}

/// Names of the splits of a source that a state knows; `None` if it does not know the source.
pub(crate) fn known(state: &Manifest, uid: &OperatorUid) -> Option<BTreeSet<String>> {
    let subtasks = state.operators.get(uid)?;
    let splits = subtasks.values().flat_map(|snapshot| &snapshot.splits);
    Some(splits.map(|split| split.split.clone()).collect())
}

/// Whether a sink can do what the job wants of it.
pub(crate) async fn ask_sink(
    uid: &OperatorUid,
    committer: &dyn SinkCommitter,
    graph: &JobGraph,
    state: Option<&Manifest>,
) -> Result<(), Failure> {
    committer.preflight(has_run(uid, graph, state)).await
}

/// Whether a state was taken with this sink.
fn has_run(uid: &OperatorUid, graph: &JobGraph, state: Option<&Manifest>) -> bool {
    let kind = state.and_then(|state| state.connectors.get(uid));
    kind.is_some() && kind == graph.connectors().get(uid)
}
