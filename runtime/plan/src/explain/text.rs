//! The graph as a tree of text.

use millstream_spec::ValidJob;

use super::describe;
use crate::graph::{JobGraph, Node, NodeIndex, NodeInput, NodeKind, Vertex};

/// The graph as a tree: every vertex with its nodes, what they do, and the columns
/// they emit.
pub fn text(job: &ValidJob, graph: &JobGraph) -> String {
    let mut lines = vec![
        format!("job {}", job.id),
        format!("parallelism {}", job.parallelism),
        format!("fingerprint {}", graph.fingerprint),
    ];
    let subtasks = match job.parallelism {
        1 => "1 subtask".to_owned(),
        count => format!("{count} subtasks"),
    };
    for vertex in &graph.vertices {
        let input = vertex
            .input
            .map(|input| format!(", reads from vertex {input}"));
        let input = input.unwrap_or_default();
        lines.push(format!("\nvertex {}, {subtasks}{input}", vertex.id));
        if let Some(root) = vertex.nodes.first() {
            let tree = Tree { graph, vertex };
            tree.node(&mut lines, *root, "", "");
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

struct Tree<'a> {
    graph: &'a JobGraph,
    vertex: &'a Vertex,
}

impl Tree<'_> {
    /// Adds a node and all behind it. `first` begins its first line, `rest` all others.
    fn node(&self, lines: &mut Vec<String>, index: NodeIndex, first: &str, rest: &str) {
        let Some(node) = self.graph.nodes.get(index.0) else {
            return;
        };
        let readers: Vec<NodeIndex> = self.readers(index);
        let (uid, origin) = (&node.uid, origin(node));
        let summary = describe::summary(node).join(", ");
        lines.push(format!("{first}{uid}{origin}: {summary}"));
        let bar = if readers.is_empty() { " " } else { "│" };
        let details = details(node).into_iter();
        lines.extend(details.map(|line| format!("{rest}{bar}   {line}").trim_end().to_owned()));
        for (place, reader) in readers.iter().enumerate() {
            let (branch, below) = if place + 1 == readers.len() {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            let (first, rest) = (format!("{rest}{branch}"), format!("{rest}{below}"));
            self.node(lines, *reader, &first, &rest);
        }
    }

    /// The nodes of this vertex that read from a node.
    fn readers(&self, of: NodeIndex) -> Vec<NodeIndex> {
        let reads = |index: &&NodeIndex| {
            let node = self.graph.nodes.get(index.0);
            node.and_then(|node| node.input).map(NodeInput::node) == Some(of)
        };
        self.vertex.nodes.iter().filter(reads).copied().collect()
    }
}

fn origin(node: &Node) -> &'static str {
    match node.input {
        Some(NodeInput::DeadLetters(_)) => " (dead letters)",
        Some(NodeInput::Main(_)) | None => "",
    }
}

/// The condition, and the columns as a table where they are not those of the input.
fn details(node: &Node) -> Vec<String> {
    let columns = match (&node.kind, node.input) {
        // A sink is given what its input shows.
        (NodeKind::Sink(_), Some(NodeInput::Main(_))) => Vec::new(),
        _ => describe::columns(node),
    };
    let widest = |part: fn(&[String; 3]) -> &String| {
        columns
            .iter()
            .map(|column| part(column).chars().count())
            .max()
            .unwrap_or(0)
    };
    let names = widest(|[name, ..]| name);
    let types = widest(|[_, column_type, _]| column_type);
    let condition = describe::condition(node).map(|condition| format!("where {condition}"));
    let columns = columns.iter().map(|[name, column_type, computed]| {
        if computed.is_empty() {
            format!("{name:names$}  {column_type}")
        } else {
            format!("{name:names$}  {column_type:types$}  = {computed}")
        }
    });
    condition.into_iter().chain(columns).collect()
}
