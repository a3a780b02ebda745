//! `+ - * / %` and `& | ^`, of numbers and of times.

use std::sync::Arc;

use datafusion_common::{Result, ScalarValue};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::BinaryExpr;

use super::call::{Arguments, Clock, Days, Instant, Kernel, Micros, Span};
use super::coerce::{as_decimal, convert, no_operator, unify};
use super::interval::{self, Factor};
use super::typed::Typed;
use super::types::Type;
use super::{Meaning, calendar, decimal, fail};

/// `left op right`.
///
/// # Errors
/// There is no such operation on these types.
pub(crate) fn arithmetic(op: Operator, left: Typed, right: Typed) -> Meaning<Typed> {
    let (left, right) = opened(op, left, right)?;
    let (l, r) = (left.data_type, right.data_type);
    if l == Type::Null {
        return Typed::null(Type::Null);
    }
    if l.is_number() && r.is_number() {
        return numbers(op, left, right);
    }
    let refused = no_operator(l, &op.to_string(), r);
    match op {
        Operator::Plus if l.is_time() && r.is_span() => shifted(&left, &right, 1),
        Operator::Plus if l.is_span() && r.is_time() => shifted(&right, &left, 1),
        Operator::Minus if l.is_time() && r.is_span() => shifted(&left, &right, -1),
        Operator::Plus if l == Type::Date && r.is_integer() => days_later(&left, right, 1),
        Operator::Plus if l.is_integer() && r == Type::Date => days_later(&right, left, 1),
        Operator::Minus if l == Type::Date && r.is_integer() => days_later(&left, right, -1),
        Operator::Minus if l.is_time() && r.is_time() => difference(left, right),
        Operator::Plus | Operator::Minus if l.is_span() && r.is_span() => spans(op, left, right),
        Operator::Multiply if l.is_span() && r.is_number() => scaled(left, right, false),
        Operator::Multiply if l.is_number() && r.is_span() => scaled(right, left, false),
        Operator::Divide if l.is_span() && r.is_number() => scaled(left, right, true),
        _ => Err(refused),
    }
}

/// NULL and constants in quotes get the type of what they meet.
fn opened(op: Operator, left: Typed, right: Typed) -> Meaning<(Typed, Typed)> {
    let is_open = |part: &Typed| {
        part.data_type == Type::Null || part.is_literal && part.data_type == Type::String
    };
    let other = |met: Type| match (op, met) {
        (Operator::Plus, Type::Timestamp | Type::Local | Type::Date) => Type::Interval,
        (Operator::Minus, Type::Date) => Type::Date,
        (Operator::Multiply | Operator::Divide, Type::Interval | Type::Duration) => Type::Float64,
        _ => met,
    };
    match (is_open(&left), is_open(&right)) {
        (true, false) => {
            let to = other(right.data_type);
            Ok((convert(left, to)?, right))
        }
        (false, true) => {
            let to = other(left.data_type);
            Ok((left, convert(right, to)?))
        }
        _ => Ok((left, right)),
    }
}

fn numbers(op: Operator, left: Typed, right: Typed) -> Meaning<Typed> {
    if left.data_type == Type::Float64 || right.data_type == Type::Float64 {
        let (left, right) = (
            convert(left, Type::Float64)?,
            convert(right, Type::Float64)?,
        );
        return plain(op, &left, &right);
    }
    if left.data_type.is_decimal() || right.data_type.is_decimal() {
        return decimal::arithmetic(op, &as_decimal(left)?, &as_decimal(right)?);
    }
    let (parts, _) = unify(vec![left, right])?;
    match parts.as_slice() {
        // The rest is 0 where Arrow says that the quotient does not fit.
        [left, right] if op == Operator::Modulo => remainder(left, right),
        [left, right] => plain(op, left, right),
        _ => super::refuse!("`{op}` has two sides"),
    }
}

/// Arithmetic of Arrow, which fails where a result does not fit.
fn plain(op: Operator, left: &Typed, right: &Typed) -> Meaning<Typed> {
    let expr = BinaryExpr::new(Arc::clone(&left.expr), op, Arc::clone(&right.expr));
    let expr = expr.with_fail_on_overflow(true);
    let nullable = left.nullable || right.nullable;
    Typed::over(Arc::new(expr), left.data_type, nullable, &[left, right])
}

fn remainder(left: &Typed, right: &Typed) -> Meaning<Typed> {
    let kernel: Kernel = if left.data_type == Type::Int32 {
        Arc::new(|arguments: &Arguments| {
            let (left, right) = (arguments.int32s(0)?, arguments.int32s(1)?);
            arguments.each(|row| match (left.get(row), right.get(row)) {
                (Some(_), Some(0)) => fail!("division by zero"),
                (left, right) => Ok(left.zip(right).map(|(l, r)| l.wrapping_rem(r))),
            })
        })
    } else {
        Arc::new(|arguments: &Arguments| {
            let (left, right) = (arguments.int64s(0)?, arguments.int64s(1)?);
            arguments.each(|row| match (left.get(row), right.get(row)) {
                (Some(_), Some(0)) => fail!("division by zero"),
                (left, right) => Ok(left.zip(right).map(|(l, r)| l.wrapping_rem(r))),
            })
        })
    };
    Typed::call("%", kernel, left.data_type, &[left, right])
}

/// `left & right`, `left | right`, `left ^ right`.
///
/// # Errors
/// They are not integers.
pub(crate) fn bits(op: Operator, left: Typed, right: Typed) -> Meaning<Typed> {
    let (left, right) = opened(op, left, right)?;
    let (l, r) = (left.data_type, right.data_type);
    if l == Type::Null {
        return Typed::null(Type::Null);
    }
    if !l.is_integer() || !r.is_integer() {
        return Err(no_operator(l, &op.to_string(), r));
    }
    let (parts, data_type) = unify(vec![left, right])?;
    let [left, right] = parts.as_slice() else {
        return super::refuse!("`{op}` has two sides");
    };
    let expr = BinaryExpr::new(Arc::clone(&left.expr), op, Arc::clone(&right.expr));
    let nullable = left.nullable || right.nullable;
    Typed::over(Arc::new(expr), data_type, nullable, &[left, right])
}

/// `-part`.
///
/// # Errors
/// It is not a number or a length of time.
pub(crate) fn negated(part: Typed) -> Meaning<Typed> {
    let data_type = part.data_type;
    match data_type {
        Type::Null => Ok(part),
        Type::Int32 => plain(
            Operator::Minus,
            &Typed::constant(ScalarValue::Int32(Some(0)))?,
            &part,
        ),
        Type::Int64 => plain(
            Operator::Minus,
            &Typed::constant(ScalarValue::Int64(Some(0)))?,
            &part,
        ),
        Type::Float64 => {
            let kernel: Kernel = Arc::new(|arguments: &Arguments| {
                let values = arguments.floats(0)?;
                arguments.each(|row| Ok(values.get(row).map(|value| -value)))
            });
            Typed::call("-", kernel, data_type, &[&part])
        }
        Type::Decimal(precision, scale) => {
            let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
                let values = arguments.decimals(0)?;
                let array = arguments.each(|row| Ok(values.get(row).map(|value| -value)))?;
                decimal::column(&array, precision, scale)
            });
            Typed::call("-", kernel, data_type, &[&part])
        }
        Type::Interval | Type::Duration => {
            scaled(part, Typed::constant(ScalarValue::Int64(Some(-1)))?, false)
        }
        other => super::refuse!("there is no -{other}"),
    }
}

/// Reads the times of a column as microseconds.
pub(crate) fn micros(
    arguments: &Arguments,
    index: usize,
    data_type: Type,
    row: usize,
) -> Result<Option<i64>> {
    Ok(match data_type {
        Type::Date => arguments.dates(index)?.get(row).map(calendar::start_of),
        _ => arguments.timestamps(index)?.get(row),
    })
}

/// `time + sign * span`. A day stays one if the span has whole days only, which a constant shows.
fn shifted(time: &Typed, span: &Typed, sign: i32) -> Meaning<Typed> {
    let stays = match span.value() {
        Some(ScalarValue::IntervalMonthDayNano(Some(span))) => span.nanoseconds == 0,
        _ => false,
    };
    let (from, data_type) = match time.data_type {
        Type::Date if stays => (Type::Date, Type::Date),
        Type::Date => (Type::Date, Type::Timestamp),
        other => (other, other),
    };
    let span_type = span.data_type;
    let later = move |arguments: &Arguments, row: usize| -> Result<Option<i64>> {
        let Some(time) = micros(arguments, 0, from, row)? else {
            return Ok(None);
        };
        if span_type == Type::Interval {
            let span = arguments.intervals(1)?.get(row);
            return span
                .map(|span| interval::plus(time, span, sign))
                .transpose();
        }
        let span = arguments.durations(1)?.get(row);
        let sum = |span: i64| {
            let sum = i64::from(sign)
                .checked_mul(span)
                .and_then(|span| time.checked_add(span));
            calendar::checked(sum.unwrap_or(i64::MAX))
        };
        span.map(sum).transpose()
    };
    let kernel: Kernel = match data_type {
        Type::Date => Arc::new(move |arguments: &Arguments| {
            arguments.each(|row| {
                later(arguments, row)?
                    .map(|time| calendar::day_of(time).map(Days))
                    .transpose()
            })
        }),
        Type::Local => Arc::new(move |arguments: &Arguments| {
            arguments.each(|row| Ok(later(arguments, row)?.map(Clock)))
        }),
        _ => Arc::new(move |arguments: &Arguments| {
            arguments.each(|row| Ok(later(arguments, row)?.map(Instant)))
        }),
    };
    let name = if sign < 0 { "time -" } else { "time +" };
    Typed::call(name, kernel, data_type, &[time, span])
}

fn days_later(day: &Typed, count: Typed, sign: i64) -> Meaning<Typed> {
    let count = convert(count, Type::Int64)?;
    let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
        let (days, counts) = (arguments.dates(0)?, arguments.int64s(1)?);
        arguments.each(|row| {
            let Some((day, count)) = days.get(row).zip(counts.get(row)) else {
                return Ok(None);
            };
            let sum = count
                .checked_mul(sign)
                .and_then(|count| count.checked_add(day.into()));
            calendar::checked_day(sum.unwrap_or(i64::MAX)).map(|day| Some(Days(day)))
        })
    });
    Typed::call(format!("days {sign}"), kernel, Type::Date, &[day, &count])
}

/// The days between two days, or what lies between two times.
fn difference(left: Typed, right: Typed) -> Meaning<Typed> {
    let (parts, common) = unify(vec![left, right])?;
    let [left, right] = parts.as_slice() else {
        return super::refuse!("a difference has two sides");
    };
    let kernel: Kernel = match common {
        Type::Date => Arc::new(|arguments: &Arguments| {
            let (left, right) = (arguments.dates(0)?, arguments.dates(1)?);
            arguments.each(|row| {
                let pair = left.get(row).zip(right.get(row));
                Ok(pair.map(|(left, right)| i64::from(left) - i64::from(right)))
            })
        }),
        _ => Arc::new(|arguments: &Arguments| {
            let (left, right) = (arguments.timestamps(0)?, arguments.timestamps(1)?);
            arguments.each(|row| match left.get(row).zip(right.get(row)) {
                None => Ok(None),
                Some((left, right)) => match left.checked_sub(right) {
                    Some(micros) => Ok(Some(Micros(micros))),
                    None => fail!("the difference of the times is too long"),
                },
            })
        }),
    };
    let data_type = if common == Type::Date {
        Type::Int64
    } else {
        Type::Duration
    };
    Typed::call("difference", kernel, data_type, &[left, right])
}

/// `span + span`, `span - span`.
fn spans(op: Operator, left: Typed, right: Typed) -> Meaning<Typed> {
    let (parts, common) = unify(vec![left, right])?;
    let sign = if op == Operator::Minus { -1_i64 } else { 1 };
    let kernel: Kernel = match common {
        Type::Duration => Arc::new(move |arguments: &Arguments| {
            let (left, right) = (arguments.durations(0)?, arguments.durations(1)?);
            arguments.each(|row| match left.get(row).zip(right.get(row)) {
                None => Ok(None),
                Some((left, right)) => {
                    let right = right.checked_mul(sign);
                    match right.and_then(|right| left.checked_add(right)) {
                        Some(micros) => Ok(Some(Micros(micros))),
                        None => fail!("the length of time is too long"),
                    }
                }
            })
        }),
        _ => Arc::new(move |arguments: &Arguments| {
            let (left, right) = (arguments.intervals(0)?, arguments.intervals(1)?);
            arguments.each(|row| {
                let Some((left, right)) = left.get(row).zip(right.get(row)) else {
                    return Ok(None);
                };
                let sum = |left: i64, right: i64| i128::from(left) + i128::from(sign * right);
                let nanos =
                    i128::from(left.nanoseconds) + i128::from(sign) * i128::from(right.nanoseconds);
                interval::interval(
                    sum(left.months.into(), right.months.into()),
                    sum(left.days.into(), right.days.into()),
                    nanos,
                )
                .map(|span| Some(Span(span)))
            })
        }),
    };
    let parts: Vec<&Typed> = parts.iter().collect();
    Typed::call(format!("spans {op}"), kernel, common, &parts)
}

/// `span * number`, `span / number`.
fn scaled(span: Typed, number: Typed, divides: bool) -> Meaning<Typed> {
    let span = if span.data_type == Type::Duration {
        convert(span, Type::Interval)?
    } else {
        span
    };
    let whole = number.data_type.is_integer() && !divides;
    let number = convert(number, if whole { Type::Int64 } else { Type::Float64 })?;
    let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
        let spans = arguments.intervals(0)?;
        arguments.each(|row| {
            let factor = if whole {
                arguments.int64s(1)?.get(row).map(Factor::Whole)
            } else {
                arguments
                    .floats(1)?
                    .get(row)
                    .map(|number| Factor::Real(if divides { number.recip() } else { number }))
            };
            let Some((span, factor)) = spans.get(row).zip(factor) else {
                return Ok(None);
            };
            match factor {
                Factor::Real(factor) if divides && factor.is_infinite() => {
                    fail!("division by zero")
                }
                factor => interval::scaled(span, factor).map(|span| Some(Span(span))),
            }
        })
    });
    let name = if divides { "interval /" } else { "interval *" };
    Typed::call(name, kernel, Type::Interval, &[&span, &number])
}
