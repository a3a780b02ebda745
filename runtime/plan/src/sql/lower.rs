//! From a typed expression to one that computes.

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, Schema};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{BinaryExpr as LogicalBinary, ColumnarValue, Expr, ExprSchemable, Operator};
use datafusion_physical_expr::expressions::BinaryExpr;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};

/// Makes an expression executable. Arithmetic fails on overflow instead of wrapping around.
///
/// # Errors
/// It names a column that `schema` does not have, or has no implementation.
pub(crate) fn lower(expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
    let physical = create_physical_expr(
        expr,
        schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )?;
    physical
        .transform_up(|node| {
            let Some(binary) = node.downcast_ref::<BinaryExpr>() else {
                return Ok(Transformed::no(node));
            };
            let checked = binary.clone().with_fail_on_overflow(true);
            Ok(Transformed::yes(Arc::new(checked) as Arc<dyn PhysicalExpr>))
        })
        .map(|transformed| transformed.data)
}

/// Computes what does not depend on a record, once.
///
/// # Errors
/// It cannot be computed, as `1 / 0`.
pub(crate) fn fold_constants(expr: Expr) -> Result<Expr> {
    expr.transform_down(|node| {
        if matches!(node, Expr::Literal(..) | Expr::Alias(_)) || !is_constant(&node) {
            return Ok(Transformed::no(node));
        }
        let value = evaluate(&node)?;
        Ok(Transformed::new(
            Expr::Literal(value, None),
            true,
            TreeNodeRecursion::Jump,
        ))
    })
    .map(|transformed| transformed.data)
}

fn is_constant(expr: &Expr) -> bool {
    !expr.any_column_refs() && !expr.is_volatile()
}

fn evaluate(expr: &Expr) -> Result<ScalarValue> {
    let physical = lower(expr, &DFSchema::empty())?;
    let one_row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    )?;
    match physical.evaluate(&one_row)? {
        ColumnarValue::Scalar(value) => Ok(value),
        ColumnarValue::Array(array) => ScalarValue::try_from_array(&array, 0),
    }
}

/// Writes `-x` of integers as `0 - x`, which fails where the result does not fit.
///
/// # Errors
/// A part of it has no type.
pub(crate) fn check_negation(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    expr.transform_up(|node| {
        let Expr::Negative(inner) = node else {
            return Ok(Transformed::no(node));
        };
        let zero = match inner.get_type(schema)? {
            DataType::Int8 => ScalarValue::Int8(Some(0)),
            DataType::Int16 => ScalarValue::Int16(Some(0)),
            DataType::Int32 => ScalarValue::Int32(Some(0)),
            DataType::Int64 => ScalarValue::Int64(Some(0)),
            _ => return Ok(Transformed::no(Expr::Negative(inner))),
        };
        let difference =
            LogicalBinary::new(Box::new(Expr::Literal(zero, None)), Operator::Minus, inner);
        Ok(Transformed::yes(Expr::BinaryExpr(difference)))
    })
    .map(|transformed| transformed.data)
}
