//! The columns of several SELECTs as one set.

use arrow_schema::Field;
use datafusion_sql::sqlparser::ast::Expr;
use datafusion_sql::sqlparser::tokenizer::Span;

use super::items::Item;
use super::place::Subject;
use super::{BoundAggregate, BoundExpression, BoundSelect, BoundTransform};
use crate::error::Fault;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Refusal, cast, coerce};

/// A SELECT whose expressions have types.
pub(crate) struct TypedSelect {
    pub(crate) input: usize,
    /// Where it begins.
    pub(crate) place: Option<Span>,
    pub(crate) filter: Vec<BoundExpression>,
    pub(crate) columns: Vec<TypedColumn>,
    /// What makes the rows that it reads, if these are not those of the input.
    pub(crate) aggregate: Option<BoundAggregate>,
}

/// A column of a SELECT.
pub(crate) struct TypedColumn {
    pub(crate) item: Item,
    pub(crate) typed: Typed,
}

/// Gives the columns of all SELECTs their common types and the names of the first one's.
///
/// # Errors
/// They have none, or not equally many columns.
pub(crate) fn unite(
    subject: &Subject<'_>,
    selects: Vec<TypedSelect>,
) -> Result<BoundTransform, Fault> {
    let count = selects.first().map_or(0, |first| first.columns.len());
    let alone = selects.len() == 1;
    let mut aggregate = None;
    let mut bound = Vec::with_capacity(selects.len());
    let mut by_select = Vec::with_capacity(selects.len());
    for select in selects {
        let own = select.columns.len();
        if own != count {
            let message = format!(
                "this SELECT has {}, and the first one has {count}: UNION ALL joins them by their \
                 places",
                counted(own)
            );
            let span = select.place.unwrap_or_else(Span::empty);
            return Err(subject.unbound(span, message));
        }
        if let Some(own) = select.aggregate {
            if !alone {
                let message = "a SELECT that groups cannot stand beside UNION ALL";
                let span = select.place.unwrap_or_else(Span::empty);
                let help = "make it a transform of its own, and name that in FROM";
                return Err(subject.unbound(span, message).with_help(help));
            }
            aggregate = Some(own);
        }
        bound.push(BoundSelect {
            input: select.input,
            filter: select.filter,
            columns: Vec::with_capacity(count),
        });
        by_select.push(select.columns.into_iter());
    }
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let columns: Vec<TypedColumn> = by_select.iter_mut().filter_map(Iterator::next).collect();
        let output = output(subject, &columns)?;
        let name = columns.first().map(|first| first.item.name.clone());
        let mut nullable = false;
        for (select, TypedColumn { item, typed }) in bound.iter_mut().zip(columns) {
            let typed = coerce::convert(typed, output.common)
                .and_then(|typed| cast::cast(typed, output.column, cast::Failing::Fails))
                .map_err(|refusal| subject.refused(&item.ast, refusal))?;
            nullable |= typed.nullable;
            select.columns.push(BoundExpression {
                expr: typed.expr,
                text: item.text.unwrap_or_else(|| item.ast.to_string()),
            });
        }
        let name = name.unwrap_or_default();
        fields.push(Field::new(name, output.column.arrow(), nullable));
    }
    Ok(BoundTransform {
        fields,
        selects: bound,
        aggregate,
    })
}

/// The type in which SELECTs meet, and the one that the column has.
struct Output {
    common: Type,
    column: Type,
}

fn output(subject: &Subject<'_>, columns: &[TypedColumn]) -> Result<Output, Fault> {
    let mut parts: Vec<&Typed> = Vec::with_capacity(columns.len());
    let mut common = Type::Null;
    for column in columns {
        parts.push(&column.typed);
        common =
            coerce::common(&parts).map_err(|refusal| subject.refused(&column.item.ast, refusal))?;
    }
    let Some(TypedColumn { item, .. }) = columns.first() else {
        return Err(subject.unbound(Span::empty(), "there is no column"));
    };
    let Some(column) = common.column() else {
        return Err(no_column_type(subject, &item.name, &item.ast, common));
    };
    // Of local time, a column has what calendar and clock show.
    let column =
        Type::of(&column.arrow()).map_err(|refusal| subject.refused(&item.ast, refusal))?;
    Ok(Output { common, column })
}

/// What is said of an expression that is of no type that a column can have.
pub(super) fn no_column_type(
    subject: &Subject<'_>,
    name: &str,
    ast: &Expr,
    computed: Type,
) -> Fault {
    let message = match computed {
        Type::Null => format!("`{name}` is NULL, which is of no type"),
        other => format!(
            "`{name}` is {}, which a column cannot be",
            other.with_article()
        ),
    };
    let help = match computed {
        Type::Null => "give it a type, as in CAST(NULL AS string)",
        Type::Duration => {
            "EXTRACT(epoch FROM …) gives its seconds, CAST(… AS int64) its microseconds"
        }
        _ => "convert it with CAST, for example to string",
    };
    subject.refused(ast, Refusal::new(message).with_help(help))
}

fn counted(columns: usize) -> String {
    match columns {
        1 => "1 column".to_owned(),
        many => format!("{many} columns"),
    }
}
