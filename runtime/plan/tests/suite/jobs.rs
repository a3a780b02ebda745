//! Jobs to plan, and ways to look at what was planned.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use millstream_plan::{JobGraph, Node, NodeKind, PlanError, plan};
use millstream_spec::connector::{BlackholeSink, FilesSource, KafkaSink};
use millstream_spec::dataflow::JsonFormat;
use millstream_spec::valid::{Input, SinkConnector, SourceConnector};
use millstream_spec::{
    CheckpointMode, CheckpointSpec, Format, OnError, RestartStrategy, Retention, Unaligned,
    ValidJob, ValidSink, ValidSource, ValidTransform,
};
use millstream_types::JobId;
use millstream_types::duration::KubeDuration;
use millstream_types::schema::{Column, arrow_schema};

/// The columns of most jobs here.
pub(crate) const ORDERS: &str = "order_id string!, customer_id string, quantity int64, \
     price decimal(12,2), ts timestamp, paid boolean, weight float64, day date, payload string, \
     raw bytes, small int32";

/// Reads `name type, name type!, …`; `!` for columns that are never null.
pub(crate) fn columns(text: &str) -> Vec<Column> {
    let mut columns = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .match_indices(',')
            .map(|(at, _)| at)
            .find(|at| rest[..*at].matches('(').count() == rest[..*at].matches(')').count())
            .unwrap_or(rest.len());
        let (name, column_type) = rest[..end].trim().split_once(' ').unwrap();
        columns.push(Column {
            name: name.to_owned(),
            column_type: column_type.trim_end_matches('!').parse().unwrap(),
            nullable: !column_type.ends_with('!'),
        });
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    columns
}

fn checkpoint() -> CheckpointSpec {
    CheckpointSpec {
        storage: "file:///checkpoints".to_owned(),
        interval: KubeDuration::from_secs(10),
        mode: CheckpointMode::ExactlyOnce,
        min_pause: KubeDuration::default(),
        timeout: KubeDuration::from_secs(60),
        max_concurrent: 1,
        tolerable_failures: 0,
        retained: 3,
        retention: Retention::RetainOnCancellation,
        unaligned: Unaligned::default(),
    }
}

/// A job without nodes.
pub(crate) fn job() -> ValidJob {
    ValidJob {
        id: JobId("default/test".to_owned()),
        parallelism: 2,
        operator_chaining: true,
        checkpoint: checkpoint(),
        restart: RestartStrategy::default(),
        sources: Vec::new(),
        transforms: Vec::new(),
        sinks: Vec::new(),
    }
}

/// Adds nodes to a job.
pub(crate) trait With: Sized {
    fn source(self, name: &str, columns: &str) -> Self;
    fn transform(self, name: &str, input: &str, sql: &str) -> Self;
    fn sink(self, name: &str, input: &str) -> Self;
    fn kafka_sink(self, name: &str, input: &str, key: &str) -> Self;
}

fn input(text: &str) -> Input {
    match text.strip_suffix(".deadLetters") {
        Some(source) => Input::DeadLetters(source.to_owned()),
        None => Input::Main(text.to_owned()),
    }
}

impl With for ValidJob {
    fn source(mut self, name: &str, text: &str) -> Self {
        self.sources.push(Arc::new(ValidSource {
            name: name.to_owned(),
            connector: SourceConnector::Files(FilesSource {
                path: "/orders".to_owned(),
            }),
            format: Format::Json(JsonFormat {}),
            schema: columns(text),
            watermark: None,
            on_error: OnError::DeadLetter,
        }));
        self
    }

    fn transform(mut self, name: &str, from: &str, sql: &str) -> Self {
        self.transforms.push(ValidTransform {
            name: name.to_owned(),
            input: input(from),
            sql: sql.to_owned(),
        });
        self
    }

    fn sink(mut self, name: &str, from: &str) -> Self {
        let checkpoint = self.checkpoint.clone();
        self.sinks.push(Arc::new(ValidSink {
            name: name.to_owned(),
            input: input(from),
            connector: SinkConnector::Blackhole(BlackholeSink {}),
            format: Format::Json(JsonFormat {}),
            checkpoint,
        }));
        self
    }

    fn kafka_sink(self, name: &str, from: &str, key: &str) -> Self {
        let mut job = self.sink(name, from);
        let sink = job.sinks.last_mut().and_then(Arc::get_mut).unwrap();
        let kafka: KafkaSink = serde_json::from_value(serde_json::json!({
            "bootstrapServers": "kafka:9092", "topic": "out", "key": key,
        }))
        .unwrap();
        sink.connector = SinkConnector::Kafka(kafka);
        job
    }
}

/// A job of one transform over [`ORDERS`].
pub(crate) fn one(sql: &str) -> ValidJob {
    job()
        .source("orders", ORDERS)
        .transform("t", "orders", sql)
        .sink("out", "t")
}

pub(crate) fn node<'a>(graph: &'a JobGraph, name: &str) -> &'a Node {
    graph
        .nodes
        .iter()
        .find(|node| node.uid.as_str() == name)
        .unwrap()
}

/// The columns of a node as `name type` or `name type!`.
pub(crate) fn described(schema: &SchemaRef) -> String {
    let fields = schema.fields().iter().map(|field| {
        let bang = if field.is_nullable() { "" } else { "!" };
        let column_type = [
            "boolean", "int32", "int64", "float64", "string", "bytes", "timestamp", "date",
        ]
        .into_iter()
        .find(|name| columns(&format!("c {name}"))[0].column_type.arrow() == *field.data_type())
        .map_or_else(|| field.data_type().to_string(), str::to_owned);
        format!("{} {column_type}{bang}", field.name())
    });
    fields.collect::<Vec<_>>().join(", ")
}

/// The message of a plan that must fail.
pub(crate) fn refusal(job: &ValidJob) -> String {
    plan(job).map(|graph| graph.nodes.len()).unwrap_err().to_string()
}

/// The fault messages of a transform over [`ORDERS`] that must fail.
pub(crate) fn refused(sql: &str) -> String {
    refusal(&one(sql))
}

/// What a transform over [`ORDERS`] computes of a batch of those columns, row by row.
pub(crate) fn computed(sql: &str, rows: &[(&str, ArrayRef)]) -> Result<RecordBatch, String> {
    let count = rows[0].1.len();
    let all = arrow_schema(&columns(ORDERS));
    let graph = plan(&one(sql)).map_err(|error: PlanError| error.to_string())?;
    let source = node(&graph, "orders");
    let given = source.schema.fields().iter().map(|field| {
        let named = rows.iter().find(|(name, _)| name == field.name());
        named.map_or_else(
            || arrow_array::new_null_array(field.data_type(), count),
            |(_, array)| Arc::clone(array),
        )
    });
    let given: Vec<ArrayRef> = given.collect();
    let nullable: Vec<_> = source
        .schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_nullable(true))
        .collect();
    assert!(all.fields().len() >= given.len());
    let batch = RecordBatch::try_new(Arc::new(arrow_schema::Schema::new(nullable)), given).unwrap();
    let transform = node(&graph, "t");
    let NodeKind::Sql(sql) = &transform.kind else {
        panic!("`t` is a transform")
    };
    assert!(sql.filter.is_none(), "filters are the operator's business");
    let values = sql.projection.iter().map(|expression| {
        let value = expression.evaluate(&batch).map_err(|error| error.to_string())?;
        value.into_array(count).map_err(|error| error.to_string())
    });
    let values: Vec<ArrayRef> = values.collect::<Result<_, String>>()?;
    RecordBatch::try_new(Arc::clone(&transform.schema), values).map_err(|error| error.to_string())
}
