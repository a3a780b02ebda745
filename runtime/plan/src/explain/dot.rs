//! The graph for Graphviz: `millstream explain job.yaml --dot | dot -Tsvg > job.svg`.

use super::describe;
use crate::graph::{JobGraph, Node, NodeIndex, NodeInput, NodeKind, Vertex};

/// The graph in the language of Graphviz: a box per node with its columns, a frame per vertex.
pub fn dot(graph: &JobGraph) -> String {
    let mut lines = vec![
        "digraph job {".to_owned(),
        "  rankdir=TB;".to_owned(),
        "  node [shape=plain, fontname=\"Helvetica\", fontsize=11];".to_owned(),
        "  edge [color=\"#555555\", fontname=\"Helvetica\", fontsize=10];".to_owned(),
    ];
    for vertex in &graph.vertices {
        lines.extend(frame(graph, vertex));
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let (from, style) = match node.input {
            Some(NodeInput::Main(from)) => (from, ""),
            Some(NodeInput::DeadLetters(from)) => {
                (from, " [label=\" dead letters\", style=dashed]")
            }
            None => continue,
        };
        lines.push(format!(
            "  {} -> {}{style};",
            name(from),
            name(NodeIndex(index))
        ));
    }
    lines.push("}\n".to_owned());
    lines.join("\n")
}

/// A vertex with its nodes.
fn frame(graph: &JobGraph, vertex: &Vertex) -> Vec<String> {
    let id = vertex.id;
    let mut lines = vec![
        format!("  subgraph cluster_{id} {{"),
        format!("    label=\"vertex {id}\";"),
        "    fontname=\"Helvetica\";".to_owned(),
        "    fontsize=10;".to_owned(),
        "    color=\"#bbbbbb\";".to_owned(),
        "    style=rounded;".to_owned(),
    ];
    lines.extend(vertex.nodes.iter().filter_map(|index| {
        let node = graph.nodes.get(index.0)?;
        Some(format!("    {} [label=<{}>];", name(*index), label(node)))
    }));
    lines.push("  }".to_owned());
    lines
}

fn name(index: NodeIndex) -> String {
    format!("n{}", index.0)
}

/// The box of a node: an HTML table.
fn label(node: &Node) -> String {
    let colour = match &node.kind {
        NodeKind::Source(_) => "#dcebfa",
        NodeKind::Sql(_) => "#f2f2f2",
        NodeKind::Sink(_) => "#e2f3e0",
    };
    let mut rows = vec![
        head(colour, &format!("<B>{}</B>", escaped(node.uid.as_str()))),
        head(
            colour,
            &describe::summary(node)
                .iter()
                .map(|part| escaped(part))
                .collect::<Vec<_>>()
                .join("<BR/>"),
        ),
    ];
    rows.extend(describe::condition(node).map(|condition| {
        format!(
            "<TR><TD COLSPAN=\"3\" ALIGN=\"LEFT\"><I>where</I> {}</TD></TR>",
            escaped(&condition)
        )
    }));
    let columns = match (&node.kind, node.input) {
        // A sink is given what its input shows.
        (NodeKind::Sink(_), Some(NodeInput::Main(_))) => Vec::new(),
        _ => describe::columns(node),
    };
    rows.extend(columns.iter().map(|column| {
        let cells = column
            .iter()
            .map(|cell| format!("<TD ALIGN=\"LEFT\">{}</TD>", escaped(cell)));
        format!("<TR>{}</TR>", cells.collect::<String>())
    }));
    format!(
        "<TABLE BORDER=\"1\" COLOR=\"#888888\" CELLBORDER=\"0\" CELLSPACING=\"0\" CELLPADDING=\"3\">{}</TABLE>",
        rows.concat()
    )
}

fn head(colour: &str, content: &str) -> String {
    format!("<TR><TD COLSPAN=\"3\" BGCOLOR=\"{colour}\">{content}</TD></TR>")
}

/// Text inside an HTML label.
fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
        escaped
    })
}
