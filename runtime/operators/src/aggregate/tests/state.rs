//! What is kept, and for how long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow_array::RecordBatch;
use millstream_state::{HAS_COLD_TIER, Memory};
use millstream_types::aggregate::{AggregateCall, AggregateFunction};
use millstream_types::{Change, Changelog, ErrorCode, change};

use super::job::{Job, NAME, NUMBER, Row, TEXT, Value, aggregation, batch, call, distinct, values};
use super::model::no_memory;

fn rows(numbers: &[(u8, i64)]) -> Vec<Row> {
    let rows = numbers.iter().map(|(name, number)| Row {
        name: Some(*name),
        number: Some(*number),
        ..Row::default()
    });
    rows.collect()
}

/// Changes with the numbers behind the key.
pub(super) fn shown(out: &[RecordBatch]) -> Vec<(Change, Vec<Value>)> {
    let mut all = Vec::new();
    for records in out {
        let changes = change::changes(records);
        let count = records.num_columns() - usize::from(changes.is_some());
        let columns: Vec<_> = records.columns()[..count].iter().map(values).collect();
        for row in 0..records.num_rows() {
            let change = changes.map_or(Change::Insert, |it| Change::of(it.value(row)).unwrap());
            all.push((change, columns.iter().map(|it| it[row].clone()).collect()));
        }
    }
    all
}

fn n(name: &str, numbers: &[i128]) -> Vec<Value> {
    let numbers = numbers.iter().map(|it| Value::Number(*it));
    std::iter::once(Value::Text(name.to_owned()))
        .chain(numbers)
        .collect()
}

fn count_and_distinct() -> [AggregateCall; 2] {
    [
        call(AggregateFunction::Count, None, false),
        distinct(AggregateFunction::Count, NUMBER, false),
    ]
}

#[test]
fn a_key_that_is_quiet_for_its_time_to_live_begins_anew_without_a_row() {
    let mut plan = aggregation(
        &[NAME],
        &count_and_distinct(),
        Changelog::Append,
        Changelog::Retract,
    );
    plan.ttl = Some(Duration::from_secs(10));
    let mut job = Job::whole(&plan, 1).unwrap();
    let at = |job: &Job, seconds: u64| job.clock.0.store(seconds * 1_000, Ordering::Relaxed);
    job.push(&batch(&rows(&[(1, 5), (2, 6)]), None)).unwrap();
    job.flush().unwrap();
    at(&job, 9);
    job.push(&batch(&rows(&[(1, 5)]), None)).unwrap();
    assert_eq!(
        shown(&job.flush().unwrap()),
        [
            (Change::UpdateBefore, n("n1", &[1, 1])),
            (Change::UpdateAfter, n("n1", &[2, 1]))
        ]
    );
    at(&job, 18);
    assert!(job.flush().unwrap().is_empty());
    job.push(&batch(&rows(&[(1, 5), (2, 6)]), None)).unwrap();
    assert_eq!(
        shown(&job.flush().unwrap()),
        [
            (Change::UpdateBefore, n("n1", &[2, 1])),
            (Change::UpdateAfter, n("n1", &[3, 1])),
            (Change::Insert, n("n2", &[1, 1])),
        ]
    );
    // What has expired is not in the next snapshot, nor in what is restored from an older one.
    let snapshots = job.checkpoint();
    at(&job, 40);
    job.restore(&snapshots, 3).unwrap();
    job.flush().unwrap();
    assert_eq!(job.table_sizes().values().sum::<u64>(), 0);
}

#[test]
fn a_new_time_to_live_begins_at_a_restore_and_what_has_expired_is_neither_restored_nor_written() {
    let mut plan = aggregation(
        &[NAME],
        &count_and_distinct(),
        Changelog::Append,
        Changelog::Upsert,
    );
    let mut job = Job::whole(&plan, 1).unwrap();
    job.clock.0.store(1_000_000, Ordering::Relaxed);
    job.push(&batch(&rows(&[(1, 5)]), None)).unwrap();
    job.flush().unwrap();
    let snapshots = job.checkpoint();
    plan.ttl = Some(Duration::from_secs(10));
    job.change(&plan);
    job.restore(&snapshots, 2).unwrap();
    job.clock.0.store(1_009_000, Ordering::Relaxed);
    job.push(&batch(&rows(&[(1, 5)]), None)).unwrap();
    assert_eq!(
        shown(&job.flush().unwrap()),
        [(Change::UpdateAfter, n("n1", &[2, 1]))]
    );
    let snapshots = job.checkpoint();
    job.clock.0.store(1_030_000, Ordering::Relaxed);
    job.restore(&snapshots, 1).unwrap();
    job.flush().unwrap();
    assert_eq!(job.table_sizes().values().sum::<u64>(), 0);

    // What has changed and has expired by the barrier is not written.
    job.push(&batch(&rows(&[(1, 5), (2, 5)]), None)).unwrap();
    job.flush().unwrap();
    job.clock.0.store(1_060_000, Ordering::Relaxed);
    assert!(job.flush().unwrap().is_empty());
    job.checkpoint();
    assert_eq!(job.table_sizes().values().sum::<u64>(), 0);
}

#[test]
fn distinct_values_last_as_long_as_their_key_and_no_longer() {
    let mut memories = vec![Memory::default()];
    if HAS_COLD_TIER {
        memories.push(no_memory().clone());
    }
    for memory in &memories {
        let mut plan = aggregation(
            &[NAME],
            &count_and_distinct(),
            Changelog::Append,
            Changelog::Upsert,
        );
        plan.ttl = Some(Duration::from_secs(10));
        let mut job = Job::whole(&plan, 1).unwrap();
        job.set_memory(memory);
        let at = |job: &Job, seconds: u64| job.clock.0.store(seconds * 1_000, Ordering::Relaxed);
        let push = |job: &mut Job, number: i64| {
            let mut out = job.push(&batch(&rows(&[(1, number)]), None)).unwrap();
            out.extend(job.flush().unwrap());
            shown(&out).pop()
        };
        // The first value is quiet for much longer than the time to live, its key is not.
        at(&job, 1);
        push(&mut job, 5);
        for step in 1..20 {
            at(&job, 1 + 7 * step);
            push(&mut job, 6);
            let snapshots = job.checkpoint();
            if step % 6 == 0 {
                job.restore(&snapshots, 1).unwrap();
            }
        }
        let known = push(&mut job, 5);
        assert_eq!(known, Some((Change::UpdateAfter, n("n1", &[21, 2]))));
        // With the key its values are gone, from memory, from the runs and when it comes again.
        at(&job, 150);
        push(&mut job, 7);
        assert_eq!(job.table_sizes()["values-0"], 1);
        at(&job, 180);
        job.flush().unwrap();
        assert_eq!(job.table_sizes()["values-0"], 0);
        let again = push(&mut job, 5);
        assert_eq!(again, Some((Change::Insert, n("n1", &[1, 1]))));
        let snapshots = job.checkpoint();
        job.restore(&snapshots, 1).unwrap();
        assert_eq!(job.table_sizes()["values-0"], 1);
    }
}

#[test]
fn an_extreme_can_be_taken_back_however_long_ago_it_came_while_its_key_lives() {
    let calls = [
        call(AggregateFunction::Min, Some(NUMBER), false),
        call(AggregateFunction::Max, Some(NUMBER), false),
    ];
    let mut plan = aggregation(&[NAME], &calls, Changelog::Retract, Changelog::Upsert);
    plan.ttl = Some(Duration::from_secs(10));
    for is_restored in [false, true] {
        let mut job = Job::whole(&plan, 1).unwrap();
        let push = |job: &mut Job, number: i64, change: Change| {
            let records = batch(&rows(&[(1, number)]), Some(&[change]));
            job.push(&records).unwrap();
            shown(&job.flush().unwrap()).pop()
        };
        push(&mut job, 1, Change::Insert);
        push(&mut job, 5, Change::Insert);
        for step in 1..8_u64 {
            job.clock.0.store(step * 9_000, Ordering::Relaxed);
            push(&mut job, 3, Change::Insert);
            let snapshots = job.checkpoint();
            if is_restored {
                job.restore(&snapshots, 2).unwrap();
            }
        }
        let lowest_gone = push(&mut job, 1, Change::Delete);
        assert_eq!(lowest_gone, Some((Change::UpdateAfter, n("n1", &[3, 5]))));
        let highest_gone = push(&mut job, 5, Change::Delete);
        assert_eq!(highest_gone, Some((Change::UpdateAfter, n("n1", &[3, 3]))));
        // A key that comes again has nothing of what it was.
        job.clock.0.store(100_000, Ordering::Relaxed);
        let again = push(&mut job, 4, Change::Insert);
        assert_eq!(again, Some((Change::Insert, n("n1", &[4, 4]))));
        assert_eq!(job.table_sizes()["values-0"], 1);
    }
}

#[test]
fn nothing_expires_while_its_change_waits_to_be_emitted() {
    let mut plan = aggregation(
        &[NAME],
        &count_and_distinct(),
        Changelog::Append,
        Changelog::Retract,
    );
    plan.ttl = Some(Duration::from_millis(5));
    let mut job = Job::whole(&plan, 1).unwrap();
    for time in [0, 100, 200] {
        job.clock.0.store(time, Ordering::Relaxed);
        job.push(&batch(&rows(&[(1, 5)]), None)).unwrap();
    }
    assert_eq!(
        shown(&job.flush().unwrap()),
        [(Change::Insert, n("n1", &[3, 1]))]
    );
}

#[test]
fn what_takes_back_a_row_of_a_key_that_has_expired_is_ignored() {
    let calls = [
        call(AggregateFunction::Count, None, false),
        call(AggregateFunction::Sum, Some(NUMBER), false),
        call(AggregateFunction::Max, Some(NUMBER), false),
    ];
    let mut plan = aggregation(&[NAME], &calls, Changelog::Retract, Changelog::Retract);
    plan.ttl = Some(Duration::from_secs(10));
    let mut job = Job::whole(&plan, 1).unwrap();
    job.push(&batch(&rows(&[(1, 5)]), Some(&[Change::Insert])))
        .unwrap();
    job.flush().unwrap();
    job.clock.0.store(60_000, Ordering::Relaxed);
    let update = [Change::UpdateBefore, Change::UpdateAfter];
    job.push(&batch(&rows(&[(1, 5), (1, 7)]), Some(&update)))
        .unwrap();
    assert_eq!(
        shown(&job.flush().unwrap()),
        [(Change::Insert, n("n1", &[1, 7, 7]))]
    );
    job.push(&batch(&rows(&[(2, 5)]), Some(&[Change::Delete])))
        .unwrap();
    assert!(shown(&job.flush().unwrap()).is_empty());
    assert_eq!(job.table_sizes()["groups"], 1);
}

#[test]
fn keys_without_rows_and_values_without_rows_are_not_kept() {
    let calls = [
        call(AggregateFunction::Min, Some(NUMBER), false),
        call(AggregateFunction::Max, Some(NUMBER), false),
        distinct(AggregateFunction::Count, NUMBER, false),
        distinct(AggregateFunction::Count, TEXT, false),
    ];
    let plan = aggregation(&[NAME], &calls, Changelog::Retract, Changelog::Retract);
    let mut job = Job::whole(&plan, 2).unwrap();
    let all: Vec<(u8, i64)> = (0..5)
        .flat_map(|name| (0..20).map(move |it| (name, it)))
        .collect();
    job.push(&batch(&rows(&all), Some(&[Change::Insert; 100])))
        .unwrap();
    job.flush().unwrap();
    let sizes = job.table_sizes();
    assert_eq!(sizes["groups"], 5);
    // Calls over one argument share its values; no text is there.
    assert_eq!(
        (sizes.len(), sizes["values-0"], sizes["values-1"]),
        (3, 100, 0)
    );
    job.checkpoint();
    job.push(&batch(&rows(&all[..99]), Some(&[Change::Delete; 99])))
        .unwrap();
    let out = shown(&job.flush().unwrap());
    assert_eq!(
        out.len(),
        4 + 2,
        "four keys are gone, one has one value left"
    );
    let sizes = job.table_sizes();
    assert_eq!((sizes["groups"], sizes["values-0"]), (1, 1));
    let snapshots = job.checkpoint();
    job.restore(&snapshots, 3).unwrap();
    let sizes = job.table_sizes();
    assert_eq!((sizes["groups"], sizes["values-0"]), (1, 1));
}

#[test]
fn the_next_extreme_is_known_after_a_restore() {
    let calls = [
        call(AggregateFunction::Min, Some(NUMBER), false),
        call(AggregateFunction::Max, Some(NUMBER), false),
    ];
    let plan = aggregation(&[NAME], &calls, Changelog::Retract, Changelog::Retract);
    let mut job = Job::whole(&plan, 1).unwrap();
    let all = rows(&[(1, 3), (1, 9), (1, 5), (1, 3)]);
    job.push(&batch(&all, Some(&[Change::Insert; 4]))).unwrap();
    job.flush().unwrap();
    let snapshots = job.checkpoint();
    job.restore(&snapshots, 4).unwrap();
    let gone = rows(&[(1, 9), (1, 3)]);
    job.push(&batch(&gone, Some(&[Change::Delete; 2]))).unwrap();
    assert_eq!(
        shown(&job.flush().unwrap()),
        [
            (Change::UpdateBefore, n("n1", &[3, 9])),
            (Change::UpdateAfter, n("n1", &[3, 5]))
        ]
    );
    job.push(&batch(&rows(&[(1, 3)]), Some(&[Change::Delete])))
        .unwrap();
    assert_eq!(
        shown(&job.flush().unwrap()),
        [
            (Change::UpdateBefore, n("n1", &[3, 5])),
            (Change::UpdateAfter, n("n1", &[5, 5]))
        ]
    );
}

#[test]
fn state_of_another_aggregation_is_refused() {
    let plan =
        |calls: &[AggregateCall]| aggregation(&[NAME], calls, Changelog::Append, Changelog::Upsert);
    let mut job = Job::whole(&plan(&count_and_distinct()), 1).unwrap();
    job.push(&batch(&rows(&[(1, 3)]), None)).unwrap();
    job.flush().unwrap();
    let snapshots = job.checkpoint();
    job.change(&plan(&count_and_distinct()[..1]));
    let refused = job.restore(&snapshots, 1).unwrap_err();
    assert_eq!(refused.code, ErrorCode::IncompatibleState);
    job.change(&plan(&count_and_distinct()));
    job.restore(&snapshots, 1).unwrap();
}

#[test]
fn texts_that_are_kept_count_as_memory_until_they_are_gone() {
    for (input, functions) in [
        (Changelog::Retract, vec![AggregateFunction::Max]),
        (
            Changelog::Append,
            vec![AggregateFunction::Max, AggregateFunction::LastValue],
        ),
    ] {
        let calls: Vec<_> = functions
            .iter()
            .map(|it| call(*it, Some(TEXT), false))
            .collect();
        let plan = aggregation(&[NAME], &calls, input, Changelog::Retract);
        let mut job = Job::whole(&plan, 1).unwrap();
        let text = |length: usize| Row {
            name: Some(1),
            text: Some("x".repeat(length)),
            ..Row::default()
        };
        let mut push = |length: usize, change: Change| {
            let changes = [change];
            let changes = input.updates().then_some(&changes[..]);
            job.push(&batch(&[text(length)], changes)).unwrap();
            job.flush().unwrap();
            job.table_bytes()
        };
        let small = push(1, Change::Insert);
        let large = push(1 << 20, Change::Insert);
        assert!(large - small > 1 << 20, "{small}, then {large}");
        if input.updates() {
            // The entry's key is in the arena of its table, which is tidied up later.
            let left = push(1 << 20, Change::Delete);
            assert!(large - left >= 1 << 20, "{large}, then {left}");
        } else {
            let last = push(2, Change::Insert);
            assert!(large - last >= 1 << 19, "{large}, then {last}");
        }
    }
}

#[test]
fn runs_have_columns_that_say_what_they_are() {
    let calls = [
        call(AggregateFunction::Count, None, false),
        call(AggregateFunction::Sum, Some(NUMBER), false),
        call(AggregateFunction::Max, Some(NUMBER), false),
    ];
    let names = |input: Changelog| {
        let plan = aggregation(&[NAME], &calls, input, Changelog::Retract);
        let mut job = Job::whole(&plan, 1).unwrap();
        job.columns()
    };
    let [count, sum, max] = calls.each_ref().map(|call| call.text.as_str());
    let (of_sum, in_sum) = (format!("{sum}: sum"), format!("{sum}: count"));
    let (of_sum, in_sum) = (of_sum.as_str(), in_sum.as_str());
    let append = names(Changelog::Append);
    assert_eq!(
        append,
        [vec!["name", "$deleted", count, of_sum, in_sum, max]]
    );
    assert_eq!(
        names(Changelog::Retract),
        [
            vec!["name", "$deleted", "$rows", "$since", count, of_sum, in_sum],
            vec!["name", "$value", "$deleted", "count"],
        ]
    );
}
