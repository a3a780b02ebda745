//! Decimals: one rule for their types, and exact arithmetic on them.
//!
//! With `p` digits of which `s` are behind the point, on the left (1) and on the right (2):
//!
//! | operation | scale | precision |
//! |---|---|---|
//! | `+ -` | max(s1, s2) | max(p1 - s1, p2 - s2) + scale + 1 |
//! | `*` | s1 + s2 | p1 + p2 + 1 |
//! | `/` | max(6, s1 + p2 + 1) | p1 - s1 + s2 + scale |
//! | `%` | max(s1, s2) | min(p1 - s1, p2 - s2) + scale |
//!
//! Where the precision is above 38, the scale is lowered by what is too much, but not below 6 (or
//! the scale, if that is less). Results are rounded half away from zero to their scale; one that
//! then has more digits than its precision fails.
//!
//! Source: the rule of Flink and Spark (`adjustPrecisionScale`), after that of SQL Server.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::Decimal128Type;
use arrow_array::{Array as _, ArrayRef};
use arrow_buffer::i256;
use datafusion_common::{DataFusionError, Result, ScalarValue};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::BinaryExpr;

use super::call::{Arguments, Kernel};
use super::typed::Typed;
use super::types::Type;
use super::{Meaning, fail, refuse};

/// Most digits that a decimal has.
pub(crate) const MAX_DIGITS: u8 = 38;
/// Digits of a fraction that a result keeps at the cost of whole digits.
const KEPT_SCALE: i16 = 6;

/// Precision and scale.
pub(crate) type Digits = (u8, i8);

/// The digits of an exact number; a constant integer has those that it is written with.
pub(crate) fn digits(number: &Typed) -> Option<Digits> {
    match (number.data_type, number.value()) {
        (Type::Int32, Some(ScalarValue::Int32(Some(value)))) => Some(written((*value).into())),
        (Type::Int64, Some(ScalarValue::Int64(Some(value)))) => Some(written((*value).into())),
        (Type::Int32, _) => Some((10, 0)),
        (Type::Int64, _) => Some((20, 0)),
        (Type::Decimal(precision, scale), _) => Some((precision, scale)),
        _ => None,
    }
}

fn written(value: i128) -> Digits {
    let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
    (u8::try_from(digits).unwrap_or(MAX_DIGITS), 0)
}

/// The type of a result with so many digits.
fn capped(precision: i16, scale: i16) -> Type {
    let most = i16::from(MAX_DIGITS);
    let (precision, scale) = if precision <= most {
        (precision, scale)
    } else {
        let whole = precision - scale;
        (most, (most - whole).max(scale.min(KEPT_SCALE)))
    };
    narrow(precision, scale)
}

fn narrow(precision: i16, scale: i16) -> Type {
    let precision = u8::try_from(precision).unwrap_or(MAX_DIGITS).max(1);
    Type::Decimal(precision, i8::try_from(scale).unwrap_or(0))
}

/// The type of what arithmetic on two exact numbers gives.
pub(crate) fn result(op: Operator, left: Digits, right: Digits) -> Type {
    let (p1, s1) = (i16::from(left.0), i16::from(left.1));
    let (p2, s2) = (i16::from(right.0), i16::from(right.1));
    let (whole1, whole2) = (p1 - s1, p2 - s2);
    match op {
        Operator::Multiply => capped(p1 + p2 + 1, s1 + s2),
        Operator::Divide => {
            let scale = KEPT_SCALE.max(s1 + p2 + 1);
            capped(p1 - s1 + s2 + scale, scale)
        }
        Operator::Modulo => capped(whole1.min(whole2) + s1.max(s2), s1.max(s2)),
        _ => capped(whole1.max(whole2) + s1.max(s2) + 1, s1.max(s2)),
    }
}

/// The type that holds the whole digits of both, and as much of their fractions as fits.
pub(crate) fn union(left: Digits, right: Digits) -> Type {
    let whole = |(precision, scale): Digits| i16::from(precision) - i16::from(scale);
    let whole = whole(left).max(whole(right));
    let scale = i16::from(left.1.max(right.1)).min(i16::from(MAX_DIGITS) - whole);
    narrow(whole + scale, scale)
}

/// How digits that a scale does not have are taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Rounding {
    /// To the nearest, half away from zero.
    Half,
    /// Towards zero.
    Cut,
    /// Down.
    Floor,
    /// Up.
    Ceil,
}

/// Ten to the power of `exponent`, if it has at most 76 digits.
pub(crate) fn power_of_ten(exponent: u32) -> Option<i256> {
    i256::from_i128(10).checked_pow(exponent)
}

/// A quotient of integers.
pub(crate) fn divided(dividend: i256, divisor: i256, rounding: Rounding) -> Option<i256> {
    let quotient = dividend.checked_div(divisor)?;
    let rest = dividend.checked_rem(divisor)?;
    if rest == i256::ZERO {
        return Some(quotient);
    }
    let negative = (dividend < i256::ZERO) != (divisor < i256::ZERO);
    let away = match rounding {
        Rounding::Half => {
            // |rest| >= |divisor| - |rest|, which cannot overflow.
            let (rest, divisor) = (rest.wrapping_abs(), divisor.wrapping_abs());
            rest >= divisor.wrapping_sub(rest)
        }
        Rounding::Cut => false,
        Rounding::Floor => negative,
        Rounding::Ceil => !negative,
    };
    if !away {
        return Some(quotient);
    }
    quotient.checked_add(i256::from_i128(if negative { -1 } else { 1 }))
}

/// A value with another scale; nothing if it has more than 76 digits then.
pub(crate) fn rescaled(value: i256, from: i8, to: i8, rounding: Rounding) -> Option<i256> {
    let shift = i32::from(to) - i32::from(from);
    let factor = power_of_ten(shift.unsigned_abs())?;
    if shift >= 0 {
        value.checked_mul(factor)
    } else {
        divided(value, factor, rounding)
    }
}

/// A value that has at most so many digits.
pub(crate) fn fitted(value: Option<i256>, precision: u8) -> Result<i128> {
    let fits = |value: &i128| value.unsigned_abs() < 10_u128.pow(precision.min(MAX_DIGITS).into());
    match value.and_then(i256::to_i128).filter(fits) {
        Some(value) => Ok(value),
        None => fail!("the result has more than {precision} digits"),
    }
}

/// A column of decimals with its type.
pub(crate) fn column(array: &ArrayRef, precision: u8, scale: i8) -> Result<ArrayRef> {
    let Some(decimals) = array.as_primitive_opt::<Decimal128Type>() else {
        return fail!("{} is not a decimal", array.data_type());
    };
    let typed = decimals.clone().with_precision_and_scale(precision, scale);
    Ok(Arc::new(typed.map_err(DataFusionError::from)?))
}

/// `left op right` of decimals.
pub(crate) fn arithmetic(op: Operator, left: &Typed, right: &Typed) -> Meaning<Typed> {
    let (Type::Decimal(p1, s1), Type::Decimal(p2, s2)) = (left.data_type, right.data_type) else {
        return refuse!("{} {op} {} is not decimal", left.data_type, right.data_type);
    };
    let output = result(op, (p1, s1), (p2, s2));
    let Type::Decimal(precision, scale) = output else {
        return refuse!("{output} is not a decimal");
    };
    let full = match op {
        Operator::Multiply => u16::from(p1) + u16::from(p2) < u16::from(MAX_DIGITS),
        Operator::Plus | Operator::Minus => precision < MAX_DIGITS,
        _ => false,
    };
    if full {
        // Nothing is lowered and nothing can overflow: Arrow's arithmetic is the same and quick.
        let expr = BinaryExpr::new(Arc::clone(&left.expr), op, Arc::clone(&right.expr));
        let expr = Arc::new(expr.with_fail_on_overflow(true));
        return Typed::over(
            expr,
            output,
            left.nullable || right.nullable,
            &[left, right],
        );
    }
    let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
        let (left, right) = (arguments.decimals(0)?, arguments.decimals(1)?);
        let array = arguments.each(|row| {
            let (Some(a), Some(b)) = (left.get(row), right.get(row)) else {
                return Ok(None);
            };
            computed(op, (a, s1), (b, s2), (precision, scale)).map(Some)
        })?;
        column(&array, precision, scale)
    });
    Typed::call(format!("decimal {op}"), kernel, output, &[left, right])
}

fn computed(
    op: Operator,
    (a, s1): (i128, i8),
    (b, s2): (i128, i8),
    output: Digits,
) -> Result<i128> {
    let (precision, scale) = output;
    let (left, right) = (i256::from_i128(a), i256::from_i128(b));
    if b == 0 && matches!(op, Operator::Divide | Operator::Modulo) {
        return fail!("division by zero");
    }
    let shared = s1.max(s2);
    let aligned = || {
        let left = rescaled(left, s1, shared, Rounding::Half)?;
        Some((left, rescaled(right, s2, shared, Rounding::Half)?))
    };
    let value = match op {
        Operator::Multiply => left
            .checked_mul(right)
            .and_then(|product| rescaled(product, s1 + s2, scale, Rounding::Half)),
        Operator::Divide => {
            let shift = i32::from(scale) + i32::from(s2) - i32::from(s1);
            power_of_ten(shift.unsigned_abs()).and_then(|factor| {
                let (left, right) = if shift >= 0 {
                    (left.checked_mul(factor)?, right)
                } else {
                    (left, right.checked_mul(factor)?)
                };
                divided(left, right, Rounding::Half)
            })
        }
        Operator::Modulo => aligned().and_then(|(left, right)| left.checked_rem(right)),
        Operator::Minus => aligned()
            .and_then(|(left, right)| left.checked_sub(right))
            .and_then(|value| rescaled(value, shared, scale, Rounding::Half)),
        _ => aligned()
            .and_then(|(left, right)| left.checked_add(right))
            .and_then(|value| rescaled(value, shared, scale, Rounding::Half)),
    };
    fitted(value, precision)
}

/// A decimal with fewer digits behind the point, by one rule of rounding; `scale` may be negative.
pub(crate) fn rounded(number: &Typed, scale: i8, rounding: Rounding) -> Meaning<Typed> {
    let Type::Decimal(p, s) = number.data_type else {
        return refuse!("{} is not a decimal", number.data_type);
    };
    if scale >= s {
        return Ok(number.clone().computed());
    }
    // One more whole digit, as 9.9 becomes 10; zeros take the place of digits before the point.
    let kept = i16::from(scale.max(0));
    let whole = (i16::from(p) - i16::from(s) + 1).min(i16::from(MAX_DIGITS) - kept);
    let output = narrow(whole + kept, kept);
    let Type::Decimal(precision, kept) = output else {
        return refuse!("{output} is not a decimal");
    };
    let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
        let values = arguments.decimals(0)?;
        let array = arguments.each(|row| {
            let Some(value) = values.get(row) else {
                return Ok(None);
            };
            let value = rescaled(i256::from_i128(value), s, scale, rounding);
            let value = value.and_then(|value| rescaled(value, scale, kept, rounding));
            fitted(value, precision).map(Some)
        })?;
        column(&array, precision, kept)
    });
    Typed::call(
        format!("rounded {rounding:?} {scale}"),
        kernel,
        output,
        &[number],
    )
}

/// The sign of `left - right`, for any two decimals.
pub(crate) fn compared(left: (i128, i8), right: (i128, i8)) -> std::cmp::Ordering {
    let shared = left.1.max(right.1);
    let aligned = |(value, scale): (i128, i8)| {
        rescaled(i256::from_i128(value), scale, shared, Rounding::Half)
    };
    // Both have at most 76 digits, which always fits.
    aligned(left).cmp(&aligned(right))
}
