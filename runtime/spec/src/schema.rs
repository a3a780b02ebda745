//! The JSON Schema of a job file.
//!
//! It is generated from the very structs that the file becomes, so the two cannot disagree; only
//! the frame around `spec` and the keys that the operator reads are written here. The committed
//! copy is `docs/reference/streamjob.schema.json`.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::JobSpec;

/// Version of the job file that this build reads.
pub const API_VERSION: &str = "millstream.dev/v1alpha1";
/// Kind of the job file.
pub const KIND: &str = "StreamJob";

/// Keys of `spec` that are for the operator: allowed in a job file, and not looked at here.
pub(crate) const OPERATOR_KEYS: [(&str, &str); 13] = [
    ("image", "Container image of coordinator and workers."),
    ("state", "Whether the job should run or be suspended."),
    ("upgrade", "How a changed job replaces the running one."),
    ("restore", "What the job starts from."),
    ("restartAt", "Restart the job once at this time."),
    (
        "deletion",
        "What happens to the job's state when it is deleted.",
    ),
    (
        "coordinator",
        "Resources and placement of the coordinator's pod.",
    ),
    (
        "workers",
        "Resources, slots and placement of the worker pods.",
    ),
    ("secrets", "Secrets that are mounted as files."),
    ("internalTls", "TLS between the pods of the job."),
    ("serviceAccountName", "Service account of the pods."),
    ("paused", "Whether the operator leaves the job alone."),
    ("savepoints", "When to take savepoints periodically."),
];

/// The JSON Schema (draft 2020-12) of a job file, without references.
pub fn json_schema() -> Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": KIND,
        "description": "A job file: what `millstream run` and `kubectl apply` take.",
        "type": "object",
        "properties": {
            "apiVersion": {
                "description": "Version of this format.",
                "type": "string",
                "const": API_VERSION,
            },
            "kind": {
                "description": "Kind of the object.",
                "type": "string",
                "const": KIND,
            },
            "metadata": metadata(),
            "spec": spec(),
            "status": {
                "description": "Written by the operator in a cluster; not looked at otherwise.",
            },
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": false,
    })
}

fn metadata() -> Value {
    json!({
        "description": "Which job it is. Other keys of Kubernetes metadata, such as `labels`, are \
            allowed and not looked at.",
        "type": "object",
        "properties": {
            "name": {
                "description": "Name of the job, unique in its namespace: lower-case letters, \
                    digits and `-`, not at the ends.",
                "type": "string",
                "minLength": 1,
                "maxLength": 63,
                "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
            },
            "namespace": {
                "description": "Kubernetes namespace: lower-case letters, digits and `-`, not at \
                    the ends.",
                "type": "string",
                "minLength": 1,
                "maxLength": 63,
                "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
                "default": "default",
            },
            "uid": {
                "description": "Identity of this job among all jobs that ever had its name; the \
                    API server gives one. Letters, digits, `.`, `_` and `-`.",
                "type": "string",
                "minLength": 1,
                "maxLength": 128,
                "pattern": "^[A-Za-z0-9._-]+$",
            },
        },
        "required": ["name"],
    })
}

fn spec() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    let mut schema = settings
        .into_generator()
        .into_root_schema_for::<JobSpec>()
        .to_value();
    simplify(&mut schema);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (key, description) in OPERATOR_KEYS {
            properties.insert(key.to_owned(), for_the_operator(description));
        }
    }
    schema
}

/// Brings a generated schema into the form of a job file: a key is left out rather than null,
/// and a description is a paragraph, not lines of source code.
fn simplify(schema: &mut Value) {
    let Value::Object(keywords) = schema else {
        return;
    };
    keywords.remove("title");
    if let Some(kept) = keywords.get_mut("anyOf").and_then(not_null) {
        keywords.remove("anyOf");
        for (keyword, value) in kept {
            keywords.entry(keyword).or_insert(value);
        }
    }
    if let Some(Value::Array(types)) = keywords.get("type") {
        let only = types.iter().find(|name| *name != "null").cloned();
        keywords.insert("type".to_owned(), only.unwrap_or_default());
    }
    if let Some(Value::String(description)) = keywords.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    for (keyword, value) in keywords {
        match (keyword.as_str(), value) {
            ("properties", Value::Object(inner)) => inner.values_mut().for_each(simplify),
            ("oneOf", Value::Array(inner)) => inner.iter_mut().for_each(simplify_choice),
            ("items" | "additionalProperties", inner) => simplify(inner),
            _ => {}
        }
    }
}

/// As [`simplify`]. What is said of a variant is said of its key, where it is seen.
fn simplify_choice(choice: &mut Value) {
    simplify(choice);
    let Value::Object(keywords) = choice else {
        return;
    };
    if keywords.contains_key("const") {
        return;
    }
    let Some(description) = keywords.remove("description") else {
        return;
    };
    let properties = keywords
        .get_mut("properties")
        .and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(Map::values_mut) {
        property["description"] = description.clone();
    }
}

/// The one of two schemas that is not `null`.
fn not_null(either: &mut Value) -> Option<Map<String, Value>> {
    let choices = either.as_array_mut()?;
    choices.retain(|choice| choice.get("type").and_then(Value::as_str) != Some("null"));
    match choices.as_mut_slice() {
        [Value::Object(only)] => Some(std::mem::take(only)),
        _ => None,
    }
}

fn for_the_operator(description: &str) -> Value {
    let description =
        format!("{description} Read by the operator in a cluster; not looked at otherwise.");
    Value::Object(Map::from_iter([(
        "description".to_owned(),
        Value::String(description),
    )]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every schema within a schema, with its path.
    fn all(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
        found.push((path.to_owned(), schema.clone()));
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            all(inner, &format!("{path}.{key}"), found);
        }
        for inner in schema["oneOf"].as_array().into_iter().flatten() {
            all(inner, path, found);
        }
        for keyword in ["items", "additionalProperties"] {
            if schema[keyword].is_object() {
                all(&schema[keyword], &format!("{path}[]"), found);
            }
        }
    }

    fn everything() -> Vec<(String, Value)> {
        let mut found = Vec::new();
        all(&json_schema(), "", &mut found);
        assert!(found.len() > 100, "only {} schemas", found.len());
        found
    }

    #[test]
    fn no_keyword_is_used_that_is_not_checked() {
        // Checked in `read::walk`.
        let checked = [
            "additionalProperties",
            "const",
            "items",
            "maxItems",
            "maxLength",
            "maxProperties",
            "maximum",
            "minItems",
            "minLength",
            "minimum",
            "oneOf",
            "pattern",
            "properties",
            "required",
            "type",
        ];
        // Of these nothing follows.
        let others = [
            "$schema",
            "default",
            "description",
            "format",
            "title",
            "x-kubernetes-preserve-unknown-fields",
        ];
        let known: BTreeSet<&str> = checked.into_iter().chain(others).collect();
        for (path, schema) in everything() {
            for keyword in schema.as_object().unwrap().keys() {
                assert!(known.contains(keyword.as_str()), "{path}: {keyword}");
            }
        }
    }

    #[test]
    fn every_pattern_compiles() {
        let schemas = everything();
        let patterns = schemas
            .iter()
            .filter_map(|(_, schema)| schema["pattern"].as_str());
        let compiled = patterns.map(|pattern| regex_lite::Regex::new(pattern).unwrap());
        assert!(compiled.count() > 10);
    }

    #[test]
    fn every_key_is_described_and_every_value_bounded() {
        for (path, schema) in everything() {
            let has = |keyword: &str| !schema[keyword].is_null();
            let is_variant = has("required") && !has("description");
            assert!(
                has("description") || is_variant || path.ends_with("[]"),
                "{path}: no description"
            );
            match schema["type"].as_str() {
                Some("string") => assert!(has("maxLength") || has("const"), "{path}: any length"),
                Some("array") => assert!(has("maxItems"), "{path}: any number of items"),
                Some("integer" | "number") => {
                    assert!(has("minimum") && has("maximum"), "{path}: any number");
                }
                Some("object") => {
                    let is_map = schema["additionalProperties"].is_object();
                    assert!(
                        !is_map || has("maxProperties"),
                        "{path}: any number of keys"
                    );
                }
                _ => {}
            }
        }
    }
}
