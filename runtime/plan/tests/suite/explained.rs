//! Graphs as people see them, against committed files. `UPDATE_EXPECT=1` writes them anew.

use std::path::PathBuf;

use millstream_plan::explain;

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
        .kafka_sink("processed-orders", "enriched", "customer_id")
        .sink("audit", "valid")
        .sink("rejected", "orders.deadLetters")
}

fn expect(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/expected")
        .join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        actual,
        expected,
        "{} is not current: UPDATE_EXPECT=1 writes it",
        path.display()
    );
}

fn text(job: &Job) -> String {
    let valid = job.valid();
    explain::text(&valid, &millstream_plan::plan(&valid).unwrap())
}

#[test]
fn a_chained_job_is_one_tree() {
    expect("chained.txt", &text(&orders()));
}

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
