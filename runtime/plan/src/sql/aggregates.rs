//! Aggregate functions: which there are, and what a call of one says.

use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{
    self, DuplicateTreatment, Expr, FunctionArg, FunctionArgExpr, FunctionArgumentClause,
    FunctionArguments, Spanned, visit_expressions,
};
use datafusion_sql::sqlparser::tokenizer::Span;
use millstream_types::aggregate::AggregateFunction;

use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, Refusal, refuse};

/// The names of all aggregates.
pub(crate) const NAMES: [&str; 10] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "bool_and",
    "bool_or",
    "every",
    "first_value",
    "last_value",
];

/// The aggregate of a name in lower case.
pub(crate) fn named(name: &str) -> Option<AggregateFunction> {
    Some(match name {
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "avg" => AggregateFunction::Avg,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "bool_and" | "every" => AggregateFunction::BoolAnd,
        "bool_or" => AggregateFunction::BoolOr,
        "first_value" => AggregateFunction::FirstValue,
        "last_value" => AggregateFunction::LastValue,
        _ => return None,
    })
}

/// The aggregate that an expression calls itself.
pub(crate) fn called(expr: &Expr) -> Option<(AggregateFunction, &ast::Function)> {
    let Expr::Function(function) = expr else {
        return None;
    };
    let name = function.name.to_string().to_ascii_lowercase();
    Some((named(&name)?, function))
}

/// The first aggregate that is called in an expression, with its place.
pub(crate) fn first_in(expr: &Expr) -> Option<(String, Span)> {
    let found = visit_expressions(expr, |part| match called(part) {
        Some((_, function)) => {
            let name = function.name.to_string().to_ascii_lowercase();
            ControlFlow::Break((name, function.name.span()))
        }
        None => ControlFlow::Continue(()),
    });
    match found {
        ControlFlow::Break(found) => Some(found),
        ControlFlow::Continue(()) => None,
    }
}

/// What a call says.
#[derive(Debug)]
pub(crate) struct Call<'e> {
    /// None for `count(*)`.
    pub(crate) argument: Option<&'e Expr>,
    /// Whether each value counts once, where that makes a difference.
    pub(crate) distinct: bool,
    /// The condition behind `FILTER`.
    pub(crate) filter: Option<&'e Expr>,
}

/// Reads a call.
///
/// # Errors
/// It says more than an aggregate can do, or has not one argument.
pub(crate) fn read(function: AggregateFunction, call: &ast::Function) -> Meaning<Call<'_>> {
    let name = function.name();
    if call.null_treatment.is_some() {
        return Err(Refusal::new(format!("`{name}` takes no `NULLS`"))
            .with_help(format!("write {name}(x) FILTER (WHERE x IS NOT NULL)")));
    }
    if !call.within_group.is_empty() || !matches!(call.parameters, FunctionArguments::None) {
        return refuse!("`{name}` takes one expression, and nothing else");
    }
    let FunctionArguments::List(list) = &call.args else {
        return refuse!("`{name}` takes one expression");
    };
    if let Some(clause) = list.clauses.first() {
        return Err(match clause {
            FunctionArgumentClause::OrderBy(_) => {
                Refusal::new(format!("`{name}` takes no ORDER BY"))
                    .with_help("records count in the order in which they come")
            }
            _ => Refusal::new(format!("`{name}` takes one expression, and nothing else")),
        });
    }
    let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
    let argument = match list.args.as_slice() {
        [FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))] => Some(argument),
        [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] => {
            if function != AggregateFunction::Count {
                return refuse!("`{name}` takes one expression: only `count` takes `*`");
            }
            if distinct {
                return Err(
                    Refusal::new("`count` counts distinct values of one expression")
                        .with_help("name it: count(DISTINCT x)"),
                );
            }
            None
        }
        [] if function == AggregateFunction::Count => {
            return Err(Refusal::new("`count` takes one expression or `*`")
                .with_help("count(*) counts records, count(x) values that are not NULL"));
        }
        several => {
            let count = several.len();
            return Err(
                Refusal::new(format!("`{name}` takes 1 argument, but has {count}"))
                    .with_help(advice(function, distinct)),
            );
        }
    };
    Ok(Call {
        argument,
        distinct: distinct && is_changed_by_repetition(function)?,
        filter: call.filter.as_deref(),
    })
}

fn advice(function: AggregateFunction, distinct: bool) -> String {
    if function == AggregateFunction::Count && distinct {
        "join them to one text: count(DISTINCT a || '/' || b)".to_owned()
    } else {
        format!("{}(x), with an expression for x", function.name())
    }
}

/// Whether a value that comes twice counts for more than one that comes once.
fn is_changed_by_repetition(function: AggregateFunction) -> Meaning<bool> {
    match function {
        AggregateFunction::Count | AggregateFunction::Sum | AggregateFunction::Avg => Ok(true),
        AggregateFunction::Min
        | AggregateFunction::Max
        | AggregateFunction::BoolAnd
        | AggregateFunction::BoolOr => Ok(false),
        AggregateFunction::FirstValue | AggregateFunction::LastValue => {
            refuse!(
                "`{}` takes one value of a group anyway: remove DISTINCT",
                function.name()
            )
        }
    }
}

/// Checks the type of an argument; NULL without a type becomes one that can be counted.
///
/// # Errors
/// The aggregate has no result of this type.
pub(crate) fn argument(function: AggregateFunction, typed: Typed) -> Meaning<Typed> {
    let given = typed.data_type;
    let name = function.name();
    if given == Type::Null && function == AggregateFunction::Count {
        return Typed::null(Type::Boolean);
    }
    let wanted = |wanted: &str| {
        let message = format!(
            "`{name}` takes {wanted}, but this is {}",
            given.with_article()
        );
        Refusal::new(message)
    };
    let Some(column) = given.column() else {
        return Err(match given {
            Type::Null => {
                wanted("values of a type").with_help("give it a type, as in CAST(NULL AS int64)")
            }
            _ => wanted("values that a column can have").with_help(
                "EXTRACT(epoch FROM …) gives its seconds, CAST(… AS int64) its microseconds",
            ),
        });
    };
    match function {
        AggregateFunction::Min | AggregateFunction::Max if given == Type::Boolean => Err(wanted(
            "values with an order",
        )
        .with_help("bool_and(x) says whether x is true in all records, bool_or(x) whether in one")),
        _ if function.result_type(Some(&column.arrow())).is_some() => Ok(typed),
        AggregateFunction::BoolAnd | AggregateFunction::BoolOr => {
            Err(wanted("conditions").with_help(format!("write one, as in {name}(x > 0)")))
        }
        _ => Err(wanted("numbers").with_help(
            "convert it with CAST(… AS decimal(p,s)), or with TRY_CAST if it may not be one",
        )),
    }
}
