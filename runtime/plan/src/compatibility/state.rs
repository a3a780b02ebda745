//! Keyed state: what of a checkpoint's goes on, what is new, what has no place any more.

use std::collections::BTreeMap;

use millstream_types::aggregate::{AggregateStage, state_type};
use millstream_types::change::Changelog;
use millstream_types::{OperatorUid, StateDeclaration};

use super::{Incompatibility, OperatorState};
use crate::error::nearest;
use crate::graph::{JobGraph, Node, NodeKind};
use crate::nodes::typed;

/// What becomes of the keyed state of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateFate {
    /// The job keeps the same: it goes on from it.
    Kept {
        /// What is kept.
        state: String,
    },
    /// The checkpoint has none of it: it begins empty.
    Added {
        /// What is kept.
        state: String,
    },
    /// The job keeps none for this operator.
    Dropped {
        /// What was kept.
        state: String,
    },
    /// The job keeps something else.
    Incompatible {
        /// What was kept.
        before: String,
        /// What is kept.
        now: String,
        /// What of it is another one.
        reason: &'static str,
    },
}

/// What becomes of all keyed state, by operator.
pub fn state_fates(
    graph: &JobGraph,
    states: &BTreeMap<OperatorUid, OperatorState>,
) -> BTreeMap<OperatorUid, StateFate> {
    let nodes = graph.nodes.iter();
    let keeping = nodes.filter_map(|node| Some((node, node.state()?)));
    let mut fates: BTreeMap<OperatorUid, StateFate> = keeping
        .map(|(node, (name, now))| {
            let before = states.get(&node.uid);
            let before = before.and_then(|before| declared(&before.states, name));
            (node.uid.clone(), fate(node, before, now))
        })
        .collect();
    for (uid, before) in states {
        if let Some(first) = before.states.first()
            && !fates.contains_key(uid)
        {
            let state = first.data_type.clone();
            fates.insert(uid.clone(), StateFate::Dropped { state });
        }
    }
    fates
}

/// The state of a name; the first one if there is none, so that none is passed over.
fn declared<'s>(states: &'s [StateDeclaration], name: &str) -> Option<&'s str> {
    let named = states.iter().find(|state| state.name == name);
    let state = named.or_else(|| states.first())?;
    Some(&state.data_type)
}

fn fate(node: &Node, before: Option<&str>, now: &str) -> StateFate {
    match before {
        None => StateFate::Added {
            state: now.to_owned(),
        },
        Some(before) if before == now => StateFate::Kept {
            state: now.to_owned(),
        },
        Some(before) => StateFate::Incompatible {
            before: before.to_owned(),
            now: now.to_owned(),
            reason: reason(node, before),
        },
    }
}

/// What of the state is another one than `before`.
fn reason(node: &Node, before: &str) -> &'static str {
    let NodeKind::Aggregate(aggregation) = &node.kind else {
        return "its types";
    };
    let fields = node.schema.fields().iter().take(aggregation.keys.len());
    let keys: Vec<String> = fields.map(|field| typed(field)).collect();
    let key = state_type(&keys, &[], Changelog::Append);
    let rest = before.strip_prefix(key.as_str());
    let goes_on = |rest: &str| rest.is_empty() || rest.starts_with(' ') || key.is_empty();
    match rest.filter(|rest| goes_on(rest)) {
        None => "its key",
        Some(_) if before.ends_with(UPDATES) != aggregation.input.updates() => {
            "whether its input updates"
        }
        Some(_) => "its aggregates",
    }
}

/// The end of what is kept over a stream that updates.
const UPDATES: &str = "over updates";

/// State of a checkpoint that the graph has no place for.
pub(super) fn faults(
    graph: &JobGraph,
    states: &BTreeMap<OperatorUid, OperatorState>,
) -> Vec<Incompatibility> {
    let fates = state_fates(graph, states).into_iter();
    let faults = fates.filter_map(|(uid, fate)| match fate {
        StateFate::Kept { .. } | StateFate::Added { .. } => None,
        StateFate::Dropped { state } => Some(Incompatibility::StateGone {
            renamed: renamed(graph, states, &uid, &state),
            uid,
            state,
        }),
        StateFate::Incompatible {
            before,
            now,
            reason,
        } => Some(Incompatibility::StateChanged {
            uid,
            before,
            now,
            reason,
        }),
    });
    faults.collect()
}

/// The operator without state in the checkpoint that keeps the same as a lost one, or has a name like it.
fn renamed(
    graph: &JobGraph,
    states: &BTreeMap<OperatorUid, OperatorState>,
    lost: &OperatorUid,
    state: &str,
) -> Option<OperatorUid> {
    let has_none = |uid: &OperatorUid| states.get(uid).is_none_or(|it| it.states.is_empty());
    let keeps = |node: &&Node| match &node.kind {
        NodeKind::Aggregate(it) => it.stage != AggregateStage::Partial && has_none(&node.uid),
        NodeKind::Source(_) | NodeKind::Sql(_) | NodeKind::Sink(_) => false,
    };
    let nodes: Vec<&Node> = graph.nodes.iter().filter(keeps).collect();
    let same = nodes
        .iter()
        .find(|node| node.state().is_some_and(|(_, now)| now == state));
    let names = nodes.iter().map(|node| node.uid.as_str());
    same.map(|node| node.uid.clone())
        .or_else(|| nearest(lost.as_str(), names).map(OperatorUid::from))
}

/// The node of the job file that an operator is a part of.
pub(super) fn written(uid: &OperatorUid) -> &str {
    let uid = uid.as_str();
    uid.split_once('/').map_or(uid, |(node, _)| node)
}
