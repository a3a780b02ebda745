use std::collections::BTreeSet;

use millstream_types::Opaque;
use millstream_types::snapshot::Counters;
use proptest::prelude::*;

use super::*;

fn workers(slots: &[u32]) -> BTreeMap<WorkerId, u32> {
    slots
        .iter()
        .enumerate()
        .map(|(index, slots)| (WorkerId(format!("worker-{index}")), *slots))
        .collect()
}

fn split(name: &str, finished: bool) -> SplitState {
    SplitState {
        split: name.to_owned(),
        position: Opaque("0".to_owned()),
        records: 0,
        finished,
    }
}

fn counts(placement: &Placement) -> BTreeMap<WorkerId, u32> {
    let mut counts = BTreeMap::new();
    for worker in placement.values() {
        *counts.entry(worker.clone()).or_insert(0) += 1;
    }
    counts
}

#[test]
fn too_few_slots_are_refused_with_both_numbers() {
    let refused = place(&workers(&[1, 2]), 4, &Placement::new()).unwrap_err();
    assert_eq!(
        refused,
        NotEnoughSlots {
            needed: 4,
            offered: 3
        }
    );
}

#[test]
fn subtasks_of_a_lost_worker_move_and_the_others_stay() {
    let before = place(&workers(&[2, 2]), 4, &Placement::new()).unwrap();
    let mut left = workers(&[2]);
    left.insert(WorkerId("spare".to_owned()), 2);
    let after = place(&left, 4, &before).unwrap();
    for (subtask, worker) in &before {
        if worker.as_str() == "worker-0" {
            assert_eq!(after[subtask], *worker);
        } else {
            assert_eq!(after[subtask].as_str(), "spare");
        }
    }
}

#[test]
fn finished_splits_do_not_crowd_out_those_that_are_read() {
    let splits = vec![
        split("a", true),
        split("b", true),
        split("c", false),
        split("d", false),
    ];
    let assigned = SplitLoads::new(2).assign(splits);
    for splits in assigned.values() {
        assert_eq!(splits.iter().filter(|split| !split.finished).count(), 1);
    }
}

#[test]
fn counters_of_vanished_subtasks_are_kept_in_the_first() {
    let snapshot = |records_in| OperatorSnapshot {
        counters: Counters {
            records_in,
            ..Counters::default()
        },
        ..OperatorSnapshot::default()
    };
    let restored = (0_u32..4)
        .map(|subtask| (SubtaskIndex(subtask), snapshot(1 << subtask)))
        .collect();
    let dealt = deal(&restored, Vec::new(), 2, 128);
    let totals: Vec<u64> = dealt
        .snapshots
        .iter()
        .map(|snapshot| snapshot.counters.records_in)
        .collect();
    assert_eq!(totals, [1 + 4 + 8, 2]);
}

proptest! {
    #[test]
    fn every_subtask_is_placed_within_the_slots_and_evenly(
        slots in prop::collection::vec(0_u32..5, 1..6),
        parallelism in 1_u32..12,
        moved in prop::collection::vec(0_usize..6, 12),
    ) {
        let workers = workers(&slots);
        let previous: Placement = moved
            .iter()
            .enumerate()
            .map(|(subtask, worker)| {
                (SubtaskIndex(u32::try_from(subtask).unwrap()), WorkerId(format!("worker-{worker}")))
            })
            .collect();
        let offered: u32 = slots.iter().sum();
        match place(&workers, parallelism, &previous) {
            Err(refused) => prop_assert!(refused.offered == offered && offered < parallelism),
            Ok(placement) => {
                let subtasks: BTreeSet<u32> = placement.keys().map(|subtask| subtask.0).collect();
                prop_assert_eq!(subtasks, (0..parallelism).collect::<BTreeSet<_>>());
                let counts = counts(&placement);
                let most = counts.values().max().copied().unwrap_or(0);
                for (worker, slots) in &workers {
                    let count = counts.get(worker).copied().unwrap_or(0);
                    prop_assert!(count <= *slots);
                    prop_assert!(count + 1 >= most || count == *slots, "{:?}", placement);
                }
            }
        }
    }

    #[test]
    fn a_placement_that_still_fits_does_not_change(
        slots in prop::collection::vec(1_u32..5, 1..6),
        parallelism in 1_u32..6,
    ) {
        let workers = workers(&slots);
        if let Ok(first) = place(&workers, parallelism, &Placement::new()) {
            prop_assert_eq!(place(&workers, parallelism, &first).unwrap(), first);
        }
    }

    #[test]
    fn every_split_is_dealt_to_one_subtask_and_no_subtask_has_two_more_than_another(
        names in prop::collection::btree_set("[a-z]{1,3}/[0-9]{1,2}", 0..40),
        late in prop::collection::btree_set("[A-Z]{1,3}/[0-9]{1,2}", 0..20),
        old_parallelism in 1_u32..6,
        parallelism in 1_u32..8,
    ) {
        let first = deal(
            &BTreeMap::new(),
            names.iter().map(|name| split(name, false)).collect(),
            old_parallelism,
            128,
        );
        let restored: BTreeMap<SubtaskIndex, OperatorSnapshot> = (0..)
            .map(SubtaskIndex)
            .zip(first.snapshots)
            .collect();
        let mut second = deal(&restored, Vec::new(), parallelism, 128);
        let mut per_subtask: Vec<Vec<String>> = second
            .snapshots
            .iter()
            .map(|snapshot| snapshot.splits.iter().map(|split| split.split.clone()).collect())
            .collect();
        for (subtask, splits) in second.loads.assign(late.iter().map(|name| split(name, false)).collect()) {
            per_subtask[subtask.0 as usize].extend(splits.into_iter().map(|split| split.split));
        }
        let all: Vec<String> = per_subtask.iter().flatten().cloned().collect();
        let unique: BTreeSet<String> = all.iter().cloned().collect();
        prop_assert_eq!(all.len(), unique.len());
        prop_assert_eq!(unique, names.union(&late).cloned().collect::<BTreeSet<_>>());
        let sizes: Vec<usize> = per_subtask.iter().map(Vec::len).collect();
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1);
    }
}
