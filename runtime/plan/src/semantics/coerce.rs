//! Which types meet, and what becomes of them.

use std::sync::Arc;

use datafusion_common::ScalarValue;

use super::decimal::digits;
use super::typed::Typed;
use super::types::Type;
use super::{Meaning, Refusal, cast, decimal};

/// One type for several expressions: of the branches of a CASE, the arguments of `coalesce`.
///
/// # Errors
/// They have none in common.
pub(crate) fn common(parts: &[&Typed]) -> Meaning<Type> {
    let mut found: Option<Type> = None;
    // Constants in quotes take the type of the others.
    let is_open = |part: &Typed| part.is_literal && part.data_type == Type::String;
    let fixed = parts.iter().filter(|part| !is_open(part));
    for part in fixed.chain(parts.iter().filter(|part| is_open(part))) {
        found = Some(match found {
            None | Some(Type::Null) => part.data_type,
            Some(found) if part.data_type == Type::Null || is_open(part) => found,
            Some(found) => pair(found, part)?,
        });
    }
    Ok(found.unwrap_or(Type::Null))
}

/// The type of two; digits of a constant count as written.
fn pair(found: Type, part: &Typed) -> Meaning<Type> {
    let other = part.data_type;
    if found == other {
        return Ok(found);
    }
    Ok(match (found, other) {
        (Type::Float64, number) | (number, Type::Float64) if number.is_number() => Type::Float64,
        (left, right) if left.is_integer() && right.is_integer() => Type::Int64,
        (left, right) if left.is_exact() && right.is_exact() => {
            decimal::union(whole(left), digits(part).unwrap_or((20, 0)))
        }
        (Type::Timestamp, time) | (time, Type::Timestamp) if time.is_time() => Type::Timestamp,
        (Type::Local, time) | (time, Type::Local) if time.is_time() => Type::Local,
        (left, right) if left.is_span() && right.is_span() => Type::Interval,
        (left, right) => return Err(apart(left, right)),
    })
}

fn whole(exact: Type) -> decimal::Digits {
    match exact {
        Type::Decimal(precision, scale) => (precision, scale),
        Type::Int32 => (10, 0),
        _ => (20, 0),
    }
}

/// What is said of two types that nothing brings together.
pub(crate) fn apart(left: Type, right: Type) -> Refusal {
    let text = match (left, right) {
        (Type::String, other) | (other, Type::String) => Some(other),
        _ => None,
    };
    match text {
        Some(other) if other != Type::Bytes => Refusal::new(format!(
            "string is used as {other}: convert it with CAST, or with TRY_CAST if it may not be one"
        )),
        _ => Refusal::new(format!("{left} and {right} do not go together"))
            .with_help("convert one of them with CAST"),
    }
}

/// An expression as one of another type that [`common`] gave, or that a function takes.
///
/// # Errors
/// It would take a conversion that must be asked for, or a constant does not fit.
pub(crate) fn convert(part: Typed, to: Type) -> Meaning<Typed> {
    let from = part.data_type;
    if from == to {
        return Ok(part);
    }
    if from == Type::Null || part.is_null() {
        return Typed::null(to);
    }
    let fits = match (from, to) {
        (Type::String, _) => part.is_literal,
        (Type::Int32, Type::Int64)
        | (Type::Date, Type::Timestamp | Type::Local)
        | (Type::Local, Type::Timestamp)
        | (Type::Duration, Type::Interval) => true,
        (_, Type::Float64) => from.is_number(),
        (_, Type::Decimal(..)) => from.is_exact(),
        _ => false,
    };
    if !fits {
        return Err(apart(from, to));
    }
    let mut converted = cast::cast(part, to, cast::Failing::Fails)?;
    match converted.take_broken() {
        Some(message) => Err(Refusal::new(message)),
        None => Ok(converted),
    }
}

/// Expressions as ones of their common type.
///
/// # Errors
/// They have none in common.
pub(crate) fn unify(parts: Vec<Typed>) -> Meaning<(Vec<Typed>, Type)> {
    let common = common(&parts.iter().collect::<Vec<_>>())?;
    let parts = parts.into_iter().map(|part| convert(part, common));
    Ok((parts.collect::<Meaning<_>>()?, common))
}

/// An exact constant as one of another exact type, if that changes nothing.
pub(crate) fn as_exactly(constant: &Typed, to: Type) -> Option<Typed> {
    let (unscaled, scale) = exact(constant.value()?)?;
    let value = match to {
        Type::Int32 if scale == 0 => ScalarValue::Int32(Some(i32::try_from(unscaled).ok()?)),
        Type::Int64 if scale == 0 => ScalarValue::Int64(Some(i64::try_from(unscaled).ok()?)),
        Type::Decimal(precision, wanted) if wanted >= scale => {
            let factor = 10_i128.checked_pow(u32::try_from(wanted - scale).ok()?)?;
            let value = unscaled.checked_mul(factor)?;
            let most = 10_u128.pow(precision.into());
            if value.unsigned_abs() >= most {
                return None;
            }
            ScalarValue::Decimal128(Some(value), precision, wanted)
        }
        _ => return None,
    };
    Typed::constant(value).ok()
}

/// The digits and the scale of an exact value, without zeros at the end of its fraction.
fn exact(value: &ScalarValue) -> Option<(i128, i8)> {
    Some(match value {
        ScalarValue::Int32(Some(value)) => ((*value).into(), 0),
        ScalarValue::Int64(Some(value)) => ((*value).into(), 0),
        ScalarValue::Decimal128(Some(value), _, scale) => {
            let (mut value, mut scale) = (*value, *scale);
            while scale > 0 && value % 10 == 0 {
                value /= 10;
                scale -= 1;
            }
            (value, scale)
        }
        _ => return None,
    })
}

/// An exact number as a decimal.
///
/// # Errors
/// It is not one.
pub(crate) fn as_decimal(number: Typed) -> Meaning<Typed> {
    match digits(&number) {
        Some((precision, scale)) => convert(number, Type::Decimal(precision, scale)),
        None => Err(Refusal::new(format!("{} is not exact", number.data_type))),
    }
}

/// The arguments that an operator was given, as `int64 + string`.
pub(crate) fn no_operator(left: Type, op: &str, right: Type) -> Refusal {
    Refusal::new(format!("there is no {left} {op} {right}"))
        .with_help("convert one of them with CAST")
}

/// Shares an expression.
pub(crate) fn expr(typed: &Typed) -> Arc<dyn datafusion_physical_expr::PhysicalExpr> {
    Arc::clone(&typed.expr)
}
