//! From the text of a job file to a [`ValidJob`].

use std::sync::Arc;

use millstream_types::JobId;
use millstream_types::schema::{Column, ColumnType};
use serde_json::Value;

use crate::fault::{Fault, JobFileError};
use crate::valid::{Input, SinkConnector, SourceConnector, ValidSink, ValidSource, ValidTransform};
use crate::{Format, JobSpec, Sink, Source, ValidJob};

/// Reads a job file: the very YAML that `kubectl apply` takes.
///
/// `origin` names the text in messages, usually the path of the file.
///
/// # Errors
/// The text is not one YAML document within the limits, or breaks rules; all broken rules are
/// listed.
pub fn read(text: &str, origin: &str) -> Result<ValidJob, JobFileError> {
    let value: Value = serde_yaml::from_str(text)
        .map_err(|error| JobFileError::unreadable(origin, fault("", error.to_string())))?;
    let invalid =
        |path: &str, message: String| JobFileError::invalid(origin, vec![fault(path, message)]);
    let text_at = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    let name = text_at("/metadata/name")
        .ok_or_else(|| invalid("metadata.name", "is missing".to_owned()))?;
    let spec: JobSpec = serde_json::from_value(runtime_part(&value))
        .map_err(|error| invalid("spec", error.to_string()))?;
    let id = JobId {
        namespace: text_at("/metadata/namespace")
            .unwrap_or("default")
            .to_owned(),
        name: name.to_owned(),
    };
    let identity = text_at("/metadata/uid").map(str::to_owned);
    build(id, identity, spec).map_err(|fault| JobFileError::invalid(origin, vec![fault]))
}

const OPERATOR_KEYS: [&str; 13] = [
    "image",
    "state",
    "upgrade",
    "restore",
    "restartAt",
    "deletion",
    "coordinator",
    "workers",
    "secrets",
    "serviceAccountName",
    "autoscaler",
    "paused",
    "savepoints",
];

fn runtime_part(value: &Value) -> Value {
    let mut spec = value.get("spec").cloned().unwrap_or_default();
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|key, _| !OPERATOR_KEYS.contains(&key.as_str()));
    }
    spec
}

fn fault(path: &str, message: String) -> Fault {
    Fault {
        path: path.to_owned(),
        message,
        place: None,
    }
}

fn build(id: JobId, identity: Option<String>, spec: JobSpec) -> Result<ValidJob, Fault> {
    let sinks = spec.dataflow.sinks.iter();
    Ok(ValidJob {
        id,
        identity,
        parallelism: spec.parallelism,
        operator_chaining: spec.operator_chaining,
        sources: spec
            .dataflow
            .sources
            .iter()
            .map(source)
            .collect::<Result<_, _>>()?,
        transforms: spec
            .dataflow
            .transforms
            .iter()
            .map(|transform| ValidTransform {
                name: transform.name.clone(),
                input: input(&transform.input),
                sql: transform.sql.clone(),
            })
            .collect(),
        sinks: sinks
            .map(|one| sink(one, &spec))
            .collect::<Result<_, _>>()?,
        checkpoint: spec.checkpoint,
        restart: spec.restart,
    })
}

fn input(text: &str) -> Input {
    text.strip_suffix(".deadLetters").map_or_else(
        || Input::Main(text.to_owned()),
        |source| Input::DeadLetters(source.to_owned()),
    )
}

fn source(source: &Source) -> Result<Arc<ValidSource>, Fault> {
    let connector = match (&source.kafka, &source.files, &source.generator) {
        (Some(kafka), None, None) => SourceConnector::Kafka(kafka.clone()),
        (None, Some(files), None) => SourceConnector::Files(files.clone()),
        (None, None, Some(generator)) => SourceConnector::Generator(generator.clone()),
        _ => {
            return Err(fault(
                "spec.dataflow.sources",
                "needs one connector".to_owned(),
            ));
        }
    };
    let format = source.format.clone().unwrap_or_default();
    let schema = match (&connector, &format) {
        (SourceConnector::Generator(_), _) => crate::connector::GeneratorSource::columns(),
        (_, Format::Raw(_)) => vec![Column {
            name: "value".to_owned(),
            column_type: ColumnType::String,
            nullable: true,
        }],
        (_, Format::Json(_)) => source.schema.clone(),
    };
    Ok(Arc::new(ValidSource {
        name: source.name.clone(),
        connector,
        format,
        schema,
        watermark: source.watermark.clone(),
        on_error: source.on_error,
    }))
}

fn sink(sink: &Sink, spec: &JobSpec) -> Result<Arc<ValidSink>, Fault> {
    let connector = match (&sink.kafka, &sink.files, &sink.print, &sink.blackhole) {
        (Some(kafka), None, None, None) => SinkConnector::Kafka(kafka.clone()),
        (None, Some(files), None, None) => SinkConnector::Files(files.clone()),
        (None, None, Some(print), None) => SinkConnector::Print(print.clone()),
        (None, None, None, Some(blackhole)) => SinkConnector::Blackhole(blackhole.clone()),
        _ => {
            return Err(fault(
                "spec.dataflow.sinks",
                "needs one connector".to_owned(),
            ));
        }
    };
    Ok(Arc::new(ValidSink {
        name: sink.name.clone(),
        input: input(&sink.input),
        connector,
        format: sink.format.clone().unwrap_or_default(),
        checkpoint: spec.checkpoint.clone(),
    }))
}
