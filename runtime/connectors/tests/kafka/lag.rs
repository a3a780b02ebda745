//! How far a source is behind, and who holds it back.

use millstream_tests::kafka::topics::WholeRecord;
use millstream_tests::wait::wait_for;
use millstream_types::api::SplitLag;
use millstream_types::{CheckpointId, SplitState};
use serde_json::json;

use crate::fixture::{Bench, PATIENCE, TestSource, batch};

fn records(count: usize) -> Vec<WholeRecord> {
    let one = WholeRecord {
        value: Some(b"{\"id\":1}".to_vec()),
        ..WholeRecord::default()
    };
    vec![one; count]
}

/// Waits until the source says what is expected of its splits.
#[track_caller]
fn wait_for_lags(
    bench: &Bench,
    source: &TestSource,
    splits: &[SplitState],
    expected: impl Fn(&[SplitLag]) -> bool,
) -> Vec<SplitLag> {
    let mut enumerator = source.enumerator();
    wait_for("the lags are as expected", PATIENCE, || {
        let lags = bench.wait(enumerator.lags(splits)).unwrap().unwrap();
        expected(&lags).then_some(lags)
    })
}

#[test]
fn what_is_not_read_is_told_by_partition_and_what_is_held_back_with_the_transaction() {
    let bench = Bench::shared();
    bench.broker.create_topic("lag1", 2);
    bench.broker.produce_whole("lag1", 0, &records(10));
    bench.broker.produce_whole("lag1", 1, &records(3));
    let source = bench.source("lag1", json!({}));
    let mut splits = source.first_splits(&bench);
    splits[0].position.0 = r#"{"offset":4}"#.into();
    let sink = bench.sink("lag1", json!({}));
    let mut writer = sink.writer(1, 0);
    writer.write(&batch(0..5)).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();

    let lags = wait_for_lags(&bench, &source, &splits, |lags| {
        lags.iter().any(|lag| lag.held_back.is_some())
    });
    let names: Vec<&str> = lags.iter().map(|lag| lag.split.as_str()).collect();
    assert_eq!(names, ["lag1/0", "lag1/1"]);
    let pending: Vec<u64> = lags.iter().map(|lag| lag.pending_records).collect();
    assert_eq!(pending, [6, 3]);
    let held: Vec<_> = lags
        .iter()
        .filter_map(|lag| lag.held_back.as_ref())
        .collect();
    assert_eq!(held.len(), 1, "one partition was written to: {lags:?}");
    assert_eq!(held[0].records, 5);
    let id = held[0].transactional_id.as_deref().unwrap();
    assert!(id.starts_with("lag1-out-"), "{id}");
    let known: serde_json::Value = serde_json::from_str(&prepared[0].transaction.0).unwrap();
    assert_eq!(held[0].producer_id, known["producerId"].as_i64());

    bench.commit(&*sink.committer(), &prepared);
    let lags = wait_for_lags(&bench, &source, &splits, |lags| {
        lags.iter().all(|lag| lag.held_back.is_none())
    });
    let pending: u64 = lags.iter().map(|lag| lag.pending_records).sum();
    assert_eq!(pending, 6 + 3 + 5 + 1, "with the marker of the commit");
}

#[test]
fn a_bounded_split_is_behind_its_stop_and_one_that_is_finished_is_not_behind() {
    let bench = Bench::shared();
    bench.broker.create_topic("lag2", 2);
    bench.broker.produce_whole("lag2", 0, &records(10));
    let source = bench.source("lag2", json!({"bounded": true}));
    let splits = source.first_splits(&bench);
    bench.broker.produce_whole("lag2", 0, &records(10));
    let lags = wait_for_lags(&bench, &source, &splits, |_| true);
    let expected = SplitLag {
        split: "lag2/0".to_owned(),
        pending_records: 10,
        held_back: None,
    };
    assert_eq!(lags, [expected]);
}
