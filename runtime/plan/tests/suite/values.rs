//! What expressions give: their types when planned, and their values.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array,
    Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::Schema;
use millstream_plan::{Fault, NodeKind};
use millstream_types::schema::{UTC, arrow_schema};

use crate::expected::expect;
use crate::jobs::{ORDERS, columns, described, node, one};

const PAYLOAD: &str =
    r#"{"id": 7, "who": {"name": "Ada", "tags": ["x", "y"]}, "ok": true, "w": 1.5}"#;

/// Two orders: one with every column, one with nothing but its id.
fn orders() -> RecordBatch {
    let date = 19_782; // 2024-02-29
    let instant = i64::from(date) * 86_400_000_000 + 86_399_123_456;
    let values: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["o-1", "o-2"])),
        Arc::new(StringArray::from(vec![Some("Ada"), None])),
        Arc::new(Int64Array::from(vec![Some(3), None])),
        Arc::new(
            Decimal128Array::from(vec![Some(1_250), None])
                .with_precision_and_scale(12, 2)
                .unwrap(),
        ),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(instant), None]).with_timezone(UTC)),
        Arc::new(BooleanArray::from(vec![Some(true), None])),
        Arc::new(Float64Array::from(vec![Some(0.5), None])),
        Arc::new(Date32Array::from(vec![Some(date), None])),
        Arc::new(StringArray::from(vec![Some(PAYLOAD), None])),
        Arc::new(BinaryArray::from(vec![Some(b"abc".as_slice()), None])),
        Arc::new(Int32Array::from(vec![Some(7), None])),
    ];
    RecordBatch::try_new(arrow_schema(&columns(ORDERS)), values).unwrap()
}

/// Where a fault is, and what it says.
fn message(fault: &Fault) -> String {
    let place = fault.place.as_ref().unwrap();
    let meant = place.text.chars().skip(place.column - 1).take(place.width);
    format!("`{}`: {}", meant.collect::<String>(), fault.message)
}

/// `type: value of the first order, value of the second`.
fn value(expression: &str) -> String {
    let graph = match one(&format!("SELECT {expression} AS x FROM orders")).plan() {
        Ok(graph) => graph,
        Err(error) => return message(&error.faults()[0]),
    };
    let read: Vec<usize> = node(&graph, "orders")
        .schema
        .fields()
        .iter()
        .map(|field| orders().schema().index_of(field.name()).unwrap())
        .collect();
    let transform = node(&graph, "t");
    let NodeKind::Sql(sql) = &transform.kind else {
        panic!("`t` is a transform")
    };
    let column_type = described(&transform.schema);
    let column_type = column_type.strip_prefix("x ").unwrap();
    let values = sql.selects[0].projection[0]
        .expression
        .evaluate(&orders().project(&read).unwrap())
        .and_then(|value| value.into_array(2));
    let values = match values {
        Ok(values) => values,
        Err(error) => {
            let text = error.to_string();
            return format!("{column_type}: {}", text.lines().next().unwrap());
        }
    };
    let schema: Arc<Schema> = Arc::clone(&transform.schema);
    RecordBatch::try_new(schema, vec![Arc::clone(&values)]).unwrap();
    let options = FormatOptions::new().with_null("NULL");
    let shown = ArrayFormatter::try_new(values.as_ref(), &options).unwrap();
    let shown: Vec<String> = (0..values.len())
        .map(|row| shown.value(row).to_string())
        .collect();
    format!("{column_type}: {}", shown.join(", "))
}

/// Every line of the file is `expression => type: values`, or `expression => fault`.
#[test]
fn every_expression_gives_its_type_and_values() {
    let file = include_str!("../expected/values.txt");
    let lines = file.lines().map(|line| match line.split_once(" => ") {
        Some((expression, _)) => format!("{expression} => {}\n", value(expression)),
        None => format!("{line}\n"),
    });
    let actual: String = lines.collect();
    assert!(actual.matches(" => ").count() > 200);
    expect("values.txt", &actual);
}

#[test]
fn times_are_compared_in_microseconds_so_that_far_ones_fit() {
    for condition in [
        "ts > '2024-01-01'",
        "ts > TIMESTAMP '2024-01-01T00:00:00Z'",
        "ts > to_timestamp('2024-01-01T00:00:00Z')",
        "ts > CAST(day AS timestamp) + INTERVAL '1 day'",
        "date_trunc('year', ts) > '2024-01-01'",
        "ts = day",
        "ts > to_timestamp_millis(quantity)",
    ] {
        let graph = one(&format!("SELECT 1 AS x FROM orders WHERE {condition}")).graph();
        let text = millstream_plan::explain::dot(&graph);
        assert!(!text.contains("ns"), "{condition}: {text}");
    }
}
