//! Brokers that go away: for a while, and for too long.

use std::time::{Duration, Instant};

use millstream_connect::{CommitOutcome, Polled};
use millstream_tests::wait::wait_for;
use millstream_types::{CheckpointId, ErrorCode};
use serde_json::json;

use crate::fixture::{Bench, PATIENCE, POLL, batch, read, records};

/// A task that is cancelled must not be held up by brokers that are gone.
const QUICK: Duration = Duration::from_secs(5);

#[test]
fn nothing_is_lost_when_the_broker_crashes_and_comes_back() {
    let mut bench = Bench::start();
    bench.broker.create_topic("in", 2);
    bench.broker.create_topic("out", 2);
    bench.broker.produce("in", records(0..1_000));
    let source = bench.source("in", json!({}));
    let mut reader = source.started(&bench);
    let sink = bench.sink("out", json!({}));
    let mut writer = sink.writer(1, 0);
    assert_eq!(read(&mut *reader, 1_000).len(), 1_000);
    writer.write(&batch(0..1_000)).unwrap();
    bench.broker.server().kill();
    writer.write(&batch(1_000..2_000)).unwrap();
    assert_eq!(reader.poll(POLL), Ok(Polled::Nothing));
    bench.broker.restart();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    let outcomes = bench.commit(&*sink.committer(), &prepared);
    assert_eq!(outcomes, [CommitOutcome::Committed]);
    bench.wait_visible("out", 0..2_000);
    bench.broker.produce("in", records(1_000..1_500));
    let mut ids = read(&mut *reader, 500);
    ids.sort_unstable();
    assert_eq!(ids, (1_000..1_500).collect::<Vec<i64>>());
}

#[test]
fn a_broker_that_stays_away_fails_reader_writer_and_committer_after_the_deadline() {
    let mut bench = Bench::start();
    bench.broker.create_topic("in", 1);
    bench.broker.create_topic("out", 1);
    bench.broker.produce("in", records(0..10));
    let options = json!({"connectTimeout": "2s"});
    let mut with_group = options.clone();
    with_group["groupId"] = json!("mine");
    let source = bench.source("in", with_group);
    let mut reader = source.started(&bench);
    read(&mut *reader, 10);
    let sink = bench.sink("out", options);
    let mut writer = sink.writer(1, 0);
    writer.write(&batch(0..10)).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    writer.write(&batch(10..20)).unwrap();
    bench.broker.server().kill();
    // A commit of offsets that nobody answers.
    reader.snapshotted(CheckpointId(1));
    reader.completed(CheckpointId(1));

    let started = Instant::now();
    let failure = wait_for("reading fails", PATIENCE, || reader.poll(POLL).err());
    assert_eq!(failure.code, ErrorCode::KafkaUnreachable, "{failure}");
    assert!(
        failure.message.contains(&bench.broker.bootstrap()),
        "{failure}"
    );
    assert!(
        started.elapsed() >= Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );

    let failure = match writer.write(&batch(20..30)) {
        Ok(_) => writer.prepare(CheckpointId(2)).unwrap_err(),
        Err(failure) => failure,
    };
    assert_eq!(failure.code, ErrorCode::KafkaUnreachable, "{failure}");

    let committer = sink.committer();
    let began = Instant::now();
    drop(reader);
    assert!(began.elapsed() < QUICK, "the reader: {:?}", began.elapsed());
    let began = Instant::now();
    drop(writer);
    assert!(began.elapsed() < QUICK, "the writer: {:?}", began.elapsed());

    let outcomes = bench.commit(&*committer, &prepared);
    let [CommitOutcome::Retry(failure)] = outcomes.as_slice() else {
        panic!("an unknown outcome is never a loss: {outcomes:?}");
    };
    assert_eq!(failure.code, ErrorCode::KafkaUnreachable);

    bench.broker.restart();
    let outcomes = bench.commit(&*committer, &prepared);
    assert_eq!(outcomes, [CommitOutcome::Committed]);
    bench.wait_visible("out", 0..10);
}

#[test]
fn a_quiet_topic_is_no_outage() {
    let mut bench = Bench::start();
    bench.broker.create_topic("in", 1);
    let source = bench.source("in", json!({"connectTimeout": "1s"}));
    let mut reader = source.started(&bench);
    assert_eq!(reader.poll(POLL), Ok(Polled::Nothing));
    bench.broker.server().kill();
    bench.broker.restart();
    // Longer than the deadline since the crash, without a single record.
    let quiet_until = Instant::now() + Duration::from_secs(3);
    while Instant::now() < quiet_until {
        assert_eq!(reader.poll(POLL), Ok(Polled::Nothing));
    }
    bench.broker.produce("in", records(0..5));
    assert_eq!(read(&mut *reader, 5), [0, 1, 2, 3, 4]);
}
