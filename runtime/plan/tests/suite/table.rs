//! Expressions over small tables that a test writes as texts.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use millstream_operators::harness::batches;
use millstream_operators::sql::{Expression, SqlOperator};
use millstream_plan::{Computed, JobGraph, NodeKind};
use millstream_types::Batch;
use millstream_types::schema::arrow_schema;

use crate::jobs::{columns, job, node};

/// Columns and their values.
pub(crate) struct Table {
    columns: String,
    records: RecordBatch,
}

/// A table of columns as `name type, …` and rows of their values as texts; `NULL` is none.
pub(crate) fn table(described: &str, rows: &[&[&str]]) -> Table {
    let schema = arrow_schema(&columns(described));
    let values = schema.fields().iter().enumerate().map(|(index, field)| {
        let texts = rows
            .iter()
            .map(|row| Some(row[index]).filter(|text| *text != "NULL"));
        let texts: StringArray = texts.collect();
        read(&texts, field.data_type())
    });
    Table {
        columns: described.to_owned(),
        records: RecordBatch::try_new(Arc::clone(&schema), values.collect()).unwrap(),
    }
}

fn read(texts: &StringArray, data_type: &DataType) -> ArrayRef {
    let options = arrow_cast::CastOptions {
        safe: false,
        ..arrow_cast::CastOptions::default()
    };
    arrow_cast::cast_with_options(texts, data_type, &options).unwrap()
}

impl Table {
    pub(crate) fn plan(&self, select: &str) -> Result<JobGraph, String> {
        let job = job()
            .source("input", &self.columns)
            .transform("t", "input", select);
        job.sink("out", "t")
            .plan()
            .map_err(|error| error.to_string())
    }

    /// What a transform makes of the records that lie in `ranges`, batch by batch.
    fn run(&self, select: &str, ranges: &[std::ops::Range<usize>]) -> Result<Vec<String>, String> {
        let graph = self.plan(select)?;
        let (source, transform) = (node(&graph, "input"), node(&graph, "t"));
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
        let (filter, projection) = {
            let select = &sql.selects[0];
            (expressions(&select.filter), expressions(&select.projection))
        };
        let schema = Arc::clone(&transform.schema);
        let mut operator = SqlOperator::new("t".into(), filter, projection, schema).unwrap();
        let all = self.records.schema();
        let read: Vec<usize> = source
            .schema
            .fields()
            .iter()
            .map(|field| all.index_of(field.name()).unwrap())
            .collect();
        let records = self.records.project(&read).unwrap();
        let mut out = Vec::new();
        for range in ranges {
            let given = Batch::new(records.slice(range.start, range.len()));
            let made = batches(&mut operator, [given]).map_err(|failure| failure.message)?;
            out.extend(
                made.into_iter()
                    .flat_map(|batch| shown(&batch.into_records())),
            );
        }
        Ok(out)
    }

    /// What a transform makes of all records in one batch.
    pub(crate) fn all(&self, select: &str) -> Result<Vec<String>, String> {
        let everything = 0..self.records.num_rows();
        self.run(select, &[everything])
    }

    /// The values of an expression, all records in one batch.
    pub(crate) fn values(&self, expression: &str) -> Result<Vec<String>, String> {
        self.all(&format!("SELECT {expression} AS x FROM input"))
    }

    /// The values of an expression, joined by spaces, or why there are none.
    pub(crate) fn shown(&self, expression: &str) -> String {
        self.values(expression)
            .map_or_else(|error| error, |values| values.join(" "))
    }
}

/// The values of the first column.
pub(crate) fn shown(records: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::new().with_null("NULL");
    let column = records.column(0);
    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
    (0..column.len())
        .map(|row| formatter.value(row).to_string())
        .collect()
}

/// The value of an expression without columns.
pub(crate) fn constant(expression: &str) -> String {
    table("one int64", &[&["1"]]).shown(expression)
}

/// The fault of an expression that must be refused when it is planned.
pub(crate) fn fault(columns: &str, expression: &str) -> String {
    match table(columns, &[]).plan(&format!("SELECT {expression} AS x FROM input")) {
        Ok(_) => panic!("`{expression}` must be refused"),
        Err(error) => error,
    }
}
