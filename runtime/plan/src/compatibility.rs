//! Whether a job graph has a place for everything that a checkpoint holds.
//!
//! State is found by the name of its node. A node that is renamed or removed leaves its state
//! behind: records would be read again, or prepared output would never become visible. That is
//! never done silently.

use std::collections::BTreeMap;
use std::fmt;

use millstream_spec::valid::{SinkConnector, SourceConnector};
use millstream_types::{ErrorCode, ErrorKind, Failure, OperatorSnapshot, OperatorUid};

use crate::error::nearest;
use crate::graph::{JobGraph, NodeKind};

/// What a checkpoint holds of one operator, in all its subtasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorState {
    /// Splits of a source and how far each was read.
    pub splits: usize,
    /// Transactions of a sink that are prepared and not known to be committed.
    pub committables: usize,
    /// Kind of the source's connector ([`connector_kind`]), where the checkpoint says.
    pub connector: Option<String>,
}

impl OperatorState {
    /// Sums up the snapshots of an operator's subtasks.
    pub fn of<'a>(snapshots: impl IntoIterator<Item = &'a OperatorSnapshot>) -> Self {
        snapshots
            .into_iter()
            .fold(Self::default(), |mut state, snapshot| {
                state.splits += snapshot.splits.len();
                state.committables += snapshot.committables.len();
                state
            })
    }
}

/// The kind of a source's connector: `kafka`, `files` or `generator`.
pub const fn connector_kind(connector: &SourceConnector) -> &'static str {
    match connector {
        SourceConnector::Kafka(_) => "kafka",
        SourceConnector::Files(_) => "files",
        SourceConnector::Generator(_) => "generator",
    }
}

/// The kind of a sink's connector: `kafka`, `files`, `print` or `blackhole`.
pub const fn sink_connector_kind(connector: &SinkConnector) -> &'static str {
    match connector {
        SinkConnector::Kafka(_) => "kafka",
        SinkConnector::Files(_) => "files",
        SinkConnector::Print(_) => "print",
        SinkConnector::Blackhole(_) => "blackhole",
    }
}

/// State of a checkpoint that a graph has no place for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incompatibility {
    /// The positions of a source, and no source of this name.
    SourceGone {
        /// The operator in the checkpoint.
        uid: OperatorUid,
        /// How many splits it has read.
        splits: usize,
        /// The source that it was probably renamed to.
        renamed: Option<OperatorUid>,
    },
    /// The positions of a source that is now read by another connector.
    ConnectorChanged {
        /// The source.
        uid: OperatorUid,
        /// Kind of the connector that the positions belong to.
        before: String,
        /// Kind of the connector that the job has.
        now: &'static str,
    },
    /// Prepared output, and no sink of this name that could commit it.
    SinkGone {
        /// The operator in the checkpoint.
        uid: OperatorUid,
        /// How many transactions wait to be committed.
        committables: usize,
        /// The sink that it was probably renamed to.
        renamed: Option<OperatorUid>,
    },
}

/// Everything in a checkpoint that `graph` has no place for; nothing if it can be restored.
///
/// A node of the graph that the checkpoint does not know is none of it: it begins without state.
pub fn compatibility(
    graph: &JobGraph,
    state: &BTreeMap<OperatorUid, OperatorState>,
) -> Vec<Incompatibility> {
    let mut found = Vec::new();
    for (uid, state) in state {
        let node = graph.nodes.iter().find(|node| node.uid == *uid);
        let kind = node.map(|node| &node.kind);
        if state.splits > 0 {
            found.extend(source_fault(graph, uid, state, kind));
        }
        if state.committables > 0 && !matches!(kind, Some(NodeKind::Sink(_))) {
            found.push(Incompatibility::SinkGone {
                uid: uid.clone(),
                committables: state.committables,
                renamed: newcomer(graph, uid, |kind| matches!(kind, NodeKind::Sink(_))),
            });
        }
    }
    found
}

fn source_fault(
    graph: &JobGraph,
    uid: &OperatorUid,
    state: &OperatorState,
    kind: Option<&NodeKind>,
) -> Option<Incompatibility> {
    let Some(NodeKind::Source(source)) = kind else {
        return Some(Incompatibility::SourceGone {
            uid: uid.clone(),
            splits: state.splits,
            renamed: newcomer(graph, uid, |kind| matches!(kind, NodeKind::Source(_))),
        });
    };
    let now = connector_kind(&source.connector);
    let before = state.connector.as_ref().filter(|before| *before != now)?;
    Some(Incompatibility::ConnectorChanged {
        uid: uid.clone(),
        before: before.clone(),
        now,
    })
}

/// The node of the same kind whose name is most like a lost one.
fn newcomer(
    graph: &JobGraph,
    lost: &OperatorUid,
    same: impl Fn(&NodeKind) -> bool,
) -> Option<OperatorUid> {
    let nodes = graph.nodes.iter().filter(|node| same(&node.kind));
    let names: Vec<&str> = nodes.map(|node| node.uid.as_str()).collect();
    match names.as_slice() {
        [only] => Some(OperatorUid::from(*only)),
        _ => nearest(lost.as_str(), names).map(OperatorUid::from),
    }
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renamed = match self {
            Self::SourceGone {
                uid,
                splits,
                renamed,
            } => {
                write!(
                    f,
                    "the checkpoint has the positions of source `{uid}` in {splits} splits, but \
                     the job has no source of this name"
                )?;
                renamed
            }
            Self::ConnectorChanged { uid, before, now } => {
                return write!(
                    f,
                    "source `{uid}` was read from {before} and is now read from {now}: its \
                     positions mean nothing there"
                );
            }
            Self::SinkGone {
                uid,
                committables,
                renamed,
            } => {
                write!(
                    f,
                    "the checkpoint has {committables} uncommitted transactions of sink `{uid}`, \
                     but the job has no sink of this name to commit them"
                )?;
                renamed
            }
        };
        match renamed {
            Some(renamed) => write!(
                f,
                "; if `{renamed}` is the same under a new name, call it `{uid}` again",
                uid = self.uid()
            ),
            None => Ok(()),
        }
    }
}

impl Incompatibility {
    /// The operator in the checkpoint.
    pub const fn uid(&self) -> &OperatorUid {
        match self {
            Self::SourceGone { uid, .. }
            | Self::ConnectorChanged { uid, .. }
            | Self::SinkGone { uid, .. } => uid,
        }
    }

    /// The failure that lists all of them; nothing if there are none.
    pub fn failure(found: &[Self]) -> Option<Failure> {
        if found.is_empty() {
            return None;
        }
        let lines: Vec<String> = found.iter().map(|one| format!("\n  {one}")).collect();
        let message = format!(
            "the job graph has no place for state of the checkpoint:{}\nGive the nodes their old \
             names back (state is found by the name of its node), or give exactly this state up \
             with `--allow-dropped-state` (`restore.allowDroppedState: true` in a StreamJob), or \
             start without any state with `--restore fresh`",
            lines.concat()
        );
        Some(Failure::new(
            ErrorCode::IncompatibleState,
            ErrorKind::InvalidJob,
            message,
        ))
    }
}
