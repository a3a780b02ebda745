//! Time zones: what clocks show when, and when they show it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use chrono::{
    DateTime, Datelike as _, FixedOffset, LocalResult, NaiveDate, NaiveDateTime, Offset as _,
    TimeDelta, TimeZone as _,
};
use chrono_tz::{TZ_VARIANTS, Tz};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// A time zone: one of the IANA database, or an offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zone {
    /// Such as `Europe/Berlin`.
    Named(Tz),
    /// Such as `+02:00`.
    Fixed(FixedOffset),
}

impl Default for Zone {
    fn default() -> Self {
        Self::Named(Tz::UTC)
    }
}

/// Why a text is not a time zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a time zone: use a name such as `Europe/Berlin`, or an offset such as `+02:00`"
)]
pub struct ParseZoneError {
    text: String,
}

impl FromStr for Zone {
    type Err = ParseZoneError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text).ok_or_else(|| ParseZoneError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(zone) => f.write_str(zone.name()),
            Self::Fixed(offset) => offset.fmt(f),
        }
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": 64,
        })
    }
}

impl Zone {
    /// Reads `Europe/Berlin`, `UTC`, `Z`, `+02:00`, `+0200` or `+02`.
    pub fn read(text: &str) -> Option<Self> {
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

    /// The names of the IANA database.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// What the clocks of the zone show at an instant; both in microseconds since 1970. `None` for
    /// an instant that no calendar has.
    pub fn clock_at(self, instant: i64) -> Option<i64> {
        let seconds = match self {
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(Tz::UTC) => 0,
            Self::Named(zone) => zone
                .offset_from_utc_datetime(&known(at(instant)?))
                .fix()
                .local_minus_utc(),
        };
        instant.checked_add(i64::from(seconds) * MICROS_PER_SECOND)
    }

    /// When the clocks of the zone show a time; both in microseconds since 1970. Of two instants the
    /// later one, at which the clocks have been put back; a time that was skipped counts on from
    /// before. `None` for a time that no calendar has.
    pub fn instant_of(self, clock: i64) -> Option<i64> {
        let seconds = match self {
            Self::Fixed(offset) => offset.local_minus_utc(),
            Self::Named(Tz::UTC) => 0,
            Self::Named(zone) => offset_of(zone, at(clock)?)?,
        };
        clock.checked_sub(i64::from(seconds) * MICROS_PER_SECOND)
    }
}

fn at(micros: i64) -> Option<NaiveDateTime> {
    DateTime::from_timestamp_micros(micros).map(|time| time.naive_utc())
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
    use super::*;

    fn zone(text: &str) -> Zone {
        text.parse().unwrap()
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
            assert_eq!(zone(&zone(text).to_string()), zone(text), "{text}");
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
        assert!(Zone::names().any(|name| name == "Europe/Berlin"));
    }

    #[test]
    fn a_time_that_happened_twice_is_the_later_one() {
        let berlin = zone("Europe/Berlin");
        // 2024-10-27T02:30 in Berlin: 00:30 and 01:30 in UTC.
        let clock = 1_729_996_200_000_000;
        let later = clock - 3_600 * MICROS_PER_SECOND;
        assert_eq!(berlin.instant_of(clock), Some(later));
        assert_eq!(berlin.clock_at(later), Some(clock));
        assert_eq!(
            berlin.clock_at(later - 3_600 * MICROS_PER_SECOND),
            Some(clock)
        );
        assert_eq!(berlin.clock_at(i64::MAX), None);
    }
}
