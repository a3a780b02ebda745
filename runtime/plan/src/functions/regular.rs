//! Functions of regular expressions, of the syntax of Rust's `regex` crate.

use regex::{Captures, Regex};

use super::text::bounded;
use super::texts::count;
use super::{Function, Taken, constant_int};
use crate::semantics::call::{Arguments, Kernel};
use crate::semantics::patterns::{Language, Source};
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, fail, refuse};

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        &["regexp_like"],
        "regexp_like(text, pattern[, flags]): whether it is found; flags are i, m, s and x",
        (2, 3),
        |name, arguments| {
            let (texts, source) = with_flags(name, arguments)?;
            let kernel = matching(source, |regex, text| Ok(regex.is_match(text)));
            Typed::call(
                format!("{name} {:?}", texts.2),
                kernel,
                Type::Boolean,
                &[&texts.0, &texts.1],
            )
        },
        &[
            "regexp_like('Abc', '^a', 'i')",
            "regexp_like('abc', '(')",
            "regexp_like('abc', 'a', 'q')",
        ],
    ),
    Function::new(
        &["regexp_count"],
        "regexp_count(text, pattern[, start[, flags]]): how often it is found",
        (2, 4),
        regexp_count,
        &[
            "regexp_count('banana', 'an')",
            "regexp_count('banana', 'an', 3)",
        ],
    ),
    Function::new(
        &["regexp_instr"],
        "regexp_instr(text, pattern[, start[, n]]): where the n-th match begins, or 0",
        (2, 4),
        |name, arguments| {
            nth(name, arguments, Type::Int32, |arguments, row, found| {
                let Some(text) = arguments.texts(0)?.get(row) else {
                    return Ok(None);
                };
                let before = found.and_then(|(start, _)| text.get(..start));
                count(before.map_or(0, |before| before.chars().count() + 1)).map(Some)
            })
        },
        &[
            "regexp_instr('banana', 'an', 1, 2)",
            "regexp_instr('banana', 'x')",
        ],
    ),
    Function::new(
        &["regexp_substr"],
        "regexp_substr(text, pattern[, start[, n]]): the n-th match, or NULL",
        (2, 4),
        |name, arguments| {
            nth(name, arguments, Type::String, |arguments, row, found| {
                let Some(text) = arguments.texts(0)?.get(row) else {
                    return Ok(None);
                };
                let found = found.and_then(|(start, end)| text.get(start..end));
                Ok(found.map(str::to_owned))
            })
        },
        &[
            "regexp_substr('a1b22', '[0-9]+', 1, 2)",
            "regexp_substr('abc', '[0-9]')",
        ],
    ),
    Function::new(
        &["regexp_replace"],
        "regexp_replace(text, pattern, with[, flags]): the first match, or with the flag g all of \
         them; \\1 to \\9 stand for groups and \\& for the match",
        (3, 4),
        regexp_replace,
        &[
            "regexp_replace('banana', 'a', 'o')",
            "regexp_replace('banana', 'a', 'o', 'g')",
            "regexp_replace('ab', '(a)(b)', '\\2\\1$1')",
        ],
    ),
];

/// Text and pattern, and the flags behind them.
fn with_flags(name: &str, arguments: Vec<Typed>) -> Meaning<((Typed, Typed, String), Source)> {
    let mut taken = Taken::new(name, arguments);
    let (text, pattern) = (taken.text()?, taken.text()?);
    let flags = flags(name, &mut taken)?;
    let source = Source::of(&pattern, Language::Regular, &flags)?;
    Ok(((text, pattern, flags), source))
}

/// Flags, which are written out.
fn flags(name: &str, taken: &mut Taken<'_>) -> Meaning<String> {
    if !taken.has_more() {
        return Ok(String::new());
    }
    match taken.text()?.text() {
        Some(flags) => Ok(flags.to_owned()),
        None => refuse!("the flags of `{name}` are written out, as 'i'"),
    }
}

/// A kernel over texts and patterns.
fn matching<V: crate::semantics::call::Value + 'static>(
    source: Source,
    compute: fn(&Regex, &str) -> datafusion_common::Result<V>,
) -> Kernel {
    std::sync::Arc::new(move |arguments: &Arguments| {
        let (texts, patterns) = (arguments.texts(0)?, arguments.texts(1)?);
        let mut compiled = source.compiled();
        arguments.each(|row| match texts.get(row).zip(patterns.get(row)) {
            Some((text, pattern)) => compute(compiled.get(pattern)?, text).map(Some),
            None => Ok(None),
        })
    })
}

/// Checks a start, or a number of a match, that is written out.
fn from_one(name: &str, what: &str, number: &Typed) -> Meaning<()> {
    match constant_int(number) {
        Some(number @ ..=0) => refuse!("the {what} of `{name}` counts from 1, not {number}"),
        _ => Ok(()),
    }
}

/// The place in bytes of a character.
fn place(text: &str, start: i64) -> datafusion_common::Result<Option<usize>> {
    let Some(skip) = start
        .checked_sub(1)
        .and_then(|skip| usize::try_from(skip).ok())
    else {
        return fail!("the start counts from 1, not {start}");
    };
    let mut places = text
        .char_indices()
        .map(|(place, _)| place)
        .chain([text.len()]);
    Ok(places.nth(skip))
}

fn regexp_count(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (text, pattern) = (taken.text()?, taken.text()?);
    let start = if taken.has_more() {
        taken.int64()?
    } else {
        super::int(1)?
    };
    from_one(name, "start", &start)?;
    let flags = flags(name, &mut taken)?;
    let source = Source::of(&pattern, Language::Regular, &flags)?;
    let kernel: Kernel = std::sync::Arc::new(move |arguments: &Arguments| {
        let (texts, patterns) = (arguments.texts(0)?, arguments.texts(1)?);
        let starts = arguments.int64s(2)?;
        let mut compiled = source.compiled();
        arguments.each(|row| {
            let pair = texts.get(row).zip(patterns.get(row));
            let Some(((text, pattern), start)) = pair.zip(starts.get(row)) else {
                return Ok(None);
            };
            let regex = compiled.get(pattern)?;
            let rest = place(text, start)?.and_then(|place| text.get(place..));
            Ok(Some(rest.map_or(0, |rest| {
                i64::try_from(regex.find_iter(rest).count()).unwrap_or(0)
            })))
        })
    });
    Typed::call(
        format!("{name} {flags:?}"),
        kernel,
        Type::Int64,
        &[&text, &pattern, &start],
    )
}

/// Makes a value of a match, given as its place, in the text of a row.
type OfMatch<V> =
    fn(&Arguments, usize, Option<(usize, usize)>) -> datafusion_common::Result<Option<V>>;

/// What is made of the n-th match.
fn nth<V: crate::semantics::call::Value + 'static>(
    name: &str,
    arguments: Vec<Typed>,
    output: Type,
    made: OfMatch<V>,
) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (text, pattern) = (taken.text()?, taken.text()?);
    let start = if taken.has_more() {
        taken.int64()?
    } else {
        super::int(1)?
    };
    let number = if taken.has_more() {
        taken.int64()?
    } else {
        super::int(1)?
    };
    from_one(name, "start", &start)?;
    from_one(name, "match", &number)?;
    let source = Source::of(&pattern, Language::Regular, "")?;
    let kernel: Kernel = std::sync::Arc::new(move |arguments: &Arguments| {
        let (texts, patterns) = (arguments.texts(0)?, arguments.texts(1)?);
        let (starts, numbers) = (arguments.int64s(2)?, arguments.int64s(3)?);
        let mut compiled = source.compiled();
        arguments.each(|row| {
            let pair = texts.get(row).zip(patterns.get(row));
            let places = starts.get(row).zip(numbers.get(row));
            let Some(((text, pattern), (start, number))) = pair.zip(places) else {
                return Ok(None);
            };
            let Some(skip) = number
                .checked_sub(1)
                .and_then(|skip| usize::try_from(skip).ok())
            else {
                return fail!("matches count from 1, not {number}");
            };
            let regex = compiled.get(pattern)?;
            let found = place(text, start)?.and_then(|place| {
                let rest = text.get(place..)?;
                let found = regex.find_iter(rest).nth(skip)?;
                Some((place + found.start(), place + found.end()))
            });
            made(arguments, row, found)
        })
    });
    let nullable = true;
    Typed::call_nullable(
        name,
        kernel,
        (output, nullable),
        &[&text, &pattern, &start, &number],
    )
}

fn regexp_replace(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (text, pattern, with) = (taken.text()?, taken.text()?, taken.text()?);
    let flags = flags(name, &mut taken)?;
    let everywhere = flags.contains('g');
    let source = Source::of(&pattern, Language::Regular, &flags.replace('g', ""))?;
    let kernel: Kernel = std::sync::Arc::new(move |arguments: &Arguments| {
        let (texts, patterns) = (arguments.texts(0)?, arguments.texts(1)?);
        let replacements = arguments.texts(2)?;
        let mut compiled = source.compiled();
        arguments.each(|row| {
            let pair = texts.get(row).zip(patterns.get(row));
            let Some(((text, pattern), with)) = pair.zip(replacements.get(row)) else {
                return Ok(None);
            };
            let regex = compiled.get(pattern)?;
            replaced(regex, text, with, everywhere).map(Some)
        })
    });
    Typed::call(
        format!("{name} {flags:?}"),
        kernel,
        Type::String,
        &[&text, &pattern, &with],
    )
}

fn replaced(
    regex: &Regex,
    text: &str,
    with: &str,
    everywhere: bool,
) -> datafusion_common::Result<String> {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    let most = if everywhere { usize::MAX } else { 1 };
    for captures in regex.captures_iter(text).take(most) {
        let Some(found) = captures.get(0) else {
            continue;
        };
        out.push_str(text.get(done..found.start()).unwrap_or_default());
        expand(&mut out, with, &captures);
        done = found.end();
        if with.len() > found.len() {
            bounded(out.len())?;
        }
    }
    out.push_str(text.get(done..).unwrap_or_default());
    Ok(out)
}

/// Writes a replacement, with what `\1` and `\&` stand for.
fn expand(out: &mut String, with: &str, captures: &Captures<'_>) {
    let mut letters = with.chars();
    while let Some(c) = letters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match letters.next() {
            Some('&') => out.push_str(captures.get(0).map_or("", |found| found.as_str())),
            Some(digit @ '1'..='9') => {
                let group = digit
                    .to_digit(10)
                    .and_then(|digit| usize::try_from(digit).ok());
                let found = group.and_then(|group| captures.get(group));
                out.push_str(found.map_or("", |found| found.as_str()));
            }
            Some(other) if other != '\\' => {
                out.push('\\');
                out.push(other);
            }
            _ => out.push('\\'),
        }
    }
}
