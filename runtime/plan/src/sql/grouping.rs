//! `GROUP BY`, `DISTINCT` and aggregates: what is computed of each record, what is kept for each key,
//! and what is made of the results.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use arrow_schema::{Field, Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_sql::sqlparser::ast::{Expr, Ident, Value, VisitMut, VisitorMut};
use datafusion_sql::sqlparser::tokenizer::Span;
use millstream_types::aggregate::{AggregateCall, AggregateFunction};

use super::aggregates::{self, called, first_in};
use super::bind::{Binder, Condition, Reference};
use super::canonical::{canonical, outermost};
use super::items::Item;
use super::names::{Scope, Standing};
use super::union::{TypedColumn, no_column_type};
use super::{BoundAggregate, BoundCall, BoundExpression, InputColumn, MAX_FAULTS};
use crate::error::Fault;
use crate::semantics::cast::{self, Failing};
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, Refusal};

/// The parts of a SELECT that say how records are grouped, all names resolved but those behind
/// `GROUP BY`.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) distinct: bool,
    pub(super) on: Option<Vec<Expr>>,
    pub(super) items: Vec<Item>,
    pub(super) group: Vec<Expr>,
    pub(super) having: Option<Expr>,
}

/// A SELECT over groups.
pub(super) struct Grouped {
    /// Its aggregation, without the input and the filter.
    pub(super) aggregate: BoundAggregate,
    /// Conditions and columns over its results.
    pub(super) having: Vec<BoundExpression>,
    pub(super) columns: Vec<TypedColumn>,
}

impl Parts {
    /// Whether there are groups at all.
    pub(super) fn are_grouped(&self) -> bool {
        self.distinct || self.on.is_some() || self.groups()
    }

    /// Whether anything but DISTINCT and DISTINCT ON makes groups.
    fn groups(&self) -> bool {
        !self.group.is_empty()
            || self.having.is_some()
            || self.items.iter().any(|item| first_in(&item.ast).is_some())
    }
}

/// Binds a SELECT over groups. `updating` is the node that updates the input, if one does.
pub(super) fn bind(
    scope: &Scope<'_>,
    binder: &Binder<'_>,
    parts: Parts,
    updating: Option<&str>,
    faults: &mut Vec<Fault>,
) -> Option<Grouped> {
    let before = faults.len();
    let mut grouping = Grouping {
        binder,
        updating,
        columns: Vec::new(),
        references: Vec::new(),
        keys: 0,
        calls: Vec::new(),
        takes_first: parts.on.is_some(),
        loose: BTreeMap::new(),
    };
    let keys = keys(scope, &parts, faults)?;
    for key in keys {
        faults.extend(grouping.key(&key).err());
    }
    if faults.len() > before {
        return None;
    }
    let items = parts.items.into_iter();
    let items: Vec<Item> = items
        .map(|item| Item {
            ast: grouping.rewritten(item.ast.clone(), faults),
            ..item
        })
        .collect();
    let having = parts.having.map(|ast| grouping.rewritten(ast, faults));
    let has_keys = grouping.keys > 0;
    faults.extend(loose(binder, &grouping.loose, has_keys));
    if faults.len() > before {
        return None;
    }
    grouping.finish(items, having, faults)
}

/// The expressions that make the groups; nothing if there was a fault.
fn keys(scope: &Scope<'_>, parts: &Parts, faults: &mut Vec<Fault>) -> Option<Vec<Expr>> {
    if parts.distinct || parts.on.is_some() {
        let name = if parts.distinct {
            "DISTINCT"
        } else {
            "DISTINCT ON"
        };
        if parts.groups() {
            let span = parts
                .items
                .first()
                .map(|item| scope.subject.span_of(&item.ast));
            let message = format!("{name} cannot stand beside GROUP BY, HAVING and aggregates");
            let fault = scope
                .subject
                .unbound(span.unwrap_or_else(Span::empty), message);
            let help =
                format!("groups are distinct already; else make the {name} a transform of its own");
            faults.push(fault.with_help(help));
            return None;
        }
    }
    if parts.distinct {
        return Some(parts.items.iter().map(|item| item.ast.clone()).collect());
    }
    let before = faults.len();
    let (group, standing) = match &parts.on {
        Some(on) => (on, Standing::DistinctOn),
        None => (&parts.group, Standing::GroupBy),
    };
    let keys = group.iter();
    let keys = keys.filter_map(|expr| key(scope, expr, &parts.items, standing, faults));
    let keys: Vec<Expr> = keys.collect();
    (faults.len() == before).then_some(keys)
}

/// What an expression behind GROUP BY or DISTINCT ON stands for: the number of a column, a column of the
/// input, the name of a column, or any expression.
fn key(
    scope: &Scope<'_>,
    expr: &Expr,
    items: &[Item],
    standing: Standing,
    faults: &mut Vec<Fault>,
) -> Option<Expr> {
    let item = match outermost(expr) {
        Expr::Tuple(parts) if parts.is_empty() => {
            let refusal = Refusal::new("GROUP BY () makes one group of everything")
                .with_help("leave GROUP BY out: aggregates without it are over everything");
            faults.push(scope.subject.refused(expr, refusal));
            return None;
        }
        Expr::Value(value) => match numbered(&value.value, items) {
            Ok(item) => item,
            Err(refusal) => {
                faults.push(scope.subject.refused(expr, refusal));
                return None;
            }
        },
        Expr::Identifier(ident) if scope.input.field_with_name(&ident.value).is_err() => {
            let mut items = items.iter();
            match items.find(|item| item.name == ident.value) {
                Some(item) => item,
                None => return scope.resolve(expr.clone(), standing, faults),
            }
        }
        _ => return scope.resolve(expr.clone(), standing, faults),
    };
    match first_in(&item.ast) {
        Some((name, _)) => {
            let message = format!(
                "`{}` is a result of groups (`{name}`), and cannot make them",
                item.name
            );
            faults.push(scope.subject.unbound(scope.subject.span_of(expr), message));
            None
        }
        None => Some(item.ast.clone()),
    }
}

/// The column of a number behind GROUP BY.
fn numbered<'i>(value: &Value, items: &'i [Item]) -> Meaning<&'i Item> {
    let Value::Number(text, _) = value else {
        return Err(Refusal::new("a constant makes no groups")
            .with_help("name an expression, or the number of a column of the SELECT"));
    };
    let number = text.parse::<usize>().ok();
    let index = number.and_then(|number| number.checked_sub(1));
    index.and_then(|index| items.get(index)).ok_or_else(|| {
        let columns = match items.len() {
            1 => "1 column".to_owned(),
            many => format!("{many} columns"),
        };
        Refusal::new(format!(
            "there is no column {text}: the SELECT has {columns}"
        ))
    })
}

/// Columns that stand for themselves although they are not grouped, by their place.
type Loose = BTreeMap<(u64, u64), (Span, Vec<String>)>;

struct Grouping<'g> {
    binder: &'g Binder<'g>,
    updating: Option<&'g str>,
    /// What is computed of each record: the key first.
    columns: Vec<InputColumn>,
    /// What names stand for in expressions over the results: of the key's columns, then of the calls.
    references: Vec<Reference>,
    keys: usize,
    calls: Vec<BoundCall>,
    /// Columns that stand for themselves are those of the first record.
    takes_first: bool,
    loose: Loose,
}

impl Grouping<'_> {
    /// Adds an expression to the key.
    fn key(&mut self, ast: &Expr) -> Result<(), Fault> {
        let typed = self.binder.typed(ast)?.computed();
        let (shown, nullable) = (typed.data_type, typed.nullable);
        let index = self.column(ast, typed)?;
        if index < self.keys {
            return Ok(());
        }
        self.keys += 1;
        self.reference(index, shown, nullable)
            .map_err(|refusal| self.binder.subject.refused(ast, refusal))
    }

    /// Adds a column that is computed of each record; one that is there already is shared.
    fn column(&mut self, ast: &Expr, typed: Typed) -> Result<usize, Fault> {
        let name = canonical(ast);
        let mut columns = self.columns.iter();
        if let Some(index) = columns.position(|column| *column.field.name() == name) {
            return Ok(index);
        }
        let subject = self.binder.subject;
        let Some(column) = typed.data_type.column() else {
            return Err(no_column_type(subject, &name, ast, typed.data_type));
        };
        let typed = Type::of(&column.arrow())
            .and_then(|column| cast::cast(typed, column, Failing::Fails))
            .map_err(|refusal| subject.refused(ast, refusal))?;
        self.columns.push(InputColumn {
            field: Field::new(&name, typed.data_type.arrow(), typed.nullable),
            expression: BoundExpression {
                expr: typed.expr,
                text: name,
            },
        });
        Ok(self.columns.len() - 1)
    }

    /// Adds what a column of the results stands for: the `index`th of the key or the newest call's.
    fn reference(&mut self, index: usize, shown: Type, nullable: bool) -> Meaning<()> {
        let field = match index.checked_sub(self.keys) {
            None => self.columns.get(index).map(|column| &column.field),
            Some(call) => self.calls.get(call).map(|call| &call.field),
        };
        let Some(field) = field else {
            return Err(Refusal::new("the column is not there"));
        };
        let column = Type::of(field.data_type())?;
        let typed = Typed::column(field.name(), index, column, nullable);
        // A key of local time is kept as a timestamp.
        let typed = if column == shown {
            typed
        } else {
            cast::cast(typed, shown, Failing::Fails)?
        };
        self.references.push(Reference {
            name: field.name().clone(),
            typed,
        });
        Ok(())
    }

    /// An expression over the results: with their names where the keys and calls stand.
    fn rewritten(&mut self, mut ast: Expr, faults: &mut Vec<Fault>) -> Expr {
        if matches!(outermost(&ast), Expr::Value(_)) {
            self.replace_key(&mut ast);
            return ast;
        }
        let mut rewriter = Rewriter {
            grouping: self,
            faults,
        };
        // It breaks off when there are too many faults, which are told.
        let (ControlFlow::Continue(()) | ControlFlow::Break(())) = ast.visit(&mut rewriter);
        ast
    }

    /// Puts the name of the key in the place of an expression that is one.
    fn replace_key(&self, ast: &mut Expr) -> bool {
        if self.keys == 0 {
            return false;
        }
        let name = canonical(ast);
        let mut keys = self.columns.iter().take(self.keys);
        let is_key = keys.any(|column| *column.field.name() == name);
        if is_key {
            *ast = self.named(name, ast);
        }
        is_key
    }

    fn named(&self, name: String, ast: &Expr) -> Expr {
        let span = self.binder.subject.span_of(ast);
        Expr::Identifier(Ident::with_quote_and_span('"', span, name))
    }

    /// Binds a call; gives the name of its result.
    fn call(
        &mut self,
        function: AggregateFunction,
        ast: &Expr,
        call: &datafusion_sql::sqlparser::ast::Function,
    ) -> Result<String, Fault> {
        let subject = self.binder.subject;
        let refused = |refusal| subject.refused(ast, refusal);
        let read = aggregates::read(function, call).map_err(refused)?;
        self.check_order(function, function.name())
            .map_err(refused)?;
        for part in read.argument.into_iter().chain(read.filter) {
            if let Some((inner, span)) = first_in(part) {
                let message = format!("`{inner}` stands within `{}`", function.name());
                let help = "compute the inner aggregate in a transform before";
                return Err(subject.unbound(span, message).with_help(help));
            }
        }
        let mut text = read.argument.map_or_else(|| "*".to_owned(), canonical);
        let mut shown = Type::Int64;
        let mut argument = None;
        if let Some(ast) = read.argument {
            let typed = self.binder.typed(ast)?;
            let typed = aggregates::argument(function, typed)
                .map_err(|refusal| subject.refused(ast, refusal))?;
            shown = typed.data_type;
            argument = Some(self.column(ast, typed)?);
        }
        if read.distinct {
            text.insert_str(0, "DISTINCT ");
        }
        let mut text = format!("{}({text})", function.name());
        let mut filter = None;
        if let Some(ast) = read.filter {
            let typed = self
                .binder
                .condition(self.binder.typed(ast)?, ast, "FILTER")?;
            filter = Some(self.column(ast, typed)?);
            text = format!("{text} FILTER (WHERE {})", canonical(ast));
        }
        if self.calls.iter().any(|call| call.call.text == text) {
            return Ok(text);
        }
        let call = AggregateCall {
            function,
            argument,
            filter,
            distinct: read.distinct,
            text: text.clone(),
        };
        self.result(call, shown).map_err(refused)?;
        Ok(text)
    }

    /// The value of a column in a group's first record; gives the name of the result.
    fn first(&mut self, ast: &Expr) -> Result<String, Fault> {
        let function = AggregateFunction::FirstValue;
        let text = format!("{}({})", function.name(), canonical(ast));
        if self.calls.iter().any(|call| call.call.text == text) {
            return Ok(text);
        }
        let subject = self.binder.subject;
        let refused = |refusal| subject.refused(ast, refusal);
        self.check_order(function, "DISTINCT ON").map_err(refused)?;
        let typed = self.binder.typed(ast)?;
        let typed = aggregates::argument(function, typed).map_err(refused)?;
        let shown = typed.data_type;
        let call = AggregateCall {
            function,
            argument: Some(self.column(ast, typed)?),
            filter: None,
            distinct: false,
            text: text.clone(),
        };
        self.result(call, shown).map_err(refused)?;
        Ok(text)
    }

    /// Adds a call, over an argument that expressions take for this type.
    fn result(&mut self, call: AggregateCall, argument: Type) -> Meaning<()> {
        let kept = call.argument.and_then(|index| self.columns.get(index));
        let never_null = kept.is_some_and(|column| !column.field.is_nullable());
        let kept = kept.map(|column| column.field.data_type().clone());
        let Some(result) = call.function.result_type(kept.as_ref()) else {
            return Err(Refusal::new(format!("`{}` has no result", call.text)));
        };
        let nullable = match call.function {
            AggregateFunction::Count => false,
            // A group has a record.
            AggregateFunction::FirstValue | AggregateFunction::LastValue => {
                call.filter.is_some() || !never_null
            }
            _ => true,
        };
        let field = Field::new(&call.text, result, nullable);
        // What is one of the argument's values is shown as these are.
        let shown = match call.function {
            AggregateFunction::Min
            | AggregateFunction::Max
            | AggregateFunction::FirstValue
            | AggregateFunction::LastValue => argument,
            _ => Type::of(field.data_type())?,
        };
        self.calls.push(BoundCall {
            call,
            field,
            argument: kept,
        });
        self.reference(self.keys + self.calls.len() - 1, shown, nullable)
    }

    /// Which row came first means nothing where rows are replaced.
    fn check_order(&self, function: AggregateFunction, name: &str) -> Meaning<()> {
        let by_order = matches!(
            function,
            AggregateFunction::FirstValue | AggregateFunction::LastValue
        );
        match self.updating {
            Some(node) if by_order => Err(Refusal::new(format!(
                "`{name}` depends on the order of rows, and `{node}` updates its rows"
            ))
            .with_help("use min or max, or read a stream that only appends")),
            _ => Ok(()),
        }
    }

    /// Binds what is made of the results.
    fn finish(
        mut self,
        items: Vec<Item>,
        having: Option<Expr>,
        faults: &mut Vec<Fault>,
    ) -> Option<Grouped> {
        self.some_column();
        let results: SchemaRef = Schema::new(self.results()).into();
        let binder = self.binder.over(&self.references, &results);
        let mut columns = Vec::with_capacity(items.len());
        for item in items {
            match binder.column(item) {
                Ok(column) => columns.push(column),
                Err(fault) if faults.len() < MAX_FAULTS => faults.push(fault),
                Err(_) => break,
            }
        }
        let having = having.map(|ast| binder.filter(&ast, Condition::Having));
        let having = having
            .transpose()
            .map_err(|fault| faults.push(fault))
            .ok()?;
        Some(Grouped {
            having: having.unwrap_or_default(),
            columns,
            aggregate: BoundAggregate {
                input: 0,
                filter: Vec::new(),
                columns: self.columns,
                keys: self.keys,
                calls: self.calls,
            },
        })
    }

    /// A batch needs a column, also where only records are counted.
    fn some_column(&mut self) {
        if self.columns.is_empty()
            && let Ok(constant) = Typed::constant(ScalarValue::Boolean(Some(true)))
        {
            self.columns.push(InputColumn {
                field: Field::new("true", constant.data_type.arrow(), false),
                expression: BoundExpression {
                    expr: constant.expr,
                    text: "true".to_owned(),
                },
            });
        }
    }

    fn results(&self) -> Vec<Field> {
        let keys = self.columns.iter().take(self.keys);
        let keys = keys.map(|column| column.field.clone());
        keys.chain(self.calls.iter().map(|call| call.field.clone()))
            .collect()
    }
}

struct Rewriter<'r, 'g> {
    grouping: &'r mut Grouping<'g>,
    faults: &'r mut Vec<Fault>,
}

impl VisitorMut for Rewriter<'_, '_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if matches!(expr, Expr::Value(_)) || self.grouping.replace_key(expr) {
            return ControlFlow::Continue(());
        }
        if let Expr::Identifier(_) = expr
            && self.grouping.takes_first
        {
            let name = self.grouping.first(expr);
            return self.replace(expr, name);
        }
        if let Expr::Identifier(ident) = expr {
            let start = ident.span.start;
            let place = self.grouping.loose.entry((start.line, start.column));
            let (_, names) = place.or_insert_with(|| (ident.span, Vec::new()));
            names.push(ident.value.clone());
            return ControlFlow::Continue(());
        }
        let Some((function, call)) = called(expr) else {
            return ControlFlow::Continue(());
        };
        let name = self.grouping.call(function, expr, call);
        self.replace(expr, name)
    }
}

impl Rewriter<'_, '_> {
    /// Puts the name of a result in the place of an expression.
    fn replace(&mut self, expr: &mut Expr, name: Result<String, Fault>) -> ControlFlow<()> {
        match name {
            Ok(name) => *expr = self.grouping.named(name, expr),
            Err(fault) => {
                self.faults.push(fault);
                if self.faults.len() >= MAX_FAULTS {
                    return ControlFlow::Break(());
                }
                // Not its parts, which are not over results.
                *expr = self.grouping.named(String::new(), expr);
            }
        }
        ControlFlow::Continue(())
    }
}

/// Faults of columns that are neither grouped nor aggregated.
fn loose(binder: &Binder<'_>, loose: &Loose, has_keys: bool) -> Vec<Fault> {
    let faults = loose.values().map(|(span, names)| {
        let named: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let (be, it) = match named.as_slice() {
            [_] => ("is", "it"),
            _ => ("are", "them"),
        };
        let message = format!("{} {be} neither grouped nor aggregated", named.join(", "));
        let first = names.first().map_or("x", String::as_str);
        let add = if has_keys {
            format!("add {it} to GROUP BY")
        } else {
            format!("write GROUP BY {}", names.join(", "))
        };
        let help = format!("{add}, or say which value of a group is meant, as in max({first})");
        binder.subject.unbound(*span, message).with_help(help)
    });
    faults.take(MAX_FAULTS).collect()
}
