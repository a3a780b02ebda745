//! From text to select items and a filter; everything else that SQL can say is refused.

use datafusion_sql::sqlparser::ast::{
    Expr, ObjectName, Query, Select, SelectItem, SetExpr, Spanned, Statement, TableFactor,
};
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};
use millstream_spec::valid::Input;
use millstream_types::ErrorCode;

use super::clauses::{self, Clause};
use super::dialect::TransformDialect;
use super::input::{is_named, parts, plain, written};
use super::nesting;
use super::place::Subject;
use super::spelling;
use crate::error::{Fault, nearest};

/// Most levels of syntax that the parser descends into.
const MAX_PARSER_DEPTH: usize = 40;

type Checked<T> = Result<T, Fault>;

/// `SELECT items FROM input [alias] [WHERE filter]`.
#[derive(Debug)]
pub(crate) struct Selection {
    /// What stands between `SELECT` and `FROM`.
    pub(crate) items: Vec<SelectItem>,
    /// What may stand before a column, as in `orders.price`.
    pub(crate) qualifiers: Vec<Vec<String>>,
    /// What stands behind `WHERE`.
    pub(crate) filter: Option<Expr>,
}

/// Parses a transform's SQL.
///
/// # Errors
/// It is not SQL, or not a selection from the transform's input.
pub(crate) fn parse(subject: &Subject<'_>, input: &Input) -> Checked<Selection> {
    let text = Text::read(subject)?;
    let statement = text.statement(input)?;
    let Statement::Query(query) = statement else {
        return Err(text.refuse(None, "only SELECT can be a transform"));
    };
    let select = text.query(*query)?;
    text.select(select, input)
}

/// The text in pieces, and what faults are about.
struct Text<'a> {
    subject: &'a Subject<'a>,
    tokens: Vec<TokenWithSpan>,
}

impl<'a> Text<'a> {
    fn read(subject: &'a Subject<'a>) -> Checked<Self> {
        let tokens = Tokenizer::new(&TransformDialect, subject.sql)
            .tokenize_with_location()
            .map_err(|error| {
                let span = Span::new(error.location, error.location);
                subject.fault(ErrorCode::SqlDoesNotParse, Some(span), error.message)
            })?;
        if let Err(span) = nesting::check(&tokens) {
            return Err(subject
                .fault(
                    ErrorCode::SqlDoesNotParse,
                    Some(span),
                    format!(
                        "this expression is more than {} operators deep",
                        nesting::MAX_DEPTH
                    ),
                )
                .with_help("use IN or CASE instead of a long chain, or several transforms"));
        }
        spelling::check(subject, &tokens)?;
        Ok(Self { subject, tokens })
    }

    /// The one statement.
    fn statement(&self, input: &Input) -> Checked<Statement> {
        let mut statements = Parser::new(&TransformDialect)
            .with_recursion_limit(MAX_PARSER_DEPTH)
            .with_tokens_with_locations(self.tokens.clone())
            .parse_statements()
            .map_err(|error| self.unparsed(&error, input))?;
        let first = statements.pop();
        match (first, statements.is_empty()) {
            (Some(statement), true) => Ok(statement),
            (None, _) => {
                Err(self
                    .subject
                    .fault(ErrorCode::SqlDoesNotParse, None, "there is no SELECT"))
            }
            (Some(_), false) => Err(self.refuse(
                self.tokens
                    .iter()
                    .find(|t| t.token == Token::SemiColon)
                    .map(|t| t.span),
                "there is more than one statement: a transform is one SELECT",
            )),
        }
    }

    fn unparsed(&self, error: &ParserError, input: &Input) -> Fault {
        let text = match error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
            ParserError::RecursionLimitExceeded => "parentheses and functions nest too deep",
        };
        let (message, place) = split_location(text);
        let message = message.strip_prefix("Expected: ").map_or_else(
            || message.to_owned(),
            |expected| format!("expected {expected}"),
        );
        let (message, span) = match message.strip_suffix(", found: EOF") {
            Some(expected) => (format!("{expected}, but the text ends"), self.end()),
            None => (message, place.map(|start| self.token_at(start))),
        };
        let fault = self
            .subject
            .fault(ErrorCode::SqlDoesNotParse, span, message);
        let written = written(input);
        if written.contains('"') && !self.subject.sql.contains(&written) {
            return fault.with_help(format!(
                "the input's name needs double quotes: FROM {written}"
            ));
        }
        fault
    }

    /// The token that begins at a location, or just the location.
    fn token_at(&self, start: Location) -> Span {
        self.tokens
            .iter()
            .find(|token| token.span.start == start)
            .map_or_else(|| Span::new(start, start), |token| token.span)
    }

    /// Behind the last token.
    fn end(&self) -> Option<Span> {
        let last = self.tokens.last()?;
        Some(Span::new(last.span.end, last.span.end))
    }

    /// Where a keyword stands outside of all parentheses.
    fn keyword(&self, keyword: &str) -> Option<Span> {
        let mut depth = 0_u32;
        self.tokens.iter().find_map(|token| {
            match &token.token {
                Token::LParen => depth += 1,
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Word(word)
                    if depth == 0
                        && word.quote_style.is_none()
                        && word.value.eq_ignore_ascii_case(keyword) =>
                {
                    return Some(token.span);
                }
                _ => {}
            }
            None
        })
    }

    fn refuse(&self, span: Option<Span>, message: impl Into<String>) -> Fault {
        let span = span.or_else(|| self.first());
        self.subject
            .fault(ErrorCode::SqlDoesNotBind, span, message)
            .with_help("a transform is SELECT expressions FROM its input, with WHERE if need be")
    }

    fn first(&self) -> Option<Span> {
        self.tokens
            .iter()
            .find(|token| !matches!(token.token, Token::Whitespace(_)))
            .map(|token| token.span)
    }

    fn refuse_clause(&self, clause: Option<Clause>) -> Checked<()> {
        match clause {
            Some(clause) => Err(self.refuse(self.keyword(clause.keyword()), clause.message())),
            None => Ok(()),
        }
    }

    /// The SELECT of a query that is nothing else.
    fn query(&self, query: Query) -> Checked<Select> {
        self.refuse_clause(clauses::of_query(&query))?;
        match *query.body {
            SetExpr::Select(select) => Ok(*select),
            SetExpr::Query(_) => Err(self.refuse(None, "write the SELECT without parentheses")),
            SetExpr::SetOperation { op, .. } => {
                let keyword = op.to_string();
                let message = format!("{keyword} is not supported");
                Err(self.refuse(self.keyword(&keyword), message))
            }
            _ => Err(self.refuse(None, "only SELECT can be a transform")),
        }
    }

    /// What a SELECT selects, if it does nothing that a transform cannot.
    fn select(&self, mut select: Select, input: &Input) -> Checked<Selection> {
        self.refuse_clause(clauses::of_select(&select))?;
        if select.projection.is_empty() {
            return Err(self.refuse(self.keyword("FROM"), "it selects no columns"));
        }
        let qualifiers = self.table(&mut select, input)?;
        Ok(Selection {
            items: select.projection,
            qualifiers,
            filter: select.selection,
        })
    }

    /// What may stand before a column's name, if FROM names the input and nothing else.
    fn table(&self, select: &mut Select, input: &Input) -> Checked<Vec<Vec<String>>> {
        let joined = "joins are not supported: a transform reads one input";
        let Some(from) = select.from.pop() else {
            let message = format!("it reads nothing: FROM {} is missing", written(input));
            return Err(self.refuse(None, message));
        };
        if !select.from.is_empty() || !from.joins.is_empty() {
            let span = self.keyword("JOIN").unwrap_or_else(|| from.relation.span());
            return Err(self.refuse(Some(span), joined));
        }
        let is_plain = clauses::is_plain(&from.relation);
        let TableFactor::Table { name, alias, .. } = from.relation else {
            return Err(self.not_the_input(input));
        };
        if !is_plain {
            return Err(self.not_the_input(input));
        }
        let parts = parts(&name);
        if !is_named(input, &parts) {
            return Err(self.other_table(&name, &parts, input));
        }
        let Some(alias) = alias else {
            let last = parts.last().cloned();
            return Ok(std::iter::once(parts)
                .chain(last.map(|last| vec![last]))
                .collect());
        };
        if let Some(column) = alias.columns.first() {
            return Err(self.refuse(
                Some(column.name.span),
                "columns are renamed with AS, one by one",
            ));
        }
        Ok(vec![vec![alias.name.value]])
    }

    fn not_the_input(&self, input: &Input) -> Fault {
        let message = format!(
            "FROM takes the name of the input, {}, and nothing else",
            written(input)
        );
        self.refuse(self.keyword("FROM"), message)
    }

    fn other_table(&self, name: &ObjectName, parts: &[String], input: &Input) -> Fault {
        let wanted = written(input);
        let fault = self.subject.unbound(
            name.span(),
            format!(
                "it reads `{}`, but its input is `{}`",
                parts.join("."),
                plain(input)
            ),
        );
        let misspelt = nearest(&parts.join("."), [plain(input).as_str()]).is_some();
        fault.with_help(if misspelt {
            format!("write FROM {wanted}")
        } else {
            format!("write FROM {wanted}, or change the transform's `input`")
        })
    }
}

/// Takes the parser's ` at Line: 1, Column: 16` from the end of its message.
fn split_location(text: &str) -> (&str, Option<Location>) {
    let Some((message, place)) = text.rsplit_once(" at Line: ") else {
        return (text, None);
    };
    let location = place
        .split_once(", Column: ")
        .and_then(|(line, column)| Some(Location::new(line.parse().ok()?, column.parse().ok()?)));
    (message, location)
}
