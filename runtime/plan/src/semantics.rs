//! What SQL means here.
//!
//! Everything that gives an expression its type and its value is decided in this module: which
//! types meet and what becomes of them ([`coerce`], [`decimal`]), how values are compared
//! ([`compare`]), computed ([`arithmetic`]), converted ([`cast`]) and matched ([`patterns`]), what
//! a point in time is ([`calendar`]) and a span of it ([`interval`]). DataFusion's physical
//! expressions carry the evaluation where they mean the same; nothing of its coercion, its
//! simplification and its functions is used.
//!
//! The rules, in short; docs/sql.md has them in full:
//! - exact beside approximate is approximate: a decimal or an integer that meets a `float64` is one;
//! - a decimal never has more than 38 digits: what would have more loses digits of its fraction,
//!   rounded half away from zero, and fails where that is not enough; comparisons never fail;
//! - NaN equals NaN and is greater than every other number, and `-0.0` equals `0.0`;
//! - what is unknown stays unknown: NULL follows three-valued logic everywhere;
//! - a time lies in the years 0000 to 9999, in every function, or the function fails;
//! - an expression without columns is computed when the job is read.

pub(crate) mod arithmetic;
pub(crate) mod calendar;
pub(crate) mod call;
pub(crate) mod cast;
pub(crate) mod coerce;
pub(crate) mod compare;
pub(crate) mod decimal;
pub(crate) mod interval;
pub(crate) mod logic;
pub(crate) mod parse;
pub(crate) mod patterns;
pub(crate) mod typed;
pub(crate) mod types;
pub(crate) mod zone;

use datafusion_common::DataFusionError;

/// Why an expression has no meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) help: Option<String>,
}

impl Refusal {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl From<DataFusionError> for Refusal {
    fn from(error: DataFusionError) -> Self {
        Self::new(reason(&error))
    }
}

/// What an error of evaluation says, without the words of its layers.
pub(crate) fn reason(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::ArrowError(error, _) => error.to_string(),
        other => other.message().into_owned(),
    };
    let text = millstream_types::schema::in_column_types(&text);
    // Arrow names the kind of its error first, such as "Arithmetic overflow".
    let lower = |text: &str| {
        let mut letters = text.chars();
        letters.next().map_or_else(String::new, |first| {
            format!("{}{}", first.to_lowercase(), letters.as_str())
        })
    };
    match text.split_once(": Overflow happened on: ") {
        Some((_, operation)) => format!("the result of {operation} does not fit"),
        None if text == "Divide by zero error" => "division by zero".to_owned(),
        None => lower(&text),
    }
}

/// Anything to do with the meaning of an expression.
pub(crate) type Meaning<T> = Result<T, Refusal>;

/// A [`Refusal`] with a message.
macro_rules! refuse {
    ($($argument:tt)*) => {
        Err($crate::semantics::Refusal::new(format!($($argument)*)))
    };
}

/// A failure of evaluation with a message.
macro_rules! fail {
    ($($argument:tt)*) => {
        Err(datafusion_common::DataFusionError::Execution(format!($($argument)*)))
    };
}

pub(crate) use {fail, refuse};
