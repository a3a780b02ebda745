//! What a planned transform makes of records.

use std::fmt;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::DataType;
use millstream_operators::harness::batches;
use millstream_operators::sql::{Expression, SqlOperator};
use millstream_plan::{Computed, JobGraph, Node, NodeKind};
use millstream_types::Batch;
use millstream_types::schema::{Column, arrow_schema};

use crate::pools::{NAMES, Row};
use crate::templates::Template;

/// What an expression gives for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Null,
    Value(DataType, String),
    /// Refused by the planner, or failed on the record.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Value(_, text) => f.write_str(text),
            Self::Failed(message) => write!(f, "failed: {message}"),
        }
    }
}

fn columns(template: &Template) -> Vec<Column> {
    let mut columns: Vec<Column> = template
        .types
        .iter()
        .zip(NAMES)
        .map(|(kind, name)| column(name, kind.ours()))
        .collect();
    // An expression of constants still needs records.
    columns.push(column("row", "int64"));
    columns
}

fn column(name: &str, column_type: &str) -> Column {
    serde_json::from_value(serde_json::json!({"name": name, "type": column_type})).unwrap()
}

fn planned(template: &Template) -> Result<JobGraph, String> {
    let schema: Vec<String> = columns(template)
        .iter()
        .map(|column| {
            format!(
                "{{name: {}, type: \"{}\"}}",
                column.name, column.column_type
            )
        })
        .collect();
    let sql = serde_json::Value::from(format!("SELECT {} AS x FROM input", template.ours));
    let yaml = format!(
        "apiVersion: millstream.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: test}}\nspec:\n  \
         checkpoint: {{storage: \"file:///checkpoints\"}}\n  dataflow:\n    sources:\n    - {{name: \
         input, files: {{path: /in}}, schema: [{}]}}\n    transforms:\n    - {{name: t, input: \
         input, sql: {sql}}}\n    sinks:\n    - {{name: out, input: t, blackhole: {{}}}}\n",
        schema.join(", ")
    );
    let job = millstream_spec::read(&yaml, "test").map_err(|error| error.to_string())?;
    millstream_plan::plan(&job).map_err(|error| error.faults()[0].message.clone())
}

fn node<'a>(graph: &'a JobGraph, name: &str) -> &'a Node {
    graph
        .nodes
        .iter()
        .find(|node| node.uid.as_str() == name)
        .unwrap()
}

struct Running {
    operator: SqlOperator,
    records: RecordBatch,
    data_type: DataType,
}

fn running(template: &Template, rows: &[Row]) -> Result<Running, String> {
    let graph = planned(template)?;
    let transform = node(&graph, "t");
    let NodeKind::Sql(sql) = &transform.kind else {
        panic!("`t` is a transform")
    };
    let expressions = |computed: &[Computed]| {
        let expression = |computed: &Computed| Expression {
            compute: Arc::clone(&computed.expression),
            text: computed.text.clone(),
        };
        computed.iter().map(expression).collect::<Vec<_>>()
    };
    let schema = Arc::clone(&transform.schema);
    let data_type = schema.field(0).data_type().clone();
    let projection = expressions(&sql.selects[0].projection);
    let operator = SqlOperator::new("t".into(), vec![], projection, schema).unwrap();
    let all = records(template, rows);
    let read: Vec<usize> = node(&graph, "input")
        .schema
        .fields()
        .iter()
        .map(|field| all.schema().index_of(field.name()).unwrap())
        .collect();
    Ok(Running {
        operator,
        records: all.project(&read).unwrap(),
        data_type,
    })
}

fn records(template: &Template, rows: &[Row]) -> RecordBatch {
    let schema = arrow_schema(&columns(template));
    let values = schema.fields().iter().enumerate().map(|(index, field)| {
        let texts: StringArray = rows
            .iter()
            .enumerate()
            .map(|(number, row)| match row.get(index) {
                Some(value) => value.map(str::to_owned),
                None => Some(number.to_string()),
            })
            .collect();
        let options = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        cast_with_options(&texts, field.data_type(), &options).unwrap()
    });
    let values: Vec<ArrayRef> = values.collect();
    RecordBatch::try_new(schema, values).unwrap()
}

impl Running {
    fn run(&mut self, start: usize, length: usize) -> Result<Vec<Option<String>>, String> {
        let given = Batch::new(self.records.slice(start, length));
        let made = batches(&mut self.operator, [given]);
        let made = made.map_err(|failure| failure.message)?;
        let records = made.into_iter().next().unwrap().into_records();
        let options = FormatOptions::new();
        let column = records.column(0);
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
        let shown = (0..column.len()).map(|row| {
            column
                .is_valid(row)
                .then(|| formatter.value(row).to_string())
        });
        Ok(shown.collect())
    }
}

/// What each record gives, in a batch of its own.
pub(crate) fn outcomes(template: &Template, rows: &[Row]) -> Vec<Outcome> {
    let mut running = match running(template, rows) {
        Ok(running) => running,
        Err(message) => return vec![Outcome::Failed(message); rows.len()],
    };
    (0..rows.len())
        .map(|row| match running.run(row, 1) {
            Err(message) => Outcome::Failed(message),
            Ok(values) => match values.into_iter().next().unwrap() {
                None => Outcome::Null,
                Some(text) => Outcome::Value(running.data_type.clone(), text),
            },
        })
        .collect()
}

/// How many records each batch has, and their values or why it failed.
pub(crate) type Batched = Vec<(usize, Result<Vec<String>, String>)>;

/// What the records give in batches of `width`.
pub(crate) fn batched(template: &Template, rows: &[Row], width: usize) -> Batched {
    let Ok(mut running) = running(template, rows) else {
        return Vec::new();
    };
    let starts = (0..rows.len()).step_by(width.max(1));
    starts
        .map(|start| {
            let length = width.min(rows.len() - start);
            let values = running.run(start, length).map(|values| {
                let text = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
                values.into_iter().map(text).collect()
            });
            (length, values)
        })
        .collect()
}
