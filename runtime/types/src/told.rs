//! Values of a closed list, as another version may say them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::ErrorCode;

/// A value of `T`, or one that only a newer version knows: its name is kept, so that it can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Told<T> {
    /// This build knows it.
    Known(T),
    /// This build does not.
    Other(Word),
}

/// The name of a value: a string, or the only key of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Word(pub String);

impl<T> Told<T> {
    /// The value, if this build knows it.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}

impl<T> Default for Told<T> {
    /// Nothing was said.
    fn default() -> Self {
        Self::Other(Word::default())
    }
}

impl<T> From<T> for Told<T> {
    fn from(value: T) -> Self {
        Self::Known(value)
    }
}

impl<T: PartialEq> PartialEq<T> for Told<T> {
    fn eq(&self, other: &T) -> bool {
        self.known() == Some(other)
    }
}

/// The code and the name of the error; of one that this build does not know, the name.
impl fmt::Display for Told<ErrorCode> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(code) => write!(f, "{} {}", code.code(), code.name()),
            Self::Other(Word(name)) => f.write_str(name),
        }
    }
}

/// Described as what this build knows.
impl<T: JsonSchema> JsonSchema for Told<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WordVisitor)
    }
}

struct WordVisitor;

impl<'de> Visitor<'de> for WordVisitor {
    type Value = Word;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, or an object with one key")
    }

    fn visit_str<E>(self, name: &str) -> Result<Word, E> {
        Ok(Word(name.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Word, E> {
        Ok(Word::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Word, A::Error> {
        let mut first = None;
        while let Some((name, IgnoredAny)) = map.next_entry::<String, _>()? {
            first.get_or_insert(name);
        }
        Ok(Word(first.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CheckpointKind;

    fn read(text: &str) -> Told<CheckpointKind> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_known_is_read_and_what_is_not_keeps_its_name() {
        assert_eq!(read(r#""savepoint""#), CheckpointKind::Savepoint);
        let stop = CheckpointKind::StopWithSavepoint { drain: true };
        assert_eq!(read(r#"{"stopWithSavepoint": {"drain": true}}"#), stop);
        let other = |name: &str| Told::Other(Word(name.to_owned()));
        assert_eq!(read(r#""incremental""#), other("incremental"));
        assert_eq!(read(r#"{"rescale": {"to": [4, null]}}"#), other("rescale"));
        assert_eq!(read("null"), other(""));
    }

    #[test]
    fn what_was_read_is_written_as_it_came() {
        for text in [r#""savepoint""#, r#""incremental""#] {
            assert_eq!(serde_json::to_string(&read(text)).unwrap(), text);
        }
    }

    #[test]
    fn a_code_has_its_number_if_this_build_knows_it() {
        let known: Told<ErrorCode> = ErrorCode::KafkaTransactionLost.into();
        assert_eq!(known.to_string(), "MS0204 KafkaTransactionLost");
        let newer: Told<ErrorCode> = serde_json::from_str(r#""FromTheFuture""#).unwrap();
        assert_eq!(newer.to_string(), "FromTheFuture");
    }
}
