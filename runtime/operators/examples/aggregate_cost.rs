//! What running aggregates cost per record: `count(*), sum(amount)` by key, in nanoseconds.
//!
//! `cargo run --release -p millstream-operators --example aggregate_cost [seconds per line]`
//!
//! It is time of the processor, so that what else runs on the machine disturbs little, and the cheapest of
//! several rounds.
//!
//! Beside the operator stands its kernel: keys are hashed and found in a table of state, and two numbers are
//! added to. The operator also remembers what was before, and emits it with what is now when it is flushed:
//! behind every batch, behind 16, or only when it holds as many changes as it may.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Decimal128Type, Int64Type};
use arrow_array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};
use millstream_operators::aggregate::{self, StateParameters};
use millstream_operators::{Context, InputIndex, Operator};
use millstream_state::{Keyed, Result as StateResult, Slot, TableOptions, Values};
use millstream_types::aggregate::{AggregateCall, AggregateFunction, AggregateStage, Aggregation};
use millstream_types::clock::SystemClock;
use millstream_types::{Batch, Changelog, change, keys};

type Fallible<T> = Result<T, Box<dyn Error>>;

const ROWS: usize = 4_096;
const BATCHES: usize = 256;
const GROUPS: u32 = 1_024;

fn main() -> Fallible<()> {
    let seconds = std::env::args().nth(1);
    let seconds = seconds.map_or(Ok(0.5), |text| text.parse())?;
    let budget = Duration::from_secs_f64(seconds);
    for (key, amount) in [
        (DataType::Int64, DataType::Int64),
        (DataType::Utf8, DataType::Decimal128(12, 2)),
    ] {
        for count in [1_000, 1_000_000] {
            let batches = batches(&key, &amount, count)?;
            let kernel = kernel(&batches, budget)?;
            say(&format!("key {key}, amount {amount}, {count} keys"))?;
            line("kernel", kernel, kernel)?;
            for (name, output, every) in [
                ("upsert, flushed when full", Changelog::Upsert, usize::MAX),
                ("upsert, flushed every 16 batches", Changelog::Upsert, 16),
                ("upsert, flushed every batch", Changelog::Upsert, 1),
                ("retract, flushed when full", Changelog::Retract, usize::MAX),
                ("retract, flushed every batch", Changelog::Retract, 1),
            ] {
                let mut operator = whole(&batches, output)?;
                line(
                    name,
                    cost(operator.as_mut(), &batches, every, budget)?,
                    kernel,
                )?;
            }
            let mut partial = partial(&batches)?;
            let cost = cost(partial.as_mut(), &batches, 16, budget)?;
            line("partial, flushed every 16 batches", cost, kernel)?;
        }
    }
    Ok(())
}

fn say(line: &str) -> Fallible<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Time that this thread has had of a processor.
fn used() -> Fallible<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().unwrap_or_default();
    Ok(Duration::from_nanos(nanos.parse()?))
}

/// Nanoseconds per row of passes over all batches: the cheapest, within the budget.
fn cheapest(budget: Duration, mut pass: impl FnMut() -> Fallible<()>) -> Fallible<f64> {
    let (begin, mut best) = (used()?, f64::INFINITY);
    loop {
        let before = used()?;
        pass()?;
        let now = used()?;
        let nanos = now.saturating_sub(before).as_nanos() as f64;
        best = best.min(nanos / (ROWS * BATCHES) as f64);
        if now.saturating_sub(begin) > budget {
            return Ok(best);
        }
    }
}

/// Nanoseconds per row, and how many rows went out for one that came in.
type Cost = (f64, f64);

fn line(name: &str, (nanos, out): Cost, kernel: Cost) -> Fallible<()> {
    let (rate, share) = (1e3 / nanos, kernel.0 / nanos);
    say(&format!(
        "  {name}: {nanos:.1} ns, {rate:.1} M/s, {share:.2} of the kernel, {out:.2} rows out"
    ))
}

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Rows of random keys.
fn batches(key: &DataType, amount: &DataType, count: u64) -> Fallible<Vec<Batch>> {
    let mut state = 88_172_645_463_325_252;
    let mut all = Vec::new();
    for _ in 0..BATCHES {
        let numbers = (0..ROWS).map(|_| i64::try_from(random(&mut state) % count));
        let numbers: Vec<i64> = numbers.collect::<Result<_, _>>()?;
        let keys: ArrayRef = if key == &DataType::Utf8 {
            let texts = numbers.iter().map(|number| format!("cust{number:08}"));
            Arc::new(StringArray::from_iter_values(texts))
        } else {
            Arc::new(Int64Array::from(numbers.clone()))
        };
        let amounts: ArrayRef = if amount == &DataType::Int64 {
            Arc::new(Int64Array::from(numbers))
        } else {
            let amounts = numbers.into_iter().map(i128::from);
            let amounts = Decimal128Array::from_iter_values(amounts);
            Arc::new(amounts.with_precision_and_scale(12, 2)?)
        };
        let records = RecordBatch::try_from_iter([("key", keys), ("amount", amounts)])?;
        all.push(Batch::new(records));
    }
    Ok(all)
}

fn input(batches: &[Batch]) -> Fallible<SchemaRef> {
    Ok(batches.first().ok_or("no batches")?.schema())
}

fn aggregation(stage: AggregateStage, output: Changelog) -> Aggregation {
    let call = |function, argument| AggregateCall {
        function,
        argument,
        filter: None,
        distinct: false,
        text: String::new(),
    };
    Aggregation {
        stage,
        keys: vec![0],
        calls: vec![
            call(AggregateFunction::Count, None),
            call(AggregateFunction::Sum, Some(1)),
        ],
        input: Changelog::Append,
        output,
        ttl: None,
        state: "key -> count, sum".to_owned(),
    }
}

fn operator(
    aggregation: &Aggregation,
    input: &SchemaRef,
    output: SchemaRef,
) -> Fallible<Box<dyn Operator>> {
    let state = StateParameters {
        key_groups: 0..GROUPS,
        max_parallelism: GROUPS,
        clock: Arc::new(SystemClock::default()),
    };
    Ok(aggregate::operator(
        "it".into(),
        aggregation,
        input,
        output,
        state,
    )?)
}

fn whole(batches: &[Batch], output: Changelog) -> Fallible<Box<dyn Operator>> {
    let input = input(batches)?;
    let amount = input.field(1).data_type();
    let sum = AggregateFunction::Sum.result_type(Some(amount));
    let schema = change::with_changes(&Schema::new(vec![
        input.field(0).clone(),
        Field::new("count", DataType::Int64, false),
        Field::new("sum", sum.ok_or("no sum")?, true),
    ]));
    operator(&aggregation(AggregateStage::Whole, output), &input, schema)
}

fn partial(batches: &[Batch]) -> Fallible<Box<dyn Operator>> {
    let input = input(batches)?;
    let amount = input.field(1).data_type();
    let mut fields = vec![input.field(0).clone()];
    for (function, argument) in [
        (AggregateFunction::Count, None),
        (AggregateFunction::Sum, Some(amount)),
    ] {
        fields.extend(function.partial_fields(argument).ok_or("no parts")?);
    }
    let plan = aggregation(AggregateStage::Partial, Changelog::Append);
    operator(&plan, &input, Arc::new(Schema::new(fields)))
}

fn cost(
    operator: &mut dyn Operator,
    batches: &[Batch],
    every: usize,
    budget: Duration,
) -> Fallible<Cost> {
    let mut cx = Context::default();
    // All keys are there before it is measured.
    for batch in batches {
        operator.on_batch(InputIndex(0), batch, &mut cx)?;
        cx.take();
    }
    operator.flush(&mut cx)?;
    cx.take();
    let (mut rows, mut out) = (0, 0);
    let nanos = cheapest(budget, || {
        for (number, batch) in (1..).zip(batches) {
            operator.on_batch(InputIndex(0), batch, &mut cx)?;
            if number % every == 0 {
                operator.flush(&mut cx)?;
            }
            rows += batch.rows();
            out += cx.take().iter().map(Batch::rows).sum::<usize>();
        }
        Ok(())
    })?;
    Ok((nanos, out as f64 / rows as f64))
}

/// `count(*)` and `sum` of each key, and nothing else.
#[derive(Default)]
struct Sums(Vec<(i64, i128)>);

impl Values for Sums {
    fn fields(&self) -> Vec<FieldRef> {
        Vec::new()
    }

    fn resize(&mut self, slots: usize) {
        self.0.resize(slots, (0, 0));
    }

    fn clear(&mut self, slot: Slot) {
        self.0[slot as usize] = (0, 0);
    }

    fn gather(&self, _: &[Slot]) -> StateResult<Vec<ArrayRef>> {
        Ok(Vec::new())
    }

    fn scatter(&mut self, _: &[Slot], _: &[ArrayRef]) -> StateResult<()> {
        Ok(())
    }
}

fn kernel(batches: &[Batch], budget: Duration) -> Fallible<Cost> {
    let input = input(batches)?;
    let options = TableOptions {
        name: "groups".to_owned(),
        key: vec![Arc::new(input.field(0).clone())],
        key_groups: 0..GROUPS,
        max_parallelism: GROUPS,
        ttl: None,
    };
    let mut table = Keyed::new(options, Sums::default());
    let (mut hashes, mut slots) = (Vec::new(), Vec::new());
    let mut pass = || {
        for batch in batches {
            let records = batch.records();
            keys::hash(records, &[0], &mut hashes)?;
            table.resolve(&records.columns()[..1], &hashes, &mut slots)?;
            table.touch_all(&slots);
            let sums = &mut table.values_mut().0;
            if let Some(amounts) = records.column(1).as_primitive_opt::<Int64Type>() {
                for (slot, amount) in slots.iter().zip(amounts.values()) {
                    let cell = &mut sums[*slot as usize];
                    *cell = (cell.0 + 1, cell.1 + i128::from(*amount));
                }
            } else {
                let amounts = records.column(1).as_primitive::<Decimal128Type>();
                for (slot, amount) in slots.iter().zip(amounts.values()) {
                    let cell = &mut sums[*slot as usize];
                    *cell = (cell.0 + 1, cell.1 + amount);
                }
            }
        }
        Ok(())
    };
    // The first pass makes the keys.
    pass()?;
    Ok((cheapest(budget, pass)?, 0.0))
}
