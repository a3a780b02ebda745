//! TLS and SASL, for librdkafka and for our own client alike.

use std::collections::BTreeSet;
use std::path::Path;

use millstream_connect::CommitOutcome;
use millstream_spec::OnError;
use millstream_tests::kafka::SaslEndpoint;
use millstream_tests::wait::wait_for;
use millstream_tests::{BrokerOptions, KafkaVersion, Scratch};
use millstream_types::{CheckpointId, ErrorCode};
use serde_json::{Value, json};

use crate::fixture::{Bench, PATIENCE, POLL, TestSink, TestSource, batch, read_to_end, records};

fn start(version: KafkaVersion) -> Bench {
    let bench = Bench::with(BrokerOptions {
        version,
        sasl_ssl: true,
        ..BrokerOptions::default()
    });
    bench.broker.create_topic("in", 2);
    bench.broker.create_topic("out", 2);
    bench.broker.produce("in", records(0..100));
    bench
}

fn options(
    endpoint: &SaslEndpoint,
    mechanism: &str,
    files: (&Path, &Path),
    connect_timeout: &str,
) -> Value {
    let (password_file, ca_file) = files;
    json!({
        "bootstrapServers": endpoint.bootstrap,
        "connectTimeout": connect_timeout,
        "tls": {"caFile": ca_file},
        "sasl": {
            "mechanism": mechanism,
            "username": endpoint.username,
            "passwordFile": password_file,
        },
    })
}

fn sink(mut options: Value) -> TestSink {
    options["topic"] = json!("out");
    TestSink::new(options)
}

fn source(mut options: Value) -> TestSource {
    options["topics"] = json!(["in"]);
    options["bounded"] = json!(true);
    TestSource::new(options, OnError::Fail)
}

#[test]
fn every_mechanism_logs_in_over_tls_with_both_clients() {
    for version in KafkaVersion::ALL {
        let bench = start(version);
        let endpoint = bench.broker.sasl_ssl();
        let mechanisms = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
        for (attempt, mechanism) in (1..).zip(mechanisms) {
            let options = options(
                &endpoint,
                mechanism,
                (&endpoint.password_file, &endpoint.ca_file),
                "30s",
            );
            let source = source(options.clone());
            let mut reader = source.started(&bench);
            assert_eq!(read_to_end(&mut *reader).len(), 100, "{mechanism}");

            let sink = sink(options);
            let committer = sink.committer();
            bench.wait(committer.preflight(false)).unwrap();
            let mut writer = sink.writer(attempt, 0);
            let first = i64::try_from(attempt - 1).unwrap() * 10;
            writer.write(&batch(first..first + 10)).unwrap();
            let prepared = writer.prepare(CheckpointId(1)).unwrap();
            let outcomes = bench.commit(&*committer, &prepared);
            assert_eq!(outcomes, [CommitOutcome::Committed], "{mechanism}");
        }
        bench.wait_visible("out", 0..30);
    }
}

#[test]
fn a_wrong_password_is_refused_by_both_clients() {
    let bench = start(KafkaVersion::V4_4);
    let endpoint = bench.broker.sasl_ssl();
    let scratch = Scratch::new("password");
    std::fs::write(scratch.join("wrong"), "wrong").unwrap();
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let options = options(
            &endpoint,
            mechanism,
            (&scratch.join("wrong"), &endpoint.ca_file),
            "3s",
        );
        refused_everywhere(&bench, &options, mechanism, &endpoint.bootstrap);
    }
}

#[test]
fn a_broker_whose_certificate_is_not_trusted_is_refused_by_both_clients() {
    let bench = start(KafkaVersion::V4_4);
    let endpoint = bench.broker.sasl_ssl();
    // Another authority: that of another broker.
    let other = Bench::with(BrokerOptions {
        sasl_ssl: true,
        ..BrokerOptions::default()
    });
    let stranger = other.broker.sasl_ssl();
    let options = options(
        &endpoint,
        "PLAIN",
        (&endpoint.password_file, &stranger.ca_file),
        "3s",
    );
    refused_everywhere(&bench, &options, "certificate", &endpoint.bootstrap);
}

fn refused_everywhere(bench: &Bench, options: &Value, what: &str, broker: &str) {
    let sink = sink(options.clone());
    let raw = bench.wait(sink.committer().preflight(false)).unwrap_err();
    let raw_writer = sink.writer(1, 0).write(&batch(0..1)).unwrap_err();
    let source = source(options.clone());
    let mut enumerator = source.enumerator();
    let discovery = bench
        .wait(enumerator.discover(&BTreeSet::new(), true))
        .unwrap_err();
    // librdkafka's consumer alone: the splits come from elsewhere.
    let mut splits = bench.source("in", json!({})).first_splits(bench);
    splits.truncate(1);
    let mut reader = source.reader();
    reader.add_splits(splits).unwrap();
    let library = wait_for("reading fails", PATIENCE, || reader.poll(POLL).err());
    for failure in [raw, raw_writer, discovery, library] {
        assert_eq!(
            failure.code,
            ErrorCode::KafkaAuthentication,
            "{what}: {failure}"
        );
        assert!(failure.message.contains(broker), "{what}: {failure}");
    }
}
