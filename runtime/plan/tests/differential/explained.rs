//! Why a result may be another one than PostgreSQL's.

use crate::alike::FAILED;
use crate::ours::Outcome;
use crate::templates::{Template, Why};

/// The reasons, in words for docs/sql.md.
pub(crate) const REASONS: &[(Why, &str)] = &[
    (
        Why::Ieee,
        "Arithmetic and functions of `float64` follow IEEE 754: they give infinities, zero and NaN \
         where PostgreSQL fails (`1e300 * 1e300`, `1e0 / 0`, `ln(0)`, `sqrt(-1)`). The sign of NaN is NaN.",
    ),
    (
        Why::Digits,
        "A decimal has at most 38 digits, and a quotient the scale of its rule; PostgreSQL's \
         `numeric` has as many digits as it needs.",
    ),
    (
        Why::HalfAway,
        "`round` of a `float64` is half away from zero; PostgreSQL rounds it half to even.",
    ),
    (
        Why::Cut,
        "`CAST` to an integer cuts a fraction off; PostgreSQL rounds.",
    ),
    (
        Why::Whole,
        "`EXTRACT` gives whole seconds and their parts as integers, and of a difference of times all \
         of it in one unit; PostgreSQL gives seconds with a fraction, and of a difference what is left \
         beside greater units.",
    ),
    (
        Why::Years,
        "A time lies in the years 0000 to 9999; PostgreSQL goes further.",
    ),
    (
        Why::Locale,
        "Upper and lower case are those of Unicode; PostgreSQL was asked in its locale `C`, which \
         knows ASCII.",
    ),
    (
        Why::Width,
        "A whole constant is an `int64`, and so is `lcm` of integers: `small + 1` does not overflow \
         where PostgreSQL's `integer` does.",
    ),
    (
        Why::Finite,
        "A decimal is a number: it cannot be NaN or infinite.",
    ),
];

/// The reason of a difference, by its place in the list.
pub(crate) fn reason(template: &Template, ours: &Outcome, theirs: Option<&str>) -> Option<usize> {
    let why = general(ours, theirs).or(template.why)?;
    REASONS.iter().position(|(known, _)| *known == why)
}

/// Reasons that show in the results themselves.
fn general(ours: &Outcome, theirs: Option<&str>) -> Option<Why> {
    let failed = theirs.and_then(|theirs| theirs.strip_prefix(FAILED));
    match (ours, failed) {
        (Outcome::Value(arrow_schema::DataType::Float64, _), Some(message)) => {
            let of_floats = [
                "overflow",
                "underflow",
                "out of range",
                "division by zero",
                "logarithm",
                "square root",
                "power",
                "undefined",
                "complex",
            ];
            of_floats
                .iter()
                .any(|words| message.contains(words))
                .then_some(Why::Ieee)
        }
        (Outcome::Failed(message), None) if message.contains("38 digits") => Some(Why::Digits),
        (Outcome::Failed(message), None) if message.contains("years 0000 to 9999") => {
            Some(Why::Years)
        }
        (Outcome::Value(..), Some("integer out of range")) => Some(Why::Width),
        (Outcome::Failed(message), None) if message.contains("does not fit decimal") => theirs
            .is_some_and(|theirs| theirs.contains(['N', 'I']))
            .then_some(Why::Finite),
        _ => None,
    }
}
