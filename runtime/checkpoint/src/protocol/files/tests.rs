use std::sync::Arc;

use millstream_types::{CheckpointKind, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::protocol::{CheckpointMark, Mark};
use crate::release::ReleaseReason;

fn file(attempt: u64, checkpoint: u64) -> File {
    File::at(&format!("data/{attempt}/{checkpoint}/sums/0-1.sst")).unwrap()
}

fn record(attempt: u64, mark: Mark) -> Record {
    Record {
        attempt: Attempt(attempt),
        newest: None,
        next_checkpoint: CheckpointId(1),
        deployment: None,
        lineage: None,
        mark,
    }
}

fn checkpoint(attempt: u64, id: u64, files: &[File]) -> Record {
    let mark = CheckpointMark {
        id: CheckpointId(id),
        kind: CheckpointKind::Checkpoint,
        decided_at: Timestamp(0),
        swept_through: Attempt(0),
        sha256: String::new(),
        bytes: 0,
        state_bytes: 0,
        files: Arc::new(files.iter().cloned().collect()),
    };
    record(attempt, Mark::Checkpoint(mark))
}

fn chain(records: impl IntoIterator<Item = Record>) -> Records {
    (1..).map(SlotNumber).zip(records).collect()
}

fn keeping(attempt: u64, records: &Records) -> Keeping<'_> {
    Keeping {
        attempt: Attempt(attempt),
        records,
        unreadable: &[],
        is_savepoint_pending: false,
    }
}

#[test]
fn a_path_says_who_has_written_a_file_and_for_what() {
    let file = File::at("data/3/17/sums/0-1.sst").unwrap();
    assert_eq!(
        (file.attempt, file.checkpoint),
        (Attempt(3), CheckpointId(17))
    );
    for path in [
        "",
        "data",
        "data/3/17",
        "data/3/17/",
        "data/03/17/x",
        "data/+3/17/x",
        "data/x/17/x",
        "other/3/17/x",
        "data/3/17/../../4/1/x",
        "/data/3/17/x",
    ] {
        assert_eq!(File::at(path), None, "{path}");
    }
}

#[test]
fn a_checkpoint_may_name_what_the_newest_names_and_what_its_attempt_has_written_since() {
    let named = Files::from([file(1, 4), file(2, 7)]);
    let newest = Newest {
        id: CheckpointId(7),
        files: &named,
    };
    let may = |file: File| may_name(Attempt(2), Some(newest), &file);
    assert!(may(file(1, 4)) && may(file(2, 7)) && may(file(2, 8)));
    // Dropped before, never decided, of a predecessor, of a successor.
    assert!(!may(file(2, 6)) && !may(file(1, 5)) && !may(file(1, 8)) && !may(file(3, 8)));
    assert!(may_name(Attempt(1), None, &file(1, 1)));
    assert!(!may_name(Attempt(2), None, &file(1, 1)));
}

#[test]
fn nothing_goes_while_a_savepoint_is_pending() {
    let records = chain([checkpoint(2, 6, &[file(2, 6)])]);
    let there = [file(1, 1), file(2, 3), file(2, 6), file(2, 7)];
    let pending = |is_savepoint_pending| Keeping {
        is_savepoint_pending,
        ..keeping(2, &records)
    };
    assert_eq!(deletable(&there, pending(true)), []);
    assert_eq!(deletable(&there, pending(false)), there[..2]);
}

#[test]
fn a_slot_that_cannot_be_read_keeps_all_files_unless_everything_was_deleted_after_it() {
    let wipe = record(2, Mark::Released(ReleaseReason::Deleted.into()));
    let there = [file(1, 1), file(2, 9)];
    for (records, unreadable, left) in [
        (chain([checkpoint(2, 1, &[])]), SlotNumber(9), 0),
        (chain([checkpoint(2, 1, &[]), wipe]), SlotNumber(1), 2),
    ] {
        let unreadable = [unreadable];
        let keeping = Keeping {
            unreadable: &unreadable,
            ..keeping(2, &records)
        };
        assert_eq!(deletable(&there, keeping).len(), left);
    }
}

#[test]
fn a_deletion_of_everything_leaves_no_file_of_its_attempt_or_an_older_one() {
    let wipe = record(2, Mark::Released(ReleaseReason::Deleted.into()));
    let there = [file(1, 1), file(2, 1), file(2, 99), file(3, 1)];
    let records = chain([checkpoint(1, 1, &[file(1, 1)]), wipe.clone()]);
    assert_eq!(deletable(&there, keeping(2, &records)), there[..3]);
    // Behind it somebody has begun anew, with files of his own.
    let next = chain([wipe, checkpoint(3, 1, &[])]);
    assert_eq!(deletable(&there, keeping(3, &next)), there);
    let begun = chain([record(2, Mark::Released(ReleaseReason::Stopped.into()))]);
    assert_eq!(deletable(&there, keeping(2, &begun)), [file(1, 1)]);
}

proptest! {
    #[test]
    fn what_goes_is_named_by_nobody_and_by_nobody_later(
        attempts in prop::collection::vec(1_u64..4, 1..6),
        names in prop::collection::vec(prop::collection::btree_set((1_u64..4, 1_u64..7), 0..4), 6),
        holder in 1_u64..5,
        next in prop::collection::btree_set((1_u64..5, 1_u64..9), 0..6),
    ) {
        let mut attempts = attempts;
        attempts.sort_unstable();
        let files = |of: &BTreeSet<(u64, u64)>| -> Vec<File> {
            of.iter().map(|(attempt, id)| file(*attempt, *id)).collect()
        };
        let records = chain(attempts.iter().zip(1..).zip(&names).map(|((attempt, id), names)| {
            checkpoint(*attempt, id, &files(names))
        }));
        let there: Vec<File> = (1..5).flat_map(|a| (1..9).map(move |c| file(a, c))).collect();
        let gone = deletable(&there, keeping(holder, &records));
        let newest = records.values().next_back().unwrap().checkpoint().unwrap();
        for file in &gone {
            let named = records.values().any(|record| record.checkpoint().unwrap().files.contains(file));
            prop_assert!(!named, "{file:?} is named");
        }
        // Whatever the holder or a later attempt decides next by the rules, it names none of them.
        for by in holder..5 {
            let newest = Newest { id: newest.id, files: &newest.files };
            for file in files(&next) {
                let may = may_name(Attempt(by), Some(newest), &file);
                prop_assert!(!may || !gone.contains(&file), "{file:?} may be named by {by}");
            }
        }
    }
}
