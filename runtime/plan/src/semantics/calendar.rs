//! Points in time: microseconds since 1970 and days of the proleptic Gregorian calendar, of the
//! years 0000 to 9999.

use chrono::{Datelike as _, Days as ChronoDays, Months, NaiveDate, NaiveDateTime, Timelike as _};
use datafusion_common::Result;

use super::fail;

pub(crate) const MICROS_PER_SECOND: i64 = 1_000_000;
pub(crate) const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
/// 0000-01-01T00:00:00Z.
pub(crate) const FIRST: i64 = -62_167_219_200 * MICROS_PER_SECOND;
/// 9999-12-31T23:59:59.999999Z.
pub(crate) const LAST: i64 = 253_402_300_800 * MICROS_PER_SECOND - 1;

/// A time that is in the years 0000 to 9999.
pub(crate) fn checked(micros: i64) -> Result<i64> {
    if (FIRST..=LAST).contains(&micros) {
        Ok(micros)
    } else {
        fail!("the time is outside of the years 0000 to 9999")
    }
}

/// A day that is in the years 0000 to 9999.
pub(crate) fn checked_day(days: i64) -> Result<i32> {
    match i32::try_from(days) {
        Ok(day) if (FIRST..=LAST).contains(&days.saturating_mul(MICROS_PER_DAY)) => Ok(day),
        _ => fail!("the day is outside of the years 0000 to 9999"),
    }
}

/// The calendar's view of a time.
pub(crate) fn at(micros: i64) -> Result<NaiveDateTime> {
    let micros = checked(micros)?;
    chrono::DateTime::from_timestamp_micros(micros).map_or_else(
        || fail!("the time is outside of the years 0000 to 9999"),
        |time| Ok(time.naive_utc()),
    )
}

/// The calendar's view of a day.
pub(crate) fn day_at(days: i32) -> Result<NaiveDate> {
    Ok(at(start_of(days))?.date())
}

/// The beginning of a day.
pub(crate) fn start_of(days: i32) -> i64 {
    i64::from(days) * MICROS_PER_DAY
}

/// The day of a time.
pub(crate) fn day_of(micros: i64) -> Result<i32> {
    checked_day(checked(micros)?.div_euclid(MICROS_PER_DAY))
}

/// Microseconds since 1970.
pub(crate) fn micros(time: NaiveDateTime) -> Result<i64> {
    checked(time.and_utc().timestamp_micros())
}

/// Days since 1970.
pub(crate) fn days(date: NaiveDate) -> Result<i32> {
    day_of(micros(date.and_time(chrono::NaiveTime::MIN))?)
}

/// A time some months later: the same day of the month, or its last.
pub(crate) fn plus_months(micros_since: i64, months: i32) -> Result<i64> {
    if months == 0 {
        return checked(micros_since);
    }
    let time = at(micros_since)?;
    let shifted = if months > 0 {
        time.checked_add_months(Months::new(months.unsigned_abs()))
    } else {
        time.checked_sub_months(Months::new(months.unsigned_abs()))
    };
    shifted.map_or_else(|| checked(i64::MAX), micros)
}

/// A unit that times are cut to and parts are taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unit {
    Microsecond,
    Millisecond,
    Second,
    Minute,
    Hour,
    Day,
    Week,
    Month,
    Quarter,
    Year,
    Decade,
    Century,
    Millennium,
}

impl Unit {
    /// Reads a unit as users write it, in singular or plural.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let lower = text.trim().to_ascii_lowercase();
        Some(match lower.as_str() {
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" | "usecond" => {
                Self::Microsecond
            }
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" | "msecond" => {
                Self::Millisecond
            }
            "second" | "seconds" | "s" | "sec" | "secs" => Self::Second,
            "minute" | "minutes" | "m" | "min" | "mins" => Self::Minute,
            "hour" | "hours" | "h" | "hr" | "hrs" => Self::Hour,
            "day" | "days" | "d" => Self::Day,
            "week" | "weeks" | "w" => Self::Week,
            "month" | "months" | "mon" | "mons" => Self::Month,
            "quarter" | "quarters" | "qtr" => Self::Quarter,
            "year" | "years" | "y" | "yr" | "yrs" => Self::Year,
            "decade" | "decades" => Self::Decade,
            "century" | "centuries" => Self::Century,
            "millennium" | "millennia" | "millenniums" => Self::Millennium,
            _ => return None,
        })
    }

    /// Its length, if all are as long.
    const fn micros(self) -> Option<i64> {
        Some(match self {
            Self::Microsecond => 1,
            Self::Millisecond => 1_000,
            Self::Second => MICROS_PER_SECOND,
            Self::Minute => 60 * MICROS_PER_SECOND,
            Self::Hour => 3_600 * MICROS_PER_SECOND,
            Self::Day => MICROS_PER_DAY,
            _ => return None,
        })
    }

    /// The last time before `time`, or `time`, at which such a unit begins.
    ///
    /// # Errors
    /// It is before the year 0000.
    pub(crate) fn begin(self, time: i64) -> Result<i64> {
        let time = checked(time)?;
        if let Some(length) = self.micros() {
            return checked(time.div_euclid(length) * length);
        }
        let date = at(time)?.date();
        let (year, month) = (date.year(), date.month());
        let begin = match self {
            Self::Week => {
                let weekday = date.weekday().num_days_from_monday();
                date.checked_sub_days(ChronoDays::new(weekday.into()))
            }
            Self::Month => date.with_day(1),
            Self::Quarter => NaiveDate::from_ymd_opt(year, (month - 1) / 3 * 3 + 1, 1),
            Self::Decade => NaiveDate::from_ymd_opt(year.div_euclid(10) * 10, 1, 1),
            // The first century begins with the year 1.
            Self::Century => NaiveDate::from_ymd_opt((year - 1).div_euclid(100) * 100 + 1, 1, 1),
            Self::Millennium => {
                NaiveDate::from_ymd_opt((year - 1).div_euclid(1_000) * 1_000 + 1, 1, 1)
            }
            _ => NaiveDate::from_ymd_opt(year, 1, 1),
        };
        begin.map_or_else(
            || checked(i64::MIN),
            |date| micros(date.and_time(chrono::NaiveTime::MIN)),
        )
    }
}

/// What EXTRACT takes out of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Unit(Unit),
    Nanosecond,
    IsoYear,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    Epoch,
}

impl Part {
    pub(crate) fn read(text: &str) -> Option<Self> {
        let lower = text.trim().to_ascii_lowercase();
        Some(match lower.as_str() {
            "nanosecond" | "nanoseconds" | "ns" | "nsec" | "nsecs" => Self::Nanosecond,
            "isoyear" => Self::IsoYear,
            "dow" | "dayofweek" => Self::DayOfWeek,
            "isodow" => Self::IsoDayOfWeek,
            "doy" | "dayofyear" => Self::DayOfYear,
            "epoch" => Self::Epoch,
            "isoweek" => Self::Unit(Unit::Week),
            _ => Self::Unit(Unit::read(&lower)?),
        })
    }

    /// The part of a time; nothing for the epoch, which is not an integer.
    pub(crate) fn of(self, time: i64) -> Result<i64> {
        let civil = at(time)?;
        let date = civil.date();
        let year = i64::from(date.year());
        let nanos = i64::from(civil.second()) * 1_000_000_000 + i64::from(civil.nanosecond());
        Ok(match self {
            Self::Nanosecond => nanos,
            Self::IsoYear => date.iso_week().year().into(),
            Self::DayOfWeek => date.weekday().num_days_from_sunday().into(),
            Self::IsoDayOfWeek => date.weekday().number_from_monday().into(),
            Self::DayOfYear => date.ordinal().into(),
            Self::Epoch => time.div_euclid(MICROS_PER_SECOND),
            Self::Unit(unit) => match unit {
                Unit::Microsecond => nanos / 1_000,
                Unit::Millisecond => nanos / 1_000_000,
                Unit::Second => civil.second().into(),
                Unit::Minute => civil.minute().into(),
                Unit::Hour => civil.hour().into(),
                Unit::Day => date.day().into(),
                Unit::Week => date.iso_week().week().into(),
                Unit::Month => date.month().into(),
                Unit::Quarter => ((date.month() - 1) / 3 + 1).into(),
                Unit::Year => year,
                Unit::Decade => year.div_euclid(10),
                // There is no century 0: the year 0000 is in the one before the first.
                Unit::Century => count_from_one(year, 100),
                Unit::Millennium => count_from_one(year, 1_000),
            },
        })
    }
}

fn count_from_one(year: i64, length: i64) -> i64 {
    if year > 0 {
        (year - 1) / length + 1
    } else {
        -1
    }
}

/// Seconds of microseconds, as exact as a `float64` is.
pub(crate) fn seconds(micros: i64) -> f64 {
    let whole = micros.div_euclid(MICROS_PER_SECOND);
    let rest = micros.rem_euclid(MICROS_PER_SECOND);
    if micros.unsigned_abs() < 1 << 53 {
        micros as f64 / MICROS_PER_SECOND as f64
    } else {
        whole as f64 + rest as f64 / MICROS_PER_SECOND as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_the_last_time_are_those_of_the_calendar() {
        let micros = |text: &str| {
            let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f").unwrap();
            time.and_utc().timestamp_micros()
        };
        assert_eq!(FIRST, micros("0000-01-01T00:00:00"));
        assert_eq!(LAST, micros("9999-12-31T23:59:59.999999"));
        assert!(checked(FIRST - 1).is_err() && checked(LAST + 1).is_err());
    }

    #[test]
    fn every_unit_begins_not_after_the_time_and_at_most_once() {
        for time in [
            FIRST,
            -1,
            0,
            1,
            LAST,
            -9_000_000_000_000_000,
            95_617_584_000_000_000,
        ] {
            for unit in [
                "microsecond",
                "second",
                "day",
                "week",
                "month",
                "quarter",
                "year",
            ] {
                let unit = Unit::read(unit).unwrap();
                let Ok(begin) = unit.begin(time) else {
                    assert_eq!((unit, time), (Unit::Week, FIRST));
                    continue;
                };
                assert!(begin <= time);
                assert_eq!(unit.begin(begin).unwrap(), begin);
            }
        }
    }
}
