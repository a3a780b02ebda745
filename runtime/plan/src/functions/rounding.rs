//! Functions that take digits off a number.

use arrow_buffer::i256;

use super::{Function, Taken, constant_int, rows};
use crate::semantics::call::Arguments;
use crate::semantics::coerce::convert;
use crate::semantics::decimal::{self, Rounding};
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, fail};

/// More digits than any number has before or behind its point.
const MOST_DIGITS: i64 = 400;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        &["round"],
        "round(number): to a whole number, half away from zero; round(number, digits): to digits \
         behind the point, or before it if they are negative; of the number's type, a decimal with \
         that scale",
        (1, 2),
        |name, arguments| rounded(name, arguments, Rounding::Half),
        &[
            "round(2.5)",
            "round(-2.5)",
            "round(2.675e0, 2)",
            "round(1234.5, -2)",
            "round(1e300, 10)",
            "round(1e-1, 400)",
            "round(15, -1)",
        ],
    ),
    Function::new(
        &["trunc", "truncate"],
        "trunc(number), trunc(number, digits): as round, towards zero",
        (1, 2),
        |name, arguments| rounded(name, arguments, Rounding::Cut),
        &["trunc(-2.7)", "trunc(2.679e0, 2)", "trunc(1e300, 10)"],
    ),
    Function::new(
        &["ceil", "ceiling"],
        "ceil(number): the least whole number that is not less; of the number's type, a decimal \
         with scale 0",
        (1, 1),
        |name, arguments| rounded(name, arguments, Rounding::Ceil),
        &["ceil(999.9)", "ceil(-0.5e0)"],
    ),
    Function::new(
        &["floor"],
        "floor(number): the greatest whole number that is not greater",
        (1, 1),
        |name, arguments| rounded(name, arguments, Rounding::Floor),
        &["floor(-999.9)", "floor(2.7e0)"],
    ),
];

fn rounded(name: &str, arguments: Vec<Typed>, rounding: Rounding) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let number = taken.number()?;
    let digits = if taken.has_more() {
        taken.int64()?
    } else {
        super::int(0)?
    };
    if digits.is_null() {
        return Typed::null(number.data_type);
    }
    match number.data_type {
        Type::Decimal(_, scale) => match constant_int(&digits) {
            Some(digits) => {
                let least = -i64::from(decimal::MAX_DIGITS) - 1;
                let digits = digits.clamp(least, scale.into());
                decimal::rounded(&number, i8::try_from(digits).unwrap_or(scale), rounding)
            }
            None => decimal_of_data(name, &number, &digits, rounding),
        },
        Type::Float64 => floats(name, &number, &digits, rounding),
        data_type => {
            let number = convert(number, Type::Int64)?;
            let whole = integers(name, &number, &digits, rounding)?;
            let cast = crate::semantics::cast::Failing::Fails;
            crate::semantics::cast::cast(whole, data_type, cast)
        }
    }
}

fn integers(name: &str, number: &Typed, digits: &Typed, rounding: Rounding) -> Meaning<Typed> {
    if constant_int(digits).is_some_and(|digits| digits >= 0) {
        return Ok(number.clone().computed());
    }
    let kernel = rows(move |arguments: &Arguments, row| {
        let pair = arguments
            .int64s(0)?
            .get(row)
            .zip(arguments.int64s(1)?.get(row));
        let Some((value, digits)) = pair else {
            return Ok(None);
        };
        let digits = i8::try_from(digits.clamp(-MOST_DIGITS / 20, 0)).unwrap_or(0);
        let value = decimal::rescaled(i256::from_i128(value.into()), 0, digits, rounding);
        let value = value.and_then(|value| decimal::rescaled(value, digits, 0, rounding));
        match value
            .and_then(i256::to_i128)
            .and_then(|value| i64::try_from(value).ok())
        {
            Some(value) => Ok(Some(value)),
            None => fail!("the rounded number does not fit int64"),
        }
    });
    Typed::call(
        format!("{name} {rounding:?}"),
        kernel,
        Type::Int64,
        &[number, digits],
    )
}

/// A decimal whose digits are known only record by record: it keeps its scale.
fn decimal_of_data(
    name: &str,
    number: &Typed,
    digits: &Typed,
    rounding: Rounding,
) -> Meaning<Typed> {
    let Type::Decimal(precision, scale) = number.data_type else {
        return crate::semantics::refuse!("{} is not a decimal", number.data_type);
    };
    let precision = (precision + 1).min(decimal::MAX_DIGITS);
    let kernel: crate::semantics::call::Kernel =
        std::sync::Arc::new(move |arguments: &Arguments| {
            let (values, digits) = (arguments.decimals(0)?, arguments.int64s(1)?);
            let array = arguments.each(|row| {
                let Some((value, digits)) = values.get(row).zip(digits.get(row)) else {
                    return Ok(None);
                };
                let least = -i64::from(decimal::MAX_DIGITS) - 1;
                let digits = i8::try_from(digits.clamp(least, scale.into())).unwrap_or(scale);
                let value = decimal::rescaled(i256::from_i128(value), scale, digits, rounding);
                let value =
                    value.and_then(|value| decimal::rescaled(value, digits, scale, rounding));
                decimal::fitted(value, precision).map(Some)
            })?;
            decimal::column(&array, precision, scale)
        });
    let output = Type::Decimal(precision, scale);
    Typed::call(
        format!("{name} {rounding:?}"),
        kernel,
        output,
        &[number, digits],
    )
}

fn floats(name: &str, number: &Typed, digits: &Typed, rounding: Rounding) -> Meaning<Typed> {
    let kernel = rows(move |arguments: &Arguments, row| {
        let pair = arguments
            .floats(0)?
            .get(row)
            .zip(arguments.int64s(1)?.get(row));
        let Some((value, digits)) = pair else {
            return Ok(None);
        };
        let rounded = float(value, digits, rounding);
        if rounded.is_infinite() && value.is_finite() {
            return fail!("{value} rounded to {digits} digits does not fit float64");
        }
        Ok(Some(rounded))
    });
    Typed::call(
        format!("{name} {rounding:?}"),
        kernel,
        Type::Float64,
        &[number, digits],
    )
}

/// A number with so many digits behind the point of its shortest decimal form.
fn float(value: f64, digits: i64, rounding: Rounding) -> f64 {
    if !value.is_finite() {
        return value;
    }
    if digits == 0 {
        return match rounding {
            Rounding::Half => value.round(),
            Rounding::Cut => value.trunc(),
            Rounding::Floor => value.floor(),
            Rounding::Ceil => value.ceil(),
        };
    }
    let digits = digits.clamp(-MOST_DIGITS, MOST_DIGITS);
    // As 1.2345e-5: one digit, a point, the rest, and a power of ten.
    let written = format!("{:e}", value.abs());
    let Some((mantissa, exponent)) = written.split_once('e') else {
        return value;
    };
    let exponent: i64 = exponent.parse().unwrap_or(0);
    let figures: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    // How many figures are kept: the first one stands for 10^exponent.
    let kept = exponent + digits + 1;
    let Ok(kept) = usize::try_from(kept) else {
        return 0.0;
    };
    if kept >= figures.len() {
        return value;
    }
    let (head, tail) = figures.split_at(kept);
    let up = rounding == Rounding::Half && tail.first().is_some_and(|figure| *figure >= b'5');
    let head: u64 = std::str::from_utf8(head)
        .ok()
        .and_then(|head| head.parse().ok())
        .unwrap_or(0);
    let rounded: f64 = format!("{}e{}", head + u64::from(up), -digits)
        .parse()
        .unwrap_or(value);
    if rounded == 0.0 {
        0.0
    } else {
        rounded.copysign(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_digits_loses_a_number() {
        for value in [0.1, -2.5, 1e300, 5e-324, f64::MAX, f64::MIN, 123.456] {
            for digits in [i64::MIN, -400, -309, -1, 1, 10, 308, 400, i64::MAX] {
                for rounding in [Rounding::Half, Rounding::Cut] {
                    let rounded = float(value, digits, rounding);
                    assert!(!rounded.is_nan(), "{value} {digits}");
                    assert!(
                        rounded.is_finite() || value.abs() > 1e307,
                        "{value} {digits}"
                    );
                }
            }
            assert_eq!(float(value, 400, Rounding::Half).to_bits(), value.to_bits());
        }
        assert!((float(2.675, 2, Rounding::Half) - 2.68).abs() < 1e-12);
        assert!((float(0.95, 1, Rounding::Half) - 1.0).abs() < 1e-12);
        assert!((float(1_234.5, -2, Rounding::Half) - 1_200.0).abs() < 1e-9);
        assert!(float(f64::INFINITY, 2, Rounding::Half).is_infinite());
    }
}
