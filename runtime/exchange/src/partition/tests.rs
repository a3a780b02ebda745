use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use millstream_types::keys::DEFAULT_MAX_PARALLELISM;
use proptest::prelude::*;

use super::*;
use crate::testing::{KINDS, batch, batches};

const GROUPS: u32 = DEFAULT_MAX_PARALLELISM;

/// What each destination must get, row by row, according to the hash alone.
fn expected(batches: &[Batch], key: &[usize], destinations: usize) -> Vec<Vec<RecordBatch>> {
    let mut all = vec![Vec::new(); destinations];
    for batch in batches {
        let mut hashes = Vec::new();
        keys::hash(batch.records(), key, &mut hashes).unwrap();
        for (row, hash) in hashes.into_iter().enumerate() {
            let parallelism = u32::try_from(destinations).unwrap();
            let owner = keys::subtask(keys::key_group(hash, GROUPS), parallelism, GROUPS);
            all[owner as usize].push(batch.records().slice(row, 1));
        }
    }
    all
}

fn joined(parts: &[RecordBatch]) -> Option<RecordBatch> {
    let schema = parts.first()?.schema();
    Some(arrow_select::concat::concat_batches(&schema, parts).unwrap())
}

fn by_destination(out: Vec<(usize, Batch)>, destinations: usize) -> Vec<Vec<RecordBatch>> {
    let mut all = vec![Vec::new(); destinations];
    for (destination, batch) in out {
        all[destination].push(batch.into_records());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn each_destination_gets_the_rows_of_its_keys_once_and_in_order(
        (kinds, batches) in batches(120),
        destinations in 1_usize..9,
        flushes in prop::collection::vec(any::<bool>(), 8),
        width in 1_usize..3,
    ) {
        // The last kind cannot be a key.
        let key: Vec<usize> = (0..kinds.len()).filter(|number| kinds[*number] < KINDS - 1).take(width).collect();
        let mut partitioner = Partitioner::hash(key.clone(), GROUPS, destinations);
        let mut out = Vec::new();
        for (batch, flush) in batches.iter().zip(flushes) {
            partitioner.push(batch, &mut out).unwrap();
            if flush {
                partitioner.flush(&mut out).unwrap();
            }
        }
        partitioner.flush(&mut out).unwrap();
        let held = out.len();
        partitioner.flush(&mut out).unwrap();
        prop_assert_eq!(out.len(), held, "a flush leaves nothing");
        prop_assert!(out.iter().all(|(_, batch)| batch.rows() > 0));
        let got = by_destination(out, destinations);
        for (got, expected) in got.iter().zip(expected(&batches, &key, destinations)) {
            prop_assert_eq!(joined(got), joined(&expected));
        }
    }

    #[test]
    fn rebalancing_loses_and_doubles_nothing(
        (_, batches) in batches(120), destinations in 1_usize..9, first in 0_usize..20,
    ) {
        let mut partitioner = Partitioner::rebalance(destinations, first);
        let mut out = Vec::new();
        for batch in &batches {
            partitioner.push(batch, &mut out).unwrap();
        }
        let sent: Vec<Batch> = batches.into_iter().filter(|batch| batch.rows() > 0).collect();
        let turns = sent.iter().enumerate().map(|(turn, batch)| ((first + turn) % destinations, batch.clone()));
        prop_assert_eq!(out, turns.collect::<Vec<_>>());
    }
}

fn numbers(rows: std::ops::Range<i64>) -> Batch {
    batch(
        &[0, 1],
        &rows
            .map(|row| vec![Some(row), Some(row)])
            .collect::<Vec<_>>(),
    )
}

#[test]
fn receivers_see_large_batches_however_small_those_of_the_sender_are() {
    const DESTINATIONS: usize = 8;
    let mut partitioner = Partitioner::hash(vec![0], GROUPS, DESTINATIONS);
    let mut out = Vec::new();
    for start in 0..4_000 {
        partitioner
            .push(&numbers(start * 10..start * 10 + 10), &mut out)
            .unwrap();
    }
    assert!(!out.is_empty(), "full batches do not wait for a flush");
    for (destination, batch) in &out {
        assert!(
            batch.rows() >= 1_000,
            "{} rows to {destination}",
            batch.rows()
        );
        assert!(batch.rows() <= MAX_BATCH_ROWS);
    }
}

#[test]
fn a_batch_is_full_with_rows_or_bytes() {
    let mut partitioner = Partitioner::hash(vec![0], GROUPS, 2);
    let mut out = Vec::new();
    partitioner.push(&numbers(0..20_000), &mut out).unwrap();
    partitioner.flush(&mut out).unwrap();
    assert!(out.iter().all(|(_, batch)| batch.rows() <= MAX_BATCH_ROWS));
    let rows = out.iter().map(|(_, batch)| batch.rows()).sum::<usize>();
    assert_eq!(rows, 20_000);

    let mut partitioner = Partitioner::hash(vec![0], GROUPS, 2);
    let long = arrow_array::StringArray::from_iter_values((0..2_000).map(|_| "x".repeat(1_000)));
    let number = arrow_array::Int64Array::from_iter_values(0..2_000);
    let columns: [(&str, arrow_array::ArrayRef); 2] = [
        ("number", std::sync::Arc::new(number)),
        ("text", std::sync::Arc::new(long)),
    ];
    let mut out = Vec::new();
    let batch = Batch::new(RecordBatch::try_from_iter(columns).unwrap());
    partitioner.push(&batch, &mut out).unwrap();
    assert!(out.len() >= 6, "{} batches of 2 MB", out.len());
    for (_, batch) in &out {
        assert!(
            batch.bytes() < MAX_BATCH_BYTES + 10_000,
            "{}",
            batch.bytes()
        );
    }
}

#[test]
fn what_comes_in_several_schemas_leaves_in_them_and_in_order() {
    let mut partitioner = Partitioner::hash(vec![0], GROUPS, 2);
    let mut out = Vec::new();
    let other = batch(
        &[0],
        &[vec![Some(1)], vec![Some(2)], vec![Some(3)], vec![Some(4)]],
    );
    for batch in [numbers(0..4), other, numbers(4..8)] {
        partitioner.push(&batch, &mut out).unwrap();
    }
    partitioner.flush(&mut out).unwrap();
    for destination in 0..2 {
        let columns = out.iter().filter(|(to, _)| *to == destination);
        let columns: Vec<usize> = columns
            .map(|(_, batch)| batch.records().num_columns())
            .collect();
        assert_eq!(columns, [2, 1, 2]);
    }
}

#[test]
fn a_whole_batch_for_one_destination_is_not_copied() {
    let mut partitioner = Partitioner::hash(vec![0], GROUPS, 4);
    let same = batch(&[0, 1], &vec![vec![Some(5), Some(6)]; 4_096]);
    let mut out = Vec::new();
    partitioner.push(&same, &mut out).unwrap();
    let [(_, sent)] = out.as_slice() else {
        panic!("{} batches", out.len());
    };
    let pointer = |batch: &Batch| {
        batch
            .records()
            .column(0)
            .as_primitive::<Int64Type>()
            .values()
            .as_ptr()
    };
    assert_eq!(pointer(sent), pointer(&same));
}

#[test]
fn a_batch_that_is_much_too_large_is_split_by_rebalancing() {
    let mut partitioner = Partitioner::rebalance(3, 1);
    let mut out = Vec::new();
    partitioner
        .push(&numbers(0..(4 * 4_096)), &mut out)
        .unwrap();
    assert_eq!(
        out.iter().map(|(_, batch)| batch.rows()).sum::<usize>(),
        4 * 4_096
    );
    let targets: Vec<usize> = out.iter().map(|(destination, _)| *destination).collect();
    assert_eq!(targets[..4], [1, 2, 0, 1]);
}

#[test]
fn a_key_that_the_batch_does_not_have_is_an_error() {
    let mut partitioner = Partitioner::hash(vec![5], GROUPS, 2);
    let failure = partitioner
        .push(&numbers(0..4), &mut Vec::new())
        .unwrap_err();
    assert_eq!(failure.code, ErrorCode::PlanMismatch);
}
