//! Dates and instants as text: `YYYY-MM-DD`, RFC 3339, and what clocks show.
//!
//! The calendar is the proleptic Gregorian one, years 0000 to 9999, which is all that RFC 3339 can
//! write.
//!
//! Source: the day arithmetic is Howard Hinnant's `days_from_civil` and `civil_from_days`,
//! <https://howardhinnant.github.io/date_algorithms.html>; the text is RFC 3339 §5.6.

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// First instant that can be written: 0000-01-01T00:00:00Z, microseconds since 1970.
pub const MIN_MICROS: i64 = -62_167_219_200 * MICROS_PER_SECOND;
/// Last instant that can be written: 9999-12-31T23:59:59.999999Z, microseconds since 1970.
pub const MAX_MICROS: i64 = 253_402_300_800 * MICROS_PER_SECOND - 1;
/// First day that can be written: 0000-01-01, days since 1970.
pub const MIN_DAY: i32 = -719_528;
/// Last day that can be written: 9999-12-31, days since 1970.
pub const MAX_DAY: i32 = 2_932_896;

/// Days since 1970-01-01 of a `YYYY-MM-DD`.
pub fn parse_date(text: &[u8]) -> Option<i32> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    if !rest.is_empty() {
        return None;
    }
    date_fields(date)
}

/// Microseconds since 1970-01-01T00:00:00Z of an RFC 3339 text.
///
/// The separator may be `T`, `t` or a space. Digits below a microsecond are dropped. A leap second
/// (`:60`) is the first instant of the next minute.
pub fn parse_timestamp(text: &[u8]) -> Option<i64> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let (time, rest) = rest.split_first_chunk::<9>()?;
    let days = i64::from(date_fields(date)?);
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2, b':', s1, s2] = *time else {
        return None;
    };
    let seconds = second_of_day([h1, h2], [m1, m2], [s1, s2])?;
    let (fraction, rest) = fraction_micros(rest)?;
    let offset_minutes = zone_minutes(rest)?;
    let seconds = seconds - offset_minutes * 60;
    let micros = days * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + fraction;
    is_in_calendar(micros).then_some(micros)
}

/// What a clock shows in a `YYYY-MM-DD hh:mm[:ss[.f…]]`, microseconds since 1970, and the minutes by
/// which it is before UTC if the text says so: `Z`, `±hh`, `±hhmm` or `±hh:mm` at its end.
///
/// The separator may be a space, `T` or `t`. Digits below a microsecond are dropped. A leap second
/// (`:60`) is the first instant of the next minute.
///
/// Source: timestamp literals of SQL, and ISO 8601 as `java.time` and Python write it.
pub fn parse_clock(text: &[u8]) -> Option<(i64, Option<i64>)> {
    let (date, rest) = text.split_first_chunk::<10>()?;
    let (time, rest) = rest.split_first_chunk::<6>()?;
    let days = i64::from(date_fields(date)?);
    let [b'T' | b't' | b' ', h1, h2, b':', m1, m2] = *time else {
        return None;
    };
    let (second, rest) = match *rest {
        [b':', s1, s2, ..] => ([s1, s2], rest.get(3..)?),
        _ => ([b'0', b'0'], rest),
    };
    let seconds = second_of_day([h1, h2], [m1, m2], second)?;
    let (fraction, rest) = fraction_micros(rest)?;
    let offset = match *rest {
        [] => None,
        [sign @ (b'+' | b'-'), h1, h2] => Some(zone_minutes(&[sign, h1, h2, b':', b'0', b'0'])?),
        [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            Some(zone_minutes(&[sign, h1, h2, b':', m1, m2])?)
        }
        _ => Some(zone_minutes(rest)?),
    };
    let micros = days * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + fraction;
    Some((micros, offset))
}

/// Whether an instant can be written.
pub(crate) fn is_in_calendar(micros: i64) -> bool {
    (MIN_MICROS..=MAX_MICROS).contains(&micros)
}

fn second_of_day(hour: [u8; 2], minute: [u8; 2], second: [u8; 2]) -> Option<i64> {
    let [hour, minute, second] = [hour, minute, second].map(|[tens, ones]| two(tens, ones));
    let (hour, minute, second) = (hour?, minute?, second?);
    let valid = hour <= 23 && minute <= 59 && second <= 60;
    valid.then(|| i64::from(hour * 3600 + minute * 60 + second))
}

fn date_fields(date: &[u8; 10]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *date else {
        return None;
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let valid = (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day);
    valid.then(|| days_from_civil(year, month, day))
}

/// The fraction behind the seconds, if there is one, and what follows it.
fn fraction_micros(text: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.', digits)) = text.split_first() else {
        return Some((0, text));
    };
    let length = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    if length == 0 {
        return None;
    }
    let (digits, rest) = digits.split_at_checked(length)?;
    let mut micros = 0;
    for place in 0..6 {
        let digit = digits.get(place).map_or(0, |byte| i64::from(byte - b'0'));
        micros = micros * 10 + digit;
    }
    Some((micros, rest))
}

fn zone_minutes(text: &[u8]) -> Option<i64> {
    match *text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hour, minute) = (two(h1, h2)?, two(m1, m2)?);
            let minutes = i64::from(hour * 60 + minute);
            let valid = hour <= 23 && minute <= 59;
            valid.then_some(if sign == b'-' { -minutes } else { minutes })
        }
        _ => None,
    }
}

const fn two(tens: u8, ones: u8) -> Option<i32> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    if tens > 9 || ones > 9 {
        return None;
    }
    Some(tens as i32 * 10 + ones as i32)
}

const fn days_in_month(year: i32, month: i32) -> i32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const fn days_from_civil(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of a day since 1970-01-01.
const fn civil_from_days(days: i32) -> (i32, i32, i32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

/// Appends `YYYY-MM-DD`; false if the year is not one of 0000 to 9999.
pub fn write_date(days: i32, out: &mut Vec<u8>) -> bool {
    if !(MIN_DAY..=MAX_DAY).contains(&days) {
        return false;
    }
    let (year, month, day) = civil_from_days(days);
    let ([y1, y2], [y3, y4]) = (digits(year / 100), digits(year % 100));
    let ([m1, m2], [d1, d2]) = (digits(month), digits(day));
    out.extend_from_slice(&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]);
    true
}

/// Appends `YYYY-MM-DDThh:mm:ss[.fff[fff]]Z`: no fraction, milliseconds or microseconds, whatever
/// is the shortest that is exact. False if the year is not one of 0000 to 9999.
pub fn write_timestamp(micros: i64, out: &mut Vec<u8>) -> bool {
    let written = write_clock(micros, b'T', out);
    if written {
        out.push(b'Z');
    }
    written
}

/// As [`write_timestamp`], with another byte in the middle and no zone at the end.
pub fn write_clock(micros: i64, separator: u8, out: &mut Vec<u8>) -> bool {
    let day = micros.div_euclid(MICROS_PER_DAY);
    let Ok(day) = i32::try_from(day) else {
        return false;
    };
    if !write_date(day, out) {
        return false;
    }
    let in_day = micros.rem_euclid(MICROS_PER_DAY);
    let second_of_day = narrow(in_day / MICROS_PER_SECOND);
    let fraction = narrow(in_day % MICROS_PER_SECOND);
    let [h1, h2] = digits(second_of_day / 3600);
    let [m1, m2] = digits(second_of_day / 60 % 60);
    let [s1, s2] = digits(second_of_day % 60);
    out.extend_from_slice(&[separator, h1, h2, b':', m1, m2, b':', s1, s2]);
    if fraction != 0 {
        let ([f1, f2], [f3, f4]) = (digits(fraction / 10_000), digits(fraction / 100 % 100));
        let [f5, f6] = digits(fraction % 100);
        let micros = [b'.', f1, f2, f3, f4, f5, f6];
        let length = if fraction % 1_000 == 0 { 4 } else { 7 };
        out.extend_from_slice(micros.get(..length).unwrap_or_default());
    }
    true
}

/// A number that is known to be below 1,000,000.
fn narrow(number: i64) -> i32 {
    i32::try_from(number).unwrap_or_default()
}

/// The two digits of a number from 0 to 99.
fn digits(number: i32) -> [u8; 2] {
    let number = u8::try_from(number).unwrap_or_default();
    [b'0' + number / 10 % 10, b'0' + number % 10]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(micros: i64) -> String {
        let mut out = Vec::new();
        assert!(write_timestamp(micros, &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_instants_have_their_known_microseconds() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.999999Z", -1),
            ("2000-02-29T12:00:00Z", 951_825_600_000_000),
            ("2026-11-24T18:40:00.125Z", 1_795_545_600_125_000),
            ("0000-01-01T00:00:00Z", MIN_MICROS),
            ("9999-12-31T23:59:59.999999Z", MAX_MICROS),
        ] {
            assert_eq!(parse_timestamp(text.as_bytes()), Some(micros), "{text}");
            assert_eq!(written(micros), text);
        }
    }

    #[test]
    fn zones_separators_and_fine_fractions_are_understood() {
        for (text, same) in [
            ("2024-05-06t07:08:09z", "2024-05-06T07:08:09Z"),
            ("2024-05-06 07:08:09+00:00", "2024-05-06T07:08:09Z"),
            ("2024-05-06T07:08:09+05:30", "2024-05-06T01:38:09Z"),
            ("2024-01-01T00:30:00-02:00", "2024-01-01T02:30:00Z"),
            (
                "2024-05-06T07:08:09.1234567899Z",
                "2024-05-06T07:08:09.123456Z",
            ),
            ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
            ("2024-05-06T07:08:09.5Z", "2024-05-06T07:08:09.500Z"),
        ] {
            assert_eq!(written(parse_timestamp(text.as_bytes()).unwrap()), same);
        }
    }

    #[test]
    fn what_is_no_timestamp_is_refused() {
        for text in [
            "",
            "2024-05-06",
            "2024-05-06T07:08:09",
            "2024-05-06T07:08Z",
            "2024-05-06T07:08:09.Z",
            "2024-05-06T24:08:09Z",
            "2024-05-06T07:60:09Z",
            "2024-05-06T07:08:61Z",
            "2024-05-06T07:08:09+24:00",
            "2024-05-06T07:08:09+0530",
            "2024-05-06T07:08:09Zx",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "9999-12-31T23:59:59-01:00",
            "0000-01-01T00:00:00+01:00",
            "+2024-05-06T07:08:09Z",
        ] {
            assert_eq!(parse_timestamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_day_is_read_back_as_written_and_follows_its_predecessor() {
        let mut last = String::new();
        for day in MIN_DAY..=MAX_DAY {
            let mut out = Vec::new();
            assert!(write_date(day, &mut out));
            assert_eq!(parse_date(&out), Some(day));
            let text = String::from_utf8(out).unwrap();
            assert!(text > last, "{text} follows {last}");
            last = text;
        }
        assert_eq!(last, "9999-12-31");
        assert!(!write_date(MAX_DAY + 1, &mut Vec::new()));
        assert!(!write_date(MIN_DAY - 1, &mut Vec::new()));
    }

    proptest! {
        #[test]
        fn every_instant_is_read_back_as_written(micros in MIN_MICROS..=MAX_MICROS) {
            prop_assert_eq!(parse_timestamp(written(micros).as_bytes()), Some(micros));
        }

        #[test]
        fn instants_outside_the_calendar_are_not_written(micros in (MAX_MICROS + 1)..i64::MAX) {
            prop_assert!(!write_timestamp(micros, &mut Vec::new()));
            prop_assert!(!write_timestamp(-micros, &mut Vec::new()));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_timestamp(&text);
            let _ = parse_date(&text);
        }
    }
}
