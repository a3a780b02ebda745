//! GROUP BY, DISTINCT and aggregates as nodes.

use std::sync::Arc;

use millstream_plan::{JobGraph, NodeKind, Partitioning, explain};
use millstream_types::aggregate::{AggregateFunction, AggregateStage, Aggregation};
use millstream_types::change::{CHANGE_COLUMN, Changelog};

use crate::expected::expect;
use crate::jobs::{Job, described, job, node, one};

fn aggregation<'g>(graph: &'g JobGraph, name: &str) -> &'g Aggregation {
    match &node(graph, name).kind {
        NodeKind::Aggregate(aggregation) => aggregation,
        other => panic!("`{name}` is {other:?}"),
    }
}

/// The columns of a node but for that of changes, which must be the last one if there is one.
fn columns(graph: &JobGraph, name: &str) -> String {
    let schema = &node(graph, name).schema;
    let end = schema
        .index_of(CHANGE_COLUMN)
        .unwrap_or(schema.fields().len());
    assert!(end + 1 >= schema.fields().len(), "{schema:?}");
    let own: Vec<usize> = (0..end).collect();
    described(&Arc::new(schema.project(&own).unwrap()))
}

fn uids(graph: &JobGraph) -> Vec<&str> {
    graph.nodes.iter().map(|node| node.uid.as_str()).collect()
}

#[test]
fn a_running_aggregate_is_four_nodes_with_names_that_stay() {
    let graph = one(
        "SELECT customer_id AS customer, count(*) AS n, sum(price) AS total FROM orders \
         WHERE quantity > 0 GROUP BY customer_id",
    )
    .graph();
    assert_eq!(
        uids(&graph),
        ["orders", "t/input", "t/partial", "t/aggregate", "t", "out"]
    );
    assert_eq!(
        columns(&graph, "t/input"),
        "customer_id string, price decimal(12,2)"
    );
    assert_eq!(
        columns(&graph, "t/partial"),
        "customer_id string, count(*) int64!, sum(price): sum decimal(38,2)!, sum(price): count int64!"
    );
    assert_eq!(
        columns(&graph, "t/aggregate"),
        "customer_id string, count(*) int64!, sum(price) decimal(38,2)"
    );
    assert_eq!(
        columns(&graph, "t"),
        "customer string, n int64!, total decimal(38,2)"
    );
    let partial = aggregation(&graph, "t/partial");
    assert_eq!(
        (partial.stage, partial.keys.as_slice()),
        (AggregateStage::Partial, &[0][..])
    );
    let arguments: Vec<_> = partial.calls.iter().map(|call| call.argument).collect();
    assert_eq!(arguments, [None, Some(1)]);
    let last = aggregation(&graph, "t/aggregate");
    assert_eq!(
        (last.stage, last.keys.as_slice()),
        (AggregateStage::Final, &[0][..])
    );
    let arguments: Vec<_> = last.calls.iter().map(|call| call.argument).collect();
    assert_eq!(arguments, [Some(1), Some(2)]);
    assert_eq!(
        last.state,
        "customer_id string -> count(*) int64, sum(price) decimal(38,2)"
    );
    let hashed: Vec<&Partitioning> = graph
        .between_vertices()
        .map(|(_, edge, ..)| &edge.partitioning)
        .collect();
    assert_eq!(hashed, [&Partitioning::Hash(vec![0])], "one cut");
    assert_eq!(graph.vertices.len(), 2);
}

#[test]
fn expressions_are_shared_and_calls_too() {
    let graph = one(
        "SELECT upper(customer_id) AS c, sum(quantity) / count(*) AS a, \
         SUM( quantity ) AS s, max(quantity) FILTER (WHERE paid) AS m, \
         bool_or(paid) AS p, every(paid) AS e FROM orders GROUP BY UPPER(customer_id)",
    )
    .graph();
    assert_eq!(
        columns(&graph, "t/input"),
        "upper(customer_id) string, quantity int64, paid boolean"
    );
    let calls = &aggregation(&graph, "t/aggregate").calls;
    let texts: Vec<&str> = calls.iter().map(|call| call.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "sum(quantity)",
            "count(*)",
            "max(quantity) FILTER (WHERE paid)",
            "bool_or(paid)",
            "bool_and(paid)"
        ]
    );
    let partial = &aggregation(&graph, "t/partial").calls[2];
    assert_eq!((partial.argument, partial.filter), (Some(1), Some(2)));
    assert_eq!(
        columns(&graph, "t"),
        "c string, a int64, s int64, m int64, p boolean, e boolean"
    );
}

#[test]
fn keys_are_named_by_number_by_column_and_by_alias() {
    let by = |group: &str| {
        let sql = format!(
            "SELECT date_trunc('day', ts) AS day, customer_id AS order_id, count(*) AS n \
             FROM orders GROUP BY {group}"
        );
        let graph = one(&sql).plan().map_err(|error| error.to_string())?;
        Ok::<_, String>(aggregation(&graph, "t/aggregate").state.clone())
    };
    let expected = "date_trunc('day', ts) timestamp, customer_id string -> count(*) int64";
    assert_eq!(by("1, 2"), Ok(expected.to_owned()));
    assert_eq!(by("(1, 2)"), Ok(expected.to_owned()));
    assert_eq!(
        by("date_trunc('day', ts), customer_id"),
        Ok(expected.to_owned())
    );
    assert_eq!(
        by("((date_trunc('day', (ts)))), orders.customer_id, 2"),
        Ok(expected.to_owned())
    );
    // A column of the input comes before the name of one of the output.
    let message = by("1, order_id").unwrap_err();
    assert!(
        message.contains("`customer_id` is neither grouped nor aggregated"),
        "{message}"
    );
    let message = by("day, customer_id").unwrap_err();
    assert!(
        message.contains("`ts` is neither grouped nor aggregated"),
        "{message}"
    );
}

#[test]
fn results_have_types_of_their_own() {
    let graph = one(
        "SELECT count(quantity) AS a, count(DISTINCT customer_id) AS b, sum(small) AS c, \
         sum(price) AS d, sum(weight) AS e, avg(small) AS f, avg(price) AS g, avg(weight) AS h, \
         min(ts) AS i, max(day) AS j, min(customer_id) AS k, first_value(price) AS l, \
         last_value(paid) AS m, avg(DISTINCT price) AS n, min(DISTINCT small) AS o, \
         max(raw) AS p, count(NULL) AS q FROM orders",
    )
    .graph();
    assert_eq!(
        columns(&graph, "t"),
        "a int64!, b int64!, c int64, d decimal(38,2), e float64, f float64, g decimal(38,6), \
         h float64, i timestamp, j date, k string, l decimal(12,2), m boolean, n decimal(38,6), \
         o int32, p bytes, q int64!"
    );
    let last = aggregation(&graph, "t/aggregate");
    assert_eq!(
        last.stage,
        AggregateStage::Whole,
        "distinct values need all rows"
    );
    let distinct: Vec<&str> = last
        .calls
        .iter()
        .filter(|call| call.distinct)
        .map(|call| call.text.as_str())
        .collect();
    assert_eq!(
        distinct,
        ["count(DISTINCT customer_id)", "avg(DISTINCT price)"]
    );
    assert!(
        last.state
            .contains("count(DISTINCT customer_id) int64 of string"),
        "{}",
        last.state
    );
    assert!(last.state.contains("min(small) int32"), "{}", last.state);
}

#[test]
fn without_group_by_one_task_keeps_the_result() {
    let graph = one("SELECT count(*) AS n FROM orders").graph();
    assert_eq!(columns(&graph, "t/input"), "true boolean!");
    let parallelism =
        ["t/input", "t/partial", "t/aggregate", "t"].map(|uid| node(&graph, uid).parallelism);
    assert_eq!(parallelism, [None, None, Some(1), Some(1)]);
    assert_eq!(aggregation(&graph, "t/aggregate").keys, [0_usize; 0]);
    assert_eq!(node(&graph, "t").key, Some(vec![]));
}

#[test]
fn distinct_keeps_keys_and_appends() {
    let graph = one("SELECT DISTINCT customer_id, quantity > 1 AS many FROM orders").graph();
    let last = aggregation(&graph, "t/aggregate");
    assert_eq!((last.calls.len(), last.keys.len()), (0, 2));
    assert_eq!(
        (last.input, last.output),
        (Changelog::Append, Changelog::Append)
    );
    assert_eq!(columns(&graph, "t"), "customer_id string, many boolean");
    assert_eq!(node(&graph, "t").schema.fields().len(), 2);
}

#[test]
fn distinct_on_is_the_first_record_of_each_key() {
    let written = "SELECT DISTINCT ON (customer_id, 2) upper(customer_id) AS a, quantity > 1 AS many, \
                   price * quantity AS total, orders.price FROM orders WHERE paid";
    let graph = one(written).graph();
    let last = aggregation(&graph, "t/aggregate");
    assert_eq!(
        last.state,
        "customer_id string, quantity > 1 boolean -> first_value(price) decimal(12,2), \
         first_value(quantity) int64"
    );
    assert_eq!(
        (last.input, last.output),
        (Changelog::Append, Changelog::Append)
    );
    assert_eq!(
        columns(&graph, "t"),
        "a string, many boolean, total decimal(33,2), price decimal(12,2)"
    );
    assert_eq!(
        uids(&graph),
        ["orders", "t/input", "t/aggregate", "t", "out"]
    );

    let all = one("SELECT DISTINCT ON (order_id) * FROM orders").graph();
    let source = one("SELECT * FROM orders").graph();
    assert_eq!(columns(&all, "t"), columns(&source, "t"));
    // The same as it may be written with groups.
    let grouped = "SELECT order_id, first_value(price) AS p FROM orders GROUP BY order_id";
    let on = "SELECT DISTINCT ON (order_id) order_id, price AS p FROM orders";
    let [grouped, on] = [grouped, on].map(|sql| one(sql).graph());
    let state = |graph| aggregation(graph, "t/aggregate").state.clone();
    assert_eq!(state(&grouped), state(&on));
    assert_eq!(columns(&grouped, "t"), columns(&on, "t"));
}

#[test]
fn columns_that_nobody_needs_are_not_read_and_state_is_kept_whole() {
    let job = one("SELECT customer_id, count(*) AS n, sum(price) AS total FROM orders GROUP BY 1")
        .transform("few", "t", "SELECT n FROM t")
        .sink("rest", "few");
    // `out` reads all of `t`.
    let all = job.graph();
    let job = job_of_one_reader();
    let few = job.graph();
    assert_eq!(
        columns(&few, "orders"),
        "customer_id string, price decimal(12,2)"
    );
    assert_eq!(
        columns(&few, "t"),
        "customer_id string, n int64!",
        "its key stays"
    );
    assert_eq!(
        aggregation(&few, "t/aggregate").state,
        aggregation(&all, "t/aggregate").state
    );
}

fn job_of_one_reader() -> Job {
    job()
        .source("orders", crate::jobs::ORDERS)
        .transform(
            "t",
            "orders",
            "SELECT customer_id, count(*) AS n, sum(price) AS total FROM orders GROUP BY 1",
        )
        .transform("few", "t", "SELECT n FROM t")
        .sink("out", "few")
}

#[test]
fn local_time_stays_local_in_keys_and_results() {
    let graph = one(
        "SELECT CAST(ts AT TIME ZONE 'Europe/Berlin' AS string) AS local, \
         CAST(max(ts AT TIME ZONE 'Europe/Berlin') AS string) AS last \
         FROM orders GROUP BY ts AT TIME ZONE 'Europe/Berlin'",
    )
    .graph();
    assert_eq!(columns(&graph, "t"), "local string, last string");
    let state = &aggregation(&graph, "t/aggregate").state;
    assert!(
        state.starts_with("ts AT TIME ZONE 'Europe/Berlin' timestamp -> max("),
        "{state}"
    );
}

#[test]
fn a_time_to_live_is_the_transforms_own_or_the_jobs() {
    let sql = "SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id";
    let ttl = |job: &Job, top: &str| {
        let text = job.yaml().replace("spec:\n", &format!("spec:\n  {top}\n"));
        let valid = millstream_spec::read(&text, "test").unwrap();
        let graph = millstream_plan::plan(&valid).unwrap();
        let of = |uid| aggregation(&graph, uid).ttl.map(|ttl| ttl.as_secs());
        (of("t/partial"), of("t/aggregate"))
    };
    let own = job()
        .source("orders", crate::jobs::ORDERS)
        .transform_with("t", "orders", sql, ", stateTtl: 1h")
        .sink("out", "t");
    let none = one(sql);
    assert_eq!(ttl(&none, ""), (None, None));
    assert_eq!(ttl(&none, "stateBackend: {ttl: 2h}"), (None, Some(7_200)));
    assert_eq!(ttl(&own, "stateBackend: {ttl: 2h}"), (None, Some(3_600)));
}

#[test]
fn a_job_without_state_has_no_backend_for_it() {
    let job = one("SELECT customer_id FROM orders");
    let top = "spec:\n  stateBackend: {ttl: 2h}\n";
    let valid = millstream_spec::read(&job.yaml().replace("spec:\n", top), "test").unwrap();
    let refused = millstream_plan::plan(&valid).unwrap_err().to_string();
    assert!(
        refused.contains("spec.stateBackend: the job keeps no state"),
        "{refused}"
    );
}

#[test]
fn nodes_of_groups_have_the_parallelism_of_their_transform_and_read_where_records_are() {
    let sql = "SELECT customer_id, count(*) AS n FROM orders GROUP BY customer_id";
    let graph = job()
        .source("orders", crate::jobs::ORDERS)
        .transform_with("t", "orders", sql, ", parallelism: 3")
        .sink("out", "t")
        .graph();
    let parallelism =
        ["t/input", "t/partial", "t/aggregate", "t"].map(|uid| node(&graph, uid).parallelism);
    assert_eq!(parallelism, [None, None, Some(3), Some(3)]);
    let last = graph.edges.last().unwrap();
    assert_eq!(
        last.partitioning,
        Partitioning::Hash(vec![0]),
        "updates stay in order"
    );
    let refused = job()
        .source("orders", crate::jobs::ORDERS)
        .transform_with(
            "t",
            "orders",
            "SELECT count(*) AS n FROM orders",
            ", parallelism: 3",
        )
        .sink("out", "t")
        .refusal();
    assert!(refused.contains("one group, and one subtask"), "{refused}");
    let refused = job()
        .source("orders", crate::jobs::ORDERS)
        .transform_with("t", "orders", sql, ", parallelism: 2000")
        .sink("out", "t")
        .refusal();
    assert!(refused.contains("divided into 1024 groups"), "{refused}");
}

#[test]
fn another_function_or_key_is_another_fingerprint() {
    let of = |sql: &str| one(sql).graph().fingerprint;
    let all = [
        "SELECT customer_id, sum(quantity) AS n FROM orders GROUP BY customer_id",
        "SELECT customer_id, max(quantity) AS n FROM orders GROUP BY customer_id",
        "SELECT order_id AS customer_id, sum(quantity) AS n FROM orders GROUP BY order_id",
    ]
    .map(of);
    assert_ne!(all[0], all[1]);
    assert_ne!(all[0], all[2]);
}

#[test]
fn every_function_has_its_name() {
    use AggregateFunction as F;
    let sql = "SELECT count(*) AS a, sum(quantity) AS b, avg(quantity) AS c, min(quantity) AS d, \
               max(quantity) AS e, bool_and(paid) AS f, bool_or(paid) AS g, \
               first_value(quantity) AS h, last_value(quantity) AS i FROM orders";
    let graph = one(sql).graph();
    let calls = &aggregation(&graph, "t/aggregate").calls;
    let functions: Vec<AggregateFunction> = calls.iter().map(|call| call.function).collect();
    assert_eq!(
        functions,
        [
            F::Count,
            F::Sum,
            F::Avg,
            F::Min,
            F::Max,
            F::BoolAnd,
            F::BoolOr,
            F::FirstValue,
            F::LastValue
        ]
    );
}

#[test]
fn a_select_in_from_is_a_node_of_its_own() {
    let graph = job()
        .source("web", "id string, client string, amount decimal(12,2)")
        .source("shop", "sale string, customer string, total decimal(12,2)")
        .transform_with(
            "t",
            "web, shop",
            "SELECT customer, sum(amount) AS total FROM (\n\
             SELECT client AS customer, amount FROM web WHERE amount > 0\n\
             UNION ALL SELECT customer, total FROM shop) AS sales GROUP BY sales.customer",
            ", stateTtl: 1h",
        )
        .sink("out", "t")
        .graph();
    assert_eq!(
        uids(&graph),
        [
            "web",
            "shop",
            "t/from",
            "t/input",
            "t/partial",
            "t/aggregate",
            "t",
            "out"
        ]
    );
    assert_eq!(
        columns(&graph, "web"),
        "client string, amount decimal(12,2)"
    );
    assert_eq!(
        columns(&graph, "t/from"),
        "customer string, amount decimal(12,2)"
    );
    let NodeKind::Sql(union) = &node(&graph, "t/from").kind else {
        panic!("it is a union")
    };
    assert_eq!(union.selects.len(), 2);
    assert_eq!(union.selects[0].filter.len(), 1);
    let last = aggregation(&graph, "t/aggregate");
    assert_eq!(last.state, "customer string -> sum(amount) decimal(38,2)");
    assert!(last.ttl.is_some());
}

#[test]
fn an_aggregate_in_from_has_state_of_its_own() {
    let job = one(
        "SELECT n, count(*) AS customers FROM (SELECT customer_id, count(*) AS n FROM orders \
         GROUP BY customer_id) GROUP BY n",
    );
    let graph = job.graph();
    let keeping: Vec<(&str, &str)> = graph
        .nodes
        .iter()
        .filter_map(|node| Some((node.uid.as_str(), node.state()?.1)))
        .collect();
    assert_eq!(
        keeping,
        [
            ("t/from/aggregate", "customer_id string -> count(*) int64"),
            ("t/aggregate", "n int64 -> count(*) int64 over updates")
        ]
    );
    assert_eq!(node(&graph, "t/from").changelog, Changelog::Retract);
    let deep =
        one("SELECT a + 1 AS b FROM (SELECT quantity AS a FROM (SELECT * FROM orders) AS x) AS y");
    let graph = deep.graph();
    assert_eq!(columns(&graph, "t"), "b int64");
    assert_eq!(columns(&graph, "orders"), "quantity int64");
}

#[test]
fn groups_are_explained() {
    let job = job()
        .source("orders", crate::jobs::ORDERS)
        .transform_with(
            "per_customer",
            "orders",
            "SELECT customer_id, count(*) AS n, sum(price) AS total, \
             count(DISTINCT order_id) FILTER (WHERE paid) AS paid FROM orders \
             WHERE quantity > 0 GROUP BY customer_id",
            ", stateTtl: 1h",
        )
        .transform(
            "sizes",
            "per_customer",
            "SELECT n, count(*) AS customers, max(total) AS most FROM per_customer GROUP BY n \
             HAVING count(*) > 1",
        )
        .kafka_sink("customers", "per_customer", "key: customer_id", "")
        .sink("out", "sizes");
    let valid = job.valid();
    let graph = job.graph();
    let text = explain::text(&valid, &graph);
    expect(
        "groups.txt",
        &text.replace(&graph.fingerprint, "(64 digits)"),
    );
    expect("groups.dot", &explain::dot(&graph));
}
