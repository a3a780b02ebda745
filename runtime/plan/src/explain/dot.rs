//! The graph for Graphviz: `millstream explain job.yaml --dot | dot -Tsvg > job.svg`.

use std::fmt::Write as _;

use super::describe;
use crate::graph::{JobGraph, Node, NodeIndex, NodeInput, NodeKind};

/// The graph in the language of Graphviz: a box per node with its columns, a frame per vertex.
pub fn dot(graph: &JobGraph) -> String {
    let mut text = "digraph job {\n  rankdir=TB;\n  node [shape=plain, fontname=\"Helvetica\", \
                    fontsize=11];\n  edge [color=\"#555555\", fontname=\"Helvetica\", \
                    fontsize=10];\n"
        .to_owned();
    for vertex in &graph.vertices {
        let id = vertex.id;
        let _ = writeln!(
            text,
            "  subgraph cluster_{id} {{\n    label=\"vertex {id}\";\n    \
             fontname=\"Helvetica\";\n    fontsize=10;\n    color=\"#bbbbbb\";\n    style=rounded;"
        );
        for index in &vertex.nodes {
            if let Some(node) = graph.nodes.get(index.0) {
                let _ = writeln!(text, "    {} [label=<{}>];", name(*index), label(node));
            }
        }
        text.push_str("  }\n");
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        let (from, style) = match node.input {
            Some(NodeInput::Main(from)) => (from, ""),
            Some(NodeInput::DeadLetters(from)) => {
                (from, " [label=\" dead letters\", style=dashed]")
            }
            None => continue,
        };
        let _ = writeln!(
            text,
            "  {} -> {}{style};",
            name(from),
            name(NodeIndex(index))
        );
    }
    text.push_str("}\n");
    text
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
