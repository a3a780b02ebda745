//! Keys and arguments of every type.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt8Array,
};
use arrow_schema::{DataType, Field, Schema};
use arrow_select::concat::concat;
use millstream_types::aggregate::AggregateFunction;
use millstream_types::schema::UTC;
use millstream_types::{Change, Changelog, change};

use super::job::{Job, aggregation, call};

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

fn field(column: &ArrayRef) -> Field {
    Field::new("it", column.data_type().clone(), true)
}

fn records(column: &ArrayRef, input: Changelog) -> RecordBatch {
    let mut fields = vec![field(column)];
    let mut columns = vec![Arc::clone(column)];
    if input.updates() {
        fields.push(change::change_field());
        let changes = vec![Change::Insert as u8; column.len()];
        columns.push(Arc::new(UInt8Array::from(changes)));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn counts(out: &[RecordBatch]) -> Vec<i64> {
    let columns = out
        .iter()
        .map(|out| out.column(1).as_primitive::<Int64Type>());
    columns
        .flat_map(|column| column.values().to_vec())
        .collect()
}

#[test]
fn columns_of_every_type_are_keys() {
    let count = [call(AggregateFunction::Count, None, false)];
    let plan = aggregation(&[0], &count, Changelog::Append, Changelog::Upsert);
    for column in every_type() {
        let records = records(&column, Changelog::Append);
        let number = Field::new("n", DataType::Int64, false);
        let output = change::with_changes(&Schema::new(vec![field(&column), number]));
        let mut job = Job::new(&plan, records.schema(), output, 1).unwrap();
        job.push(&records).unwrap();
        let out = job.flush().unwrap();
        // In the order in which they come, null last.
        let expected = concat(&[&column.slice(0, 2), &column.slice(4, 1)]).unwrap();
        assert_eq!(out[0].column(0), &expected, "{}", column.data_type());
        assert_eq!(counts(&out), [2, 2, 1]);
        let snapshots = job.checkpoint();
        job.restore(&snapshots, 2).unwrap();
        job.push(&records).unwrap();
        let mut doubled = counts(&job.flush().unwrap());
        doubled.sort_unstable();
        assert_eq!(doubled, [2, 4, 4], "{}", column.data_type());
    }
}

#[test]
fn columns_of_every_type_have_extremes_and_places() {
    use AggregateFunction::{FirstValue, LastValue, Max, Min};
    // The last value is null.
    let all = [(Min, 0), (Max, 1), (FirstValue, 0), (LastValue, 4)];
    for (input, functions) in [
        (Changelog::Append, &all[..]),
        (Changelog::Retract, &all[..2]),
    ] {
        for column in every_type() {
            let calls = functions.iter().map(|(it, _)| call(*it, Some(0), false));
            let calls: Vec<_> = calls.collect();
            let plan = aggregation(&[], &calls, input, Changelog::Upsert);
            let fields = calls.iter().map(|it| field(&column).with_name(&it.text));
            let output = change::with_changes(&Schema::new(fields.collect::<Vec<_>>()));
            let records = records(&column, input);
            let mut job = Job::new(&plan, records.schema(), output, 1).unwrap();
            job.push(&records).unwrap();
            let out = job.flush().unwrap();
            for (result, (_, row)) in out[0].columns().iter().zip(functions) {
                assert_eq!(result, &column.slice(*row, 1), "{}", column.data_type());
            }
            let snapshots = job.checkpoint();
            job.restore(&snapshots, 1).unwrap();
            job.push(&records).unwrap();
            let out = job.flush().unwrap();
            assert!(out.is_empty(), "{}", column.data_type());
        }
    }
}
