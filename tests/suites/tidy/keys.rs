//! No key without a performer: every key that a job file or a custom resource may have is read by
//! code that does what it says, and a test shows the difference that it makes.
//!
//! What there is comes from the committed schemas, which are generated from the types. Who performs
//! it stands in `keys.txt`, and each of its rows is checked: the code is there, in production, in
//! another crate than those that only define and check keys; it names the key; and the test exists.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{check, files, files_ending};

const TABLE: &str = include_str!("keys.txt");
/// Where keys are defined and checked. What reads a key only there does nothing.
const DEFINING: [&str; 2] = ["runtime/spec/src/", "crds/src/"];
/// Where the runtime's reader turns keys into the job that is run.
const RESOLVING: &str = "runtime/spec/src/check/build.rs";
/// Keys that the code knows by another name.
const OTHER_NAMES: [(&str, &str); 15] = [
    ("PLAIN", "Plain"),
    ("SCRAM-SHA-256", "ScramSha256"),
    ("SCRAM-SHA-512", "ScramSha512"),
    ("rfc3339", "Rfc3339"),
    ("sql", "Sql"),
    ("epochMillis", "EpochMillis"),
    ("epochSeconds", "EpochSeconds"),
    ("deliveryGuarantee", "guarantee"),
    ("metadata.uid", "identity"),
    ("spec.dataflow.sinks[].custom.type", "sink_type"),
    ("transactionalIdPrefix", "prefix"),
    // A revision is everything but what is listed there, so that another time is another revision.
    ("restartAt", "NOT_IN_REVISION"),
    ("spec.dataflow.sources[].schema[].type", "column_type"),
    ("spec.dataflow.sources[].metadata[].type", "column_type"),
    // What is not suspended runs.
    ("spec.state=Running", "Suspended"),
];

/// Every key of a schema that has no keys below it, and every value of those that are words.
fn leaves(schema: &Value, path: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        if !is_refused(schema, key) {
            let dot = if path.is_empty() { "" } else { "." };
            found.extend(leaves(inner, &format!("{path}{dot}{key}")));
        }
    }
    for choice in schema["oneOf"].as_array().into_iter().flatten() {
        if let Some(word) = choice["const"].as_str() {
            found.insert(format!("{path}={word}"));
        }
        for (key, inner) in choice["properties"].as_object().into_iter().flatten() {
            found.extend(leaves(inner, &format!("{path}.{key}")));
        }
    }
    for word in schema["enum"].as_array().into_iter().flatten() {
        found.insert(format!("{path}={}", word.as_str().unwrap_or_default()));
    }
    if schema["items"].is_object() {
        found.extend(leaves(&schema["items"], &format!("{path}[]")));
    }
    if schema["additionalProperties"].is_object() {
        found.insert(format!("{path}{{}}"));
    }
    // With one value there is no difference to make.
    if found.is_empty() && schema["const"].is_null() {
        found.insert(path.to_owned());
    }
    found
}

/// Whether a key is there only to be refused.
fn is_refused(schema: &Value, key: &str) -> bool {
    let rules = schema["x-kubernetes-validations"].as_array();
    let refuses = format!("!has(self.{key})");
    rules
        .into_iter()
        .flatten()
        .any(|rule| rule["rule"] == refuses.as_str())
}

/// The `spec` of a custom resource.
fn custom_resource(files: &BTreeMap<String, String>, plural: &str) -> Value {
    let path = format!("crds/{plural}.millstream.dev.yaml");
    let definition: Value = serde_yaml::from_str(&files[&path]).expect("the definition is YAML");
    let version = &definition["spec"]["versions"][0];
    version["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

/// Every key that is taken.
fn accepted(files: &BTreeMap<String, String>) -> BTreeSet<String> {
    let job_file = &files["docs/reference/streamjob.schema.json"];
    let job_file: Value = serde_json::from_str(job_file).expect("the schema is JSON");
    let mut found = leaves(&job_file, "");
    let stream_job = custom_resource(files, "streamjobs");
    // Of the operator's keys a job file only has the names: what is below them, the resource says.
    found.retain(|path| {
        let key = path.strip_prefix("spec.").unwrap_or(path);
        let is_elsewhere = stream_job["properties"][key].is_object() || path == "status";
        !(is_only_named(&job_file, path) && is_elsewhere)
    });
    found.extend(leaves(&stream_job, "spec"));
    let savepoint = custom_resource(files, "streamsavepoints");
    found.extend(leaves(&savepoint, "savepoint.spec"));
    found
}

/// Whether a job file's schema says nothing of the value of a key.
fn is_only_named(job_file: &Value, path: &str) -> bool {
    let schema = &job_file["properties"];
    let schema = match path.strip_prefix("spec.") {
        Some(key) => &schema["spec"]["properties"][key],
        None => &schema[path],
    };
    schema.is_object()
        && schema["type"].is_null()
        && schema["oneOf"].is_null()
        && schema["const"].is_null()
}

/// Who performs a key, and who shows it.
#[derive(Debug)]
struct Row {
    keys: Vec<String>,
    file: String,
    code: String,
    test: String,
}

fn rows(table: &str) -> Vec<Row> {
    let lines = table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.rsplitn(4, " | ").collect();
            let [test, code, file, key] = cells[..] else {
                panic!("four cells: {line}");
            };
            Row {
                keys: expanded(key),
                file: file.to_owned(),
                code: code.to_owned(),
                test: test.to_owned(),
            }
        })
        .collect()
}

/// `a<b|c>d` is `abd` and `acd`.
fn expanded(key: &str) -> Vec<String> {
    let Some((before, rest)) = key.split_once('<') else {
        return vec![key.to_owned()];
    };
    let (choices, after) = rest.split_once('>').expect("`>` after `<`");
    choices
        .split('|')
        .flat_map(|choice| expanded(&format!("{before}{choice}{after}")))
        .collect()
}

/// Whether a key of a row is about a key that is taken.
fn covers(key: &str, taken: &str) -> bool {
    key.strip_suffix('*')
        .map_or(key == taken, |within| taken.starts_with(within))
}

/// Names under which code may know a key.
fn names(key: &str) -> Vec<String> {
    let key = key.strip_suffix(".*").unwrap_or(key);
    let last = key.rsplit(['.', '=']).next().unwrap_or(key);
    let last = last.trim_end_matches("[]").trim_end_matches("{}");
    let mut snake = String::new();
    for c in last.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    let mut first = last.chars();
    let pascal: String = first
        .next()
        .map(|c| c.to_ascii_uppercase())
        .into_iter()
        .chain(first)
        .collect();
    let other = OTHER_NAMES
        .iter()
        .filter(|(known, _)| *known == key || *known == last || key.contains(&format!("{known}=")))
        .map(|(_, name)| (*name).to_owned());
    [last.to_owned(), snake, pascal]
        .into_iter()
        .chain(other)
        .collect()
}

/// Whether a text has one of these names as a whole word.
fn mentions(text: &str, names: &[String]) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    names.iter().any(|name| {
        text.match_indices(name.as_str()).any(|(at, _)| {
            !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part)
        })
    })
}

/// What of a file is compiled into a program, without comments, in one line.
fn production(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    let lines = text[..end].lines().map(str::trim);
    let code = lines.filter(|line| !line.starts_with("//"));
    let code: Vec<&str> = code.filter_map(|line| line.split(" // ").next()).collect();
    code.join(" ").replace(" .", ".")
}

/// What is wrong with a row.
fn row_faults(row: &Row, sources: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    let key = row.keys.join(", ");
    let defines = DEFINING.iter().any(|place| row.file.starts_with(place));
    if (defines && row.file != RESOLVING) || row.file.contains("tests") {
        faults.push(format!("{key}: {} performs nothing", row.file));
    }
    match sources.get(&row.file) {
        None => faults.push(format!("{key}: there is no {}", row.file)),
        Some(text) => faults.extend(code_faults(row, &production(text))),
    }
    let tested = sources.iter().find(|(_, text)| has_test(text, &row.test));
    match tested {
        None => faults.push(format!("{key}: there is no test {}", row.test)),
        Some((path, text)) => {
            let unsaid = row
                .keys
                .iter()
                .filter(|key| !mentions(text, &tested_names(key)));
            faults.extend(unsaid.map(|key| format!("{key}: {path} does not speak of it")));
        }
    }
    faults
}

fn code_faults(row: &Row, code: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for key in &row.keys {
        // `Type::` stands for the values of the key.
        let value = key.split_once('=').map_or("", |(_, value)| value);
        let value = OTHER_NAMES
            .iter()
            .find(|(known, _)| *known == value)
            .map_or(value, |(_, name)| name);
        let wanted = if row.code.ends_with("::") {
            format!("{}{value}", row.code)
        } else {
            row.code.clone()
        };
        if !code.contains(&wanted) {
            faults.push(format!("{key}: {} has no `{wanted}`", row.file));
        } else if !mentions(&wanted, &names(key)) {
            faults.push(format!("{key}: `{wanted}` does not name it"));
        }
    }
    faults
}

/// A test may spell a key as it likes, and a value by its key.
fn tested_names(key: &str) -> Vec<String> {
    let mut all = names(key);
    if let Some((whole, _)) = key.split_once('=') {
        all.extend(names(whole));
    }
    all
}

fn has_test(text: &str, name: &str) -> bool {
    let wanted = format!("fn {name}(");
    text.match_indices(&wanted).any(|(at, _)| {
        let before = text[..at].trim_end_matches("async ").trim_end();
        let attribute = before.rsplit("\n\n").next().unwrap_or_default();
        attribute.contains("#[test]") || attribute.contains("#[tokio::test")
    })
}

/// Everything that is wrong with a table.
fn faults(
    accepted: &BTreeSet<String>,
    table: &str,
    sources: &BTreeMap<String, String>,
) -> Vec<String> {
    let rows = rows(table);
    let keys = || rows.iter().flat_map(|row| &row.keys);
    let dead = accepted
        .iter()
        .filter(|taken| !keys().any(|key| covers(key, taken)))
        .map(|taken| format!("{taken} is taken, and keys.txt names nobody who does what it says"));
    let gone = keys()
        .filter(|key| !accepted.iter().any(|taken| covers(key, taken)))
        .map(|key| format!("{key} stands in keys.txt and is no key"));
    dead.chain(gone)
        .chain(rows.iter().flat_map(|row| row_faults(row, sources)))
        .collect()
}

#[test]
fn every_key_that_is_taken_is_performed_and_shown() {
    let files = files();
    let accepted = accepted(&files);
    assert!(accepted.len() > 200, "only {} keys", accepted.len());
    let sources = files_ending(".rs");
    check("keys", &faults(&accepted, TABLE, &sources));
}

#[test]
fn a_key_that_nobody_reads_is_seen() {
    let mut files = files();
    let sources = files_ending(".rs");
    // Somebody adds a key to a type, and with it to the schema.
    let path = "docs/reference/streamjob.schema.json";
    let mut schema: Value = serde_json::from_str(&files[path]).expect("JSON");
    let checkpoint = &mut schema["properties"]["spec"]["properties"]["checkpoint"]["properties"];
    checkpoint["compression"] = serde_json::json!({"type": "boolean", "description": "Smaller."});
    files.insert(path.to_owned(), schema.to_string());
    let with_dead_key = accepted(&files);
    let found = faults(&with_dead_key, TABLE, &sources);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("spec.checkpoint.compression is taken"),
        "{found:?}"
    );

    // A row does not help as long as no code reads the key, or what reads it only checks it.
    let claims = [
        "runtime/coordinator/src/job/checkpoints/trigger.rs | spec.compression",
        "runtime/coordinator/src/job/checkpoints/trigger.rs | spec.interval.0",
        "runtime/spec/src/check/checkpoint.rs | spec.interval",
        "runtime/coordinator/src/nowhere.rs | spec.compression",
    ];
    for claim in claims {
        let row = format!("spec.checkpoint.compression | {claim} | no_restart_gives_up_at_once");
        let found = faults(&with_dead_key, &format!("{TABLE}\n{row}\n"), &sources);
        assert!(found.len() >= 2, "{claim}: {found:?}");
    }
}

#[test]
fn an_operator_key_without_a_field_in_the_resource_is_seen() {
    let mut files = files();
    let path = "docs/reference/streamjob.schema.json";
    let mut schema: Value = serde_json::from_str(&files[path]).expect("JSON");
    let spec = &mut schema["properties"]["spec"]["properties"];
    spec["rebalancer"] = serde_json::json!({"description": "Read by the operator."});
    files.insert(path.to_owned(), schema.to_string());
    let found = faults(&accepted(&files), TABLE, &files_ending(".rs"));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("spec.rebalancer is taken"),
        "{found:?}"
    );
}

#[test]
fn a_performer_that_goes_away_is_seen() {
    let mut sources = files_ending(".rs");
    let trigger = "runtime/coordinator/src/job/checkpoints/trigger.rs";
    let without = sources[trigger].replace("spec.min_pause.0", "Duration::ZERO");
    sources.insert(trigger.to_owned(), without);
    let found = faults(&accepted(&files()), TABLE, &sources);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].starts_with("spec.checkpoint.minPause: "),
        "{found:?}"
    );
}

#[test]
fn keys_are_written_in_short_and_known_by_their_names() {
    assert_eq!(
        expanded("a.<b|c>[].<d|e>"),
        ["a.b[].d", "a.b[].e", "a.c[].d", "a.c[].e"]
    );
    assert!(covers("a.b.*", "a.b.c[]") && !covers("a.b", "a.b.c"));
    assert!(mentions(
        "spec.min_pause.0",
        &names("spec.checkpoint.minPause")
    ));
    assert!(mentions(
        "StartingOffsets::Earliest",
        &names("kafka.startingOffsets.earliest")
    ));
    assert!(!mentions("limits.keeper", &names("savepoints.keep")));
    assert_eq!(
        production("a\n    .b // c\n// d.e\n#[cfg(test)]\nmod tests { f }"),
        "a.b"
    );
}
