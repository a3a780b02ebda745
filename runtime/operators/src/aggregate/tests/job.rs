//! A small job: rows of known columns, through the subtasks of an aggregation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, UInt8Array, UInt32Array,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use arrow_select::take::take_record_batch;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_state::{Keeper, Memory, StateFiles};
use millstream_types::aggregate::{AggregateCall, AggregateFunction, AggregateStage, Aggregation};
use millstream_types::{
    Batch, Change, Changelog, CheckpointId, CheckpointKind, Clock, FileRef, KeyGroupRange,
    OperatorUid, StateSnapshot, Timestamp, change, keys,
};

use crate::aggregate::{StateParameters, operator};
use crate::{Context, InputIndex, Operator, Result};

pub(super) const GROUPS: u32 = 16;

/// A value of any column, so that results and models can be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(i128),
    /// The bits: -0.0 as 0.0, and one NaN.
    Float(u64),
    Text(String),
}

pub(super) fn float(value: f64) -> Value {
    Value::Float(if value.is_nan() {
        f64::NAN.to_bits()
    } else {
        (value + 0.0).to_bits()
    })
}

/// The values of a column.
pub(super) fn values(column: &ArrayRef) -> Vec<Value> {
    let value = |row: usize| match column.data_type() {
        _ if column.is_null(row) => Value::Null,
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int64 => Value::Number(column.as_primitive::<Int64Type>().value(row).into()),
        DataType::Decimal128(..) => {
            Value::Number(column.as_primitive::<Decimal128Type>().value(row))
        }
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row)),
        DataType::Utf8 => Value::Text(column.as_string::<i32>().value(row).to_owned()),
        other => panic!("{other}"),
    };
    (0..column.len()).map(value).collect()
}

/// A row as it comes in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Row {
    pub(super) name: Option<u8>,
    pub(super) weight: Option<f64>,
    pub(super) number: Option<i64>,
    pub(super) amount: Option<i128>,
    pub(super) float: Option<f64>,
    pub(super) text: Option<String>,
    pub(super) truth: Option<bool>,
    pub(super) keep: Option<bool>,
}

pub(super) const NAME: usize = 0;
pub(super) const WEIGHT: usize = 1;
pub(super) const NUMBER: usize = 2;
pub(super) const AMOUNT: usize = 3;
pub(super) const FLOAT: usize = 4;
pub(super) const TEXT: usize = 5;
pub(super) const TRUTH: usize = 6;
pub(super) const KEEP: usize = 7;

pub(super) fn schema(changelog: Changelog) -> SchemaRef {
    let field = |name: &str, data_type| Field::new(name, data_type, true);
    let schema = Schema::new(vec![
        field("name", DataType::Utf8),
        field("weight", DataType::Float64),
        field("number", DataType::Int64),
        field("amount", DataType::Decimal128(12, 2)),
        field("float", DataType::Float64),
        field("text", DataType::Utf8),
        field("truth", DataType::Boolean),
        field("keep", DataType::Boolean),
    ]);
    if changelog.updates() {
        change::with_changes(&schema)
    } else {
        Arc::new(schema)
    }
}

/// A batch of rows, with changes unless there are none.
pub(super) fn batch(rows: &[Row], changes: Option<&[Change]>) -> RecordBatch {
    let names = rows
        .iter()
        .map(|row| row.name.map(|name| format!("n{name}")));
    let amounts: Decimal128Array = rows.iter().map(|row| row.amount).collect();
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(names.collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.weight).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|row| row.number).collect::<Int64Array>()),
        Arc::new(amounts.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(rows.iter().map(|row| row.float).collect::<Float64Array>()),
        Arc::new(
            rows.iter()
                .map(|row| row.text.as_deref())
                .collect::<StringArray>(),
        ),
        Arc::new(rows.iter().map(|row| row.truth).collect::<BooleanArray>()),
        Arc::new(rows.iter().map(|row| row.keep).collect::<BooleanArray>()),
    ];
    let mut changelog = Changelog::Append;
    if let Some(changes) = changes {
        let numbers = changes.iter().map(|change| *change as u8);
        columns.push(Arc::new(UInt8Array::from_iter_values(numbers)));
        changelog = Changelog::Retract;
    }
    RecordBatch::try_new(schema(changelog), columns).unwrap()
}

pub(super) fn call(
    function: AggregateFunction,
    argument: Option<usize>,
    filter: bool,
) -> AggregateCall {
    AggregateCall {
        function,
        argument,
        filter: filter.then_some(KEEP),
        distinct: false,
        text: format!("{}({argument:?}, {filter})", function.name()),
    }
}

pub(super) fn distinct(
    function: AggregateFunction,
    argument: usize,
    filter: bool,
) -> AggregateCall {
    AggregateCall {
        distinct: true,
        text: format!("{}(DISTINCT {argument}, {filter})", function.name()),
        ..call(function, Some(argument), filter)
    }
}

/// Whole, and without a time to live.
pub(super) fn aggregation(
    keys: &[usize],
    calls: &[AggregateCall],
    input: Changelog,
    output: Changelog,
) -> Aggregation {
    Aggregation {
        stage: AggregateStage::Whole,
        keys: keys.to_vec(),
        calls: calls.to_vec(),
        input,
        output,
        ttl: None,
        state: format!("{keys:?} -> {calls:?}"),
    }
}

fn types(aggregation: &Aggregation) -> Vec<Option<DataType>> {
    let input = schema(Changelog::Append);
    let calls = aggregation.calls.iter();
    let argument = |argument: usize| input.field(argument).data_type().clone();
    calls.map(|call| call.argument.map(argument)).collect()
}

/// What a whole aggregation emits.
pub(super) fn output_schema(aggregation: &Aggregation) -> SchemaRef {
    let input = schema(Changelog::Append);
    let mut fields: Vec<Field> = aggregation
        .keys
        .iter()
        .map(|key| input.field(*key).clone())
        .collect();
    for (call, argument) in aggregation.calls.iter().zip(types(aggregation)) {
        let result = call.function.result_type(argument.as_ref()).unwrap();
        fields.push(Field::new(&call.text, result, true));
    }
    let schema = Schema::new(fields);
    if aggregation.output.updates() {
        change::with_changes(&schema)
    } else {
        Arc::new(schema)
    }
}

/// Both halves of an aggregation, and the schema between them.
pub(super) fn halves(whole: &Aggregation) -> (Aggregation, SchemaRef, Aggregation) {
    let input = schema(Changelog::Append);
    let mut fields: Vec<Field> = whole
        .keys
        .iter()
        .map(|key| input.field(*key).clone())
        .collect();
    let mut second = whole.clone();
    second.stage = AggregateStage::Final;
    second.keys = (0..whole.keys.len()).collect();
    for (call, argument) in second.calls.iter_mut().zip(types(whole)) {
        call.argument = Some(fields.len());
        call.filter = None;
        fields.extend(call.function.partial_fields(argument.as_ref()).unwrap());
    }
    let first = Aggregation {
        stage: AggregateStage::Partial,
        output: Changelog::Append,
        ..whole.clone()
    };
    (first, Arc::new(Schema::new(fields)), second)
}

/// Time that a test sets.
#[derive(Debug, Default)]
pub(super) struct TestClock(pub(super) AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.now().0)
    }
}

#[derive(Default)]
pub(super) struct MemoryFiles(Mutex<BTreeMap<String, Bytes>>);

impl MemoryFiles {
    /// The files of all runs.
    fn contents(&self, snapshot: &StateSnapshot) -> Vec<Bytes> {
        let files = self.0.lock().unwrap();
        let runs = snapshot.runs.iter();
        runs.map(|run| files[&run.file.path].clone()).collect()
    }
}

impl StateFiles for MemoryFiles {
    fn put<'a>(
        &'a self,
        checkpoint: CheckpointId,
        operator: &'a OperatorUid,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<FileRef>> {
        async move {
            let mut files = self.0.lock().unwrap();
            let path = format!("{checkpoint}/{operator}/{name}/{}", files.len());
            let file = FileRef {
                path: path.clone(),
                bytes: bytes.len() as u64,
                crc32c: crc32c::crc32c(&bytes),
            };
            files.insert(path, bytes);
            Ok(file)
        }
        .boxed()
    }

    fn get<'a>(&'a self, file: &'a FileRef) -> BoxFuture<'a, Result<Bytes>> {
        async move { Ok(self.0.lock().unwrap()[&file.path].clone()) }.boxed()
    }
}

struct Subtask {
    operator: Box<dyn Operator>,
    keeper: Keeper,
}

/// The subtasks of an aggregation that keeps state.
pub(super) struct Job {
    aggregation: Aggregation,
    input: SchemaRef,
    output: SchemaRef,
    subtasks: Vec<Subtask>,
    files: MemoryFiles,
    pub(super) clock: Arc<TestClock>,
    checkpoint: u64,
    memory: Memory,
}

impl Job {
    pub(super) fn new(
        aggregation: &Aggregation,
        input: SchemaRef,
        output: SchemaRef,
        parallelism: u32,
    ) -> Result<Self> {
        let mut job = Self {
            aggregation: aggregation.clone(),
            input,
            output,
            subtasks: Vec::new(),
            files: MemoryFiles::default(),
            clock: Arc::default(),
            checkpoint: 0,
            memory: Memory::default(),
        };
        job.start(parallelism, &[])?;
        Ok(job)
    }

    /// Of a whole aggregation over the rows of this module.
    pub(super) fn whole(aggregation: &Aggregation, parallelism: u32) -> Result<Self> {
        let input = schema(aggregation.input);
        Self::new(aggregation, input, output_schema(aggregation), parallelism)
    }

    fn start(&mut self, parallelism: u32, snapshots: &[StateSnapshot]) -> Result<()> {
        self.subtasks.clear();
        for subtask in 0..parallelism {
            let groups = keys::range(subtask, parallelism, GROUPS);
            let mut operator = operator(
                "sales/aggregate".into(),
                &self.aggregation,
                &self.input,
                Arc::clone(&self.output),
                StateParameters {
                    key_groups: groups.clone(),
                    max_parallelism: GROUPS,
                    clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
                },
            )?;
            for table in operator.tables() {
                table.set_memory(&self.memory);
            }
            let mut keeper = Keeper::new("sales/aggregate".into(), groups.clone(), GROUPS);
            if !snapshots.is_empty() {
                let dealt = dealt(snapshots, &groups);
                let contents = self.files.contents(&dealt);
                keeper.restore(&mut operator.tables(), &dealt, contents)?;
            }
            self.subtasks.push(Subtask { operator, keeper });
        }
        Ok(())
    }

    /// Gives each subtask its rows.
    pub(super) fn push(&mut self, records: &RecordBatch) -> Result<Vec<RecordBatch>> {
        let parts = shared_out(records, &self.aggregation.keys, self.subtasks.len());
        let mut cx = Context::default();
        for (subtask, part) in self.subtasks.iter_mut().zip(parts) {
            if part.rows() > 0 {
                subtask.operator.on_batch(InputIndex(0), &part, &mut cx)?;
            }
        }
        Ok(cx.take().into_iter().map(Batch::into_records).collect())
    }

    pub(super) fn flush(&mut self) -> Result<Vec<RecordBatch>> {
        let mut cx = Context::default();
        for subtask in &mut self.subtasks {
            let before = cx.take();
            let holds = subtask.operator.holds();
            subtask.operator.flush(&mut cx)?;
            let emitted = cx.take();
            assert!(holds || emitted.is_empty(), "it said that it holds nothing");
            before
                .into_iter()
                .chain(emitted)
                .for_each(|batch| cx.emit(batch));
            assert!(!subtask.operator.holds());
        }
        Ok(cx.take().into_iter().map(Batch::into_records).collect())
    }

    /// A checkpoint, behind a flush.
    pub(super) fn checkpoint(&mut self) -> Vec<StateSnapshot> {
        self.checkpoint += 1;
        let checkpoint = CheckpointId(self.checkpoint);
        let files = &self.files;
        let snapshots = self.subtasks.iter_mut().map(|subtask| {
            let mut tables = subtask.operator.tables();
            let kind = CheckpointKind::Checkpoint;
            let frozen = subtask.keeper.freeze(&mut tables, checkpoint, kind);
            let upload = frozen.unwrap().encode().unwrap().upload(files);
            let written = upload.now_or_never().expect("memory does not wait");
            subtask.keeper.settle(&mut tables, written).unwrap()
        });
        snapshots.collect()
    }

    /// Goes on from a checkpoint.
    pub(super) fn restore(&mut self, snapshots: &[StateSnapshot], parallelism: u32) -> Result<()> {
        self.start(parallelism, snapshots)
    }

    /// What the tables may take, from now on.
    pub(super) fn set_memory(&mut self, memory: &Memory) {
        self.memory = memory.clone();
        for subtask in &mut self.subtasks {
            for table in subtask.operator.tables() {
                table.set_memory(memory);
            }
        }
    }

    /// How many keys and entries are not in memory.
    pub(super) fn cold_keys(&mut self) -> u64 {
        let subtasks = self.subtasks.iter_mut();
        let tables = subtasks.flat_map(|subtask| subtask.operator.tables());
        tables.map(|table| table.stats().cold_keys).sum()
    }

    /// The job is to do something else from the next restore on.
    pub(super) fn change(&mut self, aggregation: &Aggregation) {
        self.aggregation = aggregation.clone();
        self.output = output_schema(aggregation);
    }

    /// Names of the columns of each table's runs.
    pub(super) fn columns(&mut self) -> Vec<Vec<String>> {
        let tables = self.subtasks[0].operator.tables().into_iter();
        let names = tables.map(|table| {
            let schema = table.schema();
            let fields = schema.fields().iter();
            fields.map(|field| field.name().clone()).collect()
        });
        names.collect()
    }

    /// Bytes of all tables.
    pub(super) fn table_bytes(&mut self) -> u64 {
        let subtasks = self.subtasks.iter_mut();
        let tables = subtasks.flat_map(|subtask| subtask.operator.tables());
        tables.map(|table| table.stats().bytes).sum()
    }

    /// Keys of each table, over all subtasks.
    pub(super) fn table_sizes(&mut self) -> BTreeMap<String, u64> {
        let mut sizes = BTreeMap::new();
        for subtask in &mut self.subtasks {
            for table in subtask.operator.tables() {
                *sizes.entry(table.name().to_owned()).or_default() += table.stats().keys;
            }
        }
        sizes
    }
}

/// The rows of each subtask.
fn shared_out(records: &RecordBatch, key: &[usize], subtasks: usize) -> Vec<Batch> {
    let parallelism = u32::try_from(subtasks).unwrap();
    let mut hashes = Vec::new();
    keys::hash(records, key, &mut hashes).unwrap();
    let part = |subtask: u32| {
        let of = |hash: u64| keys::subtask(keys::key_group(hash, GROUPS), parallelism, GROUPS);
        let rows = (0..).zip(&hashes).filter(|(_, hash)| of(**hash) == subtask);
        let rows = UInt32Array::from_iter_values(rows.map(|(row, _): (u32, _)| row));
        Batch::new(take_record_batch(records, &rows).unwrap())
    };
    (0..parallelism).map(part).collect()
}

/// What a subtask is given of the snapshots of all.
fn dealt(snapshots: &[StateSnapshot], groups: &std::ops::Range<u32>) -> StateSnapshot {
    let runs = snapshots.iter().flat_map(|snapshot| &snapshot.runs);
    let runs = runs.filter_map(|run| {
        let first = run.range.first.max(groups.start);
        let end = run.range.end.min(groups.end);
        let mut run = run.clone();
        run.range = KeyGroupRange { first, end };
        (first < end).then_some(run)
    });
    StateSnapshot {
        declarations: snapshots[0].declarations.clone(),
        key_groups: groups.clone().into(),
        runs: runs.collect(),
        ..StateSnapshot::default()
    }
}
