//! Numbers and truth values.

use super::{Template, Why, other, same};
use crate::pools::Kind::{self, Bool, Count, Day, Float, Int32, Int64, Price, Text, Time, Wide};

const NUMBERS: [&[Kind]; 12] = [
    &[Int64, Int64],
    &[Int32, Int32],
    &[Int32, Int64],
    &[Float, Float],
    &[Int64, Float],
    &[Price, Price],
    &[Price, Int64],
    &[Price, Float],
    &[Wide, Price],
    &[Wide, Int64],
    &[Wide, Wide],
    &[Float, Wide],
];

const WITH_CONSTANTS: &[&str] = &[
    "a > 0.0",
    "a = 0.0",
    "a IN (0.0, 1.5)",
    "a BETWEEN -1.5 AND 7",
    "a NOT BETWEEN 0 AND 1",
    "a IN (1, NULL)",
    "a NOT IN (1) OR a NOT IN (7)",
    "NOT (a IN (1) AND a IN (7))",
    "coalesce(a, 1.5)",
    "nullif(a, 1)",
    "a < 9223372036854775808",
    "a > -2.5",
    "CASE a WHEN 0 THEN 'zero' WHEN 1 THEN 'one' ELSE 'more' END",
];

const OF_A_FLOAT: &[&str] = &[
    "sqrt(a)",
    "cbrt(a)",
    "exp(a)",
    "ln(a)",
    "sin(a)",
    "cos(a)",
    "tan(a)",
    "asin(a)",
    "acos(a)",
    "atan(a)",
    "sinh(a)",
    "cosh(a)",
    "tanh(a)",
    "asinh(a)",
    "acosh(a)",
    "atanh(a)",
    "degrees(a)",
    "radians(a)",
];

pub(super) fn arithmetic() -> Vec<Template> {
    let mut all = Vec::new();
    for types in NUMBERS {
        for ours in ["a + b", "a - b", "a * b"] {
            all.push(same(ours, types).but(Why::Digits));
        }
        all.push(same("a / b", types).but(Why::Digits));
        if !types.contains(&Float) {
            all.push(same("a % b", types));
            all.push(same("mod(a, b)", types));
        }
    }
    for kind in [&[Int32] as &[Kind], &[Int64], &[Float], &[Price], &[Wide]] {
        all.push(same("-a", kind));
        all.push(same("+a", kind));
        all.push(same("-(-a - 1)", kind));
        all.push(same("a + 1", kind));
        all.push(same("a * 2 - a", kind));
        all.push(same("a * 1.5", kind));
    }
    all.push(same("a & b", &[Int64, Int64]));
    all.push(same("a | b", &[Int64, Int64]));
    all.push(other("a ^ b", "$a # $b", &[Int64, Int64]));
    all.push(same("a / 3", &[Price]));
    all.push(same("10.10 / a", &[Price]).but(Why::Digits));
    all
}

pub(super) fn comparisons() -> Vec<Template> {
    let mut all = Vec::new();
    let pairs: [&[Kind]; 8] = [
        &[Text, Text],
        &[Bool, Bool],
        &[Time, Time],
        &[Day, Day],
        &[Time, Day],
        &[Int64, Wide],
        &[Float, Int32],
        &[Price, Wide],
    ];
    for types in NUMBERS.into_iter().chain(pairs) {
        for ours in [
            "a = b",
            "a <> b",
            "a < b",
            "a <= b",
            "a > b",
            "a >= b",
            "a IS DISTINCT FROM b",
            "a IS NOT DISTINCT FROM b",
        ] {
            all.push(same(ours, types));
        }
    }
    for types in [
        &[Int64, Int64] as &[Kind],
        &[Float, Float],
        &[Price, Wide],
        &[Text, Text],
        &[Time, Time],
        &[Float, Price],
    ] {
        all.push(same("greatest(a, b)", types));
        all.push(same("least(a, b)", types));
        all.push(same("nullif(a, b)", types));
        all.push(same("coalesce(a, b)", types));
        all.push(same("CASE WHEN a > b THEN a ELSE b END", types));
        all.push(same("a IN (b, a)", types));
        all.push(same("a NOT IN (b)", types));
    }
    for kind in [&[Int64] as &[Kind], &[Int32], &[Float], &[Price], &[Wide]] {
        for ours in WITH_CONSTANTS.iter().copied() {
            all.push(same(ours, kind));
        }
    }
    all
}

pub(super) fn logic() -> Vec<Template> {
    let mut all = Vec::new();
    for ours in [
        "a AND b",
        "a OR b",
        "NOT a",
        "a IS TRUE",
        "a IS NOT TRUE",
        "a IS FALSE",
        "a IS UNKNOWN",
        "a IS NOT UNKNOWN",
        "a = b",
        "a AND NOT a",
        "a OR NOT a",
        "(a OR b) AND NOT (a AND b)",
        "CASE WHEN a THEN 1 WHEN b THEN 2 ELSE 3 END",
        "a IS NULL",
        "a IS NOT NULL",
    ] {
        all.push(same(ours, &[Bool, Bool]));
    }
    all.push(other(
        "if(a, 1, 2)",
        "CASE WHEN $a THEN 1 ELSE 2 END",
        &[Bool],
    ));
    all.push(other("nvl(a, b)", "coalesce($a, $b)", &[Int64, Int64]));
    all.push(other(
        "nvl2(a, b, 5)",
        "CASE WHEN $a IS NOT NULL THEN $b ELSE 5 END",
        &[Int64, Int64],
    ));
    all.push(same("CASE WHEN a <> 0 THEN 100 / a END", &[Int64]));
    all.push(same("a <> 0 AND 100 / a > 1", &[Int64]));
    all
}

pub(super) fn functions() -> Vec<Template> {
    let mut all = Vec::new();
    for kind in [&[Int32] as &[Kind], &[Int64], &[Price], &[Wide]] {
        for ours in [
            "abs(a)", "sign(a)", "ceil(a)", "floor(a)", "trunc(a)", "round(a)",
        ] {
            all.push(same(ours, kind));
        }
    }
    for ours in ["abs(a)", "ceil(a)", "floor(a)", "trunc(a)"] {
        all.push(same(ours, &[Float]));
    }
    all.push(same("sign(a)", &[Float]).but(Why::Ieee));
    all.push(same("round(a)", &[Float]).but(Why::HalfAway));
    for kind in [&[Price] as &[Kind], &[Wide]] {
        for ours in [
            "round(a, 1)",
            "round(a, -1)",
            "trunc(a, 1)",
            "trunc(a, -1)",
            "round(a, 0)",
        ] {
            all.push(same(ours, kind));
        }
    }
    all.push(same("round(a, b)", &[Price, Count]));
    for ours in OF_A_FLOAT.iter().copied() {
        all.push(same(ours, &[Float]));
    }
    all.push(other("cot(a)", "cot($a)", &[Float]).but(Why::Ieee));
    all.push(other("log10(a)", "log($a)", &[Float]));
    all.push(other("log2(a)", "ln($a) / ln(2e0)", &[Float]).but(Why::Ieee));
    all.push(same("atan2(a, b)", &[Float, Float]));
    all.push(same("power(a, b)", &[Float, Float]).but(Why::Ieee));
    all.push(same("power(a, 2)", &[Int32]));
    all.push(same("power(a, 2)", &[Price]));
    all.push(same("gcd(a, b)", &[Int64, Int64]));
    all.push(same("lcm(a, b)", &[Int32, Int32]));
    all.push(other("factorial(a)", "factorial($a)::bigint", &[Count]));
    all.push(same("to_hex(a)", &[Int64]));
    all.push(same("to_hex(a)", &[Int32]));
    all.push(other("isnan(a)", "$a = 'NaN'::float8", &[Float]));
    all
}
