//! From text to select items and a filter; everything else that SQL can say is refused.

use datafusion_sql::sqlparser::ast::{
    Expr, GroupByExpr, ObjectName, Query, Select, SelectItem, SetExpr, Spanned, Statement,
    TableFactor,
};
use datafusion_sql::sqlparser::parser::{Parser, ParserError};
use datafusion_sql::sqlparser::tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer};
use millstream_spec::valid::Input;
use millstream_types::ErrorCode;

use super::dialect::TransformDialect;
use super::nesting;
use super::place::Subject;
use crate::error::{Fault, nearest};

/// Most levels of syntax that the parser descends into.
const MAX_PARSER_DEPTH: usize = 40;

type Checked<T> = Result<T, Box<Fault>>;

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
            return Err(Box::new(
                subject
                    .fault(
                        ErrorCode::SqlDoesNotParse,
                        Some(span),
                        format!(
                            "this expression is more than {} operators deep",
                            nesting::MAX_DEPTH
                        ),
                    )
                    .with_help("use IN or CASE instead of a long chain, or several transforms"),
            ));
        }
        Ok(Self { subject, tokens })
    }

    /// The one statement.
    fn statement(&self, input: &Input) -> Checked<Statement> {
        let mut statements = Parser::new(&TransformDialect)
            .with_recursion_limit(MAX_PARSER_DEPTH)
            .with_tokens_with_locations(self.tokens.clone())
            .parse_statements()
            .map_err(|error| Box::new(self.unparsed(&error, input)))?;
        let first = statements.pop();
        match (first, statements.is_empty()) {
            (Some(statement), true) => Ok(statement),
            (None, _) => Err(self.refuse(None, "there is no statement")),
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
        let span = place.map(|start| self.token_at(start));
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

    fn refuse(&self, span: Option<Span>, message: impl Into<String>) -> Box<Fault> {
        let span = span.or_else(|| self.first());
        Box::new(
            self.subject
                .fault(ErrorCode::SqlDoesNotBind, span, message)
                .with_help(
                    "a transform is SELECT expressions FROM its input, with WHERE if need be",
                ),
        )
    }

    fn refuse_keyword(&self, keyword: &str, message: &str) -> Box<Fault> {
        self.refuse(self.keyword(keyword), message)
    }

    fn first(&self) -> Option<Span> {
        self.tokens
            .iter()
            .find(|token| !matches!(token.token, Token::Whitespace(_)))
            .map(|token| token.span)
    }

    /// The SELECT of a query that is nothing else.
    fn query(&self, query: Query) -> Checked<Select> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        let refused = [
            (
                with.is_some(),
                "WITH",
                "WITH is not supported: make it a transform of its own",
            ),
            (
                order_by.is_some(),
                "ORDER",
                "ORDER BY is not supported: a stream has no end to sort up to",
            ),
            (
                limit_clause.is_some(),
                "LIMIT",
                "LIMIT and OFFSET are not supported",
            ),
            (fetch.is_some(), "FETCH", "FETCH is not supported"),
            (
                !locks.is_empty() || for_clause.is_some(),
                "FOR",
                "FOR is not supported",
            ),
            (settings.is_some(), "SETTINGS", "SETTINGS is not supported"),
            (format_clause.is_some(), "FORMAT", "FORMAT is not supported"),
            (
                !pipe_operators.is_empty(),
                "|>",
                "pipe operators are not supported",
            ),
        ];
        self.refuse_any(&refused)?;
        match *body {
            SetExpr::Select(select) => Ok(*select),
            SetExpr::Query(_) => Err(self.refuse(None, "write the SELECT without parentheses")),
            SetExpr::SetOperation { op, .. } => {
                let keyword = op.to_string();
                Err(self.refuse_keyword(&keyword, &format!("{keyword} is not supported")))
            }
            _ => Err(self.refuse(None, "only SELECT can be a transform")),
        }
    }

    fn refuse_any(&self, refused: &[(bool, &str, &str)]) -> Checked<()> {
        match refused.iter().find(|(there, ..)| *there) {
            Some((_, keyword, message)) => Err(self.refuse_keyword(keyword, message)),
            None => Ok(()),
        }
    }

    /// What a SELECT selects, if it does nothing that a transform cannot.
    fn select(&self, mut select: Select, input: &Input) -> Checked<Selection> {
        let grouped = match &select.group_by {
            GroupByExpr::All(_) => true,
            GroupByExpr::Expressions(expressions, modifiers) => {
                !expressions.is_empty() || !modifiers.is_empty()
            }
        };
        let refused = [
            (
                select.distinct.is_some(),
                "DISTINCT",
                "DISTINCT is not supported",
            ),
            (select.top.is_some(), "TOP", "TOP is not supported"),
            (grouped, "GROUP", "GROUP BY is not supported"),
            (select.having.is_some(), "HAVING", "HAVING is not supported"),
            (
                !select.named_window.is_empty(),
                "WINDOW",
                "WINDOW is not supported",
            ),
            (
                select.qualify.is_some(),
                "QUALIFY",
                "QUALIFY is not supported",
            ),
            (
                select.into.is_some(),
                "INTO",
                "INTO is not supported: sinks write",
            ),
            (
                !select.lateral_views.is_empty(),
                "LATERAL",
                "LATERAL VIEW is not supported",
            ),
            (
                select.prewhere.is_some(),
                "PREWHERE",
                "PREWHERE is not supported: use WHERE",
            ),
            (
                !select.connect_by.is_empty(),
                "CONNECT",
                "CONNECT BY is not supported",
            ),
            (
                !select.cluster_by.is_empty(),
                "CLUSTER",
                "CLUSTER BY is not supported",
            ),
            (
                !select.distribute_by.is_empty(),
                "DISTRIBUTE",
                "DISTRIBUTE BY is not supported",
            ),
            (
                !select.sort_by.is_empty(),
                "SORT",
                "SORT BY is not supported",
            ),
            (
                select.exclude.is_some(),
                "EXCLUDE",
                "write EXCLUDE directly behind `*`",
            ),
            (
                select.value_table_mode.is_some(),
                "AS",
                "SELECT AS is not supported",
            ),
        ];
        self.refuse_any(&refused)?;
        if select.projection.is_empty() {
            return Err(self.refuse_keyword("FROM", "it selects no columns"));
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
            let second = select.from.first().map(|first| first.relation.span());
            return Err(self.refuse(self.keyword("JOIN").or(second), joined));
        }
        let TableFactor::Table {
            name,
            alias,
            args: None,
            ..
        } = from.relation
        else {
            let message = format!(
                "FROM must name the input, {}: subqueries and table functions are not supported",
                written(input)
            );
            return Err(self.refuse(self.keyword("FROM"), message));
        };
        let parts = parts(&name);
        if !names_of(input).contains(&parts) {
            return Err(Box::new(self.other_table(&name, &parts, input)));
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

/// The parts of a name, without quotes.
fn parts(name: &ObjectName) -> Vec<String> {
    name.0
        .iter()
        .map(|part| {
            part.as_ident()
                .map_or_else(|| part.to_string(), |ident| ident.value.clone())
        })
        .collect()
}

/// The ways in which FROM may name an input.
fn names_of(input: &Input) -> Vec<Vec<String>> {
    match input {
        Input::Main(name) => vec![vec![name.clone()]],
        Input::DeadLetters(source) => vec![
            vec![source.clone(), "deadLetters".to_owned()],
            vec![format!("{source}.deadLetters")],
        ],
    }
}

/// An input's name as the job file writes it.
fn plain(input: &Input) -> String {
    match input {
        Input::Main(name) => name.clone(),
        Input::DeadLetters(source) => format!("{source}.deadLetters"),
    }
}

/// An input's name as SQL writes it.
fn written(input: &Input) -> String {
    let quoted = |name: &str| {
        if name.contains('-') {
            format!("\"{name}\"")
        } else {
            name.to_owned()
        }
    };
    match input {
        Input::Main(name) => quoted(name),
        Input::DeadLetters(source) => format!("{}.deadLetters", quoted(source)),
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
