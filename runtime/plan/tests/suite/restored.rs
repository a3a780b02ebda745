//! Which checkpoints a graph can be restored from.

use std::collections::BTreeMap;

use millstream_plan::{Incompatibility, OperatorState, compatibility};
use millstream_types::{
    CheckpointId, Committable, ErrorCode, Opaque, OperatorSnapshot, OperatorUid, SplitState,
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
