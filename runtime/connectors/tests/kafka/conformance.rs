//! The exactly-once sinks of this crate against the kit for those who write one.

use std::path::Path;
use std::sync::Arc;

use millstream_connect::SinkConnector;
use millstream_sinks::conformance::{Report, Subject, transactional};
use millstream_spec::connector::FilesSink;
use millstream_spec::valid::{self, Input};
use millstream_spec::{CheckpointSpec, Format, ValidSink};
use millstream_tests::Scratch;
use millstream_tests::kafka::topics::Isolation;
use serde_json::{Value, json};

use crate::fixture::Bench;

/// A sink with these options.
fn sink(connector: valid::SinkConnector) -> Arc<dyn SinkConnector> {
    let checkpoint: CheckpointSpec =
        serde_json::from_value(json!({"storage": "file:///x"})).expect("settings");
    let spec = ValidSink {
        name: "sink".to_owned(),
        inputs: vec![Input::Main("in".to_owned())],
        partition_by: Vec::new(),
        parallelism: None,
        connector,
        format: Format::default(),
        metadata: Vec::new(),
        left_out: Vec::new(),
        checkpoint,
    };
    millstream_connectors::sink(&Arc::new(spec)).expect("a connector")
}

fn id(row: &[u8]) -> i64 {
    let row: Value = serde_json::from_slice(row).expect("a row is JSON");
    row["id"].as_i64().expect("it has an id")
}

#[track_caller]
fn check(report: &Report) {
    println!("{report}");
    assert!(report.is_clean(), "{report}");
}

struct Topic {
    servers: String,
}

impl Subject for Topic {
    fn connector(&self) -> Arc<dyn SinkConnector> {
        let options = json!({"bootstrapServers": self.servers, "topic": "conformance"});
        let options = serde_json::from_value(options).expect("options of the sink");
        sink(valid::SinkConnector::Kafka(options))
    }

    fn visible(&self) -> Result<Vec<i64>, String> {
        // Only the process that has started the broker asks.
        let bench = Bench::shared();
        let records = bench
            .broker
            .read_to_end("conformance", Isolation::Committed);
        Ok(records.iter().map(|record| id(&record.value)).collect())
    }
}

#[test]
fn the_kafka_sink_conforms() {
    let mut bench = None;
    let report = transactional(
        || {
            let started = Bench::shared();
            started.broker.create_topic("conformance", 2);
            let servers = started.broker.bootstrap();
            bench = Some(started);
            servers
        },
        |servers| {
            Box::new(Topic {
                servers: servers.to_owned(),
            })
        },
    );
    check(&report);
}

struct Directory {
    path: String,
}

impl Subject for Directory {
    fn connector(&self) -> Arc<dyn SinkConnector> {
        sink(valid::SinkConnector::Files(FilesSink {
            path: self.path.clone(),
        }))
    }

    fn visible(&self) -> Result<Vec<i64>, String> {
        let entries = std::fs::read_dir(&self.path).map_err(|error| error.to_string())?;
        let paths = entries.map(|entry| entry.expect("an entry").path());
        let is_visible = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            !name.starts_with('.')
        };
        let read = |path: &Path| std::fs::read_to_string(path).expect("a file");
        let texts: Vec<String> = paths.filter(is_visible).map(|path| read(&path)).collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        Ok(lines.map(|line| id(line.as_bytes())).collect())
    }
}

#[test]
fn the_files_sink_conforms() {
    let mut scratch = None;
    let report = transactional(
        || {
            let directory = Scratch::new("files-conformance");
            let path = directory.join("out").display().to_string();
            scratch = Some(directory);
            path
        },
        |path| {
            Box::new(Directory {
                path: path.to_owned(),
            })
        },
    );
    check(&report);
}
