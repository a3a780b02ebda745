//! The graph for Graphviz: `millstream explain job.yaml --dot | dot -Tsvg > job.svg`.

use super::describe;
use crate::graph::{JobGraph, Node, NodeIndex, NodeKind, Output, Partitioning, Vertex};

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
    for edge in &graph.edges {
        let mut words = Vec::new();
        if matches!(edge.from, Output::DeadLetters(_)) {
            words.push("dead letters".to_owned());
        }
        if edge.partitioning != Partitioning::Forward {
            words.push(describe::partitioning(graph, edge));
        }
        words.extend(describe::changes(graph, edge));
        let dashed = match edge.from {
            Output::DeadLetters(_) => ", style=dashed",
            Output::Main(_) => "",
        };
        let style = if words.is_empty() {
            String::new()
        } else {
            format!(" [label=\" {}\"{dashed}]", words.join(", "))
        };
        let (from, to) = (name(edge.from.node()), name(edge.to));
        lines.push(format!("  {from} -> {to}{style};"));
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
        let node = graph.node(*index)?;
        let label = label(graph, *index, node);
        Some(format!("    {} [label=<{label}>];", name(*index)))
    }));
    lines.push("  }".to_owned());
    lines
}

fn name(index: NodeIndex) -> String {
    format!("n{}", index.0)
}

/// The box of a node: an HTML table.
fn label(graph: &JobGraph, index: NodeIndex, node: &Node) -> String {
    let colour = match &node.kind {
        NodeKind::Source(_) => "#dcebfa",
        NodeKind::Sql(_) => "#f2f2f2",
        NodeKind::Aggregate(_) => "#fdf0d5",
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
    let columns = describe::shown_columns(graph, index, node);
    rows.extend(columns.iter().map(|column| {
        let cells = column
            .iter()
            .map(|cell| format!("<TD ALIGN=\"LEFT\">{}</TD>", escaped(cell)));
        format!("<TR>{}</TR>", cells.collect::<String>())
    }));
    rows.extend(describe::selects(graph, index, node).iter().map(|line| {
        let text = escaped(line);
        format!("<TR><TD COLSPAN=\"3\" ALIGN=\"LEFT\">{text}</TD></TR>")
    }));
    rows.extend(describe::state(node).map(|state| {
        let state = escaped(&state);
        format!("<TR><TD COLSPAN=\"3\" ALIGN=\"LEFT\"><I>keeps</I> {state}</TD></TR>")
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
