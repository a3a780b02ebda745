//! Nodes with several inputs, and which subtask gets a record.

use std::fmt::Write as _;

use millstream_plan::{JobGraph, NodeKind, Output, Partitioning, explain};
use millstream_types::VertexId;

use crate::expected::expect;
use crate::jobs::{Job, described, job, node};

fn two() -> Job {
    job()
        .source("web", "id string!, amount int32!, customer string")
        .source(
            "shop",
            "sale string, total int64, client string, note string",
        )
}

const UNION: &str = "SELECT id, amount, customer FROM web WHERE amount > 0 UNION ALL \
                     SELECT sale, total * 2, client FROM shop";

fn union(sql: &str) -> Job {
    two().transform("all", "web, shop", sql).sink("out", "all")
}

/// Every edge as `from -> to: partitioning`.
fn edges(graph: &JobGraph) -> Vec<String> {
    let edges = graph.edges.iter().map(|edge| {
        let from = &graph.node(edge.from.node()).unwrap().uid;
        let to = &graph.node(edge.to).unwrap().uid;
        let from = match edge.from {
            Output::Main(_) => from.to_string(),
            Output::DeadLetters(_) => format!("{from}.deadLetters"),
        };
        format!("{from} -> {to}: {:?}", edge.partitioning)
    });
    edges.collect()
}

#[test]
fn columns_of_a_union_have_the_names_of_the_first_select_and_a_common_type() {
    let graph = union(UNION).graph();
    let all = node(&graph, "all");
    assert_eq!(
        described(&all.schema),
        "id string, amount int64, customer string"
    );
    let NodeKind::Sql(sql) = &all.kind else {
        panic!("`all` is a transform")
    };
    let inputs: Vec<usize> = sql.selects.iter().map(|select| select.input).collect();
    assert_eq!(inputs, [0, 1]);
    assert_eq!(
        edges(&graph),
        [
            "web -> all: Forward",
            "shop -> all: Forward",
            "all -> out: Forward"
        ]
    );
}

#[test]
fn a_node_with_several_inputs_begins_a_vertex() {
    let graph = union(UNION).graph();
    let vertices: Vec<Vec<&str>> = graph
        .vertices
        .iter()
        .map(|vertex| {
            let nodes = vertex.nodes.iter().map(|it| graph.node(*it).unwrap());
            nodes.map(|node| node.uid.as_str()).collect()
        })
        .collect();
    assert_eq!(vertices, [vec!["web"], vec!["shop"], vec!["all", "out"]]);
    let between: Vec<(VertexId, VertexId)> = graph
        .between_vertices()
        .map(|(_, _, from, to)| (from.id, to.id))
        .collect();
    assert_eq!(
        between,
        [(VertexId(0), VertexId(2)), (VertexId(1), VertexId(2))]
    );
}

#[test]
fn a_select_may_read_an_input_that_another_one_reads_too() {
    let sql = "SELECT id FROM web WHERE amount > 1 UNION ALL SELECT id FROM web UNION ALL \
               SELECT sale FROM shop";
    let graph = union(sql).graph();
    assert_eq!(graph.inputs(millstream_plan::NodeIndex(2)).count(), 2);
    let NodeKind::Sql(sql) = &node(&graph, "all").kind else {
        panic!("`all` is a transform")
    };
    let inputs: Vec<usize> = sql.selects.iter().map(|select| select.input).collect();
    assert_eq!(inputs, [0, 0, 1]);
}

#[test]
fn unused_columns_are_left_out_of_every_select() {
    let graph = two()
        .transform("all", "web, shop", UNION)
        .transform("few", "all", "SELECT customer FROM all")
        .sink("out", "few")
        .graph();
    assert_eq!(described(&node(&graph, "all").schema), "customer string");
    assert_eq!(
        described(&node(&graph, "web").schema),
        "amount int32!, customer string"
    );
    assert_eq!(described(&node(&graph, "shop").schema), "client string");
}

#[test]
fn columns_that_records_are_partitioned_by_are_not_left_out() {
    let graph = two()
        .transform_with(
            "few",
            "web",
            "SELECT id FROM web",
            ", partitionBy: [customer]",
        )
        .sink("out", "few")
        .sink("rest", "shop")
        .graph();
    assert_eq!(
        described(&node(&graph, "web").schema),
        "id string!, customer string"
    );
    assert_eq!(graph.edges[0].partitioning, Partitioning::Hash(vec![1]));
}

#[test]
fn another_parallelism_is_rebalanced_and_partitioned_records_are_hashed() {
    let graph = two()
        .transform_with("wide", "web", "SELECT * FROM web", ", parallelism: 4")
        .transform_with(
            "keyed",
            "wide",
            "SELECT id FROM wide",
            ", parallelism: 4, partitionBy: [customer, id]",
        )
        .sink_with("out", "keyed", ", parallelism: 4")
        .sink("rest", "shop")
        .graph();
    assert_eq!(
        edges(&graph),
        [
            "web -> wide: Rebalance",
            "wide -> keyed: Hash([1, 0])",
            "keyed -> out: Forward",
            "shop -> rest: Forward"
        ]
    );
    let vertices: Vec<(usize, Option<u32>)> = graph
        .vertices
        .iter()
        .map(|vertex| (vertex.nodes.len(), vertex.parallelism))
        .collect();
    let expected = [(1, None), (2, None), (1, Some(4)), (2, Some(4))];
    assert_eq!(vertices, expected);
}

#[test]
fn a_sink_takes_inputs_of_the_same_columns() {
    let job = two()
        .transform("a", "web", "SELECT id, customer FROM web")
        .transform(
            "b",
            "shop",
            "SELECT sale AS id, client AS customer FROM shop",
        )
        .sink("out", "a, b");
    let graph = job.graph();
    assert_eq!(
        described(&node(&graph, "out").schema),
        "id string, customer string",
        "one that may be null in any input may be null"
    );
}

#[test]
fn faults_of_inputs_say_where_and_what_to_do() {
    let sqls = [
        "SELECT id FROM web",
        "SELECT id, amount FROM web UNION ALL SELECT sale FROM shop",
        "SELECT id FROM web UNION ALL SELECT total FROM shop",
        "SELECT id FROM web UNION ALL SELECT prise FROM shop",
        "SELECT id FROM web UNION SELECT sale FROM shop",
        "SELECT id FROM web INTERSECT SELECT sale FROM shop",
        "SELECT id FROM web UNION ALL (SELECT sale FROM shop)",
        "SELECT id FROM web UNION ALL SELECT sale FROM shoop",
        "SELECT id FROM web, shop",
        "SELECT amount * 2 FROM web UNION ALL SELECT total FROM shop",
        "SELECT id FROM web UNION ALL SELECT sale FROM shop ORDER BY 1",
        "SELECT NULL AS x FROM web UNION ALL SELECT NULL FROM shop",
    ];
    let mut all = String::new();
    for sql in sqls {
        let refusal = union(sql).refusal();
        writeln!(all, "{sql}\n\n{refusal}\n\n---").unwrap();
    }
    let jobs = [
        two()
            .transform_with(
                "few",
                "web",
                "SELECT id FROM web",
                ", partitionBy: [custmer]",
            )
            .sink("out", "few")
            .sink("rest", "shop"),
        two()
            .sink_with("out", "web", ", partitionBy: [customer, day]")
            .sink("rest", "shop"),
        two().sink("out", "web, shop"),
        job()
            .source("a", "k int32")
            .source("b", "k int64")
            .transform_with(
                "all",
                "a, b",
                "SELECT k FROM a UNION ALL SELECT k FROM b",
                ", partitionBy: [k]",
            )
            .sink("out", "all"),
    ];
    for job in jobs {
        writeln!(all, "{}\n---", job.refusal()).unwrap();
    }
    expect("inputs.txt", &all);
}

#[test]
fn edges_are_explained() {
    let job = two()
        .transform("all", "web, shop", UNION)
        .transform_with(
            "keyed",
            "all",
            "SELECT * FROM all",
            ", parallelism: 4, partitionBy: [customer]",
        )
        .sink_with("out", "keyed", ", parallelism: 1");
    let valid = job.valid();
    let graph = millstream_plan::plan(&valid).unwrap();
    let text = explain::text(&valid, &graph);
    let text = text.replace(&graph.fingerprint, "(64 digits)");
    expect("edges.txt", &text);
    expect("edges.dot", &explain::dot(&graph));
}
