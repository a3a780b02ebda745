//! Values that are written in another way than their types say.

use super::encode::Values;
use super::options::Written;
use super::scan::Scanner;
use crate::calendar::write_clock;

const NOT_IN_CALENDAR: &str = "the year is not one of 0000 to 9999";
const NOT_JSON: &str =
    "the text is not JSON, and the sink's `jsonColumns` says that the column holds JSON";

impl Written {
    /// Writes a value that is not null.
    pub(super) fn write(
        self,
        values: &Values<'_>,
        row: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), &'static str> {
        match self {
            Self::Json => match text(values, row).map(|text| write_json(text.as_bytes(), out)) {
                Some(true) => Ok(()),
                _ => Err(NOT_JSON),
            },
            Self::Clock => {
                out.push(b'"');
                let written = micros(values, row).map(|micros| write_clock(micros, b'T', out));
                out.push(b'"');
                match written {
                    Some(true) => Ok(()),
                    _ => Err(NOT_IN_CALENDAR),
                }
            }
            Self::Timestamp(timestamps) => {
                match micros(values, row).map(|micros| timestamps.write(micros, out)) {
                    Some(true) => Ok(()),
                    _ => Err(NOT_IN_CALENDAR),
                }
            }
        }
    }
}

fn text<'a>(values: &Values<'a>, row: usize) -> Option<&'a str> {
    match *values {
        Values::Utf8(values) => Some(values.value(row)),
        Values::LargeUtf8(values) => Some(values.value(row)),
        Values::Utf8View(values) => Some(values.value(row)),
        _ => None,
    }
}

/// Microseconds since 1970; nanoseconds are cut.
fn micros(values: &Values<'_>, row: usize) -> Option<i64> {
    match values {
        Values::Seconds(values) => values.value(row).checked_mul(1_000_000),
        Values::Millis(values) => values.value(row).checked_mul(1_000),
        Values::Micros(values) => Some(values.value(row)),
        Values::Nanos(values) => Some(values.value(row).div_euclid(1_000)),
        _ => None,
    }
}

/// Appends the one JSON value that a text is, without the whitespace around and in it. False, and
/// nothing is appended, if it is anything else.
fn write_json(text: &[u8], out: &mut Vec<u8>) -> bool {
    let mut scanner = Scanner::new(text, 0);
    scanner.skip_whitespace();
    // The row's object is around it.
    if scanner.value(1).is_err() {
        return false;
    }
    scanner.skip_whitespace();
    if scanner.peek().is_some() {
        return false;
    }
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let length = match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {
                rest = after;
                continue;
            }
            b'"' => {
                let mut string = Scanner::new(rest, 0);
                if string.string().is_err() {
                    return false;
                }
                string.position
            }
            _ => 1,
        };
        let Some((written, after)) = rest.split_at_checked(length) else {
            return false;
        };
        out.extend_from_slice(written);
        rest = after;
    }
    true
}

#[cfg(test)]
mod tests;
