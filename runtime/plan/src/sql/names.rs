//! Names in SQL: columns of the input, functions, and what is not allowed inside an expression.
//!
//! Names are taken as they are written: `customerId` and `customerid` are two columns, quoted or
//! not. Functions and keywords may be written in any case.

use std::ops::ControlFlow;

use arrow_schema::SchemaRef;
use datafusion_sql::sqlparser::ast::{
    Expr, Function, FunctionArguments, Ident, Query, Spanned, VisitMut, VisitorMut,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::aggregates;
use super::parse::Selection;
use super::place::Subject;
use crate::error::{Fault, nearest};
use crate::functions::Functions;

/// Most column names that a message lists.
const LISTED: usize = 20;

/// Well-known aggregates that are not there.
const OTHER_AGGREGATES: [&str; 14] = [
    "any_value",
    "array_agg",
    "bit_and",
    "bit_or",
    "corr",
    "grouping",
    "mean",
    "median",
    "mode",
    "percentile_cont",
    "stddev",
    "string_agg",
    "var",
    "variance",
];

/// Well-known functions of windows, which there are not.
const OF_WINDOWS: [&str; 5] = ["dense_rank", "lag", "lead", "rank", "row_number"];

/// Where an expression stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Where groups are known: between SELECT and FROM, and behind HAVING.
    Result,
    /// Behind WHERE.
    Where,
    /// Behind GROUP BY.
    GroupBy,
    /// Behind DISTINCT ON.
    DistinctOn,
}

/// The names that a transform's SQL may use.
pub(crate) struct Scope<'a> {
    pub(super) subject: &'a Subject<'a>,
    functions: &'a Functions,
    qualifiers: Vec<Vec<String>>,
    pub(super) input: &'a SchemaRef,
    /// Which SELECT of the text it is, from 0.
    pub(super) select: usize,
}

impl<'a> Scope<'a> {
    pub(crate) fn new(
        subject: &'a Subject<'a>,
        functions: &'a Functions,
        select: &Selection,
        input: &'a SchemaRef,
    ) -> Self {
        Self {
            subject,
            functions,
            qualifiers: select.qualifiers.clone(),
            input,
            select: select.number,
        }
    }

    /// Checks an expression's names and takes the qualifiers off its columns; nothing if there
    /// was a fault.
    pub(crate) fn resolve(
        &self,
        mut ast: Expr,
        standing: Standing,
        faults: &mut Vec<Fault>,
    ) -> Option<Expr> {
        let before = faults.len();
        let mut resolver = Resolver {
            scope: self,
            standing,
            faults,
        };
        if ast.visit(&mut resolver).is_break() || faults.len() > before {
            return None;
        }
        Some(ast)
    }

    /// The column that the parser took for a function without parentheses, such as `user`.
    pub(super) fn keyword_column(&self, expr: &Expr) -> Option<Ident> {
        let Expr::Function(function) = expr else {
            return None;
        };
        let ([part], FunctionArguments::None) = (function.name.0.as_slice(), &function.args) else {
            return None;
        };
        let ident = part.as_ident()?;
        let is_column = self.input.field_with_name(&ident.value).is_ok();
        is_column.then(|| ident.clone())
    }

    pub(super) fn is_qualifier(&self, path: &[&str]) -> bool {
        self.qualifiers.iter().any(|qualifier| qualifier == path)
    }

    /// Checks that the input has a column.
    pub(super) fn column(&self, ident: &Ident, faults: &mut Vec<Fault>) {
        if self.input.field_with_name(&ident.value).is_ok() {
            return;
        }
        let names = || {
            self.input
                .fields()
                .iter()
                .map(|field| field.name().as_str())
        };
        let fault = self
            .subject
            .unbound(ident.span, format!("there is no column `{}`", ident.value));
        let help = match nearest(&ident.value, names()) {
            Some(name) if name.eq_ignore_ascii_case(&ident.value) => {
                format!("column names are case-sensitive: write `{name}`")
            }
            Some(name) => format!("did you mean `{name}`?"),
            None => {
                let all: Vec<&str> = names().collect();
                let more = all.len().saturating_sub(LISTED);
                let listed = all
                    .iter()
                    .take(LISTED)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(", ");
                let end = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                format!("its input has the columns {listed}{end}")
            }
        };
        let help = if ident.quote_style.is_some() {
            let text = ident.value.replace('\'', "''");
            format!("a text takes single quotes: '{text}'; if a column was meant, {help}")
        } else {
            help
        };
        faults.push(fault.with_help(help));
    }

    fn function(&self, function: &Function, standing: Standing, faults: &mut Vec<Fault>) {
        let name = function.name.to_string().to_ascii_lowercase();
        let span = function.name.span();
        let is_aggregate = aggregates::named(&name).is_some();
        if function.over.is_some() {
            faults.push(
                self.subject
                    .unbound(span, "window functions are not supported"),
            );
        } else if self.functions.varies(&name) {
            faults.push(
                self.subject
                    .unbound(span, format!("`{name}` gives another result each time"))
                    .with_help("a record that is processed again after a failure must give the same output: use a column of the record instead"),
            );
        } else if let Some(advice) = self.functions.advice(&name) {
            faults.push(
                self.subject
                    .unbound(span, format!("there is no function `{name}`"))
                    .with_help(advice),
            );
        } else if is_aggregate {
            faults.extend(self.misplaced(&name, span, standing));
        } else if self.functions.get(&name).is_none() {
            faults.push(self.no_function(&name, span));
        }
    }

    /// An aggregate where there are no groups yet.
    fn misplaced(&self, name: &str, span: Span, standing: Standing) -> Option<Fault> {
        let (clause, help) = match standing {
            Standing::Result => return None,
            Standing::Where => (
                "WHERE, which looks at single records",
                "HAVING looks at the results of groups, and FILTER (WHERE …) behind a call chooses \
                 the records that it counts",
            ),
            Standing::GroupBy => (
                "GROUP BY, which makes the groups",
                "make a transform for the inner groups, and another one that groups its results",
            ),
            Standing::DistinctOn => (
                "DISTINCT ON, which looks at single records",
                "make a transform for the groups before",
            ),
        };
        let message = format!("the aggregate `{name}` cannot stand in {clause}");
        Some(self.subject.unbound(span, message).with_help(help))
    }

    fn no_function(&self, name: &str, span: Span) -> Fault {
        if OF_WINDOWS.contains(&name) {
            let message = format!("`{name}` is a function of windows, which are not supported");
            return self.subject.unbound(span, message);
        }
        if OTHER_AGGREGATES.contains(&name) {
            let message = format!("there is no aggregate `{name}`");
            let help = format!("there are {}", aggregates::NAMES.join(", "));
            return self.subject.unbound(span, message).with_help(help);
        }
        let fault = self
            .subject
            .unbound(span, format!("there is no function `{name}`"));
        let names = self.functions.names().chain(aggregates::NAMES);
        match nearest(name, names) {
            Some(near) => fault.with_help(format!("did you mean `{near}`?")),
            None => fault.with_help("docs/sql.md lists the functions"),
        }
    }
}

struct Resolver<'s, 'f> {
    scope: &'s Scope<'s>,
    standing: Standing,
    faults: &'f mut Vec<Fault>,
}

impl VisitorMut for Resolver<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.faults.push(
            self.scope
                .subject
                .unbound(query.span(), "subqueries are not supported"),
        );
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(column) = self.scope.keyword_column(expr) {
            *expr = Expr::Identifier(column);
        }
        match expr {
            Expr::Identifier(ident) => self.scope.column(ident, self.faults),
            Expr::CompoundIdentifier(path) => {
                if let Some(column) = self.unqualified(path) {
                    *expr = Expr::Identifier(column);
                }
            }
            Expr::Function(function) => self.scope.function(function, self.standing, self.faults),
            Expr::Array(_)
            | Expr::Tuple(_)
            | Expr::Struct { .. }
            | Expr::Dictionary(_)
            | Expr::Map(_)
            | Expr::CompoundFieldAccess { .. }
            | Expr::JsonAccess { .. } => {
                let span = self.scope.subject.span_of(expr);
                let fault = self
                    .scope
                    .subject
                    .unbound(span, "nested values are not supported");
                let help = "a field of a JSON text is read with `->>` or json_get_str";
                self.faults.push(fault.with_help(help));
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Resolver<'_, '_> {
    /// The column of `input.column`.
    fn unqualified(&mut self, path: &[Ident]) -> Option<Ident> {
        let (column, qualifier) = path.split_last()?;
        let qualifier: Vec<&str> = qualifier.iter().map(|ident| ident.value.as_str()).collect();
        if self.scope.is_qualifier(&qualifier) {
            self.scope.column(column, self.faults);
            return Some(column.clone());
        }
        let span = path
            .first()
            .map_or(column.span, |first| first.span.union(&column.span));
        let fault = self.scope.subject.unbound(
            span,
            format!("there is no table `{}` here", qualifier.join(".")),
        );
        let known = self.scope.qualifiers.first().map(|known| known.join("."));
        self.faults.push(match known {
            Some(known) => fault.with_help(format!("only `{known}` can stand before a column; for a field of a JSON text see docs/sql.md")),
            None => fault,
        });
        None
    }
}
