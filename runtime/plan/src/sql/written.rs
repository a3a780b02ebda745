//! Parts of a transform's SQL as they are written, for messages about records.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

/// Texts of the select items and of the conditions of WHERE and HAVING, in order.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) items: Vec<String>,
    pub(crate) conditions: Vec<String>,
    pub(crate) having: Vec<String>,
}

/// Cuts a SELECT at its commas and ANDs.
pub(crate) fn written(sql: &str, tokens: &[TokenWithSpan]) -> Written {
    let mut state = State::default();
    let mut start = None;
    for (index, token) in tokens.iter().enumerate() {
        let keyword = keyword(&token.token);
        state.nest(&token.token, keyword);
        if state.depth > 0 {
            continue;
        }
        let before = index.checked_sub(1).and_then(|before| tokens.get(before));
        let before = before.map_or(Keyword::NoKeyword, |before| self::keyword(&before.token));
        let is_distinct_from = before == Keyword::DISTINCT;
        if keyword == Keyword::DISTINCT && before == Keyword::SELECT {
            start = Some(index + 1);
            continue;
        }
        if keyword == Keyword::ON && is_distinct_from && start == Some(index) {
            state.is_behind_on = true;
            continue;
        }
        if state.is_behind_on && token.token == Token::RParen {
            state.is_behind_on = false;
            start = Some(index + 1);
            continue;
        }
        let ends = match (state.clause, keyword) {
            (Clause::None, Keyword::SELECT) => Some(Clause::Items),
            (Clause::Items, Keyword::FROM) if !is_distinct_from => Some(Clause::From),
            (Clause::From, Keyword::WHERE) => Some(Clause::Where),
            (Clause::From | Clause::Where, Keyword::GROUP) => Some(Clause::From),
            (Clause::From | Clause::Where, Keyword::HAVING) => Some(Clause::Having),
            (Clause::Where, Keyword::AND) if !state.take_between() => Some(Clause::Where),
            (Clause::Having, Keyword::AND) if !state.take_between() => Some(Clause::Having),
            (Clause::Items, _) if token.token == Token::Comma => Some(Clause::Items),
            (Clause::Where | Clause::Having, _) if token.token == Token::SemiColon => {
                Some(Clause::From)
            }
            _ => None,
        };
        if let Some(next) = ends {
            state.take(sql, start.and_then(|start| tokens.get(start..index)));
            state.clause = next;
            start = Some(index + 1);
        }
    }
    state.take(sql, start.and_then(|start| tokens.get(start..)));
    state.written
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Clause {
    #[default]
    None,
    Items,
    From,
    Where,
    Having,
}

#[derive(Debug, Default)]
struct State {
    written: Written,
    clause: Clause,
    /// Of parentheses and CASE.
    depth: usize,
    /// The expressions of DISTINCT ON have not ended.
    is_behind_on: bool,
    /// BETWEENs whose AND has not come.
    betweens: usize,
}

impl State {
    fn nest(&mut self, token: &Token, keyword: Keyword) {
        match (token, keyword) {
            (Token::LParen, _) | (_, Keyword::CASE) => self.depth += 1,
            (Token::RParen, _) | (_, Keyword::END) => self.depth = self.depth.saturating_sub(1),
            (_, Keyword::BETWEEN) if self.depth == 0 => self.betweens += 1,
            _ => {}
        }
    }

    fn take_between(&mut self) -> bool {
        let pending = self.betweens > 0;
        self.betweens = self.betweens.saturating_sub(1);
        pending
    }

    /// Keeps the text of a part that ends.
    fn take(&mut self, sql: &str, part: Option<&[TokenWithSpan]>) {
        let Some(part) = part else {
            return;
        };
        let part = match part {
            [expression @ .., before, _] if keyword(&before.token) == Keyword::AS => expression,
            whole => whole,
        };
        let text = match (part.first(), part.last()) {
            (Some(first), Some(last)) => between(sql, first.span.start, last.span.end),
            _ => String::new(),
        };
        match self.clause {
            Clause::None | Clause::From => {}
            Clause::Items => self.written.items.push(text),
            Clause::Where => self.written.conditions.push(text),
            Clause::Having => self.written.having.push(text),
        }
    }
}

fn keyword(token: &Token) -> Keyword {
    match token {
        Token::Word(word) if word.quote_style.is_none() => word.keyword,
        _ => Keyword::NoKeyword,
    }
}

/// The text between two places, its white space as single spaces.
fn between(sql: &str, start: Location, end: Location) -> String {
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let (first, last) = (number(start.line), number(end.line));
    let lines = sql.lines().enumerate().filter_map(|(index, line)| {
        let line_number = index + 1;
        if line_number < first || line_number > last {
            return None;
        }
        let skip = if line_number == first {
            number(start.column) - 1
        } else {
            0
        };
        let until = if line_number == last {
            number(end.column) - 1
        } else {
            usize::MAX
        };
        Some(if line.is_ascii() {
            // A column is a byte: a long line is not walked for every part of it.
            line.get(skip..until.min(line.len()))
                .unwrap_or_default()
                .to_owned()
        } else {
            line.chars().take(until).skip(skip).collect::<String>()
        })
    });
    let text: Vec<String> = lines.collect();
    text.join(" ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use datafusion_sql::sqlparser::tokenizer::Tokenizer;

    use super::super::dialect::TransformDialect;
    use super::*;

    fn parts(sql: &str) -> Written {
        let tokens = Tokenizer::new(&TransformDialect, sql)
            .tokenize_with_location()
            .unwrap();
        let tokens: Vec<TokenWithSpan> = tokens
            .into_iter()
            .filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF))
            .collect();
        written(sql, &tokens)
    }

    #[test]
    fn what_records_are_distinct_on_is_no_item() {
        for distinct in [
            "",
            "DISTINCT",
            "DISTINCT ON (a)",
            "DISTINCT ON (a, f(b, c))",
        ] {
            let parts = parts(&format!("SELECT {distinct} (a), a = b AS x FROM t WHERE c"));
            assert_eq!(parts.items, ["(a)", "a = b"], "{distinct}");
            assert_eq!(parts.conditions, ["c"], "{distinct}");
        }
    }

    #[test]
    fn items_and_conditions_are_cut_as_they_are_written() {
        let parts = parts(
            "SELECT a, -(-i-1) AS x,\n  CASE WHEN a THEN b, c END y, f(a, b), extract(day\n FROM t) AS \
             z, a IS DISTINCT FROM b AS d FROM t WHERE a > 'x' AND b BETWEEN 1 AND 2 AND (c AND d)",
        );
        assert_eq!(
            parts.items,
            [
                "a",
                "-(-i-1)",
                "CASE WHEN a THEN b, c END y",
                "f(a, b)",
                "extract(day FROM t)",
                "a IS DISTINCT FROM b"
            ]
        );
        assert_eq!(
            parts.conditions,
            ["a > 'x'", "b BETWEEN 1 AND 2", "(c AND d)"]
        );
    }

    #[test]
    fn clauses_of_groups_are_cut_as_they_are_written() {
        let parts = parts(
            "SELECT DISTINCT a, count(*) FILTER (WHERE b AND c) AS n FROM t WHERE d AND e GROUP BY a, \
             f AND g HAVING count(*) > 1 AND max(b) BETWEEN 1 AND 2",
        );
        assert_eq!(parts.items, ["a", "count(*) FILTER (WHERE b AND c)"]);
        assert_eq!(parts.conditions, ["d", "e"]);
        assert_eq!(parts.having, ["count(*) > 1", "max(b) BETWEEN 1 AND 2"]);
    }
}
