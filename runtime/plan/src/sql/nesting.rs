//! A bound on how deep expressions are, checked before anything walks them recursively.

use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan};

/// Most operators on the way from an expression to its innermost part.
pub(crate) const MAX_DEPTH: usize = 300;

/// Checks that no expression is deeper than [`MAX_DEPTH`].
///
/// Every operator or keyword may put what stands before it one level deeper (`a + b + c` is
/// `(a + b) + c`), until a comma or the next branch of a CASE begins afresh. So the sum of the
/// counts over the open parentheses is never less than the depth.
///
/// # Errors
/// Where it becomes deeper.
pub(crate) fn check(tokens: &[TokenWithSpan]) -> Result<(), Span> {
    let mut counts = vec![0_usize];
    let mut depth = 0_usize;
    for token in tokens {
        match step(&token.token) {
            Step::Deeper => {
                if let Some(count) = counts.last_mut() {
                    *count += 1;
                    depth += 1;
                }
            }
            Step::Afresh => depth -= counts.last_mut().map_or(0, std::mem::take),
            Step::Open => {
                counts.push(0);
                depth += 1;
            }
            Step::Close if counts.len() > 1 => depth -= 1 + counts.pop().unwrap_or(0),
            Step::Close | Step::Same => {}
        }
        if depth > MAX_DEPTH {
            return Err(token.span);
        }
    }
    Ok(())
}

enum Step {
    Deeper,
    Afresh,
    Open,
    Close,
    Same,
}

fn step(token: &Token) -> Step {
    match token {
        Token::LParen | Token::LBracket | Token::LBrace => Step::Open,
        Token::RParen | Token::RBracket | Token::RBrace => Step::Close,
        Token::Comma | Token::SemiColon => Step::Afresh,
        Token::Word(word) => match word.keyword {
            Keyword::CASE => Step::Open,
            Keyword::END => Step::Close,
            Keyword::WHEN | Keyword::THEN | Keyword::ELSE | Keyword::FROM | Keyword::WHERE => {
                Step::Afresh
            }
            Keyword::NoKeyword => Step::Same,
            _ => Step::Deeper,
        },
        Token::EOF
        | Token::Whitespace(_)
        | Token::Period
        | Token::Number(..)
        | Token::SingleQuotedString(_) => Step::Same,
        _ => Step::Deeper,
    }
}

#[cfg(test)]
mod tests {
    use datafusion_sql::sqlparser::tokenizer::Tokenizer;

    use super::super::dialect::TransformDialect;
    use super::*;

    fn fits(sql: &str) -> bool {
        let tokens = Tokenizer::new(&TransformDialect, sql)
            .tokenize_with_location()
            .unwrap();
        check(&tokens).is_ok()
    }

    #[test]
    fn many_columns_and_branches_are_not_deep() {
        let columns = vec!["a + b * c AS d"; 1_000].join(", ");
        assert!(fits(&format!("SELECT {columns} FROM t")));
        let branches = "WHEN a = 1 AND b = 2 THEN 'x' ".repeat(500);
        assert!(fits(&format!("SELECT CASE {branches} END AS x FROM t")));
    }

    #[test]
    fn long_chains_and_nests_are_deep() {
        assert!(!fits(&format!(
            "SELECT {} FROM t",
            vec!["a"; 5_000].join("+")
        )));
        assert!(!fits(&format!("SELECT {}a FROM t", "NOT ".repeat(5_000))));
        assert!(!fits(&format!("SELECT {}a FROM t", "(".repeat(5_000))));
        assert!(!fits(&format!(
            "SELECT {} FROM t",
            "f(a, b + ".repeat(5_000)
        )));
        assert!(!fits(&format!(
            "SELECT {} FROM t",
            "CASE WHEN a THEN ".repeat(5_000)
        )));
    }
}
