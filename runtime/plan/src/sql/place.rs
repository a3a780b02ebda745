//! Places in a SQL text.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::ops::ControlFlow;

use datafusion_sql::sqlparser::ast::{Expr, Spanned, visit_expressions};
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};
use millstream_types::ErrorCode;

use super::dialect::TransformDialect;
use crate::error::{Fault, Place};
use crate::semantics::Refusal;

/// What a fault is about: a node and its SQL.
#[derive(Debug, Clone)]
pub(crate) struct Subject<'a> {
    /// As in ``transform `enriched` ``.
    pub(crate) name: String,
    /// The text that is bound.
    pub(crate) sql: &'a str,
    /// The text that places point into: as long, and with more than blanks where the other has these.
    shown: &'a str,
    /// Its tokens without white space, once a fault has asked for them.
    tokens: OnceCell<Vec<TokenWithSpan>>,
}

impl<'a> Subject<'a> {
    /// A transform and its SQL, and the part of it that is bound.
    pub(crate) fn new(transform: &str, shown: &'a str, sql: &'a str) -> Self {
        Self {
            name: format!("transform `{transform}`"),
            sql,
            shown,
            tokens: OnceCell::new(),
        }
    }

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
            place: span.and_then(|span| self.place(span)).map(Box::new),
            message: message.into(),
            help: None,
        }
    }

    /// A fault of meaning (not of grammar) at a place.
    pub(crate) fn unbound(&self, span: Span, message: impl Into<String>) -> Fault {
        self.fault(ErrorCode::SqlDoesNotBind, Some(span), message)
    }

    /// A refusal of an expression, with its place.
    pub(crate) fn refused(&self, ast: &Expr, refusal: Refusal) -> Fault {
        let fault = self.unbound(self.span_of(ast), refusal.message);
        match refusal.help {
            Some(help) => fault.with_help(help),
            None => fault,
        }
    }

    /// Where an expression stands, with the words and parentheses around it that belong to it.
    pub(crate) fn span_of(&self, expr: &Expr) -> Span {
        extent(self.tokens(), expr)
    }

    /// The text without white space and comments.
    pub(crate) fn tokens(&self) -> &[TokenWithSpan] {
        self.tokens.get_or_init(|| {
            let tokens = Tokenizer::new(&TransformDialect, self.sql).tokenize_with_location();
            let mut tokens = tokens.unwrap_or_default();
            tokens.retain(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF));
            tokens
        })
    }

    /// Those of one of the SELECTs that UNION connects.
    pub(crate) fn tokens_of(&self, select: usize) -> &[TokenWithSpan] {
        let mut depth = 0_usize;
        let mut parts = self.tokens().split(|token| {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(word) => return depth == 0 && word.keyword == Keyword::UNION,
                _ => {}
            }
            false
        });
        parts.nth(select).unwrap_or_default()
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
        Some(Place::new(self.shown, line, column, width))
    }
}

fn position(location: Location) -> (usize, usize) {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    (number(location.line), number(location.column))
}

/// The parser's places end before a closing parenthesis and leave out the words of special
/// syntax, such as `CAST(`.
fn extent(tokens: &[TokenWithSpan], expr: &Expr) -> Span {
    let span = known_span(expr);
    if span.start.line == 0 {
        return span;
    }
    match expr {
        Expr::BinaryOp { left, right, .. } => extent(tokens, left).union(&extent(tokens, right)),
        Expr::Function(_) => {
            let name = tokens
                .iter()
                .position(|token| token.span.start == span.start);
            let open = name.and_then(|name| next_open(tokens, name));
            span.union_opt(&open.and_then(|open| closing(tokens, open)))
        }
        Expr::InList { list, .. } => list
            .first()
            .and_then(|first| around(tokens, known_span(first)))
            .map_or(span, |list| span.union(&list)),
        Expr::Nested(_)
        | Expr::Cast { .. }
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Position { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Overlay { .. } => around(tokens, span).unwrap_or(span),
        _ => span,
    }
}

/// The parser's place of an expression, or of what is inside where it has none.
fn known_span(expr: &Expr) -> Span {
    let own = expr.span();
    if own.start.line > 0 {
        return own;
    }
    let mut inner = Span::empty();
    let ControlFlow::Continue(()) = visit_expressions::<_, Infallible, _>(expr, |part| {
        inner = inner.union(&part.span());
        ControlFlow::Continue(())
    });
    inner
}

fn next_open(tokens: &[TokenWithSpan], from: usize) -> Option<usize> {
    let next = tokens.get(from + 1)?;
    (next.token == Token::LParen).then_some(from + 1)
}

/// The parenthesis that closes the one at `open`.
fn closing(tokens: &[TokenWithSpan], open: usize) -> Option<Span> {
    let mut depth = 0_usize;
    tokens.iter().skip(open).find_map(|token| {
        match token.token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        (depth == 0).then_some(token.span)
    })
}

/// From the word before the innermost parentheses around `inside` to their end; without
/// parentheses (`x::string`) nothing.
fn around(tokens: &[TokenWithSpan], inside: Span) -> Option<Span> {
    let first = tokens
        .iter()
        .position(|token| token.span.start == inside.start)?;
    let mut depth = 0_usize;
    let open = (0..first)
        .rev()
        .find(|index| match tokens.get(*index).map(|t| &t.token) {
            Some(Token::RParen) => {
                depth += 1;
                false
            }
            Some(Token::LParen) if depth > 0 => {
                depth -= 1;
                false
            }
            Some(Token::LParen) => true,
            _ => false,
        })?;
    let close = closing(tokens, open)?;
    if close.end < inside.end {
        return None;
    }
    let word = open.checked_sub(1).and_then(|word| tokens.get(word));
    let start = match word {
        Some(TokenWithSpan {
            token: Token::Word(word),
            span,
        }) if SPECIAL.contains(&word.keyword) => *span,
        _ => tokens.get(open)?.span,
    };
    Some(start.union(&close))
}

/// Words before the parentheses of special syntax.
const SPECIAL: [Keyword; 10] = [
    Keyword::CAST,
    Keyword::TRY_CAST,
    Keyword::SAFE_CAST,
    Keyword::EXTRACT,
    Keyword::CEIL,
    Keyword::FLOOR,
    Keyword::POSITION,
    Keyword::SUBSTRING,
    Keyword::TRIM,
    Keyword::OVERLAY,
];

impl Fault {
    /// Adds what to do.
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
