//! A key as it is written on the command line.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray};
use arrow_cast::{CastOptions, cast_with_options};
use arrow_schema::FieldRef;
use millstream_types::schema::in_column_types;
use serde_json::Value;

/// Columns of one row: a JSON array has a value for each column; anything else is the text of the only
/// one.
///
/// # Errors
/// It has another number of values, or one is none of its column's type.
pub(super) fn parse(text: &str, columns: &[FieldRef]) -> Result<Vec<ArrayRef>, String> {
    let values = match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(values)) => values,
        _ => vec![Value::String(text.to_owned())],
    };
    let names: Vec<String> = columns
        .iter()
        .map(|column| format!("{} {}", column.name(), type_of(column)))
        .collect();
    if values.len() != columns.len() {
        return Err(format!(
            "--key gives {} of the {} columns of the key ({}): write a JSON array with a value for each, \
             as in --key '[\"a\",1]'",
            values.len(),
            columns.len(),
            names.join(", ")
        ));
    }
    let columns = values.iter().zip(columns);
    columns
        .map(|(value, column)| array(value, column))
        .collect()
}

fn array(value: &Value, column: &FieldRef) -> Result<ArrayRef, String> {
    let text = match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    };
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let texts = Arc::new(StringArray::from(vec![text])) as ArrayRef;
    cast_with_options(&texts, column.data_type(), &options).map_err(|error| {
        let (name, data_type) = (column.name(), type_of(column));
        let error = in_column_types(&error.to_string());
        format!("--key: {value} is no value of column `{name}` ({data_type}): {error}")
    })
}

/// Its type, as a job file writes it.
fn type_of(column: &FieldRef) -> String {
    in_column_types(&column.data_type().to_string())
}

#[cfg(test)]
mod tests {
    use arrow_array::Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::{Decimal128Type, Int64Type};
    use arrow_schema::{DataType, Field};

    use super::*;

    fn columns(types: &[DataType]) -> Vec<FieldRef> {
        let field = |(index, data_type): (usize, &DataType)| {
            Arc::new(Field::new(format!("k{index}"), data_type.clone(), true))
        };
        types.iter().enumerate().map(field).collect()
    }

    #[test]
    fn a_text_is_the_only_column_and_an_array_has_all() {
        let one = columns(&[DataType::Utf8]);
        for (text, expected) in [("a", "a"), ("7", "7"), ("\"a\"", "\"a\""), ("[\"a\"]", "a")] {
            let key = parse(text, &one).unwrap();
            assert_eq!(key[0].as_string::<i32>().value(0), expected);
        }
        assert!(parse("[null]", &one).unwrap()[0].is_null(0));
        let three = columns(&[
            DataType::Int64,
            DataType::Decimal128(10, 2),
            DataType::Boolean,
        ]);
        let key = parse("[7, 1.5, true]", &three).unwrap();
        assert_eq!(key[0].as_primitive::<Int64Type>().value(0), 7);
        assert_eq!(key[1].as_primitive::<Decimal128Type>().value(0), 150);
        assert!(key[2].as_boolean().value(0));
        assert_eq!(parse("[]", &[]).unwrap().len(), 0);
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_columns() {
        let two = columns(&[DataType::Utf8, DataType::Int64]);
        let refused = parse("a", &two).unwrap_err();
        for part in ["1 of the 2 columns", "k1 int64", "JSON array"] {
            assert!(refused.contains(part), "no `{part}` in: {refused}");
        }
        let refused = parse("[\"a\", \"b\"]", &two).unwrap_err();
        assert!(refused.contains("column `k1` (int64)"), "{refused}");
        assert!(!refused.contains("Int64"), "{refused}");
    }
}
