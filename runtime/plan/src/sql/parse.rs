//! From text to select items and a filter; everything else that SQL can say is refused.

use datafusion_sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, ObjectName, Query, Select, SelectItem, SetExpr, SetOperator,
    SetQuantifier, Spanned, Statement, TableFactor,
};
use datafusion_sql::sqlparser::keywords::Keyword;
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

/// `SELECT [DISTINCT [ON (on)]] items FROM input [alias] [WHERE filter] [GROUP BY group] [HAVING having]`.
#[derive(Debug)]
pub(crate) struct Selection {
    /// Which SELECT of the text it is, from 0.
    pub(crate) number: usize,
    /// Where it begins.
    pub(crate) place: Option<Span>,
    /// Which of the transform's inputs it reads.
    pub(crate) input: usize,
    /// What stands between `SELECT` and `FROM`.
    pub(crate) items: Vec<SelectItem>,
    /// What may stand before a column, as in `orders.price`.
    pub(crate) qualifiers: Vec<Vec<String>>,
    /// What stands behind `WHERE`.
    pub(crate) filter: Option<Expr>,
    /// Whether `DISTINCT` stands behind `SELECT`.
    pub(crate) distinct: bool,
    /// What stands behind `DISTINCT ON`.
    pub(crate) on: Option<Vec<Expr>>,
    /// What stands behind `GROUP BY`.
    pub(crate) group: Vec<Expr>,
    /// What stands behind `HAVING`.
    pub(crate) having: Option<Expr>,
}

/// Most SELECTs of one transform.
const MAX_SELECTS: usize = 100;

/// Parses a transform's SQL: one SELECT, or several with UNION ALL between them.
///
/// # Errors
/// It is not SQL, or not a selection from the transform's inputs, or not from all of them.
pub(crate) fn parse(subject: &Subject<'_>, inputs: &[Input]) -> Checked<Vec<Selection>> {
    let text = Text::read(subject)?;
    let statement = text.statement(inputs)?;
    let Statement::Query(query) = statement else {
        return Err(text.refuse(None, "only SELECT can be a transform"));
    };
    let selects = text.query(*query)?;
    let selections: Vec<Selection> = selects
        .into_iter()
        .enumerate()
        .map(|(number, select)| text.select(number, select, inputs))
        .collect::<Checked<_>>()?;
    let is_read = |input| selections.iter().any(|select| select.input == input);
    match (0..inputs.len()).find(|input| !is_read(*input)) {
        Some(unread) => Err(text.unread(inputs.get(unread))),
        None => Ok(selections),
    }
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
    fn statement(&self, inputs: &[Input]) -> Checked<Statement> {
        let mut statements = Parser::new(&TransformDialect)
            .with_recursion_limit(MAX_PARSER_DEPTH)
            .with_tokens_with_locations(self.tokens.clone())
            .parse_statements()
            .map_err(|error| self.unparsed(&error, inputs))?;
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

    fn unparsed(&self, error: &ParserError, inputs: &[Input]) -> Fault {
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
        let mut written = inputs.iter().map(written);
        let unquoted = |name: &String| name.contains('"') && !self.subject.sql.contains(name);
        match written.find(unquoted) {
            Some(name) => {
                fault.with_help(format!("the input's name needs double quotes: FROM {name}"))
            }
            None => fault,
        }
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
            .with_help(
                "a transform is SELECT expressions FROM its input, with WHERE, GROUP BY and HAVING if \
                 need be, or several of them with UNION ALL between",
            )
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

    /// The SELECTs of a query that is nothing else.
    fn query(&self, query: Query) -> Checked<Vec<Select>> {
        self.refuse_clause(clauses::of_query(&query))?;
        let mut selects = Vec::new();
        // The parser puts the first ones deepest.
        let mut rest = Some(query.body);
        while let Some(body) = rest.take() {
            match *body {
                SetExpr::Select(select) => selects.push(*select),
                SetExpr::Query(_) => {
                    return Err(self.refuse(None, "write the SELECT without parentheses"));
                }
                SetExpr::SetOperation {
                    op,
                    set_quantifier,
                    left,
                    right,
                } => {
                    self.refuse_set(op, set_quantifier)?;
                    let SetExpr::Select(select) = *right else {
                        return Err(self.refuse(None, "write the SELECT without parentheses"));
                    };
                    selects.push(*select);
                    rest = Some(left);
                }
                _ => return Err(self.refuse(None, "only SELECT can be a transform")),
            }
            if selects.len() > MAX_SELECTS {
                let message = format!("it has more than {MAX_SELECTS} SELECTs");
                return Err(self.refuse(self.keyword("UNION"), message));
            }
        }
        selects.reverse();
        Ok(selects)
    }

    fn refuse_set(&self, op: SetOperator, quantifier: SetQuantifier) -> Checked<()> {
        let message = match (op, quantifier) {
            (SetOperator::Union, SetQuantifier::All) => return Ok(()),
            (SetOperator::Union, SetQuantifier::None | SetQuantifier::Distinct) => {
                "UNION without ALL is not supported: it would have to remember every row. Write \
                 UNION ALL, which keeps all rows"
                    .to_owned()
            }
            (SetOperator::Union, _) => "columns meet by their places: write UNION ALL".to_owned(),
            (op, _) => format!("{op} is not supported"),
        };
        Err(self.refuse(self.keyword(&op.to_string()), message))
    }

    fn unread(&self, input: Option<&Input>) -> Fault {
        let name = input.map(plain).unwrap_or_default();
        self.subject
            .fault(
                ErrorCode::SqlDoesNotBind,
                self.first(),
                format!("no SELECT reads the input `{name}`"),
            )
            .with_help("read it in a SELECT after UNION ALL, or take it out of `inputs`")
    }

    /// What a SELECT selects, if it does nothing that a transform cannot.
    fn select(&self, number: usize, mut select: Select, inputs: &[Input]) -> Checked<Selection> {
        self.refuse_clause(clauses::of_select(&select))?;
        if select.projection.is_empty() {
            return Err(self.refuse(self.keyword("FROM"), "it selects no columns"));
        }
        let (input, qualifiers) = self.table(&mut select, inputs)?;
        let (distinct, on) = match select.distinct {
            Some(Distinct::Distinct) => (true, None),
            Some(Distinct::On(on)) if on.is_empty() => {
                let message = "DISTINCT ON names no expressions";
                return Err(self.refuse(self.keyword("DISTINCT"), message));
            }
            Some(Distinct::On(on)) => (false, Some(on)),
            Some(Distinct::All) | None => (false, None),
        };
        let tokens = self.subject.tokens_of(number).iter();
        let mut words = tokens.filter(|token| matches!(token.token, Token::Word(_)));
        Ok(Selection {
            number,
            // Behind ALL.
            place: words
                .find(|word| is_select(&word.token))
                .map(|word| word.span),
            input,
            items: select.projection,
            qualifiers,
            filter: select.selection,
            distinct,
            on,
            group: match select.group_by {
                GroupByExpr::Expressions(expressions, _) => flat(expressions),
                GroupByExpr::All(_) => Vec::new(),
            },
            having: select.having,
        })
    }

    /// The input that FROM names, if it names one and nothing else, and what may stand before a
    /// column's name.
    fn table(&self, select: &mut Select, inputs: &[Input]) -> Checked<(usize, Vec<Vec<String>>)> {
        let joined = "joins are not supported: a SELECT reads one input";
        let Some(from) = select.from.pop() else {
            let message = format!(
                "it reads nothing: FROM {} is missing",
                any_of(inputs, written)
            );
            return Err(self.refuse(None, message));
        };
        if !select.from.is_empty() || !from.joins.is_empty() {
            let span = self.keyword("JOIN").unwrap_or_else(|| from.relation.span());
            return Err(self.refuse(Some(span), joined));
        }
        let is_plain = clauses::is_plain(&from.relation);
        let TableFactor::Table { name, alias, .. } = from.relation else {
            return Err(self.not_an_input(inputs));
        };
        if !is_plain {
            return Err(self.not_an_input(inputs));
        }
        let parts = parts(&name);
        let Some(input) = inputs.iter().position(|input| is_named(input, &parts)) else {
            return Err(self.other_table(&name, &parts, inputs));
        };
        let Some(alias) = alias else {
            let last = parts.last().cloned();
            let qualifiers = std::iter::once(parts).chain(last.map(|last| vec![last]));
            return Ok((input, qualifiers.collect()));
        };
        if let Some(column) = alias.columns.first() {
            return Err(self.refuse(
                Some(column.name.span),
                "columns are renamed with AS, one by one",
            ));
        }
        Ok((input, vec![vec![alias.name.value]]))
    }

    fn not_an_input(&self, inputs: &[Input]) -> Fault {
        let message = match inputs {
            [input] => format!(
                "FROM takes the name of the input, {}, and nothing else",
                written(input)
            ),
            several => format!(
                "FROM takes the name of one of the inputs, {}, and nothing else",
                any_of(several, written)
            ),
        };
        self.refuse(self.keyword("FROM"), message)
    }

    fn other_table(&self, name: &ObjectName, parts: &[String], inputs: &[Input]) -> Fault {
        let (read, is) = match inputs {
            [_] => ("its input is", "the transform's `input`"),
            _ => ("its inputs are", "the transform's `inputs`"),
        };
        let all: Vec<String> = inputs.iter().map(|it| format!("`{}`", plain(it))).collect();
        let fault = self.subject.unbound(
            name.span(),
            format!(
                "it reads `{}`, but {read} {}",
                parts.join("."),
                all.join(", ")
            ),
        );
        let plain_names: Vec<String> = inputs.iter().map(plain).collect();
        let near = nearest(&parts.join("."), plain_names.iter().map(String::as_str));
        let near = inputs
            .iter()
            .find(|input| near == Some(plain(input).as_str()));
        fault.with_help(match near {
            Some(near) => format!("write FROM {}", written(near)),
            None => format!("write FROM {}, or change {is}", any_of(inputs, written)),
        })
    }
}

/// Names with `or` before the last.
fn any_of(inputs: &[Input], name: fn(&Input) -> String) -> String {
    let names: Vec<String> = inputs.iter().map(name).collect();
    match names.as_slice() {
        [most @ .., last] if !most.is_empty() => format!("{} or {last}", most.join(", ")),
        names => names.concat(),
    }
}

fn is_select(token: &Token) -> bool {
    matches!(token, Token::Word(word) if word.keyword == Keyword::SELECT)
}

/// `(a, b)` behind GROUP BY groups as `a, b` does.
fn flat(expressions: Vec<Expr>) -> Vec<Expr> {
    let expressions = expressions.into_iter();
    expressions
        .flat_map(|expression| match expression {
            Expr::Tuple(parts) if !parts.is_empty() => parts,
            other => vec![other],
        })
        .collect()
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
