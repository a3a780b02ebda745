//! Combining before rows are sent.

use std::sync::Arc;

use arrow_array::Array as _;
use arrow_schema::SchemaRef;
use millstream_types::aggregate::{AggregateFunction, Aggregation};
use millstream_types::batch::MAX_BATCH_ROWS;
use millstream_types::{Batch, Changelog};

use super::job::{
    GROUPS, NUMBER, Row, TestClock, aggregation, batch, call, halves, schema, values,
};
use crate::aggregate::{MAX_DIRTY, StateParameters};
use crate::{Context, InputIndex, Operator};

pub(super) fn operator(first: &Aggregation, output: SchemaRef) -> Box<dyn Operator> {
    let state = StateParameters {
        key_groups: 0..GROUPS,
        max_parallelism: GROUPS,
        clock: Arc::new(TestClock::default()),
    };
    let input = schema(Changelog::Append);
    crate::aggregate::operator("sales/partial".into(), first, &input, output, state).unwrap()
}

/// Counts and sums up by number.
fn by_number() -> Box<dyn Operator> {
    let calls = [
        call(AggregateFunction::Count, None, false),
        call(AggregateFunction::Sum, Some(NUMBER), false),
    ];
    let whole = aggregation(&[NUMBER], &calls, Changelog::Append, Changelog::Upsert);
    let (first, between, _) = halves(&whole);
    operator(&first, between)
}

fn numbers(numbers: impl Iterator<Item = i64>) -> Batch {
    let rows: Vec<Row> = numbers
        .map(|number| Row {
            number: Some(number),
            ..Row::default()
        })
        .collect();
    batch(&rows, None).into()
}

fn push(operator: &mut dyn Operator, batch: &Batch) -> Vec<Batch> {
    let mut cx = Context::default();
    operator.on_batch(InputIndex(0), batch, &mut cx).unwrap();
    cx.take()
}

fn flush(operator: &mut dyn Operator) -> Vec<Batch> {
    let mut cx = Context::default();
    operator.flush(&mut cx).unwrap();
    cx.take()
}

fn rows(batches: &[Batch]) -> usize {
    batches.iter().map(Batch::rows).sum()
}

#[test]
fn rows_of_a_key_are_one_row_until_a_flush() {
    let mut partial = by_number();
    assert!(!partial.holds());
    for _ in 0..3 {
        let out = push(partial.as_mut(), &numbers([1, 2, 1, 1].into_iter()));
        assert!(out.is_empty());
        assert!(partial.holds());
    }
    let out = flush(partial.as_mut());
    assert!(!partial.holds());
    let [only] = out.as_slice() else {
        panic!("{} batches", out.len());
    };
    let columns = only.records().columns();
    let found: Vec<Vec<_>> = columns.iter().map(values).collect();
    let expected = [[1, 2], [9, 3], [9, 6], [9, 3]];
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(*found, expected.map(super::job::Value::Number));
    }
    let next = push(partial.as_mut(), &numbers(std::iter::once(1)));
    assert!(next.is_empty());
    let out = flush(partial.as_mut());
    assert_eq!(
        values(out[0].records().column(1)),
        [super::job::Value::Number(1)]
    );
}

#[test]
fn no_more_keys_are_held_than_it_may_and_batches_are_bounded() {
    let mut partial = by_number();
    let mut held = 0;
    let mut out = Vec::new();
    // Each key twice, so that combining pays.
    for from in (0..200_000).step_by(1_000) {
        let twice = (from..from + 1_000).chain(from..from + 1_000);
        out.extend(push(partial.as_mut(), &numbers(twice)));
        held = (usize::try_from(from).unwrap() + 1_000) - rows(&out);
        assert!(held <= MAX_DIRTY, "{held} keys");
    }
    assert!(held > 0);
    out.extend(flush(partial.as_mut()));
    assert_eq!(rows(&out), 200_000);
    assert!(out.iter().all(|batch| batch.rows() <= MAX_BATCH_ROWS));
}

#[test]
fn keys_that_do_not_repeat_pass_and_it_is_tried_again() {
    let mut partial = by_number();
    let (mut seen, mut out, mut passed) = (0, 0, 0);
    while seen < 80_000 {
        let batch = numbers(seen..seen + 1_000);
        out += rows(&push(partial.as_mut(), &batch));
        seen += 1_000;
    }
    // More than it may hold have come once, and since then each row passes at once.
    assert!(!partial.holds());
    assert_eq!(i64::try_from(out).unwrap(), seen);
    let same = numbers(std::iter::repeat_n(5, 4_000));
    loop {
        let emitted = push(partial.as_mut(), &same);
        if partial.holds() {
            assert!(emitted.is_empty());
            break;
        }
        let [one] = emitted.as_slice() else {
            panic!("{} batches", emitted.len());
        };
        assert_eq!(one.rows(), same.rows());
        for (column, is) in [(0, 5), (1, 1), (2, 5), (3, 1)] {
            let found = values(one.records().column(column));
            assert!(found.iter().all(|it| *it == super::job::Value::Number(is)));
        }
        passed += one.rows();
        assert!(passed < 2_000_000, "it is never tried again");
    }
    assert!(passed > 500_000, "it was tried again after {passed} rows");
    let combined = flush(partial.as_mut());
    assert_eq!(rows(&combined), 1);
    assert!(combined[0].records().column(0).is_valid(0));
}
