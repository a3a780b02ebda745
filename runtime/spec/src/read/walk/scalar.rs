//! Texts, numbers and booleans: their type, length and range.

use millstream_types::duration::{KubeDuration, KubeSize};
use millstream_types::schema::ColumnType;
use regex_lite::Regex;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value as Json;

use super::{Walk, described, number, wrong_type};
use crate::fault::Faults;
use crate::read::tree::{Node, OtherReading, Value};
use crate::wording::{did_you_mean, listed, shown};

/// One of some words.
pub(super) fn check_choice(node: &Node, allowed: &[&str], path: &str, faults: &mut Faults) {
    let names = listed(allowed.iter().copied(), "or");
    let message = match &node.value {
        Value::Text(text) if allowed.contains(&text.as_str()) => return,
        Value::Text(text) | Value::Ambiguous(text, _) => {
            let choices = allowed.iter().copied().filter(|_| allowed.len() > 1);
            let near = did_you_mean(text, choices);
            format!("must be {names}, but is `{}`. {near}", shown(text))
        }
        Value::Null => format!("has no value, but must be {names}"),
        other => format!("must be {names}, but is {}", other.described()),
    };
    faults.add(
        path,
        node.place,
        message.trim_end_matches(['.', ' ']).to_owned(),
    );
}

pub(super) fn check_boolean(node: &Node, path: &str, faults: &mut Faults) {
    match &node.value {
        Value::Boolean(_) => {}
        Value::Ambiguous(text, OtherReading::Boolean) => {
            let message = format!("must be a boolean, but `{text}` is text. Write true or false");
            faults.add(path, node.place, message);
        }
        _ => wrong_type(node, "true or false", path, faults),
    }
}

pub(super) fn check_number(
    node: &Node,
    schema: &Json,
    is_whole: bool,
    path: &str,
    faults: &mut Faults,
) {
    let is_inside = match &node.value {
        Value::Integer(value) => {
            let least = schema
                .get("minimum")
                .and_then(whole)
                .is_none_or(|least| *value >= least);
            least
                && schema
                    .get("maximum")
                    .and_then(whole)
                    .is_none_or(|most| *value <= most)
        }
        Value::Float(value) if !is_whole && value.is_finite() => {
            let bound = |keyword| schema.get(keyword).and_then(Json::as_f64);
            let least = bound("minimum").is_none_or(|least| *value >= least);
            least && bound("maximum").is_none_or(|most| *value <= most)
        }
        _ => {
            let wanted = if is_whole {
                "a whole number"
            } else {
                "a number"
            };
            match &node.value {
                Value::Text(text) if text.parse::<f64>().is_ok_and(f64::is_finite) => {
                    let message = format!(
                        "must be {wanted}, but `{}` is in quotes, which makes it text. Remove them",
                        shown(text)
                    );
                    faults.add(path, node.place, message);
                }
                _ => wrong_type(node, wanted, path, faults),
            }
            return;
        }
    };
    if !is_inside {
        let range = range(schema.get("minimum"), schema.get("maximum"));
        let message = format!("is {}, and must be {range}", node.value.shown());
        faults.add(path, node.place, message);
    }
}

fn whole(bound: &Json) -> Option<i128> {
    let from_float = || bound.as_f64().map(|bound| bound.to_string().parse().ok());
    bound
        .as_i64()
        .map(i128::from)
        .or_else(|| bound.as_u64().map(i128::from))
        .or_else(|| from_float().flatten())
}

fn range(least: Option<&Json>, most: Option<&Json>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("from {least} to {most}"),
        (Some(least), None) => format!("at least {least}"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "smaller".to_owned(),
    }
}

/// What texts of a pattern are, where its type can say more than the pattern.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notation {
    Duration,
    Size,
    ColumnType,
    Other,
}

impl Walk {
    pub(super) fn check_text(
        &mut self,
        node: &Node,
        schema: &Json,
        path: &str,
        faults: &mut Faults,
    ) {
        let pattern = schema.get("pattern").and_then(Json::as_str);
        let notation = pattern.map_or(Notation::Other, |pattern| self.notation(pattern));
        let problem = match (&node.value, notation) {
            (Value::Text(text), Notation::Other) => self.text_problem(text, schema, pattern),
            (Value::Text(text) | Value::Ambiguous(text, _), _) if notation != Notation::Other => {
                notation_problem(text, notation)
                    .or_else(|| self.text_problem(text, schema, pattern))
            }
            (Value::Integer(_) | Value::Float(_), Notation::Duration) => {
                notation_problem(&node.value.shown(), notation)
            }
            (Value::Ambiguous(text, reading), _) => Some(format!(
                "must be text, and kubectl takes `{}` without quotes for {}. Write \"{}\"",
                shown(text),
                reading.described(),
                shown(text)
            )),
            (Value::Boolean(_) | Value::Integer(_) | Value::Float(_), _) => Some(format!(
                "must be text, but is {}. Put it in quotes",
                node.value.described()
            )),
            _ => {
                wrong_type(node, "text", path, faults);
                None
            }
        };
        if let Some(problem) = problem {
            faults.add(path, node.place, problem);
        }
    }

    fn text_problem(&mut self, text: &str, schema: &Json, pattern: Option<&str>) -> Option<String> {
        let length = text.chars().count();
        if length == 0 && number(schema, "minLength").is_some_and(|least| least > 0) {
            return Some(format!("is empty. {}", described(schema)));
        }
        if let Some(most) = number(schema, "maxLength").filter(|most| length > *most) {
            return Some(format!(
                "has {length} characters, and at most {most} are allowed"
            ));
        }
        let fits = pattern.is_none_or(|pattern| self.matches(pattern, text));
        let wrong = || {
            format!(
                "`{}` is not allowed here. {}",
                shown(text),
                described(schema)
            )
        };
        (!fits).then(wrong)
    }

    /// Whether a text matches. A pattern that does not compile matches nothing; a test compiles
    /// all of the schema's.
    fn matches(&mut self, pattern: &str, text: &str) -> bool {
        if !self.patterns.contains_key(pattern) {
            self.patterns
                .insert(pattern.to_owned(), Regex::new(pattern).ok());
        }
        let compiled = self.patterns.get(pattern).and_then(Option::as_ref);
        compiled.is_some_and(|pattern| pattern.is_match(text))
    }

    fn notation(&self, pattern: &str) -> Notation {
        if pattern == self.duration {
            Notation::Duration
        } else if pattern == self.size {
            Notation::Size
        } else if pattern == self.column_type {
            Notation::ColumnType
        } else {
            Notation::Other
        }
    }
}

fn notation_problem(text: &str, notation: Notation) -> Option<String> {
    let text = shown(text);
    match notation {
        Notation::Duration => text
            .parse::<KubeDuration>()
            .err()
            .map(|error| error.to_string()),
        Notation::Size => text
            .parse::<KubeSize>()
            .err()
            .map(|error| error.to_string()),
        Notation::ColumnType => {
            let error = text.parse::<ColumnType>().err()?;
            let near = match elsewhere(&text) {
                Some(here) => format!("Did you mean `{here}`? "),
                None => did_you_mean(&text, COLUMN_TYPES),
            };
            Some(
                format!("{error}. {near}")
                    .trim_end_matches(['.', ' '])
                    .to_owned(),
            )
        }
        Notation::Other => None,
    }
}

/// Column types that are one word.
const COLUMN_TYPES: [&str; 8] = [
    "boolean",
    "int32",
    "int64",
    "float64",
    "string",
    "bytes",
    "timestamp",
    "date",
];

/// The column type that databases and other systems call so.
fn elsewhere(name: &str) -> Option<&'static str> {
    let name = name.split('(').next().unwrap_or_default();
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "text" | "varchar" | "char" | "str" | "json" | "jsonb" | "uuid" => "string",
        "bool" => "boolean",
        "int" | "integer" | "smallint" | "int4" => "int32",
        "bigint" | "long" | "int8" => "int64",
        "double" | "double precision" | "float" | "real" | "number" => "float64",
        "numeric" => "decimal(38,9)",
        "binary" | "varbinary" | "bytea" | "blob" => "bytes",
        "datetime" | "timestamptz" | "timestamp_ltz" | "instant" => "timestamp",
        _ => return None,
    })
}

/// The pattern in the schema of a type.
pub(super) fn pattern_of<T: JsonSchema>() -> String {
    let schema = T::json_schema(&mut SchemaGenerator::default()).to_value();
    schema
        .get("pattern")
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned()
}
