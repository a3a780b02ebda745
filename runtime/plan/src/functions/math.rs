//! Functions of numbers.

use datafusion_expr::Operator;

use super::{Function, Taken, rows};
use crate::semantics::call::Arguments;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, arithmetic, decimal, fail};

/// A function of one `float64`.
macro_rules! float {
    ($name:literal, $signature:literal, $compute:expr, [$($edge:literal),*]) => {
        Function::new(&[$name], $signature, (1, 1), |name, arguments| {
            let compute: fn(f64) -> f64 = $compute;
            let value = Taken::new(name, arguments).float()?;
            let kernel = rows(move |arguments: &Arguments, row| {
                Ok(arguments.floats(0)?.get(row).map(compute))
            });
            Typed::call(name, kernel, Type::Float64, &[&value])
        }, &[$($edge),*])
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        &["abs"],
        "abs(number): of its type; fails where the result does not fit",
        (1, 1),
        abs,
        &["abs(-5)", "abs(-1.5)", "abs(CAST('-inf' AS float64))"],
    ),
    Function::new(
        &["sign", "signum"],
        "sign(number): -1, 0 or 1; an int64, of a float64 a float64",
        (1, 1),
        sign,
        &["sign(-2.5)", "sign(0)", "sign(CAST('NaN' AS float64))"],
    ),
    Function::new(
        &["mod"],
        "mod(a, b): as a % b, with the sign of a",
        (2, 2),
        |name, arguments| {
            let mut taken = Taken::new(name, arguments);
            arithmetic::arithmetic(Operator::Modulo, taken.number()?, taken.number()?)
        },
        &["mod(-7, 3)", "mod(7.5, 2)", "mod(7e0, 0)", "mod(1, 0)"],
    ),
    Function::new(
        &["power", "pow"],
        "power(a, b): a float64",
        (2, 2),
        |name, arguments| float2(name, arguments, f64::powf),
        &["power(2, 10)", "power(0, -1)", "power(-8, 0.5)"],
    ),
    float!(
        "sqrt",
        "sqrt(number): a float64",
        f64::sqrt,
        ["sqrt(2)", "sqrt(-1)"]
    ),
    float!("cbrt", "cbrt(number): a float64", f64::cbrt, ["cbrt(-27)"]),
    float!(
        "exp",
        "exp(number): a float64",
        f64::exp,
        ["exp(1)", "exp(1000)"]
    ),
    float!(
        "ln",
        "ln(number): the natural logarithm",
        f64::ln,
        ["ln(1)", "ln(0)", "ln(-1)"]
    ),
    float!(
        "log10",
        "log10(number): the logarithm to base 10",
        f64::log10,
        ["log10(1000)"]
    ),
    float!(
        "log2",
        "log2(number): the logarithm to base 2",
        f64::log2,
        ["log2(8)"]
    ),
    Function::new(
        &["log"],
        "log(number): to base 10; log(base, number)",
        (1, 2),
        log,
        &["log(1000)", "log(2, 8)", "log(0)"],
    ),
    float!("sin", "sin(radians)", f64::sin, ["sin(0)"]),
    float!("cos", "cos(radians)", f64::cos, ["cos(0)"]),
    float!("tan", "tan(radians)", f64::tan, ["tan(0)"]),
    float!("cot", "cot(radians)", |x: f64| x.tan().recip(), ["cot(0)"]),
    float!("asin", "asin(number)", f64::asin, ["asin(2)"]),
    float!("acos", "acos(number)", f64::acos, ["acos(1)"]),
    float!("atan", "atan(number)", f64::atan, ["atan(0)"]),
    Function::new(
        &["atan2"],
        "atan2(y, x)",
        (2, 2),
        |name, arguments| float2(name, arguments, f64::atan2),
        &["atan2(0, -1)"],
    ),
    float!("sinh", "sinh(number)", f64::sinh, ["sinh(0)"]),
    float!("cosh", "cosh(number)", f64::cosh, ["cosh(0)"]),
    float!("tanh", "tanh(number)", f64::tanh, ["tanh(0)"]),
    float!("asinh", "asinh(number)", f64::asinh, ["asinh(0)"]),
    float!("acosh", "acosh(number)", f64::acosh, ["acosh(0)"]),
    float!("atanh", "atanh(number)", f64::atanh, ["atanh(1)"]),
    float!(
        "degrees",
        "degrees(radians)",
        f64::to_degrees,
        ["degrees(pi())"]
    ),
    float!(
        "radians",
        "radians(degrees)",
        f64::to_radians,
        ["radians(180)"]
    ),
    Function::new(
        &["pi"],
        "pi()",
        (0, 0),
        |_, _| {
            let pi = std::f64::consts::PI;
            Typed::constant(datafusion_common::ScalarValue::Float64(Some(pi)))
        },
        &["pi()"],
    ),
    Function::new(
        &["isnan"],
        "isnan(number): a boolean",
        (1, 1),
        |name, arguments| is(name, arguments, f64::is_nan),
        &["isnan(0e0 / 0)", "isnan(1)"],
    ),
    Function::new(
        &["iszero"],
        "iszero(number): a boolean",
        (1, 1),
        |name, arguments| is(name, arguments, |value| value == 0.0),
        &["iszero(0.0)", "iszero(-0e0)"],
    ),
    Function::new(
        &["nanvl"],
        "nanvl(a, b): b if a is NaN, otherwise a",
        (2, 2),
        |name, arguments| float2(name, arguments, |a, b| if a.is_nan() { b } else { a }),
        &["nanvl(0e0 / 0, 1)"],
    ),
    Function::new(
        &["factorial"],
        "factorial(integer): an int64, up to 20!",
        (1, 1),
        factorial,
        &[
            "factorial(0)",
            "factorial(20)",
            "factorial(21)",
            "factorial(-1)",
        ],
    ),
    Function::new(
        &["gcd"],
        "gcd(a, b): the greatest common divisor of integers",
        (2, 2),
        |name, arguments| int2(name, arguments, |a, b| i64::try_from(gcd(a, b)).ok()),
        &["gcd(12, -18)", "gcd(0, 0)"],
    ),
    Function::new(
        &["lcm"],
        "lcm(a, b): the least common multiple of integers",
        (2, 2),
        |name, arguments| int2(name, arguments, lcm),
        &["lcm(4, 6)", "lcm(0, 5)"],
    ),
    Function::new(
        &["to_hex"],
        "to_hex(integer): its digits to base 16; of a negative one those of its 32 or 64 bits",
        (1, 1),
        to_hex,
        &["to_hex(255)", "to_hex(-1)"],
    ),
];

fn float2(name: &str, arguments: Vec<Typed>, compute: fn(f64, f64) -> f64) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (a, b) = (taken.float()?, taken.float()?);
    let kernel = rows(move |arguments: &Arguments, row| {
        let pair = arguments
            .floats(0)?
            .get(row)
            .zip(arguments.floats(1)?.get(row));
        Ok(pair.map(|(a, b)| compute(a, b)))
    });
    Typed::call(name, kernel, Type::Float64, &[&a, &b])
}

fn int2(name: &str, arguments: Vec<Typed>, compute: fn(i64, i64) -> Option<i64>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let (a, b) = (taken.int64()?, taken.int64()?);
    let called = name.to_owned();
    let kernel = rows(move |arguments: &Arguments, row| {
        match arguments
            .int64s(0)?
            .get(row)
            .zip(arguments.int64s(1)?.get(row))
        {
            None => Ok(None),
            Some((a, b)) => match compute(a, b) {
                Some(value) => Ok(Some(value)),
                None => fail!("{called}({a}, {b}) does not fit int64"),
            },
        }
    });
    Typed::call(name, kernel, Type::Int64, &[&a, &b])
}

fn is(name: &str, arguments: Vec<Typed>, holds: fn(f64) -> bool) -> Meaning<Typed> {
    let value = Taken::new(name, arguments).float()?;
    let kernel =
        rows(move |arguments: &Arguments, row| Ok(arguments.floats(0)?.get(row).map(holds)));
    Typed::call(name, kernel, Type::Boolean, &[&value])
}

fn abs(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let value = Taken::new(name, arguments).number()?;
    let kernel = match value.data_type {
        Type::Int32 => rows(
            |arguments: &Arguments, row| match arguments.int32s(0)?.get(row) {
                Some(i32::MIN) => fail!("the result of abs({}) does not fit int32", i32::MIN),
                value => Ok(value.map(i32::wrapping_abs)),
            },
        ),
        Type::Int64 => rows(
            |arguments: &Arguments, row| match arguments.int64s(0)?.get(row) {
                Some(i64::MIN) => fail!("the result of abs({}) does not fit int64", i64::MIN),
                value => Ok(value.map(i64::wrapping_abs)),
            },
        ),
        Type::Decimal(precision, scale) => std::sync::Arc::new(move |arguments: &Arguments| {
            let values = arguments.decimals(0)?;
            let array = arguments.each(|row| Ok(values.get(row).map(i128::wrapping_abs)))?;
            decimal::column(&array, precision, scale)
        }),
        _ => rows(|arguments: &Arguments, row| Ok(arguments.floats(0)?.get(row).map(f64::abs))),
    };
    Typed::call(name, kernel, value.data_type, &[&value])
}

fn sign(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let value = Taken::new(name, arguments).number()?;
    let (kernel, data_type) = match value.data_type {
        Type::Int32 => (
            rows(|arguments: &Arguments, row| {
                Ok(arguments
                    .int32s(0)?
                    .get(row)
                    .map(|value| i64::from(value.signum())))
            }),
            Type::Int64,
        ),
        Type::Int64 => (
            rows(|arguments: &Arguments, row| Ok(arguments.int64s(0)?.get(row).map(i64::signum))),
            Type::Int64,
        ),
        Type::Decimal(..) => (
            rows(|arguments: &Arguments, row| {
                let value = arguments.decimals(0)?.get(row);
                Ok(value.and_then(|value| i64::try_from(value.signum()).ok()))
            }),
            Type::Int64,
        ),
        _ => (
            rows(|arguments: &Arguments, row| {
                // Of zero it is zero, of NaN it is NaN.
                let sign = |value: f64| {
                    if value == 0.0 || value.is_nan() {
                        value
                    } else {
                        value.signum()
                    }
                };
                Ok(arguments.floats(0)?.get(row).map(sign))
            }),
            Type::Float64,
        ),
    };
    Typed::call(name, kernel, data_type, &[&value])
}

fn log(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    if arguments.len() == 2 {
        return float2(name, arguments, |base, value| {
            if base.to_bits() == 2_f64.to_bits() {
                value.log2()
            } else if base.to_bits() == 10_f64.to_bits() {
                value.log10()
            } else {
                value.log(base)
            }
        });
    }
    let value = Taken::new(name, arguments).float()?;
    let kernel =
        rows(|arguments: &Arguments, row| Ok(arguments.floats(0)?.get(row).map(f64::log10)));
    Typed::call(name, kernel, Type::Float64, &[&value])
}

fn factorial(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let value = Taken::new(name, arguments).int64()?;
    let kernel = rows(
        |arguments: &Arguments, row| match arguments.int64s(0)?.get(row) {
            None => Ok(None),
            Some(value @ ..0) => fail!("there is no factorial of {value}"),
            Some(value) => match (1..=value).try_fold(1_i64, i64::checked_mul) {
                Some(product) => Ok(Some(product)),
                None => fail!("factorial({value}) does not fit int64"),
            },
        },
    );
    Typed::call(name, kernel, Type::Int64, &[&value])
}

fn gcd(a: i64, b: i64) -> u64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn lcm(a: i64, b: i64) -> Option<i64> {
    if a == 0 || b == 0 {
        return Some(0);
    }
    let divisor = gcd(a, b);
    let multiple = (a.unsigned_abs() / divisor).checked_mul(b.unsigned_abs())?;
    i64::try_from(multiple).ok()
}

fn to_hex(name: &str, arguments: Vec<Typed>) -> Meaning<Typed> {
    let mut taken = Taken::new(name, arguments);
    let value = taken.any()?;
    let kernel = match value.data_type {
        Type::Int32 => rows(|arguments: &Arguments, row| {
            Ok(arguments
                .int32s(0)?
                .get(row)
                .map(|value| format!("{value:x}")))
        }),
        Type::Int64 => rows(|arguments: &Arguments, row| {
            Ok(arguments
                .int64s(0)?
                .get(row)
                .map(|value| format!("{value:x}")))
        }),
        Type::Null => return Typed::null(Type::String),
        other => return Err(taken.takes("an integer", other)),
    };
    Typed::call(name, kernel, Type::String, &[&value])
}
