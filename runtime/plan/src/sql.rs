//! One transform's SQL, bound to the columns of its input.
//!
//! [`parse`] cuts the text, which [`dialect`] and [`nesting`] bound, into select items and a
//! filter, and refuses the [`clauses`] that a transform cannot have; [`names`] checks every column
//! and function against the input, and [`items`] lists the output columns; [`bind`] gives every
//! expression a type that a column can have ([`types`]) without a [`conversion`] that nobody asked
//! for; [`lower`] makes it executable. A fault of any step names its [`place`] in the text.

pub(crate) mod bind;
pub(crate) mod clauses;
pub(crate) mod conversion;
pub(crate) mod dialect;
pub(crate) mod input;
pub(crate) mod items;
pub(crate) mod lower;
pub(crate) mod names;
pub(crate) mod nesting;
pub(crate) mod parse;
pub(crate) mod place;
pub(crate) mod types;

use std::collections::BTreeSet;

use arrow_schema::{Field, Schema, SchemaRef};
use datafusion_expr::Expr;
use millstream_spec::ValidTransform;
use millstream_types::ErrorCode;

use crate::error::Fault;
use crate::functions::Functions;

/// A transform with this many faults is not looked at further.
const MAX_FAULTS: usize = 50;

/// A transform whose expressions have types.
#[derive(Debug, Clone)]
pub(crate) struct BoundTransform {
    /// Rows for which it is not true are dropped.
    pub(crate) filter: Option<Expr>,
    /// Its output columns.
    pub(crate) columns: Vec<BoundColumn>,
}

/// One output column of a transform.
#[derive(Debug, Clone)]
pub(crate) struct BoundColumn {
    /// Name, type and nullability.
    pub(crate) field: Field,
    /// How it is computed.
    pub(crate) expr: Expr,
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
        self.columns
            .iter()
            .map(|column| &column.expr)
            .chain(&self.filter)
            .flat_map(Expr::column_refs)
            .map(|column| column.name.clone())
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
    let binder = bind::Binder::new(&subject, functions, input)
        .map_err(|error| vec![subject.fault(ErrorCode::SqlDoesNotBind, None, error.to_string())])?;
    let mut faults = Vec::new();
    let items = scope.expand(select.items, &mut faults);
    let filter = select
        .filter
        .and_then(|ast| scope.resolve(ast, &mut faults))
        .and_then(|ast| binder.filter(&ast).map_err(|fault| faults.push(fault)).ok());
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
