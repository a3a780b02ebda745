//! Speed of keyed state, by itself: updates, barriers, files, restores.
//!
//! `cargo run --release -p millstream-state --example state_kernel [seconds per line]` prints one JSON
//! line per figure, by the CPU time of its thread. An update is `count(*)` and `sum` of one row: its key is hashed, found or made, marked
//! as changed, and two numbers are added to. Beside it stands its kernel: hashes that are there, and a hash
//! table without collisions, deletions, nulls or changes, for keys that are numbers.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, FieldRef};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_state::{
    Keeper, Keyed, Result as StateResult, Slot, StateFiles, Table, TableOptions, Values,
};
use millstream_types::{CheckpointId, CheckpointKind, FileRef, OperatorUid, StateSnapshot, keys};

type Error = Box<dyn std::error::Error>;

const ROWS: usize = 4_096;
const GROUPS: u32 = 1_024;
const MILLION: usize = 1_000_000;

fn main() -> Result<(), Error> {
    let seconds = std::env::args()
        .nth(1)
        .map_or(Ok(1.0), |text| text.parse())?;
    let budget = Duration::from_secs_f64(seconds);
    for kind in [Kind::Number, Kind::Text] {
        for count in [1_000, MILLION] {
            updates(kind, count, budget)?;
        }
    }
    for kind in [Kind::Number, Kind::Text] {
        barriers(kind)?;
        hundredth(kind)?;
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Kind {
    Number,
    Text,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Number => "int64",
            Self::Text => "string of 12",
        }
    }

    fn field(self) -> FieldRef {
        let data_type = match self {
            Self::Number => DataType::Int64,
            Self::Text => DataType::Utf8,
        };
        Arc::new(Field::new("key", data_type, true))
    }

    fn column(self, numbers: &[i64]) -> ArrayRef {
        match self {
            Self::Number => Arc::new(Int64Array::from(numbers.to_vec())),
            Self::Text => {
                let texts = numbers.iter().map(|number| format!("cust{number:08}"));
                Arc::new(StringArray::from_iter_values(texts))
            }
        }
    }

    fn table(self) -> Keyed<Sums> {
        let options = TableOptions {
            name: "groups".to_owned(),
            key: vec![self.field()],
            key_groups: 0..GROUPS,
            max_parallelism: GROUPS,
            ttl: None,
        };
        Keyed::new(options, Sums::default())
    }
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

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Batches of random keys, and the numbers to add.
fn batches(kind: Kind, count: usize, batches: usize) -> Result<Vec<RecordBatch>, Error> {
    let mut state = 88_172_645_463_325_252;
    let mut batch = || {
        let numbers: Vec<i64> = (0..ROWS)
            .map(|_| i64::try_from(random(&mut state) % count as u64))
            .collect::<Result<_, _>>()?;
        let columns = [
            ("key", kind.column(&numbers)),
            ("amount", Kind::Number.column(&numbers)),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    };
    (0..batches).map(|_| batch()).collect()
}

/// One of each key.
fn all(kind: Kind, count: usize) -> Result<Vec<RecordBatch>, Error> {
    let numbers: Vec<i64> = (0..count).map(i64::try_from).collect::<Result<_, _>>()?;
    let batch = |numbers: &[i64]| {
        let columns = [
            ("key", kind.column(numbers)),
            ("amount", Kind::Number.column(numbers)),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    };
    numbers.chunks(ROWS).map(batch).collect()
}

#[derive(Default)]
struct Scratch {
    hashes: Vec<u64>,
    slots: Vec<Slot>,
}

fn update(table: &mut Keyed<Sums>, rows: &RecordBatch, scratch: &mut Scratch) -> Result<(), Error> {
    keys::hash(rows, &[0], &mut scratch.hashes)?;
    table.resolve(&rows.columns()[..1], &scratch.hashes, &mut scratch.slots)?;
    table.touch_all(&scratch.slots);
    let amounts = rows.column(1).as_primitive::<Int64Type>().values();
    let sums = table.values_mut();
    for (slot, amount) in scratch.slots.iter().zip(amounts) {
        sums.counts[*slot as usize] += 1;
        sums.sums[*slot as usize] += amount;
    }
    Ok(())
}

/// CPU time of this thread.
fn cpu() -> Result<Duration, Error> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = stat.split_whitespace().next().ok_or("no schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}

fn say(line: &str) -> Result<(), Error> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Millions of rows per second of one pass over batches, repeated until the budget is used.
fn rate(
    batches: &[RecordBatch],
    budget: Duration,
    mut pass: impl FnMut(&RecordBatch) -> Result<(), Error>,
) -> Result<f64, Error> {
    let begin = cpu()?;
    let mut rows = 0;
    while cpu()?.saturating_sub(begin) < budget {
        for batch in batches {
            pass(batch)?;
            rows += batch.num_rows();
        }
    }
    Ok(rows as f64 / cpu()?.saturating_sub(begin).as_secs_f64() / 1e6)
}

fn updates(kind: Kind, count: usize, budget: Duration) -> Result<(), Error> {
    let mut table = kind.table();
    let mut scratch = Scratch::default();
    for batch in &all(kind, count)? {
        update(&mut table, batch, &mut scratch)?;
    }
    let batches = batches(kind, count, 256)?;
    let hashing = rate(&batches, budget, |rows| {
        Ok(keys::hash(rows, &[0], &mut scratch.hashes)?)
    })?;
    let finding = rate(&batches, budget, |rows| {
        keys::hash(rows, &[0], &mut scratch.hashes)?;
        let key = &rows.columns()[..1];
        Ok(table.resolve(key, &scratch.hashes, &mut scratch.slots)?)
    })?;
    let whole = rate(&batches, budget, |rows| {
        update(&mut table, rows, &mut scratch)
    })?;
    let kernel = kernel(&batches, count, budget)?;
    say(&format!(
        r#"{{"figure":"updates","key":"{}","keys":{count},"million_per_cpu_second":{whole:.1},"hash_only":{hashing:.1},"hash_and_find":{finding:.1},"kernel":{kernel:.1},"bytes_per_key":{}}}"#,
        kind.name(),
        table.bytes() / count
    ))
}

/// The same work of a table of the key's own number.
fn kernel(batches: &[RecordBatch], count: usize, budget: Duration) -> Result<f64, Error> {
    let buckets = (count * 2).next_power_of_two();
    let mut table = vec![[0i64; 3]; buckets];
    let mut hashes = Vec::new();
    rate(batches, budget, |rows| {
        let keyed = RecordBatch::try_from_iter([("key", Arc::clone(rows.column(1)))])?;
        keys::hash(&keyed, &[0], &mut hashes)?;
        let values = rows.column(1).as_primitive::<Int64Type>().values();
        for (hash, value) in hashes.iter().zip(values) {
            let bucket = &mut table[usize::try_from(hash % buckets as u64)?];
            bucket[0] = *value;
            bucket[1] += 1;
            bucket[2] += value;
        }
        Ok(())
    })
}

#[derive(Default)]
struct MemoryFiles(Mutex<BTreeMap<String, Bytes>>);

impl StateFiles for MemoryFiles {
    fn put<'a>(
        &'a self,
        checkpoint: CheckpointId,
        operator: &'a OperatorUid,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, StateResult<FileRef>> {
        let file = FileRef {
            path: format!("{checkpoint}/{operator}/{name}"),
            bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(&bytes),
        };
        if let Ok(mut files) = self.0.lock() {
            files.insert(file.path.clone(), bytes);
        }
        futures::future::ready(Ok(file)).boxed()
    }

    fn get<'a>(&'a self, file: &'a FileRef) -> BoxFuture<'a, StateResult<Bytes>> {
        let files = self.0.lock();
        let found = files.map(|files| files.get(&file.path).cloned().unwrap_or_default());
        futures::future::ready(Ok(found.unwrap_or_default())).boxed()
    }
}

/// What a checkpoint took.
struct Taken {
    pause: Duration,
    encode: Duration,
    bytes: usize,
    snapshot: StateSnapshot,
}

fn checkpoint(
    table: &mut Keyed<Sums>,
    keeper: &mut Keeper,
    files: &MemoryFiles,
    number: u64,
) -> Result<Taken, Error> {
    let tables: &mut [&mut dyn Table] = &mut [table];
    let begin = cpu()?;
    let frozen = keeper.freeze(tables, CheckpointId(number), CheckpointKind::Checkpoint)?;
    let pause = cpu()?.saturating_sub(begin);
    let begin = cpu()?;
    let encoded = frozen.encode()?;
    let encode = cpu()?.saturating_sub(begin);
    let bytes = encoded.bytes();
    let written = encoded.upload(files).now_or_never();
    let written = written.ok_or("memory does not wait")?;
    let snapshot = keeper.settle(tables, written)?;
    Ok(Taken {
        pause,
        encode,
        bytes,
        snapshot,
    })
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Barriers with a million keys that have all changed, and a restore.
fn barriers(kind: Kind) -> Result<(), Error> {
    const ROUNDS: usize = 20;
    let files = MemoryFiles::default();
    let mut table = kind.table();
    let mut keeper = Keeper::new("uid".into(), 0..GROUPS, GROUPS);
    let all = all(kind, MILLION)?;
    let mut scratch = Scratch::default();
    let mut taken = Vec::new();
    for round in 0..ROUNDS {
        for batch in &all {
            update(&mut table, batch, &mut scratch)?;
        }
        taken.push(checkpoint(&mut table, &mut keeper, &files, round as u64)?);
    }
    let mut pauses: Vec<Duration> = taken.iter().map(|taken| taken.pause).collect();
    pauses.sort_unstable();
    let last = taken.last().ok_or("no round")?;
    let contents = last.snapshot.runs.iter().map(|run| {
        let files = files.0.lock().map_err(|_| "a panic")?;
        Ok(files.get(&run.file.path).cloned().unwrap_or_default())
    });
    let contents = contents.collect::<Result<Vec<_>, Error>>()?;
    let mut restored = kind.table();
    let begin = cpu()?;
    let mut keeper = Keeper::new("uid".into(), 0..GROUPS, GROUPS);
    keeper.restore(&mut [&mut restored], &last.snapshot, contents)?;
    let restore = cpu()?.saturating_sub(begin);
    if restored.len() != MILLION {
        return Err("keys are missing".into());
    }
    say(&format!(
        r#"{{"figure":"barrier","key":"{}","changed":{MILLION},"pause_ms_median":{:.1},"pause_ms_most":{:.1},"encode_ms":{:.0},"bytes":{},"restore_ms":{:.0}}}"#,
        kind.name(),
        millis(pauses[ROUNDS / 2]),
        millis(pauses[ROUNDS - 1]),
        millis(last.encode),
        last.bytes,
        millis(restore),
    ))
}

/// Checkpoints at which a hundredth of a million keys has changed.
fn hundredth(kind: Kind) -> Result<(), Error> {
    const ROUNDS: usize = 200;
    let files = MemoryFiles::default();
    let mut table = kind.table();
    let mut keeper = Keeper::new("uid".into(), 0..GROUPS, GROUPS);
    let mut scratch = Scratch::default();
    for batch in &all(kind, MILLION)? {
        update(&mut table, batch, &mut scratch)?;
    }
    checkpoint(&mut table, &mut keeper, &files, 0)?;
    let changes = batches(kind, MILLION, ROUNDS * 3)?;
    let (mut bytes, mut pauses, mut encode, mut runs) = (0, Vec::new(), Duration::ZERO, 0);
    for (round, batches) in changes.chunks(3).enumerate() {
        for batch in batches {
            update(&mut table, &batch.slice(0, MILLION / 300), &mut scratch)?;
        }
        let taken = checkpoint(&mut table, &mut keeper, &files, round as u64 + 1)?;
        bytes += taken.bytes;
        pauses.push(taken.pause);
        encode += taken.encode;
        runs = runs.max(taken.snapshot.runs.len());
    }
    // A keeper that knows of no run writes everything.
    let mut another = Keeper::new("uid".into(), 0..GROUPS, GROUPS);
    let full = checkpoint(&mut table, &mut another, &MemoryFiles::default(), 0)?;
    let pause = pauses.iter().sum::<Duration>();
    let most = pauses.iter().max().copied().unwrap_or_default();
    say(&format!(
        r#"{{"figure":"hundredth","key":"{}","full_bytes":{},"bytes_of_full":{:.4},"pause_ms_average":{:.2},"pause_ms_most":{:.2},"encode_ms":{:.1},"most_runs":{runs}}}"#,
        kind.name(),
        full.bytes,
        bytes as f64 / ROUNDS as f64 / full.bytes as f64,
        millis(pause) / ROUNDS as f64,
        millis(most),
        millis(encode) / ROUNDS as f64,
    ))
}
