//! Jobs to plan, and ways to look at what was planned.

use arrow_schema::{DataType, SchemaRef};
use millstream_plan::{JobGraph, Node, PlanError, plan};
use millstream_spec::ValidJob;
use millstream_types::schema::Column;

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
        columns.push(Column::new(
            name,
            column_type.trim_end_matches('!').parse().unwrap(),
            !column_type.ends_with('!'),
        ));
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    columns
}

/// A job file in parts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Job {
    pub(crate) chaining: bool,
    sources: Vec<String>,
    transforms: Vec<String>,
    sinks: Vec<String>,
}

/// A job without nodes.
pub(crate) fn job() -> Job {
    Job {
        chaining: true,
        ..Job::default()
    }
}

impl Job {
    pub(crate) fn unchained(mut self) -> Self {
        self.chaining = false;
        self
    }

    /// A source of JSON files. Needs a reader of its dead letters if `extra` asks for them.
    pub(crate) fn source_with(mut self, name: &str, text: &str, extra: &str) -> Self {
        let schema: Vec<String> = columns(text)
            .iter()
            .map(|c| {
                let column_type = c.column_type;
                let (name, nullable) = (&c.name, c.nullable);
                format!("{{name: {name:?}, type: \"{column_type}\", nullable: {nullable}}}")
            })
            .collect();
        let schema = schema.join(", ");
        self.sources.push(format!(
            "    - {{name: {name}, files: {{path: /in/{name}}}, schema: [{schema}]{extra}}}"
        ));
        self
    }

    pub(crate) fn source(self, name: &str, text: &str) -> Self {
        self.source_with(name, text, "")
    }

    /// A source of topics in the format `raw`.
    pub(crate) fn kafka_source(mut self, name: &str, topics: &[&str]) -> Self {
        let topics = topics.join(", ");
        self.sources.push(format!(
            "    - {{name: {name}, kafka: {{bootstrapServers: \"kafka:9092\", topics: [{topics}]}}, format: {{raw: {{}}}}}}"
        ));
        self
    }

    pub(crate) fn transform(self, name: &str, from: &str, sql: &str) -> Self {
        self.transform_with(name, from, sql, "")
    }

    /// A transform of one input, or of `a, b`, with more keys of its own.
    pub(crate) fn transform_with(mut self, name: &str, from: &str, sql: &str, more: &str) -> Self {
        let (reads, sql) = (reads(from), serde_json::Value::from(sql));
        self.transforms
            .push(format!("    - {{name: {name}, {reads}, sql: {sql}{more}}}"));
        self
    }

    pub(crate) fn sink(self, name: &str, from: &str) -> Self {
        self.sink_with(name, from, "")
    }

    /// A sink of one input, or of `a, b`, with more keys of its own.
    pub(crate) fn sink_with(mut self, name: &str, from: &str, more: &str) -> Self {
        let reads = reads(from);
        self.sinks.push(format!(
            "    - {{name: {name}, {reads}, blackhole: {{}}{more}}}"
        ));
        self
    }

    /// A sink with more options of Kafka, and more keys of its own.
    pub(crate) fn kafka_sink(mut self, name: &str, from: &str, kafka: &str, more: &str) -> Self {
        let joined = |more: &str| {
            if more.is_empty() {
                String::new()
            } else {
                format!(", {more}")
            }
        };
        let (kafka, more) = (joined(kafka), joined(more));
        self.sinks.push(format!(
            "    - {{name: {name}, input: {from}, kafka: {{bootstrapServers: \"kafka:9092\", topic: out{kafka}}}{more}}}"
        ));
        self
    }

    pub(crate) fn yaml(&self) -> String {
        let head = format!(
            "apiVersion: millstream.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: test}}\n\
             spec:\n  parallelism: 2\n  operatorChaining: {}\n  \
             checkpoint: {{storage: \"file:///checkpoints\"}}\n  dataflow:\n",
            self.chaining
        );
        let sections = [
            ("sources", &self.sources),
            ("transforms", &self.transforms),
            ("sinks", &self.sinks),
        ];
        let present = sections.iter().filter(|(_, nodes)| !nodes.is_empty());
        let text = present.map(|(name, nodes)| format!("    {name}:\n{}\n", nodes.join("\n")));
        head + &text.collect::<String>()
    }

    pub(crate) fn valid(&self) -> ValidJob {
        millstream_spec::read(&self.yaml(), "test").unwrap()
    }

    pub(crate) fn plan(&self) -> Result<JobGraph, PlanError> {
        plan(&self.valid())
    }

    pub(crate) fn graph(&self) -> JobGraph {
        self.plan().unwrap()
    }

    /// The message of a plan that must fail.
    pub(crate) fn refusal(&self) -> String {
        match self.plan() {
            Ok(_) => panic!("this must not be planned:\n{}", self.yaml()),
            Err(error) => error.to_string(),
        }
    }
}

fn reads(from: &str) -> String {
    if from.contains(',') {
        format!("inputs: [{from}]")
    } else {
        format!("input: {from}")
    }
}

fn decimal(data_type: &DataType) -> String {
    match data_type {
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        other => panic!("{other} is no type of a column"),
    }
}

/// A job of one transform over [`ORDERS`].
pub(crate) fn one(sql: &str) -> Job {
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
            "boolean",
            "int32",
            "int64",
            "float64",
            "string",
            "bytes",
            "timestamp",
            "date",
        ]
        .into_iter()
        .find(|name| columns(&format!("c {name}"))[0].column_type.arrow() == *field.data_type())
        .map_or_else(|| decimal(field.data_type()), str::to_owned);
        format!("{} {column_type}{bang}", field.name())
    });
    fields.collect::<Vec<_>>().join(", ")
}

/// The fault messages of a transform over [`ORDERS`] that must fail.
pub(crate) fn refused(sql: &str) -> String {
    one(sql).refusal()
}
