//! One transform's SQL, bound to the columns of its input.
//!
//! [`parse`] cuts the text, which [`dialect`] and [`nesting`] bound, into select items and a
//! filter, and refuses the [`clauses`] that a transform cannot have; [`names`] checks every column
//! and function against the input, and [`items`] lists the output columns; [`bind`] gives every
//! [`expression`] its meaning, which [`semantics`](crate::semantics) decides. A fault of any step
//! names its [`place`] in the text, and what fails on a record is shown as it is [`written`].

pub(crate) mod bind;
pub(crate) mod clauses;
pub(crate) mod constant;
pub(crate) mod dialect;
pub(crate) mod expression;
pub(crate) mod input;
pub(crate) mod items;
pub(crate) mod names;
pub(crate) mod nesting;
pub(crate) mod parse;
pub(crate) mod place;
pub(crate) mod spelling;
pub(crate) mod written;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::utils::collect_columns;
use millstream_spec::ValidTransform;

use crate::error::Fault;
use crate::functions::Functions;

/// A transform with this many faults is not looked at further.
const MAX_FAULTS: usize = 50;

/// A transform whose expressions have types.
#[derive(Debug, Clone)]
pub(crate) struct BoundTransform {
    /// Rows for which one of them is not true are dropped.
    pub(crate) filter: Vec<Condition>,
    /// Its output columns.
    pub(crate) columns: Vec<BoundColumn>,
}

/// One of the conditions that WHERE connects with AND.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    /// How it is computed.
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    /// How it is written.
    pub(crate) text: String,
}

/// One output column of a transform.
#[derive(Debug, Clone)]
pub(crate) struct BoundColumn {
    /// Name, type and nullability.
    pub(crate) field: Field,
    /// How it is computed.
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    /// How it is written.
    pub(crate) text: String,
}

impl BoundTransform {
    /// The output columns.
    pub(crate) fn schema(&self) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().map(|c| c.field.clone()).collect();
        Schema::new(fields).into()
    }

    /// Keeps the output columns that are `needed`; the first one if none is, as a batch without
    /// columns has no place on an edge.
    pub(crate) fn keep(&mut self, needed: &BTreeSet<String>) {
        let used = |column: &BoundColumn| needed.contains(column.field.name());
        if self.columns.iter().any(used) {
            self.columns.retain(used);
        } else {
            self.columns.truncate(1);
        }
    }

    /// Columns of the input that its expressions read.
    pub(crate) fn reads(&self) -> BTreeSet<String> {
        let conditions = self.filter.iter().map(|condition| &condition.expr);
        let columns = self.columns.iter().map(|column| &column.expr);
        conditions
            .chain(columns)
            .flat_map(collect_columns)
            .map(|column| column.name().to_owned())
            .collect()
    }
}

/// Binds a transform to the columns of its input.
///
/// # Errors
/// Every fault of the transform.
pub(crate) fn bind_transform(
    functions: &Functions,
    transform: &ValidTransform,
    input: &SchemaRef,
) -> Result<BoundTransform, Vec<Fault>> {
    let subject = place::Subject::new(&transform.name, &transform.sql);
    let select = parse::parse(&subject, &transform.input).map_err(|fault| vec![fault])?;
    let scope = names::Scope::new(&subject, functions, &select, input);
    let binder = bind::Binder::new(&subject, functions, input);
    let mut faults = Vec::new();
    let items = scope.expand(select.items, &mut faults);
    let filter = select
        .filter
        .and_then(|ast| scope.resolve(ast, &mut faults))
        .and_then(|ast| binder.filter(&ast).map_err(|fault| faults.push(fault)).ok())
        .unwrap_or_default();
    let mut columns = Vec::with_capacity(items.len());
    for item in items {
        match binder.column(item) {
            Ok(column) => columns.push(column),
            Err(fault) if faults.len() < MAX_FAULTS => faults.push(fault),
            Err(_) => break,
        }
    }
    if faults.is_empty() {
        Ok(BoundTransform { filter, columns })
    } else {
        faults.sort_by_key(|fault| fault.place.as_ref().map(|place| (place.line, place.column)));
        Err(faults)
    }
}
