//! What is not in memory, and disks that do not keep it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_types::{CheckpointKind, ErrorCode, ErrorKind, StateSnapshot};

use super::job::{GROUPS, Job, Kind, MemoryFiles, SMALL};
use crate::policy::Limits;
use crate::{Keyed, Memory, Table};

const SHAPE: (Kind, bool) = (Kind::Text, false);

fn keys(range: std::ops::Range<i64>) -> Vec<i64> {
    range.collect()
}

/// Looks for keys, adds 1 to each, and moves out of memory what is too much.
fn add(table: &mut Keyed<super::job::Numbers>, keys: &[i64]) -> crate::Result<()> {
    let columns = Kind::Number.columns(keys);
    let hashes = Kind::Number.hashes(&columns);
    let mut slots = Vec::new();
    table.resolve(&columns, &hashes, &mut slots)?;
    for slot in &slots {
        table.values_mut().0[*slot as usize] += 1;
    }
    table.touch_all(&slots);
    table.make_space()
}

#[test]
fn memory_is_what_it_may_be_however_many_keys_there_are() {
    let parent = tempfile::tempdir().unwrap();
    let limit = 1 << 20;
    let memory = Memory::with_directory(limit, Some(parent.path().to_owned()));
    let mut table = Kind::Number.table(0..GROUPS, false);
    table.set_memory(&memory);
    let mut most = 0;
    for round in 0..3 {
        for start in (0..100_000).step_by(1_000) {
            add(&mut table, &keys(start..start + 1_000)).unwrap();
            most = most.max(memory.used());
        }
        let stats = table.stats();
        assert_eq!(stats.keys, 100_000, "round {round}");
        assert!(stats.cold_keys > 80_000, "{stats:?}");
        assert!(stats.evictions >= stats.cold_keys, "{stats:?}");
    }
    assert!(most < limit * 3 / 4, "{most} bytes were used");
    let stats = table.stats();
    assert!(stats.cold_reads > 150_000, "{stats:?}");
    let mut found = Vec::new();
    for start in (0..100_000).step_by(1_000) {
        let columns = Kind::Number.columns(&keys(start..start + 1_000));
        let hashes = Kind::Number.hashes(&columns);
        table.find(&columns, &hashes, &mut found).unwrap();
        for slot in &found {
            assert_eq!(table.values().0[slot.unwrap() as usize], 3);
        }
        table.make_space().unwrap();
    }
    assert!(memory.used() < limit);
}

#[test]
fn a_batch_that_alone_needs_more_than_the_memory_fails_and_says_how_much() {
    let parent = tempfile::tempdir().unwrap();
    let memory = Memory::with_directory(1 << 20, Some(parent.path().to_owned()));
    let mut table = Kind::Number.table(0..GROUPS, false);
    table.set_memory(&memory);
    let failure = add(&mut table, &keys(0..40_000)).unwrap_err();
    assert_eq!(failure.code, ErrorCode::StateTooLarge);
    for word in ["and may have 1.0 MiB", "`numbers` has 40000 keys"] {
        assert!(failure.message.contains(word), "{failure}");
    }
}

#[test]
fn keys_that_are_looked_for_again_and_again_stay_in_memory() {
    let parent = tempfile::tempdir().unwrap();
    let memory = Memory::with_directory(1 << 20, Some(parent.path().to_owned()));
    let mut table = Kind::Number.table(0..GROUPS, false);
    table.set_memory(&memory);
    for start in (10_000..100_000).step_by(500) {
        add(&mut table, &keys(start..start + 500)).unwrap();
        add(&mut table, &keys(0..1_000)).unwrap();
    }
    let before = table.stats().cold_reads;
    add(&mut table, &keys(0..1_000)).unwrap();
    let again = table.stats().cold_reads - before;
    assert!(again < 100, "{again} keys had to be brought back");
}

/// A checkpoint of a thousand keys.
fn checkpoint() -> (Vec<StateSnapshot>, Arc<MemoryFiles>) {
    let files = Arc::default();
    let mut job = Job::start(SHAPE, (0, 1), (&[], &files), (0, SMALL), None).unwrap();
    job.add(&keys(0..1_000));
    let subtask = &mut job.subtasks[0];
    let frozen = subtask.freeze(1, CheckpointKind::Checkpoint);
    let written = subtask.write(frozen);
    (vec![subtask.settle(Some(written)).unwrap()], files)
}

fn tables(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tables(&path));
        } else if path.extension().is_some_and(|extension| extension == "sst") {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_restore_that_does_not_fit_fills_the_disk_and_leaves_no_files_of_runs() {
    let (snapshots, files) = checkpoint();
    let parent = tempfile::tempdir().unwrap();
    let memory = Memory::divided(1 << 30, 0, parent.path().to_owned());
    let now = (0, Limits::default());
    let mut job = Job::start(SHAPE, (1, 3), (&snapshots, &files), now, Some(&memory)).unwrap();
    assert_eq!(job.keys(), (0, 1_000));
    assert_eq!(job.read(&keys(0..2_000)).len(), 1_000);
    assert_eq!(job.keys(), (1_000, 0));
    let directory = memory.directory().unwrap().unwrap();
    let entries = fs::read_dir(directory.path()).unwrap();
    let runs = entries.filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().contains("run")
    });
    assert_eq!(runs.count(), 0);
}

#[test]
fn a_file_that_has_changed_is_never_read_as_state() {
    let (snapshots, files) = checkpoint();
    let parent = tempfile::tempdir().unwrap();
    let memory = Memory::divided(1 << 30, 0, parent.path().to_owned());
    let now = (0, SMALL);
    let job = Job::start(SHAPE, (1, 1), (&snapshots, &files), now, Some(&memory));
    let mut job = job.unwrap();
    let tables = tables(parent.path());
    assert_eq!(tables.len(), 1);
    let mut content = fs::read(&tables[0]).unwrap();
    // In the middle of the rows, which lie before the filter.
    let middle = content.len() / 4;
    content[middle] ^= 1;
    fs::write(&tables[0], &content).unwrap();
    let table = &mut job.subtasks[0].table;
    let columns = SHAPE.0.columns(&keys(0..1_000));
    let hashes = SHAPE.0.hashes(&columns);
    let failure = table.find(&columns, &hashes, &mut Vec::new()).unwrap_err();
    assert_eq!(failure.code, ErrorCode::LocalStateFailed);
    // The job goes on from its checkpoint.
    assert_eq!(failure.kind, ErrorKind::Retryable);
    assert!(failure.message.contains("checksum"), "{failure}");
    let directory = parent.path().display().to_string();
    assert!(failure.message.contains(&directory), "{failure}");
}

#[test]
fn a_checkpoint_of_what_is_not_in_memory_is_cut_into_files_by_key_groups() {
    let parent = tempfile::tempdir().unwrap();
    let memory = Memory::divided(1 << 30, 0, parent.path().to_owned());
    let files = Arc::default();
    let mut job = Job::start(SHAPE, (0, 1), (&[], &files), (0, SMALL), Some(&memory)).unwrap();
    job.add(&keys(0..500));
    job.move_out(400);
    assert_eq!(job.keys(), (100, 400));
    let subtask = &mut job.subtasks[0];
    let frozen = subtask.freeze(1, CheckpointKind::Checkpoint);
    // What happens behind the barrier is not in it.
    job.add(&keys(100..600));
    job.remove(&keys(0..50));
    job.move_out(1_000);
    let subtask = &mut job.subtasks[0];
    let written = subtask.write(frozen);
    let snapshot = subtask.settle(Some(written)).unwrap();
    assert!(snapshot.runs.len() > 4, "{} files", snapshot.runs.len());
    let mut next = 0;
    for run in &snapshot.runs {
        assert_eq!(run.range.first, next);
        next = run.range.end;
    }
    assert_eq!(next, GROUPS);
    let restored = Job::start(SHAPE, (1, 2), (&[snapshot], &files), (0, SMALL), None);
    let found = restored.unwrap().read(&keys(0..600));
    assert_eq!(found.len(), 500);
    assert!(found.values().all(|number| *number == 1));
}
