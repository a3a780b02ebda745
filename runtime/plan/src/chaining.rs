//! From nodes to vertices.

use millstream_types::VertexId;

use crate::graph::{Node, NodeIndex, Vertex};

/// Chains nodes into vertices: all nodes behind one source in one vertex, or, without
/// `chaining`, each node in its own.
///
/// Every node has one input, so what lies behind a source is a tree, and one task can walk it.
pub(crate) fn chain(nodes: &[Node], chaining: bool) -> Vec<Vertex> {
    let mut vertices: Vec<Vertex> = Vec::new();
    let mut vertex_of: Vec<usize> = Vec::with_capacity(nodes.len());
    for (index, node) in nodes.iter().enumerate() {
        let upstream = node
            .input
            .and_then(|input| vertex_of.get(input.node().0).copied());
        let vertex = match upstream {
            Some(vertex) if chaining => vertex,
            _ => {
                let id = VertexId(u32::try_from(vertices.len()).unwrap_or(u32::MAX));
                vertices.push(Vertex {
                    id,
                    nodes: Vec::new(),
                    input: upstream
                        .and_then(|vertex| vertices.get(vertex))
                        .map(|v| v.id),
                });
                vertices.len() - 1
            }
        };
        if let Some(vertex) = vertices.get_mut(vertex) {
            vertex.nodes.push(NodeIndex(index));
        }
        vertex_of.push(vertex);
    }
    vertices
}
