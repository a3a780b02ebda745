//! From nodes to vertices.

use millstream_types::VertexId;

use crate::graph::{Edge, Node, NodeIndex, Partitioning, Vertex};

/// Chains nodes into vertices: a node runs in the task of the one it reads from, unless it has
/// several inputs or another subtask may get a record. Without `chaining`, each node has a vertex of
/// its own.
///
/// All but the first node of a vertex have one input, so a vertex is a tree, and one task can walk
/// it.
pub(crate) fn chain(nodes: &[Node], edges: &[Edge], chaining: bool) -> Vec<Vertex> {
    let mut vertices: Vec<Vertex> = Vec::new();
    let mut vertex_of: Vec<usize> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let mut inputs = edges.iter().filter(|edge| edge.to == NodeIndex(index));
        let upstream = match (inputs.next(), inputs.next()) {
            (Some(edge), None) if chaining && edge.partitioning == Partitioning::Forward => {
                vertex_of.get(edge.from.node().0).copied()
            }
            _ => None,
        };
        let vertex = upstream.unwrap_or_else(|| {
            vertices.push(Vertex {
                id: VertexId(u32::try_from(vertices.len()).unwrap_or(u32::MAX)),
                nodes: Vec::new(),
                parallelism: node.parallelism,
            });
            vertices.len() - 1
        });
        if let Some(vertex) = vertices.get_mut(vertex) {
            vertex.nodes.push(NodeIndex(index));
        }
        vertex_of.push(vertex);
    }
    vertices
}
