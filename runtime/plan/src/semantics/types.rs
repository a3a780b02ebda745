//! The types of expressions.

use std::fmt;

use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use datafusion_sql::sqlparser::ast::{DataType as SqlType, ExactNumberInfo, TimezoneInfo};
use millstream_types::schema::{ColumnType, UTC};

use super::decimal::MAX_DIGITS;
use super::{Meaning, Refusal, refuse};

/// Type of an expression: that of a column, or one that stands inside expressions only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// Of NULL alone.
    Null,
    Boolean,
    Int32,
    Int64,
    Float64,
    /// Digits, and how many of them are behind the point.
    Decimal(u8, i8),
    String,
    Bytes,
    /// An instant.
    Timestamp,
    /// What a calendar and a clock show somewhere: the result of AT TIME ZONE.
    Local,
    Date,
    /// Months, days and a time, each counted by itself.
    Interval,
    /// What lies between two times.
    Duration,
}

impl Type {
    pub(crate) fn of(data_type: &DataType) -> Meaning<Self> {
        Ok(match data_type {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Boolean,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::Float64 => Self::Float64,
            DataType::Decimal128(precision, scale) => Self::Decimal(*precision, *scale),
            DataType::Utf8 => Self::String,
            DataType::Binary => Self::Bytes,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::Timestamp,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Local,
            DataType::Date32 => Self::Date,
            DataType::Interval(IntervalUnit::MonthDayNano) => Self::Interval,
            DataType::Duration(TimeUnit::Microsecond) => Self::Duration,
            other => return refuse!("there is no type for {other}"),
        })
    }

    /// The name of a column's type.
    pub(crate) fn name_of(data_type: &DataType) -> String {
        Self::of(data_type).map_or_else(|_| data_type.to_string(), |known| known.to_string())
    }

    pub(crate) fn arrow(self) -> DataType {
        match self {
            Self::Null => DataType::Null,
            Self::Boolean => DataType::Boolean,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::String => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
            Self::Local => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Date => DataType::Date32,
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::Duration => DataType::Duration(TimeUnit::Microsecond),
        }
    }

    /// The type of a column that holds it.
    pub(crate) const fn column(self) -> Option<ColumnType> {
        Some(match self {
            Self::Null | Self::Interval | Self::Duration => return None,
            Self::Boolean => ColumnType::Boolean,
            Self::Int32 => ColumnType::Int32,
            Self::Int64 => ColumnType::Int64,
            Self::Float64 => ColumnType::Float64,
            Self::Decimal(precision, scale) => ColumnType::Decimal(precision, scale),
            Self::String => ColumnType::String,
            Self::Bytes => ColumnType::Bytes,
            Self::Timestamp | Self::Local => ColumnType::Timestamp,
            Self::Date => ColumnType::Date,
        })
    }

    pub(crate) const fn is_integer(self) -> bool {
        matches!(self, Self::Int32 | Self::Int64)
    }

    pub(crate) const fn is_decimal(self) -> bool {
        matches!(self, Self::Decimal(..))
    }

    /// An integer or a decimal.
    pub(crate) const fn is_exact(self) -> bool {
        self.is_integer() || self.is_decimal()
    }

    pub(crate) const fn is_number(self) -> bool {
        self.is_exact() || matches!(self, Self::Float64)
    }

    /// A point in time: an instant, a local time or a day.
    pub(crate) const fn is_time(self) -> bool {
        matches!(self, Self::Timestamp | Self::Local | Self::Date)
    }

    /// A length of time.
    pub(crate) const fn is_span(self) -> bool {
        matches!(self, Self::Interval | Self::Duration)
    }

    /// As in "this is an int64".
    pub(crate) fn with_article(self) -> String {
        let name = self.to_string();
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Bytes => name,
            Self::Int32 | Self::Int64 | Self::Interval => format!("an {name}"),
            _ => format!("a {name}"),
        }
    }

    /// Reads a type as CAST writes it.
    ///
    /// # Errors
    /// There is no such type.
    pub(crate) fn written(sql: &SqlType) -> Meaning<Self> {
        Ok(match sql {
            SqlType::Boolean | SqlType::Bool => Self::Boolean,
            SqlType::TinyInt(_)
            | SqlType::SmallInt(_)
            | SqlType::Int2(_)
            | SqlType::Int4(_)
            | SqlType::Int(_)
            | SqlType::Integer(_)
            | SqlType::Int32 => Self::Int32,
            SqlType::BigInt(_) | SqlType::Int8(_) | SqlType::Int64 => Self::Int64,
            SqlType::Float(_)
            | SqlType::Real
            | SqlType::Float4
            | SqlType::Float8
            | SqlType::Float64
            | SqlType::Double(_)
            | SqlType::DoublePrecision => Self::Float64,
            SqlType::Decimal(info) | SqlType::Numeric(info) | SqlType::Dec(info) => decimal(info)?,
            SqlType::Text
            | SqlType::String(None)
            | SqlType::Varchar(None)
            | SqlType::CharVarying(None)
            | SqlType::CharacterVarying(None) => Self::String,
            SqlType::Varchar(Some(_))
            | SqlType::Char(_)
            | SqlType::Character(_)
            | SqlType::CharVarying(Some(_))
            | SqlType::CharacterVarying(Some(_))
            | SqlType::String(Some(_)) => {
                return Err(Refusal::new(
                    "strings have no greatest length: write string, and left(…, n) to cut",
                ));
            }
            SqlType::Bytea
            | SqlType::Bytes(_)
            | SqlType::Blob(_)
            | SqlType::Binary(_)
            | SqlType::Varbinary(_) => Self::Bytes,
            SqlType::Timestamp(None | Some(6), TimezoneInfo::WithoutTimeZone) => Self::Local,
            SqlType::Timestamp(None | Some(6), _)
            | SqlType::TimestampNtz(_)
            | SqlType::Datetime(_) => Self::Timestamp,
            SqlType::Timestamp(Some(_), _) => {
                return Err(Refusal::new(
                    "a timestamp has microseconds: write timestamp, and date_trunc to cut",
                ));
            }
            SqlType::Date => Self::Date,
            SqlType::Interval { fields: None, .. } => Self::Interval,
            SqlType::Custom(name, modifiers) if modifiers.is_empty() => {
                match name.to_string().to_ascii_lowercase().as_str() {
                    "string" => Self::String,
                    "bytes" => Self::Bytes,
                    other => return Err(no_type(other)),
                }
            }
            other => return Err(no_type(&other.to_string().to_ascii_lowercase())),
        })
    }
}

fn no_type(name: &str) -> Refusal {
    Refusal::new(format!("there is no type `{name}`"))
        .with_help(format!("use {}", millstream_types::schema::ALLOWED))
}

fn decimal(info: &ExactNumberInfo) -> Meaning<Type> {
    let (precision, scale) = match info {
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::None => {
            return Err(Refusal::new(
                "a decimal needs its precision and scale: write decimal(p,s), such as \
                 decimal(12,2)",
            ));
        }
    };
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision @ 1..=MAX_DIGITS), Ok(scale @ 0..))
            if i16::from(scale) <= i16::from(precision) =>
        {
            Ok(Type::Decimal(precision, scale))
        }
        _ => refuse!(
            "there is no decimal({precision},{scale}): its precision is 1 to 38, and its scale 0 \
             to its precision"
        ),
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Local => f.write_str("local time"),
            Self::Interval => f.write_str("interval"),
            Self::Duration => f.write_str("difference of times"),
            other => match other.column() {
                Some(column) => column.fmt(f),
                None => Ok(()),
            },
        }
    }
}
