//! A job file as a tree of values, each with its place in the text.

use serde_json::{Number, Value as Json};

use crate::fault::Place;
use crate::path;
use crate::wording::shown;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Where it begins; for a list or mapping, where its key stands or its first part.
    pub(crate) place: Place,
    /// What it is.
    pub(crate) value: Value,
}

/// What YAML has.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Nothing, `null` or `~`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// A whole number; what is larger than the type is its largest.
    Integer(i128),
    /// Any other number, `.inf` and `.nan` too.
    Float(f64),
    /// Text.
    Text(String),
    /// Text without quotes that YAML 1.1, and so kubectl, takes for something else.
    Ambiguous(String, OtherReading),
    /// A list.
    List(Vec<Node>),
    /// Keys and values, in the order of the text. No key is there twice.
    Mapping(Vec<Entry>),
}

/// What YAML 1.1 takes an unquoted text for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OtherReading {
    /// `yes`, `no`, `on`, `off`, `y`, `n`
    Boolean,
    /// `012`, `1_000`
    Number,
}

impl OtherReading {
    pub(crate) const fn described(self) -> &'static str {
        match self {
            Self::Boolean => "a boolean",
            Self::Number => "a number",
        }
    }
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) place: Place,
    /// Its value.
    pub(crate) node: Node,
}

impl Node {
    /// The value of a key; `None` also if this is no mapping.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Mapping(entries) => {
                let entry = entries.iter().find(|entry| entry.key == key)?;
                Some(&entry.node)
            }
            _ => None,
        }
    }

    /// The items of a list; none if this is no list.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same as JSON, for serde. Numbers that JSON does not have become null.
    pub(crate) fn json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Boolean(value) => Json::Bool(*value),
            Value::Integer(value) => integer(*value),
            Value::Float(value) => Number::from_f64(*value).map_or(Json::Null, Json::Number),
            Value::Text(text) | Value::Ambiguous(text, _) => Json::String(text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::json).collect()),
            Value::Mapping(entries) => {
                let pairs = entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.json()));
                Json::Object(pairs.collect())
            }
        }
    }

    /// Where the part of this tree with that path stands, or the nearest part around it.
    pub(crate) fn place_of(&self, path: &str) -> Place {
        let part = match &self.value {
            Value::Mapping(entries) => entries
                .iter()
                .find_map(|entry| Some((&entry.node, path::after_key(path, &entry.key)?))),
            Value::List(items) => {
                path::after_index(path).and_then(|(index, rest)| Some((items.get(index)?, rest)))
            }
            _ => None,
        };
        part.map_or(self.place, |(node, rest)| node.place_of(rest))
    }
}

impl Value {
    /// What it is, for a message.
    pub(crate) fn described(&self) -> String {
        match self {
            Self::Null => "empty".to_owned(),
            Self::Boolean(_) => format!("the boolean {}", self.shown()),
            Self::Integer(_) | Self::Float(_) => format!("the number {}", self.shown()),
            Self::Text(_) | Self::Ambiguous(..) => format!("the text `{}`", self.shown()),
            Self::List(_) => "a list".to_owned(),
            Self::Mapping(_) => "a mapping".to_owned(),
        }
    }

    /// A scalar as it may stand in a message.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Boolean(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(text) | Self::Ambiguous(text, _) => shown(text),
            Self::Null | Self::List(_) | Self::Mapping(_) => String::new(),
        }
    }
}

fn integer(value: i128) -> Json {
    i64::try_from(value)
        .map(Number::from)
        .or_else(|_| u64::try_from(value).map(Number::from))
        .map_or(Json::Null, Json::Number)
}
