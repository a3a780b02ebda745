//! A small job: an operator with a table, in several subtasks, with files in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, FieldRef};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_types::{
    CheckpointId, CheckpointKind, ErrorCode, ErrorKind, Failure, FileRef, KeyGroupRange,
    OperatorUid, StateSnapshot, Timestamp, keys,
};

use crate::coverage::meet;
use crate::policy::Limits;
use crate::{
    Content, Frozen, Keeper, Keyed, Memory, Result, Slot, StateFiles, Table, TableOptions, Values,
    Written,
};

pub(super) const GROUPS: u32 = 16;
pub(super) const TTL: u64 = 1_000;

/// One number for each key.
#[derive(Debug, Default)]
pub(super) struct Numbers(pub(super) Vec<i64>);

impl Values for Numbers {
    fn fields(&self) -> Vec<FieldRef> {
        vec![Arc::new(Field::new("number", DataType::Int64, false))]
    }

    fn resize(&mut self, slots: usize) {
        self.0.resize(slots, 0);
    }

    fn clear(&mut self, slot: Slot) {
        self.0[slot as usize] = 0;
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let numbers = slots.iter().map(|slot| self.0[*slot as usize]);
        Ok(vec![Arc::new(Int64Array::from_iter_values(numbers))])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<()> {
        let numbers = columns[0].as_primitive::<Int64Type>();
        for (slot, number) in slots.iter().zip(numbers.values()) {
            self.0[*slot as usize] = *number;
        }
        Ok(())
    }
}

/// Which keys a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Text,
    Several,
    Entries,
}

impl Kind {
    pub(super) fn fields(self) -> Vec<FieldRef> {
        let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, true));
        match self {
            Self::Number => vec![field("id", DataType::Int64)],
            Self::Text => vec![field("name", DataType::Utf8)],
            Self::Several => vec![
                field("name", DataType::Utf8),
                field("weight", DataType::Float64),
            ],
            Self::Entries => vec![
                field("id", DataType::Int64),
                field("value", DataType::Int64),
            ],
        }
    }

    const fn entry(self) -> usize {
        matches!(self, Self::Entries) as usize
    }

    /// Columns for keys that are given by number; 0 is null where it can be.
    pub(super) fn columns(self, numbers: &[i64]) -> Vec<ArrayRef> {
        let some = |number: &i64| (*number != 0).then_some(*number);
        let text = |number: &i64| some(number).map(|number| format!("key {number}"));
        let numbers_of = |of: &dyn Fn(&i64) -> Option<i64>| {
            Arc::new(numbers.iter().map(of).collect::<Int64Array>()) as ArrayRef
        };
        match self {
            Self::Number => vec![numbers_of(&some)],
            Self::Text => vec![Arc::new(numbers.iter().map(text).collect::<StringArray>())],
            Self::Several => {
                let names = numbers.iter().map(|number| text(&(number / 4)));
                let weights = numbers.iter().map(|number| match number % 4 {
                    0 => None,
                    1 => Some(f64::NAN),
                    2 => Some(-0.0),
                    _ => Some(1.5),
                });
                vec![
                    Arc::new(names.collect::<StringArray>()),
                    Arc::new(weights.collect::<Float64Array>()),
                ]
            }
            Self::Entries => vec![
                numbers_of(&|number| Some(number / 8)),
                numbers_of(&|number| some(&(number % 8))),
            ],
        }
    }

    pub(super) fn hashes(self, columns: &[ArrayRef]) -> Vec<u64> {
        let fields: Vec<Field> = self.fields().iter().map(|it| it.as_ref().clone()).collect();
        let schema = Arc::new(arrow_schema::Schema::new(fields));
        let rows = RecordBatch::try_new(schema, columns.to_vec()).unwrap();
        let grouping: Vec<usize> = (0..columns.len() - self.entry()).collect();
        let mut hashes = Vec::new();
        keys::hash(&rows, &grouping, &mut hashes).unwrap();
        if self.entry() > 0 {
            keys::entries(&mut hashes, &columns[columns.len() - 1..], GROUPS).unwrap();
        }
        hashes
    }

    pub(super) fn table(self, groups: std::ops::Range<u32>, has_ttl: bool) -> Keyed<Numbers> {
        let options = TableOptions {
            name: "numbers".to_owned(),
            key: self.fields(),
            key_groups: groups,
            max_parallelism: GROUPS,
            ttl: has_ttl.then_some(Duration::from_millis(TTL)),
        };
        Keyed::new(options, Numbers::default()).with_entries(self.entry())
    }
}

/// Files in memory; a name is used once.
#[derive(Debug, Default)]
pub(super) struct MemoryFiles(pub(super) Mutex<BTreeMap<String, Bytes>>);

impl StateFiles for MemoryFiles {
    fn put<'a>(
        &'a self,
        checkpoint: CheckpointId,
        operator: &'a OperatorUid,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<FileRef>> {
        async move {
            let path = format!("{checkpoint}/{operator}/{name}");
            let file = FileRef {
                path: path.clone(),
                bytes: bytes.len() as u64,
                crc32c: crc32c::crc32c(&bytes),
            };
            let before = self.0.lock().unwrap().insert(path, bytes);
            assert!(before.is_none(), "a name is used once");
            Ok(file)
        }
        .boxed()
    }

    fn get<'a>(&'a self, file: &'a FileRef) -> BoxFuture<'a, Result<Bytes>> {
        async move { Ok(self.0.lock().unwrap()[&file.path].clone()) }.boxed()
    }
}

/// One subtask.
pub(super) struct Subtask {
    pub(super) table: Keyed<Numbers>,
    pub(super) keeper: Keeper,
    /// Prefix of its files.
    name: String,
    pub(super) files: Arc<MemoryFiles>,
}

impl Subtask {
    pub(super) fn freeze(&mut self, checkpoint: u64, kind: CheckpointKind) -> Frozen {
        let table: &mut dyn Table = &mut self.table;
        let checkpoint = CheckpointId(checkpoint);
        self.keeper.freeze(&mut [table], checkpoint, kind).unwrap()
    }

    pub(super) fn write(&self, frozen: Frozen) -> Written {
        let mut encoded = frozen.encode().unwrap();
        encoded.rename(&self.name);
        let upload = encoded.upload(self.files.as_ref());
        upload
            .now_or_never()
            .expect("memory does not wait")
            .unwrap()
    }

    pub(super) fn settle(&mut self, written: Option<Written>) -> Result<StateSnapshot> {
        let failed = || {
            let (code, kind) = (ErrorCode::StoreUnavailable, ErrorKind::Retryable);
            Failure::new(code, kind, "not written")
        };
        let table: &mut dyn Table = &mut self.table;
        let written = written.ok_or_else(failed);
        self.keeper.settle(&mut [table], written)
    }
}

/// All subtasks.
pub(super) struct Job {
    pub(super) kind: Kind,
    pub(super) subtasks: Vec<Subtask>,
    pub(super) now: u64,
    pub(super) memory: Option<Memory>,
}

pub(super) const SMALL: Limits = Limits {
    units: 4,
    least_unit: 1,
    fewest_units: 1,
    small_runs: 3,
    many_runs: 12,
    file_bytes: 600,
};

impl Job {
    /// A job of an attempt, from snapshots or from nothing.
    pub(super) fn start(
        (kind, has_ttl): (Kind, bool),
        (attempt, parallelism): (usize, u32),
        (snapshots, files): (&[StateSnapshot], &Arc<MemoryFiles>),
        (now, limits): (u64, Limits),
        memory: Option<&Memory>,
    ) -> Result<Self> {
        let mut subtasks = Vec::new();
        for subtask in 0..parallelism {
            let groups = keys::range(subtask, parallelism, GROUPS);
            let mut table = kind.table(groups.clone(), has_ttl);
            table.set_now(Timestamp(now));
            if let Some(memory) = memory {
                table.set_memory(memory);
            }
            let mut keeper = Keeper::new("uid".into(), groups.clone(), GROUPS);
            keeper.set_limits(limits);
            let dealt = dealt(snapshots, &groups);
            if !snapshots.is_empty() {
                let contents = dealt.runs.iter();
                let contents = contents.map(|run| files.0.lock().unwrap()[&run.file.path].clone());
                let contents = contents.map(|content: Bytes| match memory {
                    // As a worker fetches it where it is much.
                    Some(memory) => {
                        let directory = memory.directory().unwrap();
                        directory.map_or_else(
                            || Content::from(content.clone()),
                            |directory| Content::Local(directory.write(&content).unwrap()),
                        )
                    }
                    None => Content::from(content),
                });
                let contents = contents.collect();
                keeper.restore(&mut [&mut table as &mut dyn Table], &dealt, contents)?;
            }
            subtasks.push(Subtask {
                table,
                keeper,
                name: format!("{attempt}-{subtask}"),
                files: Arc::clone(files),
            });
        }
        Ok(Self {
            kind,
            subtasks,
            now,
            memory: memory.cloned(),
        })
    }

    /// The rows of each subtask: positions of keys that are its own.
    fn dealt(&self, numbers: &[i64]) -> Vec<Vec<i64>> {
        let hashes = self.kind.hashes(&self.kind.columns(numbers));
        let parallelism = u32::try_from(self.subtasks.len()).unwrap();
        let mut dealt = vec![Vec::new(); self.subtasks.len()];
        for (number, hash) in numbers.iter().zip(hashes) {
            let group = keys::key_group(hash, GROUPS);
            dealt[keys::subtask(group, parallelism, GROUPS) as usize].push(*number);
        }
        dealt
    }

    /// Adds 1 to each of these keys. Returns how many were made.
    pub(super) fn add(&mut self, numbers: &[i64]) -> usize {
        let mut made = 0;
        for (subtask, numbers) in self.dealt(numbers).into_iter().enumerate() {
            let columns = self.kind.columns(&numbers);
            let hashes = self.kind.hashes(&columns);
            let table = &mut self.subtasks[subtask].table;
            let mut slots = Vec::new();
            table.resolve(&columns, &hashes, &mut slots).unwrap();
            made += table.made().len();
            for slot in slots {
                table.values_mut().0[slot as usize] += 1;
                table.touch(slot);
            }
        }
        made
    }

    pub(super) fn remove(&mut self, numbers: &[i64]) {
        for (subtask, numbers) in self.dealt(numbers).into_iter().enumerate() {
            let columns = self.kind.columns(&numbers);
            let hashes = self.kind.hashes(&columns);
            let table = &mut self.subtasks[subtask].table;
            let mut slots = Vec::new();
            table.find(&columns, &hashes, &mut slots).unwrap();
            for slot in slots.into_iter().flatten().collect::<BTreeSet<_>>() {
                table.remove(slot);
            }
        }
    }

    pub(super) fn advance(&mut self, millis: u64) {
        self.now += millis;
        for subtask in &mut self.subtasks {
            subtask.table.set_now(Timestamp(self.now));
        }
    }

    /// What is kept: numbers of those of these keys that are there.
    pub(super) fn read(&mut self, numbers: &[i64]) -> BTreeMap<i64, i64> {
        let mut found = BTreeMap::new();
        for (subtask, numbers) in self.dealt(numbers).into_iter().enumerate() {
            let columns = self.kind.columns(&numbers);
            let hashes = self.kind.hashes(&columns);
            let table = &mut self.subtasks[subtask].table;
            let mut slots = Vec::new();
            table.find(&columns, &hashes, &mut slots).unwrap();
            for (number, slot) in numbers.iter().zip(slots) {
                if let Some(slot) = slot {
                    found.insert(*number, table.values().0[slot as usize]);
                }
            }
        }
        found
    }

    /// Moves keys out of memory, so many of each subtask.
    pub(super) fn move_out(&mut self, count: usize) {
        for subtask in &mut self.subtasks {
            if self.memory.is_some() {
                subtask.table.move_out(count).unwrap();
            }
        }
    }

    /// How many keys there are in memory, whichever they are, without those that have expired; and how many
    /// are not in memory.
    pub(super) fn keys(&self) -> (usize, u64) {
        let subtasks = || self.subtasks.iter();
        let hot = subtasks().map(|subtask| subtask.table.slots().count());
        let cold = subtasks().map(|subtask| subtask.table.stats().cold_keys);
        (hot.sum(), cold.sum())
    }
}

/// What a subtask with these groups gets of the snapshots of all.
pub(super) fn dealt(snapshots: &[StateSnapshot], groups: &std::ops::Range<u32>) -> StateSnapshot {
    let mut dealt = StateSnapshot::default();
    for snapshot in snapshots {
        dealt.declarations.clone_from(&snapshot.declarations);
        for run in &snapshot.runs {
            let range = meet(&(run.range.first..run.range.end), groups);
            if !range.is_empty() {
                let mut run = run.clone();
                run.range = KeyGroupRange::from(range);
                dealt.runs.push(run);
            }
        }
    }
    dealt.key_groups = groups.clone().into();
    dealt
}
