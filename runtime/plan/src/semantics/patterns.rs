//! Patterns of texts: LIKE, SIMILAR TO, and regular expressions.

use std::sync::Arc;

use datafusion_common::Result;
use datafusion_physical_expr::expressions::LikeExpr;
use regex::Regex;

use super::call::{Arguments, Kernel};
use super::cast::quoted;
use super::coerce::convert;
use super::typed::Typed;
use super::types::Type;
use super::{Meaning, Refusal, fail, logic, refuse};

/// Flags that regular expressions may have beside those of a function.
const FLAGS: &str = "imsx";

/// How a pattern is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// `%` and `_`, alternatives, repetitions and sets, over the whole text; with its escape.
    Similar(Option<char>),
    /// A regular expression, found anywhere in the text.
    Regular,
}

/// A text operand.
///
/// # Errors
/// It is not a text.
pub(crate) fn text(part: Typed, what: &str) -> Meaning<Typed> {
    match part.data_type {
        Type::String => Ok(part),
        Type::Null => convert(part, Type::String),
        other => Err(Refusal::new(format!(
            "{what} takes texts, but this is {}",
            other.with_article()
        ))
        .with_help("convert it with CAST(… AS string)")),
    }
}

/// `text LIKE pattern ESCAPE escape`.
///
/// # Errors
/// They are no texts, or the pattern ends within an escape.
pub(crate) fn like(
    subject: Typed,
    pattern: Typed,
    escape: Option<char>,
    ignores_case: bool,
) -> Meaning<Typed> {
    let name = if ignores_case { "ILIKE" } else { "LIKE" };
    let subject = text(subject, name)?;
    let mut pattern = text(pattern, name)?;
    match pattern.text() {
        Some(written) => {
            let written = escaped(written, escape.or(Some('\\')))?;
            pattern = Typed::constant(datafusion_common::ScalarValue::from(written))?;
        }
        None if escape.is_some_and(|escape| escape != '\\') => {
            return refuse!("ESCAPE needs a pattern that is written out");
        }
        None => {}
    }
    let nullable = subject.nullable || pattern.nullable;
    let (left, right) = (Arc::clone(&subject.expr), Arc::clone(&pattern.expr));
    let expr = LikeExpr::new(false, ignores_case, left, right);
    Typed::over(
        Arc::new(expr),
        Type::Boolean,
        nullable,
        &[&subject, &pattern],
    )
}

/// A pattern whose escape is a backslash.
fn escaped(pattern: &str, escape: Option<char>) -> Meaning<String> {
    let mut written = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    while let Some(c) = letters.next() {
        if Some(c) == escape {
            let Some(next) = letters.next() else {
                return refuse!("the pattern {} ends with its escape", quoted(pattern));
            };
            if matches!(next, '%' | '_' | '\\') {
                written.push('\\');
            }
            written.push(next);
        } else if c == '\\' {
            written.push_str("\\\\");
        } else {
            written.push(c);
        }
    }
    Ok(written)
}

/// `text SIMILAR TO pattern`, `text ~ pattern`.
///
/// # Errors
/// They are no texts, or the pattern is not one.
pub(crate) fn matches(
    subject: Typed,
    pattern: Typed,
    language: Language,
    flags: &str,
) -> Meaning<Typed> {
    let name = match language {
        Language::Similar(_) => "SIMILAR TO",
        Language::Regular => "`~`",
    };
    let (subject, pattern) = (text(subject, name)?, text(pattern, name)?);
    let source = Source::of(&pattern, language, flags)?;
    let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
        let texts = arguments.texts(0)?;
        let patterns = arguments.texts(1)?;
        let mut compiled = source.compiled();
        arguments.each(|row| match texts.get(row).zip(patterns.get(row)) {
            Some((text, pattern)) => Ok(Some(compiled.get(pattern)?.is_match(text))),
            None => Ok(None),
        })
    });
    Typed::call(
        format!("matches {language:?} {flags}"),
        kernel,
        Type::Boolean,
        &[&subject, &pattern],
    )
}

/// Where the regular expression of a row comes from.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    fixed: Option<Regex>,
    language: Language,
    flags: String,
}

impl Source {
    /// Of a pattern, which is compiled now if it is written out.
    ///
    /// # Errors
    /// The pattern or a flag is wrong.
    pub(crate) fn of(pattern: &Typed, language: Language, flags: &str) -> Meaning<Self> {
        if let Some(flag) = flags.chars().find(|flag| !FLAGS.contains(*flag)) {
            return refuse!("there is no flag `{flag}`: regular expressions know i, m, s and x");
        }
        let fixed = match pattern.text() {
            Some(pattern) => Some(compile(pattern, language, flags)?),
            None => None,
        };
        Ok(Self {
            fixed,
            language,
            flags: flags.to_owned(),
        })
    }

    /// What compiles the patterns of some rows.
    pub(crate) fn compiled(&self) -> Compiled<'_> {
        Compiled {
            source: self,
            last: None,
        }
    }
}

/// Compiles a pattern again only when it changes.
#[derive(Debug)]
pub(crate) struct Compiled<'a> {
    source: &'a Source,
    last: Option<(String, Regex)>,
}

impl Compiled<'_> {
    /// The regular expression of a row's pattern.
    ///
    /// # Errors
    /// The pattern is wrong.
    pub(crate) fn get(&mut self, pattern: &str) -> Result<&Regex> {
        if let Some(fixed) = &self.source.fixed {
            return Ok(fixed);
        }
        let is_last = self.last.as_ref().is_some_and(|(last, _)| last == pattern);
        if !is_last {
            match compile(pattern, self.source.language, &self.source.flags) {
                Ok(regex) => self.last = Some((pattern.to_owned(), regex)),
                Err(refusal) => return fail!("{}", refusal.message),
            }
        }
        match &self.last {
            Some((_, regex)) => Ok(regex),
            None => fail!("there is no pattern"),
        }
    }
}

fn compile(pattern: &str, language: Language, flags: &str) -> Meaning<Regex> {
    let (kind, expression) = match language {
        Language::Similar(escape) => ("pattern of SIMILAR TO", similar(pattern, escape)?),
        Language::Regular => ("regular expression", pattern.to_owned()),
    };
    let expression = if flags.is_empty() {
        expression
    } else {
        format!("(?{flags}){expression}")
    };
    Regex::new(&expression).map_err(|error| {
        // The last line says what is wrong; those before it draw where.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason);
        Refusal::new(format!("{} is not a {kind}: {reason}", quoted(pattern)))
    })
}

/// A pattern of the SQL standard as a regular expression over the whole text.
fn similar(pattern: &str, escape: Option<char>) -> Meaning<String> {
    let escape = escape.unwrap_or('\\');
    let mut expression = String::from("(?s)^(?:");
    let mut letters = pattern.chars().peekable();
    let mut in_set = false;
    while let Some(c) = letters.next() {
        if c == escape {
            let Some(next) = letters.next() else {
                return refuse!("the pattern {} ends with its escape", quoted(pattern));
            };
            expression.push_str(&regex::escape(&next.to_string()));
        } else if in_set {
            match c {
                ']' => in_set = false,
                // Sets within sets and their operations are not of the standard.
                '\\' | '&' | '~' => expression.push('\\'),
                '[' if letters.peek() != Some(&':') => expression.push('\\'),
                _ => {}
            }
            expression.push(c);
            if c == '[' && letters.peek() == Some(&':') {
                // A class such as [:digit:], up to its own bracket.
                for class in letters.by_ref() {
                    expression.push(class);
                    if class == ']' {
                        break;
                    }
                }
            }
        } else {
            match c {
                '%' => expression.push_str(".*"),
                '_' => expression.push('.'),
                '|' | '*' | '+' | '?' | '{' | '}' | '(' | ')' => expression.push(c),
                '[' => {
                    in_set = true;
                    expression.push('[');
                    if letters.next_if_eq(&'^').is_some() {
                        expression.push('^');
                    }
                }
                other => expression.push_str(&regex::escape(&other.to_string())),
            }
        }
    }
    expression.push_str(")$");
    Ok(expression)
}

/// `NOT` of a pattern's condition, if it is `negated`.
pub(crate) fn negated(condition: Typed, negated: bool) -> Meaning<Typed> {
    if negated {
        logic::not(condition)
    } else {
        Ok(condition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_patterns_match_whole_texts_as_the_standard_says() {
        for (text, pattern, found) in [
            ("abc", "a%", true),
            ("abc", "b", false),
            ("abc", "_b_", true),
            ("abc", "...", false),
            ("abc", "(a|x)%", true),
            ("a\nc", "a_c", true),
            ("ab", "a|ab", true),
            ("aaa", "a{3}", true),
            ("a.c", "a.c", true),
            ("x1", "x[[:digit:]]", true),
            ("x", "[^a-c]", true),
            ("^", "[^^]", false),
            ("a%", "a\\%", true),
            ("ab", "a\\%", false),
            ("", "%", true),
            ("$", "$", true),
        ] {
            let regex = compile(pattern, Language::Similar(None), "").unwrap();
            assert_eq!(regex.is_match(text), found, "{text} {pattern}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_said() {
        let message = |pattern: &str, language| compile(pattern, language, "").unwrap_err().message;
        assert_eq!(
            message("(", Language::Regular),
            "'(' is not a regular expression: unclosed group"
        );
        assert!(message("(", Language::Similar(None)).contains("unclosed group"));
    }
}
