//! Lengths of time: intervals of months, days and a time, and differences of two times.

use arrow_array::types::IntervalMonthDayNano;
use datafusion_common::Result;

use super::calendar::{self, MICROS_PER_DAY, MICROS_PER_SECOND, Part, Unit};
use super::fail;

const NANOS_PER_MICRO: i64 = 1_000;
const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// An interval whose parts fit.
pub(crate) fn interval(months: i128, days: i128, nanos: i128) -> Result<IntervalMonthDayNano> {
    // A time that is too long goes into the days, which are of 24 hours here.
    let day = 86_400 * NANOS_PER_SECOND;
    let (days, nanos) = if i64::try_from(nanos).is_ok() {
        (days, nanos)
    } else {
        (days + nanos / day, nanos % day)
    };
    match (
        i32::try_from(months),
        i32::try_from(days),
        i64::try_from(nanos),
    ) {
        (Ok(months), Ok(days), Ok(nanos)) => Ok(IntervalMonthDayNano::new(months, days, nanos)),
        _ => fail!("the interval is too long"),
    }
}

/// A difference of times as an interval.
pub(crate) fn of_duration(micros: i64) -> Result<IntervalMonthDayNano> {
    let (days, rest) = (micros / MICROS_PER_DAY, micros % MICROS_PER_DAY);
    interval(0, days.into(), i128::from(rest * NANOS_PER_MICRO))
}

/// `time + sign * interval`: first the months, then the days, then the time.
pub(crate) fn plus(time: i64, span: IntervalMonthDayNano, sign: i32) -> Result<i64> {
    let Some(months) = span.months.checked_mul(sign) else {
        return fail!("the interval is too long");
    };
    let time = calendar::plus_months(time, months)?;
    let micros = i128::from(span.days) * i128::from(MICROS_PER_DAY)
        + i128::from(span.nanoseconds / NANOS_PER_MICRO);
    let sum = i128::from(time) + i128::from(sign) * micros;
    calendar::checked(i64::try_from(sum).unwrap_or(i64::MAX))
}

/// `number * interval`: a fraction of a month goes into days, and one of a day into the time.
pub(crate) fn scaled(span: IntervalMonthDayNano, factor: Factor) -> Result<IntervalMonthDayNano> {
    match factor {
        Factor::Whole(factor) => {
            let times = |part: i64| i128::from(part) * i128::from(factor);
            interval(
                times(span.months.into()),
                times(span.days.into()),
                times(span.nanoseconds),
            )
        }
        Factor::Real(factor) => {
            let months = f64::from(span.months) * factor;
            let days = f64::from(span.days) * factor + (months - months.trunc()) * 30.0;
            let nanos = span.nanoseconds as f64 * factor + (days - days.trunc()) * 86_400e9;
            let micros = (nanos / 1e3).round();
            interval(whole(months)?, whole(days)?, whole(micros)? * 1_000)
        }
    }
}

/// What an interval is multiplied with.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Factor {
    Whole(i64),
    Real(f64),
}

/// The whole part of a number.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the bound is checked: every float64 below it fits"
)]
pub(crate) fn whole(number: f64) -> Result<i128> {
    if number.abs() < 1e30 {
        Ok(number as i128)
    } else {
        fail!("the interval is too long")
    }
}

/// A part of an interval: what is left beside the greater units of its months, days or time.
pub(crate) fn part(part: Part, span: IntervalMonthDayNano) -> Result<i64> {
    let (months, nanos) = (i64::from(span.months), span.nanoseconds);
    let in_minute = nanos % 60_000_000_000;
    Ok(match part {
        Part::Nanosecond => in_minute,
        Part::Unit(Unit::Microsecond) => in_minute / 1_000,
        Part::Unit(Unit::Millisecond) => in_minute / 1_000_000,
        Part::Unit(Unit::Second) => in_minute / 1_000_000_000,
        Part::Unit(Unit::Minute) => nanos / 60_000_000_000 % 60,
        Part::Unit(Unit::Hour) => nanos / 3_600_000_000_000,
        Part::Unit(Unit::Day) => span.days.into(),
        Part::Unit(Unit::Week) => i64::from(span.days) / 7,
        Part::Unit(Unit::Month) => months % 12,
        Part::Unit(Unit::Quarter) => months % 12 / 3 + 1,
        Part::Unit(Unit::Year) => months / 12,
        Part::Unit(Unit::Decade) => months / 120,
        Part::Unit(Unit::Century) => months / 1_200,
        Part::Unit(Unit::Millennium) => months / 12_000,
        _ => return fail!("an interval has no such part"),
    })
}

/// Whether an interval has such a part.
pub(crate) const fn has_part(part: Part) -> bool {
    matches!(part, Part::Nanosecond | Part::Unit(_) | Part::Epoch)
}

/// The seconds of an interval, its years of 365.25 days and its months of 30.
pub(crate) fn epoch(span: IntervalMonthDayNano) -> f64 {
    let (years, months) = (span.months / 12, span.months % 12);
    let days = f64::from(years) * 365.25 + f64::from(months) * 30.0 + f64::from(span.days);
    days.mul_add(86_400.0, span.nanoseconds as f64 / 1e9)
}

/// All of a difference in one unit, cut towards zero.
pub(crate) fn duration_part(part: Part, micros: i64) -> Result<i64> {
    Ok(match part {
        Part::Nanosecond => match micros.checked_mul(NANOS_PER_MICRO) {
            Some(nanos) => nanos,
            None => return fail!("the nanoseconds do not fit int64"),
        },
        Part::Unit(Unit::Microsecond) => micros,
        Part::Unit(Unit::Millisecond) => micros / 1_000,
        Part::Unit(Unit::Second) => micros / MICROS_PER_SECOND,
        Part::Unit(Unit::Minute) => micros / (60 * MICROS_PER_SECOND),
        Part::Unit(Unit::Hour) => micros / (3_600 * MICROS_PER_SECOND),
        Part::Unit(Unit::Day) => micros / MICROS_PER_DAY,
        Part::Unit(Unit::Week) => micros / (7 * MICROS_PER_DAY),
        _ => return fail!("a difference of times has no such part"),
    })
}

/// Whether a difference has such a part: it knows no months.
pub(crate) const fn duration_has_part(part: Part) -> bool {
    matches!(
        part,
        Part::Nanosecond
            | Part::Epoch
            | Part::Unit(
                Unit::Microsecond
                    | Unit::Millisecond
                    | Unit::Second
                    | Unit::Minute
                    | Unit::Hour
                    | Unit::Day
                    | Unit::Week
            )
    )
}

/// An interval as text, as `1 year 2 mons 3 days 04:05:06.5`.
pub(crate) fn text(span: IntervalMonthDayNano) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut add = |count: i32, one: &str, more: &str| {
        if count != 0 {
            words.push(format!("{count} {}", if count == 1 { one } else { more }));
        }
    };
    add(span.months / 12, "year", "years");
    add(span.months % 12, "mon", "mons");
    add(span.days, "day", "days");
    if span.nanoseconds == 0 && !words.is_empty() {
        return words.join(" ");
    }
    let sign = if span.nanoseconds < 0 { "-" } else { "" };
    let nanos = span.nanoseconds.unsigned_abs();
    let seconds = nanos / 1_000_000_000;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let fraction = format!("{:09}", nanos % 1_000_000_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    let seconds = seconds % 60;
    words.push(format!(
        "{sign}{hours:02}:{minutes:02}:{seconds:02}{point}{fraction}"
    ));
    words.join(" ")
}

/// Reads an interval: `1 day 2 hours`, `-90 minutes`, `1.5 seconds`, `1 day 02:03:04.5`. A number
/// without a unit counts in `unit`.
///
/// # Errors
/// It is not one.
pub(crate) fn read(text: &str, unit: Unit) -> Result<IntervalMonthDayNano> {
    let mut sum = Sum::default();
    let mut words = pieces(text).into_iter().peekable();
    let mut found = false;
    while let Some(word) = words.next() {
        found = true;
        if word.contains(':') {
            sum.clock(&word, text)?;
            continue;
        }
        if word == "ago" {
            sum.negate();
            continue;
        }
        let Some(number) = Decimal::read(&word) else {
            return fail!("`{text}` is not an interval, such as 1 day 2 hours");
        };
        let named = words
            .peek()
            .filter(|next| next.starts_with(char::is_alphabetic));
        let unit = match named.map(|name| (Unit::read(name), name.clone())) {
            None => unit,
            Some((_, name)) if name == "ago" => unit,
            Some((Some(unit), _)) => {
                words.next();
                unit
            }
            Some((None, name)) => {
                return fail!("`{name}` is not a unit of time, such as day or hours");
            }
        };
        sum.add(number, unit);
    }
    if !found {
        return fail!("`{text}` is not an interval, such as 1 day 2 hours");
    }
    sum.finish()
}

/// Numbers, names and clock times of a text.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut was_letter: Option<bool> = None;
    for c in text.chars() {
        if c.is_whitespace() || c == ',' {
            was_letter = None;
            continue;
        }
        let is_letter = c.is_alphabetic();
        match pieces.last_mut() {
            Some(piece) if was_letter == Some(is_letter) => piece.push(c.to_ascii_lowercase()),
            _ => pieces.push(c.to_ascii_lowercase().to_string()),
        }
        was_letter = Some(is_letter);
    }
    pieces
}

/// A number with at most nine digits behind its point, in billionths.
#[derive(Debug, Clone, Copy)]
struct Decimal(i128);

impl Decimal {
    fn read(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
            return None;
        }
        if whole.len() > 18 {
            return None;
        }
        let number = |text: &str| {
            if text.is_empty() {
                Some(0)
            } else {
                text.parse::<i128>().ok()
            }
        };
        let padded: String = fraction
            .chars()
            .chain(std::iter::repeat('0'))
            .take(9)
            .collect();
        let value = number(whole)? * NANOS_PER_SECOND + number(&padded)?;
        Some(Self(if negative { -value } else { value }))
    }
}

/// Parts of an interval that is being read, in billionths.
#[derive(Debug, Default)]
struct Sum {
    months: i128,
    days: i128,
    nanos: i128,
}

impl Sum {
    fn add(&mut self, Decimal(number): Decimal, unit: Unit) {
        let months = |count: i128| number * count;
        match unit {
            Unit::Month => self.months(months(1)),
            Unit::Quarter => self.months(months(3)),
            Unit::Year => self.months(months(12)),
            Unit::Decade => self.months(months(120)),
            Unit::Century => self.months(months(1_200)),
            Unit::Millennium => self.months(months(12_000)),
            Unit::Week => self.days(number * 7),
            Unit::Day => self.days(number),
            // A number in billionths of a second is one of nanoseconds.
            Unit::Hour => self.nanos += number * 3_600,
            Unit::Minute => self.nanos += number * 60,
            Unit::Second => self.nanos += number,
            Unit::Millisecond => self.nanos += number / 1_000,
            Unit::Microsecond => self.nanos += number / 1_000_000,
        }
    }

    /// Months in billionths; a fraction goes into days.
    fn months(&mut self, number: i128) {
        self.months += number / NANOS_PER_SECOND;
        self.days(number % NANOS_PER_SECOND * 30);
    }

    /// Days in billionths; a fraction goes into the time.
    fn days(&mut self, number: i128) {
        self.days += number / NANOS_PER_SECOND;
        self.nanos += number % NANOS_PER_SECOND * 86_400;
    }

    /// Hours, minutes and seconds as `-01:30:00.5`.
    fn clock(&mut self, word: &str, text: &str) -> Result<()> {
        let (sign, digits) = match word.strip_prefix('-') {
            Some(rest) => (-1, rest),
            None => (1, word.strip_prefix('+').unwrap_or(word)),
        };
        let parts: Vec<Option<Decimal>> = digits.split(':').map(Decimal::read).collect();
        let nanos = match parts.as_slice() {
            [Some(hours), Some(minutes)] => hours.0 * 3_600 + minutes.0 * 60,
            [Some(hours), Some(minutes), Some(seconds)] => {
                hours.0 * 3_600 + minutes.0 * 60 + seconds.0
            }
            _ => return fail!("`{text}` is not an interval, such as 1 day 02:03:04"),
        };
        self.nanos += sign * nanos;
        Ok(())
    }

    fn negate(&mut self) {
        self.months = -self.months;
        self.days = -self.days;
        self.nanos = -self.nanos;
    }

    fn finish(self) -> Result<IntervalMonthDayNano> {
        interval(self.months, self.days, self.nanos)
    }
}
