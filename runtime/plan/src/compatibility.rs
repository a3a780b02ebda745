//! Whether a job graph has a place for everything that a checkpoint holds.
//!
//! State is found by the name of its node. A node that is renamed or removed leaves its state
//! behind: records would be read again, results would begin anew, or prepared output would never
//! become visible. That is never done silently.

mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use millstream_spec::connector::PostgresMode;
use millstream_spec::valid::{SinkConnector, SourceConnector};
use millstream_types::{
    ErrorCode, ErrorKind, Failure, OperatorSnapshot, OperatorUid, StateDeclaration,
};

use crate::error::nearest;
use crate::graph::{JobGraph, NodeKind};
pub use state::{StateFate, state_fates};

/// What a checkpoint holds of one operator, in all its subtasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorState {
    /// Names of the splits of a source that have a position.
    pub splits: Vec<String>,
    /// Transactions of a sink that are prepared and not known to be committed.
    pub committables: usize,
    /// Kind of the source's connector ([`connector_kind`]), where the checkpoint says.
    pub connector: Option<String>,
    /// The states by key that it has declared.
    pub states: Vec<StateDeclaration>,
    /// What its inputs were, if it has records in flight
    /// ([`overtakable_inputs`](JobGraph::overtakable_inputs)).
    pub inputs: Option<Vec<String>>,
}

impl OperatorState {
    /// Sums up the snapshots of an operator's subtasks.
    pub fn of<'a>(snapshots: impl IntoIterator<Item = &'a OperatorSnapshot>) -> Self {
        snapshots
            .into_iter()
            .fold(Self::default(), |mut state, snapshot| {
                let splits = snapshot.splits.iter();
                state.splits.extend(splits.map(|split| split.split.clone()));
                state.committables += snapshot.committables.len();
                // All subtasks declare the same.
                if let Some(keyed) = &snapshot.state
                    && state.states.is_empty()
                {
                    state.states.clone_from(&keyed.declarations);
                }
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

/// The kind of a sink's connector: what one has prepared another kind cannot commit.
pub const fn sink_connector_kind(connector: &SinkConnector) -> &'static str {
    match connector {
        SinkConnector::Kafka(_) => "kafka",
        SinkConnector::Files(_) => "files",
        SinkConnector::Postgres(postgres) => match postgres.mode {
            PostgresMode::TwoPhaseCommit => "postgres in mode TwoPhaseCommit",
            PostgresMode::Buffered => "postgres in mode Buffered",
            PostgresMode::Upsert => "postgres in mode Upsert",
        },
        SinkConnector::Custom(_) => "custom",
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
    /// The positions of splits that a source does not read any more.
    SplitsGone {
        /// The source.
        uid: OperatorUid,
        /// Their names.
        splits: Vec<String>,
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
    /// Keyed state, and no operator of this name that keeps any.
    StateGone {
        /// The operator in the checkpoint.
        uid: OperatorUid,
        /// What it has kept.
        state: String,
        /// The operator that it was probably renamed to.
        renamed: Option<OperatorUid>,
    },
    /// Keyed state of an operator that keeps something else now.
    StateChanged {
        /// The operator.
        uid: OperatorUid,
        /// What it has kept.
        before: String,
        /// What it keeps.
        now: String,
        /// What of it is another one.
        reason: &'static str,
    },
    /// Records in flight to an operator whose inputs are others now, or that is gone.
    InputsChanged {
        /// The operator.
        uid: OperatorUid,
        /// What its inputs were.
        before: Vec<String>,
        /// What they are.
        now: Vec<String>,
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
        if !state.splits.is_empty() {
            found.extend(source_fault(graph, uid, state, kind));
        }
        if let Some(before) = &state.inputs {
            let now = graph.overtakable_inputs(uid);
            if *before != now {
                found.push(Incompatibility::InputsChanged {
                    uid: uid.clone(),
                    before: before.clone(),
                    now,
                });
            }
        }
        if state.committables > 0 && !matches!(kind, Some(NodeKind::Sink(_))) {
            found.push(Incompatibility::SinkGone {
                uid: uid.clone(),
                committables: state.committables,
                renamed: newcomer(graph, uid, |kind| matches!(kind, NodeKind::Sink(_))),
            });
        }
    }
    found.extend(state::faults(graph, state));
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
            splits: state.splits.len(),
            renamed: newcomer(graph, uid, |kind| matches!(kind, NodeKind::Source(_))),
        });
    };
    let now = connector_kind(&source.connector);
    if let Some(before) = state.connector.as_ref().filter(|before| *before != now) {
        return Some(Incompatibility::ConnectorChanged {
            uid: uid.clone(),
            before: before.clone(),
            now,
        });
    }
    let gone = gone_splits(&source.connector, &state.splits);
    (!gone.is_empty()).then(|| Incompatibility::SplitsGone {
        uid: uid.clone(),
        splits: gone,
    })
}

/// Splits that a source does not read, as it is configured now.
fn gone_splits(connector: &SourceConnector, splits: &[String]) -> Vec<String> {
    match connector {
        SourceConnector::Kafka(kafka) => {
            let gone = splits.iter().filter(|split| !kafka.reads(split));
            gone.cloned().collect()
        }
        // What these read is known only by looking.
        SourceConnector::Files(_) | SourceConnector::Generator(_) => Vec::new(),
    }
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
        f.write_str(&self.what())?;
        match self {
            Self::SourceGone {
                renamed: Some(renamed),
                ..
            }
            | Self::SinkGone {
                renamed: Some(renamed),
                ..
            }
            | Self::StateGone {
                renamed: Some(renamed),
                ..
            } => write!(
                f,
                "; if `{}` is the same under a new name, call it `{}` again",
                state::written(renamed),
                state::written(self.uid())
            ),
            _ => Ok(()),
        }
    }
}

/// The topics of splits, each with the number of its partitions.
fn topics(splits: &[String]) -> String {
    let mut topics: BTreeMap<&str, usize> = BTreeMap::new();
    for split in splits {
        let topic = split
            .rsplit_once('/')
            .map_or(split.as_str(), |(topic, _)| topic);
        *topics.entry(topic).or_default() += 1;
    }
    let all: Vec<String> = topics
        .into_iter()
        .map(|(topic, partitions)| {
            let plural = if partitions == 1 { "" } else { "s" };
            format!("topic `{topic}` ({partitions} partition{plural})")
        })
        .collect();
    all.join(", ")
}

impl Incompatibility {
    /// What has no place, and why.
    fn what(&self) -> String {
        match self {
            Self::SourceGone { uid, splits, .. } => format!(
                "the checkpoint has the positions of source `{uid}` in {splits} splits, but the job \
                 has no source of this name"
            ),
            Self::ConnectorChanged { uid, before, now } => format!(
                "source `{uid}` was read from {before} and is now read from {now}: its positions \
                 mean nothing there"
            ),
            Self::SplitsGone { uid, splits } => format!(
                "source `{uid}` does not read {} any more: what is not read of it yet would be left \
                 out",
                topics(splits)
            ),
            Self::SinkGone {
                uid, committables, ..
            } => format!(
                "the checkpoint has {committables} uncommitted transactions of sink `{uid}`, but the \
                 job has no sink of this name to commit them"
            ),
            Self::StateGone { uid, state, .. } => format!(
                "the checkpoint has keyed state of `{uid}` ({state}), but the job has no operator of \
                 this name that keeps any"
            ),
            Self::StateChanged {
                uid,
                before,
                now,
                reason,
            } => format!(
                "`{uid}` keeps other state, as {reason} changed: the checkpoint has `{before}`, and \
                 the job keeps `{now}`"
            ),
            Self::InputsChanged { uid, before, now } => {
                let now = if now.is_empty() {
                    "the job has no such input".to_owned()
                } else {
                    format!("the job has {}", now.join(", "))
                };
                format!(
                    "the checkpoint is unaligned and has records in flight to `{uid}` ({}), but {now}",
                    before.join(", ")
                )
            }
        }
    }

    /// The operator in the checkpoint.
    pub const fn uid(&self) -> &OperatorUid {
        match self {
            Self::SourceGone { uid, .. }
            | Self::ConnectorChanged { uid, .. }
            | Self::SplitsGone { uid, .. }
            | Self::SinkGone { uid, .. }
            | Self::StateGone { uid, .. }
            | Self::StateChanged { uid, .. }
            | Self::InputsChanged { uid, .. } => uid,
        }
    }

    /// What to do to keep the state.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::SourceGone { .. } | Self::SinkGone { .. } | Self::StateGone { .. } => {
                "give the node its old name back (state is found by the name of its node)"
            }
            Self::ConnectorChanged { .. } => "read the source as before",
            Self::SplitsGone { .. } => "name the topics in `topics` again",
            Self::StateChanged { .. } => {
                "group and aggregate as before, or do it in a transform of another name"
            }
            Self::InputsChanged { .. } => {
                "start the job as it was and change it with a savepoint, which has no records in flight"
            }
        }
    }

    /// The failure that lists all of them; nothing if there are none.
    pub fn failure(found: &[Self]) -> Option<Failure> {
        if found.is_empty() {
            return None;
        }
        let lines: Vec<String> = found.iter().map(|one| format!("\n  {one}")).collect();
        let remedies: BTreeSet<&str> = found.iter().map(Self::remedy).collect();
        let remedies: Vec<&str> = remedies.into_iter().collect();
        let message = format!(
            "the job graph has no place for state of the checkpoint:{}\nTo keep it, {}; to give up \
             exactly this state, use `--allow-dropped-state` (`restore.allowDroppedState: true` in \
             a StreamJob); to start without any state, `--restore fresh`",
            lines.concat(),
            remedies.join(" and ")
        );
        Some(Failure::new(
            ErrorCode::IncompatibleState,
            ErrorKind::InvalidJob,
            message,
        ))
    }
}
