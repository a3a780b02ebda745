//! The job graph as far as coordination needs it: which operator runs in which task, and where
//! records flow.

use std::collections::{BTreeMap, BTreeSet};

use millstream_plan::{JobGraph, NodeIndex, NodeInput, NodeKind, Vertex};
use millstream_types::ids::TaskId;
use millstream_types::{OperatorUid, SubtaskIndex, VertexId};

/// Vertices and edges by operator uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// All vertices.
    pub vertices: Vec<VertexOperators>,
    /// Every source and the vertex it runs in.
    pub sources: BTreeMap<OperatorUid, VertexId>,
    /// Every sink.
    pub sinks: BTreeSet<OperatorUid>,
    /// Where records flow.
    pub edges: Vec<Edge>,
}

/// One vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VertexOperators {
    /// Its number.
    pub id: VertexId,
    /// Its operators.
    pub operators: Vec<OperatorUid>,
    /// The source that all its records come from, directly or over other vertices.
    pub source: Option<OperatorUid>,
}

/// Records of one operator that another one gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who emits them.
    pub from: OperatorUid,
    /// Whether they are the ones it could not decode.
    pub dead_letters: bool,
    /// Who gets them.
    pub to: OperatorUid,
}

impl From<&JobGraph> for Topology {
    fn from(graph: &JobGraph) -> Self {
        let uid = |node: NodeIndex| graph.nodes.get(node.0).map(|node| node.uid.clone());
        let vertices: Vec<VertexOperators> = graph
            .vertices
            .iter()
            .map(|vertex| VertexOperators {
                id: vertex.id,
                operators: vertex.nodes.iter().filter_map(|node| uid(*node)).collect(),
                source: root(graph, vertex).and_then(uid),
            })
            .collect();
        let mut topology = Self {
            vertices,
            sources: BTreeMap::new(),
            sinks: BTreeSet::new(),
            edges: Vec::new(),
        };
        for node in &graph.nodes {
            match node.kind {
                NodeKind::Source(_) => topology.add_source(&node.uid),
                NodeKind::Sink(_) => drop(topology.sinks.insert(node.uid.clone())),
                NodeKind::Sql(_) => {}
            }
            if let Some(input) = node.input
                && let Some(from) = uid(input.node())
            {
                topology.edges.push(Edge {
                    from,
                    dead_letters: matches!(input, NodeInput::DeadLetters(_)),
                    to: node.uid.clone(),
                });
            }
        }
        topology
    }
}

/// The source node at the beginning of a vertex's records.
fn root(graph: &JobGraph, vertex: &Vertex) -> Option<NodeIndex> {
    let mut vertex = vertex;
    // Each step goes to an earlier vertex, so this many steps are enough.
    for _ in &graph.vertices {
        match vertex.input {
            None => return vertex.nodes.first().copied(),
            Some(input) => vertex = graph.vertices.iter().find(|other| other.id == input)?,
        }
    }
    None
}

impl Topology {
    fn add_source(&mut self, uid: &OperatorUid) {
        let vertex = self
            .vertices
            .iter()
            .find(|vertex| vertex.operators.contains(uid));
        if let Some(vertex) = vertex {
            self.sources.insert(uid.clone(), vertex.id);
        }
    }

    /// Every task at a parallelism.
    pub fn tasks(&self, parallelism: u32) -> BTreeSet<TaskId> {
        self.vertices
            .iter()
            .flat_map(|vertex| {
                (0..parallelism).map(|subtask| TaskId {
                    vertex: vertex.id,
                    subtask: SubtaskIndex(subtask),
                })
            })
            .collect()
    }

    /// The source that a vertex's records come from.
    pub fn source_of(&self, vertex: VertexId) -> Option<&OperatorUid> {
        self.vertices
            .iter()
            .find(|other| other.id == vertex)
            .and_then(|vertex| vertex.source.as_ref())
    }

    /// Whether the job has an operator of this name.
    pub fn contains(&self, uid: &OperatorUid) -> bool {
        self.vertices
            .iter()
            .any(|vertex| vertex.operators.contains(uid))
    }
}
