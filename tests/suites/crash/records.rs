//! Whole records through a job that is killed again and again: keys, headers, timestamps and
//! tombstones arrive as they were, each once.

use std::collections::{BTreeMap, BTreeSet};

use millstream_tests::cluster::Cluster;
use millstream_tests::kafka::topics::{Isolation, WholeRecord};
use millstream_tests::server::Server;
use millstream_tests::wait::{wait_for, wait_until};
use millstream_tests::{Broker, KafkaVersion};

use crate::job::DEADLINE;

const NAME: &str = "whole-records";
const PARTITIONS: i32 = 3;
/// Records of one portion.
const PORTION: i64 = 60;
/// Portions after which an armed process must have ended.
const PORTIONS_MAX: usize = 20;
/// Exit status of a process that has aborted.
const ABORTED: i32 = 128 + 6;

/// Everything that was written to the input, and what reads it.
struct Records {
    broker: &'static Broker,
    cluster: Cluster,
    written: Vec<WholeRecord>,
}

impl Records {
    #[track_caller]
    fn new() -> Self {
        let broker = Broker::shared(KafkaVersion::V4_4);
        let topic = |which: &str| format!("{NAME}-{which}");
        broker.create_topic(&topic("in"), PARTITIONS);
        broker.create_topic(&topic("out"), PARTITIONS);
        let cluster = Cluster::new(NAME, "");
        cluster.rewrite_job(&format!(
            "apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {{name: {NAME}}}
spec:
  parallelism: 2
  checkpoint: {{storage: \"file://{directory}/checkpoints\", interval: 200ms}}
  dataflow:
    sources:
    - name: in
      kafka: {{bootstrapServers: \"{servers}\", topics: [{NAME}-in]}}
      format: {{raw: {{}}}}
      metadata:
      - {{name: k, from: key, type: bytes}}
      - {{name: h, from: headers}}
      - {{name: ts, from: timestamp}}
      - {{name: o, from: offset}}
      - {{name: t, from: topic}}
      watermark: {{column: ts}}
    transforms:
    - {{name: copy, input: in, sql: \"SELECT k, h, ts, value FROM in WHERE o >= 0 AND t = '{NAME}-in'\"}}
    sinks:
    - name: out
      input: copy
      kafka: {{bootstrapServers: \"{servers}\", topic: {NAME}-out, key: k, valueFieldsInclude: ExceptKey}}
      format: {{raw: {{}}}}
      metadata: [{{name: h, to: headers}}, {{name: ts, to: timestamp}}]
",
            directory = cluster.directory().display(),
            servers = broker.bootstrap(),
        ));
        Self {
            broker,
            cluster,
            written: Vec::new(),
        }
    }

    fn start(&mut self, points: &str) -> Server {
        let launch = self.cluster.millstream("run").arg("streamjob.yaml");
        self.cluster.start("run", &launch.env("FAILPOINTS", points))
    }

    /// Writes some more records, no two of them alike. Those of one key go to one partition.
    #[track_caller]
    fn feed(&mut self) {
        let first = i64::try_from(self.written.len()).expect("few records");
        let mut portions: BTreeMap<i32, Vec<WholeRecord>> = BTreeMap::new();
        for number in first..first + PORTION {
            let record = record(number);
            let partition = i32::try_from(number % 7).expect("small") % PARTITIONS;
            portions.entry(partition).or_default().push(record.clone());
            self.written.push(record);
        }
        for (partition, records) in portions {
            self.broker
                .produce_whole(&format!("{NAME}-in"), partition, &records);
        }
    }

    /// What a `read_committed` reader of the output sees; never one record twice.
    #[track_caller]
    fn output(&self) -> Vec<WholeRecord> {
        let seen = self
            .broker
            .read_whole(&format!("{NAME}-out"), Isolation::Committed);
        let distinct: BTreeSet<&WholeRecord> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len(), "a record is visible twice");
        seen
    }

    /// Feeds a process that is armed until it has aborted.
    #[track_caller]
    fn feed_until_aborted(&mut self, mut run: Server) {
        for _ in 0..PORTIONS_MAX {
            self.feed();
            wait_until(
                "the records are visible, or the process has ended",
                DEADLINE,
                || !run.is_running() || self.output().len() == self.written.len(),
            );
            if !run.is_running() {
                let status = run.wait(DEADLINE);
                assert_eq!(status.code(), Some(ABORTED), "{}", run.output());
                return;
            }
        }
        panic!("its crash point was never reached:\n{}", run.output());
    }
}

/// A record that differs from those of all other numbers.
fn record(number: i64) -> WholeRecord {
    // Each kind of key and value meets each other.
    let key = match number % 7 {
        0 => None,
        1 => Some(vec![0xff, 0]),
        key => Some(format!("key-{key}").into_bytes()),
    };
    let is_tombstone = key.is_some() && number % 5 == 0;
    let headers = match number % 4 {
        0 => Vec::new(),
        kinds => [
            ("trace", Some(format!("t-{number}").into_bytes())),
            ("trace", None),
            ("raw", Some(vec![0xfe])),
        ]
        .into_iter()
        .take(usize::try_from(kinds).expect("small"))
        .map(|(name, value)| (name.to_owned(), value))
        .collect(),
    };
    WholeRecord {
        key,
        value: (!is_tombstone).then(|| format!("value {number}").into_bytes()),
        headers,
        timestamp_ms: Some(1_700_000_000_000 + number),
    }
}

#[test]
fn keys_headers_timestamps_and_tombstones_arrive_once_as_they_were_whoever_is_killed() {
    let mut records = Records::new();
    // A worker, with all records of a checkpoint acknowledged and none prepared.
    let run = records.start("kafka-sink::flushed=3*off->return");
    records.feed_until_aborted(run);
    // The coordinator, with a commit on its way.
    let run = records.start("kafka-commit::sent=2*off->return");
    records.feed_until_aborted(run);
    // Anybody, at any place.
    for _ in 0..3 {
        let mut run = records.start("");
        let before = records.output().len();
        records.feed();
        wait_for("more is visible", DEADLINE, || {
            assert!(run.is_running(), "{}", run.output());
            (records.output().len() > before).then_some(())
        });
        records.feed();
        assert!(run.kill(), "it was running");
    }
    let mut run = records.start("");
    wait_until("everything is visible", DEADLINE, || {
        assert!(run.is_running(), "{}", run.output());
        records.output().len() >= records.written.len()
    });
    assert!(run.terminate(DEADLINE).success(), "{}", run.output());

    let output = records.output();
    let mut of_key: BTreeMap<&Vec<u8>, i64> = BTreeMap::new();
    for record in &output {
        let (Some(key), Some(time)) = (&record.key, record.timestamp_ms) else {
            continue;
        };
        let before = of_key.insert(key, time);
        assert!(before < Some(time), "out of order within a key: {record:?}");
    }
    let (mut output, mut written) = (output, records.written);
    output.sort_unstable();
    written.sort_unstable();
    assert_eq!(output, written);
}
