//! Comparisons: which values are equal, and which comes first.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow_schema::Schema;
use datafusion_common::Result;
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{BinaryExpr, in_list};

use super::call::{Arguments, Kernel};
use super::coerce::{self, as_exactly, convert, unify};
use super::typed::Typed;
use super::types::Type;
use super::{Meaning, Refusal, decimal, logic, refuse};

/// The order of numbers of IEEE 754: NaN equals NaN and is greater than the others, and the two
/// zeros are equal. PostgreSQL's.
pub(crate) fn order(left: f64, right: f64) -> Ordering {
    left.partial_cmp(&right)
        .unwrap_or_else(|| left.is_nan().cmp(&right.is_nan()))
}

/// `left op right`.
///
/// # Errors
/// They cannot be compared.
pub(crate) fn compare(op: Operator, left: Typed, right: Typed) -> Meaning<Typed> {
    let exact = left.data_type.is_exact() && right.data_type.is_exact();
    if exact {
        return exact_numbers(op, left, right);
    }
    let (left_type, right_type) = (left.data_type, right.data_type);
    let (parts, common) = unify(vec![left, right]).map_err(|refusal| {
        let mixed = left_type == Type::String || right_type == Type::String;
        if mixed {
            refusal
        } else {
            coerce::no_operator(left_type, &op.to_string(), right_type)
        }
    })?;
    let [left, right] = parts.as_slice() else {
        return refuse!("a comparison has two sides");
    };
    match common {
        Type::Float64 => floats(op, left, right),
        Type::Interval => refuse!("intervals have no order: a month is of 28 to 31 days")
            .map_err(|refusal: Refusal| refusal.with_help("compare the times themselves")),
        _ => plain(op, left, right),
    }
}

/// A comparison that Arrow's order is right for.
fn plain(op: Operator, left: &Typed, right: &Typed) -> Meaning<Typed> {
    let expr = BinaryExpr::new(Arc::clone(&left.expr), op, Arc::clone(&right.expr));
    let nullable = !is_distinct(op) && (left.nullable || right.nullable);
    Typed::over(Arc::new(expr), Type::Boolean, nullable, &[left, right])
}

const fn is_distinct(op: Operator) -> bool {
    matches!(op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom)
}

/// Integers and decimals, of which any two can be compared.
fn exact_numbers(op: Operator, left: Typed, right: Typed) -> Meaning<Typed> {
    let (mut left, mut right) = (left, right);
    if let Some(constant) = as_exactly(&left, right.data_type) {
        left = constant;
    } else if let Some(constant) = as_exactly(&right, left.data_type) {
        right = constant;
    }
    if left.data_type == right.data_type {
        return plain(op, &left, &right);
    }
    if left.data_type.is_integer() && right.data_type.is_integer() {
        return plain(
            op,
            &convert(left, Type::Int64)?,
            &convert(right, Type::Int64)?,
        );
    }
    let (left, right) = (coerce::as_decimal(left)?, coerce::as_decimal(right)?);
    let (Type::Decimal(p1, s1), Type::Decimal(p2, s2)) = (left.data_type, right.data_type) else {
        return refuse!("{} {op} {}", left.data_type, right.data_type);
    };
    let common = decimal::union((p1, s1), (p2, s2));
    if common.is_decimal() && common == lossless((p1, s1), (p2, s2)) {
        return plain(op, &convert(left, common)?, &convert(right, common)?);
    }
    let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
        let (left, right) = (arguments.decimals(0)?, arguments.decimals(1)?);
        by_order(
            arguments,
            op,
            |row| {
                let (left, right) = (left.get(row), right.get(row));
                (
                    left.map(|value| (value, s1)),
                    right.map(|value| (value, s2)),
                )
            },
            |left, right| decimal::compared(*left, *right),
        )
    });
    boolean(format!("decimal {op}"), kernel, op, &[&left, &right])
}

/// The type that holds all digits of both, whether there is one or not.
fn lossless((p1, s1): decimal::Digits, (p2, s2): decimal::Digits) -> Type {
    let scale = s1.max(s2);
    let whole = |precision: u8, scale: i8| i16::from(precision) - i16::from(scale);
    let digits = whole(p1, s1).max(whole(p2, s2)) + i16::from(scale);
    Type::Decimal(u8::try_from(digits).unwrap_or(u8::MAX), scale)
}

fn boolean(name: String, kernel: Kernel, op: Operator, parts: &[&Typed]) -> Meaning<Typed> {
    let nullable = !is_distinct(op) && parts.iter().any(|part| part.nullable);
    Typed::call_nullable(name, kernel, (Type::Boolean, nullable), parts)
}

fn floats(op: Operator, left: &Typed, right: &Typed) -> Meaning<Typed> {
    let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
        let (left, right) = (arguments.floats(0)?, arguments.floats(1)?);
        by_order(
            arguments,
            op,
            |row| (left.get(row), right.get(row)),
            |left, right| order(*left, *right),
        )
    });
    boolean(format!("float64 {op}"), kernel, op, &[left, right])
}

/// Compares row by row.
fn by_order<T>(
    arguments: &Arguments,
    op: Operator,
    pair: impl Fn(usize) -> (Option<T>, Option<T>),
    order: impl Fn(&T, &T) -> Ordering,
) -> Result<arrow_array::ArrayRef> {
    arguments.each(|row| {
        Ok(match pair(row) {
            (Some(left), Some(right)) => Some(holds(op, order(&left, &right))),
            (None, None) => is_distinct(op).then_some(op == Operator::IsNotDistinctFrom),
            _ => is_distinct(op).then_some(op == Operator::IsDistinctFrom),
        })
    })
}

fn holds(op: Operator, order: Ordering) -> bool {
    match op {
        Operator::Eq | Operator::IsNotDistinctFrom => order.is_eq(),
        Operator::NotEq | Operator::IsDistinctFrom => order.is_ne(),
        Operator::Lt => order.is_lt(),
        Operator::LtEq => order.is_le(),
        Operator::Gt => order.is_gt(),
        _ => order.is_ge(),
    }
}

/// `part IN (list)`: true if one is equal; else NULL if one may be.
///
/// # Errors
/// They cannot be compared.
pub(crate) fn is_in(part: &Typed, list: Vec<Typed>, schema: &Schema) -> Meaning<Typed> {
    if let Some(found) = in_constants(part, &list, schema)? {
        return Ok(found);
    }
    let equal = list
        .into_iter()
        .map(|other| compare(Operator::Eq, part.clone(), other));
    any_of(equal.collect::<Meaning<_>>()?)
}

/// Looks a value up among constants of its own type.
fn in_constants(part: &Typed, list: &[Typed], schema: &Schema) -> Meaning<Option<Typed>> {
    let hashed = part.value().is_none()
        && !matches!(part.data_type, Type::Float64 | Type::Null | Type::Interval);
    if !hashed {
        return Ok(None);
    }
    let mut constants = Vec::with_capacity(list.len());
    for other in list {
        let same = if other.is_null() {
            Some(Typed::null(part.data_type)?)
        } else if other.data_type == part.data_type {
            other.value().map(|_| other.clone())
        } else if other.data_type.is_exact() {
            as_exactly(other, part.data_type)
        } else if other.is_literal && other.data_type == Type::String {
            Some(convert(other.clone(), part.data_type)?)
        } else {
            None
        };
        match same {
            Some(same) => constants.push(same),
            None => return Ok(None),
        }
    }
    let nullable = part.nullable || constants.iter().any(|constant| constant.nullable);
    let values = constants
        .iter()
        .map(|constant| Arc::clone(&constant.expr))
        .collect();
    let expr = in_list(Arc::clone(&part.expr), values, &false, schema)?;
    Typed::over(expr, Type::Boolean, nullable, &[part]).map(Some)
}

/// Whether one of several conditions is true, as a tree of little depth.
fn any_of(mut conditions: Vec<Typed>) -> Meaning<Typed> {
    if conditions.len() > 1 {
        let right = any_of(conditions.split_off(conditions.len() / 2))?;
        let left = any_of(conditions)?;
        return logic::either(Operator::Or, left, right);
    }
    conditions
        .pop()
        .ok_or_else(|| Refusal::new("IN needs a list with a value"))
}

/// `part BETWEEN low AND high`.
///
/// # Errors
/// They cannot be compared.
pub(crate) fn between(part: Typed, low: Typed, high: Typed) -> Meaning<Typed> {
    let above = compare(Operator::GtEq, part.clone(), low)?;
    let below = compare(Operator::LtEq, part, high)?;
    logic::either(Operator::And, above, below)
}
