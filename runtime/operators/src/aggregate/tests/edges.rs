//! Values at the edges of their types, and what a plan must not ask for.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Decimal128Array, RecordBatch};
use arrow_schema::{Field, Schema};
use millstream_types::aggregate::{AggregateCall, AggregateFunction};
use millstream_types::batch::MAX_BATCH_ROWS;
use millstream_types::{Change, Changelog, ErrorCode, ErrorKind, Failure, change};

use super::job::{
    AMOUNT, FLOAT, Job, NAME, NUMBER, Row, TEXT, Value, WEIGHT, aggregation, batch, call, distinct,
    float,
};
use super::state::shown;
use crate::aggregate::MAX_DIRTY;

const ADD: Change = Change::Insert;
const TAKE: Change = Change::Delete;

fn job(keys: &[usize], calls: &[AggregateCall], input: Changelog) -> Job {
    let plan = aggregation(keys, calls, input, Changelog::Retract);
    Job::whole(&plan, 1).unwrap()
}

fn number(number: i64) -> Row {
    Row {
        name: Some(1),
        number: Some(number),
        ..Row::default()
    }
}

fn amount(amount: i128) -> Row {
    Row {
        amount: Some(amount),
        ..Row::default()
    }
}

fn one(float: f64) -> Row {
    Row {
        float: Some(float),
        ..Row::default()
    }
}

fn refusal(job: &mut Job, rows: &[Row]) -> Failure {
    let pushed = job.push(&batch(rows, None));
    let failure = pushed.and_then(|_| job.flush()).unwrap_err();
    assert_eq!(failure.code, ErrorCode::ExpressionFailed);
    assert_eq!(failure.kind, ErrorKind::InvalidJob);
    failure
}

/// The only row's results, of a job that has none of its rows' keys yet.
fn results(calls: &[AggregateCall], rows: &[Row]) -> Vec<Value> {
    let mut job = job(&[], calls, Changelog::Append);
    job.push(&batch(rows, None)).unwrap();
    let mut out = shown(&job.flush().unwrap());
    assert_eq!(out.len(), 1);
    out.remove(0).1
}

#[test]
fn a_sum_that_does_not_fit_fails_with_node_call_and_key() {
    let mut sums = job(
        &[NAME],
        &[call(AggregateFunction::Sum, Some(NUMBER), false)],
        Changelog::Append,
    );
    let failure = refusal(&mut sums, &[number(i64::MAX), number(1)]);
    assert_eq!(
        failure.message,
        "node `sales/aggregate`: `sum(Some(2), false)` failed: the sum does not fit into its \
         type; the key is name = 'n1'"
    );
    let mut sums = job(
        &[NAME],
        &[call(AggregateFunction::Sum, Some(NUMBER), false)],
        Changelog::Append,
    );
    refusal(&mut sums, &[number(i64::MIN), number(-1)]);
    // A later value makes up for nothing that has not fitted, but an earlier one does.
    let fits = [number(-1), number(i64::MAX), number(1)];
    let sum = call(AggregateFunction::Sum, Some(NUMBER), false);
    assert_eq!(results(&[sum], &fits), [Value::Number(i64::MAX.into())]);
}

#[test]
fn a_sum_of_integers_that_does_not_fit_has_an_average() {
    let average = call(AggregateFunction::Avg, Some(NUMBER), false);
    let rows = [number(i64::MAX), number(i64::MAX)];
    assert_eq!(
        results(&[average], &rows),
        [float(9_223_372_036_854_775_807.0)]
    );
}

#[test]
fn a_sum_of_decimals_has_up_to_38_digits() {
    // The largest decimal of 38 digits, in a column of that type.
    let most = 10_i128.pow(38) - 1;
    let fields = vec![Field::new(
        "amount",
        arrow_schema::DataType::Decimal128(38, 2),
        true,
    )];
    let input = Arc::new(Schema::new(fields));
    let values = |values: &[i128]| {
        let array = Decimal128Array::from_iter_values(values.iter().copied());
        let array: ArrayRef = Arc::new(array.with_precision_and_scale(38, 2).unwrap());
        RecordBatch::try_new(Arc::clone(&input), vec![array]).unwrap()
    };
    let mut plan = aggregation(
        &[],
        &[call(AggregateFunction::Sum, Some(0), false)],
        Changelog::Append,
        Changelog::Upsert,
    );
    let result = Field::new("sum", arrow_schema::DataType::Decimal128(38, 2), true);
    let output = change::with_changes(&Schema::new(vec![result]));
    let new = |plan: &_, output| Job::new(plan, Arc::clone(&input), output, 1).unwrap();
    let mut sums = new(&plan, Arc::clone(&output));
    sums.push(&values(&[most - 1, 1])).unwrap();
    assert_eq!(shown(&sums.flush().unwrap())[0].1, [Value::Number(most)]);
    assert!(
        sums.push(&values(&[1]))
            .unwrap_err()
            .message
            .contains("does not fit")
    );
    let mut sums = new(&plan, output);
    assert!(sums.push(&values(&[-most, -1])).is_err());

    // An average with more digits behind the point than fit.
    plan.calls = vec![call(AggregateFunction::Avg, Some(0), false)];
    let result = Field::new("avg", arrow_schema::DataType::Decimal128(38, 6), true);
    let output = change::with_changes(&Schema::new(vec![result]));
    let mut averages = new(&plan, output);
    averages.push(&values(&[most, -most, 7])).unwrap();
    assert_eq!(
        shown(&averages.flush().unwrap())[0].1,
        [Value::Number(23_333)]
    );
    averages.push(&values(&[most - 7])).unwrap();
    let failure = averages.flush().unwrap_err();
    assert_eq!(failure.code, ErrorCode::ExpressionFailed);
    assert!(
        failure.message.contains("the average does not fit"),
        "{failure}"
    );
}

#[test]
fn averages_of_decimals_are_rounded_half_away_from_zero() {
    let average = || [call(AggregateFunction::Avg, Some(AMOUNT), false)];
    for (amounts, expected) in [
        (vec![1, 1, 0], 6_667),
        (vec![-1, -1, 0], -6_667),
        (vec![1, 0, 0], 3_333),
        // 0.01 / 32 is 0.0003125, and 0.03 / 32 is 0.0009375.
        ([&[1][..], &[0; 31]].concat(), 313),
        ([&[3][..], &[0; 31]].concat(), 938),
        ([&[-1][..], &[0; 31]].concat(), -313),
    ] {
        let rows: Vec<Row> = amounts.iter().map(|it| amount(*it)).collect();
        assert_eq!(
            results(&average(), &rows),
            [Value::Number(expected)],
            "{amounts:?}"
        );
    }
}

#[test]
fn rows_without_values_have_counts_of_none_and_no_results() {
    use AggregateFunction::{Avg, BoolAnd, Count, FirstValue, Max, Min, Sum};
    let calls = [
        call(Count, None, false),
        call(Count, Some(NUMBER), false),
        distinct(Count, TEXT, false),
        call(Sum, Some(NUMBER), false),
        distinct(Sum, AMOUNT, false),
        call(Sum, Some(FLOAT), false),
        call(Avg, Some(AMOUNT), false),
        call(Avg, Some(NUMBER), false),
        call(Min, Some(TEXT), false),
        call(Max, Some(FLOAT), false),
        call(BoolAnd, Some(super::job::TRUTH), false),
        call(FirstValue, Some(TEXT), false),
        call(Count, None, true),
    ];
    let found = results(&calls, &[Row::default(), Row::default()]);
    let mut expected = vec![Value::Null; 13];
    expected[..3].clone_from_slice(&[2, 0, 0].map(Value::Number));
    expected[12] = Value::Number(0);
    assert_eq!(found, expected);
}

#[test]
fn a_filter_that_is_null_keeps_nothing_whatever_is_below() {
    let count = [call(AggregateFunction::Count, None, true)];
    let records = batch(&[number(1), number(2)], None);
    let mut columns = records.columns().to_vec();
    let nulls = arrow_buffer::NullBuffer::from(vec![false, true]);
    let set = arrow_buffer::BooleanBuffer::new_set(2);
    columns[super::job::KEEP] = Arc::new(BooleanArray::new(set, Some(nulls)));
    let mut counts = job(&[], &count, Changelog::Append);
    counts
        .push(&RecordBatch::try_new(records.schema(), columns).unwrap())
        .unwrap();
    assert_eq!(shown(&counts.flush().unwrap())[0].1, [Value::Number(1)]);
}

#[test]
fn nothing_comes_of_no_rows() {
    let count = [call(AggregateFunction::Count, None, false)];
    let mut all = job(&[], &count, Changelog::Retract);
    assert!(all.push(&batch(&[], Some(&[]))).unwrap().is_empty());
    assert!(all.flush().unwrap().is_empty());
    all.push(&batch(&[number(1)], Some(&[ADD]))).unwrap();
    all.push(&batch(&[number(1)], Some(&[TAKE]))).unwrap();
    assert!(all.flush().unwrap().is_empty());
    all.push(&batch(&[number(1)], Some(&[ADD]))).unwrap();
    assert_eq!(
        shown(&all.flush().unwrap()),
        [(ADD, vec![Value::Number(1)])]
    );
    all.push(&batch(&[number(1)], Some(&[TAKE]))).unwrap();
    assert_eq!(
        shown(&all.flush().unwrap()),
        [(TAKE, vec![Value::Number(1)])]
    );
}

#[test]
fn infinities_and_nan_are_taken_back_and_rounding_does_not_stay() {
    let calls = [call(AggregateFunction::Sum, Some(FLOAT), false)];
    let mut sums = job(&[], &calls, Changelog::Retract);
    let mut last = |float: f64, change| {
        sums.push(&batch(&[one(float)], Some(&[change]))).unwrap();
        let out = shown(&sums.flush().unwrap());
        out.last().map(|(_, results)| results[0].clone())
    };
    assert_eq!(last(0.5, ADD), Some(float(0.5)));
    assert_eq!(last(f64::INFINITY, ADD), Some(float(f64::INFINITY)));
    assert_eq!(last(f64::NEG_INFINITY, ADD), Some(float(f64::NAN)));
    assert_eq!(last(f64::INFINITY, TAKE), Some(float(f64::NEG_INFINITY)));
    assert_eq!(last(f64::NAN, ADD), Some(float(f64::NAN)));
    assert_eq!(last(f64::NAN, TAKE), Some(float(f64::NEG_INFINITY)));
    assert_eq!(last(f64::NEG_INFINITY, TAKE), Some(float(0.5)));

    let filtered = [
        call(AggregateFunction::Sum, Some(FLOAT), false),
        call(AggregateFunction::Count, None, false),
    ];
    let mut sums = job(&[], &filtered, Changelog::Retract);
    // 1e16 swallows 0.3; a row without a value keeps the key.
    let rows = [Row::default(), one(0.3), one(1e16)];
    sums.push(&batch(&rows, Some(&[ADD; 3]))).unwrap();
    sums.flush().unwrap();
    sums.push(&batch(&[one(0.3), one(1e16)], Some(&[TAKE; 2])))
        .unwrap();
    sums.flush().unwrap();
    sums.push(&batch(&[one(0.25)], Some(&[ADD]))).unwrap();
    let out = shown(&sums.flush().unwrap());
    assert_eq!(out[0].1, [Value::Null, Value::Number(1)]);
    assert_eq!(out[1].1, [float(0.25), Value::Number(2)]);
}

#[test]
fn nan_is_greatest_and_zeros_are_one_value() {
    use AggregateFunction::{Count, Max, Min};
    let calls = [
        call(Min, Some(FLOAT), false),
        call(Max, Some(FLOAT), false),
        distinct(Count, FLOAT, false),
    ];
    let rows = [one(f64::NAN), one(0.0), one(-0.0), one(-f64::NAN)];
    let expected = [float(0.0), float(f64::NAN), Value::Number(2)];
    assert_eq!(results(&calls, &rows), expected);
    let mut taken = job(&[], &calls, Changelog::Retract);
    taken.push(&batch(&rows, Some(&[ADD; 4]))).unwrap();
    assert_eq!(shown(&taken.flush().unwrap())[0].1, expected);
    // Each is there twice, however it is written.
    taken.push(&batch(&rows[..2], Some(&[TAKE; 2]))).unwrap();
    assert!(taken.flush().unwrap().is_empty());
    taken.push(&batch(&[one(f64::NAN)], Some(&[TAKE]))).unwrap();
    let out = shown(&taken.flush().unwrap());
    assert_eq!(out[1].1, [float(0.0), float(0.0), Value::Number(1)]);
}

#[test]
fn equal_keys_are_one_key() {
    let count = [call(AggregateFunction::Count, None, false)];
    let weight = |weight| Row {
        weight,
        ..Row::default()
    };
    let mut counts = job(&[WEIGHT], &count, Changelog::Append);
    let rows = [
        Some(0.0),
        Some(f64::NAN),
        None,
        Some(-0.0),
        Some(-f64::NAN),
        None,
    ];
    counts.push(&batch(&rows.map(weight), None)).unwrap();
    let twice = |key| (ADD, vec![key, Value::Number(2)]);
    assert_eq!(
        shown(&counts.flush().unwrap()),
        [
            twice(float(0.0)),
            twice(float(f64::NAN)),
            twice(Value::Null)
        ]
    );
}

#[test]
fn distinct_over_rows_that_stay_only_appends() {
    let plan = aggregation(&[NAME], &[], Changelog::Append, Changelog::Append);
    let mut keys = Job::whole(&plan, 2).unwrap();
    keys.push(&batch(&[number(1), number(2), Row::default()], None))
        .unwrap();
    let out = keys.flush().unwrap();
    assert!(out.iter().all(|out| out.num_columns() == 1));
    assert_eq!(out.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    let snapshots = keys.checkpoint();
    keys.restore(&snapshots, 3).unwrap();
    keys.push(&batch(&[Row::default(), number(7)], None))
        .unwrap();
    assert!(keys.flush().unwrap().is_empty());
}

#[test]
fn first_values_over_rows_that_stay_only_append() {
    let first = |column| call(AggregateFunction::FirstValue, Some(column), false);
    let calls = [first(NUMBER), first(TEXT)];
    let plan = aggregation(&[NAME], &calls, Changelog::Append, Changelog::Append);
    let mut rows = Job::whole(&plan, 1).unwrap();
    rows.push(&batch(&[number(7), number(8)], None)).unwrap();
    rows.push(&batch(&[number(9), Row::default()], None))
        .unwrap();
    let n1 = vec![Value::Text("n1".to_owned()), Value::Number(7), Value::Null];
    assert_eq!(
        shown(&rows.flush().unwrap()),
        [(ADD, n1), (ADD, vec![Value::Null; 3])]
    );
    let snapshots = rows.checkpoint();
    rows.restore(&snapshots, 3).unwrap();
    rows.push(&batch(&[number(10), Row::default()], None))
        .unwrap();
    assert!(rows.flush().unwrap().is_empty());
}

#[test]
fn an_update_is_not_divided_and_no_batch_is_too_large() {
    let count = [call(AggregateFunction::Count, None, false)];
    let mut counts = job(&[NUMBER], &count, Changelog::Append);
    let keys: i64 = 10_001;
    let rows: Vec<Row> = (0..keys).map(number).collect();
    let mut first = counts.push(&batch(&rows, None)).unwrap();
    first.extend(counts.flush().unwrap());
    assert_eq!(
        first.iter().map(RecordBatch::num_rows).sum::<usize>(),
        10_001
    );
    // One new key first, so that pairs begin at odd rows.
    counts.push(&batch(&[number(-1)], None)).unwrap();
    let mut second = counts.push(&batch(&rows, None)).unwrap();
    second.extend(counts.flush().unwrap());
    assert_eq!(
        second.iter().map(RecordBatch::num_rows).sum::<usize>(),
        20_003
    );
    for out in first.iter().chain(&second) {
        assert!(out.num_rows() <= MAX_BATCH_ROWS);
        let changes = change::changes(out).unwrap().values();
        assert_ne!(changes.last(), Some(&(Change::UpdateBefore as u8)));
    }
}

/// How many rows have come, and how many of them were emitted for each batch, until some were.
fn emitted_by_itself(batches: impl Iterator<Item = Vec<i64>>) -> (usize, usize) {
    let count = [call(AggregateFunction::Count, None, false)];
    let mut counts = job(&[NUMBER], &count, Changelog::Append);
    let mut rows = 0;
    for numbers in batches {
        rows += numbers.len();
        let numbers: Vec<Row> = numbers.into_iter().map(number).collect();
        let out = counts.push(&batch(&numbers, None)).unwrap();
        if !out.is_empty() {
            assert!(counts.flush().unwrap().is_empty());
            return (rows, out.iter().map(RecordBatch::num_rows).sum());
        }
    }
    (rows, 0)
}

#[test]
fn many_keys_are_emitted_without_a_flush_and_sooner_where_none_comes_twice() {
    // Each key twice.
    let twice = (0..).map(|from| (from * 1_000..from * 1_000 + 1_000).chain(0..1_000));
    let (rows, out) = emitted_by_itself(twice.map(Iterator::collect).take(100));
    assert!(
        (MAX_DIRTY..MAX_DIRTY + 2_000).contains(&out),
        "{out} of {rows}"
    );
    let once = (0..).map(|from| (from * 1_000..from * 1_000 + 1_000).collect());
    let (rows, out) = emitted_by_itself(once.take(100));
    assert_eq!((rows, out), (9_000, 9_000));
    let same = std::iter::repeat_n((0..20_000).map(|it| it % 5_000).collect(), 20);
    assert_eq!(emitted_by_itself(same), (400_000, 0));
}

#[test]
fn what_no_plan_asks_for_is_a_failure_of_ours() {
    use AggregateFunction::{Count, FirstValue, LastValue, Sum};
    let internal = |calls: &[AggregateCall], input| {
        let plan = aggregation(&[NAME], calls, input, Changelog::Retract);
        let failure = Job::whole(&plan, 1).err().unwrap();
        assert_eq!(failure.kind, ErrorKind::Internal, "{failure}");
        assert!(
            failure.message.contains("node `sales/aggregate`"),
            "{failure}"
        );
        let is_of_call = input != Changelog::Upsert;
        assert_eq!(
            failure.message.contains(&calls[0].text),
            is_of_call,
            "{failure}"
        );
    };
    internal(&[call(FirstValue, Some(TEXT), false)], Changelog::Retract);
    internal(&[call(LastValue, Some(TEXT), false)], Changelog::Retract);
    internal(&[call(Count, None, false)], Changelog::Upsert);
    for (calls, input) in [
        (vec![call(Count, None, false)], Changelog::Append),
        (vec![call(FirstValue, Some(TEXT), true)], Changelog::Append),
        (vec![], Changelog::Retract),
    ] {
        let plan = aggregation(&[NAME], &calls, input, Changelog::Append);
        assert_eq!(
            Job::whole(&plan, 1).err().unwrap().kind,
            ErrorKind::Internal
        );
    }
    let count = [call(Count, None, false)];
    let mut counts = job(&[NAME], &count, Changelog::Retract);
    let failure = counts.push(&batch(&[number(1)], None)).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Internal);
    let plan = aggregation(
        &[NAME],
        &[distinct(Sum, NUMBER, false)],
        Changelog::Append,
        Changelog::Upsert,
    );
    let (first, between, second) = super::job::halves(&plan);
    let output = super::job::output_schema(&plan);
    assert!(Job::new(&second, Arc::clone(&between), output, 1).is_err());
    assert!(Job::new(&first, super::job::schema(Changelog::Append), between, 1).is_err());
}
