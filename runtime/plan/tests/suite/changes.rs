//! Which changes every edge carries, and who takes them.

use millstream_plan::JobGraph;
use millstream_types::change::{CHANGE_COLUMN, Changelog};

use crate::jobs::{Job, ORDERS, job, node};

const PER_CUSTOMER: &str =
    "SELECT customer_id, count(*) AS n, sum(price) AS total FROM orders GROUP BY customer_id";

/// A job with the running aggregate `t` over [`ORDERS`].
fn grouped(sql: &str) -> Job {
    job().source("orders", ORDERS).transform("t", "orders", sql)
}

fn changelog(graph: &JobGraph, name: &str) -> Changelog {
    let node = node(graph, name);
    let has_column = node.schema.index_of(CHANGE_COLUMN).is_ok();
    assert_eq!(has_column, node.changelog.updates(), "{name}");
    node.changelog
}

#[test]
fn rows_before_updates_are_left_out_where_nobody_needs_them() {
    let upserts = |job: Job| {
        let graph = job.graph();
        let all = ["t/aggregate", "t", "out"].map(|name| changelog(&graph, name));
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
        all[0] == Changelog::Upsert
    };
    let t = || grouped(PER_CUSTOMER);
    assert!(upserts(t().sink("out", "t")));
    assert!(upserts(t().kafka_sink("out", "t", "key: customer_id", "")));
    assert!(upserts(
        t().transform(
            "u",
            "t",
            "SELECT total * 2 AS twice, customer_id AS c FROM t"
        )
        .kafka_sink("out", "u", "key: c", "")
    ));
    // The key is gone.
    assert!(!upserts(
        t().transform("u", "t", "SELECT n FROM t").sink("out", "u")
    ));
    // A filter lets go of rows.
    assert!(!upserts(
        t().transform("u", "t", "SELECT * FROM t WHERE n > 1")
            .sink("out", "u")
    ));
    assert!(!upserts(
        grouped(&format!("{PER_CUSTOMER} HAVING count(*) > 1")).sink("out", "t")
    ));
    // An aggregate takes rows back.
    assert!(!upserts(
        t().transform("u", "t", "SELECT max(n) AS most FROM t")
            .sink("rest", "u")
            .sink("out", "t")
    ));
    assert!(!upserts(
        t().transform_with(
            "u",
            "t, orders",
            "SELECT customer_id FROM t UNION ALL SELECT customer_id FROM orders",
            ""
        )
        .sink("rest", "u")
        .sink("out", "t")
    ));
}

#[test]
fn an_aggregate_over_updates_takes_rows_back() {
    let graph = grouped(PER_CUSTOMER)
        .transform(
            "u",
            "t",
            "SELECT n, count(*) AS customers FROM t GROUP BY n",
        )
        .sink("out", "u")
        .graph();
    assert_eq!(changelog(&graph, "t"), Changelog::Retract);
    assert_eq!(changelog(&graph, "u/input"), Changelog::Retract);
    assert_eq!(changelog(&graph, "u"), Changelog::Upsert);
    assert!(
        graph
            .nodes
            .iter()
            .all(|node| node.uid.as_str() != "u/partial")
    );
    let millstream_plan::NodeKind::Aggregate(aggregation) = &node(&graph, "u/aggregate").kind
    else {
        panic!("it aggregates")
    };
    assert_eq!(aggregation.input, Changelog::Retract);
    assert!(aggregation.state.ends_with("over updates"));
    let distinct = grouped(PER_CUSTOMER)
        .transform("u", "t", "SELECT DISTINCT n FROM t")
        .sink("out", "u")
        .graph();
    assert_eq!(changelog(&distinct, "u"), Changelog::Upsert);
}

#[test]
fn a_union_with_updates_updates() {
    let graph = grouped(PER_CUSTOMER)
        .transform_with(
            "u",
            "t, orders",
            "SELECT customer_id, n FROM t UNION ALL SELECT customer_id, quantity FROM orders",
            "",
        )
        .sink("out", "u")
        .graph();
    assert_eq!(changelog(&graph, "u"), Changelog::Retract);
    let edges: Vec<Changelog> = graph.edges.iter().map(|edge| edge.changelog).collect();
    assert!(edges.contains(&Changelog::Append) && edges.contains(&Changelog::Retract));
}

fn refusal(job: &Job) -> String {
    let text = job.refusal();
    assert!(text.contains("\n  = "), "it says what to do: {text}");
    text
}

#[test]
fn sinks_that_cannot_take_updates_are_refused_with_who_makes_them() {
    let keyless = refusal(&grouped(PER_CUSTOMER).kafka_sink("out", "t", "", ""));
    assert_eq!(
        keyless,
        "spec.dataflow.sinks[0].kafka: `t` updates its rows as records come (its SQL groups them), but \
         a topic without `key` only appends\n  = write updates to a Kafka topic with `key: \
         customer_id`, where the newest row of a key counts"
    );
    let random = "key: customer_id, partitioner: Random";
    let random = refusal(&grouped(PER_CUSTOMER).kafka_sink("out", "t", random, ""));
    assert!(
        random.contains("sinks[0].kafka.partitioner: `t` updates its rows, and a partition"),
        "{random}"
    );
    let other = refusal(&grouped(PER_CUSTOMER).kafka_sink("out", "t", "key: total", ""));
    assert!(
        other.contains(
            "the topic's key is `total`, but `t` updates its rows, and `customer_id` tells them apart"
        ),
        "{other}"
    );
    assert!(other.contains("= write `key: customer_id`\n"), "{other}");
    let two = "SELECT customer_id, order_id, count(*) AS n FROM orders GROUP BY 1, 2";
    let part = refusal(&grouped(two).kafka_sink("out", "t", "key: customer_id", ""));
    assert!(
        part.ends_with("= write `keyFields: [customer_id, order_id]`"),
        "{part}"
    );
    assert!(
        grouped(two)
            .kafka_sink("out", "t", "keyFields: [order_id, customer_id]", "")
            .plan()
            .is_ok()
    );
    let lost = grouped(PER_CUSTOMER)
        .transform("u", "t", "SELECT upper(customer_id) AS c, n FROM t")
        .kafka_sink("out", "u", "key: c", "");
    assert!(refusal(&lost).contains("no columns tell the rows that `t` updates apart"));
    let single = refusal(&grouped("SELECT count(*) AS count FROM orders").kafka_sink(
        "out",
        "t",
        "key: count",
        "",
    ));
    assert!(single.contains("there is only one row"), "{single}");
    let constant = "SELECT 'all' AS k, count(*) AS n FROM orders GROUP BY k";
    assert!(
        grouped(constant)
            .kafka_sink("out", "t", "key: k", "")
            .plan()
            .is_ok()
    );
}

#[test]
fn files_take_no_updates() {
    let text = grouped(PER_CUSTOMER)
        .transform("u", "t", "SELECT * FROM t")
        .sink("out", "u")
        .yaml()
        .replace("blackhole: {}", "files: {path: /out}");
    let job = millstream_spec::read(&text, "test").unwrap();
    let message = millstream_plan::plan(&job).unwrap_err().to_string();
    assert!(
        message.starts_with("spec.dataflow.sinks[0].input: `t` updates its rows as records come")
            && message.contains("a sink of files only appends"),
        "{message}"
    );
}

#[test]
fn distinct_rows_and_first_ones_go_anywhere() {
    for sql in [
        "SELECT DISTINCT customer_id, quantity FROM orders",
        "SELECT DISTINCT ON (customer_id) quantity FROM orders",
        "SELECT first_value(quantity) AS q FROM orders GROUP BY customer_id",
    ] {
        let job = grouped(sql);
        assert!(job.clone().kafka_sink("out", "t", "", "").plan().is_ok());
        let graph = job.sink("out", "t").graph();
        assert_eq!(changelog(&graph, "t"), Changelog::Append, "{sql}");
    }
    for sql in [
        "SELECT last_value(quantity) AS q FROM orders GROUP BY customer_id",
        "SELECT first_value(quantity) FILTER (WHERE paid) AS q FROM orders GROUP BY customer_id",
    ] {
        let graph = grouped(sql).sink("out", "t").graph();
        assert_eq!(changelog(&graph, "t"), Changelog::Retract, "{sql}");
    }
}

#[test]
fn updates_are_partitioned_by_their_key_only() {
    let two = "SELECT customer_id, order_id, count(*) AS n FROM orders GROUP BY 1, 2";
    let by = |columns: &str| {
        let more = format!(", partitionBy: [{columns}]");
        grouped(two).sink_with("out", "t", &more)
    };
    assert!(by("order_id").plan().is_ok());
    assert!(by("customer_id, order_id").plan().is_ok());
    let text = refusal(&by("order_id, \"n\""));
    assert!(
        text.contains("partitioned by `n`") && text.contains("overtake each other"),
        "{text}"
    );
    let spread = grouped(two)
        .transform_with("u", "t", "SELECT n FROM t", ", parallelism: 3")
        .sink_with("out", "u", ", parallelism: 3");
    assert!(spread.plan().is_ok(), "by the key, which `t` has");
    let lost = grouped(two)
        .transform("u", "t", "SELECT n FROM t")
        .sink_with("out", "u", ", parallelism: 3");
    assert!(refusal(&lost).contains("dealt out to another number of subtasks"));
}

#[test]
fn streams_that_update_are_not_mixed_in_a_sink() {
    let mixed = grouped("SELECT order_id, count(*) AS n FROM orders GROUP BY 1")
        .transform("u", "orders", "SELECT order_id, quantity AS n FROM orders")
        .sink("out", "t, u");
    assert!(refusal(&mixed).contains("has other inputs beside it"));
}

#[test]
fn which_row_came_first_means_nothing_where_rows_are_replaced() {
    let job = grouped(PER_CUSTOMER)
        .transform("u", "t", "SELECT first_value(n) AS n FROM t")
        .sink("out", "u");
    let text = refusal(&job);
    assert!(
        text.contains("`first_value` depends on the order of rows, and `t` updates its rows"),
        "{text}"
    );
    let job = grouped(PER_CUSTOMER)
        .transform("u", "t", "SELECT DISTINCT ON (n) n, customer_id FROM t")
        .sink("out", "u");
    let text = refusal(&job);
    assert!(
        text.contains("`DISTINCT ON` depends on the order of rows, and `t` updates its rows"),
        "{text}"
    );
}

#[test]
fn a_transform_without_groups_keeps_no_state() {
    let job = job()
        .source("orders", ORDERS)
        .transform_with(
            "t",
            "orders",
            "SELECT order_id FROM orders",
            ", stateTtl: 1h",
        )
        .sink("out", "t");
    assert!(refusal(&job).starts_with("transform `t`, stateTtl: it keeps no state"));
}

/// What is wrong with a sink of PostgreSQL, with these keys and other keys of its node.
fn of_postgres(job: Job, keys: &str, more: &str) -> String {
    let sink =
        format!("postgres: {{servers: db, database: d, table: t, username: u, {keys}}}{more}");
    let text = job.yaml().replace("blackhole: {}", &sink);
    let job = millstream_spec::read(&text, "test").unwrap();
    match millstream_plan::plan(&job) {
        Ok(_) => String::new(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn tables_take_updates_by_the_streams_key_and_new_rows_in_order_or_with_a_version() {
    let totals = || grouped(PER_CUSTOMER).sink("out", "t");
    let upsert = "mode: Upsert, keyFields: [customer_id]";
    assert_eq!(of_postgres(totals(), upsert, ""), "");
    let refused = of_postgres(totals(), "mode: TwoPhaseCommit", "");
    assert!(
        refused.contains("postgres.mode: `t` updates its rows"),
        "{refused}"
    );
    let refused = of_postgres(totals(), "mode: Upsert, keyFields: [total]", "");
    assert!(
        refused.contains("= write `keyFields: [customer_id]`"),
        "{refused}"
    );
    // New rows of one key come from several subtasks.
    let orders = || grouped(PER_CUSTOMER).sink("o", "t").sink("out", "orders");
    let orders = |keys: &str, more: &str| {
        let text = orders().yaml().replacen("blackhole: {}", "print: {}", 1);
        let sink =
            format!("postgres: {{servers: db, database: d, table: t, username: u, {keys}}}{more}");
        let job = millstream_spec::read(&text.replace("blackhole: {}", &sink), "test").unwrap();
        millstream_plan::plan(&job)
            .err()
            .map_or_else(String::new, |error| error.to_string())
    };
    let refused = orders(upsert, "");
    assert!(
        refused.contains("= write `partitionBy: [customer_id]`"),
        "{refused}"
    );
    assert_eq!(orders(upsert, ", partitionBy: [customer_id]"), "");
    assert_eq!(orders(&format!("{upsert}, versionField: ts"), ""), "");
    let refused = orders(&format!("{upsert}, versionField: price"), "");
    assert!(
        refused.contains("a version is of type int64, int32, timestamp or date"),
        "{refused}"
    );
    assert_eq!(orders("mode: Buffered", ""), "");
}
