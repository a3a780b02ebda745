//! The job graph as far as coordination needs it: which operator runs in which task, and where
//! records flow.

use std::collections::{BTreeMap, BTreeSet};

use millstream_plan::{JobGraph, NodeIndex, NodeKind, Output, Partitioning, Vertex};
use millstream_types::api::{EdgeReport, JobGraphReport, NodeReport, StateReport, VertexReport};
use millstream_types::ids::TaskId;
use millstream_types::{OperatorUid, SubtaskIndex, VertexId};

/// Vertices and edges by operator uid, at one parallelism of the job.
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
    /// Of operators whose inputs may be overtaken by barriers, what these inputs are.
    pub inputs: BTreeMap<OperatorUid, Vec<String>>,
    /// Into how many groups keys are divided.
    pub max_parallelism: u32,
}

/// One vertex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VertexOperators {
    /// Its number.
    pub id: VertexId,
    /// Its operators.
    pub operators: Vec<OperatorUid>,
    /// How many subtasks run it.
    pub parallelism: u32,
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

impl Topology {
    /// The graph of a job that runs with this parallelism.
    pub fn new(graph: &JobGraph, parallelism: u32) -> Self {
        let uid = |node: NodeIndex| graph.node(node).map(|node| node.uid.clone());
        let vertices = graph.vertices.iter();
        let vertices = vertices.map(|vertex| VertexOperators {
            id: vertex.id,
            operators: vertex.nodes.iter().filter_map(|node| uid(*node)).collect(),
            parallelism: vertex.parallelism.unwrap_or(parallelism),
        });
        let edges = graph.edges.iter().filter_map(|edge| {
            Some(Edge {
                from: uid(edge.from.node())?,
                dead_letters: matches!(edge.from, Output::DeadLetters(_)),
                to: uid(edge.to)?,
            })
        });
        let mut topology = Self {
            vertices: vertices.collect(),
            sources: BTreeMap::new(),
            sinks: BTreeSet::new(),
            edges: edges.collect(),
            inputs: graph.all_overtakable_inputs(),
            max_parallelism: graph.max_parallelism,
        };
        for (index, node) in graph.nodes.iter().enumerate() {
            match node.kind {
                NodeKind::Source(_) => {
                    let vertex = graph.vertex_of(NodeIndex(index));
                    let vertex = vertex.map(|vertex| (node.uid.clone(), vertex.id));
                    topology.sources.extend(vertex);
                }
                NodeKind::Sink(_) => drop(topology.sinks.insert(node.uid.clone())),
                NodeKind::Sql(_) | NodeKind::Aggregate(_) => {}
            }
        }
        topology
    }

    /// How many slots the job needs: the highest parallelism of its vertices.
    pub fn slots(&self) -> u32 {
        let all = self.vertices.iter().map(|vertex| vertex.parallelism);
        all.max().unwrap_or(0)
    }

    /// How many subtasks run an operator.
    pub fn parallelism_of(&self, uid: &OperatorUid) -> u32 {
        let mut vertices = self.vertices.iter();
        let vertex = vertices.find(|vertex| vertex.operators.contains(uid));
        vertex.map_or(0, |vertex| vertex.parallelism)
    }

    /// Every task, with the slot that it runs in. Those of a vertex are spread over all slots;
    /// equal subtasks of vertices of one parallelism, which forward edges join, share a slot.
    pub fn tasks(&self) -> impl Iterator<Item = (TaskId, SubtaskIndex, &VertexOperators)> {
        let slots = u64::from(self.slots());
        self.vertices.iter().flat_map(move |vertex| {
            (0..vertex.parallelism).map(move |subtask| {
                let task = TaskId {
                    vertex: vertex.id,
                    subtask: SubtaskIndex(subtask),
                };
                let slot = u64::from(subtask) * slots / u64::from(vertex.parallelism);
                let slot = SubtaskIndex(u32::try_from(slot).unwrap_or(u32::MAX));
                (task, slot, vertex)
            })
        })
    }

    /// Whether the job has an operator of this name.
    pub fn contains(&self, uid: &OperatorUid) -> bool {
        self.vertices
            .iter()
            .any(|vertex| vertex.operators.contains(uid))
    }
}

/// What the nodes of a vertex keep by key.
fn states(graph: &JobGraph, vertex: &Vertex) -> Vec<StateReport> {
    let nodes = vertex.nodes.iter().filter_map(|node| graph.node(*node));
    let states = nodes.filter_map(|node| {
        let (name, state_type) = node.state()?;
        Some(StateReport {
            operator: node.uid.clone(),
            name: name.to_owned(),
            state_type: state_type.to_owned(),
        })
    });
    states.collect()
}

/// What the nodes of a graph do.
fn nodes(graph: &JobGraph) -> Vec<NodeReport> {
    let connectors = graph.connectors();
    let nodes = graph.nodes.iter().map(|node| NodeReport {
        operator: node.uid.clone(),
        kind: kind(&node.kind).to_owned(),
        connector: connectors.get(&node.uid).cloned(),
    });
    nodes.collect()
}

const fn kind(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Source(_) => "source",
        NodeKind::Sql(_) => "sql",
        NodeKind::Aggregate(_) => "aggregate",
        NodeKind::Sink(_) => "sink",
    }
}

/// A graph as the REST interface shows it, at one parallelism of the job.
pub fn report(graph: &JobGraph, parallelism: u32) -> JobGraphReport {
    let uid = |node: NodeIndex| graph.node(node).map(|node| node.uid.clone());
    let vertices = graph.vertices.iter().map(|vertex| VertexReport {
        id: vertex.id,
        operators: vertex.nodes.iter().filter_map(|it| uid(*it)).collect(),
        parallelism: vertex.parallelism.unwrap_or(parallelism),
        states: states(graph, vertex),
    });
    let edges = graph.edges.iter().filter_map(|edge| {
        let partitioning = match edge.partitioning {
            Partitioning::Forward => "forward",
            Partitioning::Hash(_) => "hash",
            Partitioning::Rebalance => "rebalance",
        };
        Some(EdgeReport {
            from: uid(edge.from.node())?,
            dead_letters: matches!(edge.from, Output::DeadLetters(_)),
            to: uid(edge.to)?,
            input: u32::try_from(edge.input).unwrap_or(u32::MAX),
            partitioning: partitioning.to_owned(),
            partition_by: graph.partition_by(edge),
            changelog: edge.changelog,
        })
    });
    JobGraphReport {
        fingerprint: graph.fingerprint.clone(),
        max_parallelism: graph.max_parallelism,
        nodes: nodes(graph),
        vertices: vertices.collect(),
        edges: edges.collect(),
    }
}
