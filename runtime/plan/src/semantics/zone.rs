//! Time zones.

use std::str::FromStr as _;

use chrono::{
    Datelike as _, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, Offset as _, TimeDelta,
    TimeZone as _,
};
use chrono_tz::Tz;
use datafusion_common::Result;

use super::{calendar, fail};

/// A time zone: one of the IANA database, or an offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    Named(Tz),
    Fixed(FixedOffset),
}

impl Zone {
    /// Reads `Europe/Berlin`, `UTC`, `Z`, `+02:00`, `+0200` or `+02`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("z") || text.eq_ignore_ascii_case("utc") {
            return Some(Self::Named(Tz::UTC));
        }
        if !text.starts_with(['+', '-']) {
            return Tz::from_str(text).ok().map(Self::Named);
        }
        let (sign, rest) = text.split_at_checked(1)?;
        let digits: String = match rest.split_once(':') {
            Some((hours, minutes)) if hours.len() == 2 && minutes.len() == 2 => {
                format!("{hours}{minutes}")
            }
            Some(_) => return None,
            None => rest.to_owned(),
        };
        if !matches!(digits.len(), 2 | 4) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (hours, minutes) = digits.split_at_checked(2)?;
        let hours: i32 = hours.parse().ok()?;
        let minutes: i32 = if minutes.is_empty() {
            0
        } else {
            minutes.parse().ok()?
        };
        if hours > 23 || minutes > 59 {
            return None;
        }
        let seconds = hours * 3_600 + minutes * 60;
        let offset = FixedOffset::east_opt(if sign == "-" { -seconds } else { seconds })?;
        Some(Self::Fixed(offset))
    }

    /// What the clocks of the zone show at an instant.
    ///
    /// # Errors
    /// It is outside of the years 0000 to 9999.
    pub(crate) fn clock_at(self, instant: i64) -> Result<i64> {
        let utc = calendar::at(instant)?;
        let seconds = match self {
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(zone) => zone
                .offset_from_utc_datetime(&known(utc))
                .fix()
                .local_minus_utc(),
        };
        calendar::checked(instant + i64::from(seconds) * calendar::MICROS_PER_SECOND)
    }

    /// When the clocks of the zone show a time. Of two instants the later one, at which the
    /// clocks have been put back; a time that was skipped counts on from before.
    ///
    /// # Errors
    /// It is outside of the years 0000 to 9999.
    pub(crate) fn instant_of(self, clock: i64) -> Result<i64> {
        let local = calendar::at(clock)?;
        let seconds = match self {
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(zone) => match offset_of(zone, local) {
                Some(seconds) => seconds,
                None => return fail!("{zone} has no such time"),
            },
        };
        calendar::checked(clock - i64::from(seconds) * calendar::MICROS_PER_SECOND)
    }
}

/// The last year that the tables of zones know, and the first of the 28 whose calendars are all
/// that there are: behind them a year is taken for one with the same calendar.
const KNOWN: std::ops::RangeInclusive<i32> = 2072..=2099;

/// A time of a year that the tables of zones know, in which clocks are put as in the given one.
fn known(time: NaiveDateTime) -> NaiveDateTime {
    if time.year() <= *KNOWN.end() {
        return time;
    }
    let calendar = |year: i32| {
        let first = NaiveDate::from_ymd_opt(year, 1, 1)?;
        Some((first.weekday(), first.leap_year()))
    };
    let wanted = calendar(time.year());
    let alike = KNOWN.into_iter().find(|year| calendar(*year) == wanted);
    alike.and_then(|year| time.with_year(year)).unwrap_or(time)
}

fn offset_of(zone: Tz, local: NaiveDateTime) -> Option<i32> {
    let local = known(local);
    match zone.offset_from_local_datetime(&local) {
        LocalResult::Single(offset) => Some(offset.fix().local_minus_utc()),
        LocalResult::Ambiguous(_, later) => Some(later.fix().local_minus_utc()),
        LocalResult::None => {
            // No zone skips more than a day; what counted a day before counts on.
            let before = local.checked_sub_signed(TimeDelta::days(1))?;
            let earliest = zone.offset_from_local_datetime(&before).earliest()?;
            Some(earliest.fix().local_minus_utc())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn time(text: &str) -> i64 {
        parse::timestamp(text).unwrap()
    }

    #[test]
    fn clocks_are_put_forward_and_back() {
        let berlin = Zone::read("Europe/Berlin").unwrap();
        for (instant, clock) in [
            ("2024-06-01T12:34:56Z", "2024-06-01T14:34:56Z"),
            ("2024-01-01T00:00:00Z", "2024-01-01T01:00:00Z"),
            ("2024-10-27T01:30:00Z", "2024-10-27T02:30:00Z"),
            // Summers and winters go on.
            ("2262-07-01T00:00:00Z", "2262-07-01T02:00:00Z"),
            ("9999-12-01T00:00:00Z", "9999-12-01T01:00:00Z"),
        ] {
            assert_eq!(
                berlin.clock_at(time(instant)).unwrap(),
                time(clock),
                "{instant}"
            );
            assert_eq!(
                berlin.instant_of(time(clock)).unwrap(),
                time(instant),
                "{clock}"
            );
        }
        // 02:30 did not happen that night.
        let skipped = berlin.instant_of(time("2024-03-31T02:30:00Z")).unwrap();
        assert_eq!(skipped, time("2024-03-31T01:30:00Z"));
    }

    #[test]
    fn zones_are_names_and_offsets() {
        for text in [
            "UTC",
            "utc",
            "Z",
            "+02:00",
            "-0530",
            "+14",
            "America/New_York",
        ] {
            assert!(Zone::read(text).is_some(), "{text}");
        }
        for text in [
            "",
            "Nowhere/Zone",
            "+24:00",
            "+1",
            "+01:60",
            "Berlin",
            "+01:0",
        ] {
            assert_eq!(Zone::read(text), None, "{text}");
        }
    }
}
