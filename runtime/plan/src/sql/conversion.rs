//! Conversions that nobody asked for.
//!
//! Coercion converts operands until they fit each other. Where that may fail on a record, or
//! gives a meaning that the text does not have, a transform must ask for it with CAST.

use arrow_schema::DataType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::Cast;
use datafusion_expr::{Expr, ExprSchemable};

/// From which type to which other.
pub(crate) type Conversion = (DataType, DataType);

/// A doubtful conversion that `coerced` has and `written` does not.
///
/// # Errors
/// A part of them has no type.
pub(crate) fn unasked(
    written: &Expr,
    coerced: &Expr,
    schema: &DFSchema,
) -> Result<Option<Conversion>> {
    let asked = doubtful_in(written, schema)?;
    let mut found = doubtful_in(coerced, schema)?;
    for conversion in asked {
        if let Some(same) = found.iter().position(|other| *other == conversion) {
            found.swap_remove(same);
        }
    }
    Ok(found.pop())
}

fn doubtful_in(expr: &Expr, schema: &DFSchema) -> Result<Vec<Conversion>> {
    let mut found = Vec::new();
    expr.apply(|node| {
        if let Expr::Cast(Cast { expr, field }) = node {
            // Constants are converted now, and if that fails it is a fault now.
            if !matches!(expr.as_ref(), Expr::Literal(..)) {
                let from = expr.get_type(schema)?;
                let to = field.data_type();
                if is_doubtful(&from, to) {
                    found.push((from, to.clone()));
                }
            }
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn is_doubtful(from: &DataType, to: &DataType) -> bool {
    let boolean = |data_type: &DataType| *data_type == DataType::Boolean;
    if from.is_null() || to.is_string() {
        return false;
    }
    from.is_string() || boolean(from) != boolean(to)
}
