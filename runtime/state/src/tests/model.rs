//! A job of several subtasks does what a map does, whatever happens to it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use millstream_types::keys::key_group;
use millstream_types::{CheckpointKind, StateSnapshot};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use super::job::{GROUPS, Job, Kind, MemoryFiles, SMALL, TTL};
use crate::breakage::Breakage;
use crate::reader::{Contents, read_state};
use crate::{Frozen, Memory};

const KEYS: i64 = 24;

#[derive(Debug, Clone)]
enum Move {
    Add(Vec<i64>),
    Remove(Vec<i64>),
    /// Time passes, in milliseconds.
    Advance(u64),
    /// So many keys of each subtask leave memory, if they can.
    MoveOut(usize),
    /// Keys are looked for.
    Find(Vec<i64>),
    /// A barrier, and all that waits is written.
    Checkpoint,
    /// A barrier.
    Freeze {
        is_savepoint: bool,
    },
    /// The oldest snapshot on its way is written, in the subtasks whose bit is not set; if that are all,
    /// the checkpoint is complete.
    Settle {
        failed: u8,
    },
    /// Everything is lost that the newest complete checkpoint does not have.
    Restore {
        parallelism: u32,
    },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    // Some checkpoints have few changes, so that there are small runs.
    let keys = |most| prop::collection::vec(0..KEYS, 0..most);
    let one = prop_oneof![
        1 => keys(24).prop_map(Move::Add),
        3 => keys(3).prop_map(Move::Add),
        1 => keys(8).prop_map(Move::Remove),
        2 => keys(2).prop_map(Move::Remove),
        1 => (0..TTL).prop_map(Move::Advance),
        4 => (1usize..24).prop_map(Move::MoveOut),
        1 => keys(4).prop_map(Move::Find),
        6 => Just(Move::Checkpoint),
        2 => any::<bool>().prop_map(|is_savepoint| Move::Freeze { is_savepoint }),
        2 => prop_oneof![3 => Just(0u8), 1 => any::<u8>()].prop_map(|failed| Move::Settle { failed }),
        1 => (1u32..6).prop_map(|parallelism| Move::Restore { parallelism }),
    ];
    prop::collection::vec(one, 1..60)
}

/// A key's number, and when it changed last.
type Model = BTreeMap<i64, (i64, u64)>;

/// What is there, and what must be.
struct Checked {
    shape: (Kind, bool),
    job: Job,
    files: Arc<MemoryFiles>,
    model: Model,
    attempt: usize,
    checkpoint: u64,
    /// Barriers that wait to be settled, and the model as it was at each.
    waiting: Vec<(Vec<Frozen>, Model)>,
    complete: Option<(Vec<StateSnapshot>, Model)>,
    /// What each subtask's last snapshot names.
    named: Vec<BTreeSet<String>>,
}

impl Checked {
    fn new(shape: (Kind, bool), memory: Option<&Memory>) -> Self {
        let files = Arc::default();
        let job = Job::start(shape, (0, 2), (&[], &files), (0, SMALL), memory).unwrap();
        Self {
            shape,
            job,
            files,
            model: Model::new(),
            attempt: 0,
            checkpoint: 0,
            waiting: Vec::new(),
            complete: None,
            named: vec![BTreeSet::new(); 2],
        }
    }

    fn has_expired(&self, time: u64) -> bool {
        self.shape.1 && time + TTL <= self.job.now
    }

    fn play(&mut self, step: &Move) -> Result<(), String> {
        match step {
            Move::Add(keys) => {
                let mut made = 0;
                for key in keys {
                    let (now, ttl) = (self.job.now, self.shape.1);
                    let entry = self.model.entry(*key).or_insert((0, u64::MAX - TTL));
                    let is_new = entry.0 == 0 || ttl && entry.1 + TTL <= now;
                    made += usize::from(is_new);
                    *entry = if is_new { (1, now) } else { (entry.0 + 1, now) };
                }
                let found = self.job.add(keys);
                if found != made {
                    return Err(format!("{found} keys were made, not {made}"));
                }
            }
            Move::Remove(keys) => {
                self.job.remove(keys);
                self.model.retain(|key, _| !keys.contains(key));
            }
            Move::Advance(millis) => self.job.advance(*millis),
            Move::Checkpoint => {
                self.freeze(false);
                while !self.waiting.is_empty() {
                    self.settle(0)?;
                }
            }
            Move::Freeze { is_savepoint } => self.freeze(*is_savepoint),
            Move::Settle { failed } => self.settle(*failed)?,
            Move::Restore { parallelism } => self.restore(*parallelism)?,
            Move::MoveOut(count) => self.job.move_out(*count),
            Move::Find(keys) => return self.check(keys),
        }
        // To look for everything would bring all back into memory.
        if self.job.memory.is_none() {
            self.check_all()?;
        }
        Ok(())
    }

    fn freeze(&mut self, is_savepoint: bool) {
        self.checkpoint += 1;
        let kind = if is_savepoint {
            CheckpointKind::Savepoint
        } else {
            CheckpointKind::Checkpoint
        };
        let subtasks = self.job.subtasks.iter_mut();
        let frozen = subtasks.map(|subtask| subtask.freeze(self.checkpoint, kind));
        self.waiting.push((frozen.collect(), self.model.clone()));
    }

    fn settle(&mut self, failed: u8) -> Result<(), String> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (frozen, model) = self.waiting.remove(0);
        let mut snapshots = Vec::new();
        for (number, (subtask, frozen)) in self.job.subtasks.iter_mut().zip(frozen).enumerate() {
            let is_written = failed & (1 << number) == 0;
            let known: BTreeSet<String> = self.files.0.lock().unwrap().keys().cloned().collect();
            let written = is_written.then(|| subtask.write(frozen));
            let Ok(snapshot) = subtask.settle(written) else {
                continue;
            };
            let named: BTreeSet<String> = snapshot.files().map(|it| it.path.clone()).collect();
            let before = &self.named[number];
            if let Some(again) = named
                .iter()
                .find(|it| known.contains(*it) && !before.contains(*it))
            {
                return Err(format!("{again} is named again"));
            }
            if let Some(unneeded) = snapshot
                .runs
                .iter()
                .find(|run| run.range.first >= run.range.end)
            {
                return Err(format!("{unneeded:?} is named and not needed"));
            }
            self.named[number] = named;
            snapshots.push(snapshot);
        }
        if snapshots.len() == self.job.subtasks.len() {
            if !self.shape.1 {
                self.check_contents(&snapshots, &model)?;
            }
            self.complete = Some((snapshots, model));
        }
        Ok(())
    }

    /// What others read of a checkpoint is what was kept, in an order that does not depend on the
    /// parallelism.
    fn check_contents(&self, snapshots: &[StateSnapshot], model: &Model) -> Result<(), String> {
        let kind = self.shape.0;
        let mut expected = Vec::new();
        for (key, (number, _)) in model {
            let columns = kind.columns(&[*key]);
            let group = key_group(kind.hashes(&columns)[0], GROUPS);
            expected.push((group, text_of(&columns), *number));
        }
        let mut found = Vec::new();
        let mut last = (0, Vec::new());
        for snapshot in snapshots {
            let groups = snapshot.key_groups.first..snapshot.key_groups.end;
            let runs = snapshot.runs.iter().map(|run| {
                let content = self.files.0.lock().unwrap()[&run.file.path].clone();
                (run.clone(), content.into())
            });
            let reader = read_state(&groups, runs.collect()).unwrap();
            let Some(mut reader) = reader else {
                continue;
            };
            let mut parts = Vec::new();
            while let Some(part) = reader.next_part().unwrap() {
                parts.push(part);
            }
            let rows_of =
                |part: Contents| (0..part.rows.num_rows()).map(move |row| (part.clone(), row));
            for (contents, row) in parts.into_iter().flat_map(rows_of) {
                let row = contents.rows.slice(row, 1);
                let (key, values) = row.columns().split_at(contents.key);
                let group = key_group(kind.hashes(key)[0], GROUPS);
                if group < last.0 {
                    return Err(format!("group {group} comes after {last:?}"));
                }
                last = (group, text_of(key));
                let number = values[0].as_primitive::<Int64Type>().value(0);
                found.push((group, text_of(key), number));
            }
        }
        found.sort();
        expected.sort();
        if found == expected {
            return Ok(());
        }
        Err(format!("{found:?} is read, not {expected:?}"))
    }

    fn restore(&mut self, parallelism: u32) -> Result<(), String> {
        self.attempt += 1;
        let (snapshots, model) = self.complete.clone().unwrap_or_default();
        let now = (self.job.now, SMALL);
        let from = (snapshots.as_slice(), &self.files);
        let memory = self.job.memory.clone();
        let attempt = (self.attempt, parallelism);
        let job = Job::start(self.shape, attempt, from, now, memory.as_ref());
        self.job = job.map_err(|failure| failure.to_string())?;
        self.model = model;
        self.waiting.clear();
        // Each may name what it was restored from.
        let all = snapshots.iter().flat_map(StateSnapshot::files);
        let all: BTreeSet<String> = all.map(|file| file.path.clone()).collect();
        self.named = vec![all; parallelism as usize];
        Ok(())
    }

    /// What is kept of some keys is what must be. How many of them are there.
    fn check(&mut self, keys: &[i64]) -> Result<(), String> {
        let alive = self
            .model
            .iter()
            .filter(|(key, (_, time))| keys.contains(key) && !self.has_expired(*time));
        let expected: BTreeMap<i64, i64> =
            alive.map(|(key, (number, _))| (*key, *number)).collect();
        let found = self.job.read(keys);
        if found != expected {
            return Err(format!("{found:?} is there, not {expected:?}"));
        }
        Ok(())
    }

    /// As [`check`](Self::check), and there is nothing else.
    fn check_all(&mut self) -> Result<(), String> {
        let (hot, cold) = self.job.keys();
        let alive = self.model.values();
        let alive = alive.filter(|(_, time)| !self.has_expired(*time)).count();
        // Who has expired and was not looked for may count.
        if !self.shape.1 && hot as u64 + cold != alive as u64 {
            return Err(format!("{hot} and {cold} keys are there, not {alive}"));
        }
        self.check(&(0..KEYS).collect::<Vec<_>>())?;
        let (hot, cold) = self.job.keys();
        if hot != alive || cold != 0 && !self.shape.1 {
            return Err(format!("{hot} and {cold} keys are there, not {alive}"));
        }
        Ok(())
    }
}

/// Keys as text: values that are equal are written alike.
fn text_of(columns: &[ArrayRef]) -> Vec<String> {
    let columns = columns.iter().map(crate::key::normalised);
    columns.map(|column| format!("{column:?}")).collect()
}

/// The fault that random moves find.
fn fault(shape: (Kind, bool), breakage: Option<Breakage>, cases: u32) -> Option<String> {
    fault_with(shape, None, breakage, cases)
}

fn fault_with(
    shape: (Kind, bool),
    memory: Option<&Memory>,
    breakage: Option<Breakage>,
    cases: u32,
) -> Option<String> {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: if breakage.is_some() { 0 } else { 4_096 },
        ..Config::default()
    };
    let played = TestRunner::new(config).run(&moves(), |moves| {
        let mut checked = Checked::new(shape, memory);
        Breakage::with(breakage, || {
            for (number, step) in moves.iter().enumerate() {
                let failed = |reason| TestCaseError::fail(format!("{number}: {reason}"));
                checked.play(step).map_err(failed)?;
            }
            let failed = |reason| TestCaseError::fail(format!("at the end: {reason}"));
            checked.check_all().map_err(failed)
        })
    });
    match played {
        Ok(()) => None,
        Err(TestError::Fail(reason, moves)) => Some(format!("{reason} after {moves:?}")),
        Err(TestError::Abort(reason)) => Some(reason.to_string()),
    }
}

#[test]
fn keys_of_every_kind_are_kept_over_failures_restores_and_changes_of_parallelism() {
    for kind in [Kind::Number, Kind::Text, Kind::Several, Kind::Entries] {
        assert_eq!(fault((kind, false), None, 500), None, "{kind:?}");
    }
}

#[test]
fn keys_expire_after_their_last_change_and_stay_away() {
    for kind in [Kind::Number, Kind::Text] {
        assert_eq!(fault((kind, true), None, 500), None, "{kind:?}");
    }
}

#[cfg(feature = "cold")]
fn without_memory() -> (tempfile::TempDir, Memory) {
    let parent = tempfile::tempdir().unwrap();
    let memory = Memory::divided(1 << 30, 0, parent.path().to_owned());
    (parent, memory)
}

#[cfg(feature = "cold")]
#[test]
fn keys_that_leave_memory_and_come_back_are_what_they_were() {
    let (_parent, memory) = without_memory();
    for kind in [Kind::Number, Kind::Text, Kind::Several, Kind::Entries] {
        let fault = fault_with((kind, false), Some(&memory), None, 60);
        assert_eq!(fault, None, "{kind:?}");
    }
}

#[cfg(feature = "cold")]
#[test]
fn extended_keys_that_leave_memory_and_come_back_are_what_they_were() {
    let (_parent, memory) = without_memory();
    for kind in [Kind::Number, Kind::Text, Kind::Several, Kind::Entries] {
        for has_ttl in [false, true] {
            let fault = fault_with((kind, has_ttl), Some(&memory), None, 1_000);
            assert_eq!(fault, None, "{kind:?}");
        }
    }
}

#[cfg(feature = "cold")]
#[test]
fn every_seeded_fault_of_what_is_not_in_memory_is_found() {
    let (_parent, memory) = without_memory();
    for breakage in [
        Breakage::ColdIsNotHidden,
        Breakage::ChangeIsNotListed,
        Breakage::ChangeIsTheSame,
        Breakage::DeletionLost,
    ] {
        let shape = (Kind::Number, false);
        let found = fault_with(shape, Some(&memory), Some(breakage), 2_000);
        assert!(found.is_some(), "{breakage:?} is not found");
    }
}

#[cfg(feature = "cold")]
#[test]
fn keys_expire_also_where_they_are_not_in_memory() {
    let (_parent, memory) = without_memory();
    for kind in [Kind::Number, Kind::Text] {
        let fault = fault_with((kind, true), Some(&memory), None, 60);
        assert_eq!(fault, None, "{kind:?}");
    }
}

#[test]
fn every_seeded_fault_is_found() {
    for breakage in [
        Breakage::DeletionLost,
        Breakage::DeletionsForgottenEarly,
        Breakage::FailedIsSettled,
        Breakage::ReplacedIsNamed,
        Breakage::ReplacesTooMuch,
        Breakage::LastGroupLeftOut,
        Breakage::OlderWins,
        Breakage::ForeignGroupsAreTaken,
    ] {
        let found = fault((Kind::Number, false), Some(breakage), 20_000);
        assert!(found.is_some(), "{breakage:?} is not found");
    }
    let found = fault((Kind::Number, true), Some(Breakage::RestoreRenews), 20_000);
    assert!(found.is_some(), "a longer life is not found");
}

#[test]
fn a_subtask_whose_state_was_empty_loses_nothing_in_a_later_change_of_parallelism() {
    // Its runs have lower numbers than those that others still name.
    let moves = [
        Move::Add(vec![23]),
        Move::Checkpoint,
        Move::Add(vec![11]),
        Move::Checkpoint,
        Move::Restore { parallelism: 3 },
        Move::Advance(66),
        Move::Remove(vec![11]),
        Move::Advance(934),
        Move::Checkpoint,
        Move::Restore { parallelism: 3 },
        Move::Add(vec![11]),
        Move::Checkpoint,
        Move::Restore { parallelism: 1 },
    ];
    let mut checked = Checked::new((Kind::Number, true), None);
    for step in &moves {
        checked.play(step).unwrap();
    }
}
