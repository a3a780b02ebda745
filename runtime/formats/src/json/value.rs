//! JSON values into columns.
//!
//! [`push`] is what a value means: it takes any well-formed value and says what is wrong if it
//! does not fit. [`push_here`] does the same for a value that nobody has walked over yet, in one
//! pass where the value has the form that is usual for its column.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scan::{Kind, Scanner, Value, plain_length};
use super::text::unescape;
use crate::calendar;
use crate::column::{Column, Decimals, Values};
use crate::error::{DecodeReason, Fault};
use crate::number::{parse_decimal, parse_float, parse_integer, power_of_ten};
use crate::timestamp::{epoch_millis, micros_of_millis};

/// Longest text that can be a timestamp, date or decimal; longer ones are refused unread.
const MAX_SCALAR_TEXT: usize = 256;

/// Appends a value to a column.
pub(super) fn push(column: &mut Column, record: &[u8], value: Value) -> Result<(), Fault> {
    let at = |reason| Fault::new(value.start, reason);
    if value.kind == Kind::Null {
        let pushed = column.push_null();
        return if pushed {
            Ok(())
        } else {
            Err(at(DecodeReason::Null))
        };
    }
    let number = (value.kind == Kind::Number).then(|| text(record, value));
    match (&mut column.values, number) {
        (Values::Json(texts), _) => texts.push(text(record, value)).map_err(at)?,
        (Values::Boolean(values), _) => values.append(boolean(value).map_err(at)?),
        (Values::Int32(values), Some(number)) => {
            let integer = parse_integer(number).map_err(|reason| at(as_int32(reason)))?;
            let narrow = i32::try_from(integer);
            values.push(narrow.map_err(|_| at(DecodeReason::OutOfRange("int32")))?);
        }
        (Values::Int64(values), Some(number)) => values.push(parse_integer(number).map_err(at)?),
        (Values::Float64(values), Some(number)) => values.push(parse_float(number).map_err(at)?),
        (Values::Int32(_) | Values::Int64(_) | Values::Float64(_), None) => {
            return Err(at(wrong(value, "a number")));
        }
        (Values::Timestamp(values), Some(number)) => {
            values.push(epoch_millis(number).map_err(at)?);
        }
        (Values::TimestampAs(values, timestamps), Some(number)) => {
            values.push(timestamps.of_number(number).map_err(at)?);
        }
        (Values::Decimal(decimals), Some(number)) => {
            let value = parse_decimal(number, decimals.precision, decimals.scale);
            decimals.values.push(value.map_err(at)?);
        }
        (Values::String(_) | Values::Bytes(_) | Values::Date(_), Some(_)) | (_, None) => {
            push_text(column, record, value)?;
        }
    }
    column.value_pushed();
    Ok(())
}

/// Appends a string to a column that takes strings.
fn push_text(column: &mut Column, record: &[u8], value: Value) -> Result<(), Fault> {
    let at = |reason| Fault::new(value.start, reason);
    let wanted = match &column.values {
        Values::Decimal(_) => "a number or a string",
        Values::Timestamp(_) => "an RFC 3339 string or epoch milliseconds",
        Values::TimestampAs(_, timestamps) => timestamps.wanted(),
        Values::String(_) if matches!(value.kind, Kind::Object | Kind::Array) => {
            "a string (`json: true` of the column reads any value as its text)"
        }
        _ => "a string",
    };
    let Kind::String { escaped } = value.kind else {
        return Err(at(wrong(value, wanted)));
    };
    let start = value.start + 1;
    let inside = record.get(start..value.end - 1).unwrap_or_default();
    if let Values::String(texts) = &mut column.values {
        if escaped {
            unescape(inside, start, &mut texts.data)?;
            return texts.end_value().map_err(at);
        }
        return texts.push(inside).map_err(at);
    }
    let mut resolved = Vec::new();
    let inside = if escaped {
        unescape(inside, start, &mut resolved)?;
        resolved.as_slice()
    } else {
        inside
    };
    push_scalar_text(&mut column.values, inside).map_err(at)
}

/// Appends what a text without escapes stands for.
fn push_scalar_text(values: &mut Values, text: &[u8]) -> Result<(), DecodeReason> {
    let short = || {
        text.get(..MAX_SCALAR_TEXT)
            .is_none_or(|part| part.len() == text.len())
    };
    match values {
        Values::Bytes(texts) => {
            let decoded = STANDARD.decode_vec(text, &mut texts.data);
            decoded.map_err(|_| DecodeReason::NotBase64)?;
            texts.end_value()
        }
        Values::Decimal(decimals) => {
            let mut scanner = Scanner::new(text, 0);
            let whole = short() && scanner.number().is_ok() && scanner.position == text.len();
            if !whole {
                return Err(DecodeReason::NotADecimal);
            }
            let value = parse_decimal(text, decimals.precision, decimals.scale)?;
            decimals.values.push(value);
            Ok(())
        }
        Values::Timestamp(values) => {
            let micros = short().then(|| calendar::parse_timestamp(text)).flatten();
            values.push(micros.ok_or(DecodeReason::NotATimestamp)?);
            Ok(())
        }
        Values::TimestampAs(values, timestamps) => {
            let text = if short() { text } else { &[] };
            values.push(timestamps.of_text(text)?);
            Ok(())
        }
        Values::Date(values) => {
            values.push(calendar::parse_date(text).ok_or(DecodeReason::NotADate)?);
            Ok(())
        }
        Values::String(texts) | Values::Json(texts) => texts.push(text),
        Values::Boolean(_) | Values::Int32(_) | Values::Int64(_) | Values::Float64(_) => {
            Err(DecodeReason::WrongType {
                found: "a string",
                wanted: "a number or boolean",
            })
        }
    }
}

fn boolean(value: Value) -> Result<bool, DecodeReason> {
    match value.kind {
        Kind::True => Ok(true),
        Kind::False => Ok(false),
        _ => Err(wrong(value, "a boolean")),
    }
}

const fn as_int32(reason: DecodeReason) -> DecodeReason {
    match reason {
        DecodeReason::OutOfRange(_) => DecodeReason::OutOfRange("int32"),
        other => other,
    }
}

const fn wrong(value: Value, wanted: &'static str) -> DecodeReason {
    DecodeReason::WrongType {
        found: value.kind.name(),
        wanted,
    }
}

fn text(record: &[u8], value: Value) -> &[u8] {
    record.get(value.start..value.end).unwrap_or_default()
}

/// Appends the value that begins at `position` and returns where it ends. `None` if there is no
/// well-formed value that fits the column; then the column may hold an unfinished value.
#[inline]
pub(super) fn push_here(column: &mut Column, record: &[u8], position: usize) -> Option<usize> {
    match push_usual(column, record, position) {
        Some(end) => Some(end),
        None => push_scanned(column, record, position),
    }
}

/// As [`push_here`], for values of the usual form. `None` for others, and nothing is appended.
#[inline]
fn push_usual(column: &mut Column, record: &[u8], position: usize) -> Option<usize> {
    let end = match &mut column.values {
        Values::Int64(values) => {
            let (value, end) = integer_inline(record, position)?;
            values.push(value);
            end
        }
        Values::String(texts) => {
            let end = string_inline(record, position)?;
            texts.push(record.get(position + 1..end)?).ok()?;
            end + 1
        }
        Values::Decimal(decimals) => decimal_inline(decimals, record, position)?,
        Values::Timestamp(values) if *record.get(position)? == b'"' => {
            let end = string_inline(record, position)?;
            values.push(calendar::parse_timestamp(record.get(position + 1..end)?)?);
            end + 1
        }
        Values::Timestamp(values) => {
            let (millis, end) = integer_inline(record, position)?;
            values.push(micros_of_millis(millis)?);
            end
        }
        Values::Int32(values) => {
            let (value, end) = integer_inline(record, position)?;
            values.push(i32::try_from(value).ok()?);
            end
        }
        Values::Float64(_)
        | Values::Boolean(_)
        | Values::Date(_)
        | Values::Bytes(_)
        | Values::TimestampAs(_, _)
        | Values::Json(_) => return None,
    };
    column.value_pushed();
    Some(end)
}

#[inline(never)]
fn push_scanned(column: &mut Column, record: &[u8], position: usize) -> Option<usize> {
    let mut scanner = Scanner::new(record, position);
    let value = scanner.value(1).ok()?;
    push(column, record, value).ok()?;
    Some(scanner.position)
}

/// Where the closing quote of a string without escapes stands.
#[inline]
fn string_inline(record: &[u8], position: usize) -> Option<usize> {
    let (b'"', inside) = record.get(position..)?.split_first()? else {
        return None;
    };
    let end = position + 1 + plain_length(inside);
    (*record.get(end)? == b'"').then_some(end)
}

/// Digits that are read at once as a `u64`, which holds any 19.
const MAX_INLINE_DIGITS: usize = 18;

/// Reads at most 18 digits behind what `value` has, and returns how many there were.
#[inline]
fn digits_inline(bytes: &[u8], value: &mut u64) -> Option<usize> {
    let mut count = 0;
    for byte in bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        count += 1;
        if count > MAX_INLINE_DIGITS {
            return None;
        }
    }
    Some(count)
}

/// Whether the number that begins with these digits is longer.
#[inline]
fn number_goes_on(digits: &[u8], count: usize) -> bool {
    matches!(digits.get(count), Some(b'.' | b'e' | b'E'))
}

/// An integer of at most 18 digits.
#[inline]
fn integer_inline(record: &[u8], position: usize) -> Option<(i64, usize)> {
    let (negative, start) = sign_inline(record, position);
    let digits = record.get(start..)?;
    let mut value = 0;
    let count = digits_inline(digits, &mut value)?;
    if count == 0 || (count > 1 && digits.first() == Some(&b'0')) {
        return None;
    }
    if number_goes_on(digits, count) {
        return None;
    }
    let value = i64::try_from(value).ok()?;
    Some((if negative { -value } else { value }, start + count))
}

#[inline]
fn sign_inline(record: &[u8], position: usize) -> (bool, usize) {
    let negative = record.get(position) == Some(&b'-');
    (negative, position + usize::from(negative))
}

/// A decimal of at most 18 digits without an exponent, in quotes or not.
#[inline]
fn decimal_inline(decimals: &mut Decimals, record: &[u8], position: usize) -> Option<usize> {
    let quoted = record.get(position) == Some(&b'"');
    let (negative, start) = sign_inline(record, position + usize::from(quoted));
    let digits = record.get(start..)?;
    let mut mantissa = 0;
    let whole = digits_inline(digits, &mut mantissa)?;
    if whole == 0 || (whole > 1 && digits.first() == Some(&b'0')) {
        return None;
    }
    let mut end = start + whole;
    let mut fraction = 0;
    if digits.get(whole) == Some(&b'.') {
        fraction = digits_inline(digits.get(whole + 1..)?, &mut mantissa)?;
        end += 1 + fraction;
        if fraction == 0 || whole + fraction > MAX_INLINE_DIGITS {
            return None;
        }
    }
    if number_goes_on(digits, end - start) {
        return None;
    }
    if quoted {
        if record.get(end) != Some(&b'"') {
            return None;
        }
        end += 1;
    }
    let shift = usize::try_from(decimals.scale)
        .ok()?
        .checked_sub(fraction)?;
    let value = i128::from(mantissa).checked_mul(power_of_ten(shift)?)?;
    if value >= decimals.limit {
        return None;
    }
    decimals.values.push(if negative { -value } else { value });
    Some(end)
}
