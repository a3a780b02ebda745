//! Batches for tests: columns of every type, with nulls, as slices of larger ones. And a task that sends
//! and does nothing else.

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
    Int64Array, LargeStringArray, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Schema};
use millstream_types::schema::UTC;
use millstream_types::{Batch, Element};
use proptest::prelude::*;

use crate::outbox::{RemoteSender, SendError};

/// How many kinds of columns there are.
pub(crate) const KINDS: usize = 10;

/// Makes a column of one of the kinds: of every type of a job's columns, and one that has no place in
/// a job.
pub(crate) fn column(kind: usize, values: &[Option<i64>]) -> ArrayRef {
    let small = |value: i64| i32::try_from(value % 1_000_000).unwrap_or_default();
    let values = values.iter().copied();
    let texts = values.clone().map(|value| {
        value.map(|value| {
            format!(
                "{value}{}",
                "é".repeat(small(value).unsigned_abs() as usize % 20)
            )
        })
    });
    match kind % KINDS {
        0 => Arc::new(values.collect::<Int64Array>()),
        1 => Arc::new(texts.collect::<StringArray>()),
        2 => Arc::new(values.map(|value| value.map(small)).collect::<Int32Array>()),
        3 => {
            let even = values.map(|value| value.map(|value| value % 2 == 0));
            Arc::new(even.collect::<BooleanArray>())
        }
        4 => {
            let quarters = values.map(|value| value.map(|value| value as f64 / 4.0));
            Arc::new(quarters.collect::<Float64Array>())
        }
        5 => {
            let array = values.map(|value| value.map(i128::from));
            let array = array.collect::<Decimal128Array>();
            Arc::new(array.with_precision_and_scale(30, 2).unwrap())
        }
        6 => {
            let bytes = texts.map(|text| text.map(String::into_bytes));
            Arc::new(bytes.collect::<BinaryArray>())
        }
        7 => {
            let times = values.collect::<TimestampMicrosecondArray>();
            Arc::new(times.with_timezone(UTC))
        }
        8 => Arc::new(
            values
                .map(|value| value.map(small))
                .collect::<Date32Array>(),
        ),
        _ => Arc::new(texts.collect::<LargeStringArray>()),
    }
}

/// A batch of nullable columns.
pub(crate) fn batch(kinds: &[usize], rows: &[Vec<Option<i64>>]) -> Batch {
    let of = |number: usize| rows.iter().map(|row| row[number]).collect::<Vec<_>>();
    let columns: Vec<ArrayRef> = kinds
        .iter()
        .enumerate()
        .map(|(number, kind)| column(*kind, &of(number)))
        .collect();
    let fields: Vec<Field> = columns
        .iter()
        .enumerate()
        .map(|(number, column)| Field::new(format!("c{number}"), column.data_type().clone(), true))
        .collect();
    Batch::new(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap())
}

/// Kinds of up to four columns.
pub(crate) fn kinds() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..KINDS, 1..=4)
}

/// Rows of that many values: few different ones, so that keys repeat.
pub(crate) fn rows(columns: usize, most: usize) -> impl Strategy<Value = Vec<Vec<Option<i64>>>> {
    let value = prop_oneof![
        1 => Just(None),
        6 => (-20_i64..20).prop_map(Some),
        2 => any::<i64>().prop_map(Some),
    ];
    prop::collection::vec(prop::collection::vec(value, columns), 0..=most)
}

/// Batches of one schema. Each is a slice of a larger one.
pub(crate) fn batches(most_rows: usize) -> impl Strategy<Value = (Vec<usize>, Vec<Batch>)> {
    kinds().prop_flat_map(move |kinds| {
        let slice = (rows(kinds.len(), most_rows), any::<prop::sample::Index>());
        let batches = prop::collection::vec(slice, 0..8).prop_map({
            let kinds = kinds.clone();
            move |all| {
                let slice = |(rows, index): (Vec<_>, prop::sample::Index)| {
                    let from = index.index(rows.len() + 1);
                    let whole = batch(&kinds, &rows);
                    Batch::new(whole.records().slice(from, rows.len() - from))
                };
                all.into_iter().map(slice).collect()
            }
        });
        (Just(kinds), batches)
    })
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Sends as a task does, which looks for room first and waits for it.
pub(crate) fn send(sender: &RemoteSender, element: &Element) -> Result<(), SendError> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    while !sender.has_room(&waker) {
        std::thread::park();
    }
    sender.send(element)
}
