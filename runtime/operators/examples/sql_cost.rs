//! What a SQL transform costs per record: filter and projection of orders, in nanoseconds.
//!
//! `cargo run --release -p millstream-operators --example sql_cost`

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    ArrayRef, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion_expr::Operator as Op;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, cast, col, lit};
use millstream_operators::sql::{self, SqlOperator};
use millstream_operators::{Context, InputIndex, Operator};
use millstream_types::Batch;
use millstream_types::schema::UTC;

const ROWS: i64 = 4_096;
const BATCHES: u32 = 2_000;
const ROUNDS: usize = 5;

type Expression = Arc<dyn PhysicalExpr>;
type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let batch = orders()?;
    let mut out = std::io::stdout().lock();
    for (name, mut operator) in [
        ("columns only", columns(&batch.schema())?),
        ("filter", filter(&batch.schema())?),
        ("filter, decimal product", product(&batch.schema())?),
    ] {
        let nanos = cheapest(&mut operator, &batch)?;
        writeln!(out, "{name}: {nanos:.1} ns per record")?;
    }
    Ok(())
}

/// The fastest of several rounds: what the machine's other work disturbed least.
fn cheapest(operator: &mut SqlOperator, batch: &Batch) -> Fallible<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let mut cx = Context::default();
        let mut rows = 0;
        let start = Instant::now();
        for _ in 0..BATCHES {
            operator.on_batch(InputIndex(0), batch, &mut cx)?;
            rows += cx.take().iter().map(Batch::rows).sum::<usize>();
        }
        let nanos = start.elapsed().as_nanos() as f64;
        assert!(rows > 0, "nothing came out");
        best = best.min(nanos / (ROWS as f64 * f64::from(BATCHES)));
    }
    Ok(best)
}

/// Orders of which one in ten has no quantity.
fn orders() -> Fallible<Batch> {
    let numbers = 0..ROWS;
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "order_id",
            Arc::new(StringArray::from_iter_values(
                numbers.clone().map(|i| format!("order-{i:08}")),
            )),
        ),
        (
            "customer_id",
            Arc::new(StringArray::from_iter_values(
                numbers.clone().map(|i| format!("customer-{:05}", i % 997)),
            )),
        ),
        (
            "quantity",
            Arc::new(Int64Array::from_iter_values(
                numbers.clone().map(|i| i % 10),
            )),
        ),
        (
            "price",
            Arc::new(
                Decimal128Array::from_iter_values(
                    numbers.clone().map(|i| i128::from(i * 37 % 10_000 + 1)),
                )
                .with_precision_and_scale(12, 2)?,
            ),
        ),
        (
            "ts",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(numbers.map(|i| i * 1_000))
                    .with_timezone(UTC),
            ),
        ),
    ];
    Ok(Batch::new(RecordBatch::try_from_iter(columns)?))
}

/// `quantity > 0 AND price > 0`
fn valid(schema: &SchemaRef) -> Fallible<Vec<sql::Expression>> {
    let zero = datafusion_common::ScalarValue::Decimal128(Some(0), 12, 2);
    let quantity = BinaryExpr::new(col("quantity", schema)?, Op::Gt, lit(0_i64));
    let price = BinaryExpr::new(col("price", schema)?, Op::Gt, lit(zero));
    let conditions: [Expression; 2] = [Arc::new(quantity), Arc::new(price)];
    Ok(conditions.into_iter().map(Into::into).collect())
}

fn all(schema: &SchemaRef) -> Fallible<Vec<sql::Expression>> {
    let fields = schema.fields().iter();
    let columns = fields.map(|field| Ok(col(field.name(), schema)?.into()));
    columns.collect()
}

fn columns(schema: &SchemaRef) -> Fallible<SqlOperator> {
    let operator = SqlOperator::new("t".into(), vec![], all(schema)?, Arc::clone(schema));
    Ok(operator?)
}

fn filter(schema: &SchemaRef) -> Fallible<SqlOperator> {
    let filter = valid(schema)?;
    let operator = SqlOperator::new("t".into(), filter, all(schema)?, Arc::clone(schema));
    Ok(operator?)
}

/// `SELECT *, quantity * price AS total … WHERE quantity > 0 AND price > 0`
fn product(schema: &SchemaRef) -> Fallible<SqlOperator> {
    let wide = DataType::Decimal128(20, 0);
    let quantity = cast(col("quantity", schema)?, schema, wide)?;
    let total = BinaryExpr::new(quantity, Op::Multiply, col("price", schema)?);
    let mut projection = all(schema)?;
    let total: Expression = Arc::new(total.with_fail_on_overflow(true));
    projection.push(total.into());
    let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    fields.push(Field::new("total", DataType::Decimal128(33, 2), true));
    let filter = valid(schema)?;
    let schema = Arc::new(Schema::new(fields));
    Ok(SqlOperator::new("t".into(), filter, projection, schema)?)
}
