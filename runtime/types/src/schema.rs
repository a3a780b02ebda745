//! Names and types of the columns of a stream.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use schemars::{JsonSchema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Type of a column as a user writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `boolean`
    Boolean,
    /// `int32`: 32-bit signed integer.
    Int32,
    /// `int64`: 64-bit signed integer.
    Int64,
    /// `float64`: IEEE 754 double.
    Float64,
    /// `string`: UTF-8 text.
    String,
    /// `bytes`: any bytes; base64 in JSON.
    Bytes,
    /// `decimal(precision,scale)`: exact number of up to 38 digits, `scale` of them after the
    /// point.
    Decimal(u8, i8),
    /// `timestamp`: instant in microseconds, UTC; RFC 3339 text or epoch milliseconds in JSON.
    Timestamp,
    /// `date`: day of the proleptic Gregorian calendar; `YYYY-MM-DD` in JSON.
    Date,
}

/// Time zone that Arrow timestamps of a stream carry.
pub const UTC: &str = "+00:00";

/// Why a text is not a column type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a column type: use {ALLOWED}")]
pub struct ParseColumnTypeError {
    text: String,
}

/// The column types, for messages.
pub const ALLOWED: &str = "boolean, int32, int64, float64, string, bytes, decimal(p,s) with 1 <= p <= 38 and 0 <= s <= p, timestamp or date";

impl FromStr for ColumnType {
    type Err = ParseColumnTypeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "boolean" => Self::Boolean,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "float64" => Self::Float64,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "timestamp" => Self::Timestamp,
            "date" => Self::Date,
            _ => {
                return parse_decimal(text).ok_or_else(|| ParseColumnTypeError {
                    text: text.to_owned(),
                });
            }
        })
    }
}

fn parse_decimal(text: &str) -> Option<ColumnType> {
    let inside = text.strip_prefix("decimal(")?.strip_suffix(')')?;
    let (precision, scale) = inside.split_once(',')?;
    let precision: u8 = precision.trim().parse().ok()?;
    let scale: u8 = scale.trim().parse().ok()?;
    let valid = (1..=38).contains(&precision) && scale <= precision;
    valid.then(|| {
        i8::try_from(scale)
            .ok()
            .map(|scale| ColumnType::Decimal(precision, scale))
    })?
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::Float64 => f.write_str("float64"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Date => f.write_str("date"),
        }
    }
}

impl ColumnType {
    /// The Arrow type that holds it.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::String => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Self::Date => DataType::Date32,
        }
    }
}

impl Serialize for ColumnType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ColumnType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for ColumnType {
    fn schema_name() -> Cow<'static, str> {
        "ColumnType".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        json_schema!({
            "type": "string",
            "maxLength": 32,
            "pattern": r"^(boolean|int32|int64|float64|string|bytes|timestamp|date|decimal\([0-9]{1,2}, *[0-9]{1,2}\))$",
        })
    }
}

/// How a timestamp is written in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TimestampFormat {
    /// Text with a time zone, `2026-11-24T18:40:00.125Z`; written in UTC.
    Rfc3339,
    /// Text without a time zone, `2026-11-24 18:40:00.125`, in `timeZone`. A zone behind it counts,
    /// and a `T` in its middle is understood.
    Sql,
    /// Milliseconds since 1970-01-01T00:00:00Z, a whole number.
    EpochMillis,
    /// Seconds since 1970-01-01T00:00:00Z, a number; written as a whole one.
    EpochSeconds,
}

/// One column of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(
    clippy::struct_field_names,
    reason = "`type` is a keyword, and `data_type` is Arrow's"
)]
pub struct Column {
    /// Name of the column, as SQL and the record's format spell it.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// Type: `boolean`, `int32`, `int64`, `float64`, `string`, `bytes`, `decimal(p,s)`,
    /// `timestamp` or `date`.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Whether the column may be missing or null in a record. A record without a column that may
    /// not be null is a corrupt record. Default: true.
    #[serde(default = "default_true")]
    pub nullable: bool,
    /// Whether a column of type `string` holds any JSON value as its text, be it an object, an
    /// array, a number or a string in its quotes. Default: false.
    #[serde(default, skip_serializing_if = "is_false")]
    pub json: bool,
    /// How a column of type `timestamp` is written. Default: what the source's format says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_format: Option<TimestampFormat>,
}

impl Column {
    /// A column whose values are written as its type says.
    pub fn new(name: impl Into<String>, column_type: ColumnType, nullable: bool) -> Self {
        Self {
            name: name.into(),
            column_type,
            nullable,
            json: false,
            timestamp_format: None,
        }
    }
}

const fn default_true() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The Arrow schema of columns.
pub fn arrow_schema(columns: &[Column]) -> SchemaRef {
    let fields: Vec<Field> = columns
        .iter()
        .map(|column| Field::new(&column.name, column.column_type.arrow(), column.nullable))
        .collect();
    Arc::new(ArrowSchema::new(fields))
}

/// Columns of a source's dead-letter output (`<source>.deadLetters`): the record as it came, where
/// it came from, and why it could not be decoded. The payload is null for a record without a value.
pub fn dead_letter_schema() -> SchemaRef {
    arrow_schema(&[
        Column::new("payload", ColumnType::Bytes, true),
        Column::new("topic", ColumnType::String, false),
        Column::new("partition", ColumnType::Int32, false),
        Column::new("offset", ColumnType::Int64, false),
        Column::new("reason", ColumnType::String, false),
    ])
}

/// Writes the Arrow types in a text, such as an expression or an error's message, as a job file
/// writes them.
pub fn in_column_types(text: &str) -> String {
    const TYPES: [(&str, &str); 13] = [
        ("Timestamp(µs, \"+00:00\")", "timestamp"),
        ("LargeUtf8", "string"),
        ("Utf8View", "string"),
        ("Utf8", "string"),
        ("Int64", "int64"),
        ("Int32", "int32"),
        ("Float64", "float64"),
        ("Boolean", "boolean"),
        ("BinaryView", "bytes"),
        ("Binary", "bytes"),
        ("Date32", "date"),
        ("Decimal128", "decimal"),
        ("Decimal256", "decimal"),
    ];
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut rest = text;
    let mut out = String::with_capacity(text.len());
    while let Some(c) = rest.chars().next() {
        let begins = !out.ends_with(is_word);
        let found = TYPES.iter().find_map(|(theirs, ours)| {
            let after = rest.strip_prefix(theirs)?;
            (begins && !after.starts_with(is_word)).then_some((*ours, after))
        });
        if let Some((ours, after)) = found {
            out.push_str(ours);
            rest = after;
            if let Some((digits, after)) = decimal_digits(rest).filter(|_| ours == "decimal") {
                out.push_str(&digits);
                rest = after;
            }
        } else {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

/// `(20, 0)` without the space, and what follows it.
fn decimal_digits(text: &str) -> Option<(String, &str)> {
    let (digits, after) = text.strip_prefix('(')?.split_once(')')?;
    Some((format!("({})", digits.replace(' ', "")), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_read_back_as_written() {
        for text in [
            "boolean",
            "int32",
            "int64",
            "float64",
            "string",
            "bytes",
            "decimal(12,2)",
            "timestamp",
            "date",
        ] {
            assert_eq!(text.parse::<ColumnType>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn impossible_decimals_are_refused() {
        for text in [
            "decimal",
            "decimal()",
            "decimal(0,0)",
            "decimal(39,0)",
            "decimal(4,5)",
        ] {
            assert!(text.parse::<ColumnType>().is_err(), "{text}");
        }
    }

    #[test]
    fn arrow_types_in_a_text_are_written_as_in_a_job_file() {
        assert_eq!(
            in_column_types("CAST(Int64s AS Decimal128(20, 0)) of Utf8, Timestamp(µs, \"+00:00\")"),
            "CAST(Int64s AS decimal(20,0)) of string, timestamp"
        );
        for column_type in [
            ColumnType::Int32,
            ColumnType::Float64,
            ColumnType::Decimal(12, 2),
        ] {
            let arrow = column_type.arrow().to_string();
            assert_eq!(in_column_types(&arrow), column_type.to_string());
        }
    }
}
