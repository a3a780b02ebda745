//! `CAST` and `TRY_CAST`, and the conversions that are made unasked.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_buffer::i256;
use arrow_cast::{CastOptions, cast_with_options};
use datafusion_common::{DataFusionError, Result};

use super::calendar::{self, Unit};
use super::call::{Arguments, Clock, Days, Instant, Kernel, Span, Value};
use super::decimal::{self, Rounding};
use super::typed::Typed;
use super::types::Type;
use super::{Meaning, Refusal, fail, interval, parse};

/// What becomes of a value that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failing {
    /// `CAST` fails.
    Fails,
    /// `TRY_CAST` gives NULL.
    Null,
}

/// Most characters of a text that a message shows.
const SHOWN_CHARS: usize = 64;

/// An expression converted to another type.
///
/// # Errors
/// There is no such conversion.
pub(crate) fn cast(part: Typed, to: Type, failing: Failing) -> Meaning<Typed> {
    let from = part.data_type;
    if from == to {
        return Ok(part.computed());
    }
    if from == Type::Null {
        return Typed::null(to);
    }
    let kernel = kernel(from, to, failing).ok_or_else(|| {
        Refusal::new(format!(
            "{} cannot be converted to {to}",
            from.with_article()
        ))
    })?;
    let name = match failing {
        Failing::Fails => format!("to {to}"),
        Failing::Null => format!("try to {to}"),
    };
    let nullable = part.nullable || failing == Failing::Null;
    Typed::call_nullable(name, kernel, (to, nullable), &[&part])
}

fn kernel(from: Type, to: Type, failing: Failing) -> Option<Kernel> {
    match to {
        Type::Null | Type::Duration => None,
        Type::Boolean => to_boolean(from, failing),
        Type::Int32 | Type::Int64 => to_integer(from, to, failing),
        Type::Float64 => to_float(from, failing),
        Type::Decimal(precision, scale) => to_decimal(from, precision, scale, failing),
        Type::String => to_string(from, failing),
        Type::Bytes => (from == Type::String).then(|| {
            rows(failing, |arguments, row| {
                Ok(text(arguments, row)?.map(Vec::from))
            })
        }),
        Type::Timestamp | Type::Local => to_time(from, to, failing),
        Type::Date => to_date(from, failing),
        Type::Interval => match from {
            Type::String => Some(rows(failing, |arguments, row| {
                let read = text(arguments, row)?.map(|text| interval::read(text, Unit::Second));
                Ok(read.transpose()?.map(Span))
            })),
            Type::Duration => Some(rows(failing, |arguments, row| {
                let micros = arguments.durations(0)?.get(row);
                Ok(micros.map(interval::of_duration).transpose()?.map(Span))
            })),
            _ => None,
        },
    }
}

/// A kernel that converts row by row.
fn rows<V: Value>(
    failing: Failing,
    row: impl Fn(&Arguments, usize) -> Result<Option<V>> + Send + Sync + 'static,
) -> Kernel {
    Arc::new(move |arguments| {
        arguments.each(|index| match row(arguments, index) {
            Err(_) if failing == Failing::Null => Ok(None),
            result => result,
        })
    })
}

/// A kernel of Arrow's, where it means the same.
fn arrow(to: Type, failing: Failing) -> Kernel {
    Arc::new(move |arguments| {
        let options = CastOptions {
            safe: failing == Failing::Null,
            ..CastOptions::default()
        };
        let array: &ArrayRef = arguments.raw(0)?;
        cast_with_options(array, &to.arrow(), &options).map_err(DataFusionError::from)
    })
}

fn text(arguments: &Arguments, row: usize) -> Result<Option<&str>> {
    Ok(arguments.texts(0)?.get(row))
}

/// What is read from a text, or says that it is not such a thing.
fn read<T>(
    arguments: &Arguments,
    row: usize,
    to: Type,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>> {
    let Some(text) = text(arguments, row)? else {
        return Ok(None);
    };
    match parse(text) {
        Some(value) => Ok(Some(value)),
        None => fail!("{} is not {}", quoted(text), to.with_article()),
    }
}

/// A text as a message shows it.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARS)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    format!("'{shown}'")
}

fn integer(arguments: &Arguments, row: usize, from: Type) -> Result<Option<i64>> {
    Ok(match from {
        Type::Int32 => arguments.int32s(0)?.get(row).map(i64::from),
        _ => arguments.int64s(0)?.get(row),
    })
}

fn to_boolean(from: Type, failing: Failing) -> Option<Kernel> {
    match from {
        Type::Int32 | Type::Int64 => Some(rows(failing, move |arguments, row| {
            Ok(integer(arguments, row, from)?.map(|value| value != 0))
        })),
        Type::String => Some(rows(failing, |arguments, row| {
            read(arguments, row, Type::Boolean, parse::boolean)
        })),
        _ => None,
    }
}

fn to_integer(from: Type, to: Type, failing: Failing) -> Option<Kernel> {
    if from == Type::Int32 {
        return Some(arrow(to, failing));
    }
    let whole = move |arguments: &Arguments, row: usize| -> Result<Option<i128>> {
        Ok(match from {
            Type::Boolean => arguments.booleans(0)?.get(row).map(i128::from),
            Type::Int32 | Type::Int64 => integer(arguments, row, from)?.map(i128::from),
            Type::Float64 => arguments
                .floats(0)?
                .get(row)
                .map(|v| cut(v, to))
                .transpose()?,
            Type::Decimal(_, scale) => {
                let value = arguments.decimals(0)?.get(row).map(i256::from_i128);
                value
                    .and_then(|value| decimal::rescaled(value, scale, 0, Rounding::Cut))
                    .and_then(i256::to_i128)
            }
            Type::String => {
                read(arguments, row, to, |text| text.trim().parse::<i64>().ok())?.map(i128::from)
            }
            Type::Timestamp | Type::Local => arguments.timestamps(0)?.get(row).map(i128::from),
            Type::Date => arguments.dates(0)?.get(row).map(i128::from),
            _ => arguments.durations(0)?.get(row).map(i128::from),
        })
    };
    let possible = match from {
        Type::Timestamp | Type::Local | Type::Duration => to == Type::Int64,
        Type::Boolean | Type::Date | Type::String => true,
        _ => from.is_number(),
    };
    possible.then(|| match to {
        Type::Int32 => rows(failing, move |arguments, row| {
            whole(arguments, row)?
                .map(|value| fitted::<i32>(value, to))
                .transpose()
        }),
        _ => rows(failing, move |arguments, row| {
            whole(arguments, row)?
                .map(|value| fitted::<i64>(value, to))
                .transpose()
        }),
    })
}

fn fitted<T: TryFrom<i128>>(value: i128, to: Type) -> Result<T> {
    match T::try_from(value) {
        Ok(value) => Ok(value),
        Err(_) => fail!("{value} does not fit {to}"),
    }
}

/// The whole part of a number.
fn cut(value: f64, to: Type) -> Result<i128> {
    // 2^63, above which no integer type reaches.
    if value.abs() <= 9_223_372_036_854_775_808.0 {
        interval::whole(value)
    } else {
        fail!("{value:e} does not fit {to}")
    }
}

fn to_float(from: Type, failing: Failing) -> Option<Kernel> {
    match from {
        Type::Int32 | Type::Int64 => Some(arrow(Type::Float64, failing)),
        Type::Decimal(_, scale) => Some(rows(failing, move |arguments, row| {
            Ok(arguments
                .decimals(0)?
                .get(row)
                .map(|value| as_float(value, scale)))
        })),
        Type::String => Some(rows(failing, |arguments, row| {
            read(arguments, row, Type::Float64, parse::float)
        })),
        _ => None,
    }
}

/// The number of IEEE 754 that is nearest to a decimal.
pub(crate) fn as_float(value: i128, scale: i8) -> f64 {
    let exact = value.unsigned_abs() < 1 << 53 && (0..=22).contains(&scale);
    if exact {
        // Both are exact, so one division rounds once.
        return value as f64 / 10_f64.powi(scale.into());
    }
    format!("{value}e{}", -i32::from(scale))
        .parse()
        .unwrap_or(f64::NAN)
}

fn to_decimal(from: Type, precision: u8, scale: i8, failing: Failing) -> Option<Kernel> {
    let to = Type::Decimal(precision, scale);
    let row: fn(&Arguments, usize, Type, i8) -> Result<Option<i256>> = match from {
        Type::Int32 | Type::Int64 | Type::Decimal(..) => return Some(arrow(to, failing)),
        Type::Float64 => |arguments, row, to, scale| {
            let Some(value) = arguments.floats(0)?.get(row) else {
                return Ok(None);
            };
            // The shortest digits that name the number are what its writer meant.
            match parse::decimal(&format!("{value:e}"), scale) {
                Some(value) => Ok(Some(value)),
                None => fail!("{value:e} does not fit {to}"),
            }
        },
        Type::String => {
            |arguments, row, to, scale| read(arguments, row, to, |text| parse::decimal(text, scale))
        }
        _ => return None,
    };
    Some(Arc::new(move |arguments| {
        let array = arguments.each(|index| {
            let value = row(arguments, index, to, scale).and_then(|value| {
                value
                    .map(|value| decimal::fitted(Some(value), precision))
                    .transpose()
            });
            match value {
                Err(_) if failing == Failing::Null => Ok(None),
                result => result,
            }
        })?;
        decimal::column(&array, precision, scale)
    }))
}

fn to_string(from: Type, failing: Failing) -> Option<Kernel> {
    match from {
        Type::Boolean | Type::Int32 | Type::Int64 | Type::Float64 | Type::Decimal(..) => {
            Some(arrow(Type::String, failing))
        }
        Type::Bytes => Some(rows(failing, |arguments, row| {
            let Some(bytes) = arguments.bytes(0)?.get(row) else {
                return Ok(None);
            };
            match std::str::from_utf8(bytes) {
                Ok(text) => Ok(Some(text.to_owned())),
                Err(_) => fail!("the bytes are not UTF-8: encode(…, 'hex') shows any bytes"),
            }
        })),
        Type::Timestamp | Type::Local => Some(rows(failing, move |arguments, row| {
            let time = arguments.timestamps(0)?.get(row);
            time.map(|time| written(time, from)).transpose()
        })),
        Type::Date => Some(rows(failing, |arguments, row| {
            let day = arguments
                .dates(0)?
                .get(row)
                .map(calendar::day_at)
                .transpose()?;
            Ok(day.map(|day| day.format("%Y-%m-%d").to_string()))
        })),
        Type::Interval => Some(rows(failing, |arguments, row| {
            Ok(arguments.intervals(0)?.get(row).map(interval::text))
        })),
        Type::Duration => Some(rows(failing, |arguments, row| {
            let span = arguments.durations(0)?.get(row).map(interval::of_duration);
            Ok(span.transpose()?.map(interval::text))
        })),
        Type::Null | Type::String => None,
    }
}

/// A time as ISO 8601 writes it.
fn written(time: i64, from: Type) -> Result<String> {
    let time = calendar::at(time)?;
    let micros = time.and_utc().timestamp_subsec_micros();
    let fraction = match micros {
        0 => String::new(),
        _ if micros % 1_000 == 0 => format!(".{:03}", micros / 1_000),
        _ => format!(".{micros:06}"),
    };
    let zone = if from == Type::Timestamp { "Z" } else { "" };
    Ok(format!(
        "{}{fraction}{zone}",
        time.format("%Y-%m-%dT%H:%M:%S")
    ))
}

fn to_time(from: Type, to: Type, failing: Failing) -> Option<Kernel> {
    let micros: fn(&Arguments, usize, Type, Type) -> Result<Option<i64>> = match from {
        Type::Timestamp | Type::Local => {
            |arguments, row, _, _| Ok(arguments.timestamps(0)?.get(row))
        }
        Type::Date => |arguments, row, _, _| {
            arguments
                .dates(0)?
                .get(row)
                .map(|day| calendar::checked(calendar::start_of(day)))
                .transpose()
        },
        Type::Int32 | Type::Int64 => |arguments, row, from, _| {
            integer(arguments, row, from)?
                .map(calendar::checked)
                .transpose()
        },
        Type::String => |arguments, row, _, to| {
            read(arguments, row, to, |text| match to {
                Type::Local => parse::local(text),
                _ => parse::timestamp(text),
            })
        },
        _ => return None,
    };
    Some(match to {
        Type::Local => rows(failing, move |arguments, row| {
            Ok(micros(arguments, row, from, to)?.map(Clock))
        }),
        _ => rows(failing, move |arguments, row| {
            Ok(micros(arguments, row, from, to)?.map(Instant))
        }),
    })
}

fn to_date(from: Type, failing: Failing) -> Option<Kernel> {
    let day: fn(&Arguments, usize, Type) -> Result<Option<i32>> = match from {
        Type::Timestamp | Type::Local => |arguments, row, _| {
            arguments
                .timestamps(0)?
                .get(row)
                .map(calendar::day_of)
                .transpose()
        },
        Type::Int32 | Type::Int64 => |arguments, row, from| {
            integer(arguments, row, from)?
                .map(calendar::checked_day)
                .transpose()
        },
        Type::String => |arguments, row, _| read(arguments, row, Type::Date, parse::date),
        _ => return None,
    };
    Some(rows(failing, move |arguments, row| {
        Ok(day(arguments, row, from)?.map(Days))
    }))
}
