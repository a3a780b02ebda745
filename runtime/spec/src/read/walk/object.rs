//! Mappings: which keys there must be and may be.

use serde_json::{Map, Value as Json};

use super::{Walk, described, number, wrong_type};
use crate::fault::Faults;
use crate::read::tree::{Entry, Node, Value};
use crate::wording::{did_you_mean, listed};
use crate::{later, path};

impl Walk {
    pub(super) fn check_object(
        &mut self,
        node: &mut Node,
        schema: &Json,
        path: &str,
        faults: &mut Faults,
    ) {
        let place = node.place;
        let Value::Mapping(entries) = &mut node.value else {
            wrong_type(node, "a mapping", path, faults);
            return;
        };
        let none = Map::new();
        let properties = schema
            .get("properties")
            .and_then(Json::as_object)
            .unwrap_or(&none);
        for key in missing(entries, schema) {
            let what = properties.get(key).map_or("", described);
            faults.add(&path::key(path, key), place, format!("is missing. {what}"));
        }
        if let Some(most) = number(schema, "maxProperties").filter(|most| entries.len() > *most) {
            let message = format!("has {} keys, and at most {most} are allowed", entries.len());
            faults.add(path, place, message);
        }
        let others = schema.get("additionalProperties");
        if others == Some(&Json::Bool(false)) {
            remove_unknown(entries, properties, path, faults);
        }
        for entry in entries {
            if let Some(schema) = properties.get(&entry.key).or(others) {
                self.check(
                    &mut entry.node,
                    schema,
                    &path::key(path, &entry.key),
                    faults,
                );
            }
        }
    }

    /// A mapping with exactly one key, which says what the value is.
    pub(super) fn check_variant(
        &mut self,
        node: &mut Node,
        choices: &[Json],
        path: &str,
        faults: &mut Faults,
    ) {
        let variants: Map<String, Json> = choices
            .iter()
            .filter_map(|choice| choice.get("properties").and_then(Json::as_object))
            .flatten()
            .map(|(key, schema)| (key.clone(), schema.clone()))
            .collect();
        let place = node.place;
        if let Some(name) = node.text().filter(|text| variants.contains_key(*text)) {
            let message = format!("must be a mapping, but is text. Write `{{{name}: {{}}}}`");
            faults.add(path, place, message);
            return;
        }
        let Value::Mapping(entries) = &mut node.value else {
            let names = listed(variants.keys().map(String::as_str), "or");
            wrong_type(
                node,
                &format!("a mapping with one key, {names}"),
                path,
                faults,
            );
            return;
        };
        if entries.len() != 1 {
            let given = match entries.len() {
                0 => "none is".to_owned(),
                _ => format!(
                    "{} are",
                    listed(entries.iter().map(|entry| &*entry.key), "and")
                ),
            };
            let names = listed(variants.keys().map(String::as_str), "or");
            let message = format!("must have exactly one of {names}, but {given} given");
            faults.add(path, place, message);
        }
        remove_unknown(entries, &variants, path, faults);
        for entry in entries {
            if let Some(schema) = variants.get(&entry.key) {
                self.check(
                    &mut entry.node,
                    schema,
                    &path::key(path, &entry.key),
                    faults,
                );
            }
        }
    }
}

/// Required keys that are not there.
fn missing<'a>(entries: &'a [Entry], schema: &'a Json) -> impl Iterator<Item = &'a str> {
    let required = schema.get("required").and_then(Json::as_array);
    required
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .filter(|key| !entries.iter().any(|entry| entry.key == *key))
}

/// Reports keys that are no property, and takes them out.
fn remove_unknown(
    entries: &mut Vec<Entry>,
    properties: &Map<String, Json>,
    path: &str,
    faults: &mut Faults,
) {
    entries.retain(|entry| {
        let is_known = properties.contains_key(&entry.key);
        if !is_known {
            let names = || properties.keys().map(String::as_str);
            let message = if let Some(message) = later::message(path, &entry.key) {
                message.to_owned()
            } else if properties.is_empty() {
                "is not known: there is nothing to set here. Remove it".to_owned()
            } else {
                let near = did_you_mean(&entry.key, names());
                format!("is not known. {near}Allowed: {}", listed(names(), "and"))
            };
            faults.add(&path::key(path, &entry.key), entry.place, message);
        }
        is_known
    });
}
