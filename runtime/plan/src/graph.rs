//! The job graph: nodes, the edges between them, and vertices of chained nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use millstream_spec::{ValidSink, ValidSource};
use millstream_types::aggregate::{AggregateStage, Aggregation, GROUPS};
use millstream_types::change::Changelog;
use millstream_types::schema::dead_letter_schema;
use millstream_types::{EdgeId, OperatorUid, VertexId};

use crate::compatibility::{connector_kind, sink_connector_kind};

/// A planned job. Every worker makes its own from the job file; [`fingerprint`](Self::fingerprint)
/// shows that they are equal.
#[derive(Debug, Clone)]
pub struct JobGraph {
    /// All nodes, each after those that it reads from.
    pub nodes: Vec<Node>,
    /// Where records flow, in order of the nodes that read and of their inputs. An edge's number is
    /// its place here.
    pub edges: Vec<Edge>,
    /// Chains of nodes that one task runs, each after the vertices it reads from.
    pub vertices: Vec<Vertex>,
    /// Into how many key groups the records of a [`Partitioning::Hash`] edge are divided.
    pub max_parallelism: u32,
    /// Hash over everything that must be equal in all processes of a job.
    pub fingerprint: String,
}

/// Position of a node in [`JobGraph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub usize);

/// One node of the dataflow.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in the job file, for those that its SQL makes beside it with their part of it behind,
    /// as in `per-customer/aggregate`: state is found by it.
    pub uid: OperatorUid,
    /// How many subtasks run it, if not as many as the job has.
    pub parallelism: Option<u32>,
    /// What it does.
    pub kind: NodeKind,
    /// Columns it emits; for a sink, columns it is given. For a source, the columns that anybody
    /// downstream uses: a projection of the declared ones. The last column of a stream that updates
    /// says what its rows do ([`CHANGE_COLUMN`](millstream_types::change::CHANGE_COLUMN)).
    pub schema: SchemaRef,
    /// Which changes the rows that it emits may be; for a sink, those that it is given.
    pub changelog: Changelog,
    /// Positions of the columns that tell the rows apart, if it emits updates and has them.
    pub key: Option<Vec<usize>>,
}

/// Where records flow from one node to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// What is sent.
    pub from: Output,
    /// Who gets it.
    pub to: NodeIndex,
    /// Which input of that node it is, from 0.
    pub input: usize,
    /// Which subtask gets a record.
    pub partitioning: Partitioning,
    /// Which changes its records may be.
    pub changelog: Changelog,
}

/// An output of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Its records.
    Main(NodeIndex),
    /// The records that the source could not decode (`<source>.deadLetters`).
    DeadLetters(NodeIndex),
}

impl Output {
    /// The node that the output belongs to.
    pub const fn node(self) -> NodeIndex {
        match self {
            Self::Main(node) | Self::DeadLetters(node) => node,
        }
    }
}

/// Which subtask of the node behind an edge gets a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioning {
    /// The one with the same number. Both nodes have the same parallelism.
    Forward,
    /// The one that the values in these columns (by position in the batch that is sent) belong to.
    Hash(Vec<usize>),
    /// Any: batches are dealt out in turn.
    Rebalance,
}

/// What a node does.
#[derive(Debug, Clone)]
pub enum NodeKind {
    /// Reads records.
    Source(Arc<ValidSource>),
    /// Filters and projects records.
    Sql(SqlTransform),
    /// Combines records that have one key.
    Aggregate(Aggregation),
    /// Writes records.
    Sink(Arc<ValidSink>),
}

/// A bound SQL transform: the records of one SELECT after those of another.
#[derive(Debug, Clone)]
pub struct SqlTransform {
    /// What `UNION ALL` connects; one, if there is none.
    pub selects: Vec<SqlSelect>,
}

/// `SELECT projection FROM input WHERE filter`.
#[derive(Debug, Clone)]
pub struct SqlSelect {
    /// Which input of the node it reads, from 0.
    pub input: usize,
    /// Rows for which one of them is not true are dropped.
    pub filter: Vec<Computed>,
    /// One expression per column of the node's schema.
    pub projection: Vec<Computed>,
}

/// An expression of a transform.
#[derive(Debug, Clone)]
pub struct Computed {
    /// Computes it from the columns of the node's input.
    pub expression: Arc<dyn PhysicalExpr>,
    /// How the transform's SQL writes it.
    pub text: String,
}

/// Nodes that one task runs, called one after the other without a queue between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// Its number.
    pub id: VertexId,
    /// Its nodes, each after those it reads from. The first is a source, or reads from other
    /// vertices; the others read from nodes of this vertex only.
    pub nodes: Vec<NodeIndex>,
    /// How many subtasks run it, if not as many as the job has.
    pub parallelism: Option<u32>,
}

impl Node {
    /// What it keeps by key, as its checkpoints declare it: name and type of the state.
    pub fn state(&self) -> Option<(&'static str, &str)> {
        match &self.kind {
            NodeKind::Aggregate(it) if it.stage != AggregateStage::Partial => {
                Some((GROUPS, it.state.as_str()))
            }
            NodeKind::Aggregate(_) | NodeKind::Source(_) | NodeKind::Sql(_) | NodeKind::Sink(_) => {
                None
            }
        }
    }
}

impl JobGraph {
    /// Kind of every source's and sink's connector.
    pub fn connectors(&self) -> BTreeMap<OperatorUid, String> {
        let kind = |node: &Node| match &node.kind {
            NodeKind::Source(source) => Some(connector_kind(&source.connector)),
            NodeKind::Sink(sink) => Some(sink_connector_kind(&sink.connector)),
            NodeKind::Sql(_) | NodeKind::Aggregate(_) => None,
        };
        let nodes = self.nodes.iter();
        nodes
            .filter_map(|node| Some((node.uid.clone(), kind(node)?.to_owned())))
            .collect()
    }

    /// Checks that no node that keeps keyed state has more subtasks than there are key groups, at this
    /// parallelism of the job.
    ///
    /// # Errors
    /// One has.
    pub fn check_parallelism(&self, parallelism: u32) -> Result<(), String> {
        let most = self.max_parallelism;
        let mut keyed = self.nodes.iter().filter(|node| node.state().is_some());
        match keyed.find(|node| node.parallelism.unwrap_or(parallelism) > most) {
            None => Ok(()),
            Some(node) => Err(format!(
                "a parallelism of {parallelism} is too high: `{}` keeps state by key, and its keys are \
                 divided into {most} groups (`spec.maxParallelism`)",
                node.uid
            )),
        }
    }

    /// A node.
    pub fn node(&self, index: NodeIndex) -> Option<&Node> {
        self.nodes.get(index.0)
    }

    /// What a node reads, by its inputs.
    pub fn inputs(&self, of: NodeIndex) -> impl Iterator<Item = &Edge> {
        self.edges.iter().filter(move |edge| edge.to == of)
    }

    /// Names of the columns by which the records of an edge are spread; none unless they are hashed.
    pub fn partition_by(&self, edge: &Edge) -> Vec<String> {
        let Partitioning::Hash(columns) = &edge.partitioning else {
            return Vec::new();
        };
        let schema = self.schema_of(edge.from);
        let fields = schema.iter().flat_map(|schema| {
            let fields = columns.iter();
            fields.filter_map(|column| schema.fields().get(*column))
        });
        fields.map(|field| field.name().clone()).collect()
    }

    /// What the inputs of a node are that come from other vertices and whose records a barrier may
    /// overtake, in words: such records can be restored only where the same stands.
    pub fn overtakable_inputs(&self, uid: &OperatorUid) -> Vec<String> {
        let edges = self.between_vertices().filter(|(_, edge, ..)| {
            let reader = self.node(edge.to);
            let is_here = reader.is_some_and(|reader| reader.uid == *uid);
            is_here && edge.partitioning != Partitioning::Forward
        });
        let inputs = edges.map(|(_, edge, ..)| {
            let partitioning = match edge.partitioning {
                Partitioning::Hash(_) => format!(
                    "by {} in {} key groups",
                    self.partition_by(edge).join(", "),
                    self.max_parallelism
                ),
                Partitioning::Forward | Partitioning::Rebalance => "in turn".to_owned(),
            };
            let schema = self.schema_of(edge.from);
            let fields = schema.iter().flat_map(|schema| schema.fields().iter());
            let columns: Vec<String> = fields
                .map(|field| {
                    let null = if field.is_nullable() { "" } else { " not null" };
                    format!("{} {}{null}", field.name(), field.data_type())
                })
                .collect();
            format!(
                "input {}: ({}) {partitioning}",
                edge.input,
                columns.join(", ")
            )
        });
        inputs.collect()
    }

    /// Those of every node that has any.
    pub fn all_overtakable_inputs(&self) -> BTreeMap<OperatorUid, Vec<String>> {
        let nodes = self.nodes.iter();
        let inputs = nodes.map(|node| (node.uid.clone(), self.overtakable_inputs(&node.uid)));
        inputs.filter(|(_, inputs)| !inputs.is_empty()).collect()
    }

    fn schema_of(&self, output: Output) -> Option<SchemaRef> {
        match output {
            Output::Main(node) => self.node(node).map(|node| Arc::clone(&node.schema)),
            Output::DeadLetters(_) => Some(dead_letter_schema()),
        }
    }

    /// The vertex that runs a node.
    pub fn vertex_of(&self, node: NodeIndex) -> Option<&Vertex> {
        let mut vertices = self.vertices.iter();
        vertices.find(|vertex| vertex.nodes.contains(&node))
    }

    /// The edges between vertices, with the vertices that they connect. All others are within one.
    pub fn between_vertices(&self) -> impl Iterator<Item = (EdgeId, &Edge, &Vertex, &Vertex)> {
        (0..).map(EdgeId).zip(&self.edges).filter_map(|(id, edge)| {
            let from = self.vertex_of(edge.from.node())?;
            let to = self.vertex_of(edge.to)?;
            (from.id != to.id).then_some((id, edge, from, to))
        })
    }
}
