//! The types of SQL and the types of columns.

use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, TimeUnit};
use datafusion_common::{Result, plan_err};
use datafusion_expr::planner::TypePlanner;
use datafusion_sql::sqlparser::ast::{DataType as SqlType, ExactNumberInfo};
use millstream_types::schema::ColumnType;

/// Reads the type names of `CAST` as the types of columns.
#[derive(Debug)]
pub(crate) struct ColumnTypes;

impl TypePlanner for ColumnTypes {
    fn plan_type_field(&self, sql_type: &SqlType) -> Result<Option<FieldRef>> {
        let column_type = match sql_type {
            SqlType::Timestamp(..) | SqlType::TimestampNtz(_) | SqlType::Datetime(_) => {
                ColumnType::Timestamp
            }
            SqlType::Float(_) | SqlType::Real | SqlType::Float4 | SqlType::Float64 => {
                ColumnType::Float64
            }
            SqlType::TinyInt(_) | SqlType::SmallInt(_) | SqlType::Int2(_) | SqlType::Int32 => {
                ColumnType::Int32
            }
            SqlType::Int64 => ColumnType::Int64,
            SqlType::Bytea
            | SqlType::Bytes(_)
            | SqlType::Blob(_)
            | SqlType::Binary(_)
            | SqlType::Varbinary(_) => ColumnType::Bytes,
            SqlType::Varchar(Some(_))
            | SqlType::Char(Some(_))
            | SqlType::CharVarying(Some(_))
            | SqlType::Character(Some(_))
            | SqlType::CharacterVarying(Some(_))
            | SqlType::String(Some(_)) => {
                return plan_err!(
                    "strings have no greatest length: write string, and left(…, n) to cut"
                );
            }
            SqlType::Custom(name, _) => match name.to_string().to_ascii_lowercase().as_str() {
                "string" => ColumnType::String,
                "bytes" => ColumnType::Bytes,
                other => return plan_err!("there is no type `{other}`"),
            },
            SqlType::Decimal(ExactNumberInfo::None)
            | SqlType::Numeric(ExactNumberInfo::None)
            | SqlType::Dec(ExactNumberInfo::None) => {
                return plan_err!(
                    "a decimal needs its precision and scale: write decimal(p,s), such as decimal(12,2)"
                );
            }
            _ => return Ok(None),
        };
        Ok(Some(Arc::new(Field::new("", column_type.arrow(), true))))
    }
}

/// The column type that holds every value of `computed`, or the nearest; `None` if there is none.
pub(crate) fn output_type(computed: &DataType) -> Option<DataType> {
    let column_type = match computed {
        DataType::Boolean => ColumnType::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => {
            ColumnType::Int32
        }
        DataType::UInt32 | DataType::Int64 | DataType::UInt64 => ColumnType::Int64,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ColumnType::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ColumnType::String,
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => ColumnType::Bytes,
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => decimal(*precision, *scale)?,
        DataType::Timestamp(..) | DataType::Date64 => ColumnType::Timestamp,
        DataType::Date32 => ColumnType::Date,
        DataType::Dictionary(_, values) => return output_type(values),
        _ => return None,
    };
    Some(column_type.arrow())
}

fn decimal(precision: u8, scale: i8) -> Option<ColumnType> {
    let scale = scale.max(0);
    let scale_digits = u8::try_from(scale).ok()?;
    (scale_digits <= 38)
        .then(|| ColumnType::Decimal(precision.clamp(scale_digits.max(1), 38), scale))
}

/// The name of a type as a job file writes it, where it has one.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "bytes".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => "timestamp".to_owned(),
        DataType::Timestamp(..) => "timestamp of another unit or zone".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Null => "null".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}
