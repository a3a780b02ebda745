//! What of a checkpoint a job's graph has a place for, and what would become of the rest. Pure.

use std::collections::{BTreeMap, BTreeSet};

use millstream_checkpoint::Manifest;
use millstream_plan::{
    Incompatibility, JobGraph, OperatorState, StateFate, compatibility, state_fates,
};
use millstream_types::OperatorUid;

/// State of a manifest that a graph has no place for. Prepared output is not looked at: it is
/// committed before the job runs.
pub fn misfits(graph: &JobGraph, manifest: &Manifest) -> Vec<Incompatibility> {
    let mut states = states(manifest);
    for state in states.values_mut() {
        state.committables = 0;
    }
    compatibility(graph, &states)
}

/// What would be different if the job of this graph went on from a manifest, and what becomes of keyed
/// state, one line each, for people. Nothing of a job without state if only options of nodes or their
/// SQL differ.
pub fn changes(graph: &JobGraph, parallelism: u32, manifest: &Manifest) -> Vec<String> {
    let mut lines = Vec::new();
    if manifest.parallelism != parallelism {
        lines.push(format!(
            "parallelism changes from {} to {parallelism}",
            manifest.parallelism
        ));
    }
    let now = graph.connectors();
    // The checkpoint that a job begins with holds its sources only, and names its sinks.
    let mut connectors = manifest.connectors.keys();
    let is_whole = connectors.all(|uid| manifest.operators.contains_key(uid));
    for node in &graph.nodes {
        let known = manifest.operators.contains_key(&node.uid)
            || manifest.connectors.contains_key(&node.uid);
        if !known && (is_whole || now.contains_key(&node.uid)) {
            lines.push(format!("operator {} is new", node.uid));
        }
    }
    for (uid, state) in states(manifest) {
        let is_there = graph.nodes.iter().any(|node| node.uid == uid);
        let kinds = (&state.connector, now.get(&uid));
        if !is_there {
            lines.push(format!("operator {uid} is dropped{}", lost(&state)));
        } else if let (Some(before), Some(now)) = kinds
            && before != now
        {
            lines.push(format!("operator {uid} changes from {before} to {now}"));
        }
    }
    lines.extend(of_states(graph, manifest));
    for misfit in misfits(graph, manifest) {
        if let Incompatibility::SplitsGone { uid, splits } = misfit {
            let splits = splits.join(", ");
            lines.push(format!("operator {uid} does not read {splits} any more"));
        }
    }
    lines
}

/// What becomes of keyed state.
fn of_states(graph: &JobGraph, manifest: &Manifest) -> Vec<String> {
    let fates = state_fates(graph, &states(manifest)).into_iter();
    let lines = fates.map(|(uid, fate)| match fate {
        StateFate::Kept { state } => format!("state of {uid} is kept: {state}"),
        StateFate::Added { state } => format!("state of {uid} begins empty: {state}"),
        StateFate::Dropped { state } => format!("state of {uid} is dropped: {state}"),
        StateFate::Incompatible {
            before,
            now,
            reason,
        } => format!(
            "state of {uid} does not fit, as {reason} changed: it was {before}, and is {now}"
        ),
    });
    lines.collect()
}

/// What goes with an operator.
fn lost(state: &OperatorState) -> String {
    match (state.splits.len(), state.committables) {
        (0, 0) => String::new(),
        (splits, 0) => format!(": {splits} splits"),
        (0, committables) => format!(": {committables} uncommitted transactions"),
        (splits, committables) => {
            format!(": {splits} splits, {committables} uncommitted transactions")
        }
    }
}

/// Takes a misfit out of a manifest.
pub(crate) fn drop_state(manifest: &mut Manifest, misfit: &Incompatibility) {
    if let Incompatibility::InputsChanged { uid, .. } = misfit {
        let subtasks = manifest.operators.get_mut(uid);
        for snapshot in subtasks.into_iter().flat_map(BTreeMap::values_mut) {
            snapshot.in_flight.clear();
        }
        manifest.inputs.remove(uid);
        return;
    }
    let Incompatibility::SplitsGone { uid, splits } = misfit else {
        manifest.operators.remove(misfit.uid());
        manifest.identities.remove(misfit.uid());
        return;
    };
    let gone: BTreeSet<&String> = splits.iter().collect();
    let subtasks = manifest.operators.get_mut(uid);
    for snapshot in subtasks.into_iter().flat_map(BTreeMap::values_mut) {
        snapshot.splits.retain(|split| !gone.contains(&split.split));
    }
}

fn states(manifest: &Manifest) -> BTreeMap<OperatorUid, OperatorState> {
    manifest
        .operators
        .iter()
        .map(|(uid, subtasks)| {
            let state = OperatorState {
                connector: manifest.connectors.get(uid).cloned(),
                inputs: manifest.inputs.get(uid).cloned(),
                ..OperatorState::of(subtasks.values())
            };
            (uid.clone(), state)
        })
        .collect()
}
