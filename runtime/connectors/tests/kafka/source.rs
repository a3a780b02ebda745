//! Where reading begins, goes on and ends.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_connect::{Polled, SourceReader};
use millstream_tests::wait::{wait_for, wait_until};
use millstream_types::{CheckpointId, ErrorCode, Opaque, SplitState};
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use crate::fixture::{Bench, PATIENCE, POLL, read, read_to_end, records};

fn positions(splits: &[SplitState]) -> Vec<(&str, &str)> {
    splits
        .iter()
        .map(|split| (split.split.as_str(), split.position.0.as_str()))
        .collect()
}

fn sorted(mut ids: Vec<i64>) -> Vec<i64> {
    ids.sort_unstable();
    ids
}

/// A transactional writer outside the connector.
fn transactional(bench: &Bench, id: &str) -> BaseProducer {
    let producer: BaseProducer = bench
        .broker
        .client()
        .set("transactional.id", id)
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer
}

fn write_open(producer: &BaseProducer, topic: &str, ids: std::ops::Range<i64>) {
    producer.begin_transaction().unwrap();
    for (key, value) in records(ids) {
        producer
            .send(BaseRecord::to(topic).key(&key).payload(&value))
            .unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

#[test]
fn a_reader_reads_everything_once_and_goes_on_from_its_snapshot() {
    let bench = Bench::shared();
    bench.broker.create_topic("in1", 4);
    bench.broker.produce("in1", records(0..20_000));
    let source = bench.source("in1", json!({}));
    let splits = source.first_splits(&bench);
    assert_eq!(positions(&splits)[0], ("in1/0", r#"{"offset":0}"#));
    assert_eq!(splits.len(), 4);

    let mut reader = source.reader();
    reader.add_splits(splits).unwrap();
    let mut ids = Vec::new();
    while ids.len() < 5_000 {
        if let Polled::Records(output) = reader.poll(POLL).unwrap() {
            ids.extend(crate::fixture::ids(&output));
        }
    }
    let snapshot = reader.snapshot();
    let read_so_far: u64 = snapshot.iter().map(|split| split.records).sum();
    assert_eq!(read_so_far, ids.len() as u64);
    drop(reader);

    let mut reader = source.reader();
    reader.add_splits(snapshot).unwrap();
    ids.extend(read(&mut *reader, 20_000 - ids.len()));
    assert_eq!(sorted(ids), (0..20_000).collect::<Vec<i64>>());
    let total: u64 = reader.snapshot().iter().map(|split| split.records).sum();
    assert_eq!(total, 20_000);
}

#[test]
fn earliest_latest_and_timestamps_are_resolved_to_offsets_once() {
    let bench = Bench::shared();
    bench.broker.create_topic("in2", 1);
    bench.broker.create_topic("empty-in2", 1);
    bench.broker.produce("in2", records(0..10));
    let between = now_millis() + 1;
    wait_until("the clock has passed the first records", PATIENCE, || {
        now_millis() > between
    });
    bench.broker.produce("in2", records(10..15));
    let start = |starting: serde_json::Value| {
        let source = bench.source(
            "in2",
            json!({"startingOffsets": starting, "topics": ["in2", "empty-in2"]}),
        );
        source.first_splits(&bench)
    };
    let offsets = |splits: &[SplitState]| -> Vec<String> {
        splits
            .iter()
            .map(|split| format!("{} {}", split.split, split.position.0))
            .collect()
    };
    let at = |offset: i64| {
        vec![
            "empty-in2/0 {\"offset\":0}".to_owned(),
            format!("in2/0 {{\"offset\":{offset}}}"),
        ]
    };
    assert_eq!(offsets(&start(json!({"earliest": {}}))), at(0));
    assert_eq!(offsets(&start(json!({"latest": {}}))), at(15));
    assert_eq!(
        offsets(&start(json!({"timestamp": {"millis": between}}))),
        at(10)
    );
    assert_eq!(
        offsets(&start(
            json!({"timestamp": {"millis": between + 3_600_000}})
        )),
        at(15)
    );
    assert_eq!(offsets(&start(json!({"timestamp": {"millis": 0}}))), at(0));
}

#[expect(
    clippy::disallowed_methods,
    reason = "records carry the wall clock's time"
)]
fn now_millis() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap().as_millis()).unwrap()
}

#[test]
fn committed_offsets_begin_where_the_group_stands_and_fall_back_as_told() {
    let bench = Bench::shared();
    bench.broker.create_topic("in3", 2);
    bench.broker.produce("in3", records(0..200));
    let mut committed = TopicPartitionList::new();
    committed
        .add_partition_offset("in3", 0, Offset::Offset(7))
        .unwrap();
    let group: BaseConsumer = bench
        .broker
        .client()
        .set("group.id", "group-in3")
        .create()
        .unwrap();
    group.commit(&committed, CommitMode::Sync).unwrap();
    let end = bench
        .broker
        .ends("in3", millstream_tests::kafka::topics::Isolation::Committed)[1];

    let find = |fallback: Option<&str>| {
        let committed = fallback.map_or(json!({}), |fallback| json!({"fallback": fallback}));
        let options = json!({"groupId": "group-in3", "startingOffsets": {"committed": committed}});
        let mut enumerator = bench.source("in3", options).enumerator();
        bench
            .wait(enumerator.discover(&BTreeSet::new(), true))
            .map(|found| found.splits)
    };
    let earliest = find(Some("Earliest")).unwrap();
    assert_eq!(
        positions(&earliest),
        [("in3/0", r#"{"offset":7}"#), ("in3/1", r#"{"offset":0}"#)]
    );
    let latest = find(Some("Latest")).unwrap();
    assert_eq!(latest[1].position.0, format!(r#"{{"offset":{end}}}"#));
    let failure = find(None).unwrap_err();
    assert_eq!(failure.code, ErrorCode::KafkaOffsetOutOfRange);
    assert!(
        failure.message.contains("in3/1") && !failure.message.contains("in3/0"),
        "{failure}"
    );
}

#[test]
fn only_committed_records_are_read_and_the_position_passes_the_others() {
    let bench = Bench::shared();
    bench.broker.create_topic("in4", 1);
    let writer = transactional(&bench, "outside-in4");
    write_open(&writer, "in4", 0..10);
    writer.commit_transaction(PATIENCE).unwrap();
    write_open(&writer, "in4", 100..110);
    writer.abort_transaction(PATIENCE).unwrap();
    write_open(&writer, "in4", 10..20);
    let source = bench.source("in4", json!({}));
    let mut reader = source.started(&bench);
    assert_eq!(read(&mut *reader, 10), (0..10).collect::<Vec<i64>>());
    writer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(read(&mut *reader, 10), (10..20).collect::<Vec<i64>>());
    // 30 records and three markers.
    wait_until("the position passes the last marker", PATIENCE, || {
        assert_eq!(reader.poll(POLL), Ok(Polled::Nothing));
        reader.snapshot()[0].position.0 == r#"{"offset":33}"#
    });
    assert_eq!(reader.snapshot()[0].records, 20);
}

#[test]
fn a_bounded_source_ends_behind_aborted_records_and_before_open_ones() {
    let bench = Bench::shared();
    bench.broker.create_topic("in5", 3);
    let only = |partition| {
        move |producer: &BaseProducer, ids: std::ops::Range<i64>| {
            producer.begin_transaction().unwrap();
            for (_, value) in records(ids) {
                let record: BaseRecord<'_, (), _> =
                    BaseRecord::to("in5").partition(partition).payload(&value);
                producer.send(record).unwrap();
            }
            producer.flush(PATIENCE).unwrap();
        }
    };
    // Partition 0 ends with an aborted transaction, 1 with an open one, 2 is empty.
    let writer = transactional(&bench, "outside-in5");
    only(0)(&writer, 0..10);
    writer.commit_transaction(PATIENCE).unwrap();
    only(0)(&writer, 100..110);
    writer.abort_transaction(PATIENCE).unwrap();
    only(1)(&writer, 10..20);
    writer.commit_transaction(PATIENCE).unwrap();
    let open = transactional(&bench, "open-in5");
    only(1)(&open, 200..210);

    let source = bench.source("in5", json!({"bounded": true}));
    assert_eq!(source.enumerator().interval(), None);
    let splits = source.first_splits(&bench);
    // Whatever comes later is not read.
    only(0)(&writer, 300..310);
    writer.commit_transaction(PATIENCE).unwrap();
    open.commit_transaction(PATIENCE).unwrap();

    let mut reader = source.reader();
    assert_eq!(
        reader.poll(POLL),
        Ok(Polled::Nothing),
        "no splits is not the end"
    );
    reader.add_splits(splits).unwrap();
    assert_eq!(
        sorted(read_to_end(&mut *reader)),
        (0..20).collect::<Vec<i64>>()
    );
    let snapshot = reader.snapshot();
    assert!(snapshot.iter().all(|split| split.finished), "{snapshot:?}");

    let mut restored = source.reader();
    restored.add_splits(snapshot.clone()).unwrap();
    assert_eq!(restored.poll(POLL), Ok(Polled::End));
    assert_eq!(restored.snapshot(), snapshot);
}

#[test]
fn a_bounded_source_that_begins_at_its_end_ends_at_once() {
    let bench = Bench::shared();
    bench.broker.create_topic("in6", 2);
    bench.broker.produce("in6", records(0..10));
    let source = bench.source(
        "in6",
        json!({"bounded": true, "startingOffsets": {"latest": {}}}),
    );
    let mut reader = source.started(&bench);
    assert_eq!(reader.poll(POLL), Ok(Polled::End));
}

#[test]
fn a_job_that_is_no_longer_bounded_goes_on_reading_and_one_that_becomes_so_ends() {
    let bench = Bench::shared();
    bench.broker.create_topic("unbounded", 2);
    bench.broker.produce("unbounded", records(0..10));
    let bounded = bench.source("unbounded", json!({"bounded": true}));
    let mut reader = bounded.started(&bench);
    read_to_end(&mut *reader);
    let at_its_end = reader.snapshot();

    let endless = bench.source("unbounded", json!({}));
    let fitted = bench.wait(endless.enumerator().fit(at_its_end));
    let fitted = fitted.unwrap();
    assert!(fitted.iter().all(|split| !split.finished));
    let mut reader = endless.reader();
    reader.add_splits(fitted).unwrap();
    bench.broker.produce("unbounded", records(10..20));
    let goes_on = sorted(read(&mut *reader, 10));
    assert_eq!(goes_on, (10..20).collect::<Vec<i64>>());

    let unchanged = bench.wait(endless.enumerator().fit(reader.snapshot()));
    assert_eq!(unchanged.unwrap(), reader.snapshot());
    bench.broker.produce("unbounded", records(20..30));
    let fitted = bench.wait(bounded.enumerator().fit(reader.snapshot()));
    bench.broker.produce("unbounded", records(30..40));
    let mut reader = bounded.reader();
    reader.add_splits(fitted.unwrap()).unwrap();
    let rest = sorted(read_to_end(&mut *reader));
    assert_eq!(rest, (20..30).collect::<Vec<i64>>());
}

#[test]
fn partitions_that_are_added_later_are_read_from_their_beginning() {
    let bench = Bench::shared();
    bench.broker.create_topic("in7", 1);
    bench.broker.produce("in7", records(0..10));
    let source = bench.source(
        "in7",
        json!({"startingOffsets": {"latest": {}}, "partitionDiscoveryInterval": "10s"}),
    );
    let mut enumerator = source.enumerator();
    assert_eq!(enumerator.interval(), Some(Duration::from_secs(10)));
    let first = bench
        .wait(enumerator.discover(&BTreeSet::new(), true))
        .unwrap();
    let mut reader = source.reader();
    reader.add_splits(first.splits.clone()).unwrap();

    let more = NewPartitions::new("in7", 3);
    bench
        .wait(
            bench
                .admin()
                .create_partitions([&more], &AdminOptions::new()),
        )
        .unwrap();
    let known: BTreeSet<String> = first.splits.into_iter().map(|split| split.split).collect();
    let found = wait_for("the new partitions are found", PATIENCE, || {
        let found = bench.wait(enumerator.discover(&known, false)).unwrap();
        (found.splits.len() == 2).then_some(found)
    });
    bench.broker.produce("in7", records(10..1_000));
    assert_eq!(
        positions(&found.splits),
        [("in7/1", r#"{"offset":0}"#), ("in7/2", r#"{"offset":0}"#)]
    );
    reader.add_splits(found.splits).unwrap();
    assert_eq!(
        sorted(read(&mut *reader, 990)),
        (10..1_000).collect::<Vec<i64>>()
    );
}

#[test]
fn a_topic_that_was_made_again_and_another_cluster_are_refused() {
    let bench = Bench::shared();
    bench.broker.create_topic("in8", 1);
    let source = bench.source("in8", json!({"connectTimeout": "1s"}));
    let mut enumerator = source.enumerator();
    let found = bench
        .wait(enumerator.discover(&BTreeSet::new(), true))
        .unwrap();
    let identity = found.identity.unwrap();
    assert_eq!(bench.wait(enumerator.verify(&identity)), Ok(()));

    let mut other: serde_json::Value = serde_json::from_str(&identity.0).unwrap();
    other["clusterId"] = json!("another-cluster");
    let failure = bench
        .wait(enumerator.verify(&Opaque(other.to_string())))
        .unwrap_err();
    assert_eq!(failure.code, ErrorCode::KafkaIdentityChanged);
    assert!(failure.message.contains("another-cluster"), "{failure}");

    bench.broker.delete_topic("in8");
    wait_until("the topic is gone", PATIENCE, || {
        bench.wait(enumerator.verify(&identity)).is_err()
    });
    bench.broker.create_topic("in8", 1);
    let failure = wait_for("the new topic is seen", PATIENCE, || {
        bench
            .wait(enumerator.verify(&identity))
            .err()
            .filter(|failure| failure.code != ErrorCode::KafkaTopicMissing)
    });
    assert_eq!(failure.code, ErrorCode::KafkaIdentityChanged);
    assert!(
        failure.message.contains("`in8` was deleted and made again"),
        "{failure}"
    );
    // The same is noticed while the job runs, by looking for new partitions.
    let failure = bench
        .wait(enumerator.discover(&BTreeSet::new(), false))
        .unwrap_err();
    assert_eq!(failure.code, ErrorCode::KafkaIdentityChanged);
}

#[test]
fn offsets_are_committed_to_the_group_when_their_checkpoint_completes() {
    let bench = Bench::shared();
    bench.broker.create_topic("in9", 1);
    bench.broker.produce("in9", records(0..10));
    let source = bench.source("in9", json!({"groupId": "group-in9"}));
    let mut reader = source.started(&bench);
    let committed = || {
        let group: BaseConsumer = bench
            .broker
            .client()
            .set("group.id", "group-in9")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition("in9", 0);
        let list = group.committed_offsets(list, PATIENCE).unwrap();
        list.elements()[0].offset()
    };
    read(&mut *reader, 10);
    reader.snapshot();
    reader.snapshotted(CheckpointId(1));
    bench.broker.produce("in9", records(10..15));
    read(&mut *reader, 5);
    reader.snapshot();
    reader.snapshotted(CheckpointId(2));
    assert_eq!(committed(), Offset::Invalid);
    let completed = |reader: &mut dyn SourceReader, checkpoint, offset| {
        reader.completed(checkpoint);
        wait_until("the offset is committed", PATIENCE, || {
            reader.poll(POLL).unwrap();
            committed() == Offset::Offset(offset)
        });
    };
    completed(&mut *reader, CheckpointId(1), 10);
    completed(&mut *reader, CheckpointId(2), 15);
    // An unknown or repeated checkpoint commits nothing.
    reader.completed(CheckpointId(1));
    reader.completed(CheckpointId(9));
    reader.poll(POLL).unwrap();
    assert_eq!(committed(), Offset::Offset(15));
}

#[test]
fn a_poll_without_records_waits_as_long_as_it_is_told() {
    let bench = Bench::shared();
    bench.broker.create_topic("in10", 1);
    let source = bench.source("in10", json!({}));
    let mut reader = source.started(&bench);
    wait_until("the end of the empty partition was seen", PATIENCE, || {
        let started = Instant::now();
        assert_eq!(reader.poll(Duration::from_millis(300)), Ok(Polled::Nothing));
        started.elapsed() >= Duration::from_millis(295)
    });
    let started = Instant::now();
    assert_eq!(reader.poll(Duration::ZERO), Ok(Polled::Nothing));
    assert!(started.elapsed() < Duration::from_millis(100));
}
