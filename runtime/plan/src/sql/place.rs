//! Places in a SQL text.

use datafusion_sql::sqlparser::ast::{Expr, Spanned, visit_expressions};
use datafusion_sql::sqlparser::tokenizer::{Location, Span};
use millstream_types::ErrorCode;
use std::ops::ControlFlow;

use crate::error::{Fault, Place};

/// What a fault is about: a node and its SQL.
#[derive(Debug, Clone)]
pub(crate) struct Subject<'a> {
    /// As in ``transform `enriched` ``.
    pub(crate) name: String,
    /// The text that places point into.
    pub(crate) sql: &'a str,
}

impl Subject<'_> {
    /// A fault at a place.
    pub(crate) fn fault(
        &self,
        code: ErrorCode,
        span: Option<Span>,
        message: impl Into<String>,
    ) -> Fault {
        Fault {
            code,
            subject: self.name.clone(),
            place: span.and_then(|span| self.place(span)),
            message: message.into(),
            help: None,
        }
    }

    /// A fault of meaning (not of grammar) at a place.
    pub(crate) fn unbound(&self, span: Span, message: impl Into<String>) -> Fault {
        self.fault(ErrorCode::SqlDoesNotBind, Some(span), message)
    }

    fn place(&self, span: Span) -> Option<Place> {
        if span.start.line == 0 {
            return None;
        }
        let (line, column) = position(span.start);
        let (end_line, end_column) = position(span.end);
        let width = if end_line == line {
            end_column.saturating_sub(column)
        } else {
            usize::MAX
        };
        Some(Place::new(self.sql, line, column, width))
    }
}

fn position(location: Location) -> (usize, usize) {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    (number(location.line), number(location.column))
}

/// Where an expression stands. Some syntax carries no place of its own; then it is the place of
/// what is inside.
pub(crate) fn span_of(expr: &Expr) -> Span {
    let own = expr.span();
    if own.start.line > 0 {
        return own;
    }
    let mut inner = Span::empty();
    let _: ControlFlow<()> = visit_expressions(expr, |part| {
        inner = inner.union(&part.span());
        ControlFlow::Continue(())
    });
    inner
}

impl Fault {
    /// Adds what to do.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
