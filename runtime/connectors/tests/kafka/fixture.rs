//! What the tests share: a broker, connectors of it, batches and what became of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, Int64Array, RecordBatch, StringArray, UInt8Array};
use arrow_schema::SchemaRef;
use millstream_connect::{
    CommitOutcome, Polled, ReaderContext, SinkCommitter, SinkConnector, SinkWriter,
    SourceConnector, SourceOutput, SourceReader, SplitEnumerator, WriterContext,
};
use millstream_spec::valid::{self, Input};
use millstream_spec::{CheckpointSpec, Format, OnError, ValidSink, ValidSource};
use millstream_tests::kafka::topics::Isolation;
use millstream_tests::wait::wait_for;
use millstream_tests::{Broker, BrokerOptions};
use millstream_types::change::{Change, Changelog, changelog, with_changes};
use millstream_types::schema::{Column, ColumnType, arrow_schema};
use millstream_types::{
    Attempt, Batch, Committable, JobId, Lineage, OperatorUid, SplitState, SubtaskIndex,
};
use rdkafka::admin::AdminClient;
use rdkafka::client::DefaultClientContext;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Long enough for a poll to return what is there, short enough to ask often.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// The broker of all tests that run at a time and do not stop it.
static SHARED: Mutex<Weak<Bench>> = Mutex::new(Weak::new());

/// A broker and a runtime for the asynchronous doors.
pub(crate) struct Bench {
    pub(crate) broker: Broker,
    runtime: Runtime,
}

impl Bench {
    /// A broker that other tests use at the same time: topics have names of their own, and
    /// transactional ids begin with the name of their topic.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bench) = shared.upgrade() {
            return bench;
        }
        let bench = Arc::new(Self::with(BrokerOptions::default()));
        *shared = Arc::downgrade(&bench);
        bench
    }

    /// A broker of its own, which may be stopped.
    pub(crate) fn start() -> Self {
        Self::with(BrokerOptions::default())
    }

    pub(crate) fn with(options: BrokerOptions) -> Self {
        Self {
            broker: Broker::start(options),
            runtime: Runtime::new().unwrap(),
        }
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.broker.client().create().unwrap()
    }

    /// A sink of `topic` on this broker, with more options.
    pub(crate) fn sink(&self, topic: &str, options: Value) -> TestSink {
        let base = json!({
            "bootstrapServers": self.broker.bootstrap(),
            "topic": topic,
            "transactionalIdPrefix": topic,
        });
        TestSink::new(merged(base, options))
    }

    /// A sink of `topic` for a stream that updates.
    pub(crate) fn upserts(&self, topic: &str, options: Value) -> TestSink {
        let base = json!({
            "bootstrapServers": self.broker.bootstrap(),
            "topic": topic,
            "transactionalIdPrefix": topic,
        });
        TestSink::of_changes(merged(base, options))
    }

    /// A source of `topic` on this broker, with more options.
    pub(crate) fn source(&self, topic: &str, options: Value) -> TestSource {
        let base = json!({"bootstrapServers": self.broker.bootstrap(), "topics": [topic]});
        TestSource::new(merged(base, options), OnError::Fail)
    }

    /// Transactional ids that belong to sinks of `topic`.
    pub(crate) fn transactions(&self, topic: &str) -> Vec<String> {
        let ids = self.broker.transactions().into_iter();
        of_topic(topic, ids.map(|transaction| transaction.transactional_id))
    }

    /// Those of them whose transaction is neither committed nor aborted.
    pub(crate) fn open_transactions(&self, topic: &str) -> Vec<String> {
        let ids = self.broker.open_transactions().into_iter();
        of_topic(topic, ids.map(|transaction| transaction.transactional_id))
    }

    pub(crate) fn commit(
        &self,
        committer: &dyn SinkCommitter,
        committables: &[Committable],
    ) -> Vec<CommitOutcome> {
        self.wait(committer.commit(committables))
    }

    /// Ids in the topic that a `read_committed` reader sees, sorted.
    pub(crate) fn visible(&self, topic: &str) -> Vec<i64> {
        let mut ids: Vec<i64> = self
            .broker
            .read_to_end(topic, Isolation::Committed)
            .iter()
            .map(|record| id_of(&record.value))
            .collect();
        ids.sort_unstable();
        ids
    }

    /// Waits until a `read_committed` reader sees exactly these ids: markers are written after
    /// the commit is answered.
    #[track_caller]
    pub(crate) fn wait_visible(&self, topic: &str, ids: std::ops::Range<i64>) {
        let expected: Vec<i64> = ids.collect();
        wait_for("the committed records are visible", PATIENCE, || {
            (self.visible(topic) == expected).then_some(())
        });
    }
}

fn of_topic(topic: &str, ids: impl Iterator<Item = String>) -> Vec<String> {
    let prefix = format!("{topic}-out-");
    ids.filter(|id| id.starts_with(&prefix)).collect()
}

fn merged(mut base: Value, more: Value) -> Value {
    if let (Some(base), Value::Object(more)) = (base.as_object_mut(), more) {
        base.extend(more);
    }
    base
}

pub(crate) fn id_of(value: &[u8]) -> i64 {
    let value: Value = serde_json::from_slice(value).unwrap();
    value["id"].as_i64().unwrap()
}

pub(crate) fn job() -> JobId {
    JobId {
        namespace: "default".into(),
        name: "orders".into(),
    }
}

fn columns() -> Vec<Column> {
    let column = |name: &str, column_type| Column::new(name, column_type, true);
    vec![
        column("id", ColumnType::Int64),
        column("name", ColumnType::String),
    ]
}

pub(crate) fn schema() -> SchemaRef {
    arrow_schema(&columns())
}

/// Rows with these ids; `name` is `name-<id>`.
pub(crate) fn batch(ids: std::ops::Range<i64>) -> Batch {
    let names: Vec<String> = ids.clone().map(|id| format!("name-{id}")).collect();
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(ids.collect::<Int64Array>()),
        Arc::new(StringArray::from(names)),
    ];
    Batch::new(RecordBatch::try_new(schema(), columns).unwrap())
}

/// Rows of a stream that updates: id, name and what each does.
pub(crate) fn changes(rows: &[(i64, Option<&str>, Change)]) -> Batch {
    let changes = rows.iter().map(|(_, _, change)| *change as u8);
    let columns: Vec<Arc<dyn Array>> = vec![
        Arc::new(rows.iter().map(|(id, ..)| *id).collect::<Int64Array>()),
        Arc::new(
            rows.iter()
                .map(|(_, name, _)| *name)
                .collect::<StringArray>(),
        ),
        Arc::new(changes.collect::<UInt8Array>()),
    ];
    Batch::new(RecordBatch::try_new(with_changes(&schema()), columns).unwrap())
}

/// JSON of the same rows, as records for a source.
pub(crate) fn records(ids: std::ops::Range<i64>) -> impl Iterator<Item = (Vec<u8>, Vec<u8>)> {
    ids.map(|id| {
        let value = json!({"id": id, "name": format!("name-{id}")});
        (id.to_be_bytes().to_vec(), value.to_string().into_bytes())
    })
}

fn checkpoint() -> CheckpointSpec {
    serde_json::from_value(json!({
        "storage": "file:///tmp/unused", "interval": "1s", "timeout": "10s",
    }))
    .unwrap()
}

/// A sink under test.
pub(crate) struct TestSink {
    pub(crate) connector: Arc<dyn SinkConnector>,
    schema: SchemaRef,
    changelog: Changelog,
}

impl TestSink {
    pub(crate) fn new(options: Value) -> Self {
        Self::with_checkpoint(options, checkpoint())
    }

    pub(crate) fn with_checkpoint(options: Value, checkpoint: CheckpointSpec) -> Self {
        Self::of(Self::spec(options, checkpoint), schema())
    }

    /// A sink of the same rows with what each does.
    pub(crate) fn of_changes(options: Value) -> Self {
        Self::of(Self::spec(options, checkpoint()), with_changes(&schema()))
    }

    fn spec(options: Value, checkpoint: CheckpointSpec) -> ValidSink {
        ValidSink {
            name: "out".into(),
            inputs: vec![Input::Main("in".into())],
            partition_by: Vec::new(),
            parallelism: None,
            connector: valid::SinkConnector::Kafka(serde_json::from_value(options).unwrap()),
            format: Format::Json(millstream_spec::dataflow::JsonFormat::default()),
            metadata: Vec::new(),
            left_out: Vec::new(),
            checkpoint,
        }
    }

    /// A sink of batches with these columns, the last of which may be that of changes.
    pub(crate) fn of(spec: ValidSink, schema: SchemaRef) -> Self {
        Self {
            connector: millstream_connectors::sink(&Arc::new(spec)).unwrap(),
            changelog: changelog(&schema),
            schema,
        }
    }

    pub(crate) fn writer(&self, attempt: u64, subtask: u32) -> Box<dyn SinkWriter> {
        self.writer_in(None, attempt, subtask)
    }

    /// A writer of an attempt of that chain.
    pub(crate) fn writer_in(
        &self,
        chain: Option<&str>,
        attempt: u64,
        subtask: u32,
    ) -> Box<dyn SinkWriter> {
        let cx = WriterContext {
            job: job(),
            uid: OperatorUid::from("out"),
            attempt: Attempt(attempt),
            lineage: chain.map(Lineage::from),
            subtask: SubtaskIndex(subtask),
            parallelism: 2,
            schema: SchemaRef::clone(&self.schema),
            changelog: self.changelog,
        };
        self.connector.writer(cx).unwrap()
    }

    pub(crate) fn committer(&self) -> Arc<dyn SinkCommitter> {
        let committer = self.connector.committer(&job(), &OperatorUid::from("out"));
        committer.unwrap().unwrap()
    }
}

/// A source under test.
pub(crate) struct TestSource {
    pub(crate) connector: Arc<dyn SourceConnector>,
    schema: SchemaRef,
}

impl TestSource {
    pub(crate) fn new(options: Value, on_error: OnError) -> Self {
        let spec = ValidSource {
            parallelism: None,
            name: "in".into(),
            connector: valid::SourceConnector::Kafka(serde_json::from_value(options).unwrap()),
            format: Format::Json(millstream_spec::dataflow::JsonFormat::default()),
            schema: columns(),
            metadata: Vec::new(),
            watermark: None,
            on_error,
        };
        Self::of(spec, schema())
    }

    /// A source of which these columns are read.
    pub(crate) fn of(spec: ValidSource, schema: SchemaRef) -> Self {
        Self {
            connector: millstream_connectors::source(&Arc::new(spec)).unwrap(),
            schema,
        }
    }

    pub(crate) fn enumerator(&self) -> Box<dyn SplitEnumerator> {
        self.connector.enumerator().unwrap()
    }

    pub(crate) fn reader(&self) -> Box<dyn SourceReader> {
        let cx = ReaderContext {
            job: job(),
            uid: OperatorUid::from("in"),
            subtask: SubtaskIndex(0),
            parallelism: 1,
            schema: SchemaRef::clone(&self.schema),
        };
        self.connector.reader(cx).unwrap()
    }

    /// The splits that a job begins with.
    pub(crate) fn first_splits(&self, bench: &Bench) -> Vec<SplitState> {
        let mut enumerator = self.enumerator();
        let found = bench.wait(enumerator.discover(&BTreeSet::new(), true));
        found.unwrap().splits
    }

    /// A reader of all partitions, from where a job begins.
    pub(crate) fn started(&self, bench: &Bench) -> Box<dyn SourceReader> {
        let mut reader = self.reader();
        reader.add_splits(self.first_splits(bench)).unwrap();
        reader
    }
}

/// Ids of a polled batch.
pub(crate) fn ids(output: &SourceOutput) -> Vec<i64> {
    let Some(batch) = &output.batch else {
        return Vec::new();
    };
    let rows: usize = output.runs.iter().map(|run| run.rows).sum();
    assert_eq!(rows, batch.rows(), "runs cover the rows");
    let column = batch.records().column(0).as_primitive::<Int64Type>();
    column.values().to_vec()
}

/// Polls until so many rows have come; then nothing more may come at once.
#[track_caller]
pub(crate) fn read(reader: &mut dyn SourceReader, rows: usize) -> Vec<i64> {
    let mut read = Vec::new();
    wait_for(&format!("{rows} rows are read"), PATIENCE, || {
        match reader.poll(POLL).unwrap() {
            Polled::Records(output) => read.extend(ids(&output)),
            Polled::Nothing | Polled::End => {}
        }
        (read.len() >= rows).then_some(())
    });
    assert_eq!(read.len(), rows, "{:?}", reader.snapshot());
    read
}

/// Polls a bounded reader to its end.
#[track_caller]
pub(crate) fn read_to_end(reader: &mut dyn SourceReader) -> Vec<i64> {
    let mut read = Vec::new();
    wait_for("the source ends", PATIENCE, || {
        match reader.poll(POLL).unwrap() {
            Polled::Records(output) => read.extend(ids(&output)),
            Polled::Nothing => {}
            Polled::End => return Some(()),
        }
        None
    });
    read
}
