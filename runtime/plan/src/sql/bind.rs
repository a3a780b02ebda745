//! Conditions and output columns of one transform, with their types.

use std::cell::Cell;

use arrow_schema::{Field, SchemaRef};
use datafusion_sql::sqlparser::ast::{self, BinaryOperator};

use super::items::Item;
use super::place::Subject;
use super::written::written;
use super::{BoundColumn, Condition};
use crate::error::Fault;
use crate::functions::Functions;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Refusal, cast, logic};

/// Gives types to the expressions of one transform.
pub(crate) struct Binder<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) functions: &'a Functions,
    pub(super) input: &'a SchemaRef,
    /// How many choices are around what is being bound: a constant in there that has no value,
    /// such as `1 / 0`, fails only if it is chosen.
    pub(super) choices: Cell<u32>,
}

/// Why an expression cannot be bound: a part of it, or itself.
pub(super) enum Trouble {
    /// With its place.
    Part(Fault),
    /// Of the expression at hand.
    Here(Refusal),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Part(fault)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Here(refusal)
    }
}

impl<'a> Binder<'a> {
    pub(crate) const fn new(
        subject: &'a Subject<'a>,
        functions: &'a Functions,
        input: &'a SchemaRef,
    ) -> Self {
        Self {
            subject,
            functions,
            input,
            choices: Cell::new(0),
        }
    }

    /// The conditions of a filter, which are checked one after the other.
    ///
    /// # Errors
    /// One has no type, or is not boolean.
    pub(crate) fn filter(&self, ast: &ast::Expr) -> Result<Vec<Condition>, Fault> {
        let mut conjuncts = Vec::new();
        split(ast, &mut conjuncts);
        let written = written(self.subject.sql, self.subject.tokens()).conditions;
        let mut written = (written.len() == conjuncts.len()).then(|| written.into_iter());
        let mut conditions = Vec::with_capacity(conjuncts.len());
        for (index, ast) in conjuncts.into_iter().enumerate() {
            let text = written.as_mut().and_then(Iterator::next);
            let typed = if index == 0 {
                self.typed(ast)?
            } else {
                self.chosen(ast)?
            };
            let data_type = typed.data_type;
            let typed = logic::condition(typed).map_err(|_| {
                let message = format!(
                    "WHERE needs a condition, but this is {}",
                    data_type.with_article()
                );
                self.subject.unbound(self.subject.span_of(ast), message)
            })?;
            conditions.push(Condition {
                expr: typed.expr,
                text: text.unwrap_or_else(|| ast.to_string()),
            });
        }
        Ok(conditions)
    }

    /// An output column.
    ///
    /// # Errors
    /// It has no type, or one that columns cannot have.
    pub(crate) fn column(&self, item: Item) -> Result<BoundColumn, Fault> {
        let typed = self.typed(&item.ast)?;
        let Some(output) = typed.data_type.column() else {
            return Err(self.no_column_type(&item, typed.data_type));
        };
        // Of local time, a column has what calendar and clock show.
        let output = Type::of(&output.arrow()).map_err(|refusal| self.here(&item.ast, refusal))?;
        let typed = cast::cast(typed, output, cast::Failing::Fails)
            .map_err(|refusal| self.here(&item.ast, refusal))?;
        let text = item.text.unwrap_or_else(|| item.ast.to_string());
        Ok(BoundColumn {
            field: Field::new(item.name, output.arrow(), typed.nullable),
            expr: typed.expr,
            text,
        })
    }

    fn no_column_type(&self, item: &Item, computed: Type) -> Fault {
        let name = &item.name;
        let message = match computed {
            Type::Null => format!("`{name}` is NULL, which is of no type"),
            other => format!(
                "`{name}` is {}, which a column cannot be",
                other.with_article()
            ),
        };
        let fault = self
            .subject
            .unbound(self.subject.span_of(&item.ast), message);
        fault.with_help(match computed {
            Type::Null => "give it a type, as in CAST(NULL AS string)",
            Type::Duration => {
                "EXTRACT(epoch FROM …) gives its seconds, CAST(… AS int64) its microseconds"
            }
            _ => "convert it with CAST, for example to string",
        })
    }

    /// An expression with its type.
    ///
    /// # Errors
    /// It has none, or is a constant without a value.
    pub(super) fn typed(&self, ast: &ast::Expr) -> Result<Typed, Fault> {
        let mut typed = self.expression(ast).map_err(|trouble| match trouble {
            Trouble::Part(fault) => fault,
            Trouble::Here(refusal) => self.here(ast, refusal),
        })?;
        match typed.take_broken() {
            Some(message) if self.choices.get() == 0 => Err(self.here(ast, Refusal::new(message))),
            _ => Ok(typed),
        }
    }

    /// An expression that is computed only for some records.
    pub(super) fn chosen(&self, ast: &ast::Expr) -> Result<Typed, Fault> {
        self.choices.set(self.choices.get() + 1);
        let typed = self.typed(ast);
        self.choices.set(self.choices.get() - 1);
        typed
    }

    /// A refusal with its place.
    pub(super) fn here(&self, ast: &ast::Expr, refusal: Refusal) -> Fault {
        let fault = self
            .subject
            .unbound(self.subject.span_of(ast), refusal.message);
        match refusal.help {
            Some(help) => fault.with_help(help),
            None => fault,
        }
    }
}

/// The conditions that AND connects, also within parentheses.
fn split<'e>(ast: &'e ast::Expr, conjuncts: &mut Vec<&'e ast::Expr>) {
    let inside = {
        let mut inside = ast;
        while let ast::Expr::Nested(inner) = inside {
            inside = inner;
        }
        inside
    };
    match inside {
        ast::Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            split(left, conjuncts);
            split(right, conjuncts);
        }
        _ => conjuncts.push(ast),
    }
}
