//! Which types of columns are written to which types of the server.

use arrow_schema::{DataType, TimeUnit};
use millstream_types::schema::UTC;

/// How the values of a column are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int4,
    Int8,
    /// An `int32` as `bigint`.
    Int8OfInt32,
    Float8,
    Text,
    /// A text behind the version of `jsonb`'s format.
    Jsonb,
    /// The 16 bytes that a text stands for.
    Uuid,
    Bytea,
    Numeric,
    /// Microseconds since 2000-01-01T00:00:00Z.
    Timestamp,
    /// Days since 2000-01-01.
    Date,
}

/// The type of a table's column, as the catalogue has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerType {
    /// Its name in the catalogue; of a domain, that of the type below.
    pub(crate) name: String,
    /// Whether it is an enumeration.
    pub(crate) is_enum: bool,
    /// Precision, scale or length, as the catalogue has it; -1 for none.
    pub(crate) modifier: i32,
    /// As people write it.
    pub(crate) shown: String,
}

impl ServerType {
    /// Digits behind the point that a `numeric` keeps; none if it keeps all.
    fn scale(&self) -> Option<i32> {
        // Source: `numeric_typmod_scale` of PostgreSQL.
        (self.modifier >= 4).then(|| (((self.modifier - 4) & 0x7ff) ^ 1024) - 1024)
    }
}

/// How a column is written to a column of the table; none if it does not fit.
pub(crate) fn kind(ours: &DataType, theirs: &ServerType) -> Option<Kind> {
    let utc = || Some(UTC.into());
    Some(match (ours, theirs.name.as_str()) {
        (DataType::Boolean, "bool") => Kind::Bool,
        (DataType::Int32, "int4") => Kind::Int4,
        (DataType::Int32, "int8") => Kind::Int8OfInt32,
        (DataType::Int64, "int8") => Kind::Int8,
        (DataType::Float64, "float8") => Kind::Float8,
        (DataType::Utf8, "text" | "varchar" | "bpchar" | "json" | "citext") => Kind::Text,
        (DataType::Utf8, _) if theirs.is_enum => Kind::Text,
        (DataType::Utf8, "jsonb") => Kind::Jsonb,
        (DataType::Utf8, "uuid") => Kind::Uuid,
        (DataType::Binary, "bytea") => Kind::Bytea,
        (DataType::Decimal128(_, scale), "numeric")
            if theirs.scale().is_none_or(|kept| kept >= i32::from(*scale)) =>
        {
            Kind::Numeric
        }
        (ours, "timestamptz" | "timestamp")
            if *ours == DataType::Timestamp(TimeUnit::Microsecond, utc()) =>
        {
            Kind::Timestamp
        }
        (DataType::Date32, "date") => Kind::Date,
        _ => return None,
    })
}

/// The type of a column in a table that is made for it.
pub(crate) fn proposed(ours: &DataType) -> String {
    match ours {
        DataType::Boolean => "boolean".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Float64 => "double precision".to_owned(),
        DataType::Binary => "bytea".to_owned(),
        DataType::Decimal128(precision, scale) => format!("numeric({precision},{scale})"),
        DataType::Timestamp(_, _) => "timestamptz".to_owned(),
        DataType::Date32 => "date".to_owned(),
        _ => "text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_type(name: &str, modifier: i32) -> ServerType {
        ServerType {
            name: name.to_owned(),
            is_enum: false,
            modifier,
            shown: name.to_owned(),
        }
    }

    #[test]
    fn decimals_are_not_rounded() {
        // numeric(12,2), numeric(12,3), numeric(12,1), numeric.
        let modifier = |precision: i32, scale: i32| ((precision << 16) | scale) + 4;
        let ours = DataType::Decimal128(12, 2);
        for (scale, fits) in [(2, true), (3, true), (1, false)] {
            let theirs = server_type("numeric", modifier(12, scale));
            assert_eq!(kind(&ours, &theirs).is_some(), fits, "{scale}");
        }
        assert_eq!(
            kind(&ours, &server_type("numeric", -1)),
            Some(Kind::Numeric)
        );
    }

    #[test]
    fn nothing_is_narrowed() {
        for (ours, theirs) in [
            (DataType::Int64, "int4"),
            (DataType::Float64, "float4"),
            (DataType::Utf8, "int8"),
            (DataType::Int64, "text"),
        ] {
            assert_eq!(kind(&ours, &server_type(theirs, -1)), None, "{theirs}");
        }
    }
}
