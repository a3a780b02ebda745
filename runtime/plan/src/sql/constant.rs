//! Constants as SQL writes them.

use arrow_array::types::IntervalMonthDayNano;
use datafusion_common::ScalarValue;
use datafusion_sql::sqlparser::ast::{
    self, DateTimeField, Expr, TypedString, Value, ValueWithSpan,
};

use crate::semantics::calendar::Unit;
use crate::semantics::cast::{self, Failing, quoted};
use crate::semantics::decimal::MAX_DIGITS;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, Refusal, interval as spans, parse, refuse};

/// A number, text, truth value or NULL; a number with a minus before it if it is `negative`.
pub(super) fn value(value: &Value, negative: bool) -> Meaning<Typed> {
    match value {
        Value::Number(text, _) => Typed::literal(number(text, negative)?),
        Value::SingleQuotedString(text) => Typed::literal(ScalarValue::from(text.clone())),
        Value::Boolean(value) => Typed::literal(ScalarValue::Boolean(Some(*value))),
        Value::Null => Typed::literal(ScalarValue::Null),
        Value::Placeholder(name) => refuse!("`{name}` stands for nothing: write the value"),
        other => Err(
            Refusal::new(format!("{other} is not a constant here")).with_help(
                "a text is written '…', with '' for a quote in it; bytes are decode('…', 'hex')",
            ),
        ),
    }
}

/// A whole number is an `int64`, or a decimal where that is too small; one with a point is a
/// decimal, and one with an exponent a `float64`.
fn number(text: &str, negative: bool) -> Meaning<ScalarValue> {
    let sign = if negative { "-" } else { "" };
    let signed = format!("{sign}{text}");
    if text.contains(['e', 'E']) {
        return match parse::float(&signed) {
            Some(value) => Ok(ScalarValue::Float64(Some(value))),
            None => refuse!("{signed} does not fit float64"),
        };
    }
    if let Ok(value) = signed.parse::<i64>() {
        return Ok(ScalarValue::Int64(Some(value)));
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = whole.trim_start_matches('0');
    let digits = (whole.len() + fraction.len()).max(1);
    let fits = |digits: usize| {
        u8::try_from(digits)
            .ok()
            .filter(|digits| *digits <= MAX_DIGITS)
    };
    let scale = i8::try_from(fraction.len()).ok();
    match (fits(digits), scale) {
        (Some(precision), Some(scale)) => {
            let value = parse::decimal(&signed, scale).and_then(arrow_buffer::i256::to_i128);
            Ok(ScalarValue::Decimal128(value, precision, scale))
        }
        _ => refuse!("{signed} has more than {MAX_DIGITS} digits"),
    }
}

/// `DATE '2024-02-29'`.
pub(super) fn typed(typed: &TypedString) -> Meaning<Typed> {
    let to = Type::written(&typed.data_type)?;
    let Value::SingleQuotedString(text) = &typed.value.value else {
        return refuse!("behind the type stands a text in single quotes");
    };
    let text = Typed::literal(ScalarValue::from(text.clone()))?;
    cast::cast(text, to, Failing::Fails)
}

/// `INTERVAL '1 day'`, `INTERVAL '1' DAY`.
pub(super) fn interval(interval: &ast::Interval) -> Meaning<Typed> {
    if interval.last_field.is_some() {
        return refuse!("write an interval with its units, as INTERVAL '1 day 2 hours'");
    }
    let unit = match &interval.leading_field {
        None => Unit::Second,
        Some(DateTimeField::Week(Some(_))) => return refuse!("weeks have no first day here"),
        Some(field) => match Unit::read(&field.to_string()) {
            Some(unit) => unit,
            None => return refuse!("`{field}` is not a unit of time, such as day or hours"),
        },
    };
    let text = match interval.value.as_ref() {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text),
            ..
        }) => text.clone(),
        Expr::Value(ValueWithSpan {
            value: Value::Number(number, _),
            ..
        }) if interval.leading_field.is_some() => number.clone(),
        _ => {
            return Err(Refusal::new("an interval is written out: INTERVAL '1 day'")
                .with_help("a number of them is `n * INTERVAL '1 second'`"));
        }
    };
    let span: IntervalMonthDayNano = spans::read(&text, unit)?;
    Typed::constant(ScalarValue::IntervalMonthDayNano(Some(span)))
}

/// The character behind ESCAPE.
pub(super) fn escape(written: Option<&ValueWithSpan>) -> Meaning<Option<char>> {
    let Some(written) = written else {
        return Ok(None);
    };
    let Value::SingleQuotedString(text) = &written.value else {
        return refuse!("ESCAPE takes one character");
    };
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(escape), None) => Ok(Some(escape)),
        _ => refuse!("ESCAPE takes one character, not {}", quoted(text)),
    }
}
