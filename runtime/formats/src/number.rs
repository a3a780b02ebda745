//! Exact numbers as text.
//!
//! A decimal column holds `value × 10^scale` as an `i128`. Text becomes that integer without
//! passing through a float, or is refused.

use crate::error::DecodeReason;

/// Most digits of a decimal.
pub const MAX_DIGITS: usize = 38;

/// Powers of ten that an `i128` holds.
pub(crate) const POWERS: [i128; MAX_DIGITS + 1] = {
    let mut powers = [1_i128; MAX_DIGITS + 1];
    let mut exponent = 1;
    while exponent <= MAX_DIGITS {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// `10^exponent`, if an `i128` holds it.
pub(crate) fn power_of_ten(exponent: usize) -> Option<i128> {
    POWERS.get(exponent).copied()
}

/// The integer of a JSON number.
///
/// # Errors
/// The number has a fraction or exponent, or an `i64` does not hold it.
pub fn parse_integer(number: &[u8]) -> Result<i64, DecodeReason> {
    if number.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Err(DecodeReason::NotAnInteger);
    }
    text(number)
        .and_then(|text| text.parse().ok())
        .ok_or(DecodeReason::OutOfRange("int64"))
}

/// The double nearest to a JSON number.
///
/// # Errors
/// The number is larger than the largest double.
pub fn parse_float(number: &[u8]) -> Result<f64, DecodeReason> {
    text(number)
        .and_then(|text| text.parse().ok())
        .filter(|value: &f64| value.is_finite())
        .ok_or(DecodeReason::OutOfRange("float64"))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// The decimal of a JSON number, times `10^scale`.
///
/// Exponents are understood, and zeros at the end of the fraction do not count as digits.
///
/// # Errors
/// The number is not exactly representable with `precision` digits, `scale` of them behind the
/// point.
pub fn parse_decimal(number: &[u8], precision: u8, scale: i8) -> Result<i128, DecodeReason> {
    let parts = Parts::of(number).ok_or(DecodeReason::NotADecimal)?;
    let out_of_range = DecodeReason::OutOfRange("the decimal");
    let Some(digits) = parts.significant() else {
        return Ok(0);
    };
    let shift = digits.exponent.saturating_add(i64::from(scale));
    if shift < 0 {
        return Err(DecodeReason::TooManyFractionDigits { scale });
    }
    let shift = usize::try_from(shift).map_err(|_| out_of_range)?;
    if digits.count.saturating_add(shift) > usize::from(precision) {
        return Err(out_of_range);
    }
    let power = power_of_ten(shift).ok_or(out_of_range)?;
    let mantissa = digits
        .iter()
        .fold(0_i128, |value, digit| value * 10 + i128::from(digit));
    let value = mantissa.checked_mul(power).ok_or(out_of_range)?;
    Ok(if parts.negative { -value } else { value })
}

/// The millionths of a JSON number; what is below one is cut off, towards less. `None` if an `i64` does
/// not hold them.
pub(crate) fn parse_micros(number: &[u8]) -> Option<i64> {
    let parts = Parts::of(number)?;
    let Some(digits) = parts.significant() else {
        return Some(0);
    };
    let shift = digits.exponent.saturating_add(6);
    let kept = i64::try_from(digits.count)
        .ok()?
        .saturating_add(shift.min(0));
    let kept = usize::try_from(kept).unwrap_or(0);
    let power = power_of_ten(usize::try_from(shift.max(0)).ok()?)?;
    if kept > MAX_DIGITS {
        return None;
    }
    let mantissa = digits
        .iter()
        .take(kept)
        .fold(0_i128, |value, digit| value * 10 + i128::from(digit));
    let value = mantissa.checked_mul(power)?;
    // The last significant digit is not zero, so whatever is cut off is something.
    let is_cut = i128::from(shift < 0);
    i64::try_from(if parts.negative {
        -value - is_cut
    } else {
        value
    })
    .ok()
}

/// A number, cut at its point and exponent.
struct Parts<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    exponent: i64,
}

/// The digits of a number between its first and last digit that are not zero:
/// `digits × 10^exponent`.
struct Significant<'a> {
    integer: &'a [u8],
    fraction: &'a [u8],
    count: usize,
    exponent: i64,
}

impl<'a> Parts<'a> {
    fn of(number: &'a [u8]) -> Option<Self> {
        let (negative, number) = match number.split_first()? {
            (b'-', rest) => (true, rest),
            _ => (false, number),
        };
        let at = number.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (number, exponent) = match at {
            Some(at) => (number.get(..at)?, parse_exponent(number.get(at + 1..)?)?),
            None => (number, 0),
        };
        let (integer, fraction) = match number.iter().position(|&byte| byte == b'.') {
            Some(at) => (number.get(..at)?, number.get(at + 1..)?),
            None => (number, [].as_slice()),
        };
        let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
        (digits(integer) && digits(fraction) && !integer.is_empty()).then_some(Self {
            negative,
            integer,
            fraction,
            exponent,
        })
    }

    /// `None` if all digits are zero.
    fn significant(&self) -> Option<Significant<'a>> {
        let (mut integer, mut fraction) = (self.integer, self.fraction);
        let mut exponent = self.exponent;
        while let [rest @ .., b'0'] = fraction {
            fraction = rest;
        }
        exponent = exponent.saturating_sub(i64::try_from(fraction.len()).unwrap_or(i64::MAX));
        if fraction.is_empty() {
            while let [rest @ .., b'0'] = integer {
                integer = rest;
                exponent = exponent.saturating_add(1);
            }
        }
        while let [b'0', rest @ ..] = integer {
            integer = rest;
        }
        if integer.is_empty() {
            while let [b'0', rest @ ..] = fraction {
                fraction = rest;
            }
        }
        let count = integer.len() + fraction.len();
        (count > 0).then_some(Significant {
            integer,
            fraction,
            count,
            exponent,
        })
    }
}

impl Significant<'_> {
    fn iter(&self) -> impl Iterator<Item = u8> {
        self.integer
            .iter()
            .chain(self.fraction)
            .map(|byte| byte.wrapping_sub(b'0'))
    }
}

/// An exponent, or the largest `i64` of its sign if it is larger.
fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0_i64;
    for byte in digits {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        value = value.saturating_mul(10).saturating_add(i64::from(digit));
    }
    Some(if negative { -value } else { value })
}

/// Appends `value / 10^scale` as a plain number with `scale` digits behind the point.
pub fn write_decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = match u64::try_from(value.unsigned_abs()) {
        Ok(short) => buffer.format(short),
        Err(_) => buffer.format(value.unsigned_abs()),
    };
    if value < 0 {
        out.push(b'-');
    }
    let digits = digits.as_bytes();
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits);
        if value != 0 {
            out.resize(out.len() + usize::from(scale.unsigned_abs()), b'0');
        }
        return;
    };
    if let Some(whole) = digits.len().checked_sub(scale).filter(|whole| *whole > 0) {
        let (whole, fraction) = digits.split_at(whole);
        out.extend_from_slice(whole);
        if scale > 0 {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (scale - digits.len()), b'0');
        out.extend_from_slice(digits);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, DecodeReason> {
        parse_decimal(text.as_bytes(), precision, scale)
    }

    #[test]
    fn decimals_are_exact_whatever_way_they_are_written() {
        for (text, value) in [
            ("0", 0),
            ("-0.000000", 0),
            ("0e999999999999999999999", 0),
            ("19.99", 1999),
            ("-19.99", -1999),
            ("19.9900000", 1999),
            ("0.07", 7),
            ("7e-2", 7),
            ("0.0007E+2", 7),
            ("12e3", 1_200_000),
            ("1000000000000e-12", 100),
            ("9999999999.99", 999_999_999_999),
        ] {
            assert_eq!(decimal(text, 12, 2), Ok(value), "{text}");
        }
        let largest = "9".repeat(38);
        assert_eq!(decimal(&largest, 38, 0), Ok(power_of_ten(38).unwrap() - 1));
        assert_eq!(
            decimal(&format!("-0.{largest}"), 38, 38),
            Ok(1 - power_of_ten(38).unwrap())
        );
    }

    #[test]
    fn decimals_that_do_not_fit_are_refused() {
        for text in [
            "10000000000",
            "1e10",
            "1e99999999999999999999",
            "123456789012345678901",
        ] {
            assert_eq!(
                decimal(text, 12, 2),
                Err(DecodeReason::OutOfRange("the decimal"))
            );
        }
        for text in ["0.001", "1e-3", "19.999", "1e-99999999999999999999"] {
            let reason = DecodeReason::TooManyFractionDigits { scale: 2 };
            assert_eq!(decimal(text, 12, 2), Err(reason), "{text}");
        }
        for text in ["", "-", ".5", "e5", "1e", "1e+", "1x", "+1", "1.2.3"] {
            assert_eq!(
                decimal(text, 12, 2),
                Err(DecodeReason::NotADecimal),
                "{text}"
            );
        }
    }

    #[test]
    fn integers_at_the_edges_of_their_range_are_read() {
        assert_eq!(parse_integer(b"9223372036854775807"), Ok(i64::MAX));
        assert_eq!(parse_integer(b"-9223372036854775808"), Ok(i64::MIN));
        let out_of_range = Err(DecodeReason::OutOfRange("int64"));
        assert_eq!(parse_integer(b"9223372036854775808"), out_of_range);
        assert_eq!(parse_integer(b"1.0"), Err(DecodeReason::NotAnInteger));
        assert_eq!(parse_integer(b"1e2"), Err(DecodeReason::NotAnInteger));
    }

    #[test]
    fn decimals_are_written_as_plain_numbers() {
        for (value, scale, text) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (7, 2, "0.07"),
            (-7, 2, "-0.07"),
            (1999, 2, "19.99"),
            (-1999, 0, "-1999"),
            (1999, 4, "0.1999"),
            (12, -3, "12000"),
            (0, -3, "0"),
            (i128::MIN, 0, "-170141183460469231731687303715884105728"),
        ] {
            let mut out = Vec::new();
            write_decimal(value, scale, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    proptest! {
        #[test]
        fn a_decimal_is_read_back_as_written(
            value in -(POWERS[38] - 1)..POWERS[38],
            scale in 0_i8..=38,
        ) {
            let mut out = Vec::new();
            write_decimal(value, scale, &mut out);
            prop_assert_eq!(parse_decimal(&out, 38, scale), Ok(value));
        }

        #[test]
        fn the_parsers_agree_on_any_text(text in "-?[0-9][-+0-9.eE]{0,60}", scale in 0_i8..=38) {
            let number = text.as_bytes();
            let integer = parse_integer(number).is_ok();
            let exact = decimal(&text, 38, scale).is_ok();
            // Whatever is a decimal is a number; whatever is an integer of 19 digits fits 38.
            prop_assert!(!exact || parse_float(number).is_ok());
            prop_assert!(!integer || exact || scale > 19);
        }
    }
}
