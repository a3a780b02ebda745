//! Planned transforms at work on records.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use millstream_operators::harness::batches;
use millstream_operators::sql::{Expression, SqlOperator};
use millstream_plan::NodeKind;
use millstream_types::schema::arrow_schema;
use millstream_types::{Batch, ErrorCode};
use proptest::prelude::*;

use crate::jobs::{columns, job, node};

const COLUMNS: &str = "a int64, b int64, s string";

/// A transform of one input, ready to run.
struct Planned {
    operator: SqlOperator,
    read: Vec<usize>,
}

fn planned(sql: &str) -> Planned {
    let job = job().source("input", COLUMNS).transform("t", "input", sql);
    let graph = job.sink("out", "t").graph();
    let (source, transform) = (node(&graph, "input"), node(&graph, "t"));
    let NodeKind::Sql(bound) = &transform.kind else {
        panic!("`t` is a transform")
    };
    let all = arrow_schema(&columns(COLUMNS));
    let read = source.schema.fields().iter();
    let read = read.map(|field| all.index_of(field.name()).unwrap());
    let expressions = |computed: &[millstream_plan::Computed]| {
        let expression = |computed: &millstream_plan::Computed| Expression {
            compute: Arc::clone(&computed.expression),
            text: computed.text.clone(),
        };
        computed.iter().map(expression).collect::<Vec<_>>()
    };
    let (filter, projection) = {
        let select = &bound.selects[0];
        (expressions(&select.filter), expressions(&select.projection))
    };
    let schema = Arc::clone(&transform.schema);
    Planned {
        read: read.collect(),
        operator: SqlOperator::new("t".into(), filter, projection, schema).unwrap(),
    }
}

impl Planned {
    /// What it makes of records, or the failure's message.
    fn run(&mut self, records: &RecordBatch) -> Result<Option<RecordBatch>, String> {
        let given = records.project(&self.read);
        let given = given.map_err(|error| error.to_string())?;
        match batches(&mut self.operator, [Batch::new(given)]) {
            Ok(mut out) => Ok(out.pop().map(Batch::into_records)),
            Err(failure) => {
                assert_eq!(failure.code, ErrorCode::ExpressionFailed);
                Err(failure.message)
            }
        }
    }
}

fn run(sql: &str, records: &RecordBatch) -> Result<Option<RecordBatch>, String> {
    planned(sql).run(records)
}

fn records(rows: &[(i64, i64, &str)]) -> RecordBatch {
    let values: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.1))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2))),
    ];
    RecordBatch::try_new(arrow_schema(&columns(COLUMNS)), values).unwrap()
}

fn numbers(records: &RecordBatch) -> Vec<Option<i64>> {
    records
        .column(0)
        .as_primitive::<Int64Type>()
        .iter()
        .collect()
}

#[test]
fn a_filter_and_a_projection_work_together() {
    let given = records(&[(6, 3, "x"), (1, 0, "y"), (8, 2, "z")]);
    let out = run(
        "SELECT a / b AS q, upper(s) AS s FROM input WHERE b <> 0",
        &given,
    );
    let out = out.unwrap().unwrap();
    assert_eq!(numbers(&out), [Some(2), Some(4)]);
    let texts: Vec<_> = out.column(1).as_string::<i32>().iter().flatten().collect();
    assert_eq!(texts, ["X", "Z"]);
    assert_eq!(
        run("SELECT a FROM input WHERE a > 10", &given).unwrap(),
        None
    );
}

#[test]
fn failures_speak_of_the_columns_types() {
    let given = records(&[(1, 1, "12"), (7, 0, "n/a")]);
    assert_eq!(
        run("SELECT CAST(s AS int64) AS n FROM input", &given).unwrap_err(),
        "node `t`, column `n`: `CAST(s AS int64)` failed: 'n/a' is not an int64; the first such \
         record has s = 'n/a'"
    );
    assert_eq!(
        run("SELECT b FROM input WHERE a % b = 0", &given).unwrap_err(),
        "node `t`, WHERE: `a % b = 0` failed: division by zero; the first such record has a = 7, b = 0"
    );
}

#[test]
fn what_cannot_be_a_number_is_null_with_try_cast() {
    let given = records(&[(1, 1, "1e3"), (2, 1, "n/a")]);
    let out = run("SELECT TRY_CAST(s AS float64) AS x FROM input", &given);
    let out = out.unwrap().unwrap();
    let found: Vec<_> = out.column(0).as_primitive::<Float64Type>().iter().collect();
    assert_eq!(found, [Some(1000.0), None]);
}

/// Divisions that a condition keeps from records whose `b` is 0.
const GUARDED: [&str; 9] = [
    "SELECT a / b AS q FROM input WHERE b <> 0",
    "SELECT a FROM input WHERE b <> 0 AND a / b > 1",
    "SELECT a FROM input WHERE b = 0 OR a / b > 1",
    "SELECT a FROM input WHERE NOT (b = 0 OR a / b > 1)",
    "SELECT CASE WHEN b <> 0 THEN a / b END AS q FROM input",
    "SELECT CASE WHEN b = 0 THEN -1 WHEN a / b > 1 THEN 1 ELSE a / b END AS q FROM input",
    "SELECT CASE b WHEN 0 THEN 0 ELSE a / b END AS q FROM input",
    "SELECT a / nullif(b, 0) AS q FROM input",
    "SELECT coalesce(nullif(b, 0) + a, a / (b + 1)) AS q FROM input",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn guarded_divisions_never_fail_and_ignore_their_neighbours(
        rows in prop::collection::vec((0_i64..9, 0_i64..3), 1..40),
        which in 0..GUARDED.len(),
    ) {
        let sql = GUARDED[which];
        let rows: Vec<_> = rows.iter().map(|(a, b)| (*a, *b, "")).collect();
        let given = records(&rows);
        let mut planned = planned(sql);
        let mut alone = Vec::new();
        for row in 0..rows.len() {
            let out = planned.run(&given.slice(row, 1)).unwrap();
            alone.extend(out.iter().flat_map(numbers));
        }
        let together = planned.run(&given).unwrap();
        prop_assert_eq!(together.as_ref().map(numbers).unwrap_or_default(), alone);
    }
}
