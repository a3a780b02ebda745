//! From texts to numbers, days and times.

use arrow_buffer::i256;
use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

use super::calendar;
use super::decimal::{Rounding, power_of_ten, rescaled};
use super::zone::{Zone, instant_of};

/// The most digits that are looked at: no decimal has more.
const READ_DIGITS: usize = 76;

/// A decimal of a scale, rounded half away from zero: `-12.345`, `1e3`, `.5`. It may have up to
/// 76 digits.
pub(crate) fn decimal(text: &str, scale: i8) -> Option<i256> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    // The value is `digits` * 10^power.
    let mut power = i64::from(exponent) - i64::try_from(fraction.len()).ok()?;
    let (read, skipped) = digits.split_at(digits.len().min(READ_DIGITS));
    power += i64::try_from(skipped.len()).ok()?;
    let value = if read.is_empty() {
        i256::ZERO
    } else {
        i256::from_string(read)?
    };
    let value = shifted(value, power + i64::from(scale))?;
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

/// `value` * 10^`power`, rounded.
fn shifted(value: i256, power: i64) -> Option<i256> {
    if value == i256::ZERO || power < -i64::try_from(READ_DIGITS).ok()? - 1 {
        return Some(i256::ZERO);
    }
    match i8::try_from(power) {
        Ok(power @ 0..) => value.checked_mul(power_of_ten(u32::from(power.unsigned_abs()))?),
        Ok(power) => match power_of_ten(u32::from(power.unsigned_abs())) {
            Some(_) => rescaled(value, power.checked_neg()?, 0, Rounding::Half),
            None => Some(i256::ZERO),
        },
        Err(_) => None,
    }
}

/// A number of IEEE 754. One that is too large is not read.
pub(crate) fn float(text: &str) -> Option<f64> {
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    let value: f64 = text.parse().ok()?;
    let is_word = text.contains(['n', 'N']);
    (value.is_finite() || is_word).then_some(value)
}

/// A truth value, as PostgreSQL reads it.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A day as `2024-02-29`, or the day of a time.
pub(crate) fn date(text: &str) -> Option<i32> {
    let (date, rest) = date_and_rest(text.trim())?;
    if !rest.is_empty() {
        time_and_zone(rest)?;
    }
    calendar::days(date).ok()
}

/// A time as `2024-02-29T12:00:00.5Z`, in microseconds. Without a zone it is one of UTC.
pub(crate) fn timestamp(text: &str) -> Option<i64> {
    let (local, zone) = local_and_zone(text)?;
    let micros = calendar::micros(local).ok()?;
    match zone {
        None => Some(micros),
        Some(zone) => instant_of(zone, micros).ok(),
    }
}

/// A calendar's and a clock's reading; a zone is not looked at.
pub(crate) fn local(text: &str) -> Option<i64> {
    calendar::micros(local_and_zone(text)?.0).ok()
}

fn local_and_zone(text: &str) -> Option<(NaiveDateTime, Option<Zone>)> {
    let (date, rest) = date_and_rest(text.trim())?;
    if rest.is_empty() {
        return Some((date.and_time(NaiveTime::MIN), None));
    }
    let (nanos, zone) = time_and_zone(rest)?;
    // Rounded to microseconds, which may give the next day.
    let micros = (nanos + 500) / 1_000;
    let time = date.and_time(NaiveTime::MIN);
    Some((
        time.checked_add_signed(chrono::TimeDelta::microseconds(micros))?,
        zone,
    ))
}

/// The day at the beginning of a text, and what follows it and a `T` or a space.
fn date_and_rest(text: &str) -> Option<(NaiveDate, &str)> {
    let (year, rest) = digits(text, 4..=4)?;
    let (month, rest) = digits(rest.strip_prefix('-')?, 1..=2)?;
    let (day, rest) = digits(rest.strip_prefix('-')?, 1..=2)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(year).ok()?, month, day)?;
    if rest.is_empty() {
        return Some((date, rest));
    }
    let time = rest.strip_prefix(['T', 't', ' '])?.trim_start();
    (!time.is_empty()).then_some((date, time))
}

/// Nanoseconds of the day, and the zone.
fn time_and_zone(text: &str) -> Option<(i64, Option<Zone>)> {
    let (hours, rest) = digits(text, 1..=2)?;
    let (minutes, rest) = digits(rest.strip_prefix(':')?, 2..=2)?;
    let (seconds, rest) = match rest.strip_prefix(':') {
        Some(rest) => digits(rest, 2..=2)?,
        None => (0, rest),
    };
    let (nanos, rest) = match rest.strip_prefix(['.', ',']) {
        Some(rest) => {
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, rest) = rest.split_at_checked(length)?;
            if fraction.is_empty() || fraction.len() > 18 {
                return None;
            }
            let padded: String = fraction
                .chars()
                .chain(std::iter::repeat('0'))
                .take(9)
                .collect();
            (padded.parse::<i64>().ok()?, rest)
        }
        None => (0, rest),
    };
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let seconds = i64::from(hours) * 3_600 + i64::from(minutes) * 60 + i64::from(seconds);
    let zone = match rest.trim() {
        "" => None,
        name => Some(Zone::read(name)?),
    };
    Some((seconds * 1_000_000_000 + nanos, zone))
}

/// A number of some digits, and what follows it.
fn digits(text: &str, count: std::ops::RangeInclusive<usize>) -> Option<(u32, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    if !count.contains(&length) {
        return None;
    }
    let (digits, rest) = text.split_at_checked(length)?;
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly_and_rounded_half_away_from_zero() {
        for (text, scale, value) in [
            ("1e3", 2, "100000"),
            ("-1.005", 2, "-101"),
            ("0.0049", 2, "0"),
            (".5", 0, "1"),
            ("-2.5", 0, "-3"),
            (" 12.5 ", 1, "125"),
            ("1e-80", 2, "0"),
            ("0e99999", 2, "0"),
            (
                "00000000000000000000000000000000000000000000000000000000000000000000000000001",
                0,
                "1",
            ),
        ] {
            assert_eq!(decimal(text, scale).unwrap().to_string(), value, "{text}");
        }
        for text in ["", "-", "1e", "e3", "1.2.3", "0x1", "NaN", "1 2", "1e99"] {
            assert_eq!(decimal(text, 2), None, "{text}");
        }
    }

    #[test]
    fn times_are_read_with_and_without_a_zone() {
        let noon = 1_709_208_000_000_000;
        for (text, micros) in [
            ("2024-02-29T12:00:00Z", noon),
            ("2024-02-29 12:00", noon),
            ("2024-02-29T12:00:00.123456", noon + 123_456),
            ("2024-02-29T12:00:00.1234567Z", noon + 123_457),
            ("2024-02-29T13:00:00+01:00", noon),
            ("2024-02-29 13:00:00 Europe/Berlin", noon),
            ("2024-02-29T06:30:00-0530", noon),
            ("0000-01-01", calendar::FIRST),
            ("9999-12-31T23:59:59.999999Z", calendar::LAST),
        ] {
            assert_eq!(timestamp(text), Some(micros), "{text}");
        }
        for text in [
            "2024-02-30",
            "10000-01-01",
            "2024-02-29T24:00:00",
            "2024-02-29T",
            "x",
            "2024-02-29 12",
            "9999-12-31T23:59:59.9999996Z",
            "2024-02-29T12:00:00 Nowhere/Zone",
            "0000-01-01T00:00:00+01:00",
        ] {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }
}
