//! Which checkpoints a graph can be restored from.

use std::collections::BTreeMap;

use millstream_plan::{
    Incompatibility, JobGraph, OperatorState, StateFate, compatibility, state_fates,
};
use millstream_types::{
    CheckpointId, Committable, ErrorCode, Opaque, OperatorSnapshot, OperatorUid, SplitState,
    StateDeclaration, StateSnapshot,
};

use crate::jobs::{ORDERS, job};

type States = BTreeMap<OperatorUid, OperatorState>;

fn states(entries: &[(&str, OperatorState)]) -> States {
    let owned = entries.iter().cloned();
    owned.map(|(uid, state)| (uid.into(), state)).collect()
}

fn splits(splits: usize, connector: Option<&str>) -> OperatorState {
    OperatorState {
        splits: (0..splits).map(|number| format!("part-{number}")).collect(),
        connector: connector.map(str::to_owned),
        ..OperatorState::default()
    }
}

fn committables(committables: usize) -> OperatorState {
    OperatorState {
        committables,
        ..OperatorState::default()
    }
}

fn found(states: &States) -> Vec<Incompatibility> {
    let graph = job()
        .source("orders", ORDERS)
        .source("payments", "id string")
        .transform("valid", "orders", "SELECT order_id FROM orders")
        .sink("out", "valid")
        .sink("paid", "payments")
        .graph();
    compatibility(&graph, states)
}

const PER_CUSTOMER: &str =
    "SELECT customer_id, count(*) AS n, sum(price) AS total FROM orders GROUP BY customer_id";

fn keyed(name: &str, sql: &str) -> JobGraph {
    let job = job().source("orders", ORDERS);
    job.transform(name, "orders", sql).sink("out", name).graph()
}

/// What a checkpoint of a graph holds of its keyed state.
fn held(graph: &JobGraph) -> States {
    let nodes = graph.nodes.iter();
    let states = nodes.filter_map(|node| {
        let (name, data_type) = node.state()?;
        let snapshot = OperatorSnapshot {
            state: Some(StateSnapshot {
                declarations: vec![StateDeclaration {
                    name: name.to_owned(),
                    data_type: data_type.to_owned(),
                    schema: 0,
                }],
                ..StateSnapshot::default()
            }),
            ..OperatorSnapshot::default()
        };
        Some((node.uid.clone(), OperatorState::of([&snapshot, &snapshot])))
    });
    states.collect()
}

#[test]
fn state_is_kept_as_long_as_keys_and_aggregates_are_the_same() {
    let before = held(&keyed("t", PER_CUSTOMER));
    assert_eq!(before.len(), 1);
    for same in [
        PER_CUSTOMER,
        "select customer_id AS c, COUNT( * ) + 1 AS more, sum(price) AS total FROM orders \
         WHERE quantity > 3 GROUP BY 1 HAVING sum(price) > 10",
    ] {
        let graph = keyed("t", same);
        assert_eq!(compatibility(&graph, &before), []);
        let fates = state_fates(&graph, &before);
        assert!(
            matches!(fates[&"t/aggregate".into()], StateFate::Kept { .. }),
            "{fates:?}"
        );
    }
    let fates = state_fates(&keyed("t", PER_CUSTOMER), &States::new());
    assert!(matches!(
        fates[&"t/aggregate".into()],
        StateFate::Added { .. }
    ));
}

#[test]
fn state_of_another_key_or_aggregate_is_named_with_both() {
    let before = held(&keyed("t", PER_CUSTOMER));
    let reason = |sql: &str| {
        let found = compatibility(&keyed("t", sql), &before);
        let [Incompatibility::StateChanged { uid, reason, .. }] = found.as_slice() else {
            panic!("{sql}: {found:?}")
        };
        assert_eq!(uid.as_str(), "t/aggregate");
        *reason
    };
    let by = |key: &str| {
        format!("SELECT {key} AS k, count(*) AS n, sum(price) AS t FROM orders GROUP BY k")
    };
    assert_eq!(reason(&by("order_id")), "its key");
    assert_eq!(reason(&by("upper(customer_id)")), "its key");
    assert_eq!(
        reason("SELECT customer_id, order_id, count(*) AS n FROM orders GROUP BY 1, 2"),
        "its key"
    );
    assert_eq!(
        reason("SELECT customer_id, sum(price) AS t, count(*) AS n FROM orders GROUP BY 1"),
        "its aggregates"
    );
    let message = Incompatibility::failure(&compatibility(&keyed("t", &by("order_id")), &before));
    let message = message.unwrap().message;
    for part in [
        "`t/aggregate` keeps other state, as its key changed",
        "`customer_id string -> count(*) int64, sum(price) decimal(38,2)`",
        "`order_id string -> count(*) int64, sum(price) decimal(38,2)`",
        "--allow-dropped-state",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn state_of_a_renamed_transform_is_found_by_what_it_keeps() {
    let before = held(&keyed("t", PER_CUSTOMER));
    let found = compatibility(&keyed("per_customer", PER_CUSTOMER), &before);
    let message = Incompatibility::failure(&found).unwrap().message;
    assert!(
        message.contains("if `per_customer` is the same under a new name, call it `t` again"),
        "{message}"
    );
    let gone = job().source("orders", ORDERS).sink("out", "orders").graph();
    let found = compatibility(&gone, &before);
    assert!(
        matches!(
            found.as_slice(),
            [Incompatibility::StateGone { renamed: None, .. }]
        ),
        "{found:?}"
    );
}

#[test]
fn no_node_with_state_has_more_subtasks_than_key_groups() {
    let graph = keyed("t", PER_CUSTOMER);
    assert_eq!(graph.check_parallelism(1_024), Ok(()));
    let message = graph.check_parallelism(1_025).unwrap_err();
    assert!(
        message.contains("`t/aggregate` keeps state by key"),
        "{message}"
    );
    let global = keyed("t", "SELECT count(*) AS n FROM orders");
    assert_eq!(global.check_parallelism(1_025), Ok(()));
}

#[test]
fn the_same_nodes_and_new_ones_are_compatible() {
    let states = states(&[
        ("orders", splits(4, Some("files"))),
        ("valid", OperatorState::default()),
        ("out", committables(2)),
        ("a-transform-that-is-gone", OperatorState::default()),
    ]);
    assert_eq!(found(&states), []);
    assert_eq!(Incompatibility::failure(&[]), None);
}

#[test]
fn a_renamed_source_is_named_with_its_likely_new_name() {
    let found = found(&states(&[("order", splits(4, None))]));
    assert_eq!(
        found,
        [Incompatibility::SourceGone {
            uid: "order".into(),
            splits: 4,
            renamed: Some("orders".into()),
        }]
    );
    let failure = Incompatibility::failure(&found).unwrap();
    assert_eq!(failure.code, ErrorCode::IncompatibleState);
    assert!(
        failure.message.contains("call it `order` again"),
        "{failure}"
    );
}

#[test]
fn positions_of_another_connector_are_refused() {
    let found = found(&states(&[("orders", splits(4, Some("kafka")))]));
    assert_eq!(
        found,
        [Incompatibility::ConnectorChanged {
            uid: "orders".into(),
            before: "kafka".to_owned(),
            now: "files",
        }]
    );
}

#[test]
fn positions_of_topics_that_are_no_longer_read_are_refused_by_name() {
    let graph = job()
        .kafka_source("orders", &["b"])
        .sink("out", "orders")
        .graph();
    let state = |splits: &[&str]| OperatorState {
        splits: splits.iter().map(|split| (*split).to_owned()).collect(),
        connector: Some("kafka".to_owned()),
        ..OperatorState::default()
    };
    let found = |splits: &[&str]| compatibility(&graph, &states(&[("orders", state(splits))]));
    assert_eq!(found(&["b/0", "b/1"]), []);
    let gone = found(&["a/0", "a/1", "b/0"]);
    assert_eq!(
        gone,
        [Incompatibility::SplitsGone {
            uid: "orders".into(),
            splits: vec!["a/0".to_owned(), "a/1".to_owned()],
        }]
    );
    let message = Incompatibility::failure(&gone).unwrap().message;
    for part in [
        "topic `a` (2 partitions)",
        "`topics` again",
        "--allow-dropped-state",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[test]
fn positions_under_the_name_of_a_transform_have_no_place() {
    let found = found(&states(&[("valid", splits(1, None))]));
    assert!(matches!(
        found.as_slice(),
        [Incompatibility::SourceGone { .. }]
    ));
}

#[test]
fn output_that_waits_for_a_sink_that_is_gone_is_never_forgotten() {
    let found = found(&states(&[("processed", committables(3))]));
    assert!(matches!(
        found.as_slice(),
        [Incompatibility::SinkGone {
            committables: 3,
            renamed: None,
            ..
        }]
    ));
}

#[test]
fn snapshots_of_all_subtasks_are_summed_up() {
    let split = |split: &str| SplitState {
        split: split.to_owned(),
        position: Opaque("{}".to_owned()),
        records: 1,
        finished: false,
    };
    let committable = Committable {
        checkpoint: CheckpointId(1),
        transaction: Opaque("{}".to_owned()),
        records: 1,
    };
    let snapshots = [
        OperatorSnapshot {
            splits: vec![split("a"), split("b")],
            committables: vec![committable],
            ..OperatorSnapshot::default()
        },
        OperatorSnapshot {
            splits: vec![split("c")],
            ..OperatorSnapshot::default()
        },
    ];
    let state = OperatorState::of(&snapshots);
    assert_eq!(state.splits, ["a", "b", "c"]);
    assert_eq!(state.committables, 1);
}

/// A checkpoint with records in flight to where totals are kept of orders by customer.
#[test]
fn records_in_flight_need_the_inputs_that_they_were_for() {
    let graph = |sql: &str, columns: &str| {
        let job = job().source("orders", columns);
        let valid = job.transform("valid", "orders", sql);
        valid
            .transform_with(
                "spread",
                "valid",
                "SELECT * FROM valid",
                ", partitionBy: [customer_id]",
            )
            .sink("out", "spread")
            .graph()
    };
    let sql = "SELECT customer_id, price FROM orders WHERE price > 0";
    let before = graph(sql, ORDERS);
    let inputs = before.overtakable_inputs(&"spread".into());
    assert_eq!(
        inputs,
        ["input 0: (customer_id Utf8, price Decimal128(12, 2)) by customer_id in 1024 key groups"]
    );
    assert_eq!(before.overtakable_inputs(&"valid".into()), [""; 0]);
    let held = states(&[(
        "spread",
        OperatorState {
            inputs: Some(inputs),
            ..OperatorState::default()
        },
    )]);
    // Other records of the same kind may come from now on.
    let same = "SELECT customer_id, price FROM orders WHERE price > 7 AND quantity > 1";
    assert_eq!(compatibility(&graph(same, ORDERS), &held), []);
    let other = "SELECT customer_id, price, order_id FROM orders";
    let found = compatibility(&graph(other, ORDERS), &held);
    let [Incompatibility::InputsChanged { uid, .. }] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(uid.as_str(), "spread");
    let message = Incompatibility::failure(&found).unwrap().message;
    assert!(
        message.contains("records in flight to `spread`"),
        "{message}"
    );
    assert!(message.contains("order_id Utf8"), "{message}");
    assert!(message.contains("with a savepoint"), "{message}");
    let gone = job().source("orders", ORDERS).sink("out", "orders").graph();
    let found = compatibility(&gone, &held);
    let message = Incompatibility::failure(&found).unwrap().message;
    assert!(message.contains("the job has no such input"), "{message}");
}
