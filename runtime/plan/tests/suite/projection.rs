//! Which columns are read, what a wildcard stands for, and what is chained and fingerprinted.

use millstream_plan::{Edge, JobGraph, NodeIndex, Output, Partitioning, Vertex};
use millstream_types::VertexId;

use crate::jobs::{Job, ORDERS, described, job, node, one};

fn columns(graph: &JobGraph, name: &str) -> String {
    described(&node(graph, name).schema)
}

#[test]
fn a_source_reads_only_what_anybody_uses() {
    let graph = job()
        .source("orders", ORDERS)
        .transform("big", "orders", "SELECT * FROM orders WHERE quantity > 10")
        .transform(
            "ids",
            "big",
            "SELECT order_id, price * 2 AS double FROM big",
        )
        .transform("prices", "ids", "SELECT double FROM ids")
        .sink("out", "prices")
        .graph();
    assert_eq!(
        columns(&graph, "orders"),
        "quantity int64, price decimal(12,2)"
    );
    assert_eq!(columns(&graph, "big"), "price decimal(12,2)");
    assert_eq!(columns(&graph, "ids"), "double decimal(14,2)");
    assert_eq!(columns(&graph, "out"), "double decimal(14,2)");
}

#[test]
fn a_sink_gets_every_column_of_its_input() {
    let graph = job().source("orders", ORDERS).sink("out", "orders").graph();
    assert_eq!(columns(&graph, "out"), columns(&graph, "orders"));
    assert_eq!(node(&graph, "out").schema.fields().len(), 11);
}

#[test]
fn two_readers_get_what_either_uses_and_the_watermark_its_column() {
    let graph = job()
        .source_with("orders", ORDERS, ", watermark: {column: ts}")
        .transform("a", "orders", "SELECT order_id FROM orders")
        .transform("b", "orders", "SELECT 1 AS one FROM orders WHERE paid")
        .sink("out-a", "a")
        .sink("out-b", "b")
        .graph();
    assert_eq!(
        columns(&graph, "orders"),
        "order_id string!, ts timestamp, paid boolean"
    );
}

#[test]
fn a_transform_of_constants_still_counts_records() {
    let graph = one("SELECT 1 AS one FROM orders").graph();
    assert_eq!(columns(&graph, "orders"), "order_id string!");
    assert_eq!(columns(&graph, "t"), "one int64!");
}

#[test]
fn wildcards_leave_out_and_replace() {
    let columns = |sql: &str| {
        let job = job().source("t", "a int64, b string!, c date");
        let graph = job.transform("x", "t", sql).sink("out", "x").graph();
        columns(&graph, "x")
    };
    assert_eq!(columns("SELECT * FROM t"), "a int64, b string!, c date");
    assert_eq!(columns("SELECT t.* FROM t"), "a int64, b string!, c date");
    assert_eq!(
        columns("SELECT y.*, 1 AS d FROM t AS y"),
        "a int64, b string!, c date, d int64!"
    );
    assert_eq!(columns("SELECT * EXCLUDE (a, c) FROM t"), "b string!");
    assert_eq!(columns("SELECT * EXCLUDE b FROM t"), "a int64, c date");
    assert_eq!(columns("SELECT * EXCEPT (b) FROM t"), "a int64, c date");
    assert_eq!(
        columns("SELECT * REPLACE (upper(b) AS b) FROM t"),
        "a int64, b string!, c date"
    );
    assert_eq!(
        columns("SELECT * EXCLUDE (a), b AS a FROM t"),
        "b string!, c date, a string!"
    );
}

#[test]
fn names_are_taken_as_written() {
    let columns = |sql: &str| {
        let job = job().source("t", "customerId int64, customerid string");
        let graph = job.transform("x", "t", sql).sink("out", "x").graph();
        columns(&graph, "x")
    };
    assert_eq!(columns("SELECT customerId FROM t"), "customerId int64");
    assert_eq!(
        columns("SELECT \"customerid\" AS Mixed FROM t"),
        "Mixed string"
    );
}

#[test]
fn words_of_sql_can_be_names_of_columns() {
    let words = [
        "value",
        "key",
        "date",
        "timestamp",
        "user",
        "offset",
        "partition",
        "day",
        "type",
        "name",
        "status",
        "count",
        "time",
        "text",
        "year",
        "language",
    ];
    let columns = words.map(|word| format!("{word} string")).join(", ");
    let sql = format!("SELECT {} FROM t WHERE key = 'x'", words.join(", "));
    let job = job().source("t", &columns).transform("x", "t", &sql);
    let graph = job.sink("out", "x").graph();
    assert_eq!(described(&node(&graph, "x").schema), columns);
}

fn forked() -> Job {
    job()
        .source("orders", "a int64")
        .source("payments", "b int64")
        .transform("valid", "orders", "SELECT a FROM orders WHERE a > 0")
        .sink("out", "valid")
        .sink("audit", "valid")
        .sink("paid", "payments")
}

fn vertex(id: u32, nodes: &[usize]) -> Vertex {
    Vertex {
        id: VertexId(id),
        nodes: nodes.iter().copied().map(NodeIndex).collect(),
        parallelism: None,
    }
}

#[test]
fn everything_behind_a_source_is_one_vertex() {
    let graph = forked().graph();
    let names: Vec<&str> = graph.nodes.iter().map(|node| node.uid.as_str()).collect();
    assert_eq!(
        names,
        ["orders", "payments", "valid", "out", "audit", "paid"]
    );
    assert_eq!(
        graph.vertices,
        [vertex(0, &[0, 2, 3, 4]), vertex(1, &[1, 5])]
    );
    let edges: Vec<&Edge> = graph.inputs(NodeIndex(4)).collect();
    assert_eq!(edges.len(), 1);
    assert_eq!(edges[0].from, Output::Main(NodeIndex(2)));
    assert_eq!(edges[0].partitioning, Partitioning::Forward);
    assert_eq!(graph.between_vertices().count(), 0);
}

#[test]
fn without_chaining_a_vertex_reads_from_the_vertex_of_its_input() {
    let graph = forked().unchained().graph();
    assert_eq!(
        graph.vertices,
        [
            vertex(0, &[0]),
            vertex(1, &[1]),
            vertex(2, &[2]),
            vertex(3, &[3]),
            vertex(4, &[4]),
            vertex(5, &[5]),
        ]
    );
}

#[test]
fn a_plan_is_the_same_every_time() {
    let sql = "SELECT CASE WHEN quantity IN (1, 2, 3, 4, 5, 6, 7, 8) THEN 'few' ELSE 'many' END AS \
               x, regexp_replace(order_id, '[0-9]', '') AS y FROM orders WHERE customer_id IN \
               ('a', 'b', 'c', 'd', 'e')";
    let fingerprint = one(sql).graph().fingerprint;
    assert_eq!(fingerprint.len(), 64);
    for _ in 0..10 {
        assert_eq!(one(sql).graph().fingerprint, fingerprint);
    }
}

#[test]
fn the_fingerprint_knows_what_processes_must_agree_on() {
    let base = one("SELECT quantity FROM orders");
    let fingerprint = |job: &Job| job.graph().fingerprint;
    let other_sql = one("SELECT quantity FROM orders WHERE quantity > 1");
    let renamed = one("SELECT quantity AS q FROM orders");
    let mut fingerprints = vec![
        fingerprint(&base),
        fingerprint(&other_sql),
        fingerprint(&renamed),
        fingerprint(&base.clone().unchained()),
        fingerprint(&base.clone().sink("more", "t")),
    ];
    fingerprints.sort_unstable();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 5);
}

#[test]
fn a_rescaled_job_keeps_its_fingerprint() {
    let job = one("SELECT quantity FROM orders");
    let mut rescaled = job.valid();
    rescaled.parallelism += 3;
    let rescaled = millstream_plan::plan(&rescaled).unwrap();
    assert_eq!(rescaled.fingerprint, job.graph().fingerprint);
}
