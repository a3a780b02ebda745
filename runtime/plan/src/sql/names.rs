//! Names in SQL: columns of the input, functions, and what is not allowed inside an expression.
//!
//! Names are taken as they are written: `customerId` and `customerid` are two columns, quoted or
//! not. Functions and keywords may be written in any case.

use std::ops::ControlFlow;

use arrow_schema::SchemaRef;
use datafusion_sql::sqlparser::ast::{
    CastKind, DataType, ExceptSelectItem, ExcludeSelectItem, Expr, Function, Ident, ObjectName,
    Query, SelectItem, SelectItemQualifiedWildcardKind, Spanned, Value, ValueWithSpan, VisitMut,
    VisitorMut, WildcardAdditionalOptions,
};
use datafusion_sql::sqlparser::tokenizer::Span;

use super::parse::Selection;
use super::place::Subject;
use crate::error::{Fault, nearest};
use crate::functions::Functions;

/// Most column names that a message lists.
const LISTED: usize = 20;

/// Functions that combine rows; a few well-known ones, to say why they are refused.
const AGGREGATES: [&str; 24] = [
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "first_value",
    "grouping",
    "last_value",
    "max",
    "mean",
    "median",
    "min",
    "percentile_cont",
    "rank",
    "row_number",
    "stddev",
    "string_agg",
    "sum",
    "var",
    "lag",
    "lead",
];

/// One output column before it has a type.
#[derive(Debug)]
pub(crate) struct Item {
    /// Name of the column.
    pub(crate) name: String,
    /// Where it is selected.
    pub(crate) span: Span,
    /// How it is computed; all names in it exist.
    pub(crate) ast: Expr,
}

/// The names that a transform's SQL may use.
pub(crate) struct Scope<'a> {
    subject: &'a Subject<'a>,
    functions: &'a Functions,
    qualifiers: Vec<Vec<String>>,
    input: &'a SchemaRef,
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
        }
    }

    /// Checks an expression's names and takes the qualifiers off its columns; nothing if there
    /// was a fault.
    pub(crate) fn resolve(&self, mut ast: Expr, faults: &mut Vec<Fault>) -> Option<Expr> {
        let before = faults.len();
        let mut resolver = Resolver {
            scope: self,
            faults,
        };
        if ast.visit(&mut resolver).is_break() || faults.len() > before {
            return None;
        }
        Some(ast)
    }

    /// The output columns, `*` written out.
    pub(crate) fn expand(&self, items: Vec<SelectItem>, faults: &mut Vec<Fault>) -> Vec<Item> {
        let mut expanded: Vec<Item> = Vec::new();
        for item in items {
            for item in self.item(item, faults) {
                if expanded.iter().any(|other| other.name == item.name) {
                    faults.push(
                        self.subject
                            .unbound(item.span, format!("the column `{}` is there twice", item.name))
                            .with_help("give one of them another name with AS, or leave it out with `* EXCLUDE (…)`"),
                    );
                }
                expanded.push(item);
            }
        }
        expanded
    }

    fn item(&self, item: SelectItem, faults: &mut Vec<Fault>) -> Vec<Item> {
        match item {
            SelectItem::UnnamedExpr(ast) => self.unnamed(ast, faults).into_iter().collect(),
            SelectItem::ExprWithAlias { expr, alias } => {
                let span = self.subject.span_of(&expr);
                self.resolve(expr, faults)
                    .map(|ast| Item {
                        name: alias.value,
                        span,
                        ast,
                    })
                    .into_iter()
                    .collect()
            }
            SelectItem::Wildcard(options) => self.wildcard(&options, faults),
            SelectItem::QualifiedWildcard(
                SelectItemQualifiedWildcardKind::ObjectName(name),
                options,
            ) => {
                if self.is_qualifier(&idents(&name)) {
                    return self.wildcard(&options, faults);
                }
                faults.push(
                    self.subject
                        .unbound(name.span(), format!("there is no table `{name}` here")),
                );
                Vec::new()
            }
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(ast), _) => {
                faults.push(self.subject.unbound(
                    self.subject.span_of(&ast),
                    "`*` may stand behind the input's name only",
                ));
                Vec::new()
            }
            SelectItem::ExprWithAliases { expr, .. } => {
                faults.push(
                    self.subject
                        .unbound(self.subject.span_of(&expr), "an expression has one name"),
                );
                Vec::new()
            }
        }
    }

    fn unnamed(&self, ast: Expr, faults: &mut Vec<Fault>) -> Option<Item> {
        let span = self.subject.span_of(&ast);
        let name = match &ast {
            Expr::Identifier(ident) => Some(ident.value.clone()),
            Expr::CompoundIdentifier(path) => path.last().map(|ident| ident.value.clone()),
            _ => None,
        };
        let ast = self.resolve(ast, faults)?;
        if name.is_none() {
            faults.push(
                self.subject
                    .unbound(span, "this expression has no name")
                    .with_help("name the column with AS, as in `quantity * price AS total`"),
            );
        }
        Some(Item {
            name: name?,
            span,
            ast,
        })
    }

    /// All columns, less those left out and with those replaced.
    fn wildcard(&self, options: &WildcardAdditionalOptions, faults: &mut Vec<Fault>) -> Vec<Item> {
        let span = options.wildcard_token.0.span;
        if options.opt_ilike.is_some()
            || options.opt_rename.is_some()
            || options.opt_alias.is_some()
        {
            faults.push(self.subject.unbound(
                span,
                "behind `*` only EXCLUDE, EXCEPT and REPLACE are supported",
            ));
        }
        let left_out = left_out(options);
        for ident in &left_out {
            self.column(ident, faults);
        }
        let mut replaced: Vec<Item> = Vec::new();
        for element in options
            .opt_replace
            .iter()
            .flat_map(|replace| &replace.items)
        {
            self.column(&element.column_name, faults);
            replaced.extend(self.resolve(element.expr.clone(), faults).map(|ast| Item {
                name: element.column_name.value.clone(),
                span: self.subject.span_of(&element.expr),
                ast,
            }));
        }
        self.input
            .fields()
            .iter()
            .filter(|field| left_out.iter().all(|ident| ident.value != *field.name()))
            .map(|field| {
                let replacement = replaced.iter().position(|item| item.name == *field.name());
                replacement.map_or_else(
                    || Item {
                        name: field.name().clone(),
                        span,
                        ast: Expr::Identifier(Ident::with_quote_and_span('"', span, field.name())),
                    },
                    |index| replaced.swap_remove(index),
                )
            })
            .collect()
    }

    fn is_qualifier(&self, path: &[&str]) -> bool {
        self.qualifiers.iter().any(|qualifier| qualifier == path)
    }

    /// Checks that the input has a column.
    fn column(&self, ident: &Ident, faults: &mut Vec<Fault>) {
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
        faults.push(fault.with_help(help));
    }

    fn function(&self, function: &Function, faults: &mut Vec<Fault>) {
        let name = function.name.to_string().to_ascii_lowercase();
        let span = function.name.span();
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
        } else if !self.functions.contains(&name) {
            let fault = self.subject;
            faults.push(if AGGREGATES.contains(&name.as_str()) {
                fault
                    .unbound(
                        span,
                        format!("`{name}` combines records, which a transform does not"),
                    )
                    .with_help("a transform handles each record by itself")
            } else {
                let fault = fault.unbound(span, format!("there is no function `{name}`"));
                match nearest(&name, self.functions.names()) {
                    Some(near) => fault.with_help(format!("did you mean `{near}`?")),
                    None => fault.with_help("docs/sql.md lists the functions"),
                }
            });
        }
    }
}

/// Columns that `* EXCLUDE (…)` or `* EXCEPT (…)` leaves out.
fn left_out(options: &WildcardAdditionalOptions) -> Vec<Ident> {
    let except = options.opt_except.iter().flat_map(
        |ExceptSelectItem {
             first_element,
             additional_elements,
         }| { std::iter::once(first_element).chain(additional_elements) },
    );
    let names: &[ObjectName] = match &options.opt_exclude {
        None => &[],
        Some(ExcludeSelectItem::Single(name)) => std::slice::from_ref(name),
        Some(ExcludeSelectItem::Multiple(names)) => names,
    };
    let exclude = names.iter().filter_map(|name| name.0.last()?.as_ident());
    except.chain(exclude).cloned().collect()
}

fn idents(name: &ObjectName) -> Vec<&str> {
    name.0
        .iter()
        .filter_map(|part| part.as_ident())
        .map(|ident| ident.value.as_str())
        .collect()
}

/// A number with an exponent is a double, as the SQL standard has it; one without is exact.
fn approximate(value: &ValueWithSpan) -> Option<Expr> {
    let Value::Number(number, _) = &value.value else {
        return None;
    };
    number.contains(['e', 'E']).then(|| Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(Expr::Value(
            Value::SingleQuotedString(number.clone()).with_span(value.span),
        )),
        data_type: DataType::DoublePrecision,
        array: false,
        format: None,
    })
}

struct Resolver<'s, 'f> {
    scope: &'s Scope<'s>,
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
        match expr {
            Expr::Identifier(ident) => self.scope.column(ident, self.faults),
            Expr::CompoundIdentifier(path) => {
                if let Some(column) = self.unqualified(path) {
                    *expr = Expr::Identifier(column);
                }
            }
            Expr::Function(function) => self.scope.function(function, self.faults),
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
            Expr::Value(value) => {
                if let Some(double) = approximate(value) {
                    *expr = double;
                }
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
