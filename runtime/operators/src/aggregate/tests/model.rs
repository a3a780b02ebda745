//! Whatever comes, and wherever it is flushed and restored, the results are those of a list of all rows.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use millstream_state::Memory;
use millstream_types::aggregate::{AggregateCall, AggregateFunction, Aggregation};
use millstream_types::{Change, Changelog, StateSnapshot, change};
use proptest::prelude::*;

use super::job::{
    AMOUNT, FLOAT, Job, NAME, NUMBER, Row, TEXT, TRUTH, Value, WEIGHT, aggregation, batch, call,
    distinct, float, halves, output_schema, values,
};
use crate::harness;

type Key = Vec<Value>;
type Results = BTreeMap<Key, Vec<Value>>;

fn value(row: &Row, column: usize) -> Value {
    let number = |number: Option<i128>| number.map_or(Value::Null, Value::Number);
    match column {
        NAME => row
            .name
            .map_or(Value::Null, |name| Value::Text(format!("n{name}"))),
        WEIGHT => row.weight.map_or(Value::Null, float),
        NUMBER => number(row.number.map(i128::from)),
        AMOUNT => number(row.amount),
        FLOAT => row.float.map_or(Value::Null, float),
        TEXT => row.text.clone().map_or(Value::Null, Value::Text),
        TRUTH => row.truth.map_or(Value::Null, Value::Bool),
        other => panic!("{other}"),
    }
}

fn key(row: &Row, keys: &[usize]) -> Key {
    keys.iter().map(|column| value(row, *column)).collect()
}

/// In the order of SQL: NaN is the greatest.
fn rank(value: &Value) -> (bool, i128, String) {
    match value {
        Value::Number(number) => (false, *number, String::new()),
        Value::Bool(truth) => (false, i128::from(*truth), String::new()),
        Value::Text(text) => (false, 0, text.clone()),
        Value::Float(bits) => {
            let float = f64::from_bits(*bits);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a small number, or infinite"
            )]
            let number = (float * 4.0) as i128;
            (float.is_nan(), number, String::new())
        }
        Value::Null => panic!("null has no rank"),
    }
}

/// Rounded half away from zero.
fn rounded(sum: i128, count: i128) -> i128 {
    (2 * sum.abs() + count) / (2 * count) * sum.signum()
}

fn number(value: &Value) -> i128 {
    match value {
        Value::Number(number) => *number,
        other => panic!("{other:?}"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
fn sum(function: AggregateFunction, column: usize, values: &[Value]) -> Value {
    let average = function == AggregateFunction::Avg;
    if column == FLOAT {
        let floats = values.iter().map(|value| match value {
            Value::Float(bits) => f64::from_bits(*bits),
            other => panic!("{other:?}"),
        });
        let sum: f64 = floats.sum();
        return float(if average {
            sum / values.len() as f64
        } else {
            sum
        });
    }
    let sum: i128 = values.iter().map(number).sum();
    let count = i128::try_from(values.len()).unwrap();
    match (average, column) {
        (false, _) => Value::Number(sum),
        (true, AMOUNT) => Value::Number(rounded(sum * 10_000, count)),
        (true, _) => float(sum as f64 / count as f64),
    }
}

/// A call over all rows of a key, in the order in which they came.
fn result(call: &AggregateCall, rows: &[Row]) -> Value {
    use AggregateFunction::{Avg, BoolAnd, BoolOr, Count, FirstValue, LastValue, Max, Min, Sum};
    let rows = rows.iter();
    let kept = rows.filter(|row| call.filter.is_none() || row.keep == Some(true));
    let count = |count: usize| Value::Number(i128::try_from(count).unwrap());
    let Some(column) = call.argument else {
        return count(kept.count());
    };
    let all: Vec<Value> = kept.map(|row| value(row, column)).collect();
    let null = || Value::Null;
    match call.function {
        FirstValue => return all.first().cloned().unwrap_or_else(null),
        LastValue => return all.last().cloned().unwrap_or_else(null),
        _ => {}
    }
    let mut some: Vec<Value> = all.into_iter().filter(|it| *it != Value::Null).collect();
    if call.distinct {
        some.sort();
        some.dedup();
    }
    if some.is_empty() && call.function != Count {
        return Value::Null;
    }
    match call.function {
        Count => count(some.len()),
        Sum | Avg => sum(call.function, column, &some),
        Min => some
            .iter()
            .min_by_key(|value| rank(value))
            .cloned()
            .unwrap_or_else(null),
        Max => some
            .iter()
            .max_by_key(|value| rank(value))
            .cloned()
            .unwrap_or_else(null),
        BoolAnd => Value::Bool(some.iter().all(|value| *value == Value::Bool(true))),
        BoolOr => Value::Bool(some.contains(&Value::Bool(true))),
        FirstValue | LastValue => unreachable!(),
    }
}

fn expected(aggregation: &Aggregation, rows: &[Row]) -> Results {
    let mut groups: BTreeMap<Key, Vec<Row>> = BTreeMap::new();
    for row in rows {
        let key = key(row, &aggregation.keys);
        groups.entry(key).or_default().push(row.clone());
    }
    let results = |rows: &[Row]| {
        let calls = aggregation.calls.iter();
        calls.map(|call| result(call, rows)).collect()
    };
    groups
        .into_iter()
        .map(|(key, rows)| (key, results(&rows)))
        .collect()
}

/// Applies what was emitted, and checks that it may be emitted.
fn fold(aggregation: &Aggregation, shown: &mut Results, out: &[RecordBatch]) -> Result<(), String> {
    for records in out {
        if records.schema() != output_schema(aggregation) {
            return Err(format!("the schema is {:?}", records.schema()));
        }
        let columns: Vec<_> = records
            .columns()
            .iter()
            .map(|column| match column.data_type() {
                arrow_schema::DataType::UInt8 => Vec::new(),
                _ => values(column),
            })
            .collect();
        let keys = aggregation.keys.len();
        let mut before: Option<Key> = None;
        for row in 0..records.num_rows() {
            let at = |columns: &[Vec<Value>]| columns.iter().map(|it| it[row].clone()).collect();
            let key: Key = at(&columns[..keys]);
            let results: Vec<Value> = at(&columns[keys..keys + aggregation.calls.len()]);
            let change = change::changes(records).map_or(Change::Insert, |changes| {
                Change::of(changes.value(row)).unwrap()
            });
            if before.is_some()
                && (before.take().as_ref() != Some(&key) || change != Change::UpdateAfter)
            {
                return Err(format!("{} without +U", Change::UpdateBefore.symbol()));
            }
            let kept = shown.get(&key);
            let fits = match change {
                Change::Insert => kept.is_none(),
                Change::UpdateBefore => {
                    before = Some(key.clone());
                    aggregation.output == Changelog::Retract && kept == Some(&results)
                }
                Change::UpdateAfter => kept.is_some_and(|kept| *kept != results),
                Change::Delete => kept == Some(&results),
            };
            if !fits {
                let change = change.symbol();
                return Err(format!("{change} {key:?} {results:?} over {kept:?}"));
            }
            match change {
                Change::Delete => drop(shown.remove(&key)),
                Change::UpdateBefore => {}
                Change::Insert | Change::UpdateAfter => drop(shown.insert(key, results)),
            }
        }
        if before.is_some() {
            return Err("-U at the end of a batch".to_owned());
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
enum Move {
    Add(Vec<Row>),
    /// Some that are there are taken back, and some of those are replaced in the same batch.
    TakeBack(Vec<(prop::sample::Index, Option<Row>)>),
    Flush,
    /// A checkpoint, and everything behind the last but one is lost.
    Checkpoint,
    Restore(u32),
}

fn row() -> impl Strategy<Value = Row> {
    let weight = prop::sample::select(vec![None, Some(0.0), Some(-0.0), Some(f64::NAN), Some(1.5)]);
    // Of zeros the sign is looked at elsewhere.
    let float = prop::sample::select(vec![
        None,
        Some(0.0),
        Some(2.0),
        Some(-3.5),
        Some(f64::NAN),
        Some(f64::INFINITY),
        Some(f64::NEG_INFINITY),
    ]);
    let text = prop::sample::select(vec![None, Some(""), Some("a"), Some("žluť"), Some("zz")]);
    (
        prop::option::of(0u8..3),
        weight,
        prop::option::weighted(0.8, -4i64..5),
        prop::option::weighted(0.8, -500i128..500),
        float,
        text,
        any::<Option<bool>>(),
        any::<Option<bool>>(),
    )
        .prop_map(
            |(name, weight, number, amount, float, text, truth, keep)| Row {
                name,
                weight,
                number,
                amount,
                float,
                text: text.map(str::to_owned),
                truth,
                keep,
            },
        )
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let taken = prop::collection::vec(
        (any::<prop::sample::Index>(), prop::option::of(row())),
        0..6,
    );
    let one = prop_oneof![
        4 => prop::collection::vec(row(), 0..10).prop_map(Move::Add),
        4 => taken.prop_map(Move::TakeBack),
        3 => Just(Move::Flush),
        1 => Just(Move::Checkpoint),
        1 => (1u32..5).prop_map(Move::Restore),
    ];
    prop::collection::vec(one, 1..24)
}

fn decomposable() -> Vec<AggregateCall> {
    use AggregateFunction::{Avg, BoolAnd, BoolOr, Count, Max, Min, Sum};
    let mut calls = vec![call(Count, None, false), call(Count, None, true)];
    for filter in [false, true] {
        calls.extend([
            call(Count, Some(TEXT), filter),
            call(Sum, Some(NUMBER), filter),
            call(Sum, Some(AMOUNT), filter),
            call(Sum, Some(FLOAT), filter),
            call(Avg, Some(NUMBER), filter),
            call(Avg, Some(AMOUNT), filter),
            call(Avg, Some(FLOAT), filter),
            call(BoolAnd, Some(TRUTH), filter),
            call(BoolOr, Some(TRUTH), filter),
        ]);
        for column in [NUMBER, AMOUNT, FLOAT, TEXT, TRUTH] {
            calls.push(call(Min, Some(column), filter));
            calls.push(call(Max, Some(column), filter));
        }
    }
    calls
}

fn all_calls(input: Changelog) -> Vec<AggregateCall> {
    use AggregateFunction::{Avg, Count, FirstValue, LastValue, Sum};
    let mut calls = decomposable();
    for filter in [false, true] {
        for column in [NUMBER, AMOUNT, FLOAT] {
            calls.push(distinct(Sum, column, filter));
            calls.push(distinct(Avg, column, filter));
            calls.push(distinct(Count, column, filter));
        }
        calls.push(distinct(Count, TEXT, filter));
        for column in [NUMBER, AMOUNT, FLOAT, TEXT, TRUTH] {
            if input == Changelog::Append {
                calls.push(call(FirstValue, Some(column), filter));
                calls.push(call(LastValue, Some(column), filter));
            }
        }
    }
    calls
}

/// A job beside its model.
struct Checked {
    aggregation: Aggregation,
    job: Job,
    rows: Vec<Row>,
    shown: Results,
    checkpoint: Option<(Vec<StateSnapshot>, Vec<Row>, Results)>,
}

impl Checked {
    fn take(&mut self, out: &[RecordBatch]) -> Result<(), String> {
        fold(&self.aggregation, &mut self.shown, out)
    }

    fn push(&mut self, rows: &[Row], changes: &[Change]) -> Result<(), String> {
        let updates = self.aggregation.input.updates();
        let records = batch(rows, updates.then_some(changes));
        let out = self
            .job
            .push(&records)
            .map_err(|failure| failure.to_string())?;
        self.take(&out)
    }

    fn flush(&mut self) -> Result<(), String> {
        let out = self.job.flush().map_err(|failure| failure.to_string())?;
        self.take(&out)?;
        let expected = expected(&self.aggregation, &self.rows);
        if self.shown == expected {
            return Ok(());
        }
        for (key, results) in &expected {
            let shown = self.shown.get(key);
            if shown != Some(results) {
                let zipped = self.aggregation.calls.iter().zip(results).enumerate();
                let differ = zipped
                    .filter(|(at, (_, value))| shown.is_none_or(|shown| shown[*at] != **value));
                let differ: Vec<_> = differ
                    .map(|(at, (call, value))| (&call.text, value, shown.map(|it| &it[at])))
                    .collect();
                return Err(format!("{key:?}: {differ:?}"));
            }
        }
        Err(format!(
            "{:?} are there, and not {:?}",
            self.shown.keys(),
            expected.keys()
        ))
    }

    fn play(&mut self, step: &Move) -> Result<(), String> {
        match step {
            Move::Add(rows) => {
                self.rows.extend_from_slice(rows);
                self.push(rows, &vec![Change::Insert; rows.len()])
            }
            Move::TakeBack(_) if !self.aggregation.input.updates() => Ok(()),
            Move::TakeBack(taken) => {
                let (mut rows, mut changes) = (Vec::new(), Vec::new());
                for (index, new) in taken {
                    if self.rows.is_empty() {
                        break;
                    }
                    rows.push(self.rows.remove(index.index(self.rows.len())));
                    changes.push(if new.is_some() {
                        Change::UpdateBefore
                    } else {
                        Change::Delete
                    });
                    if let Some(new) = new {
                        rows.push(new.clone());
                        changes.push(Change::UpdateAfter);
                        self.rows.push(new.clone());
                    }
                }
                self.push(&rows, &changes)
            }
            Move::Flush => self.flush(),
            Move::Checkpoint => {
                self.flush()?;
                let snapshots = self.job.checkpoint();
                self.checkpoint = Some((snapshots, self.rows.clone(), self.shown.clone()));
                Ok(())
            }
            Move::Restore(parallelism) => {
                let Some((snapshots, rows, shown)) = &self.checkpoint else {
                    return Ok(());
                };
                (self.rows, self.shown) = (rows.clone(), shown.clone());
                let parallelism = if self.aggregation.keys.is_empty() {
                    1
                } else {
                    *parallelism
                };
                let restored = self.job.restore(snapshots, parallelism);
                restored.map_err(|failure| failure.to_string())
            }
        }
    }
}

fn check(aggregation: &Aggregation, moves: &[Move]) -> Result<(), String> {
    check_with(aggregation, moves, &Memory::default()).map(drop)
}

/// Returns how many keys and entries are not in memory at the end.
fn check_with(aggregation: &Aggregation, moves: &[Move], memory: &Memory) -> Result<u64, String> {
    let mut job = Job::whole(aggregation, 1).map_err(|failure| failure.to_string())?;
    job.set_memory(memory);
    let mut checked = Checked {
        aggregation: aggregation.clone(),
        job,
        rows: Vec::new(),
        shown: Results::new(),
        checkpoint: None,
    };
    for step in moves {
        checked.play(step)?;
    }
    checked.flush()?;
    Ok(checked.job.cold_keys())
}

/// No memory, and a directory for what does not fit.
pub(super) fn no_memory() -> &'static Memory {
    static MEMORY: LazyLock<(tempfile::TempDir, Memory)> = LazyLock::new(|| {
        let parent = tempfile::tempdir().unwrap();
        let memory = Memory::divided(1 << 30, 0, parent.path().to_owned());
        (parent, memory)
    });
    &MEMORY.1
}

fn keys() -> impl Strategy<Value = Vec<usize>> {
    prop::sample::select(vec![
        vec![],
        vec![NAME],
        vec![WEIGHT],
        vec![NAME, WEIGHT],
        vec![AMOUNT],
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn results_over_rows_that_stay_are_those_of_all_rows(
        keys in keys(),
        moves in moves(),
        output in prop::sample::select(vec![Changelog::Retract, Changelog::Upsert]),
    ) {
        let calls = all_calls(Changelog::Append);
        let aggregation = aggregation(&keys, &calls, Changelog::Append, output);
        check(&aggregation, &moves).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn results_over_rows_that_are_taken_back_are_those_of_what_is_left(
        keys in keys(),
        moves in moves(),
        output in prop::sample::select(vec![Changelog::Retract, Changelog::Upsert]),
    ) {
        let calls = all_calls(Changelog::Retract);
        let aggregation = aggregation(&keys, &calls, Changelog::Retract, output);
        check(&aggregation, &moves).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn results_are_the_same_where_nothing_stays_in_memory(
        keys in keys(),
        moves in moves(),
        input in prop::sample::select(vec![Changelog::Append, Changelog::Retract]),
    ) {
        let mut calls = all_calls(input);
        if input == Changelog::Retract {
            // These keep their values in memory.
            calls.retain(|call| !matches!(call.function, AggregateFunction::Min | AggregateFunction::Max));
        }
        let aggregation = aggregation(&keys, &calls, input, Changelog::Retract);
        let cold = check_with(&aggregation, &moves, no_memory()).map_err(TestCaseError::fail)?;
        let has_rows = moves.iter().any(|step| matches!(step, Move::Add(rows) if !rows.is_empty()));
        let is_append = input == Changelog::Append && !moves.iter().any(|step| matches!(step, Move::Restore(_)));
        prop_assert!(cold > 0 || !(has_rows && is_append), "something has left memory");
    }

    #[test]
    fn values_in_order_stay_in_memory_and_results_are_the_same(keys in keys(), moves in moves()) {
        let calls = all_calls(Changelog::Retract);
        let aggregation = aggregation(&keys, &calls, Changelog::Retract, Changelog::Retract);
        check_with(&aggregation, &moves, no_memory()).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn one_call_alone_emits_no_more_than_it_must(
        number in any::<prop::sample::Index>(),
        input in prop::sample::select(vec![Changelog::Append, Changelog::Retract]),
        moves in moves(),
    ) {
        let calls = all_calls(input);
        let call = calls[number.index(calls.len())].clone();
        let aggregation = aggregation(&[NAME], &[call], input, Changelog::Retract);
        check(&aggregation, &moves).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn keys_alone_are_those_that_are_there(
        keys in keys().prop_filter("DISTINCT has columns", |keys| !keys.is_empty()),
        moves in moves(),
        input in prop::sample::select(vec![Changelog::Append, Changelog::Retract]),
    ) {
        let aggregation = aggregation(&keys, &[], input, input);
        check(&aggregation, &moves).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn both_halves_do_what_the_whole_does(
        keys in keys(),
        batches in prop::collection::vec((prop::collection::vec(row(), 0..40), any::<bool>()), 1..10),
    ) {
        let whole = aggregation(&keys, &decomposable(), Changelog::Append, Changelog::Retract);
        let (first, between, second) = halves(&whole);
        let parallelism = if keys.is_empty() { 1 } else { 3 };
        let mut job = Job::new(&second, Arc::clone(&between), output_schema(&whole), parallelism).unwrap();
        let mut partial = super::partial::operator(&first, between);
        let (mut rows, mut shown) = (Vec::new(), Results::new());
        for (new, flushes) in batches {
            rows.extend_from_slice(&new);
            // The harness flushes behind the batch.
            let parts = harness::batches(partial.as_mut(), [batch(&new, None).into()]).unwrap();
            for part in parts {
                let out = job.push(part.records()).unwrap();
                fold(&whole, &mut shown, &out).map_err(TestCaseError::fail)?;
            }
            if flushes {
                let out = job.flush().unwrap();
                fold(&whole, &mut shown, &out).map_err(TestCaseError::fail)?;
                prop_assert_eq!(&shown, &expected(&whole, &rows));
            }
        }
        let out = job.flush().unwrap();
        fold(&whole, &mut shown, &out).map_err(TestCaseError::fail)?;
        prop_assert_eq!(&shown, &expected(&whole, &rows));
    }
}
