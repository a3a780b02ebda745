//! State larger than memory, by itself: how fast it is, what memory it takes, and whether it is right after
//! a kill and at another parallelism.
//!
//! `cargo run --release -p millstream-state --features cold --example cold_kernel -- DIRECTORY KEYS RECORDS MIB`
//! makes the keys, then updates them as records come whose keys are distributed by Zipf's law (exponent 1), with a
//! checkpoint every so often, and prints a JSON line for each phase. `… restore DIRECTORY` in a new process
//! goes on from the newest checkpoint that a killed one has left, in two subtasks, and compares a thousandth
//! of the keys with what the records before the checkpoint make of them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_state::{
    Content, Keeper, Keyed, LocalDirectory, Memory, Result as StateResult, Slot, StateFiles, Table,
    TableOptions, Values,
};
use millstream_types::{
    CheckpointId, CheckpointKind, FileRef, KeyGroupRange, OperatorUid, StateSnapshot, keys,
};

type Error = Box<dyn std::error::Error>;

const ROWS: usize = 4_096;
const GROUPS: u32 = 1_024;
/// Of the keys, one in so many is compared.
const COMPARED: i64 = 1_000;
/// Records between two checkpoints.
const BETWEEN: u64 = 4_000_000;
/// Batches that pass between two flushes.
const FLUSHED: u64 = 4;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [command, directory] if command == "restore" => restore(Path::new(directory)),
        [directory, keys, records, mib] => {
            let bench = Bench {
                keys: keys.parse()?,
                records: records.parse()?,
                mib: mib.parse()?,
            };
            load(Path::new(directory), &bench)
        }
        _ => Err("usage: cold_kernel DIRECTORY KEYS RECORDS MIB, or restore DIRECTORY".into()),
    }
}

#[derive(Debug, Clone, Copy)]
struct Bench {
    keys: i64,
    records: u64,
    mib: u64,
}

impl Bench {
    /// The keys of a batch: first each once, then as records come.
    fn batch(&self, number: u64, into: &mut Vec<i64>) {
        into.clear();
        let first = number * ROWS as u64;
        for row in first..first + ROWS as u64 {
            let key = i64::try_from(row).unwrap_or(i64::MAX);
            into.push(if key < self.keys { key } else { self.zipf(row) });
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is below the number of keys"
    )]
    fn zipf(&self, row: u64) -> i64 {
        let unit = (mix(row) >> 11) as f64 / (1u64 << 53) as f64;
        let rank = (self.keys as f64).powf(unit) as i64 - 1;
        // Popular keys are anywhere.
        let spread = i128::from(rank) * 2_654_435_761 % i128::from(self.keys);
        spread as i64
    }

    fn memory(&self, directory: &Path) -> Memory {
        let hot = self.mib << 20;
        Memory::divided(2 * hot, hot, directory.join("local"))
    }

    fn first_zipf(&self) -> u64 {
        u64::try_from(self.keys)
            .unwrap_or_default()
            .div_ceil(ROWS as u64)
    }
}

const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// `count(*)` and `sum` of each key.
#[derive(Default)]
struct Sums {
    counts: Vec<i64>,
    sums: Vec<i64>,
}

impl Values for Sums {
    fn fields(&self) -> Vec<FieldRef> {
        let field = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
        vec![field("count"), field("sum")]
    }

    fn resize(&mut self, slots: usize) {
        self.counts.resize(slots, 0);
        self.sums.resize(slots, 0);
    }

    fn clear(&mut self, slot: Slot) {
        self.counts[slot as usize] = 0;
        self.sums[slot as usize] = 0;
    }

    fn gather(&self, slots: &[Slot]) -> StateResult<Vec<ArrayRef>> {
        let of = |column: &[i64]| {
            let values = slots.iter().map(|slot| column[*slot as usize]);
            Arc::new(Int64Array::from_iter_values(values)) as ArrayRef
        };
        Ok(vec![of(&self.counts), of(&self.sums)])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> StateResult<()> {
        for (column, values) in [&mut self.counts, &mut self.sums].into_iter().zip(columns) {
            let values = values.as_primitive::<Int64Type>().values();
            for (slot, value) in slots.iter().zip(values) {
                column[*slot as usize] = *value;
            }
        }
        Ok(())
    }
}

/// Files in a directory.
struct Files(PathBuf);

impl StateFiles for Files {
    fn put<'a>(
        &'a self,
        checkpoint: CheckpointId,
        _: &'a OperatorUid,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, StateResult<FileRef>> {
        async move {
            let path = format!("{checkpoint}-{name}");
            fs::write(self.0.join(&path), &bytes).map_err(|error| failure(&error))?;
            Ok(FileRef {
                path,
                bytes: bytes.len() as u64,
                crc32c: crc32c::crc32c(&bytes),
            })
        }
        .boxed()
    }

    fn get<'a>(&'a self, file: &'a FileRef) -> BoxFuture<'a, StateResult<Bytes>> {
        async move {
            let content = fs::read(self.0.join(&file.path));
            Ok(content.map_err(|error| failure(&error))?.into())
        }
        .boxed()
    }
}

fn failure(error: &std::io::Error) -> millstream_types::Failure {
    let (code, kind) = (
        millstream_types::ErrorCode::StoreUnavailable,
        millstream_types::ErrorKind::Retryable,
    );
    millstream_types::Failure::new(code, kind, error.to_string())
}

/// A subtask with its table.
struct Subtask {
    table: Keyed<Sums>,
    keeper: Keeper,
    batch: Vec<i64>,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
}

impl Subtask {
    fn new(groups: std::ops::Range<u32>, memory: &Memory) -> Self {
        let options = TableOptions {
            name: "groups".to_owned(),
            key: vec![Arc::new(Field::new("key", DataType::Int64, true))],
            key_groups: groups.clone(),
            max_parallelism: GROUPS,
            ttl: None,
        };
        let mut table = Keyed::new(options, Sums::default());
        table.set_memory(memory);
        Self {
            table,
            keeper: Keeper::new("uid".into(), groups, GROUPS),
            batch: Vec::new(),
            hashes: Vec::new(),
            slots: Vec::new(),
        }
    }

    fn columns(&mut self, batch: &[i64]) -> Result<Vec<ArrayRef>, Error> {
        let column: ArrayRef = Arc::new(Int64Array::from(batch.to_vec()));
        let schema = Schema::new(vec![Field::new("key", DataType::Int64, true)]);
        let rows = RecordBatch::try_new(Arc::new(schema), vec![column])?;
        keys::hash(&rows, &[0], &mut self.hashes)?;
        Ok(rows.columns().to_vec())
    }

    fn update(&mut self, batch: &[i64], flushes: bool) -> Result<(), Error> {
        let columns = self.columns(batch)?;
        self.table
            .resolve(&columns, &self.hashes, &mut self.slots)?;
        let values = self.table.values_mut();
        for (slot, key) in self.slots.iter().zip(batch) {
            values.counts[*slot as usize] += 1;
            values.sums[*slot as usize] += key;
        }
        self.table.touch_all(&self.slots);
        if flushes || self.table.is_tight(ROWS) {
            self.table.make_space()?;
        }
        Ok(())
    }

    /// Keys of this subtask that are to be compared, with their counts.
    fn compared(&mut self, keys: &[i64]) -> Result<BTreeMap<i64, i64>, Error> {
        let mut all = BTreeMap::new();
        let mut found = Vec::new();
        for batch in keys.chunks(ROWS) {
            let columns = self.columns(batch)?;
            self.table.find(&columns, &self.hashes, &mut found)?;
            for (key, slot) in batch.iter().zip(&found) {
                if let Some(slot) = slot {
                    all.insert(*key, self.table.values().counts[*slot as usize]);
                }
            }
            self.table.make_space()?;
        }
        Ok(all)
    }

    /// The pause, and the checkpoint.
    fn checkpoint(
        &mut self,
        number: u64,
        files: &Files,
    ) -> Result<(Duration, StateSnapshot), Error> {
        let begin = Instant::now();
        let tables: &mut [&mut dyn Table] = &mut [&mut self.table];
        let kind = CheckpointKind::Checkpoint;
        let frozen = self.keeper.freeze(tables, CheckpointId(number), kind)?;
        let pause = begin.elapsed();
        let mut pieces = frozen.pieces();
        let mut written = pieces.nothing_written();
        while let Some(encoded) = pieces.encode()? {
            let upload = encoded.upload(files).now_or_never();
            written.add(upload.ok_or("a directory does not wait")??);
        }
        Ok((pause, self.keeper.settle(tables, Ok(written))?))
    }
}

fn load(directory: &Path, bench: &Bench) -> Result<(), Error> {
    fs::create_dir_all(directory.join("files"))?;
    let files = Files(directory.join("files"));
    let memory = bench.memory(directory);
    let mut subtask = Subtask::new(0..GROUPS, &memory);
    let (mut number, mut checkpoint, mut pause) = (0, 0, Duration::ZERO);
    let zipf = bench.first_zipf();
    let last = zipf + bench.records.div_ceil(ROWS as u64);
    let between = BETWEEN / ROWS as u64;
    for (phase, until) in [("made", zipf), ("updated", last)] {
        let (begin, cpu, first, before) = (Instant::now(), cpu()?, number, subtask.table.stats());
        while number < until {
            let mut batch = std::mem::take(&mut subtask.batch);
            bench.batch(number, &mut batch);
            subtask.update(&batch, number % FLUSHED == 0)?;
            subtask.batch = batch;
            number += 1;
            if number % between == 0 || number == until {
                checkpoint += 1;
                let (paused, snapshot) = subtask.checkpoint(checkpoint, &files)?;
                pause = pause.max(paused);
                let newest = serde_json::json!({
                    "batches": number, "keys": bench.keys, "mib": bench.mib, "state": snapshot,
                });
                fs::write(directory.join("new.json"), newest.to_string())?;
                fs::rename(directory.join("new.json"), directory.join("newest.json"))?;
            }
        }
        let seconds = (crate::cpu()? - cpu).as_secs_f64();
        let records = (number - first) * ROWS as u64;
        let stats = subtask.table.stats();
        let hot = stats.hot_reads - before.hot_reads;
        let cold = stats.cold_reads - before.cold_reads;
        let line = serde_json::json!({
            "figure": phase, "keys": bench.keys, "records": records, "hot_mib": bench.mib,
            "thousand_per_cpu_second": (records as f64 / seconds / 1_000.0).round(),
            "seconds": begin.elapsed().as_secs(), "cpu_seconds": seconds.round(),
            "cold_keys": stats.cold_keys, "hit_ratio": hot as f64 / (hot + cold).max(1) as f64,
            "evictions": stats.evictions - before.evictions, "pause_ms_most": pause.as_millis() as u64,
            "runs": subtask.keeper.stats().runs, "run_mib": subtask.keeper.stats().bytes >> 20,
            "rss_mib_most": rss_mib()?,
        });
        say(&line.to_string())?;
    }
    Ok(())
}

fn restore(directory: &Path) -> Result<(), Error> {
    let newest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(directory.join("newest.json"))?)?;
    let number = |name: &str| newest[name].as_u64().ok_or("a number is missing");
    let bench = Bench {
        keys: i64::try_from(number("keys")?)?,
        records: 0,
        mib: number("mib")?,
    };
    let state: StateSnapshot = serde_json::from_value(newest["state"].clone())?;
    let memory = bench.memory(directory);
    let local = LocalDirectory::claim(&directory.join("fetched"))?;
    let files = Files(directory.join("files"));
    let (begin, cpu) = (Instant::now(), cpu()?);
    let (mut found, mut kept) = (BTreeMap::new(), 0);
    let compared: Vec<i64> = (0..bench.keys)
        .step_by(usize::try_from(COMPARED)?)
        .collect();
    let mut restored = Duration::ZERO;
    for index in 0..2 {
        let groups = keys::range(index, 2, GROUPS);
        let mut dealt = state.clone();
        dealt.key_groups = KeyGroupRange::from(groups.clone());
        dealt
            .runs
            .retain(|run| run.range.first < groups.end && groups.start < run.range.end);
        for run in &mut dealt.runs {
            run.range.first = run.range.first.max(groups.start);
            run.range.end = run.range.end.min(groups.end);
        }
        let mut contents = Vec::new();
        for run in &dealt.runs {
            let bytes = files.get(&run.file).now_or_never().ok_or("it waits")??;
            contents.push(Content::Local(local.write(&bytes)?));
        }
        let mut subtask = Subtask::new(groups, &memory);
        subtask
            .keeper
            .restore(&mut [&mut subtask.table], &dealt, contents)?;
        restored = begin.elapsed();
        let stats = subtask.table.stats();
        kept += stats.keys;
        found.extend(subtask.compared(&compared)?);
    }
    let seconds = (crate::cpu()? - cpu).as_secs_f64();
    let mut expected: BTreeMap<i64, i64> = BTreeMap::new();
    let mut batch = Vec::new();
    for number in 0..number("batches")? {
        bench.batch(number, &mut batch);
        for key in batch.iter().filter(|key| **key % COMPARED == 0) {
            *expected.entry(*key).or_default() += 1;
        }
    }
    if found != expected {
        return Err(format!(
            "{} keys are there, not {}, or others",
            found.len(),
            expected.len()
        )
        .into());
    }
    let line = serde_json::json!({
        "figure": "restored", "keys": kept, "subtasks": 2, "compared": found.len(), "equal": true,
        "seconds": restored.as_secs_f64(), "cpu_seconds": seconds.round(), "hot_mib": bench.mib,
        "rss_mib_most": rss_mib()?,
    });
    say(&line.to_string())
}

/// Of all threads.
fn cpu() -> Result<Duration, Error> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = text.rsplit_once(')').ok_or("no process")?;
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<u64>);
    let ticks: u64 = ticks.collect::<Result<Vec<_>, _>>()?.iter().sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Most memory that the process has had.
fn rss_mib() -> Result<u64, Error> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .ok_or("no VmHWM")?
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse()?;
    Ok(kib >> 10)
}

fn say(line: &str) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
