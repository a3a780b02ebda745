//! What a node does, in words.

use datafusion_physical_expr::expressions::Column;
use millstream_spec::connector::DeliveryGuarantee;
use millstream_spec::valid::{SinkConnector, SourceConnector};
use millstream_spec::{Format, OnError, ValidSink, ValidSource, WritableMetadata};

use crate::graph::{Node, NodeKind, SqlTransform};
use crate::semantics::types::Type;

/// Kind and options of a node, each a few words.
pub(super) fn summary(node: &Node) -> Vec<String> {
    match &node.kind {
        NodeKind::Source(source) => of_source(source),
        NodeKind::Sql(_) => vec!["sql".to_owned()],
        NodeKind::Sink(sink) => of_sink(sink),
    }
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
        SinkConnector::Print(_) => vec!["print sink".to_owned(), format_name(&sink.format)],
        SinkConnector::Blackhole(_) => vec!["blackhole sink".to_owned()],
    }
}

fn format_name(format: &Format) -> String {
    match format {
        Format::Json(_) => "json",
        Format::Raw(_) => "raw",
    }
    .to_owned()
}

/// The columns of a node as name, type and, where one is computed, how.
pub(super) fn columns(node: &Node) -> Vec<[String; 3]> {
    let fields = node.schema.fields().iter().enumerate();
    fields
        .map(|(index, field)| {
            let nullable = if field.is_nullable() { "" } else { " not null" };
            let column_type = format!("{}{nullable}", Type::name_of(field.data_type()));
            let computed = match &node.kind {
                NodeKind::Sql(sql) => computed(sql, index, field.name()),
                NodeKind::Source(_) | NodeKind::Sink(_) => None,
            };
            [
                field.name().clone(),
                column_type,
                computed.unwrap_or_default(),
            ]
        })
        .collect()
}

fn computed(sql: &SqlTransform, index: usize, name: &str) -> Option<String> {
    let column = sql.projection.get(index)?;
    let same = column
        .expression
        .downcast_ref::<Column>()
        .is_some_and(|column| column.name() == name);
    (!same).then(|| column.text.clone())
}

/// The condition of a transform, as it is written.
pub(super) fn condition(node: &Node) -> Option<String> {
    let NodeKind::Sql(sql) = &node.kind else {
        return None;
    };
    let texts: Vec<&str> = sql
        .filter
        .iter()
        .map(|condition| condition.text.as_str())
        .collect();
    (!texts.is_empty()).then(|| texts.join(" AND "))
}
