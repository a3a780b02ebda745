//! Parts, beginnings, bins and zones of times.

use arrow_array::types::IntervalMonthDayNano;
use chrono::Datelike as _;
use datafusion_common::{Result, ScalarValue};

use super::{Taken, rows};
use crate::semantics::arithmetic::micros;
use crate::semantics::calendar::{self, MICROS_PER_DAY, Part, Unit};
use crate::semantics::call::{Arguments, Clock, Instant, Kernel};
use crate::semantics::cast::{self, Failing, quoted};
use crate::semantics::coerce::convert;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::zone::{Zone, clock_at, instant_of};
use crate::semantics::{Meaning, Refusal, fail, interval, refuse};

const UNITS: &str = "units are microsecond, millisecond, second, minute, hour, day, week, month, \
                     quarter, year, decade, century and millennium";

/// A point in time; a constant in quotes is a timestamp.
pub(super) fn time(taken: &mut Taken<'_>) -> Meaning<Typed> {
    let time = taken.any()?;
    match time.data_type {
        other if other.is_time() => Ok(time),
        Type::Null => convert(time, Type::Timestamp),
        Type::String if time.is_literal => convert(time, Type::Timestamp),
        other => Err(taken
            .takes("a time", other)
            .with_help("convert it with CAST(… AS timestamp)")),
    }
}

/// A text that is written out.
fn written_out(name: &str, what: &str, part: &Typed) -> Meaning<String> {
    match part.text() {
        Some(text) => Ok(text.to_owned()),
        None => refuse!("the {what} of `{name}` is written out in single quotes"),
    }
}

/// A point in time, or a length of it.
fn time_or_span(taken: &mut Taken<'_>) -> Meaning<Typed> {
    let value = taken.any()?;
    match value.data_type {
        other if other.is_time() || other.is_span() => Ok(value),
        Type::Null => convert(value, Type::Timestamp),
        Type::String if value.is_literal => convert(value, Type::Timestamp),
        other => Err(taken
            .takes("a time", other)
            .with_help("convert it with CAST(… AS timestamp)")),
    }
}

/// `date_part(part, time)`.
pub(super) fn part(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let field = taken.text()?;
    let field = written_out(name, "part", &field)?;
    let Some(part) = Part::read(&field) else {
        return Err(
            Refusal::new(format!("times have no part {}", quoted(&field))).with_help(format!(
                "{UNITS}, and nanosecond, dow, isodow, doy, isoyear and epoch"
            )),
        );
    };
    let value = time_or_span(&mut taken)?;
    let data_type = value.data_type;
    let has_it = match data_type {
        Type::Interval => interval::has_part(part),
        Type::Duration => interval::duration_has_part(part),
        _ => true,
    };
    if !has_it {
        return refuse!(
            "{} has no part {}",
            data_type.with_article(),
            quoted(&field)
        );
    }
    let label = format!("date_part {part:?}");
    if part == Part::Epoch {
        let kernel = rows(move |arguments: &Arguments, row| {
            Ok(match data_type {
                Type::Interval => arguments.intervals(0)?.get(row).map(interval::epoch),
                Type::Duration => arguments.durations(0)?.get(row).map(calendar::seconds),
                _ => micros(arguments, 0, data_type, row)?.map(calendar::seconds),
            })
        });
        return Typed::call(label, kernel, Type::Float64, &[&value]);
    }
    let of = move |arguments: &Arguments, row: usize| -> Result<Option<i64>> {
        match data_type {
            Type::Interval => {
                let span = arguments.intervals(0)?.get(row);
                span.map(|span| interval::part(part, span)).transpose()
            }
            Type::Duration => {
                let span = arguments.durations(0)?.get(row);
                span.map(|span| interval::duration_part(part, span))
                    .transpose()
            }
            _ => micros(arguments, 0, data_type, row)?
                .map(|time| part.of(time))
                .transpose(),
        }
    };
    if data_type == Type::Duration || part == Part::Nanosecond {
        return Typed::call(label, rows(of), Type::Int64, &[&value]);
    }
    let kernel = rows(
        move |arguments: &Arguments, row| match of(arguments, row)? {
            None => Ok(None),
            Some(value) => match i32::try_from(value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => fail!("{value} does not fit int32"),
            },
        },
    );
    Typed::call(label, kernel, Type::Int32, &[&value])
}

/// Microseconds as a time of a type.
fn finished(
    data_type: Type,
    of: impl Fn(&Arguments, usize) -> Result<Option<i64>> + Send + Sync + 'static,
) -> Kernel {
    match data_type {
        Type::Local => rows(move |arguments: &Arguments, row| Ok(of(arguments, row)?.map(Clock))),
        _ => rows(move |arguments: &Arguments, row| Ok(of(arguments, row)?.map(Instant))),
    }
}

/// `date_trunc(unit, time[, zone])`.
pub(super) fn truncated(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let unit = taken.text()?;
    let unit = written_out(name, "unit", &unit)?;
    let Some(unit) = Unit::read(&unit) else {
        return Err(Refusal::new(format!("there is no unit {}", quoted(&unit))).with_help(UNITS));
    };
    let time = time(&mut taken)?;
    let zone = if taken.has_more() {
        Some(zone(name, &taken.text()?)?)
    } else {
        None
    };
    let (from, output) = match time.data_type {
        Type::Local if zone.is_some() => {
            return refuse!("`{name}` takes a zone for a timestamp, but this is a local time");
        }
        Type::Local => (Type::Local, Type::Local),
        other => (other, Type::Timestamp),
    };
    let kernel = finished(output, move |arguments, row| {
        let Some(time) = micros(arguments, 0, from, row)? else {
            return Ok(None);
        };
        let begin = match zone {
            None => unit.begin(time),
            Some(zone) => instant_of(zone, unit.begin(clock_at(zone, time)?)?),
        };
        begin.map(Some)
    });
    Typed::call(
        format!("date_trunc {unit:?} {zone:?}"),
        kernel,
        output,
        &[&time],
    )
}

/// A zone that is written out.
fn zone(name: &str, part: &Typed) -> Meaning<Zone> {
    let text = written_out(name, "zone", part)?;
    Zone::read(&text).ok_or_else(|| {
        Refusal::new(format!("there is no time zone {}", quoted(&text)))
            .with_help("zones are names such as Europe/Berlin, and offsets such as +02:00")
    })
}

/// `time AT TIME ZONE zone`.
pub(super) fn zoned(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let name = if name == "timezone" {
        "AT TIME ZONE"
    } else {
        name
    };
    let mut taken = Taken::new(name, arguments);
    let zone = zone(name, &taken.text()?)?;
    let time = time(&mut taken)?;
    if time.data_type == Type::Local {
        let kernel = rows(move |arguments: &Arguments, row| {
            let clock = arguments.timestamps(0)?.get(row);
            clock
                .map(|clock| instant_of(zone, clock).map(Instant))
                .transpose()
        });
        return Typed::call(
            format!("from zone {zone:?}"),
            kernel,
            Type::Timestamp,
            &[&time],
        );
    }
    let time = cast::cast(time, Type::Timestamp, Failing::Fails)?;
    let kernel = rows(move |arguments: &Arguments, row| {
        let instant = arguments.timestamps(0)?.get(row);
        instant
            .map(|instant| clock_at(zone, instant).map(Clock))
            .transpose()
    });
    Typed::call(format!("at zone {zone:?}"), kernel, Type::Local, &[&time])
}

/// `date_bin(interval, time[, origin])`.
pub(super) fn binned(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let stride = taken.any()?;
    let stride = match stride.data_type {
        Type::Interval => stride,
        Type::Duration | Type::Null => convert(stride, Type::Interval)?,
        Type::String if stride.is_literal => convert(stride, Type::Interval)?,
        other => return Err(taken.takes("an interval", other)),
    };
    if let Some(ScalarValue::IntervalMonthDayNano(Some(stride))) = stride.value() {
        Stride::of(*stride)?;
    }
    let value = time(&mut taken)?;
    let origin = if taken.has_more() {
        time(&mut taken)?
    } else {
        Typed::constant(ScalarValue::Date32(Some(0)))?
    };
    let output = if value.data_type == Type::Local {
        Type::Local
    } else {
        Type::Timestamp
    };
    let (from, since) = (value.data_type, origin.data_type);
    let kernel = finished(output, move |arguments, row| {
        let times = micros(arguments, 1, from, row)?.zip(micros(arguments, 2, since, row)?);
        let Some((stride, (time, origin))) = arguments.intervals(0)?.get(row).zip(times) else {
            return Ok(None);
        };
        match Stride::of(stride) {
            Ok(stride) => stride
                .begin(calendar::checked(time)?, calendar::checked(origin)?)
                .map(Some),
            Err(refusal) => fail!("{}", refusal.message),
        }
    });
    Typed::call("date_bin", kernel, output, &[&stride, &value, &origin])
}

/// The length of a bin.
#[derive(Debug, Clone, Copy)]
enum Stride {
    Months(i64),
    Micros(i128),
}

impl Stride {
    fn of(span: IntervalMonthDayNano) -> Meaning<Self> {
        let nanos = i128::from(span.days) * i128::from(MICROS_PER_DAY) * 1_000
            + i128::from(span.nanoseconds);
        match (span.months, nanos) {
            (1.., 0) => Ok(Self::Months(span.months.into())),
            (0, 1..) if nanos % 1_000 == 0 => Ok(Self::Micros(nanos / 1_000)),
            (0, 1..) => refuse!("a bin is of whole microseconds"),
            (..=0, _) => refuse!("a bin is longer than nothing"),
            _ => refuse!("a bin is of months, or of days and a time, but not of both"),
        }
    }

    /// The beginning of the bin that holds a time.
    fn begin(self, time: i64, origin: i64) -> Result<i64> {
        match self {
            Self::Micros(stride) => {
                let passed = i128::from(time) - i128::from(origin);
                let begin = i128::from(origin) + passed.div_euclid(stride) * stride;
                calendar::checked(i64::try_from(begin).unwrap_or(i64::MIN))
            }
            Self::Months(stride) => {
                let months = |time: i64| -> Result<i64> {
                    let time = calendar::at(time)?;
                    Ok(i64::from(time.year()) * 12 + i64::from(time.month0()))
                };
                let bin = (months(time)? - months(origin)?).div_euclid(stride);
                let begin = |bin: i64| {
                    let months = i32::try_from(bin * stride).unwrap_or(i32::MIN);
                    calendar::plus_months(origin, months)
                };
                // The origin's day or time may be later than that of the time.
                match begin(bin) {
                    Ok(found) if found <= time => Ok(found),
                    _ => begin(bin - 1),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::semantics::parse;

    #[test]
    fn bins_hold_their_times_over_all_years() {
        let time = |text: &str| parse::timestamp(text).unwrap();
        let month = Stride::Months(1);
        for (at, origin, begin) in [
            ("1677-09-22", "2024-01-15", "1677-09-15"),
            ("2024-03-30", "2024-01-31", "2024-02-29"),
            ("2024-03-31", "2024-01-31", "2024-03-31"),
            ("9999-12-31T23:59:59Z", "1970-01-01", "9999-12-01"),
        ] {
            assert_eq!(
                month.begin(time(at), time(origin)).unwrap(),
                time(begin),
                "{at}"
            );
        }
        let day = Stride::Micros(MICROS_PER_DAY.into());
        assert_eq!(day.begin(-1, 0).unwrap(), -MICROS_PER_DAY);
        assert!(
            Stride::Months(120_000)
                .begin(time("1969-01-01"), 0)
                .is_err()
        );
        assert!(Stride::of(IntervalMonthDayNano::new(0, 0, 0)).is_err());
    }
}
