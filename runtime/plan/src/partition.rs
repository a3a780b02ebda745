//! What a node with several inputs, or with `partitionBy`, needs of their columns.

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use millstream_spec::valid::Input;
use millstream_types::ErrorCode;

use crate::error::{Fault, nearest};
use crate::semantics::types::Type;
use crate::sql::input::plain;

/// Columns of `partitionBy` that an input does not have, or of another type than the first one.
/// `at` names a place in the node.
pub(crate) fn faults(
    at: impl Fn(&str) -> String,
    columns: &[String],
    inputs: &[Input],
    schemas: &[SchemaRef],
) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let mut first: Option<(&Input, &Field)> = None;
        for (input, schema) in inputs.iter().zip(schemas) {
            let Ok(field) = schema.field_with_name(column) else {
                let (message, help) = missing(column, input, schema);
                let subject = at(&format!("partitionBy[{index}]"));
                faults.push(fault(subject, message, help));
                continue;
            };
            let (before, same) = *first.get_or_insert((input, field));
            if same.data_type() != field.data_type() {
                let message = format!(
                    "`{column}` is of type {} in `{}` and of type {} in `{}`: equal values would \
                     go to different subtasks",
                    Type::name_of(same.data_type()),
                    plain(before),
                    Type::name_of(field.data_type()),
                    plain(input)
                );
                let help = "convert one of them with CAST in a transform before".to_owned();
                faults.push(fault(at(&format!("partitionBy[{index}]")), message, help));
            }
        }
    }
    faults
}

fn missing(column: &str, input: &Input, schema: &Schema) -> (String, String) {
    let names = || schema.fields().iter().map(|field| field.name().as_str());
    let message = format!("the input `{}` has no column `{column}`", plain(input));
    let help = nearest(column, names()).map_or_else(
        || {
            let names: Vec<&str> = names().collect();
            format!("it has the columns {}", names.join(", "))
        },
        |name| format!("did you mean `{name}`?"),
    );
    (message, help)
}

/// The columns that several inputs have in common; one may be null if it may be so in any of them.
///
/// # Errors
/// They have other columns. The fault's subject is left to the caller.
pub(crate) fn same_columns(inputs: &[Input], schemas: &[SchemaRef]) -> Result<SchemaRef, Fault> {
    let Some((first, others)) = schemas.split_first() else {
        return Ok(Arc::new(Schema::empty()));
    };
    let mut fields: Vec<Field> = first
        .fields()
        .iter()
        .map(|it| it.as_ref().clone())
        .collect();
    let names = inputs.iter().skip(1).map(plain);
    for (name, schema) in names.zip(others) {
        let own = schema.fields().iter();
        let same =
            |(a, b): (&Field, &Arc<Field>)| a.name() == b.name() && a.data_type() == b.data_type();
        if fields.len() != own.len() || !fields.iter().zip(own.clone()).all(same) {
            let message = format!(
                "`{name}` has the columns {}, and `{}` has {}: a sink writes records of one kind",
                listed(schema),
                inputs.first().map(plain).unwrap_or_default(),
                listed(first)
            );
            let help = "bring them together in a transform with UNION ALL".to_owned();
            return Err(fault(String::new(), message, help));
        }
        for (field, other) in fields.iter_mut().zip(own) {
            field.set_nullable(field.is_nullable() || other.is_nullable());
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn listed(schema: &Schema) -> String {
    let fields = schema.fields().iter();
    let columns: Vec<String> = fields
        .map(|field| format!("{} {}", field.name(), Type::name_of(field.data_type())))
        .collect();
    columns.join(", ")
}

const fn fault(subject: String, message: String, help: String) -> Fault {
    Fault {
        code: ErrorCode::InvalidJob,
        subject,
        place: None,
        message,
        help: Some(help),
    }
}
