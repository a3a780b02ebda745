//! A SELECT in FROM, taken out: it becomes a transform of its own, which the SELECT around it reads.
//!
//! Both keep their places: each text is the whole one with blanks for what belongs to the other, so a
//! fault points into what the user has written.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use millstream_spec::ValidTransform;
use millstream_spec::valid::Input;

use super::dialect::TransformDialect;
use super::nesting;

/// What FROM names instead of the SELECT that was there. No node can have the name.
pub(crate) const PLACEHOLDER: &str = "_";

/// What a transform's name ends with if it is the SELECT in another one's FROM.
const FROM: &str = "/from";

/// A transform, and the one of the job file that it is a part of.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) transform: ValidTransform,
    /// Name of the transform in the job file.
    pub(crate) node: String,
    /// Its whole SQL.
    pub(crate) text: String,
}

/// A transform as several, each after the one that it reads.
pub(crate) fn parts(transform: &ValidTransform) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = transform.clone();
    while let Some((outer, inner)) = divided(&rest.sql) {
        let name = format!("{}{FROM}", rest.name);
        let part = ValidTransform {
            inputs: vec![Input::Main(name.clone())],
            partition_by: Vec::new(),
            sql: outer,
            ..rest.clone()
        };
        parts.push(part);
        rest = ValidTransform {
            name,
            sql: inner,
            ..rest
        };
    }
    parts.push(rest);
    let parts = parts.into_iter().rev();
    parts
        .map(|part| Part {
            transform: part,
            node: transform.name.clone(),
            text: transform.sql.clone(),
        })
        .collect()
}

/// Whether an input is the SELECT in FROM.
pub(crate) fn is_derived(name: &str) -> bool {
    name.ends_with(FROM)
}

/// The SELECT around the one in FROM, and that one; none if there is none, or more is wrong than this can
/// tell.
fn divided(sql: &str) -> Option<(String, String)> {
    let tokens = Tokenizer::new(&TransformDialect, sql).tokenize_with_location();
    let tokens: Vec<TokenWithSpan> = tokens.ok()?;
    nesting::check(&tokens).ok()?;
    let tokens: Vec<&TokenWithSpan> = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
        .collect();
    let (open, close) = subquery(&tokens)?;
    let (open, close) = (place(open), place(close));
    let outer = blanked(sql, |at, c| {
        if at == open {
            '_'
        } else if at < open || at > close {
            c
        } else {
            ' '
        }
    });
    let inner = blanked(sql, |at, c| if at > open && at < close { c } else { ' ' });
    Some((outer, inner))
}

/// The parentheses around the SELECT in FROM of a text that is one SELECT.
fn subquery(tokens: &[&TokenWithSpan]) -> Option<(Location, Location)> {
    let mut depth = 0_usize;
    let mut open: Option<Location> = None;
    let mut found = None;
    for (index, token) in tokens.iter().enumerate() {
        match &token.token {
            Token::LParen => {
                depth += 1;
                let before = index.checked_sub(1).and_then(|before| tokens.get(before));
                let behind = tokens.get(index + 1);
                let is_from = before.is_some_and(|it| keyword(it) == Keyword::FROM);
                let is_select = behind.is_some_and(|it| keyword(it) == Keyword::SELECT);
                if depth == 1 && open.is_none() && is_from && is_select {
                    open = Some(token.span.start);
                }
            }
            Token::RParen => {
                depth = depth.saturating_sub(1);
                if let (0, Some(open), None) = (depth, open, found) {
                    found = Some((open, token.span.start));
                }
            }
            // Which SELECT reads what is the union's matter.
            Token::Word(_) if depth == 0 && keyword(token) == Keyword::UNION => return None,
            _ => {}
        }
    }
    found
}

fn keyword(token: &TokenWithSpan) -> Keyword {
    match &token.token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

const fn place(location: Location) -> (u64, u64) {
    (location.line, location.column)
}

/// The text with other characters, but for the ends of lines.
fn blanked(sql: &str, character: impl Fn((u64, u64), char) -> char) -> String {
    let (mut line, mut column) = (1, 1);
    let mut text = String::with_capacity(sql.len());
    for c in sql.chars() {
        if c == '\n' {
            text.push(c);
            line += 1;
            column = 1;
        } else {
            text.push(character((line, column), c));
            column += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_selects_keep_their_places() {
        let (outer, inner) =
            divided("SELECT k, f(a)\nFROM (SELECT b AS k\n FROM t) AS u\nWHERE k > 1").unwrap();
        assert_eq!(
            outer,
            "SELECT k, f(a)\nFROM _             \n         AS u\nWHERE k > 1"
        );
        assert_eq!(
            inner,
            "              \n      SELECT b AS k\n FROM t      \n           "
        );
    }

    #[test]
    fn what_is_no_single_select_in_from_stays_whole() {
        for sql in [
            "SELECT a FROM t",
            "SELECT extract(day FROM (SELECT 1)) AS d FROM t",
            "SELECT a FROM (SELECT b FROM t) UNION ALL SELECT c FROM u",
            "SELECT a FROM (VALUES (1))",
            "SELECT a FROM 'x (SELECT",
        ] {
            assert_eq!(divided(sql), None, "{sql}");
        }
    }
}
