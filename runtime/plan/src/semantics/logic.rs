//! Three-valued logic, and the choice between expressions.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, DurationMicrosecondType, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{Array as _, PrimitiveArray};
use datafusion_common::Result;
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{
    BinaryExpr, CaseExpr, IsNotNullExpr, IsNullExpr, NotExpr,
};

use super::call::{Arguments, Kernel};
use super::coerce::unify;
use super::compare::{self, compare};
use super::typed::Typed;
use super::types::Type;
use super::{Meaning, Refusal, coerce, fail, refuse};

/// A condition.
///
/// # Errors
/// It is not boolean.
pub(crate) fn condition(part: Typed) -> Meaning<Typed> {
    match part.data_type {
        Type::Boolean => Ok(part),
        Type::Null => Typed::null(Type::Boolean),
        other => Err(Refusal::new(format!(
            "a condition is needed, but this is {}",
            other.with_article()
        ))),
    }
}

/// `left AND right`, `left OR right`.
pub(crate) fn either(op: Operator, left: Typed, right: Typed) -> Meaning<Typed> {
    let (left, right) = (condition(left)?, condition(right)?);
    let expr = BinaryExpr::new(Arc::clone(&left.expr), op, Arc::clone(&right.expr));
    let nullable = left.nullable || right.nullable;
    Typed::over(Arc::new(expr), Type::Boolean, nullable, &[&left, &right])
}

/// `NOT part`.
pub(crate) fn not(part: Typed) -> Meaning<Typed> {
    let part = condition(part)?;
    let expr = NotExpr::new(Arc::clone(&part.expr));
    Typed::over(Arc::new(expr), Type::Boolean, part.nullable, &[&part])
}

/// `part IS [NOT] NULL`.
pub(crate) fn is_null(part: &Typed, negated: bool) -> Meaning<Typed> {
    if part.data_type == Type::Null {
        return Typed::constant(datafusion_common::ScalarValue::Boolean(Some(!negated)));
    }
    let inner = Arc::clone(&part.expr);
    if negated {
        Typed::over(
            Arc::new(IsNotNullExpr::new(inner)),
            Type::Boolean,
            false,
            &[part],
        )
    } else {
        Typed::over(
            Arc::new(IsNullExpr::new(inner)),
            Type::Boolean,
            false,
            &[part],
        )
    }
}

/// `part IS [NOT] TRUE`, `FALSE` or `UNKNOWN`, the last for no value.
pub(crate) fn is(part: Typed, value: Option<bool>, negated: bool) -> Meaning<Typed> {
    let part = condition(part)?;
    let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
        let values = arguments.booleans(0)?;
        arguments.each(|row| Ok(Some((values.get(row) == value) != negated)))
    });
    let name = format!("is {negated} {value:?}");
    Typed::call_nullable(name, kernel, (Type::Boolean, false), &[&part])
}

/// `CASE WHEN … THEN … ELSE … END`.
///
/// # Errors
/// The conditions are not conditions, or the results have no type in common.
pub(crate) fn case(branches: Vec<(Typed, Typed)>, otherwise: Option<Typed>) -> Meaning<Typed> {
    let has_else = otherwise.is_some();
    let mut conditions = Vec::with_capacity(branches.len());
    let mut results = Vec::with_capacity(branches.len() + 1);
    for (when, then) in branches {
        conditions.push(condition(when)?);
        results.push(then);
    }
    results.extend(otherwise);
    let (mut results, data_type) = unify(results)?;
    if data_type == Type::Null {
        return Typed::null(Type::Null);
    }
    let nullable = !has_else || results.iter().any(|result| result.nullable);
    let otherwise = if has_else { results.pop() } else { None };
    let pairs = conditions.iter().zip(&results);
    let pairs = pairs.map(|(when, then)| (Arc::clone(&when.expr), Arc::clone(&then.expr)));
    let last = otherwise.as_ref().map(coerce::expr);
    let expr = CaseExpr::try_new(None, pairs.collect(), last)?;
    let parts: Vec<&Typed> = conditions
        .iter()
        .chain(&results)
        .chain(&otherwise)
        .collect();
    Typed::over(Arc::new(expr), data_type, nullable, &parts)
}

/// The first of several that is not NULL; those behind it are not computed.
pub(crate) fn coalesce(parts: Vec<Typed>) -> Meaning<Typed> {
    let (mut parts, data_type) = unify(parts)?;
    let nullable = parts.iter().all(|part| part.nullable);
    let Some(last) = parts.pop() else {
        return refuse!("coalesce needs an argument");
    };
    if parts.is_empty() || data_type == Type::Null {
        return Ok(last.computed());
    }
    let mut pairs = Vec::with_capacity(parts.len());
    for part in parts {
        pairs.push((is_null(&part, true)?, part));
    }
    let mut chosen = case(pairs, Some(last))?;
    chosen.nullable = nullable;
    Ok(chosen)
}

/// NULL where both are equal, the first one elsewhere.
pub(crate) fn nullif(first: Typed, second: Typed) -> Meaning<Typed> {
    let equal = compare(Operator::Eq, first.clone(), second)?;
    let null = Typed::null(first.data_type)?;
    let mut chosen = case(vec![(equal, null)], Some(first))?;
    chosen.nullable = true;
    Ok(chosen)
}

/// The greatest or least of several that are not NULL.
pub(crate) fn extreme(parts: Vec<Typed>, wanted: Ordering) -> Meaning<Typed> {
    let (parts, data_type) = unify(parts)?;
    let nullable = parts.iter().all(|part| part.nullable);
    let kernel: Kernel = match data_type {
        Type::Null => return Typed::null(Type::Null),
        Type::Interval | Type::Bytes => {
            return refuse!("{data_type} has no greatest and no least value");
        }
        Type::Int32 => primitive::<Int32Type>(wanted),
        Type::Int64 => primitive::<Int64Type>(wanted),
        Type::Decimal(..) => primitive::<Decimal128Type>(wanted),
        Type::Date => primitive::<Date32Type>(wanted),
        Type::Timestamp | Type::Local => primitive::<TimestampMicrosecondType>(wanted),
        Type::Duration => primitive::<DurationMicrosecondType>(wanted),
        Type::Float64 => Arc::new(move |arguments: &Arguments| {
            let columns = columns(arguments, Arguments::floats)?;
            arguments.each(|row| {
                let values = columns.iter().filter_map(|column| column.get(row));
                Ok(pick(values, wanted, |left, right| {
                    compare::order(*left, *right)
                }))
            })
        }),
        Type::Boolean => Arc::new(move |arguments: &Arguments| {
            let columns = columns(arguments, Arguments::booleans)?;
            arguments.each(|row| {
                Ok(pick(
                    columns.iter().filter_map(|column| column.get(row)),
                    wanted,
                    Ord::cmp,
                ))
            })
        }),
        Type::String => Arc::new(move |arguments: &Arguments| {
            let columns = columns(arguments, Arguments::texts)?;
            arguments.each(|row| {
                let values = columns.iter().filter_map(|column| column.get(row));
                Ok(pick(values, wanted, Ord::cmp).map(str::to_owned))
            })
        }),
    };
    let name = if wanted.is_gt() { "greatest" } else { "least" };
    let parts: Vec<&Typed> = parts.iter().collect();
    Typed::call_nullable(name, kernel, (data_type, nullable), &parts)
}

fn columns<'a, C>(
    arguments: &'a Arguments,
    read: impl Fn(&'a Arguments, usize) -> Result<C>,
) -> Result<Vec<C>> {
    (0..arguments.len())
        .map(|index| read(arguments, index))
        .collect()
}

fn pick<T>(
    values: impl Iterator<Item = T>,
    wanted: Ordering,
    order: impl Fn(&T, &T) -> Ordering,
) -> Option<T> {
    values.reduce(|best, value| {
        if order(&value, &best) == wanted {
            value
        } else {
            best
        }
    })
}

fn primitive<T: ArrowPrimitiveType>(wanted: Ordering) -> Kernel
where
    T::Native: Ord,
{
    Arc::new(move |arguments: &Arguments| {
        let columns = columns(arguments, Arguments::numbers::<T>)?;
        let values = (0..arguments.rows()).map(|row| {
            pick(
                columns.iter().filter_map(|column| column.get(row)),
                wanted,
                Ord::cmp,
            )
        });
        let array: PrimitiveArray<T> = values.collect();
        let Ok(first) = arguments.raw(0) else {
            return fail!("there is nothing to compare");
        };
        Ok(Arc::new(array.with_data_type(first.data_type().clone())) as ArrayRef)
    })
}
