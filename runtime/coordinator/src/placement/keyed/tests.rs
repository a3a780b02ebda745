use millstream_types::EventTime;
use millstream_types::snapshot::{FileRef, StateDeclaration};
use proptest::prelude::*;

use super::*;

type Subtasks = BTreeMap<SubtaskIndex, OperatorSnapshot>;

fn declaration(name: &str) -> StateDeclaration {
    StateDeclaration {
        name: name.to_owned(),
        data_type: "count".to_owned(),
        schema: 1,
    }
}

fn run(path: &str, range: std::ops::Range<u32>, sequence: u64) -> Run {
    Run {
        state: "sums".to_owned(),
        file: FileRef {
            path: path.to_owned(),
            bytes: 10,
            crc32c: 7,
        },
        range: range.into(),
        sequence,
    }
}

fn holding(state: StateSnapshot) -> OperatorSnapshot {
    OperatorSnapshot {
        state: Some(state),
        ..OperatorSnapshot::default()
    }
}

/// Subtasks that have written some runs each, the ranges of which are given in parts of their own.
fn written(parallelism: u32, groups: u32, runs: &[(u32, u32, u32)]) -> Subtasks {
    let subtask = |subtask: u32| {
        let own = KeyGroupRange::from(keys::range(subtask, parallelism, groups));
        let width = own.end - own.first;
        let mine = (1..)
            .zip(runs)
            .filter(|(_, run)| run.0 % parallelism == subtask);
        let runs = mine.map(|(sequence, (_, from, length))| {
            let first = own.first + from % width;
            let end = (first + 1 + length % width).min(own.end);
            run(
                &format!("data/1/1/sums/{subtask}-{sequence}"),
                first..end,
                sequence,
            )
        });
        let state = StateSnapshot {
            declarations: vec![declaration("sums")],
            key_groups: own,
            runs: runs.collect(),
            timer_watermark: Some(EventTime(i64::from(subtask))),
        };
        (SubtaskIndex(subtask), holding(state))
    };
    (0..parallelism).map(subtask).collect()
}

fn as_subtasks(states: Vec<StateSnapshot>) -> Subtasks {
    let states = states.into_iter().map(holding);
    (0..).map(SubtaskIndex).zip(states).collect()
}

/// Of every key group the runs that hold it, and who names them.
fn held(subtasks: &Subtasks, groups: u32) -> Vec<Vec<(SubtaskIndex, String, u64)>> {
    let of_group = |group: u32| {
        let mut held = Vec::new();
        for (subtask, snapshot) in subtasks {
            for run in &snapshot.state.as_ref().unwrap().runs {
                if run.range.first <= group && group < run.range.end {
                    held.push((*subtask, run.file.path.clone(), run.sequence));
                }
            }
        }
        held.sort();
        held
    };
    (0..groups).map(of_group).collect()
}

proptest! {
    #[test]
    fn each_run_of_a_key_group_reaches_the_subtask_of_the_group_and_no_other(
        groups in 1_u32..200,
        parallelisms in prop::collection::vec(1_u32..12, 2..5),
        runs in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 0..30),
        merged in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let parallelisms: Vec<u32> = parallelisms.into_iter().map(|it| it.min(groups)).collect();
        let mut subtasks = written(parallelisms[0], groups, &runs);
        prop_assert_eq!(check(&subtasks, groups), Ok(()));
        for parallelism in &parallelisms[1..] {
            // Some have merged a run into another since.
            let count = subtasks.len();
            for merged in &merged {
                let snapshot = subtasks.values_mut().nth(merged.index(count)).unwrap();
                let runs = &mut snapshot.state.as_mut().unwrap().runs;
                if !runs.is_empty() {
                    runs.remove(merged.index(runs.len()));
                }
            }
            let before = held(&subtasks, groups);
            subtasks = as_subtasks(deal(&subtasks, *parallelism, groups));
            prop_assert_eq!(check(&subtasks, groups), Ok(()));
            let after = held(&subtasks, groups);
            for (group, (before, after)) in (0..).zip(before.iter().zip(&after)) {
                let owner = SubtaskIndex(keys::subtask(group, *parallelism, groups));
                prop_assert!(after.iter().all(|(subtask, ..)| *subtask == owner), "{after:?}");
                let runs = |held: &[(SubtaskIndex, String, u64)]| -> Vec<(String, u64)> {
                    held.iter().map(|(_, path, sequence)| (path.clone(), *sequence)).collect()
                };
                prop_assert_eq!(runs(before), runs(after), "group {}", group);
            }
        }
    }

    #[test]
    fn parts_of_a_file_that_come_together_again_are_one(
        groups in 12_u32..200,
        parallelism in 1_u32..12,
        runs in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 0..30),
    ) {
        let first = deal(&written(1, groups, &runs), 1, groups);
        let dealt = as_subtasks(deal(&as_subtasks(first.clone()), parallelism, groups));
        prop_assert_eq!(deal(&dealt, 1, groups), first);
    }

    #[test]
    fn two_states_with_one_fault_between_them_do_not_fit_together(
        groups in 12_u32..200,
        parallelism in 2_u32..12,
        subtask in any::<u32>(),
        fault in 0_u32..7,
    ) {
        let runs: Vec<(u32, u32, u32)> = (0..parallelism).map(|subtask| (subtask, 0, groups)).collect();
        let mut subtasks = written(parallelism, groups, &runs);
        let at = SubtaskIndex(subtask % parallelism);
        let snapshot = subtasks.get_mut(&at).unwrap();
        let state = snapshot.state.as_mut().unwrap();
        match fault {
            0 => snapshot.state = None,
            1 => state.key_groups.end -= 1,
            2 => state.key_groups.first += 1,
            3 => state.declarations.push(declaration("more")),
            4 => state.runs[0].state = "other".to_owned(),
            5 => state.runs[0].range.end = state.key_groups.end + 1,
            _ => {
                let mut again = state.runs[0].clone();
                again.range.first = again.range.end - 1;
                state.runs.push(again);
            }
        }
        prop_assert!(check(&subtasks, groups).is_err());
    }
}

#[test]
fn a_subtask_without_runs_has_the_declarations_and_its_own_key_groups() {
    let dealt = deal(&written(1, 128, &[]), 2, 128);
    let groups: Vec<KeyGroupRange> = dealt.iter().map(|state| state.key_groups).collect();
    assert_eq!(groups, [(0..64).into(), (64..128).into()]);
    assert!(
        dealt
            .iter()
            .all(|state| state.declarations == [declaration("sums")])
    );
}

#[test]
fn timers_have_fired_up_to_where_they_have_in_all_old_subtasks() {
    let dealt = deal(&written(4, 128, &[]), 2, 128);
    let watermarks: Vec<Option<EventTime>> = dealt.iter().map(|it| it.timer_watermark).collect();
    assert_eq!(watermarks, [Some(EventTime(0)), Some(EventTime(2))]);
}

#[test]
fn an_operator_without_state_gets_none() {
    let restored = Subtasks::from([(SubtaskIndex(0), OperatorSnapshot::default())]);
    assert_eq!(deal(&restored, 3, 128), []);
    assert_eq!(check(&restored, 128), Ok(()));
}

#[test]
fn who_has_not_its_own_key_groups_is_told_with_both() {
    let mut subtasks = written(2, 1_024, &[]);
    let state = subtasks.get_mut(&SubtaskIndex(1)).unwrap().state.as_mut();
    state.unwrap().key_groups = (511..1_024).into();
    assert_eq!(
        check(&subtasks, 1_024).unwrap_err().to_string(),
        "subtask 1 of 2 holds key groups [511, 1024), and its own are [512, 1024) of 1024"
    );
}

proptest! {
    /// A subtask reads every file in which something may be its own: records of its key groups, or records
    /// that are dealt out in turn and whose former subtask leaves its number as the remainder.
    #[test]
    fn records_in_flight_are_read_by_whoever_may_have_some_of_them(
        groups in 12_u32..200, before in 1_u32..12, after in 1_u32..12,
    ) {
        let file = |old: u32| FileRef { path: old.to_string(), bytes: 1, crc32c: 2 };
        let had = |old| OperatorSnapshot { in_flight: vec![file(old)], ..OperatorSnapshot::default() };
        let restored: Subtasks = (0..before).map(|old| (SubtaskIndex(old), had(old))).collect();
        let read: Vec<Vec<FileRef>> =
            (0..after).map(|subtask| in_flight(&restored, subtask, after, groups)).collect();
        for group in 0..groups {
            let (old, new) = (keys::subtask(group, before, groups), keys::subtask(group, after, groups));
            prop_assert!(read[new as usize].contains(&file(old)), "group {group}");
        }
        for old in 0..before {
            prop_assert!(read[(old % after) as usize].contains(&file(old)));
        }
        for files in &read {
            prop_assert!(files.is_sorted_by(|a, b| a.path != b.path), "each once");
            prop_assert!(before != after || files.len() == 1);
        }
    }
}
