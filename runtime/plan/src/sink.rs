//! Whether a sink can write the columns that it is given.

use arrow_schema::{DataType, Field, Schema};
use millstream_spec::connector::KafkaSink;
use millstream_spec::valid::SinkConnector;
use millstream_spec::{Format, ValidSink, WritableMetadata};
use millstream_types::ErrorCode;
use millstream_types::schema::ColumnType;

use crate::error::{Fault, nearest};
use crate::semantics::types::Type;

/// What is wrong with a sink, the `index`th of the job, whose input has these columns.
pub(crate) fn faults(index: usize, sink: &ValidSink, schema: &Schema) -> Vec<Fault> {
    let at = |key: &str| format!("spec.dataflow.sinks[{index}].{key}");
    let mut faults = Vec::new();
    let mut add = |path: String, found: Option<Problem>| {
        faults.extend(found.map(|problem| problem.at(path)));
    };
    if let SinkConnector::Kafka(kafka) = &sink.connector {
        if let Some(key) = &kafka.key {
            add(at("kafka.key"), column_fault(key, schema, "a key", &KEYS));
        }
        for (index, field) in kafka.key_fields.iter().enumerate() {
            let path = at(&format!("kafka.keyFields[{index}]"));
            add(path, column_fault(field, schema, "a key", &[]));
        }
    }
    for (index, column) in sink.metadata.iter().enumerate() {
        let (what, types) = match column.to {
            WritableMetadata::Headers => ("headers", &[ColumnType::String]),
            WritableMetadata::Timestamp => ("the timestamp", &[ColumnType::Timestamp]),
        };
        let path = at(&format!("metadata[{index}].name"));
        add(path, column_fault(&column.name, schema, what, types));
    }
    if let Format::Json(json) = &sink.format {
        for (index, column) in json.json_columns.iter().enumerate() {
            let path = at(&format!("format.json.jsonColumns[{index}]"));
            let found = column_fault(column, schema, "JSON as text", &[ColumnType::String])
                .or_else(|| unwritten_fault(sink, column));
            add(path, found);
        }
    }
    // A column that is not there leaves too many for the value.
    if faults.is_empty() {
        faults.extend(value_fault(sink, schema).map(|problem| problem.at(at("format"))));
    }
    faults
}

/// Types of a column that is a key as it is.
const KEYS: [ColumnType; 4] = [
    ColumnType::String,
    ColumnType::Bytes,
    ColumnType::Int32,
    ColumnType::Int64,
];

struct Problem {
    message: String,
    help: String,
}

impl Problem {
    fn at(self, subject: String) -> Fault {
        Fault {
            code: ErrorCode::InvalidJob,
            subject,
            place: None,
            message: self.message,
            help: Some(self.help),
        }
    }
}

/// Whether a column is there and of one of these types; any, if there are none.
fn column_fault(
    column: &str,
    schema: &Schema,
    what: &str,
    allowed: &[ColumnType],
) -> Option<Problem> {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let Ok(field) = schema.field_with_name(column) else {
        let help = nearest(column, names()).map_or_else(
            || {
                let names: Vec<&str> = names().collect();
                format!("it has the columns {}", names.join(", "))
            },
            |name| format!("did you mean `{name}`?"),
        );
        return Some(Problem {
            message: format!("the sink's input has no column `{column}`"),
            help,
        });
    };
    let [first, ..] = allowed else {
        return None;
    };
    if allowed.iter().any(|one| one.arrow() == *field.data_type()) {
        return None;
    }
    Some(Problem {
        message: format!(
            "{what} is of type {}, but the column `{column}` is of type {}",
            alternatives(allowed),
            Type::name_of(field.data_type())
        ),
        help: format!("convert it in a transform: CAST({column} AS {first})"),
    })
}

fn alternatives(types: &[ColumnType]) -> String {
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    match types.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// Whether a column is written as JSON at all.
fn unwritten_fault(sink: &ValidSink, column: &str) -> Option<Problem> {
    let is_in_key = match &sink.connector {
        SinkConnector::Kafka(kafka) => kafka.key_fields.iter().any(|one| one == column),
        SinkConnector::Files(_) | SinkConnector::Print(_) | SinkConnector::Blackhole(_) => false,
    };
    if is_in_key || sink.is_in_value(column) {
        return None;
    }
    Some(Problem {
        message: format!("the column `{column}` is written as it is, beside the record's value"),
        help: "remove it from the list".to_owned(),
    })
}

/// What is left for the value must fit the format.
fn value_fault(sink: &ValidSink, schema: &Schema) -> Option<Problem> {
    if matches!(sink.connector, SinkConnector::Blackhole(_)) {
        return None;
    }
    let fields = schema.fields().iter();
    let value: Vec<&Field> = fields
        .filter(|field| sink.is_in_value(field.name()))
        .map(AsRef::as_ref)
        .collect();
    let names: Vec<&str> = value.iter().map(|field| field.name().as_str()).collect();
    match (&sink.format, value.as_slice()) {
        (_, []) => Some(Problem {
            message: "no column is left for the record's value".to_owned(),
            help: "let the input have one more, or leave the key's columns in the value".to_owned(),
        }),
        (Format::Json(_), _) => None,
        (Format::Raw(_), [only]) if is_raw(only.data_type()) => None,
        (Format::Raw(_), [only]) => Some(Problem {
            message: format!(
                "format raw writes a column of type string or bytes, but `{}` is of type {}",
                only.name(),
                Type::name_of(only.data_type())
            ),
            help: format!("convert it in a transform: CAST({} AS string)", only.name()),
        }),
        (Format::Raw(_), several) => Some(Problem {
            message: format!(
                "format raw writes exactly one column, and the sink is given {}: {}",
                several.len(),
                names.join(", ")
            ),
            help: format!(
                "choose one in a transform{}, or use `format: {{json: {{}}}}`",
                beside(&sink.connector)
            ),
        }),
    }
}

/// What else can be done with columns.
fn beside(connector: &SinkConnector) -> &'static str {
    match connector {
        SinkConnector::Kafka(KafkaSink { .. }) => {
            ", write others as key (`valueFieldsInclude: ExceptKey`) or `metadata`"
        }
        SinkConnector::Files(_) | SinkConnector::Print(_) | SinkConnector::Blackhole(_) => "",
    }
}

const fn is_raw(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::LargeUtf8
            | DataType::Utf8View
            | DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
    )
}
