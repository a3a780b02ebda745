//! Whether a sink can write the columns that it is given.

use arrow_schema::{DataType, Field, Schema};
use millstream_spec::connector::{KafkaPartitioner, KafkaSink, PostgresMode, PostgresSink};
use millstream_spec::valid::SinkConnector;
use millstream_spec::{Format, ValidSink, WritableMetadata};
use millstream_types::ErrorCode;
use millstream_types::schema::ColumnType;

use crate::changes::{Stream, Updates, listed};
use crate::error::{Fault, nearest};
use crate::semantics::types::Type;

/// What is wrong with a sink, the `index`th of the job, whose input has these columns, and `updates` or
/// only appends.
pub(crate) fn faults(index: usize, sink: &ValidSink, schema: &Schema, updates: bool) -> Vec<Fault> {
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
    if let SinkConnector::Postgres(postgres) = &sink.connector {
        for (index, field) in postgres.key_fields.iter().enumerate() {
            let path = at(&format!("postgres.keyFields[{index}]"));
            add(path, column_fault(field, schema, "a key", &[]));
        }
        if let Some(version) = &postgres.version_field {
            let found = column_fault(version, schema, "a version", &VERSIONS);
            add(at("postgres.versionField"), found);
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
        let spread = (!updates).then(|| spread_fault(sink)).flatten();
        faults.extend(spread.map(|problem| problem.at(at("partitionBy"))));
    }
    faults
}

/// What is wrong with a sink whose inputs update: it must take updates, and by their key.
pub(crate) fn update_faults(index: usize, sink: &ValidSink, inputs: &[Stream]) -> Vec<Fault> {
    let at = |key: &str| format!("spec.dataflow.sinks[{index}].{key}");
    let mut updating = inputs.iter().filter_map(|input| input.updates.as_ref());
    let Some(updates) = updating.next() else {
        return Vec::new();
    };
    let by = &updates.by;
    let several = inputs.len() > 1;
    let all = updating.count() + 1 == inputs.len();
    let inputs = if several { "inputs" } else { "input" };
    let (path, problem) = match &sink.connector {
        SinkConnector::Print(_) | SinkConnector::Blackhole(_) if all => return Vec::new(),
        SinkConnector::Kafka(kafka)
            if !several && kafka.has_key() && kafka.partitioner == KafkaPartitioner::Random =>
        {
            let message = format!(
                "`{by}` updates its rows, and a partition that is chosen at random for every record \
                 gives those of one key no order"
            );
            let help = "remove `partitioner`".to_owned();
            ("kafka.partitioner", Problem { message, help })
        }
        SinkConnector::Kafka(kafka) if !several => {
            let own: Vec<String> = kafka.key.iter().chain(&kafka.key_fields).cloned().collect();
            match key_problem("topic", &own, updates) {
                Some(problem) => ("kafka", problem),
                None => return Vec::new(),
            }
        }
        SinkConnector::Files(_) => ("input", only_appends(by, "a sink of files", updates)),
        SinkConnector::Custom(_) => ("input", only_appends(by, "a custom sink", updates)),
        SinkConnector::Postgres(postgres) if postgres.mode != PostgresMode::Upsert => (
            "postgres.mode",
            Problem {
                message: format!(
                    "`{by}` updates its rows as records come (its SQL groups them), but in this mode every \
                     row of the table is new"
                ),
                help: "write updates with `mode: Upsert`".to_owned(),
            },
        ),
        SinkConnector::Postgres(postgres) if !several => {
            match key_problem("table", &postgres.key_fields, updates) {
                Some(problem) => ("postgres.keyFields", problem),
                None => return Vec::new(),
            }
        }
        _ => (
            inputs,
            Problem {
                message: format!(
                    "`{by}` updates its rows, and the sink has other inputs beside it: updates of one \
                     would be mixed with rows of another"
                ),
                help: "give each a sink of its own, or bring them together with UNION ALL"
                    .to_owned(),
            },
        ),
    };
    let path = if path == "input" { inputs } else { path };
    vec![problem.at(at(path))]
}

/// What is said of a sink that cannot take a row back.
fn only_appends(by: &str, sink: &str, updates: &Updates) -> Problem {
    let key = match updates.key.as_deref() {
        Some([only]) => format!("`key: {only}`"),
        Some(several) if !several.is_empty() => format!("`keyFields: [{}]`", several.join(", ")),
        _ => "the columns of GROUP BY as its key".to_owned(),
    };
    Problem {
        message: format!(
            "`{by}` updates its rows as records come (its SQL groups them), but {sink} only appends"
        ),
        help: format!(
            "write updates to a Kafka topic with {key}, where the newest row of a key counts"
        ),
    }
}

/// Whether the key of a topic or table tells the rows of a stream apart.
fn key_problem(whose: &str, own: &[String], updates: &Updates) -> Option<Problem> {
    let by = &updates.by;
    if own.is_empty() {
        return Some(only_appends(by, "a topic without `key`", updates));
    }
    let Some(key) = &updates.key else {
        return Some(Problem {
            message: format!(
                "the {whose}'s key is {}, but no columns tell the rows that `{by}` updates apart on \
                 their way to the sink",
                listed(own)
            ),
            help: format!(
                "keep all columns of `{by}`'s GROUP BY as they are, and do not bring its rows together \
                 with others"
            ),
        });
    };
    let same = own.len() == key.len() && own.iter().all(|column| key.contains(column));
    if same {
        return None;
    }
    let (is, help) = match key.as_slice() {
        [] => (
            "there is only one row".to_owned(),
            "group by a constant to have a key: SELECT 'all' AS k, … GROUP BY k".to_owned(),
        ),
        [only] if whose == "topic" => (
            format!("{} tells them apart", listed(key)),
            format!("write `key: {only}`"),
        ),
        [only] => (
            format!("{} tells them apart", listed(key)),
            format!("write `keyFields: [{only}]`"),
        ),
        several => (
            format!("{} tell them apart", listed(key)),
            format!("write `keyFields: [{}]`", several.join(", ")),
        ),
    };
    Some(Problem {
        message: format!(
            "the {whose}'s key is {}, but `{by}` updates its rows, and {is}: rows would replace others, \
             or stay although they are gone",
            listed(own)
        ),
        help,
    })
}

/// Types of a column that is a key as it is.
const KEYS: [ColumnType; 4] = [
    ColumnType::String,
    ColumnType::Bytes,
    ColumnType::Int32,
    ColumnType::Int64,
];

/// Types of a column by which a row is newer than another.
const VERSIONS: [ColumnType; 4] = [
    ColumnType::Int64,
    ColumnType::Int32,
    ColumnType::Timestamp,
    ColumnType::Date,
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
        SinkConnector::Files(_)
        | SinkConnector::Postgres(_)
        | SinkConnector::Custom(_)
        | SinkConnector::Print(_)
        | SinkConnector::Blackhole(_) => false,
    };
    if is_in_key || sink.is_in_value(column) {
        return None;
    }
    Some(Problem {
        message: format!("the column `{column}` is written as it is, beside the record's value"),
        help: "remove it from the list".to_owned(),
    })
}

/// Rows of one key must not overtake each other where the last one stays. Those of a stream that updates
/// are kept in order by its key.
fn spread_fault(sink: &ValidSink) -> Option<Problem> {
    let SinkConnector::Postgres(PostgresSink {
        mode: PostgresMode::Upsert,
        version_field: None,
        key_fields,
        ..
    }) = &sink.connector
    else {
        return None;
    };
    let by = &sink.partition_by;
    let in_order = !by.is_empty() && by.iter().all(|column| key_fields.contains(column));
    (!in_order).then(|| Problem {
        message:
            "without `versionField` the row of a key that comes last stays in the table, and rows \
                  of one key may come from several subtasks, in any order"
                .to_owned(),
        help: format!(
            "write `partitionBy: [{}]`, or name a `versionField`",
            key_fields.join(", ")
        ),
    })
}

/// What is left for the value must fit the format.
fn value_fault(sink: &ValidSink, schema: &Schema) -> Option<Problem> {
    if !sink.writes_bytes() {
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
        SinkConnector::Files(_)
        | SinkConnector::Postgres(_)
        | SinkConnector::Custom(_)
        | SinkConnector::Print(_)
        | SinkConnector::Blackhole(_) => "",
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
