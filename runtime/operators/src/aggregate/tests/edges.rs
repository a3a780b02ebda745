//! Values at the edges of their types, keys of every type, and what a plan must not ask for.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{
    Array as _, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Schema};
use millstream_types::aggregate::{AggregateCall, AggregateFunction};
use millstream_types::batch::MAX_BATCH_ROWS;
use millstream_types::schema::UTC;
use millstream_types::{Change, Changelog, ErrorCode, ErrorKind, Failure, change};

use super::job::{
    AMOUNT, FLOAT, Job, NAME, NUMBER, Row, TEXT, Value, WEIGHT, aggregation, batch, call, float,
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
        &[call(AggregateFunction::Sum, Some(NUMBER), false, false)],
        Changelog::Append,
    );
    let failure = refusal(&mut sums, &[number(i64::MAX), number(1)]);
    assert_eq!(
        failure.message,
        "node `sales/aggregate`: `sum(Some(2), false, false)` failed: the sum does not fit into its \
         type; the key is name = 'n1'"
    );
    let mut sums = job(
        &[NAME],
        &[call(AggregateFunction::Sum, Some(NUMBER), false, false)],
        Changelog::Append,
    );
    refusal(&mut sums, &[number(i64::MIN), number(-1)]);
    // A later value makes up for nothing that has not fitted, but an earlier one does.
    let fits = [number(-1), number(i64::MAX), number(1)];
    let sum = call(AggregateFunction::Sum, Some(NUMBER), false, false);
    assert_eq!(results(&[sum], &fits), [Value::Number(i64::MAX.into())]);
}

#[test]
fn a_sum_of_integers_that_does_not_fit_has_an_average() {
    let average = call(AggregateFunction::Avg, Some(NUMBER), false, false);
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
        &[call(AggregateFunction::Sum, Some(0), false, false)],
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
    plan.calls = vec![call(AggregateFunction::Avg, Some(0), false, false)];
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
    let average = || [call(AggregateFunction::Avg, Some(AMOUNT), false, false)];
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
        call(Count, None, false, false),
        call(Count, Some(NUMBER), false, false),
        call(Count, Some(TEXT), false, true),
        call(Sum, Some(NUMBER), false, false),
        call(Sum, Some(AMOUNT), false, true),
        call(Sum, Some(FLOAT), false, false),
        call(Avg, Some(AMOUNT), false, false),
        call(Avg, Some(NUMBER), false, false),
        call(Min, Some(TEXT), false, false),
        call(Max, Some(FLOAT), false, false),
        call(BoolAnd, Some(super::job::TRUTH), false, false),
        call(FirstValue, Some(TEXT), false, false),
        call(Count, None, true, false),
    ];
    let found = results(&calls, &[Row::default(), Row::default()]);
    let mut expected = vec![Value::Null; 13];
    expected[..3].clone_from_slice(&[2, 0, 0].map(Value::Number));
    expected[12] = Value::Number(0);
    assert_eq!(found, expected);
}

#[test]
fn a_filter_that_is_null_keeps_nothing_whatever_is_below() {
    let count = [call(AggregateFunction::Count, None, true, false)];
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
    let count = [call(AggregateFunction::Count, None, false, false)];
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
    let calls = [call(AggregateFunction::Sum, Some(FLOAT), false, false)];
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
        call(AggregateFunction::Sum, Some(FLOAT), false, false),
        call(AggregateFunction::Count, None, false, false),
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
        call(Min, Some(FLOAT), false, false),
        call(Max, Some(FLOAT), false, false),
        call(Count, Some(FLOAT), false, true),
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
    let count = [call(AggregateFunction::Count, None, false, false)];
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

/// Columns of every type, each with two values, twice, and a null.
fn every_type() -> Vec<ArrayRef> {
    let rows = [0, 1, 0, 1, 2];
    let at = |it: usize| (it < 2).then_some(it);
    let number = |it: usize| at(it).map(|it| i32::try_from(it).unwrap());
    let wide = |it: usize| number(it).map(i64::from);
    let texts = ["", "žluť"];
    let text = |it: usize| at(it).map(|it| texts[it]);
    let decimals: Decimal128Array = rows.iter().map(|it| wide(*it).map(i128::from)).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|it| wide(*it)).collect();
    vec![
        Arc::new(
            rows.iter()
                .map(|it| at(*it).map(|it| it == 1))
                .collect::<BooleanArray>(),
        ),
        Arc::new(rows.iter().map(|it| number(*it)).collect::<Int32Array>()),
        Arc::new(rows.iter().map(|it| wide(*it)).collect::<Int64Array>()),
        Arc::new(
            rows.iter()
                .map(|it| number(*it).map(f64::from))
                .collect::<Float64Array>(),
        ),
        Arc::new(decimals.with_precision_and_scale(12, 2).unwrap()),
        Arc::new(rows.iter().map(|it| number(*it)).collect::<Date32Array>()),
        Arc::new(times.with_timezone(UTC)),
        Arc::new(rows.iter().map(|it| text(*it)).collect::<StringArray>()),
        Arc::new(
            rows.iter()
                .map(|it| text(*it).map(str::as_bytes))
                .collect::<BinaryArray>(),
        ),
    ]
}

/// Rows of one column, with changes where the stream updates.
fn rows_of(column: &ArrayRef, change: Option<Change>) -> RecordBatch {
    let mut fields = vec![Field::new("it", column.data_type().clone(), true)];
    let mut columns = vec![Arc::clone(column)];
    if let Some(change) = change {
        fields.push(change::change_field());
        let changes = vec![change as u8; column.len()];
        columns.push(Arc::new(arrow_array::UInt8Array::from(changes)));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// In the order in which they come, null last.
#[test]
fn columns_of_every_type_are_keys() {
    for column in every_type() {
        let field = Field::new("it", column.data_type().clone(), true);
        let count = Field::new("n", arrow_schema::DataType::Int64, false);
        let plan = aggregation(
            &[0],
            &[call(AggregateFunction::Count, None, false, false)],
            Changelog::Append,
            Changelog::Upsert,
        );
        let output = change::with_changes(&Schema::new(vec![field, count]));
        let input = rows_of(&column, None).schema();
        let mut counts = Job::new(&plan, input, output, 1).unwrap();
        counts.push(&rows_of(&column, None)).unwrap();
        let snapshots = counts.flush().map(|out| (out, counts.checkpoint()));
        let (out, snapshots) = snapshots.unwrap();
        let expected =
            arrow_select::concat::concat(&[&column.slice(0, 2), &column.slice(4, 1)]).unwrap();
        assert_eq!(out[0].column(0), &expected, "{}", column.data_type());
        let n: Vec<i64> = out[0]
            .column(1)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec();
        assert_eq!(n, [2, 2, 1]);
        counts.restore(&snapshots, 2).unwrap();
        counts.push(&rows_of(&column, None)).unwrap();
        let again = counts.flush().unwrap();
        assert_eq!(again.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
        let doubled = again
            .iter()
            .flat_map(|out| out.column(1).as_primitive::<Int64Type>().values());
        assert_eq!(doubled.sum::<i64>(), 10);
    }
}

/// The last value is null.
#[test]
fn columns_of_every_type_have_extremes_and_places() {
    use AggregateFunction::{FirstValue, LastValue, Max, Min};
    for column in every_type() {
        let field = Field::new("it", column.data_type().clone(), true);
        for input in [Changelog::Append, Changelog::Retract] {
            let mut functions = vec![Min, Max];
            if input == Changelog::Append {
                functions.extend([FirstValue, LastValue]);
            }
            let calls: Vec<_> = functions
                .iter()
                .map(|it| call(*it, Some(0), false, false))
                .collect();
            let plan = aggregation(&[], &calls, input, Changelog::Upsert);
            let fields: Vec<Field> = calls
                .iter()
                .map(|it| field.clone().with_name(&it.text))
                .collect();
            let output = change::with_changes(&Schema::new(fields));
            let batch = rows_of(&column, input.updates().then_some(ADD));
            let mut extremes = Job::new(&plan, batch.schema(), output, 1).unwrap();
            extremes.push(&batch).unwrap();
            let out = extremes.flush().unwrap();
            let snapshots = extremes.checkpoint();
            for (result, row) in out[0].columns().iter().zip([0, 1, 0, 4]).take(calls.len()) {
                assert_eq!(result, &column.slice(row, 1), "{}", column.data_type());
            }
            extremes.restore(&snapshots, 1).unwrap();
            extremes.push(&batch).unwrap();
            assert!(
                extremes.flush().unwrap().is_empty(),
                "{}",
                column.data_type()
            );
        }
    }
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
    let first = |column| call(AggregateFunction::FirstValue, Some(column), false, false);
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
    let count = [call(AggregateFunction::Count, None, false, false)];
    let mut counts = job(&[NUMBER], &count, Changelog::Append);
    let keys: i64 = 10_001;
    let rows: Vec<Row> = (0..keys).map(number).collect();
    for chunk in rows.chunks(1_000) {
        assert!(counts.push(&batch(chunk, None)).unwrap().is_empty());
    }
    let first = counts.flush().unwrap();
    assert_eq!(
        first.iter().map(RecordBatch::num_rows).sum::<usize>(),
        10_001
    );
    // One new key first, so that pairs begin at odd rows.
    counts.push(&batch(&[number(-1)], None)).unwrap();
    counts.push(&batch(&rows, None)).unwrap();
    let second = counts.flush().unwrap();
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

#[test]
fn many_keys_are_emitted_without_a_flush() {
    let count = [call(AggregateFunction::Count, None, false, false)];
    let mut counts = job(&[NUMBER], &count, Changelog::Append);
    let mut emitted = 0;
    let keys = i64::try_from(MAX_DIRTY).unwrap() + 4_000;
    for from in (0..keys).step_by(4_000) {
        let rows: Vec<Row> = (from..from + 4_000).map(number).collect();
        let out = counts.push(&batch(&rows, None)).unwrap();
        emitted += out.iter().map(RecordBatch::num_rows).sum::<usize>();
    }
    assert!(emitted > MAX_DIRTY, "{emitted}");
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
    internal(
        &[call(FirstValue, Some(TEXT), false, false)],
        Changelog::Retract,
    );
    internal(
        &[call(LastValue, Some(TEXT), false, false)],
        Changelog::Retract,
    );
    internal(&[call(Count, None, false, false)], Changelog::Upsert);
    for (calls, input) in [
        (vec![call(Count, None, false, false)], Changelog::Append),
        (
            vec![call(FirstValue, Some(TEXT), true, false)],
            Changelog::Append,
        ),
        (vec![], Changelog::Retract),
    ] {
        let plan = aggregation(&[NAME], &calls, input, Changelog::Append);
        assert_eq!(
            Job::whole(&plan, 1).err().unwrap().kind,
            ErrorKind::Internal
        );
    }
    let count = [call(Count, None, false, false)];
    let mut counts = job(&[NAME], &count, Changelog::Retract);
    let failure = counts.push(&batch(&[number(1)], None)).unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Internal);
    let plan = aggregation(
        &[NAME],
        &[call(Sum, Some(NUMBER), false, true)],
        Changelog::Append,
        Changelog::Upsert,
    );
    let (first, between, second) = super::job::halves(&plan);
    let output = super::job::output_schema(&plan);
    assert!(Job::new(&second, Arc::clone(&between), output, 1).is_err());
    assert!(Job::new(&first, super::job::schema(Changelog::Append), between, 1).is_err());
}
