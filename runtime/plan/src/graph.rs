//! The job graph: vertices of chained nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use millstream_spec::{ValidSink, ValidSource};
use millstream_types::{OperatorUid, VertexId};

use crate::compatibility::{connector_kind, sink_connector_kind};

/// A planned job. Every worker makes its own from the job file; [`fingerprint`](Self::fingerprint)
/// shows that they are equal.
#[derive(Debug, Clone)]
pub struct JobGraph {
    /// All nodes, each after its input.
    pub nodes: Vec<Node>,
    /// Chains of nodes that one task runs, each after the vertices it reads from.
    pub vertices: Vec<Vertex>,
    /// Hash over everything that must be equal in all processes of a job.
    pub fingerprint: String,
}

impl JobGraph {
    /// Kind of every source's and sink's connector.
    pub fn connectors(&self) -> BTreeMap<OperatorUid, String> {
        let kind = |node: &Node| match &node.kind {
            NodeKind::Source(source) => Some(connector_kind(&source.connector)),
            NodeKind::Sink(sink) => Some(sink_connector_kind(&sink.connector)),
            NodeKind::Sql(_) => None,
        };
        let nodes = self.nodes.iter();
        nodes
            .filter_map(|node| Some((node.uid.clone(), kind(node)?.to_owned())))
            .collect()
    }
}

/// Position of a node in [`JobGraph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeIndex(pub usize);

/// One node of the dataflow.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name in the job file: state is found by it.
    pub uid: OperatorUid,
    /// Where its records come from; `None` for a source.
    pub input: Option<NodeInput>,
    /// What it does.
    pub kind: NodeKind,
    /// Columns it emits; for a sink, columns it is given. For a source, the columns that anybody
    /// downstream uses: a projection of the declared ones.
    pub schema: SchemaRef,
}

/// An output of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeInput {
    /// Its records.
    Main(NodeIndex),
    /// The records that the source could not decode (`<source>.deadLetters`).
    DeadLetters(NodeIndex),
}

impl NodeInput {
    /// The node that the output belongs to.
    pub const fn node(self) -> NodeIndex {
        match self {
            Self::Main(node) | Self::DeadLetters(node) => node,
        }
    }
}

/// What a node does.
#[derive(Debug, Clone)]
pub enum NodeKind {
    /// Reads records.
    Source(Arc<ValidSource>),
    /// Filters and projects records.
    Sql(SqlTransform),
    /// Writes records.
    Sink(Arc<ValidSink>),
}

/// A bound SQL transform: `SELECT projection FROM input WHERE filter`.
#[derive(Debug, Clone)]
pub struct SqlTransform {
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
    /// Its nodes, each after its input. The first is a source, or reads from another vertex.
    pub nodes: Vec<NodeIndex>,
    /// The vertex that its first node reads from, over a forward edge (subtask i reads from
    /// subtask i, in the same worker); `None` if the first node is a source.
    pub input: Option<VertexId>,
}
