//! Graphs as people see them.

use millstream_plan::explain;

use crate::expected::expect;
use crate::jobs::{Job, job};

fn orders() -> Job {
    let columns = "order_id string!, customer_id string, quantity int64, price decimal(12,2), \
                   ts timestamp, note string";
    let extra = ", watermark: {column: ts, maxOutOfOrderness: 5s}, onError: DeadLetter";
    job()
        .source_with("orders", columns, extra)
        .transform(
            "valid",
            "orders",
            "SELECT * EXCLUDE (note) FROM orders WHERE quantity > 0 AND price > 0",
        )
        .transform(
            "enriched",
            "valid",
            "SELECT *, quantity * price AS total, upper(customer_id) AS customer FROM valid",
        )
        .kafka_sink("processed-orders", "enriched", "key: customer_id", "")
        .sink("audit", "valid")
        .sink("rejected", "orders.deadLetters")
}

/// The tree, but for the fingerprint, which knows more than it shows.
fn text(job: &Job) -> String {
    let valid = job.valid();
    let graph = millstream_plan::plan(&valid).unwrap();
    let text = explain::text(&valid, &graph);
    assert!(text.contains(&graph.fingerprint));
    text.replace(&graph.fingerprint, "(64 digits)")
}

#[test]
fn a_chained_job_is_one_tree() {
    expect("chained.txt", &text(&orders()));
}

/// With `operatorChaining: false`.
#[test]
fn without_chaining_every_node_is_a_vertex() {
    expect("unchained.txt", &text(&orders().unchained()));
}

#[test]
fn graphviz_gets_boxes_frames_and_edges() {
    expect("chained.dot", &explain::dot(&orders().graph()));
    expect(
        "unchained.dot",
        &explain::dot(&orders().unchained().graph()),
    );
}

#[test]
fn the_example_jobs_are_planned() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples");
    let mut planned = 0;
    for directory in std::fs::read_dir(examples).unwrap() {
        let file = directory.unwrap().path().join("streamjob.yaml");
        if let Ok(text) = std::fs::read_to_string(&file) {
            let job = millstream_spec::read(&text, &file.to_string_lossy()).unwrap();
            if let Err(error) = millstream_plan::plan(&job) {
                panic!("{}:\n{error}", file.display());
            }
            planned += 1;
        }
    }
    assert!(planned >= 2);
}
