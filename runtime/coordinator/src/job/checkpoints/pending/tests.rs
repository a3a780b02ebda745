use millstream_types::{SplitState, VertexId};
use proptest::prelude::*;

use super::*;

const fn task(vertex: u32, subtask: u32) -> TaskId {
    TaskId {
        vertex: VertexId(vertex),
        subtask: SubtaskIndex(subtask),
    }
}

fn with_splits(uid: &str, splits: &[&str]) -> TaskSnapshot {
    let splits = splits
        .iter()
        .map(|split| SplitState {
            split: (*split).to_owned(),
            position: Opaque("7".to_owned()),
            records: 7,
            finished: false,
        })
        .collect();
    let state = OperatorSnapshot {
        splits,
        ..OperatorSnapshot::default()
    };
    TaskSnapshot {
        operators: BTreeMap::from([(uid.into(), state)]),
    }
}

fn known(uid: &str, splits: &[&str]) -> KnownSplits {
    let names = splits.iter().map(|split| (*split).to_owned()).collect();
    BTreeMap::from([(uid.into(), names)])
}

fn pending(tasks: &[TaskId], splits: KnownSplits) -> Pending {
    Pending::new(
        (CheckpointId(3), CheckpointKind::Checkpoint),
        (Timestamp(1_000), Duration::from_secs(1)),
        tasks.iter().copied().collect(),
        splits,
        Identities::new(),
    )
}

#[test]
fn the_last_acknowledgement_completes_it_and_the_parts_hold_every_snapshot() {
    let mut pending = pending(&[task(0, 0), task(0, 1)], known("s", &["a", "b"]));
    assert_eq!(
        pending.acknowledge(task(0, 1), with_splits("s", &["b"])),
        Ack::Accepted
    );
    assert_eq!((pending.acknowledged(), pending.tasks()), (1, 2));
    assert_eq!(
        pending.acknowledge(task(0, 0), with_splits("s", &["a"])),
        Ack::Complete
    );
    let parts = pending.into_parts(128).unwrap();
    let subtasks = &parts.operators[&OperatorUid::from("s")];
    assert_eq!(subtasks[&SubtaskIndex(0)].splits[0].split, "a");
    assert_eq!(subtasks[&SubtaskIndex(1)].splits[0].split, "b");
}

#[test]
fn a_repeated_acknowledgement_does_not_replace_the_first() {
    let mut pending = pending(&[task(0, 0), task(1, 0)], KnownSplits::new());
    pending.acknowledge(task(0, 0), with_splits("s", &["a"]));
    assert_eq!(
        pending.acknowledge(task(0, 0), with_splits("s", &["b"])),
        Ack::Duplicate
    );
    pending.acknowledge(task(1, 0), TaskSnapshot::default());
    let parts = pending.into_parts(128).unwrap();
    let subtasks = &parts.operators[&OperatorUid::from("s")];
    assert_eq!(subtasks[&SubtaskIndex(0)].splits[0].split, "a");
}

#[test]
fn a_task_of_no_vertex_is_not_counted() {
    let mut pending = pending(&[task(0, 0)], KnownSplits::new());
    assert_eq!(
        pending.acknowledge(task(5, 0), TaskSnapshot::default()),
        Ack::Unknown
    );
    assert_eq!(pending.acknowledged(), 0);
}

#[test]
fn a_split_in_two_subtasks_is_refused() {
    let mut pending = pending(&[task(0, 0), task(0, 1)], KnownSplits::new());
    pending.acknowledge(task(0, 0), with_splits("s", &["a"]));
    pending.acknowledge(task(0, 1), with_splits("s", &["a"]));
    assert!(matches!(
        pending.into_parts(128),
        Err(Inconsistent::SplitTwice { .. })
    ));
}

#[test]
fn a_split_that_was_given_out_and_is_nowhere_is_refused() {
    let mut pending = pending(&[task(0, 0)], known("s", &["a", "b"]));
    pending.acknowledge(task(0, 0), with_splits("s", &["a"]));
    assert_eq!(
        pending.into_parts(128),
        Err(Inconsistent::SplitMissing {
            uid: "s".into(),
            split: "b".to_owned()
        })
    );
}

#[test]
fn one_operator_in_two_vertices_is_refused() {
    let mut pending = pending(&[task(0, 0), task(1, 0)], KnownSplits::new());
    pending.acknowledge(task(0, 0), with_splits("s", &["a"]));
    pending.acknowledge(task(1, 0), with_splits("s", &["b"]));
    assert!(matches!(
        pending.into_parts(128),
        Err(Inconsistent::OperatorTwice { .. })
    ));
}

proptest! {
    #[test]
    fn it_completes_exactly_when_every_task_has_acknowledged_in_any_order(
        order in prop::collection::vec((0_u32..3, 0_u32..4), 0..40),
    ) {
        let tasks: Vec<TaskId> = (0..3)
            .flat_map(|vertex| (0..4).map(move |subtask| task(vertex, subtask)))
            .collect();
        let mut pending = pending(&tasks, KnownSplits::new());
        let mut seen = BTreeSet::new();
        for (vertex, subtask) in order {
            let new = seen.insert((vertex, subtask));
            let expected = match (new, seen.len() == tasks.len()) {
                (false, _) => Ack::Duplicate,
                (true, true) => Ack::Complete,
                (true, false) => Ack::Accepted,
            };
            prop_assert_eq!(
                pending.acknowledge(task(vertex, subtask), TaskSnapshot::default()),
                expected
            );
        }
        prop_assert_eq!(pending.acknowledged(), seen.len());
        prop_assert_eq!(pending.waiting().len(), tasks.len() - seen.len());
    }
}
