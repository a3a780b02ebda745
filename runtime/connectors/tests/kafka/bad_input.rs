//! What cannot work is refused before the job starts, by name and with numbers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_connect::Polled;
use millstream_spec::OnError;
use millstream_tests::BrokerOptions;
use millstream_tests::ports::free_port;
use millstream_tests::wait::wait_for;
use millstream_types::{CheckpointId, ErrorCode, ErrorKind, Failure};
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

use crate::fixture::{Bench, PATIENCE, POLL, TestSink, TestSource, batch, ids, records};

#[track_caller]
fn assert_says(failure: &Failure, code: ErrorCode, parts: &[&str]) {
    assert_eq!(failure.code, code, "{failure}");
    for part in parts {
        assert!(failure.message.contains(part), "{part}: {failure}");
    }
}

#[test]
fn a_missing_topic_is_named_by_sink_and_source() {
    let bench = Bench::shared();
    let servers = bench.broker.bootstrap();
    let options = json!({"connectTimeout": "1s"});
    let sink = bench.sink("no-such-topic", options.clone());
    let failure = bench.wait(sink.committer().preflight(false)).unwrap_err();
    assert_says(
        &failure,
        ErrorCode::KafkaTopicMissing,
        &["`no-such-topic`", &servers],
    );
    assert_eq!(failure.kind, ErrorKind::InvalidJob);
    // The job has run: the topic was there, and may be back.
    let failure = bench.wait(sink.committer().preflight(true)).unwrap_err();
    assert_says(&failure, ErrorCode::KafkaTopicMissing, &["`no-such-topic`"]);
    assert_eq!(failure.kind, ErrorKind::Retryable);
    let failure = sink.writer(1, 0).write(&batch(0..1)).unwrap_err();
    assert_says(&failure, ErrorCode::KafkaTopicMissing, &["`no-such-topic`"]);

    assert_eq!(failure.kind, ErrorKind::Retryable);

    let source = bench.source("no-such-topic", options);
    let mut enumerator = source.enumerator();
    let failure = bench
        .wait(enumerator.discover(&BTreeSet::new(), true))
        .unwrap_err();
    assert_says(
        &failure,
        ErrorCode::KafkaTopicMissing,
        &["`no-such-topic`", &servers],
    );
    assert_eq!(failure.kind, ErrorKind::InvalidJob);
    let failure = bench
        .wait(enumerator.discover(&BTreeSet::new(), false))
        .unwrap_err();
    assert_eq!(failure.kind, ErrorKind::Retryable);
}

#[test]
fn a_topic_that_appears_within_the_deadline_is_found() {
    let bench = Bench::shared();
    let sink = bench.sink("appears", json!({"connectTimeout": "20s"}));
    let committer = sink.committer();
    std::thread::scope(|scope| {
        let checked = scope.spawn(|| bench.wait(committer.preflight(false)));
        bench.broker.create_topic("appears", 1);
        assert_eq!(checked.join().unwrap(), Ok(()));
    });
}

#[test]
fn an_unreachable_broker_is_named_after_the_deadline_and_no_later() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = format!("127.0.0.1:{}", free_port());
    let options = json!({"bootstrapServers": server, "connectTimeout": "1s"});
    let sink =
        TestSink::new(json!({"topic": "out", "bootstrapServers": server, "connectTimeout": "1s"}));
    let mut source = options;
    source["topics"] = json!(["in"]);
    let source = TestSource::new(source, OnError::Fail);

    let started = Instant::now();
    let failure = runtime
        .block_on(sink.committer().preflight(false))
        .unwrap_err();
    assert!(
        started.elapsed() >= Duration::from_millis(500),
        "it is tried again"
    );
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    assert_says(
        &failure,
        ErrorCode::KafkaUnreachable,
        &[&server, "within 1 s", "refused"],
    );
    assert_eq!(failure.kind, ErrorKind::Retryable);

    let mut enumerator = source.enumerator();
    let failure = runtime
        .block_on(enumerator.discover(&BTreeSet::new(), true))
        .unwrap_err();
    assert_says(&failure, ErrorCode::KafkaUnreachable, &[&server]);

    let failure = sink.writer(1, 0).write(&batch(0..1)).unwrap_err();
    assert_says(&failure, ErrorCode::KafkaUnreachable, &[&server]);
}

#[test]
fn a_transaction_timeout_that_cannot_work_is_refused_with_all_numbers() {
    let bench =
        Bench::with(BrokerOptions::default().property("transaction.max.timeout.ms", "120000"));
    bench.broker.create_topic("out", 1);
    let preflight = |timeout: &str| {
        let sink = bench.sink("out", json!({"transactionTimeout": timeout}));
        bench.wait(sink.committer().preflight(false))
    };
    let too_long = preflight("15m").unwrap_err();
    assert_says(
        &too_long,
        ErrorCode::KafkaTransactionTimeout,
        &["15m", "at most 2m", "10s", "= 1m"],
    );
    let too_short = preflight("45s").unwrap_err();
    assert_says(
        &too_short,
        ErrorCode::KafkaTransactionTimeout,
        &["45s", "at most 2m", "larger of interval", "= 1m"],
    );
    assert_eq!(preflight("2m"), Ok(()));

    // Without a preflight the broker's own refusal says the same.
    let sink = bench.sink("out", json!({"transactionTimeout": "15m"}));
    let failure = sink.writer(1, 0).write(&batch(0..1)).unwrap_err();
    assert_says(
        &failure,
        ErrorCode::KafkaTransactionTimeout,
        &["15m", "transaction.max.timeout.ms"],
    );
}

/// One row whose record has about so many bytes.
fn row_of(bytes: usize) -> millstream_types::Batch {
    let columns: Vec<arrow_array::ArrayRef> = vec![
        std::sync::Arc::new(arrow_array::Int64Array::from(vec![1])),
        std::sync::Arc::new(arrow_array::StringArray::from(vec!["x".repeat(bytes)])),
    ];
    let rows = arrow_array::RecordBatch::try_new(crate::fixture::schema(), columns).unwrap();
    rows.into()
}

/// Finding 58.
#[test]
fn a_record_that_is_too_large_is_the_same_final_fault_whichever_limit_it_meets() {
    let bench = Bench::shared();
    for (number, guarantee) in ["ExactlyOnce", "AtLeastOnce"].into_iter().enumerate() {
        for (limit, topic_limit, client_limit) in
            [("topic", "2000", None), ("client", "1048588", Some("2000"))]
        {
            let topic = format!("bad4-{limit}-{number}");
            bench
                .broker
                .create_topic_with(&topic, 1, &[("max.message.bytes", topic_limit)]);
            let properties: serde_json::Map<String, serde_json::Value> = client_limit
                .iter()
                .map(|limit| ("message.max.bytes".to_owned(), json!(limit)))
                .collect();
            let options = json!({"deliveryGuarantee": guarantee, "properties": properties});
            let sink = bench.sink(&topic, options);
            let mut writer = sink.writer(1, 0);
            let failure = match writer.write(&row_of(5_000)) {
                Err(failure) => failure,
                Ok(_) => writer.prepare(CheckpointId(1)).unwrap_err(),
            };
            let topic_limit = format!("`max.message.bytes`, which is {topic_limit}");
            assert_says(
                &failure,
                ErrorCode::KafkaDelivery,
                &[
                    &format!("`{topic}`"),
                    "can never be delivered",
                    "has 5018 bytes",
                    &topic_limit,
                    "`message.max.bytes`",
                ],
            );
            assert_eq!(
                failure.kind,
                ErrorKind::InvalidJob,
                "{guarantee}, {limit}: {failure}"
            );
            assert_eq!(writer.prepare(CheckpointId(1)).unwrap_err(), failure);
        }
    }
}

#[test]
fn an_offset_that_is_gone_is_named_with_what_there_is() {
    let bench = Bench::shared();
    bench.broker.create_topic("bad5", 1);
    bench.broker.produce("bad5", records(0..100));
    let source = bench.source("bad5", json!({}));
    let splits = source.first_splits(&bench);

    let mut gone = TopicPartitionList::new();
    gone.add_partition_offset("bad5", 0, Offset::Offset(40))
        .unwrap();
    bench
        .wait(bench.admin().delete_records(&gone, &AdminOptions::new()))
        .unwrap();

    let mut reader = source.reader();
    reader.add_splits(splits).unwrap();
    let failure = wait_for("reading fails", PATIENCE, || reader.poll(POLL).err());
    assert_says(
        &failure,
        ErrorCode::KafkaOffsetOutOfRange,
        &["bad5/0", "offset 0", "40 to 100"],
    );
    assert_eq!(reader.poll(POLL).unwrap_err(), failure, "a failure is kept");
}

#[test]
fn an_offset_beyond_the_end_is_named_with_what_there_is() {
    let bench = Bench::shared();
    bench.broker.create_topic("bad6", 1);
    bench.broker.produce("bad6", records(0..10));
    let source = bench.source("bad6", json!({}));
    let mut splits = source.first_splits(&bench);
    splits[0].position.0 = r#"{"offset":5000}"#.into();
    let mut reader = source.reader();
    reader.add_splits(splits).unwrap();
    let failure = wait_for("reading fails", PATIENCE, || reader.poll(POLL).err());
    assert_says(
        &failure,
        ErrorCode::KafkaOffsetOutOfRange,
        &["bad6/0", "offset 5000", "0 to 10"],
    );
}

#[test]
fn a_corrupt_record_is_named_or_skipped_or_set_aside() {
    let bench = Bench::shared();
    bench.broker.create_topic("bad7", 1);
    bench.broker.produce("bad7", records(0..1));
    bench
        .broker
        .produce("bad7", [(Vec::new(), b"not json".to_vec())]);
    bench.broker.produce("bad7", records(1..2));
    let options = json!({"bootstrapServers": bench.broker.bootstrap(), "topics": ["bad7"]});
    let poll = |on_error| {
        let source = TestSource::new(options.clone(), on_error);
        let mut reader = source.started(&bench);
        let (mut rows, mut letters) = (Vec::new(), 0);
        let outcome = wait_for("both good records, or a failure", PATIENCE, || {
            match reader.poll(POLL) {
                Ok(Polled::Records(output)) => {
                    rows.extend(ids(&output));
                    letters += output.dead_letters.map_or(0, |letters| letters.rows());
                }
                Ok(_) => {}
                Err(failure) => return Some(Err(failure)),
            }
            (rows.len() == 2).then_some(Ok(()))
        });
        (outcome, letters, reader.counters(), reader.snapshot())
    };
    let (outcome, ..) = poll(OnError::Fail);
    assert_says(
        &outcome.unwrap_err(),
        ErrorCode::CorruptRecord,
        &["bad7/0 offset 1", "not json"],
    );
    let (_, letters, counters, snapshot) = poll(OnError::Skip);
    assert_eq!((letters, counters.skipped, counters.records_out), (0, 1, 2));
    assert_eq!(
        (snapshot[0].position.0.as_str(), snapshot[0].records),
        (r#"{"offset":3}"#, 3)
    );
    let (_, letters, counters, _) = poll(OnError::DeadLetter);
    assert_eq!((letters, counters.dead_letters), (1, 1));
}
