//! Whether two results are the same, however they are written.

use arrow_buffer::i256;
use arrow_schema::DataType;

use crate::ours::Outcome;

/// What PostgreSQL's text begins with where an expression fails.
pub(crate) const FAILED: &str = "failed: ";
/// How far two floats may be apart, in parts of the greater one: functions of libraries differ in
/// the last digit.
const CLOSE: f64 = 1e-13;

pub(crate) fn alike(ours: &Outcome, theirs: Option<&str>) -> bool {
    match (ours, theirs) {
        (Outcome::Null, None) => true,
        (Outcome::Failed(_), Some(theirs)) => theirs.starts_with(FAILED),
        (Outcome::Value(data_type, ours), Some(theirs)) => {
            !theirs.starts_with(FAILED) && same(data_type, ours, theirs)
        }
        _ => false,
    }
}

fn same(data_type: &DataType, ours: &str, theirs: &str) -> bool {
    match data_type {
        DataType::Float64 => match (ours.parse::<f64>(), theirs.parse::<f64>()) {
            (Ok(ours), Ok(theirs)) => close(ours, theirs),
            _ => false,
        },
        DataType::Int32 | DataType::Int64 | DataType::Decimal128(..) => {
            let scale = match data_type {
                DataType::Decimal128(_, scale) => u32::try_from(*scale).unwrap(),
                _ => 0,
            };
            match (unscaled(ours, scale), unscaled(theirs, scale)) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => match (ours.parse::<f64>(), theirs.parse::<f64>()) {
                    (Ok(ours), Ok(theirs)) => close(ours, theirs),
                    _ => false,
                },
            }
        }
        // A day is its midnight.
        DataType::Timestamp(..) | DataType::Date32 => instant(ours) == instant(theirs),
        DataType::Binary => theirs.strip_prefix("\\x") == Some(ours),
        _ => ours == theirs,
    }
}

fn close(ours: f64, theirs: f64) -> bool {
    if ours.is_nan() || theirs.is_nan() {
        return ours.is_nan() && theirs.is_nan();
    }
    if ours.is_infinite() || theirs.is_infinite() {
        return ours.total_cmp(&theirs).is_eq();
    }
    (ours - theirs).abs() <= CLOSE * ours.abs().max(theirs.abs())
}

/// The digits of a decimal at a scale, rounded half away from zero.
fn unscaled(text: &str, scale: u32) -> Option<i256> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale = usize::try_from(scale).ok()?;
    let wanted = whole.len() + scale;
    let padded: String = digits
        .chars()
        .chain(std::iter::repeat('0'))
        .take(wanted)
        .collect();
    let value = if padded.is_empty() {
        i256::ZERO
    } else {
        i256::from_string(&padded)?
    };
    let up = digits
        .as_bytes()
        .get(wanted)
        .is_some_and(|digit| *digit >= b'5');
    let value = if up {
        value.checked_add(i256::ONE)?
    } else {
        value
    };
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// A time as `2024-02-29T12:00:00.5`, of UTC.
fn instant(text: &str) -> String {
    // The year before the year 1 is 0.
    let text = match (text.strip_suffix(" BC"), text.get(4..)) {
        (Some(before), Some(_)) if before.starts_with("0001") => before.replacen("0001", "0000", 1),
        _ => text.to_owned(),
    };
    let text = text
        .trim_end_matches("+00")
        .trim_end_matches('Z')
        .replace(' ', "T");
    let text = if text.contains('T') {
        text
    } else {
        format!("{text}T00:00:00")
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
