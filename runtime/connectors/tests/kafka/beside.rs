//! What Kafka keeps beside a record's value: keys, headers, timestamps and places; and records
//! without a value.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{Field, Schema};
use millstream_connect::{CommitOutcome, Polled, SourceReader};
use millstream_spec::{OnError, ValidJob};
use millstream_tests::kafka::topics::{Isolation, WholeRecord};
use millstream_tests::wait::wait_for;
use millstream_types::schema::{UTC, arrow_schema};
use millstream_types::{Batch, CheckpointId, ErrorCode, ErrorKind, Failure};

use crate::fixture::{Bench, PATIENCE, POLL, TestSink, TestSource};

const NOON: i64 = 1_700_000_000_000;

/// A job from `topic` to `topic`-out; `source` and `sink` are more keys of each, `kafka` more
/// options of the sink.
fn job(bench: &Bench, topic: &str, source: &str, (kafka, sink): (&str, &str)) -> ValidJob {
    let servers = bench.broker.bootstrap();
    let text = format!(
        "apiVersion: millstream.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: beside}}\nspec:\n  \
         checkpoint: {{storage: \"file:///tmp/unused\", interval: 1s, timeout: 10s}}\n  \
         dataflow:\n    \
         sources: [{{name: in, kafka: {{bootstrapServers: \"{servers}\", topics: [{topic}]}}, {source}}}]\n    \
         sinks: [{{name: out, input: in, kafka: {{bootstrapServers: \"{servers}\", topic: {topic}-out, \
         transactionalIdPrefix: {topic}{kafka}}}, {sink}}}]\n"
    );
    millstream_spec::read(&text, "job.yaml").unwrap_or_else(|error| panic!("{error}\n{text}"))
}

const ALL: &str = "metadata: [{name: k, from: key}, {name: h, from: headers}, {name: ts, from: timestamp}, \
     {name: p, from: partition}, {name: o, from: offset}, {name: t, from: topic}]";

fn source(job: &ValidJob) -> TestSource {
    let spec = Arc::clone(&job.sources[0]);
    let schema = arrow_schema(&spec.schema);
    TestSource::of(Arc::unwrap_or_clone(spec), schema)
}

/// All rows of a source until there are so many.
#[track_caller]
fn read(reader: &mut dyn SourceReader, rows: usize) -> RecordBatch {
    let mut batches: Vec<RecordBatch> = Vec::new();
    wait_for("the rows are read", PATIENCE, || {
        if let Polled::Records(output) = reader.poll(POLL).unwrap() {
            batches.extend(output.batch.map(|batch| batch.records().clone()));
        }
        (batches.iter().map(RecordBatch::num_rows).sum::<usize>() >= rows).then_some(())
    });
    arrow_select::concat::concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn texts(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(column).unwrap().as_string::<i32>();
    column.iter().map(|text| text.map(str::to_owned)).collect()
}

fn some(texts: &[Option<&str>]) -> Vec<Option<String>> {
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

fn whole(key: Option<&[u8]>, value: Option<&str>) -> WholeRecord {
    WholeRecord {
        key: key.map(<[u8]>::to_vec),
        value: value.map(|value| value.as_bytes().to_vec()),
        timestamp_ms: Some(NOON),
        ..WholeRecord::default()
    }
}

#[test]
fn key_headers_timestamp_and_place_are_columns_and_a_tombstone_is_null_in_raw() {
    let bench = Bench::shared();
    bench.broker.create_topic("beside1", 2);
    let headers = vec![
        ("trace".to_owned(), Some(b"t-1".to_vec())),
        ("raw".to_owned(), Some(vec![0xff])),
        ("none".to_owned(), None),
    ];
    let first = WholeRecord {
        headers,
        ..whole(Some(b"a"), Some("one"))
    };
    let records = [first, whole(None, Some("")), whole(Some(b""), None)];
    bench.broker.produce_whole("beside1", 1, &records);
    let job = job(
        &bench,
        "beside1",
        &format!("format: {{raw: {{}}}}, {ALL}"),
        ("", "format: {json: {}}"),
    );
    let batch = read(&mut *source(&job).started(&bench), 3);
    assert_eq!(texts(&batch, "value"), some(&[Some("one"), Some(""), None]));
    assert_eq!(texts(&batch, "k"), some(&[Some("a"), None, Some("")]));
    let first = r#"{"trace":"t-1","raw":{"base64":"/w=="},"none":null}"#;
    assert_eq!(
        texts(&batch, "h"),
        some(&[Some(first), Some("{}"), Some("{}")])
    );
    assert_eq!(texts(&batch, "t"), some(&[Some("beside1"); 3]));
    let times = batch.column_by_name("ts").unwrap();
    assert_eq!(
        times.as_primitive::<TimestampMicrosecondType>().values(),
        &[NOON * 1_000; 3]
    );
    let partitions = batch
        .column_by_name("p")
        .unwrap()
        .as_primitive::<Int32Type>();
    assert_eq!(partitions.values(), &[1, 1, 1]);
    let offsets = batch
        .column_by_name("o")
        .unwrap()
        .as_primitive::<Int64Type>();
    assert_eq!(offsets.values(), &[0, 1, 2]);
}

#[test]
fn metadata_columns_stand_beside_those_of_json_and_only_what_is_used_is_read() {
    let bench = Bench::shared();
    bench.broker.create_topic("beside2", 1);
    let records = [
        whole(Some(b"\xff"), Some(r#"{"id":1}"#)),
        whole(Some(b"b"), Some("no json")),
        whole(Some(b"c"), None),
        whole(Some(b"d"), Some(r#"{"id":4}"#)),
    ];
    bench.broker.produce_whole("beside2", 0, &records);
    let keys = "schema: [{name: id, type: int64}], onError: Skip, \
                metadata: [{name: o, from: offset}, {name: k, from: key";
    let text = job(
        &bench,
        "beside2",
        &format!("{keys}}}]"),
        ("", "format: {json: {}}"),
    );
    let batch = read(&mut *source(&text).started(&bench), 1);
    assert_eq!(
        texts(&batch, "k"),
        some(&[Some("d")]),
        "the others are corrupt"
    );

    let bytes = job(
        &bench,
        "beside2",
        &format!("{keys}, type: bytes}}]"),
        ("", "format: {json: {}}"),
    );
    let batch = read(&mut *source(&bytes).started(&bench), 2);
    let keys = batch.column_by_name("k").unwrap().as_binary::<i32>();
    assert_eq!(
        keys.iter().flatten().collect::<Vec<_>>(),
        [b"\xff".as_slice(), b"d"]
    );

    // Nobody reads the key, so what it is does not matter.
    let spec = Arc::unwrap_or_clone(Arc::clone(&text.sources[0]));
    let used = Schema::new(vec![
        Field::new("id", arrow_schema::DataType::Int64, true),
        Field::new("o", arrow_schema::DataType::Int64, false),
    ]);
    let batch = read(
        &mut *TestSource::of(spec, Arc::new(used)).started(&bench),
        2,
    );
    let column = |name: &str| {
        batch
            .column_by_name(name)
            .unwrap()
            .as_primitive::<Int64Type>()
            .values()
            .to_vec()
    };
    assert_eq!((column("id"), column("o")), (vec![1, 4], vec![0, 3]));
}

#[test]
fn what_cannot_be_a_metadata_column_is_a_corrupt_record() {
    let bench = Bench::shared();
    bench.broker.create_topic("beside3", 1);
    bench
        .broker
        .produce_whole("beside3", 0, &[whole(Some(b"\xff"), Some("x"))]);
    let source_of = |on_error| {
        let keys = "format: {raw: {}}, metadata: [{name: k, from: key}]";
        let job = job(&bench, "beside3", keys, ("", "format: {json: {}}"));
        let mut spec = Arc::unwrap_or_clone(Arc::clone(&job.sources[0]));
        spec.on_error = on_error;
        let schema = arrow_schema(&spec.schema);
        TestSource::of(spec, schema)
    };
    let mut reader = source_of(OnError::Fail).started(&bench);
    let failure = wait_for("reading fails", PATIENCE, || reader.poll(POLL).err());
    assert_eq!(failure.code, ErrorCode::CorruptRecord);
    for part in ["beside3/0 offset 0", "key is not UTF-8", "type: bytes"] {
        assert!(failure.message.contains(part), "{part}: {failure}");
    }
    // A tombstone is told apart from an empty record among the dead letters.
    bench.broker.create_topic("beside4", 1);
    bench
        .broker
        .produce_whole("beside4", 0, &[whole(None, None), whole(None, Some(""))]);
    let keys = "schema: [{name: id, type: int64}]";
    let job = job(&bench, "beside4", keys, ("", "format: {json: {}}"));
    let mut spec = Arc::unwrap_or_clone(Arc::clone(&job.sources[0]));
    spec.on_error = OnError::DeadLetter;
    let schema = arrow_schema(&spec.schema);
    let mut reader = TestSource::of(spec, schema).started(&bench);
    let mut payloads: Vec<Option<Vec<u8>>> = Vec::new();
    wait_for("both are dead letters", PATIENCE, || {
        if let Polled::Records(output) = reader.poll(POLL).unwrap()
            && let Some(letters) = output.dead_letters
        {
            let column = letters.records().column(0).as_binary::<i32>().clone();
            payloads.extend(column.iter().map(|payload| payload.map(<[u8]>::to_vec)));
        }
        (payloads.len() == 2).then_some(())
    });
    assert_eq!(payloads, [None, Some(Vec::new())]);
}

/// Writes a batch exactly once, and returns what readers of the topic then see.
#[track_caller]
fn written(bench: &Bench, job: &ValidJob, topic: &str, batch: RecordBatch) -> Vec<WholeRecord> {
    let sink = sink(job, &batch);
    let mut writer = sink.writer(1, 0);
    let rows = batch.num_rows();
    writer.write(&Batch::new(batch)).unwrap();
    let prepared = writer.prepare(CheckpointId(1)).unwrap();
    let outcomes = bench.commit(&*sink.committer(), &prepared);
    assert_eq!(outcomes, [CommitOutcome::Committed]);
    wait_for("the records are visible", PATIENCE, || {
        let seen = bench.broker.read_whole(topic, Isolation::Committed);
        (seen.len() == rows).then_some(seen)
    })
}

fn sink(job: &ValidJob, batch: &RecordBatch) -> TestSink {
    let spec = Arc::unwrap_or_clone(Arc::clone(&job.sinks[0]));
    TestSink::of(spec, batch.schema())
}

fn strings(texts: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(texts.to_vec()))
}

fn times(millis: &[Option<i64>]) -> ArrayRef {
    let micros: TimestampMicrosecondArray = millis
        .iter()
        .map(|millis| millis.map(|millis| millis * 1_000))
        .collect();
    Arc::new(micros.with_timezone(UTC))
}

#[test]
fn a_sink_writes_keys_headers_timestamps_and_tombstones() {
    let bench = Bench::shared();
    bench.broker.create_topic("beside5-out", 1);
    let sink = (
        "key: k, valueFieldsInclude: ExceptKey",
        "format: {raw: {}}, metadata: [{name: h, to: headers}, {name: ts, to: timestamp}]",
    );
    let job = job(
        &bench,
        "beside5",
        "format: {raw: {}}",
        (&format!(", {}", sink.0), sink.1),
    );
    let keys: ArrayRef = Arc::new(BinaryArray::from(vec![
        Some(b"\xff".as_slice()),
        None,
        Some(b"gone"),
    ]));
    let batch = RecordBatch::try_from_iter([
        (
            "h",
            strings(&[
                Some(r#"{"a":"1","b":{"base64":"/w=="},"a":null}"#),
                None,
                Some("{}"),
            ]),
        ),
        ("k", keys),
        ("value", strings(&[Some("one"), Some(""), None])),
        ("ts", times(&[Some(NOON), Some(1), Some(NOON + 1)])),
    ]);
    let seen = written(&bench, &job, "beside5-out", batch.unwrap());
    let headers = vec![
        ("a".to_owned(), Some(b"1".to_vec())),
        ("b".to_owned(), Some(vec![0xff])),
        ("a".to_owned(), None),
    ];
    let expected = [
        WholeRecord {
            headers,
            ..whole(Some(b"\xff"), Some("one"))
        },
        WholeRecord {
            timestamp_ms: Some(1),
            ..whole(None, Some(""))
        },
        WholeRecord {
            timestamp_ms: Some(NOON + 1),
            ..whole(Some(b"gone"), None)
        },
    ];
    assert_eq!(seen, expected);
}

#[test]
fn several_columns_are_a_key_of_json_and_stay_in_the_value_or_not() {
    let bench = Bench::shared();
    let batch = || {
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![7])) as ArrayRef),
            ("shop", strings(&[Some("a")])),
            ("name", strings(&[Some("x")])),
        ])
        .unwrap()
    };
    for (topic, include, value) in [
        ("beside6", "All", r#"{"id":7,"shop":"a","name":"x"}"#),
        ("beside7", "ExceptKey", r#"{"name":"x"}"#),
    ] {
        let out = format!("{topic}-out");
        bench.broker.create_topic(&out, 1);
        let kafka = format!(", keyFields: [shop, id], valueFieldsInclude: {include}");
        let job = job(
            &bench,
            topic,
            "format: {raw: {}}",
            (&kafka, "format: {json: {}}"),
        );
        let seen = written(&bench, &job, &out, batch());
        assert_eq!(
            seen[0].key.as_deref(),
            Some(br#"{"shop":"a","id":7}"#.as_slice())
        );
        assert_eq!(seen[0].value.as_deref(), Some(value.as_bytes()));
    }
}

/// The failure of a row that the broker does not take.
#[track_caller]
fn refused(job: &ValidJob, batch: RecordBatch) -> Failure {
    let sink = sink(job, &batch);
    let mut writer = sink.writer(1, 0);
    match writer.write(&Batch::new(batch)) {
        Err(failure) => failure,
        Ok(_) => writer.prepare(CheckpointId(1)).unwrap_err(),
    }
}

#[test]
fn a_clock_that_is_too_far_from_that_of_the_broker_is_tried_again() {
    let bench = Bench::shared();
    // Nobody writes in the millisecond in which the broker reads.
    let strict = [("message.timestamp.before.max.ms", "0")];
    bench.broker.create_topic_with("beside11-out", 1, &strict);
    for guarantee in ["ExactlyOnce", "AtLeastOnce"] {
        let kafka = format!(", deliveryGuarantee: {guarantee}");
        let raw = "format: {raw: {}}";
        let job = job(&bench, "beside11", raw, (&kafka, raw));
        let columns = [("value", strings(&[Some("x")]))];
        let failure = refused(&job, RecordBatch::try_from_iter(columns).unwrap());
        assert_eq!(failure.code, ErrorCode::KafkaDelivery, "{failure}");
        assert_eq!(failure.kind, ErrorKind::Retryable, "{failure}");
        for part in ["clock", "beside11-out", "message.timestamp.before.max.ms"] {
            assert!(failure.message.contains(part), "{failure}");
        }
    }
}

#[test]
fn what_a_topic_never_takes_is_a_final_fault_that_says_why() {
    let bench = Bench::shared();
    bench.broker.create_topic("beside8-out", 1);
    let late = [("message.timestamp.before.max.ms", "1000")];
    bench.broker.create_topic_with("beside9-out", 1, &late);
    let compacted = [("cleanup.policy", "compact")];
    bench
        .broker
        .create_topic_with("beside10-out", 1, &compacted);
    let with_time = "format: {raw: {}}, metadata: [{name: ts, to: timestamp}]";
    for guarantee in ["ExactlyOnce", "AtLeastOnce"] {
        let kafka = format!(", deliveryGuarantee: {guarantee}");
        let time = |topic: &str, millis: i64| {
            let job = job(&bench, topic, "format: {raw: {}}", (&kafka, with_time));
            let columns = [
                ("value", strings(&[Some("x")])),
                ("ts", times(&[Some(millis)])),
            ];
            refused(&job, RecordBatch::try_from_iter(columns).unwrap())
        };
        let no_key = || {
            let job = job(
                &bench,
                "beside10",
                "format: {raw: {}}",
                (&kafka, "format: {raw: {}}"),
            );
            let columns = [("value", strings(&[None]))];
            refused(&job, RecordBatch::try_from_iter(columns).unwrap())
        };
        for (failure, code, says) in [
            (
                time("beside9", NOON),
                ErrorCode::KafkaDelivery,
                "message.timestamp.before.max.ms",
            ),
            (time("beside8", 0), ErrorCode::ExpressionFailed, "from 1970"),
            (no_key(), ErrorCode::KafkaDelivery, "without a key"),
        ] {
            assert_eq!(failure.code, code, "{guarantee}: {failure}");
            assert_eq!(
                failure.kind,
                ErrorKind::InvalidJob,
                "{guarantee}: {failure}"
            );
            assert!(failure.message.contains(says), "{guarantee}: {failure}");
        }
    }
}
