//! What can be wrong with a record, a row or a schema.

use std::fmt;

use arrow_schema::DataType;

/// Longest field name that an error repeats, bytes.
const MAX_FIELD_BYTES: usize = 128;

/// Why a record cannot be decoded, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (byte {offset}{})", InField(.field.as_deref()))]
pub struct DecodeError {
    /// Position in the record, bytes from 0.
    pub offset: usize,
    /// The field it is about, where there is one.
    pub field: Option<String>,
    /// What is wrong.
    pub reason: DecodeReason,
}

struct InField<'a>(Option<&'a str>);

impl fmt::Display for InField<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(field) => write!(f, ", field `{field}`"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeReason {
    /// The record has no byte that is not whitespace.
    #[error("the record is empty")]
    Empty,
    /// The bytes are not UTF-8.
    #[error("invalid UTF-8")]
    NotUtf8,
    /// The record ends too early.
    #[error("the record ends where {0} is expected")]
    UnexpectedEnd(&'static str),
    /// Another byte stands where this is expected.
    #[error("expected {0}")]
    Expected(&'static str),
    /// The record is JSON, but not an object.
    #[error("the record is not a JSON object")]
    NotAnObject,
    /// Something follows the object.
    #[error("something follows the end of the object")]
    TrailingBytes,
    /// More than 64 objects and arrays in one another.
    #[error("more than 64 levels of objects and arrays")]
    TooDeep,
    /// A control character stands in a string without an escape.
    #[error("a control character in a string must be escaped")]
    ControlCharacter,
    /// An escape that JSON does not have.
    #[error("invalid escape in a string")]
    BadEscape,
    /// A `\u` escape is one half of a surrogate pair without the other.
    #[error("lone surrogate in a `\\u` escape")]
    LoneSurrogate,
    /// The value has another type than the column.
    #[error("{found} where the column wants {wanted}")]
    WrongType {
        /// What the record has.
        found: &'static str,
        /// What the column wants.
        wanted: &'static str,
    },
    /// A number with a fraction or exponent for an integer column.
    #[error("a number with a fraction or exponent where the column wants an integer")]
    NotAnInteger,
    /// The value does not fit into the column's type.
    #[error("the value is out of the range of {0}")]
    OutOfRange(&'static str),
    /// More fraction digits than the column's scale, not all of them zero.
    #[error("more than {scale} fraction digits")]
    TooManyFractionDigits {
        /// The column's scale.
        scale: i8,
    },
    /// A text for a decimal column is not a number.
    #[error("the text is not a decimal number")]
    NotADecimal,
    /// A text for a bytes column is not base64.
    #[error("the text is not base64 with padding")]
    NotBase64,
    /// A text for a timestamp column is not RFC 3339.
    #[error(
        "the text is not an RFC 3339 timestamp with a time zone; `timestampFormat` of the format or \
         the column says how else it is written"
    )]
    NotATimestamp,
    /// A text for a timestamp column is not one of SQL.
    #[error("the text is not a timestamp `YYYY-MM-DD hh:mm:ss`")]
    NotASqlTimestamp,
    /// A text for a date column is not a date.
    #[error("the text is not a date `YYYY-MM-DD`")]
    NotADate,
    /// The record lacks a column that may not be null.
    #[error("missing, and the column may not be null")]
    Missing,
    /// The record has null for a column that may not be null.
    #[error("null, and the column may not be null")]
    Null,
    /// The rows of one batch hold more than 2 GiB of text in one column.
    #[error("the batch holds more than 2 GiB in one column")]
    BatchTooLarge,
}

/// A reason and its place, before the field's name is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) reason: DecodeReason,
}

impl Fault {
    pub(crate) const fn new(offset: usize, reason: DecodeReason) -> Self {
        Self { offset, reason }
    }

    /// Adds the name of the field.
    #[cold]
    pub(crate) fn in_field(self, field: Option<&[u8]>) -> DecodeError {
        DecodeError {
            offset: self.offset,
            field: field.map(|name| {
                let shown = name.get(..MAX_FIELD_BYTES).unwrap_or(name);
                String::from_utf8_lossy(shown).into_owned()
            }),
            reason: self.reason,
        }
    }
}

/// A column has a type that the format cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column `{column}` has the type {data_type}, which {format} cannot hold")]
pub struct UnsupportedColumn {
    /// The column.
    pub column: String,
    /// Its type.
    pub data_type: DataType,
    /// The format, and what it can hold.
    pub format: &'static str,
}

/// Why a batch cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The batch has other columns than the encoder was made for.
    #[error("the batch has other columns than the encoder was made for: {0}")]
    OtherSchema(String),
    /// A value has no representation in the format.
    #[error("row {row} of column `{column}`: {reason}")]
    Value {
        /// Row of the batch, from 0.
        row: usize,
        /// The column.
        column: String,
        /// What is wrong.
        reason: &'static str,
    },
}
