//! The graph as a tree of text.

use millstream_spec::ValidJob;

use super::describe;
use crate::graph::{JobGraph, Node, NodeIndex, Vertex};

/// The graph as a tree: every vertex with its nodes, what they do, and the columns
/// they emit.
pub fn text(job: &ValidJob, graph: &JobGraph) -> String {
    let mut lines = vec![
        format!("job {}", job.id),
        format!("parallelism {}", job.parallelism),
        format!("fingerprint {}", graph.fingerprint),
    ];
    for vertex in &graph.vertices {
        let subtasks = match vertex.parallelism.unwrap_or(job.parallelism) {
            1 => "1 subtask".to_owned(),
            count => format!("{count} subtasks"),
        };
        lines.push(format!("\nvertex {}, {subtasks}", vertex.id));
        let inputs = graph
            .between_vertices()
            .filter(|(.., to)| to.id == vertex.id);
        lines.extend(inputs.map(|(_, edge, from, _)| {
            let output = describe::output(graph, edge.from);
            let partitioning = describe::partitioning(graph, edge);
            let changes = describe::changes(graph, edge);
            let changes = changes.unwrap_or_else(|| "append".to_owned());
            format!(
                "reads {output} of vertex {}, {partitioning}, {changes}",
                from.id
            )
        }));
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
        let Some(node) = self.graph.node(index) else {
            return;
        };
        let readers: Vec<NodeIndex> = self.readers(index);
        let (uid, origin) = (&node.uid, origin(self.graph, index));
        let summary = describe::summary(node).join(", ");
        let changes = self
            .changes(index)
            .map(|changes| format!(", given {changes}"));
        let changes = changes.unwrap_or_default();
        lines.push(format!("{first}{uid}{origin}: {summary}{changes}"));
        let bar = if readers.is_empty() { " " } else { "│" };
        let details = details(self.graph, index, node).into_iter();
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

    /// Which changes a node gets from another one of this vertex.
    fn changes(&self, of: NodeIndex) -> Option<String> {
        if self.vertex.nodes.first() == Some(&of) {
            return None;
        }
        let mut inputs = self.graph.inputs(of);
        inputs.find_map(|edge| describe::changes(self.graph, edge))
    }

    /// The nodes of this vertex that read from a node of it.
    fn readers(&self, of: NodeIndex) -> Vec<NodeIndex> {
        let edges = self.graph.edges.iter();
        let edges = edges.filter(|edge| edge.from.node() == of);
        let is_first = |node: &NodeIndex| self.vertex.nodes.first() == Some(node);
        edges
            .map(|edge| edge.to)
            .filter(|node| self.vertex.nodes.contains(node) && !is_first(node))
            .collect()
    }
}

fn origin(graph: &JobGraph, node: NodeIndex) -> &'static str {
    if describe::reads_dead_letters(graph, node) {
        " (dead letters)"
    } else {
        ""
    }
}

/// The columns as a table where they are not those of the input, and what each SELECT does.
fn details(graph: &JobGraph, index: NodeIndex, node: &Node) -> Vec<String> {
    let columns = describe::shown_columns(graph, index, node);
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
    let selects = describe::selects(graph, index, node).into_iter();
    let state = describe::state(node).map(|state| format!("keeps {state}"));
    condition
        .into_iter()
        .chain(columns)
        .chain(selects)
        .chain(state)
        .collect()
}
