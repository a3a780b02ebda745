//! Functions that read JSON texts: `json_get_str(payload, 'customer', 'id')`, `payload ->> 'id'`.
//!
//! Text that is not JSON has no value anywhere, and neither has a path that leads nowhere or to a
//! value of another kind: all of these are NULL.

mod seek;

use std::sync::Arc;

use arrow_array::builder::{BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::cast::AsArray as _;
use arrow_array::{Array as _, ArrayRef, StringArray};

use super::Function;
use crate::semantics::call::{Arguments, Kernel};
use crate::semantics::coerce::convert;
use crate::semantics::typed::Typed;
use crate::semantics::types::Type;
use crate::semantics::{Meaning, fail, refuse};

use seek::{Step, seek};

const MANY: usize = usize::MAX;

/// What a function makes of the value that it finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A string's content.
    Str,
    /// A number without fraction or exponent that fits 64 bits.
    Int,
    /// A number.
    Float,
    /// A truth value.
    Bool,
    /// Any value as JSON text.
    Json,
    /// A string's content, any other value but null as JSON text.
    Text,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Str => "json_get_str",
            Self::Int => "json_get_int",
            Self::Float => "json_get_float",
            Self::Bool => "json_get_bool",
            Self::Json => "json_get_json",
            Self::Text => "json_as_text",
        }
    }

    const fn data_type(self) -> Type {
        match self {
            Self::Str | Self::Json | Self::Text => Type::String,
            Self::Int => Type::Int64,
            Self::Float => Type::Float64,
            Self::Bool => Type::Boolean,
        }
    }
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        &["json_get_str"],
        "json_get_str(text, path…): the content of a string",
        (1, MANY),
        |_, arguments| call(Kind::Str, arguments),
        &["json_get_str('{\"a\":[\"b\"]}', 'a', 0)"],
    ),
    Function::new(
        &["json_get_int"],
        "json_get_int(text, path…): a number without fraction or exponent, if it fits int64",
        (1, MANY),
        |_, arguments| call(Kind::Int, arguments),
        &["json_get_int('{\"a\":1.5}', 'a')"],
    ),
    Function::new(
        &["json_get_float"],
        "json_get_float(text, path…): a number, as float64",
        (1, MANY),
        |_, arguments| call(Kind::Float, arguments),
        &["json_get_float('[1.5]', 0)"],
    ),
    Function::new(
        &["json_get_bool"],
        "json_get_bool(text, path…): a boolean",
        (1, MANY),
        |_, arguments| call(Kind::Bool, arguments),
        &["json_get_bool('[true]', 0)"],
    ),
    Function::new(
        &["json_get_json"],
        "json_get_json(text, path…), text -> step: any value, as JSON text",
        (1, MANY),
        |_, arguments| call(Kind::Json, arguments),
        &["'{\"a\":{\"b\":1}}' -> 'a'"],
    ),
    Function::new(
        &["json_as_text"],
        "json_as_text(text, path…), text ->> step: the content of a string, any other value but \
         null as JSON text",
        (1, MANY),
        |_, arguments| call(Kind::Text, arguments),
        &["'{\"a\":null}' ->> 'a'", "'not JSON' ->> 'a'"],
    ),
];

/// A function over a text and the path into it.
///
/// # Errors
/// It is no text, or the path is not written out.
pub(crate) fn call(kind: Kind, arguments: Vec<Typed>) -> Meaning<Typed> {
    let name = kind.name();
    let mut arguments = arguments.into_iter();
    let Some(text) = arguments.next() else {
        return refuse!("`{name}` needs a column with JSON text, and a path into it");
    };
    let text = match text.data_type {
        Type::String => text,
        Type::Null => convert(text, Type::String)?,
        other => {
            return refuse!(
                "`{name}` reads JSON text, but this is {}",
                other.with_article()
            );
        }
    };
    let mut path = Vec::new();
    for step in arguments {
        if !matches!(step.data_type, Type::String | Type::Int32 | Type::Int64) {
            let given = step.data_type.with_article();
            return refuse!(
                "a path has keys (strings) and positions (integers), but this is {given}"
            );
        }
        match step.value() {
            Some(step) => path.push(Step::of(step)?),
            None => return refuse!("the path into a JSON text must be written out"),
        }
    }
    let label = format!("{name} {path:?}");
    let kernel: Kernel = Arc::new(move |arguments: &Arguments| {
        let texts = arguments.array(0)?;
        match texts.as_string_opt::<i32>() {
            Some(texts) => Ok(kind.of_all(texts, &path)),
            None => fail!("{} is not JSON text", texts.data_type()),
        }
    });
    Typed::call_nullable(label, kernel, (kind.data_type(), true), &[&text])
}

impl Kind {
    fn of_all(self, texts: &StringArray, path: &[Step]) -> ArrayRef {
        let rows = texts.len();
        let found = texts.iter().map(|text| seek(text?, path));
        match self {
            Self::Str => {
                let mut column = StringBuilder::with_capacity(rows, 16 * rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::string)));
                Arc::new(column.finish())
            }
            Self::Int => {
                let mut column = Int64Builder::with_capacity(rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::integer)));
                Arc::new(column.finish())
            }
            Self::Float => {
                let mut column = Float64Builder::with_capacity(rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::number)));
                Arc::new(column.finish())
            }
            Self::Bool => {
                let mut column = BooleanBuilder::with_capacity(rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::boolean)));
                Arc::new(column.finish())
            }
            Self::Json => {
                let mut column = StringBuilder::with_capacity(rows, 16 * rows);
                found.for_each(|value| column.append_option(value.map(seek::Value::json)));
                Arc::new(column.finish())
            }
            Self::Text => {
                let mut column = StringBuilder::with_capacity(rows, 16 * rows);
                found.for_each(|value| column.append_option(value.and_then(seek::Value::text)));
                Arc::new(column.finish())
            }
        }
    }
}
