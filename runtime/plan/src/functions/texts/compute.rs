//! What the functions of texts compute.

use datafusion_common::Result;

use super::super::text::{bounded, shown};
use super::super::{Taken, constant_int, rows};
use crate::semantics::call::{Arguments, Value};
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, fail, refuse};

/// One text to another.
pub(super) fn text1(
    name: &str,
    arguments: Vec<Typed>,
    compute: fn(&str) -> Result<String>,
) -> Meaning<Typed> {
    let text = Taken::new(name, arguments).text()?;
    let kernel = rows(move |arguments: &Arguments, row| {
        arguments.texts(0)?.get(row).map(compute).transpose()
    });
    Typed::call(name, kernel, Type::String, &[&text])
}

pub(super) fn text_int(
    name: &str,
    arguments: Vec<Typed>,
    compute: fn(&str, i64) -> Result<String>,
) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (text, n) = (taken.text()?, taken.int64()?);
    let kernel = rows(move |arguments: &Arguments, row| {
        let pair = arguments
            .texts(0)?
            .get(row)
            .zip(arguments.int64s(1)?.get(row));
        pair.map(|(text, n)| compute(text, n)).transpose()
    });
    Typed::call(name, kernel, Type::String, &[&text, &n])
}

pub(super) fn text3(
    name: &str,
    arguments: Vec<Typed>,
    compute: fn(&str, &str, &str) -> Result<String>,
) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (text, from, to) = (taken.text()?, taken.text()?, taken.text()?);
    let kernel = rows(move |arguments: &Arguments, row| {
        let texts = (
            arguments.texts(0)?,
            arguments.texts(1)?,
            arguments.texts(2)?,
        );
        match (texts.0.get(row), texts.1.get(row), texts.2.get(row)) {
            (Some(text), Some(from), Some(to)) => compute(text, from, to).map(Some),
            _ => Ok(None),
        }
    });
    Typed::call(name, kernel, Type::String, &[&text, &from, &to])
}

pub(super) fn pair<V: Value + 'static>(
    name: &str,
    arguments: Vec<Typed>,
    output: Type,
    compute: fn(&str, &str) -> Result<V>,
) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (a, b) = (taken.text()?, taken.text()?);
    let kernel = rows(move |arguments: &Arguments, row| {
        let pair = arguments
            .texts(0)?
            .get(row)
            .zip(arguments.texts(1)?.get(row));
        pair.map(|(a, b)| compute(a, b)).transpose()
    });
    Typed::call(name, kernel, output, &[&a, &b])
}

/// A number of characters or bytes as an `int32`.
pub(crate) fn count(number: usize) -> Result<i32> {
    match i32::try_from(number) {
        Ok(number) => Ok(number),
        Err(_) => fail!("{number} does not fit int32"),
    }
}

/// A length that is not negative and fits the memory of this machine.
pub(super) fn length(n: i64) -> usize {
    usize::try_from(n.max(0)).unwrap_or(usize::MAX)
}

pub(super) fn initcap(text: &str) -> String {
    let mut begins = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if begins {
            out.extend(c.to_uppercase());
        } else {
            out.extend(c.to_lowercase());
        }
        begins = !c.is_alphanumeric();
    }
    out
}

pub(super) fn concat(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let parts = arguments
        .into_iter()
        .map(shown)
        .collect::<Meaning<Vec<_>>>()?;
    let kernel = rows(|arguments: &Arguments, row| {
        let mut text = String::new();
        for index in 0..arguments.len() {
            text.push_str(arguments.texts(index)?.get(row).unwrap_or_default());
        }
        Ok(Some(text))
    });
    let parts: Vec<&Typed> = parts.iter().collect();
    Typed::call_nullable(name, kernel, (Type::String, false), &parts)
}

pub(super) fn concat_ws(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let mut parts = vec![taken.text()?];
    for part in taken.rest() {
        parts.push(shown(part)?);
    }
    let kernel = rows(|arguments: &Arguments, row| {
        let Some(separator) = arguments.texts(0)?.get(row) else {
            return Ok(None);
        };
        let mut there: Vec<&str> = Vec::with_capacity(arguments.len());
        for index in 1..arguments.len() {
            there.extend(arguments.texts(index)?.get(row));
        }
        Ok(Some(there.join(separator)))
    });
    let nullable = parts.first().is_some_and(|separator| separator.nullable);
    let parts: Vec<&Typed> = parts.iter().collect();
    Typed::call_nullable(name, kernel, (Type::String, nullable), &parts)
}

/// The characters from `start` on, as many as `length`; places before the first count.
pub(super) fn cut(text: &str, start: i64, length: Option<i64>) -> String {
    let skip = usize::try_from(start.saturating_sub(1).max(0)).unwrap_or(usize::MAX);
    let end = length.map(|length| start.saturating_add(length).saturating_sub(1).max(0));
    let end = end.map_or(usize::MAX, |end| usize::try_from(end).unwrap_or(usize::MAX));
    text.chars()
        .skip(skip)
        .take(end.saturating_sub(skip))
        .collect()
}

pub(super) fn substr(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let mut parts = vec![taken.text()?, taken.int64()?];
    if taken.has_more() {
        let length = taken.int64()?;
        if constant_int(&length).is_some_and(|length| length < 0) {
            return refuse!("the length of `{name}` is negative");
        }
        parts.push(length);
    }
    let kernel = rows(|arguments: &Arguments, row| {
        let pair = arguments
            .texts(0)?
            .get(row)
            .zip(arguments.int64s(1)?.get(row));
        let length = if arguments.len() == 3 {
            Some(arguments.int64s(2)?.get(row))
        } else {
            None
        };
        match (pair, length) {
            (Some((text, start)), None) => Ok(Some(cut(text, start, None))),
            (Some(_), Some(Some(length @ ..0))) => fail!("the length {length} is negative"),
            (Some((text, start)), Some(Some(length))) => Ok(Some(cut(text, start, Some(length)))),
            _ => Ok(None),
        }
    });
    let parts: Vec<&Typed> = parts.iter().collect();
    Typed::call(name, kernel, Type::String, &parts)
}

pub(super) fn left(text: &str, n: i64) -> String {
    let keep = if n < 0 {
        text.chars()
            .count()
            .saturating_sub(length(n.saturating_neg()))
    } else {
        length(n)
    };
    text.chars().take(keep).collect()
}

pub(super) fn right(text: &str, n: i64) -> String {
    let skip = if n < 0 {
        length(n.saturating_neg())
    } else {
        text.chars().count().saturating_sub(length(n))
    };
    text.chars().skip(skip).collect()
}

pub(super) fn repeat(text: &str, n: i64) -> Result<String> {
    bounded(text.len().saturating_mul(length(n)))?;
    Ok(text.repeat(length(n)))
}

pub(super) fn padded(name: &str, arguments: Vec<Typed>, on_left: bool) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (text, wanted) = (taken.text()?, taken.int64()?);
    let fill = if taken.has_more() {
        taken.text()?
    } else {
        Typed::constant(datafusion_common::ScalarValue::from(" "))?
    };
    let kernel = rows(move |arguments: &Arguments, row| {
        let pair = arguments
            .texts(0)?
            .get(row)
            .zip(arguments.int64s(1)?.get(row));
        let Some(((text, wanted), fill)) = pair.zip(arguments.texts(2)?.get(row)) else {
            return Ok(None);
        };
        let wanted = length(wanted);
        let missing = wanted.saturating_sub(text.chars().count());
        if missing == 0 || fill.is_empty() {
            return Ok(Some(text.chars().take(wanted).collect()));
        }
        let widest = fill.chars().map(char::len_utf8).max().unwrap_or(1);
        bounded(text.len().saturating_add(missing.saturating_mul(widest)))?;
        let padding: String = fill.chars().cycle().take(missing).collect();
        Ok(Some(if on_left {
            padding + text
        } else {
            format!("{text}{padding}")
        }))
    });
    Typed::call(name, kernel, Type::String, &[&text, &wanted, &fill])
}

pub(super) fn trimmed(name: &str, arguments: Vec<Typed>, ends: (bool, bool)) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let text = taken.text()?;
    let characters = if taken.has_more() {
        taken.text()?
    } else {
        Typed::constant(datafusion_common::ScalarValue::from(" "))?
    };
    let kernel = rows(move |arguments: &Arguments, row| {
        let pair = arguments
            .texts(0)?
            .get(row)
            .zip(arguments.texts(1)?.get(row));
        Ok(pair.map(|(text, characters)| {
            let is_one = |c: char| characters.contains(c);
            let text = if ends.0 {
                text.trim_start_matches(is_one)
            } else {
                text
            };
            let text = if ends.1 {
                text.trim_end_matches(is_one)
            } else {
                text
            };
            text.to_owned()
        }))
    });
    Typed::call(name, kernel, Type::String, &[&text, &characters])
}

pub(super) fn replace(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    text3(name, arguments, |text, what, with| {
        if what.is_empty() {
            return Ok(text.to_owned());
        }
        if with.len() > what.len() {
            let more = (with.len() - what.len()).saturating_mul(text.matches(what).count());
            if more > 0 {
                bounded(text.len().saturating_add(more))?;
            }
        }
        Ok(text.replace(what, with))
    })
}

pub(super) fn translate(text: &str, from: &str, to: &str) -> String {
    let to: Vec<char> = to.chars().collect();
    let translated = text
        .chars()
        .filter_map(|c| match from.chars().position(|one| one == c) {
            None => Some(c),
            Some(place) => to.get(place).copied(),
        });
    translated.collect()
}

pub(super) fn overlay(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let mut parts = vec![taken.text()?, taken.text()?, taken.int64()?];
    if parts
        .get(2)
        .and_then(constant_int)
        .is_some_and(|start| start < 1)
    {
        return refuse!("the start of `{name}` is before the first character");
    }
    if taken.has_more() {
        parts.push(taken.int64()?);
    }
    let kernel = rows(|arguments: &Arguments, row| {
        let texts = arguments
            .texts(0)?
            .get(row)
            .zip(arguments.texts(1)?.get(row));
        let Some(((text, with), start)) = texts.zip(arguments.int64s(2)?.get(row)) else {
            return Ok(None);
        };
        let length = if arguments.len() == 4 {
            match arguments.int64s(3)?.get(row) {
                Some(length) => length,
                None => return Ok(None),
            }
        } else {
            i64::try_from(with.chars().count()).unwrap_or(i64::MAX)
        };
        if start < 1 {
            return fail!("the start {start} is before the first character");
        }
        let before = cut(text, 1, Some(start - 1));
        Ok(Some(format!(
            "{before}{with}{}",
            cut(text, start.saturating_add(length), None)
        )))
    });
    let parts: Vec<&Typed> = parts.iter().collect();
    Typed::call(name, kernel, Type::String, &parts)
}

pub(super) fn split_part(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (text, delimiter, n) = (taken.text()?, taken.text()?, taken.int64()?);
    if constant_int(&n) == Some(0) {
        return refuse!("`{name}` counts from 1, or from -1 at the end: there is no part 0");
    }
    let kernel = rows(|arguments: &Arguments, row| {
        let texts = arguments
            .texts(0)?
            .get(row)
            .zip(arguments.texts(1)?.get(row));
        let Some(((text, delimiter), n)) = texts.zip(arguments.int64s(2)?.get(row)) else {
            return Ok(None);
        };
        if n == 0 {
            return fail!("there is no part 0");
        }
        let parts: Vec<&str> = if delimiter.is_empty() {
            vec![text]
        } else {
            text.split(delimiter).collect()
        };
        let place = length(n.saturating_abs() - 1);
        let found = if n > 0 {
            parts.get(place)
        } else {
            parts.iter().rev().nth(place)
        };
        Ok(Some((*found.unwrap_or(&"")).to_owned()))
    });
    Typed::call(name, kernel, Type::String, &[&text, &delimiter, &n])
}

pub(super) fn substr_index(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (text, delimiter, n) = (taken.text()?, taken.text()?, taken.int64()?);
    let kernel = rows(|arguments: &Arguments, row| {
        let texts = arguments
            .texts(0)?
            .get(row)
            .zip(arguments.texts(1)?.get(row));
        let Some(((text, delimiter), n)) = texts.zip(arguments.int64s(2)?.get(row)) else {
            return Ok(None);
        };
        if delimiter.is_empty() || n == 0 {
            return Ok(Some(String::new()));
        }
        let parts: Vec<&str> = text.split(delimiter).collect();
        let wanted = length(n.saturating_abs()).min(parts.len());
        let chosen = if n > 0 {
            parts.get(..wanted)
        } else {
            parts.get(parts.len() - wanted..)
        };
        Ok(chosen.map(|chosen| chosen.join(delimiter)))
    });
    Typed::call(name, kernel, Type::String, &[&text, &delimiter, &n])
}

pub(super) fn strpos(text: &str, part: &str) -> usize {
    let before = text.find(part).and_then(|place| text.get(..place));
    before.map_or(0, |before| before.chars().count() + 1)
}

pub(super) fn ascii(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let text = Taken::new(name, arguments).text()?;
    let kernel = rows(|arguments: &Arguments, row| {
        let first = arguments.texts(0)?.get(row).map(|text| text.chars().next());
        Ok(first.map(|first| first.map_or(0, |c| i32::try_from(u32::from(c)).unwrap_or(0))))
    });
    Typed::call(name, kernel, Type::Int32, &[&text])
}

pub(super) fn chr(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let code = Taken::new(name, arguments).int64()?;
    let kernel = rows(|arguments: &Arguments, row| {
        let Some(code) = arguments.int64s(0)?.get(row) else {
            return Ok(None);
        };
        match u32::try_from(code)
            .ok()
            .filter(|code| *code > 0)
            .and_then(char::from_u32)
        {
            Some(c) => Ok(Some(c.to_string())),
            None => fail!("{code} is not the code of a character"),
        }
    });
    Typed::call(name, kernel, Type::String, &[&code])
}
