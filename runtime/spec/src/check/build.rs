//! From a checked tree to a [`ValidJob`].

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::JobId;
use millstream_types::schema::{Column, ColumnType};
use serde_json::Value as Json;

use super::graph::input;
use crate::connector::{DeliveryGuarantee, GeneratorSource, KafkaSink, ValueFields};
use crate::read::tree::Node;
use crate::schema::OPERATOR_KEYS;
use crate::valid::{Input, SinkConnector, SourceConnector, ValidSink, ValidSource, ValidTransform};
use crate::{
    CheckpointMode, CheckpointSpec, Format, JobSpec, Sink, SinkMetadata, Source, SourceMetadata,
    Transform, ValidJob,
};

/// A fault that the checks have not found: a path and a message.
type Missed = (String, String);

/// Builds the job. An error means that a check is missing here in this crate; it is reported like
/// any other fault.
pub(super) fn build(root: &Node) -> Result<ValidJob, Missed> {
    let mut spec = root.get("spec").map_or(Json::Null, Node::json);
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|key, _| OPERATOR_KEYS.iter().all(|(name, _)| name != key));
    }
    let spec: JobSpec =
        serde_json::from_value(spec).map_err(|error| ("spec".to_owned(), error.to_string()))?;
    let metadata = |key| root.get("metadata")?.get(key)?.text().map(str::to_owned);
    let sources = spec.dataflow.sources.into_iter().map(source);
    let checkpoint = &spec.checkpoint;
    let sinks = spec
        .dataflow
        .sinks
        .into_iter()
        .map(|one| sink(one, checkpoint));
    Ok(ValidJob {
        id: JobId {
            namespace: metadata("namespace").unwrap_or_else(|| "default".to_owned()),
            name: metadata("name").ok_or_else(|| missed("metadata.name"))?,
        },
        identity: metadata("uid"),
        parallelism: spec.parallelism,
        max_parallelism: spec.max_parallelism,
        operator_chaining: spec.operator_chaining,
        state_backend: spec.state_backend,
        restart: spec.restart,
        metrics: spec.metrics,
        sources: sources.collect::<Result<_, _>>()?,
        transforms: ordered(spec.dataflow.transforms),
        sinks: sinks.collect::<Result<_, _>>()?,
        checkpoint: spec.checkpoint,
    })
}

fn missed(path: &str) -> Missed {
    (
        path.to_owned(),
        "cannot be used as it is written".to_owned(),
    )
}

fn source(source: Source) -> Result<Arc<ValidSource>, Missed> {
    let connector = match (source.kafka, source.files, source.generator) {
        (Some(kafka), None, None) => SourceConnector::Kafka(kafka),
        (None, Some(files), None) => SourceConnector::Files(files),
        (None, None, Some(generator)) => SourceConnector::Generator(generator),
        _ => return Err(missed("spec.dataflow.sources")),
    };
    let format = source.format.unwrap_or_default();
    let mut schema = match (&connector, &format) {
        (SourceConnector::Generator(_), _) => GeneratorSource::columns(),
        (_, Format::Raw(_)) => vec![raw_column()],
        (_, Format::Json(_)) => source.schema,
    };
    schema.extend(source.metadata.iter().map(SourceMetadata::column));
    Ok(Arc::new(ValidSource {
        name: source.name,
        connector,
        format,
        schema,
        metadata: source.metadata,
        watermark: source.watermark,
        on_error: source.on_error,
        parallelism: source.parallelism,
    }))
}

/// The one column of `raw`. It is null for a record without a value.
pub(super) fn raw_column() -> Column {
    Column::new("value", ColumnType::String, true)
}

fn sink(sink: Sink, checkpoint: &CheckpointSpec) -> Result<Arc<ValidSink>, Missed> {
    let left_out = left_out(sink.kafka.as_ref(), &sink.metadata);
    let kafka = sink.kafka.map(|kafka| {
        SinkConnector::Kafka(KafkaSink {
            delivery_guarantee: Some(guarantee(&kafka, checkpoint)),
            ..kafka
        })
    });
    let given = [
        kafka,
        sink.files.map(SinkConnector::Files),
        sink.postgres.map(SinkConnector::Postgres),
        sink.custom.map(SinkConnector::Custom),
        sink.print.map(SinkConnector::Print),
        sink.blackhole.map(SinkConnector::Blackhole),
    ];
    let mut given = given.into_iter().flatten();
    let (Some(connector), None) = (given.next(), given.next()) else {
        return Err(missed("spec.dataflow.sinks"));
    };
    Ok(Arc::new(ValidSink {
        name: sink.name,
        inputs: inputs(sink.input.as_ref(), &sink.inputs),
        partition_by: sink.partition_by,
        parallelism: sink.parallelism,
        connector,
        format: sink.format.unwrap_or_default(),
        metadata: sink.metadata,
        left_out,
        checkpoint: checkpoint.clone(),
    }))
}

/// Columns that are not in the value of a sink's records.
fn left_out(kafka: Option<&KafkaSink>, metadata: &[SinkMetadata]) -> Vec<String> {
    let mut columns: Vec<String> = metadata.iter().map(|column| column.name.clone()).collect();
    if let Some(kafka) = kafka {
        match kafka.value_fields_include {
            ValueFields::All => {}
            ValueFields::ExceptKey => {
                columns.extend(kafka.key.iter().chain(&kafka.key_fields).cloned());
            }
        }
    }
    columns
}

/// A sink that does not say what it guarantees does what the job's checkpoints are meant for.
fn guarantee(sink: &KafkaSink, checkpoint: &CheckpointSpec) -> DeliveryGuarantee {
    sink.delivery_guarantee.unwrap_or(match checkpoint.mode {
        CheckpointMode::ExactlyOnce => DeliveryGuarantee::ExactlyOnce,
        CheckpointMode::AtLeastOnce => DeliveryGuarantee::AtLeastOnce,
    })
}

/// What a node reads, in the order it is written.
fn inputs(input_key: Option<&String>, inputs_key: &[String]) -> Vec<Input> {
    let texts = input_key.into_iter().chain(inputs_key);
    texts.map(|text| input(text)).collect()
}

/// Transforms in the order they are written, but each after those it reads.
fn ordered(transforms: Vec<Transform>) -> Vec<ValidTransform> {
    let names: Vec<String> = transforms.iter().map(|one| one.name.clone()).collect();
    let mut waiting: BTreeMap<String, ValidTransform> = transforms
        .into_iter()
        .map(|one| {
            let valid = ValidTransform {
                inputs: inputs(one.input.as_ref(), &one.inputs),
                name: one.name,
                partition_by: one.partition_by,
                parallelism: one.parallelism,
                state_ttl: one.state_ttl,
                sql: one.sql,
            };
            (valid.name.clone(), valid)
        })
        .collect();
    let mut ordered = Vec::with_capacity(names.len());
    for name in names {
        let mut stack = vec![name];
        while let Some(name) = stack.last() {
            let Some(transform) = waiting.get(name) else {
                stack.pop();
                continue;
            };
            let next = transform.inputs.iter().find_map(|input| match input {
                Input::Main(name) if waiting.contains_key(name) => Some(name.clone()),
                Input::Main(_) | Input::DeadLetters(_) => None,
            });
            match next {
                // In a cycle, which the checks have reported.
                Some(next) if stack.contains(&next) => break,
                Some(next) => stack.push(next),
                None => ordered.extend(stack.pop().and_then(|name| waiting.remove(&name))),
            }
        }
    }
    ordered
}
