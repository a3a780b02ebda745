//! Finds one value in a JSON text without building the rest.

use std::borrow::Cow;
use std::fmt;

use datafusion_common::{Result, ScalarValue, plan_err};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into an object.
    Key(String),
    /// Into an array, from 0.
    Position(usize),
}

impl Step {
    /// The step that an argument means.
    pub(super) fn of(argument: &ScalarValue) -> Result<Self> {
        match argument {
            ScalarValue::Utf8(Some(key)) => Ok(Self::Key(key.clone())),
            ScalarValue::Int64(Some(position)) => {
                let Ok(position) = usize::try_from(*position) else {
                    return plan_err!("a position in a JSON array counts from 0, not {position}");
                };
                Ok(Self::Position(position))
            }
            other => plan_err!("a path has keys (strings) and positions (integers), not {other}"),
        }
    }
}

/// A value inside a JSON text: its own text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'t>(&'t str);

impl<'t> Value<'t> {
    /// The value as JSON text.
    pub(super) const fn json(self) -> &'t str {
        self.0
    }

    /// The content of a string.
    pub(super) fn string(self) -> Option<Cow<'t, str>> {
        if !self.0.starts_with('"') {
            return None;
        }
        match serde_json::from_str::<&str>(self.0) {
            Ok(plain) => Some(Cow::Borrowed(plain)),
            Err(_) => serde_json::from_str::<String>(self.0).ok().map(Cow::Owned),
        }
    }

    /// A number without fraction and exponent.
    pub(super) fn integer(self) -> Option<i64> {
        self.0.parse().ok()
    }

    /// A number.
    pub(super) fn number(self) -> Option<f64> {
        serde_json::from_str(self.0).ok()
    }

    /// A truth value.
    pub(super) fn boolean(self) -> Option<bool> {
        self.0.parse().ok()
    }

    /// The content of a string, or the text of any other value but null.
    pub(super) fn text(self) -> Option<Cow<'t, str>> {
        match self.0 {
            "null" => None,
            text if text.starts_with('"') => self.string(),
            text => Some(Cow::Borrowed(text)),
        }
    }
}

/// The value at the end of a path; nothing if the text is not JSON or the path leads nowhere. Of
/// several values of one key the last counts.
pub(super) fn seek<'t>(text: &'t str, path: &[Step]) -> Option<Value<'t>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let found = Seek { path }.deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    found
}

/// Follows the rest of a path.
struct Seek<'p> {
    path: &'p [Step],
}

impl<'t> DeserializeSeed<'t> for Seek<'_> {
    type Value = Option<Value<'t>>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if self.path.is_empty() {
            let raw = <&RawValue as serde::Deserialize>::deserialize(deserializer)?;
            return Ok(Some(Value(raw.get())));
        }
        deserializer.deserialize_any(self)
    }
}

/// Says that a value which cannot be entered is not what the path leads to.
macro_rules! nowhere {
    ($($visit:ident: $type:ty),*) => {
        $(fn $visit<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok(None)
        })*
    };
}

impl<'t> Visitor<'t> for Seek<'_> {
    type Value = Option<Value<'t>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    nowhere!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let (wanted, path) = match self.path.split_first() {
            Some((Step::Key(key), path)) => (Some(key.as_str()), path),
            _ => (None, self.path),
        };
        while let Some(matches) = map.next_key_seed(KeyIs(wanted))? {
            if matches {
                found = map.next_value_seed(Seek { path })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        if let Some((Step::Position(position), path)) = self.path.split_first() {
            let mut before = 0;
            while before < *position && seq.next_element::<IgnoredAny>()?.is_some() {
                before += 1;
            }
            if before == *position {
                found = seq.next_element_seed(Seek { path })?.flatten();
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Compares a key without copying it.
struct KeyIs<'k>(Option<&'k str>);

impl<'t> DeserializeSeed<'t> for KeyIs<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyIs<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(self.0 == Some(key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(steps: &[&str]) -> Vec<Step> {
        let step = |step: &&str| match step.parse() {
            Ok(position) => Step::Position(position),
            Err(_) => Step::Key((*step).to_owned()),
        };
        steps.iter().map(step).collect()
    }

    fn json<'t>(text: &'t str, steps: &[&str]) -> Option<&'t str> {
        seek(text, &path(steps)).map(Value::json)
    }

    #[test]
    fn a_path_goes_through_objects_and_arrays() {
        let text = r#"{"a": [1, {"b" : [true, "x"]}], "c": null}"#;
        assert_eq!(json(text, &["a", "0"]), Some("1"));
        assert_eq!(json(text, &["a", "1", "b"]), Some(r#"[true, "x"]"#));
        assert_eq!(json(text, &["a", "1", "b", "1"]), Some(r#""x""#));
        assert_eq!(json(text, &["c"]), Some("null"));
        assert_eq!(json(text, &[]), Some(text));
    }

    #[test]
    fn a_path_to_nowhere_finds_nothing() {
        let text = r#"{"a": [1], "s": "x"}"#;
        for steps in [
            &["b"][..],
            &["a", "1"],
            &["a", "x"],
            &["0"],
            &["s", "0"],
            &["a", "0", "z"],
        ] {
            assert_eq!(json(text, steps), None, "{steps:?}");
        }
    }

    #[test]
    fn what_is_not_json_has_no_values() {
        for text in [
            "",
            "{",
            r#"{"a": 1"#,
            r#"{"a": 1} x"#,
            r#"{"a": 01}"#,
            "nope",
            r#"{"a": 1,}"#,
        ] {
            assert_eq!(json(text, &["a"]), None, "{text}");
        }
    }

    #[test]
    fn keys_are_compared_unescaped_and_the_last_one_counts() {
        assert_eq!(json(r#"{"caf\u00e9": 1}"#, &["café"]), Some("1"));
        assert_eq!(json(r#"{"a": 1, "a": 2}"#, &["a"]), Some("2"));
        assert_eq!(json(r#"{"a": {"b": 1}, "a": 2}"#, &["a", "b"]), None);
    }

    #[test]
    fn values_are_read_as_their_kind_only() {
        let value = |text| Value(text);
        assert_eq!(value(r#""a\nb""#).string().as_deref(), Some("a\nb"));
        assert_eq!(value(r#""\ud800""#).string(), None);
        assert_eq!(value("1").string(), None);
        assert_eq!(value("-12").integer(), Some(-12));
        assert_eq!(value("1.0").integer(), None);
        assert_eq!(value("9223372036854775808").integer(), None);
        assert_eq!(value("1e3").number(), Some(1000.0));
        assert_eq!(value("1e999").number(), None);
        assert_eq!(value("true").boolean(), Some(true));
        assert_eq!(value("\"true\"").boolean(), None);
        assert_eq!(value("null").text(), None);
        assert_eq!(value("[1]").text().as_deref(), Some("[1]"));
    }

    #[test]
    fn deep_nesting_is_not_followed_into_the_stack() {
        let deep = format!(
            "{{\"a\": 1, \"b\": {}{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(json(&deep, &["a"]), Some("1"));
        let steps = vec!["0"; 100_000];
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(json(&deep, &steps), None);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-z\"\\\\é]{0,5}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map("[abc]", inner, 0..4)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_tree_has_there(
            tree in any_json(),
            steps in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("0"), Just("1")], 0..4),
            pretty: bool,
        ) {
            let text = if pretty {
                serde_json::to_string_pretty(&tree).unwrap()
            } else {
                tree.to_string()
            };
            let expected = steps.iter().try_fold(&tree, |tree, step| match step.parse::<usize>() {
                Ok(position) => tree.as_array()?.get(position),
                Err(_) => tree.as_object()?.get(*step),
            });
            let found = json(&text, &steps);
            let found = found.map(|text| serde_json::from_str::<serde_json::Value>(text).unwrap());
            prop_assert_eq!(found.as_ref(), expected);
        }

        #[test]
        fn any_text_at_all_is_read_without_a_panic(text in "\\PC*", key in "[a-z{\\[\"]*") {
            let _ = seek(&text, &[Step::Key(key)]);
        }
    }
}
