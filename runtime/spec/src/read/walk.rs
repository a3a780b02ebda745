//! A tree against the JSON Schema: every unknown or missing key, wrong type and value out of
//! bounds.
//!
//! Knows exactly the keywords that [`json_schema`](crate::json_schema()) uses; a test fails when
//! that grows by one that is not checked here.

mod object;
mod scalar;

use std::collections::BTreeMap;

use millstream_types::duration::{KubeDuration, KubeSize};
use millstream_types::schema::ColumnType;
use regex_lite::Regex;
use serde_json::Value as Json;

use super::tree::{Node, Value};
use crate::fault::Faults;
use crate::path;

/// One walk; keeps compiled patterns.
pub(crate) struct Walk {
    patterns: BTreeMap<String, Option<Regex>>,
    /// Pattern of durations.
    duration: String,
    /// Pattern of sizes.
    size: String,
    /// Pattern of column types.
    column_type: String,
}

impl Walk {
    pub(crate) fn new() -> Self {
        Self {
            patterns: BTreeMap::new(),
            duration: scalar::pattern_of::<KubeDuration>(),
            size: scalar::pattern_of::<KubeSize>(),
            column_type: scalar::pattern_of::<ColumnType>(),
        }
    }

    /// Checks a value and all below it. Unknown keys are reported and taken out of the tree, so
    /// that what is left can be looked at further.
    pub(crate) fn check(
        &mut self,
        node: &mut Node,
        schema: &Json,
        path: &str,
        faults: &mut Faults,
    ) {
        if let Some(choices) = schema.get("oneOf").and_then(Json::as_array) {
            if choices.iter().all(|choice| choice.get("const").is_some()) {
                let allowed: Vec<&str> = choices.iter().filter_map(constant).collect();
                scalar::check_choice(node, &allowed, path, faults);
            } else {
                self.check_variant(node, choices, path, faults);
            }
            return;
        }
        if let Some(only) = constant(schema) {
            scalar::check_choice(node, &[only], path, faults);
            return;
        }
        match schema.get("type").and_then(Json::as_str) {
            Some("object") => self.check_object(node, schema, path, faults),
            Some("array") => self.check_list(node, schema, path, faults),
            Some("string") => self.check_text(node, schema, path, faults),
            Some("integer") => scalar::check_number(node, schema, true, path, faults),
            Some("number") => scalar::check_number(node, schema, false, path, faults),
            Some("boolean") => scalar::check_boolean(node, path, faults),
            // Without a type anything goes: keys that are for somebody else.
            _ => {}
        }
    }

    fn check_list(&mut self, node: &mut Node, schema: &Json, path: &str, faults: &mut Faults) {
        let place = node.place;
        let Value::List(items) = &mut node.value else {
            wrong_type(node, "a list", path, faults);
            return;
        };
        if let Some(least) = number(schema, "minItems").filter(|least| items.len() < *least) {
            let message = format!(
                "has {} items, and at least {least} must be given",
                items.len()
            );
            faults.add(path, place, message);
        }
        if let Some(most) = number(schema, "maxItems").filter(|most| items.len() > *most) {
            let message = format!("has {} items, and at most {most} are allowed", items.len());
            faults.add(path, place, message);
        }
        let Some(item_schema) = item_schema(schema) else {
            return;
        };
        for (index, item) in items.iter_mut().enumerate() {
            self.check(item, &item_schema, &path::item(path, index), faults);
        }
    }
}

/// The schema of a list's items. What is said of the list is said of each, unless more is.
fn item_schema(list: &Json) -> Option<Json> {
    let mut items = list.get("items")?.clone();
    if let (Some(keywords), Some(said)) = (items.as_object_mut(), list.get("description")) {
        let description = keywords.entry("description");
        description.or_insert_with(|| said.clone());
    }
    Some(items)
}

/// Reports a value of another type than `wanted`, such as `a list`.
fn wrong_type(node: &Node, wanted: &str, path: &str, faults: &mut Faults) {
    let message = if node.value == Value::Null {
        let empty = match wanted {
            "a mapping" => "Write `{}` for one without keys",
            "a list" => "Write `[]` for one without items",
            _ => "Write one",
        };
        format!("has no value, but must be {wanted}. {empty}, or remove the key")
    } else {
        format!("must be {wanted}, but is {}", node.value.described())
    };
    faults.add(path, node.place, message);
}

fn constant(schema: &Json) -> Option<&str> {
    schema.get("const").and_then(Json::as_str)
}

fn number(schema: &Json, keyword: &str) -> Option<usize> {
    schema
        .get(keyword)
        .and_then(Json::as_u64)
        .and_then(|number| usize::try_from(number).ok())
}

/// What the schema says about a value.
fn described(schema: &Json) -> &str {
    schema
        .get("description")
        .and_then(Json::as_str)
        .unwrap_or_default()
}
