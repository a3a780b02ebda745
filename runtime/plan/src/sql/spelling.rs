//! Spellings of other dialects that the parser would take for something else.

use datafusion_sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use millstream_types::ErrorCode;

use super::place::Subject;
use crate::error::Fault;

/// The first such spelling in a text.
pub(crate) fn check(subject: &Subject<'_>, tokens: &[TokenWithSpan]) -> Result<(), Fault> {
    for pair in tokens.windows(2) {
        let [first, second] = pair else {
            continue;
        };
        if let Some((message, help)) = wrong(&first.token, &second.token) {
            let span = first.span.union(&second.span);
            let fault = subject.fault(ErrorCode::SqlDoesNotParse, Some(span), message);
            return Err(fault.with_help(help));
        }
    }
    let texts: Vec<&TokenWithSpan> = tokens
        .iter()
        .filter(|token| !matches!(token.token, Token::Whitespace(_)))
        .collect();
    for pair in texts.windows(2) {
        if let [first, second] = pair
            && is_text(&first.token)
            && is_text(&second.token)
        {
            let span = first.span.union(&second.span);
            let fault = subject.fault(
                ErrorCode::SqlDoesNotParse,
                Some(span),
                "two texts stand side by side",
            );
            return Err(fault.with_help("join them with `||`"));
        }
    }
    prefixed(subject, tokens)
}

const fn is_text(token: &Token) -> bool {
    matches!(token, Token::SingleQuotedString(_))
}

/// What is wrong with two tokens without white space between them.
fn wrong(first: &Token, second: &Token) -> Option<(String, String)> {
    match (first, second) {
        (Token::Number(digits, _), Token::Word(word)) if word.quote_style.is_none() => {
            let run = format!("{digits}{}", word.value);
            let separated = run
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'_');
            Some(if separated {
                let number: String = run.chars().filter(|c| *c != '_').collect();
                (
                    "a number has no `_` between its digits".to_owned(),
                    format!("write {number}"),
                )
            } else {
                (
                    format!("`{run}` begins as a number and goes on as a name"),
                    format!("a name that begins with a digit needs double quotes: \"{run}\""),
                )
            })
        }
        (Token::Word(word), text) if word.quote_style.is_none() && is_text(text) => {
            let prefix = word.value.to_ascii_uppercase();
            matches!(prefix.as_str(), "E" | "R" | "B" | "U" | "_UTF8").then(|| {
                (
                    format!("a text has no prefix `{}`", word.value),
                    "write it between single quotes as it is, with '' for a quote in it".to_owned(),
                )
            })
        }
        _ => None,
    }
}

/// Texts with a prefix that the tokenizer knows.
fn prefixed(subject: &Subject<'_>, tokens: &[TokenWithSpan]) -> Result<(), Fault> {
    for token in tokens {
        let (message, help) = match &token.token {
            Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::DollarQuotedString(_) => (
                "a text has no prefix",
                "write it between single quotes as it is, with '' for a quote in it",
            ),
            Token::HexStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_) => (
                "there are no constants of bytes",
                "write decode('…', 'hex')",
            ),
            _ => continue,
        };
        let fault = subject.fault(ErrorCode::SqlDoesNotParse, Some(token.span), message);
        return Err(fault.with_help(help));
    }
    Ok(())
}
