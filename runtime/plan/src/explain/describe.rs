//! What a node does, in words.

use datafusion_physical_expr::expressions::Column;
use millstream_spec::connector::{DeliveryGuarantee, PostgresMode, PostgresSink};
use millstream_spec::valid::{SinkConnector, SourceConnector};
use millstream_spec::{Format, OnError, ValidSink, ValidSource, WritableMetadata};
use millstream_types::aggregate::{AggregateStage, Aggregation};
use millstream_types::change::CHANGE_COLUMN;
use millstream_types::duration::KubeDuration;

use crate::graph::{
    Edge, JobGraph, Node, NodeIndex, NodeKind, Output, Partitioning, SqlSelect, SqlTransform,
};
use crate::semantics::types::Type;

/// Kind and options of a node, each a few words.
pub(super) fn summary(node: &Node) -> Vec<String> {
    match &node.kind {
        NodeKind::Source(source) => of_source(source),
        NodeKind::Sql(_) => vec!["sql".to_owned()],
        NodeKind::Aggregate(aggregation) => of_aggregation(aggregation),
        NodeKind::Sink(sink) => of_sink(sink),
    }
}

fn of_aggregation(aggregation: &Aggregation) -> Vec<String> {
    let what = if aggregation.calls.is_empty() {
        "distinct"
    } else {
        "aggregate"
    };
    let stage = match aggregation.stage {
        AggregateStage::Partial => "before the exchange",
        AggregateStage::Final => "of partial results",
        AggregateStage::Whole => "of rows",
    };
    let ttl = aggregation
        .ttl
        .map(|ttl| format!("ttl {}", KubeDuration(ttl)));
    [what.to_owned(), stage.to_owned()]
        .into_iter()
        .chain(ttl)
        .collect()
}

/// What a node keeps by key.
pub(super) fn state(node: &Node) -> Option<String> {
    let (name, state_type) = node.state()?;
    Some(format!("{name}: {state_type}"))
}

/// Which changes an edge carries, if any but new rows.
pub(super) fn changes(graph: &JobGraph, edge: &Edge) -> Option<String> {
    if !edge.changelog.updates() {
        return None;
    }
    let name = edge.changelog.name();
    let from = graph.node(edge.from.node());
    let key = from.and_then(|from| from.key.as_ref().map(|key| (from, key)));
    let names = key.map(|(from, key)| {
        let fields = key
            .iter()
            .filter_map(|index| from.schema.fields().get(*index));
        fields.map(|field| field.name().clone()).collect::<Vec<_>>()
    });
    Some(match names {
        Some(names) if names.is_empty() => format!("{name} of one row"),
        Some(names) => format!("{name} by {}", names.join(", ")),
        None => name.to_owned(),
    })
}

fn of_source(source: &ValidSource) -> Vec<String> {
    let mut words = match &source.connector {
        SourceConnector::Kafka(kafka) => vec![
            format!("kafka source {}", kafka.topics.join(", ")),
            format!("at {}", kafka.bootstrap_servers),
            format_name(&source.format),
        ],
        SourceConnector::Files(files) => vec![
            format!("files source {}", files.path),
            format_name(&source.format),
        ],
        SourceConnector::Generator(generator) => {
            let rows = generator
                .rows
                .map_or_else(|| "endless".to_owned(), |rows| format!("{rows} rows"));
            vec![format!("generator source, seed {}", generator.seed), rows]
        }
    };
    if let Some(watermark) = &source.watermark {
        words.push(format!(
            "watermark {} - {}",
            watermark.column, watermark.max_out_of_orderness
        ));
    }
    words.push(match source.on_error {
        OnError::Fail => "bad records fail the job".to_owned(),
        OnError::Skip => "bad records are skipped".to_owned(),
        OnError::DeadLetter => "bad records become dead letters".to_owned(),
    });
    words
}

fn of_sink(sink: &ValidSink) -> Vec<String> {
    match &sink.connector {
        SinkConnector::Kafka(kafka) => {
            let guarantee = match kafka.guarantee() {
                DeliveryGuarantee::ExactlyOnce => "exactly once",
                DeliveryGuarantee::AtLeastOnce => "at least once",
            };
            let key = kafka.key.iter().map(|key| format!("key {key}"));
            let fields = kafka.key_fields.join(", ");
            let fields = (!fields.is_empty()).then(|| format!("key {{{fields}}}"));
            let metadata = sink.metadata.iter().map(|column| {
                let to = match column.to {
                    WritableMetadata::Headers => "headers",
                    WritableMetadata::Timestamp => "timestamp",
                };
                format!("{to} {}", column.name)
            });
            [
                format!("kafka sink {}", kafka.topic),
                format!("at {}", kafka.bootstrap_servers),
                format_name(&sink.format),
                guarantee.to_owned(),
            ]
            .into_iter()
            .chain(key)
            .chain(fields)
            .chain(metadata)
            .collect()
        }
        SinkConnector::Files(files) => {
            vec![
                format!("files sink {}", files.path),
                format_name(&sink.format),
            ]
        }
        SinkConnector::Postgres(postgres) => of_postgres(postgres),
        SinkConnector::Custom(custom) => vec![format!("custom sink {}", custom.sink_type)],
        SinkConnector::Print(_) => vec!["print sink".to_owned(), format_name(&sink.format)],
        SinkConnector::Blackhole(_) => vec!["blackhole sink".to_owned()],
    }
}

fn of_postgres(postgres: &PostgresSink) -> Vec<String> {
    let guarantee = match postgres.mode {
        PostgresMode::TwoPhaseCommit => "exactly once by two-phase commit",
        PostgresMode::Buffered => "exactly once, buffered",
        PostgresMode::Upsert => "upserts",
    };
    let (database, schema, table) = (&postgres.database, &postgres.schema, &postgres.table);
    let key = postgres.key_fields.join(", ");
    let version = postgres.version_field.iter();
    [
        format!("postgres sink {database}.{schema}.{table}"),
        format!("at {}", postgres.servers),
        guarantee.to_owned(),
    ]
    .into_iter()
    .chain((!key.is_empty()).then(|| format!("key {key}")))
    .chain(version.map(|version| format!("version {version}")))
    .collect()
}

fn format_name(format: &Format) -> String {
    match format {
        Format::Json(_) => "json",
        Format::Raw(_) => "raw",
    }
    .to_owned()
}

/// The columns of a node as name, type and, where one is computed, how; none for a sink, which is
/// given what its inputs show.
pub(super) fn shown_columns(graph: &JobGraph, index: NodeIndex, node: &Node) -> Vec<[String; 3]> {
    match &node.kind {
        NodeKind::Sink(_) if !reads_dead_letters(graph, index) => Vec::new(),
        _ => columns(node),
    }
}

/// Whether all that a node reads are records that could not be decoded.
pub(super) fn reads_dead_letters(graph: &JobGraph, node: NodeIndex) -> bool {
    let mut inputs = graph.inputs(node).peekable();
    let some = inputs.peek().is_some();
    some && inputs.all(|edge| matches!(edge.from, Output::DeadLetters(_)))
}

fn columns(node: &Node) -> Vec<[String; 3]> {
    let fields = node.schema.fields().iter().enumerate();
    let fields = fields.filter(|(_, field)| field.name() != CHANGE_COLUMN);
    fields
        .map(|(index, field)| {
            let nullable = if field.is_nullable() { "" } else { " not null" };
            let column_type = format!("{}{nullable}", Type::name_of(field.data_type()));
            let computed = match &node.kind {
                NodeKind::Sql(SqlTransform { selects }) => match selects.as_slice() {
                    [only] => computed(only, index, field.name()),
                    _ => None,
                },
                NodeKind::Source(_) | NodeKind::Aggregate(_) | NodeKind::Sink(_) => None,
            };
            [
                field.name().clone(),
                column_type,
                computed.unwrap_or_default(),
            ]
        })
        .collect()
}

fn computed(select: &SqlSelect, index: usize, name: &str) -> Option<String> {
    let column = select.projection.get(index)?;
    let same = column
        .expression
        .downcast_ref::<Column>()
        .is_some_and(|column| column.name() == name);
    (!same && column.text != name).then(|| column.text.clone())
}

/// The condition of a transform with one SELECT, as it is written.
pub(super) fn condition(node: &Node) -> Option<String> {
    match &node.kind {
        NodeKind::Sql(SqlTransform { selects }) => match selects.as_slice() {
            [only] => condition_of(only),
            _ => None,
        },
        NodeKind::Source(_) | NodeKind::Aggregate(_) | NodeKind::Sink(_) => None,
    }
}

fn condition_of(select: &SqlSelect) -> Option<String> {
    let conditions = select.filter.iter();
    let texts: Vec<&str> = conditions
        .map(|condition| condition.text.as_str())
        .collect();
    (!texts.is_empty()).then(|| texts.join(" AND "))
}

/// What each SELECT of a transform does, if there are several: where it reads, its condition, and
/// the columns that it computes.
pub(super) fn selects(graph: &JobGraph, index: NodeIndex, node: &Node) -> Vec<String> {
    let NodeKind::Sql(SqlTransform { selects }) = &node.kind else {
        return Vec::new();
    };
    if selects.len() < 2 {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for select in selects {
        let mut inputs = graph.inputs(index);
        let edge = inputs.find(|edge| edge.input == select.input);
        let from = edge
            .map(|edge| output(graph, edge.from))
            .unwrap_or_default();
        let condition = condition_of(select).map(|condition| format!(" where {condition}"));
        lines.push(format!("from {from}{}", condition.unwrap_or_default()));
        let fields = node.schema.fields().iter().enumerate();
        lines.extend(fields.filter_map(|(index, field)| {
            let computed = computed(select, index, field.name())?;
            Some(format!("  {} = {computed}", field.name()))
        }));
    }
    lines
}

/// An output as the job file names it.
pub(super) fn output(graph: &JobGraph, output: Output) -> String {
    let uid = graph.node(output.node()).map(|node| node.uid.to_string());
    let uid = uid.unwrap_or_default();
    match output {
        Output::Main(_) => uid,
        Output::DeadLetters(_) => format!("{uid}.deadLetters"),
    }
}

/// Which subtask gets a record, in words.
pub(super) fn partitioning(graph: &JobGraph, edge: &Edge) -> String {
    match &edge.partitioning {
        Partitioning::Forward => "forward".to_owned(),
        Partitioning::Rebalance => "rebalance".to_owned(),
        Partitioning::Hash(columns) if columns.is_empty() => "all to one subtask".to_owned(),
        Partitioning::Hash(_) => format!("hash by {}", graph.partition_by(edge).join(", ")),
    }
}
