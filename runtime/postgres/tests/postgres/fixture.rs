//! What the tests share: servers, and sinks of them.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use millstream_connect::{SinkCommitter, SinkConnector, SinkWriter, WriterContext};
use millstream_postgres::Input;
use millstream_spec::connector::PostgresSink;
use millstream_spec::valid::{self, SinkConnector as SinkOptions};
use millstream_spec::{CheckpointSpec, Format, ValidSink};
use millstream_tests::{Postgres, PostgresOptions};
use millstream_types::change::changelog;
use millstream_types::{Attempt, Batch, Failure, JobId, Lineage, SubtaskIndex};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The server of all tests that run at a time and do not stop it.
static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

/// A server that other tests use at the same time: tables have names of their own.
pub(crate) fn shared() -> Arc<Postgres> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(server) = shared.upgrade() {
        return server;
    }
    let server = Arc::new(Postgres::start_with(&prepared(64)));
    *shared = Arc::downgrade(&server);
    server
}

/// A server that keeps so many prepared transactions.
pub(crate) fn prepared(most: u32) -> PostgresOptions {
    PostgresOptions {
        settings: vec![("max_prepared_transactions", most.to_string())],
        is_secure: false,
    }
}

/// The options of a sink: those of a job file beside these.
pub(crate) fn options(address: &str, table: &str, mode: &str, more: &Value) -> PostgresSink {
    let mut options = json!({
        "servers": address, "database": "postgres", "username": "postgres", "table": table,
        "mode": mode, "connectTimeout": "10s",
    });
    for (key, value) in more.as_object().expect("options are a mapping") {
        options[key] = value.clone();
    }
    serde_json::from_value(options).expect("options of the sink")
}

/// The connector of a sink with these columns.
pub(crate) fn connector(options: PostgresSink, schema: &SchemaRef) -> Arc<dyn SinkConnector> {
    let checkpoint: CheckpointSpec =
        serde_json::from_value(json!({"storage": "file:///x"})).expect("settings");
    let spec = ValidSink {
        name: "out".to_owned(),
        inputs: vec![valid::Input::Main("in".to_owned())],
        partition_by: Vec::new(),
        parallelism: None,
        connector: SinkOptions::Postgres(options.clone()),
        format: Format::default(),
        metadata: Vec::new(),
        left_out: Vec::new(),
        checkpoint,
    };
    let input = Input {
        schema: Arc::clone(schema),
        parallelism: 2,
    };
    millstream_postgres::sink(&spec, &options, &input)
}

fn job() -> JobId {
    JobId {
        namespace: "default".to_owned(),
        name: "orders".to_owned(),
    }
}

/// A sink, driven as a coordinator and a task do.
pub(crate) struct Sink {
    connector: Arc<dyn SinkConnector>,
    schema: SchemaRef,
    runtime: Runtime,
}

impl Sink {
    pub(crate) fn new(options: PostgresSink, schema: &SchemaRef) -> Self {
        Self {
            connector: connector(options, schema),
            schema: Arc::clone(schema),
            runtime: Runtime::new().expect("a runtime"),
        }
    }

    pub(crate) fn writer(&self, attempt: u64) -> Box<dyn SinkWriter> {
        let cx = WriterContext {
            job: job(),
            uid: "out".into(),
            attempt: Attempt(attempt),
            lineage: Some(Lineage("a".to_owned())),
            subtask: SubtaskIndex(0),
            parallelism: 2,
            schema: Arc::clone(&self.schema),
            changelog: changelog(&self.schema),
        };
        self.connector.writer(cx).expect("a writer")
    }

    pub(crate) fn committer(&self) -> Arc<dyn SinkCommitter> {
        let committer = self.connector.committer(&job(), &"out".into());
        committer.expect("a committer").expect("there is one")
    }

    pub(crate) fn preflight(&self) -> Result<(), Failure> {
        self.runtime.block_on(self.committer().preflight(false))
    }

    /// What keeps it from working.
    #[track_caller]
    pub(crate) fn refusal(&self) -> Failure {
        self.preflight().expect_err("the sink cannot work")
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }
}

/// A batch of these columns.
pub(crate) fn batch(columns: Vec<(&str, ArrayRef)>) -> Batch {
    RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )
    .expect("columns of one length")
    .into()
}
