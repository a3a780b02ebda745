//! A stream that updates, as records of a topic: the newest of every key, and tombstones.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_connect::{SinkCommitter, SinkWriter};
use millstream_tests::BrokerOptions;
use millstream_tests::kafka::topics::Isolation;
use millstream_tests::wait::wait_for;
use millstream_types::change::Change::{self, Delete, Insert, UpdateAfter, UpdateBefore};
use millstream_types::{CheckpointId, ErrorCode, ErrorKind};
use serde_json::json;

use crate::fixture::{Bench, changes};

/// Long enough for a broker to compact a topic.
const COMPACTED: Duration = Duration::from_mins(1);

type Row = (i64, Option<&'static str>, Change);

/// Keys and values of the topic as they are written, texts.
fn written(bench: &Bench, topic: &str) -> Vec<(String, Option<String>)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let records = bench.broker.read_whole(topic, Isolation::Committed);
    let records = records.into_iter();
    records
        .map(|record| (text(record.key.unwrap()), record.value.map(text)))
        .collect()
}

/// The newest value of every key that is not deleted.
fn newest(records: impl IntoIterator<Item = (String, Option<String>)>) -> BTreeMap<String, String> {
    let mut newest = BTreeMap::new();
    for (key, value) in records {
        match value {
            Some(value) => newest.insert(key, value),
            None => newest.remove(&key),
        };
    }
    newest
}

fn pair(key: &str, value: Option<&str>) -> (String, Option<String>) {
    (key.to_owned(), value.map(str::to_owned))
}

/// Writes batches as one checkpoint and commits it. Returns how many records the writer has told of.
#[track_caller]
fn commit(
    bench: &Bench,
    writer: &mut dyn SinkWriter,
    committer: &dyn SinkCommitter,
    (checkpoint, batches): (u64, &[&[Row]]),
) -> u64 {
    let counts = batches.iter().map(|rows| writer.write(&changes(rows)));
    let written = counts.map(Result::unwrap).sum();
    let prepared = writer.prepare(CheckpointId(checkpoint)).unwrap();
    assert_eq!(prepared.iter().map(|one| one.records).sum::<u64>(), written);
    bench.commit(committer, &prepared);
    written
}

#[test]
fn changes_become_the_newest_record_of_their_key_or_a_tombstone() {
    let bench = Bench::shared();
    bench.broker.create_topic("upserts", 1);
    let sink = bench.upserts("upserts", json!({"key": "id"}));
    let (mut writer, committer) = (sink.writer(1, 0), sink.committer());
    let batches: [&[Row]; 3] = [
        &[
            (1, Some("a"), Insert),
            (2, Some("b"), Insert),
            (3, Some("c"), Insert),
        ],
        &[
            (1, Some("a"), UpdateBefore),
            (1, Some("a2"), UpdateAfter),
            (2, Some("b"), Delete),
            (1, Some("a2"), UpdateBefore),
            (1, Some("a3"), UpdateAfter),
            // A filter has dropped what replaces it.
            (3, Some("c"), UpdateBefore),
        ],
        // A filter has dropped what it replaces.
        &[(3, None, UpdateAfter)],
    ];
    let count = commit(&bench, &mut *writer, &*committer, (1, &batches));
    let expected = [
        pair("1", Some(r#"{"id":1,"name":"a"}"#)),
        pair("2", Some(r#"{"id":2,"name":"b"}"#)),
        pair("3", Some(r#"{"id":3,"name":"c"}"#)),
        pair("2", None),
        pair("1", Some(r#"{"id":1,"name":"a3"}"#)),
        pair("3", None),
        pair("3", Some(r#"{"id":3,"name":null}"#)),
    ];
    assert_eq!(count, expected.len() as u64);
    wait_for("the records are visible", crate::fixture::PATIENCE, || {
        (written(&bench, "upserts") == expected).then_some(())
    });
}

#[test]
fn several_columns_are_the_key_and_a_null_is_a_value_of_one() {
    let bench = Bench::shared();
    bench.broker.create_topic("upserts-fields", 1);
    let options = json!({"keyFields": ["name", "id"], "valueFieldsInclude": "ExceptKey"});
    let sink = bench.upserts("upserts-fields", options);
    let (mut writer, committer) = (sink.writer(1, 0), sink.committer());
    let rows: [Row; 3] = [(1, None, Insert), (2, None, Insert), (1, None, Delete)];
    commit(&bench, &mut *writer, &*committer, (1, &[&rows]));
    let expected = [
        pair(r#"{"name":null,"id":2}"#, Some(r#"{"id":2,"name":null}"#)),
        pair(r#"{"name":null,"id":1}"#, None),
    ];
    wait_for("the records are visible", crate::fixture::PATIENCE, || {
        (written(&bench, "upserts-fields") == expected).then_some(())
    });
}

#[test]
fn a_row_without_a_key_fails_the_writer_for_good() {
    let bench = Bench::shared();
    bench.broker.create_topic("upserts-null", 1);
    let sink = bench.upserts("upserts-null", json!({"key": "name"}));
    let mut writer = sink.writer(1, 0);
    let failure = writer.write(&changes(&[(1, None, Insert)])).unwrap_err();
    assert_eq!(
        (failure.code, failure.kind),
        (ErrorCode::ExpressionFailed, ErrorKind::InvalidJob)
    );
    assert!(failure.message.contains("`keyFields`"), "{failure}");
    assert_eq!(writer.prepare(CheckpointId(1)), Err(failure));
}

/// A reader that comes late to a compacted topic sees what one that has read all of it has.
#[test]
fn a_compacted_topic_keeps_the_newest_record_of_every_key() {
    const KEYS: i64 = 300;
    let options = BrokerOptions::default().property("log.cleaner.backoff.ms", "100");
    let bench = Bench::with(options);
    let compacted = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("segment.ms", "100"),
        ("delete.retention.ms", "100"),
    ];
    bench.broker.create_topic_with("compacted", 1, &compacted);
    let sink = bench.upserts("compacted", json!({"key": "id"}));
    let (mut writer, committer) = (sink.writer(1, 0), sink.committer());
    let mut told = Vec::new();
    for (checkpoint, name) in [(1, "first"), (2, "second"), (3, "third")] {
        let change = if checkpoint == 1 { Insert } else { UpdateAfter };
        let rows: Vec<Row> = (0..KEYS).map(|id| (id, Some(name), change)).collect();
        commit(&bench, &mut *writer, &*committer, (checkpoint, &[&rows]));
    }
    let gone: Vec<Row> = (0..KEYS / 2)
        .map(|id| (id, Some("third"), Delete))
        .collect();
    commit(&bench, &mut *writer, &*committer, (4, &[&gone]));
    let mut expected = BTreeMap::new();
    for id in KEYS / 2..KEYS {
        expected.insert(
            id.to_string(),
            json!({"id": id, "name": "third"}).to_string(),
        );
    }
    let all = KEYS * 7 / 2;
    let mut checkpoint = 4;
    // The newest segment is never compacted, so there has to be a newer one.
    wait_for("the topic is compacted", COMPACTED, || {
        checkpoint += 1;
        let rows: [Row; 1] = [(KEYS, Some("later"), UpdateAfter)];
        commit(&bench, &mut *writer, &*committer, (checkpoint, &[&rows]));
        told = written(&bench, "compacted");
        told.retain(|(key, _)| *key != KEYS.to_string());
        (told.len() <= usize::try_from(all / 2).unwrap()).then_some(())
    });
    assert!(told.len() >= expected.len());
    assert_eq!(newest(told), expected);
}
