//! Functions that make times of numbers and texts, and texts of times.

use std::fmt::Write as _;

use chrono::NaiveTime;
use chrono::format::{Item, Parsed, StrftimeItems};
use datafusion_common::Result;

use super::times;
use super::{Function, Taken, rows};
use crate::semantics::arithmetic::micros;
use crate::semantics::calendar::{self, MICROS_PER_SECOND};
use crate::semantics::call::{Arguments, Days, Instant};
use crate::semantics::cast::{self, Failing, quoted};
use crate::semantics::coerce::convert;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, Refusal, fail, parse, refuse};

const MANY: usize = usize::MAX;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        &["date_part", "datepart"],
        "date_part(part, time), EXTRACT(part FROM time): year, quarter, month, week (of ISO 8601), \
         day, hour, minute, second, millisecond and microsecond (with the seconds), nanosecond, \
         dow (Sunday is 0), isodow (Monday is 1), doy, isoyear, decade, century, millennium, epoch; \
         an int32, of the epoch a float64. Of a difference of times: all of it in that unit, cut; \
         an int64",
        (2, 2),
        times::part,
        &[
            "extract(epoch FROM TIMESTAMP '2024-01-01T00:00:05.25Z' - TIMESTAMP '2024-01-01')",
            "extract(millisecond FROM TIMESTAMP '2024-03-01' - TIMESTAMP '2024-01-01')",
            "extract(week FROM DATE '2024-12-30')",
            "extract(millisecond FROM INTERVAL '5.25 seconds')",
            "extract(century FROM DATE '2000-12-31')",
            "extract(fortnight FROM DATE '2000-12-31')",
        ],
    ),
    Function::new(
        &["date_trunc", "datetrunc"],
        "date_trunc(unit, time[, zone]): the beginning of the unit; units are those of EXTRACT from \
         microsecond to millennium",
        (2, 3),
        times::truncated,
        &[
            "date_trunc('month', TIMESTAMP '9999-12-31T23:59:59Z')",
            "date_trunc('week', DATE '1677-09-22')",
            "date_trunc('day', TIMESTAMP '2024-06-01T23:00:00Z', 'Europe/Berlin')",
            "date_trunc('fortnight', DATE '2024-01-01')",
        ],
    ),
    Function::new(
        &["date_bin"],
        "date_bin(interval, time[, origin]): the beginning of the bin that holds the time; bins are \
         of months or of days and a time, and the origin, 1970-01-01, begins one",
        (2, 3),
        times::binned,
        &[
            "date_bin(INTERVAL '15 minutes', TIMESTAMP '2024-02-29T23:59:59Z')",
            "date_bin(INTERVAL '1 day', TIMESTAMP '1700-01-01T12:00:00Z', TIMESTAMP '2024-01-01')",
            "date_bin(INTERVAL '1000 years', TIMESTAMP '2024-01-01')",
            "date_bin(INTERVAL '0 seconds', TIMESTAMP '2024-01-01')",
        ],
    ),
    Function::new(
        &["timezone"],
        "timezone(zone, time), time AT TIME ZONE zone: of a timestamp the local time that clocks \
         show there; of a local time the timestamp",
        (2, 2),
        times::zoned,
        &[
            "TIMESTAMP '2024-06-01T12:34:56Z' AT TIME ZONE 'Europe/Berlin'",
            "TIMESTAMP '2024-06-01' AT TIME ZONE 'Nowhere/Zone'",
        ],
    ),
    Function::new(
        &["to_local_time"],
        "to_local_time(time): a timestamp's local time of UTC; a local time as it is",
        (1, 1),
        |name, arguments| {
            let mut taken = Taken::new(name, arguments);
            let time = times::time(&mut taken)?;
            cast::cast(time, Type::Local, Failing::Fails)
        },
        &["to_local_time(TIMESTAMP '2024-06-01T12:00:00Z' AT TIME ZONE '+02:00')"],
    ),
    Function::new(
        &["to_char", "date_format"],
        "to_char(time, format): with the % codes of strftime, as '%Y-%m-%d %H:%M:%S'",
        (2, 2),
        to_char,
        &[
            "to_char(TIMESTAMP '9999-12-31T23:59:59Z', '%Y-%m-%d %H:%M')",
            "to_char(DATE '0001-02-03', '%d.%m.%Y')",
            "to_char(DATE '2024-01-01', '%Q')",
        ],
    ),
    Function::new(
        &["to_timestamp"],
        "to_timestamp(text[, format, …]): the first format that fits, or ISO 8601; \
         to_timestamp(number): seconds since 1970",
        (1, MANY),
        |name, arguments| to_timestamp(name, arguments, MICROS_PER_SECOND),
        &[
            "to_timestamp('0001-01-01T00:00:00Z')",
            "to_timestamp('03.02.2024', '%d.%m.%Y')",
            "to_timestamp(253402300799)",
            "to_timestamp(1.5)",
            "to_timestamp(253402300800)",
            "to_timestamp('2024', '%Q')",
        ],
    ),
    Function::new(
        &["to_timestamp_seconds"],
        "to_timestamp_seconds(number or text): as to_timestamp",
        (1, MANY),
        |name, arguments| to_timestamp(name, arguments, MICROS_PER_SECOND),
        &["to_timestamp_seconds(-1)"],
    ),
    Function::new(
        &["to_timestamp_millis"],
        "to_timestamp_millis(number or text): a number counts milliseconds since 1970",
        (1, MANY),
        |name, arguments| to_timestamp(name, arguments, 1_000),
        &["to_timestamp_millis(1709208000123)"],
    ),
    Function::new(
        &["to_timestamp_micros"],
        "to_timestamp_micros(number or text): a number counts microseconds since 1970",
        (1, MANY),
        |name, arguments| to_timestamp(name, arguments, 1),
        &["to_timestamp_micros(-62167219200000000)"],
    ),
    Function::new(
        &["to_timestamp_nanos"],
        "to_timestamp_nanos(integer): nanoseconds since 1970, cut to microseconds",
        (1, 1),
        |name, arguments| {
            let nanos = Taken::new(name, arguments).int64()?;
            let kernel = rows(|arguments: &Arguments, row| {
                let nanos = arguments.int64s(0)?.get(row);
                Ok(nanos.map(|nanos| Instant(nanos.div_euclid(1_000))))
            });
            Typed::call(name, kernel, Type::Timestamp, &[&nanos])
        },
        &["to_timestamp_nanos(-1)"],
    ),
    Function::new(
        &["from_unixtime"],
        "from_unixtime(integer): seconds since 1970",
        (1, 1),
        |name, arguments| {
            let seconds = Taken::new(name, arguments).int64()?;
            to_timestamp(name, vec![seconds], MICROS_PER_SECOND)
        },
        &["from_unixtime(0)"],
    ),
    Function::new(
        &["to_unixtime"],
        "to_unixtime(time or text[, format, …]): whole seconds since 1970, an int64",
        (1, MANY),
        |name, arguments| {
            let time = to_timestamp(name, arguments, MICROS_PER_SECOND)?;
            let kernel = rows(|arguments: &Arguments, row| {
                let time = arguments.timestamps(0)?.get(row);
                Ok(time.map(|time| time.div_euclid(MICROS_PER_SECOND)))
            });
            Typed::call(name, kernel, Type::Int64, &[&time])
        },
        &[
            "to_unixtime('9999-12-31T23:59:59Z')",
            "to_unixtime(TIMESTAMP '1969-12-31T23:59:59.5Z')",
        ],
    ),
    Function::new(
        &["to_date"],
        "to_date(text[, format, …]), to_date(time), to_date(days since 1970)",
        (1, MANY),
        to_date,
        &["to_date('29/02/2024', '%d/%m/%Y')", "to_date('2023-02-29')"],
    ),
    Function::new(
        &["make_date"],
        "make_date(year, month, day)",
        (3, 3),
        make_date,
        &[
            "make_date(2024, 2, 29)",
            "make_date(2023, 2, 29)",
            "make_date(10000, 1, 1)",
        ],
    ),
];

/// The items of a format, if all of them are known and can be filled from a time.
fn items(format: &str, has_zone: bool) -> Meaning<Vec<Item<'static>>> {
    let wrong = || {
        Refusal::new(format!("{} is not a format of times", quoted(format)))
            .with_help("its codes are those of strftime, such as %Y-%m-%d %H:%M:%S")
    };
    let mut items = Vec::new();
    for item in StrftimeItems::new(format) {
        if item == Item::Error {
            return Err(wrong());
        }
        items.push(item.to_owned());
    }
    written(0, &items, has_zone).map_err(|_| wrong())?;
    Ok(items)
}

/// A time in a format.
fn written(time: i64, items: &[Item<'_>], has_zone: bool) -> Result<String> {
    let time = calendar::at(time)?;
    let mut text = String::new();
    let done = if has_zone {
        write!(text, "{}", time.and_utc().format_with_items(items.iter()))
    } else {
        write!(text, "{}", time.format_with_items(items.iter()))
    };
    match done {
        Ok(()) => Ok(text),
        Err(_) => fail!("the format cannot be filled from this time"),
    }
}

fn to_char(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (time, format) = (times::time(&mut taken)?, taken.text()?);
    let data_type = time.data_type;
    let has_zone = data_type == Type::Timestamp;
    let fixed = format
        .text()
        .map(|format| items(format, has_zone))
        .transpose()?;
    let kernel = rows(move |arguments: &Arguments, row| {
        let time = micros(arguments, 0, data_type, row)?;
        let Some((time, format)) = time.zip(arguments.texts(1)?.get(row)) else {
            return Ok(None);
        };
        if let Some(items) = &fixed {
            return written(time, items, has_zone).map(Some);
        }
        match items(format, has_zone) {
            Ok(items) => written(time, &items, has_zone).map(Some),
            Err(refusal) => fail!("{}", refusal.message),
        }
    });
    Typed::call(name, kernel, Type::String, &[&time, &format])
}

/// Formats that texts are read with, in order; without any it is ISO 8601.
fn formats(name: &str, taken: &mut Taken<'_>) -> Meaning<Vec<Vec<Item<'static>>>> {
    let mut formats = Vec::new();
    while taken.has_more() {
        let format = taken.text()?;
        let Some(format) = format.text() else {
            return refuse!("the formats of `{name}` are written out, as '%d.%m.%Y'");
        };
        formats.push(items(format, true)?);
    }
    Ok(formats)
}

/// A text as microseconds.
fn read(text: &str, formats: &[Vec<Item<'static>>]) -> Result<i64> {
    let found = if formats.is_empty() {
        parse::timestamp(text)
    } else {
        formats.iter().find_map(|items| read_as(text, items))
    };
    match found {
        Some(micros) => Ok(micros),
        None if formats.is_empty() => fail!("{} is not a timestamp", quoted(text)),
        None => fail!("{} is not a timestamp of the given format", quoted(text)),
    }
}

fn read_as(text: &str, items: &[Item<'_>]) -> Option<i64> {
    let mut parsed = Parsed::new();
    chrono::format::parse(&mut parsed, text, items.iter()).ok()?;
    if let Ok(time) = parsed.to_datetime() {
        return calendar::checked(time.timestamp_micros()).ok();
    }
    let offset = parsed.offset().unwrap_or(0);
    if let Ok(time) = parsed.to_naive_datetime_with_offset(offset) {
        let micros = calendar::micros(time).ok()?;
        return calendar::checked(micros - i64::from(offset) * MICROS_PER_SECOND).ok();
    }
    let date = parsed.to_naive_date().ok()?;
    calendar::micros(date.and_time(NaiveTime::MIN)).ok()
}

/// A time, text or number as a timestamp; a number counts units of so many microseconds.
fn to_timestamp(name: &str, arguments: Vec<Typed>, unit: i64) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let value = taken.any()?;
    if value.data_type == Type::String {
        let formats = formats(name, &mut taken)?;
        let kernel = rows(move |arguments: &Arguments, row| {
            let text = arguments.texts(0)?.get(row);
            text.map(|text| read(text, &formats).map(Instant))
                .transpose()
        });
        return Typed::call(name, kernel, Type::Timestamp, &[&value]);
    }
    if taken.has_more() {
        return refuse!("`{name}` takes a format for a text only");
    }
    match value.data_type {
        Type::Null => Typed::null(Type::Timestamp),
        Type::Timestamp | Type::Local | Type::Date => {
            cast::cast(value, Type::Timestamp, Failing::Fails)
        }
        Type::Int32 | Type::Int64 => {
            let number = convert(value, Type::Int64)?;
            let kernel = rows(move |arguments: &Arguments, row| {
                let Some(number) = arguments.int64s(0)?.get(row) else {
                    return Ok(None);
                };
                let micros = number.checked_mul(unit).unwrap_or(i64::MAX);
                calendar::checked(micros).map(|micros| Some(Instant(micros)))
            });
            Typed::call(name, kernel, Type::Timestamp, &[&number])
        }
        Type::Float64 | Type::Decimal(..) => {
            // Microseconds are exact in a decimal; a float64 is rounded to them.
            let exact = cast::cast(value, Type::Decimal(38, 6), Failing::Fails)?;
            let kernel = rows(move |arguments: &Arguments, row| {
                let Some(number) = arguments.decimals(0)?.get(row) else {
                    return Ok(None);
                };
                let millionths = number.checked_mul(i128::from(unit)).unwrap_or(i128::MAX);
                let micros = i64::try_from(millionths.div_euclid(1_000_000)).unwrap_or(i64::MAX);
                calendar::checked(micros).map(|micros| Some(Instant(micros)))
            });
            Typed::call(name, kernel, Type::Timestamp, &[&exact])
        }
        other => Err(taken.takes("a time, a text or a number", other)),
    }
}

fn to_date(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let value = taken.any()?;
    if value.data_type != Type::String {
        if taken.has_more() {
            return refuse!("`{name}` takes a format for a text only");
        }
        return match value.data_type {
            Type::Boolean | Type::Float64 | Type::Decimal(..) | Type::Bytes => {
                Err(taken.takes("a text, a time or an integer", value.data_type))
            }
            _ => cast::cast(value, Type::Date, Failing::Fails),
        };
    }
    let formats = formats(name, &mut taken)?;
    let kernel = rows(move |arguments: &Arguments, row| {
        let Some(text) = arguments.texts(0)?.get(row) else {
            return Ok(None);
        };
        if formats.is_empty() {
            return match parse::date(text) {
                Some(day) => Ok(Some(Days(day))),
                None => fail!("{} is not a date", quoted(text)),
            };
        }
        calendar::day_of(read(text, &formats)?).map(|day| Some(Days(day)))
    });
    Typed::call(name, kernel, Type::Date, &[&value])
}

fn make_date(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (year, month, day) = (taken.int64()?, taken.int64()?, taken.int64()?);
    let kernel = rows(|arguments: &Arguments, row| {
        let (years, months) = (arguments.int64s(0)?, arguments.int64s(1)?);
        let days = arguments.int64s(2)?;
        let (Some(year), Some(month), Some(day)) = (years.get(row), months.get(row), days.get(row))
        else {
            return Ok(None);
        };
        let date = i32::try_from(year)
            .ok()
            .zip(u32::try_from(month).ok())
            .zip(u32::try_from(day).ok())
            .and_then(|((year, month), day)| chrono::NaiveDate::from_ymd_opt(year, month, day));
        match date {
            Some(date) => calendar::days(date).map(|day| Some(Days(day))),
            None => fail!("there is no day {year}-{month}-{day}"),
        }
    });
    Typed::call(name, kernel, Type::Date, &[&year, &month, &day])
}
