//! One transform's SQL, bound to the columns of its inputs.
//!
//! [`derived`] takes a SELECT in FROM out. [`parse`] cuts the text, which [`dialect`] and [`nesting`] bound, into SELECTs of items and a
//! filter, and refuses the [`clauses`] that a transform cannot have; [`names`] checks every column
//! and function against the input, and [`items`] lists the output columns; [`bind`] gives every
//! [`expression`] its meaning, which [`semantics`](crate::semantics) decides; [`union`] brings the
//! columns of several SELECTs together. [`grouping`] divides a SELECT with GROUP BY, DISTINCT or
//! [`aggregates`] into what is computed of records and what of results, whose expressions have
//! [`canonical`] texts. A fault of any step names its [`place`] in the text, and
//! what fails on a record is shown as it is [`written`].

pub(crate) mod aggregates;
pub(crate) mod bind;
mod canonical;
pub(crate) mod clauses;
pub(crate) mod constant;
pub(crate) mod derived;
pub(crate) mod dialect;
pub(crate) mod expression;
mod grouping;
pub(crate) mod input;
pub(crate) mod items;
pub(crate) mod names;
pub(crate) mod nesting;
pub(crate) mod parse;
pub(crate) mod place;
pub(crate) mod spelling;
pub(crate) mod union;
pub(crate) mod written;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::utils::collect_columns;
use datafusion_sql::sqlparser::ast::Expr;
use millstream_types::aggregate::AggregateCall;

use crate::changes::Stream;
use crate::error::Fault;
use crate::functions::Functions;
use bind::Condition;
use names::Standing;

/// A transform with this many faults is not looked at further.
const MAX_FAULTS: usize = 50;

/// A transform whose expressions have types.
#[derive(Debug, Clone)]
pub(crate) struct BoundTransform {
    /// Its output columns.
    pub(crate) fields: Vec<Field>,
    /// What `UNION ALL` connects; one, if there is none. With an aggregation, it reads that one's
    /// results.
    pub(crate) selects: Vec<BoundSelect>,
    /// How records are grouped, if they are.
    pub(crate) aggregate: Option<BoundAggregate>,
}

/// What GROUP BY, DISTINCT and aggregates make of an input.
#[derive(Debug, Clone)]
pub(crate) struct BoundAggregate {
    /// Which of the transform's inputs it reads.
    pub(crate) input: usize,
    /// Rows for which one of them is not true are dropped.
    pub(crate) filter: Vec<BoundExpression>,
    /// What is computed of each row: the key first.
    pub(crate) columns: Vec<InputColumn>,
    /// How many of the columns are the key.
    pub(crate) keys: usize,
    /// What is computed of each group.
    pub(crate) calls: Vec<BoundCall>,
}

/// A column of what is aggregated.
#[derive(Debug, Clone)]
pub(crate) struct InputColumn {
    /// Its name, which is its expression, and its type.
    pub(crate) field: Field,
    /// How it is computed.
    pub(crate) expression: BoundExpression,
}

/// A call of an aggregate function.
#[derive(Debug, Clone)]
pub(crate) struct BoundCall {
    /// Its argument and filter are positions among the aggregation's columns.
    pub(crate) call: AggregateCall,
    /// Its result.
    pub(crate) field: Field,
    /// Type of its argument, if it has one.
    pub(crate) argument: Option<DataType>,
}

impl BoundAggregate {
    /// The key's columns.
    pub(crate) fn key(&self) -> impl Iterator<Item = &Field> {
        self.columns
            .iter()
            .take(self.keys)
            .map(|column| &column.field)
    }
}

/// One SELECT.
#[derive(Debug, Clone)]
pub(crate) struct BoundSelect {
    /// Which of the transform's inputs it reads.
    pub(crate) input: usize,
    /// Rows for which one of them is not true are dropped.
    pub(crate) filter: Vec<BoundExpression>,
    /// How each output column is computed.
    pub(crate) columns: Vec<BoundExpression>,
}

/// One of the conditions that WHERE connects with AND, or a column.
#[derive(Debug, Clone)]
pub(crate) struct BoundExpression {
    /// How it is computed.
    pub(crate) expr: Arc<dyn PhysicalExpr>,
    /// How it is written.
    pub(crate) text: String,
}

impl BoundTransform {
    /// The output columns.
    pub(crate) fn schema(&self) -> SchemaRef {
        Schema::new(self.fields.clone()).into()
    }

    /// Keeps the output columns that are `needed`; the first one if none is, as a batch without
    /// columns has no place on an edge.
    pub(crate) fn keep(&mut self, needed: &BTreeSet<String>) {
        let fields = self.fields.iter();
        let mut kept: Vec<bool> = fields.map(|field| needed.contains(field.name())).collect();
        if !kept.contains(&true)
            && let Some(first) = kept.first_mut()
        {
            *first = true;
        }
        retain(&mut self.fields, &kept);
        for select in &mut self.selects {
            retain(&mut select.columns, &kept);
        }
    }

    /// Columns of an input that its expressions read.
    pub(crate) fn reads(&self, input: usize) -> BTreeSet<String> {
        let of_aggregate = self.aggregate.iter();
        let of_aggregate = of_aggregate.filter(|aggregate| aggregate.input == input);
        let of_aggregate = of_aggregate.flat_map(|aggregate| {
            let columns = aggregate.columns.iter().map(|column| &column.expression);
            aggregate.filter.iter().chain(columns)
        });
        let selects = self.selects.iter();
        let selects = selects.filter(|select| self.aggregate.is_none() && select.input == input);
        selects
            .flat_map(|select| select.filter.iter().chain(&select.columns))
            .chain(of_aggregate)
            .flat_map(|expression| collect_columns(&expression.expr))
            .map(|column| column.name().to_owned())
            .collect()
    }
}

fn retain<T>(all: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    all.retain(|_| kept.next().copied().unwrap_or_default());
}

/// Binds a transform to the columns of its inputs.
///
/// # Errors
/// Every fault of the transform.
pub(crate) fn bind_transform(
    functions: &Functions,
    part: &derived::Part,
    inputs: &[Stream],
) -> Result<BoundTransform, Vec<Fault>> {
    let transform = &part.transform;
    let subject = place::Subject::new(&part.node, &part.text, &transform.sql);
    let selections = parse::parse(&subject, &transform.inputs).map_err(|fault| vec![fault])?;
    let mut faults = Vec::new();
    let mut selects = Vec::with_capacity(selections.len());
    for selection in selections {
        let Some(stream) = inputs.get(selection.input) else {
            continue;
        };
        selects.push(bind_select(
            &subject,
            functions,
            selection,
            stream,
            &mut faults,
        ));
    }
    if faults.is_empty() {
        let united = union::unite(&subject, selects);
        return united.map_err(|fault| vec![fault]);
    }
    faults.sort_by_key(|fault| fault.place.as_ref().map(|place| (place.line, place.column)));
    Err(faults)
}

/// A SELECT with its types. What has a fault is left out.
fn bind_select(
    subject: &place::Subject<'_>,
    functions: &Functions,
    selection: parse::Selection,
    stream: &Stream,
    faults: &mut Vec<Fault>,
) -> union::TypedSelect {
    let before = faults.len();
    let scope = names::Scope::new(subject, functions, &selection, &stream.schema);
    let binder = bind::Binder::new(subject, functions, &stream.schema, selection.number);
    let items = scope.expand(selection.items, faults);
    let resolve = |ast: Expr, clause, standing, faults: &mut Vec<Fault>| {
        let given = scope.given_names_in(clause, &ast, &items);
        if given.is_empty() {
            return scope.resolve(ast, standing, faults);
        }
        faults.extend(given);
        None
    };
    let having = selection
        .having
        .and_then(|ast| resolve(ast, "HAVING", Standing::Result, faults));
    let filter = selection
        .filter
        .and_then(|ast| resolve(ast, "WHERE", Standing::Where, faults))
        .and_then(|ast| {
            let filter = binder.filter(&ast, Condition::Where);
            filter.map_err(|fault| faults.push(fault)).ok()
        })
        .unwrap_or_default();
    let parts = grouping::Parts {
        distinct: selection.distinct,
        on: selection.on,
        items,
        group: selection.group,
        having,
    };
    let select = union::TypedSelect {
        input: selection.input,
        place: selection.place,
        filter: Vec::new(),
        columns: Vec::new(),
        aggregate: None,
    };
    if parts.are_grouped() {
        if faults.len() > before {
            return select;
        }
        let updating = stream.updates.as_ref().map(|updates| updates.by.as_str());
        return match grouping::bind(&scope, &binder, parts, updating, faults) {
            None => select,
            Some(grouped) => union::TypedSelect {
                filter: grouped.having,
                columns: grouped.columns,
                aggregate: Some(BoundAggregate {
                    input: selection.input,
                    filter,
                    ..grouped.aggregate
                }),
                ..select
            },
        };
    }
    union::TypedSelect {
        filter,
        columns: bind_columns(&binder, parts.items, faults),
        ..select
    }
}

/// Binds what a SELECT without groups gives, as far as that goes.
fn bind_columns(
    binder: &bind::Binder<'_>,
    items: Vec<items::Item>,
    faults: &mut Vec<Fault>,
) -> Vec<union::TypedColumn> {
    let mut columns = Vec::with_capacity(items.len());
    for item in items {
        match binder.column(item) {
            Ok(column) => columns.push(column),
            Err(fault) if faults.len() < MAX_FAULTS => faults.push(fault),
            Err(_) => break,
        }
    }
    columns
}
