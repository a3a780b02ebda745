//! The generated schema and the reference page.
//!
//! `UPDATE_EXPECT=1 cargo test -p millstream-spec documents` writes both.

use std::fmt::Write as _;

use millstream_spec::later::LATER_KEYS;
use millstream_spec::{json_schema, read};
use serde_json::{Map, Value};

use super::{expect_file, project};

const PAGE: &str = "docs/job-file.md";
const BEGIN: &str = "<!-- keys of ";
const END: &str = "<!-- end of keys -->";

#[test]
fn the_committed_schema_is_the_generated_one() {
    let text = serde_json::to_string_pretty(&json_schema()).unwrap();
    expect_file(
        &project("docs/reference/streamjob.schema.json"),
        &format!("{text}\n"),
    );
}

#[test]
fn every_job_on_the_reference_page_is_taken() {
    let page = std::fs::read_to_string(project(PAGE)).unwrap();
    let blocks = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let jobs: Vec<&str> = blocks
        .filter(|block| block.starts_with("apiVersion"))
        .collect();
    assert!(jobs.len() >= 2, "only {} jobs", jobs.len());
    for job in jobs {
        if let Err(error) = read(job, PAGE) {
            panic!("{error}\n{job}");
        }
    }
}

#[test]
fn the_reference_page_has_every_key() {
    let page = std::fs::read_to_string(project(PAGE)).unwrap();
    let mut parts = page.split(BEGIN);
    let mut text = parts.next().unwrap().to_owned();
    let mut shown = Vec::new();
    for part in parts {
        let (path, rest) = part.split_once(" -->\n").expect("the end of a comment");
        let (_, after) = rest.split_once(END).expect("the end of a table");
        let mut tables = path.split(" and ").map(|path| table(path, &mut shown));
        let table = tables.next().unwrap();
        assert!(tables.all(|other| other == table), "{path} are not alike");
        write!(text, "{BEGIN}{path} -->\n{table}{END}{after}").unwrap();
    }
    expect_file(&project(PAGE), &text);
    let mut left = Vec::new();
    list_keys(&json_schema(), "", &mut left);
    left.retain(|path| !shown.contains(path));
    assert!(left.is_empty(), "the page has no table with {left:#?}");
}

/// Paths of all keys, without those that are not looked at.
fn list_keys(schema: &Value, path: &str, keys: &mut Vec<String>) {
    for (key, inner) in properties(schema) {
        if inner["type"].is_null() && inner["oneOf"].is_null() {
            continue;
        }
        let path = if path.is_empty() {
            key
        } else {
            format!("{path}.{key}")
        };
        keys.push(path.clone());
        list_keys(&inner, &path, keys);
        list_keys(&inner["items"], &format!("{path}[]"), keys);
    }
}

/// The keys of a mapping, or of the variants of one.
fn properties(schema: &Value) -> Vec<(String, Value)> {
    let choices = schema["oneOf"].as_array().into_iter().flatten();
    let of = |schema: &Value| {
        schema["properties"]
            .as_object()
            .cloned()
            .unwrap_or_default()
    };
    let variants = choices.map(of).flat_map(Map::into_iter);
    of(schema).into_iter().chain(variants).collect()
}

/// The table of the keys of a mapping.
fn table(path: &str, shown: &mut Vec<String>) -> String {
    let mut schema = json_schema();
    for part in path.split('.').filter(|part| *part != "file") {
        let key = part.trim_end_matches("[]");
        let found = properties(&schema)
            .into_iter()
            .find(|(name, _)| name == key);
        schema = found.unwrap_or_else(|| panic!("no key {path}")).1;
        if part.ends_with("[]") {
            schema = schema["items"].clone();
        }
    }
    let mut text = "| key | value | default | |\n|---|---|---|---|\n".to_owned();
    for (key, inner) in properties(&schema) {
        shown.push(if path == "file" {
            key.clone()
        } else {
            format!("{path}.{key}")
        });
        let required = schema["required"]
            .as_array()
            .is_some_and(|all| all.contains(&key.clone().into()));
        let is_variant = !schema["oneOf"].is_null();
        let default = match &inner["default"] {
            Value::Null if required && !is_variant => "**required**".to_owned(),
            Value::Null | Value::Object(_) => String::new(),
            Value::String(text) => format!("`{text}`"),
            other => format!("`{other}`"),
        };
        let about = inner["description"].as_str().unwrap_or_default();
        // What the column says already.
        let about = about.replace(&format!(" Default: {default}."), "");
        let about = about.replace(&format!(" Default: {}.", default.trim_matches('`')), "");
        let about = about.replace('|', "\\|");
        writeln!(
            text,
            "| `{key}` | {} | {default} | {about} |",
            value(&inner)
        )
        .unwrap();
    }
    text
}

/// What a key takes.
fn value(schema: &Value) -> String {
    let choices: Vec<&str> = schema["oneOf"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|choice| choice["const"].as_str())
        .collect();
    if !choices.is_empty() {
        return choices
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ");
    }
    if let Some(word) = schema["const"].as_str() {
        return format!("`{word}`");
    }
    let pattern = schema["pattern"].as_str().unwrap_or_default();
    match schema["type"].as_str() {
        Some("string") if pattern.contains("ms)?") => "duration".to_owned(),
        Some("string") if pattern.contains("decimal") => "column type".to_owned(),
        Some("string") => format!(
            "text, {} characters",
            range(schema, "minLength", "maxLength")
        ),
        Some("integer") => format!("whole number, {}", range(schema, "minimum", "maximum")),
        Some("number") => format!("number, {}", range(schema, "minimum", "maximum")),
        Some("boolean") => "`true`, `false`".to_owned(),
        Some("array") => format!(
            "list of {}: {}",
            range(schema, "minItems", "maxItems"),
            value(&schema["items"])
        ),
        Some("object") if schema["additionalProperties"].is_object() => format!(
            "mapping, at most {} keys, to {}",
            schema["maxProperties"],
            value(&schema["additionalProperties"])
        ),
        Some("object") => "mapping".to_owned(),
        _ if !schema["oneOf"].is_null() => "mapping with one key".to_owned(),
        _ => "anything".to_owned(),
    }
}

fn range(schema: &Value, least: &str, most: &str) -> String {
    match (&schema[least], &schema[most]) {
        (Value::Null, most) => format!("at most {most}"),
        (least, Value::Null) => format!("at least {least}"),
        (least, most) => format!("{least} to {most}"),
    }
}

#[test]
fn the_reference_page_lists_the_options_of_librdkafka() {
    let page = std::fs::read_to_string(project(PAGE)).unwrap();
    let orders = super::ORDERS;
    let source = orders.replace("fetch.min.bytes", "x.y");
    let sink = orders.replace("transactionTimeout: 15m", "properties: {x.y: ''}");
    for text in [source, sink] {
        let error = super::refusal(&text).to_string();
        let (_, allowed) = error.split_once("Allowed: ").unwrap();
        let options: Vec<&str> = allowed.split('`').skip(1).step_by(2).collect();
        assert!(options.len() > 20, "{error}");
        for option in options {
            assert!(
                page.contains(&format!("`{option}`")),
                "{option} is not on the page"
            );
        }
    }
}

#[test]
fn keys_of_later_versions_are_no_keys_of_this_one_and_stand_on_the_page() {
    let page = std::fs::read_to_string(project(PAGE)).unwrap();
    let mut keys = Vec::new();
    list_keys(&json_schema(), "", &mut keys);
    for later in LATER_KEYS {
        let path = format!("{}.{}", later.within, later.key);
        let is_it = |key: &String| *key == path || key.starts_with(&format!("{path}."));
        assert!(!keys.iter().any(is_it), "{path} is a key");
        let (_, said) = later.message.split_once("comes with version ").unwrap();
        let version: String = said
            .chars()
            .take_while(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let row = format!("| `{path}` | {} |", version.trim_end_matches('.'));
        assert!(page.contains(&row), "the page has no row {row}");
    }
}

#[test]
fn every_example_is_taken() {
    let examples = std::fs::read_dir(project("examples")).unwrap();
    let directories = examples.map(|entry| entry.unwrap().path());
    let files: Vec<_> = directories
        .map(|directory| directory.join("streamjob.yaml"))
        .filter(|file| file.is_file())
        .collect();
    assert!(files.len() >= 2, "only {files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        if let Err(error) = read(&text, &file.display().to_string()) {
            panic!("{error}");
        }
    }
}
