//! SQL transforms: filter and projection over columns.
//!
//! The expressions are planned elsewhere. Here they meet values, and only values can make them
//! fail: a division by zero, an overflow, a cast that does not fit. Such a failure names the
//! first record that it happened on.
//!
//! What an expression gives for a record does not depend on the records beside it. A batch is
//! evaluated as a whole, which may compute a part of an expression for records that, alone, would
//! not need it (`b <> 0 AND a / b > 1`); where that fails, the records are evaluated in ever
//! smaller groups ([`evaluate`]), so that only a record that fails by itself is a failure.

mod evaluate;
mod filter;
mod union;

use std::fmt;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;
use millstream_types::{Batch, ErrorCode, ErrorKind, Failure, OperatorUid};

use crate::{Context, InputIndex, Operator, Result};

pub use union::SqlUnion;

use evaluate::Evaluator;
use filter::Filter;

/// `SELECT projection FROM input WHERE filter`.
///
/// The projection is computed for the records that the filter keeps, so it never sees the others.
#[derive(Debug)]
pub struct SqlOperator {
    uid: OperatorUid,
    filter: Filter,
    /// Columns of the input that the projection reads, in order; the projection's column numbers
    /// count these.
    kept: Vec<usize>,
    projection: Vec<Output>,
    schema: SchemaRef,
}

/// An expression, and what messages call it.
#[derive(Debug, Clone)]
pub struct Expression {
    /// Computes it from the columns of the input.
    pub compute: Arc<dyn PhysicalExpr>,
    /// As the user has written it.
    pub text: String,
}

impl From<Arc<dyn PhysicalExpr>> for Expression {
    /// An expression that nobody has written is called what it computes.
    fn from(compute: Arc<dyn PhysicalExpr>) -> Self {
        let text = Sql(compute.as_ref()).to_string();
        Self { compute, text }
    }
}

/// Writes an expression as SQL.
struct Sql<'a>(&'a dyn PhysicalExpr);

impl fmt::Display for Sql<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// How one output column is made.
#[derive(Debug)]
enum Output {
    /// It is a kept column.
    Kept(usize),
    /// It is computed from the kept columns.
    Computed(Evaluator),
}

impl SqlOperator {
    /// The operator of node `uid`.
    ///
    /// `filter` keeps the records for which all its conditions are true. `projection` has one
    /// expression per column of `schema`, of that column's type. Both are over the columns of the
    /// input.
    ///
    /// # Errors
    /// There are more or fewer expressions than columns.
    pub fn new(
        uid: OperatorUid,
        filter: Vec<Expression>,
        projection: Vec<Expression>,
        schema: SchemaRef,
    ) -> Result<Self> {
        if projection.len() != schema.fields().len() {
            let (expressions, columns) = (projection.len(), schema.fields().len());
            return Err(internal(
                &uid,
                &format!("{expressions} expressions for {columns} columns"),
            ));
        }
        let mut kept: Vec<usize> = projection
            .iter()
            .flat_map(|output| collect_columns(&output.compute))
            .map(|column| column.index())
            .collect();
        kept.sort_unstable();
        kept.dedup();
        let outputs = projection
            .into_iter()
            .zip(schema.fields())
            .map(|(expression, field)| {
                let subject = format!("node `{uid}`, column `{}`", field.name());
                output(expression, &kept, subject, field.data_type().clone())
            })
            .collect::<datafusion_common::Result<Vec<_>>>()
            .map_err(|error| internal(&uid, &error.to_string()))?;
        Ok(Self {
            filter: Filter::new(filter, &format!("node `{uid}`, WHERE")),
            uid,
            kept,
            projection: outputs,
            schema,
        })
    }

    fn project(&self, records: &RecordBatch) -> Result<RecordBatch> {
        let rows = records.num_rows();
        let columns = self
            .projection
            .iter()
            .map(|output| match output {
                Output::Kept(index) => Ok(Arc::clone(records.column(*index))),
                Output::Computed(evaluator) => evaluator.array(records),
            })
            .collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| internal(&self.uid, &error.to_string()))
    }
}

impl Operator for SqlOperator {
    fn on_batch(&mut self, _: InputIndex, batch: &Batch, cx: &mut Context) -> Result<()> {
        let Some(records) = self.filter.apply(batch.records(), &self.kept)? else {
            return Ok(());
        };
        cx.emit(self.project(&records)?.into());
        Ok(())
    }
}

fn output(
    Expression { compute, text }: Expression,
    kept: &[usize],
    subject: String,
    data_type: arrow_schema::DataType,
) -> datafusion_common::Result<Output> {
    let position = |column: &Column| kept.binary_search(&column.index()).unwrap_or_default();
    if let Some(column) = compute.downcast_ref::<Column>() {
        return Ok(Output::Kept(position(column)));
    }
    let over_kept = compute.transform_up(|node| {
        let Some(column) = node.downcast_ref::<Column>() else {
            return Ok(Transformed::no(node));
        };
        let column = Column::new(column.name(), position(column));
        Ok(Transformed::yes(Arc::new(column) as Arc<dyn PhysicalExpr>))
    })?;
    let expression = Expression {
        compute: over_kept.data,
        text,
    };
    Ok(Output::Computed(Evaluator::new(
        expression, subject, data_type,
    )))
}

/// A break of what the planner has promised.
fn internal(uid: &OperatorUid, message: &str) -> Failure {
    Failure::new(
        ErrorCode::ExpressionFailed,
        ErrorKind::Internal,
        format!("node `{uid}`: {message}"),
    )
}
