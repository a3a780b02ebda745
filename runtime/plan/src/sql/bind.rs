//! Conditions and output columns of one transform, with their types.

use std::cell::Cell;

use arrow_schema::SchemaRef;
use datafusion_sql::sqlparser::ast::{self, BinaryOperator};

use super::BoundExpression;
use super::items::Item;
use super::place::Subject;
use super::union::TypedColumn;
use super::written::written;
use crate::error::Fault;
use crate::functions::Functions;
use crate::semantics::typed::Typed;
use crate::semantics::{Refusal, logic};

/// Gives types to the expressions of one transform.
pub(crate) struct Binder<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) functions: &'a Functions,
    pub(super) input: &'a SchemaRef,
    /// Which SELECT of the text it is, from 0.
    select: usize,
    /// What names stand for that are not just columns of the input.
    pub(super) references: &'a [Reference],
    /// How many choices are around what is being bound: a constant in there that has no value,
    /// such as `1 / 0`, fails only if it is chosen.
    pub(super) choices: Cell<u32>,
}

/// A name and what it stands for.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) typed: Typed,
}

/// Where a condition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Where,
    Having,
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
        select: usize,
    ) -> Self {
        Self {
            subject,
            functions,
            input,
            select,
            references: &[],
            choices: Cell::new(0),
        }
    }

    /// The same over a row of references, which have these columns.
    pub(crate) const fn over(&self, references: &'a [Reference], columns: &'a SchemaRef) -> Self {
        Self {
            subject: self.subject,
            functions: self.functions,
            input: columns,
            select: self.select,
            references,
            choices: Cell::new(0),
        }
    }

    /// The conditions of a filter, which are checked one after the other.
    ///
    /// # Errors
    /// One has no type, or is not boolean.
    pub(crate) fn filter(
        &self,
        ast: &ast::Expr,
        place: Condition,
    ) -> Result<Vec<BoundExpression>, Fault> {
        let mut conjuncts = Vec::new();
        split(ast, &mut conjuncts);
        let written = written(self.subject.sql, self.subject.tokens_of(self.select));
        let (written, clause) = match place {
            Condition::Where => (written.conditions, "WHERE"),
            Condition::Having => (written.having, "HAVING"),
        };
        let mut written = (written.len() == conjuncts.len()).then(|| written.into_iter());
        let mut conditions = Vec::with_capacity(conjuncts.len());
        for (index, ast) in conjuncts.into_iter().enumerate() {
            let text = written.as_mut().and_then(Iterator::next);
            let typed = if index == 0 {
                self.typed(ast)?
            } else {
                self.chosen(ast)?
            };
            let typed = self.condition(typed, ast, clause)?;
            conditions.push(BoundExpression {
                expr: typed.expr,
                text: text.unwrap_or_else(|| ast.to_string()),
            });
        }
        Ok(conditions)
    }

    /// An expression that is a condition of a clause.
    ///
    /// # Errors
    /// It is not boolean.
    pub(super) fn condition(
        &self,
        typed: Typed,
        ast: &ast::Expr,
        clause: &str,
    ) -> Result<Typed, Fault> {
        let data_type = typed.data_type;
        logic::condition(typed).map_err(|_| {
            let message = format!(
                "{clause} needs a condition, but this is {}",
                data_type.with_article()
            );
            self.subject.unbound(self.subject.span_of(ast), message)
        })
    }

    /// A column with its type.
    ///
    /// # Errors
    /// It has none.
    pub(crate) fn column(&self, item: Item) -> Result<TypedColumn, Fault> {
        let typed = self.typed(&item.ast)?;
        Ok(TypedColumn { item, typed })
    }

    /// An expression with its type.
    ///
    /// # Errors
    /// It has none, or is a constant without a value.
    pub(super) fn typed(&self, ast: &ast::Expr) -> Result<Typed, Fault> {
        let mut typed = self.expression(ast).map_err(|trouble| match trouble {
            Trouble::Part(fault) => fault,
            Trouble::Here(refusal) => self.subject.refused(ast, refusal),
        })?;
        match typed.take_broken() {
            Some(message) if self.choices.get() == 0 => {
                Err(self.subject.refused(ast, Refusal::new(message)))
            }
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
