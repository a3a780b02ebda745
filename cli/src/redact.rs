//! Takes secrets out of what is to be given to others. Pure.
//!
//! Kubernetes `Secret`s are never read, so what is looked for is what people write where it does
//! not belong: passwords in options and environment variables, credentials in addresses, keys in
//! logs. When in doubt it is replaced: a report that lacks a harmless value is better than one
//! that shows a password. The list says where something was replaced, never what it was.

use std::collections::BTreeMap;

use regex_lite::{Captures, Regex};
use serde_json::Value;

use crate::problem::Problem;

/// What stands in place of a secret.
pub const REDACTED: &str = "REDACTED";

/// Parts of names of values that are secret.
const SECRET_NAMES: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "apikey",
    "accesskey",
    "privatekey",
    "authorization",
    "jaas",
    "sasl",
];
/// Ends of names that say where a secret lies, or which, not what it is.
const REFERENCES: [&str; 7] = [
    "file",
    "path",
    "ref",
    "name",
    "location",
    "mechanism",
    "namespace",
];
/// Environment variables whose values are harmless; all others are replaced.
const HARMLESS_VARIABLES: [&str; 10] = [
    "AWS_EC2_METADATA_DISABLED",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "MILLSTREAM_LOG",
    "MILLSTREAM_LOG_FORMAT",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TZ",
];
/// Annotation that holds the whole resource once more, as text.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// How a secret in text looks: name of the rule, expression, what it is replaced by.
const RULES: [(&str, &str, &str); 7] = [
    (
        "value of a secret name",
        r"(?i)(name\\?\x22\s*:\s*\\?\x22[^\x22\\]*(?:password|passwd|passphrase|secret|token|credential|key|jaas)[^\x22\\]*\\?\x22\s*,\s*\\?\x22value\\?\x22\s*:\s*\\?\x22)[^\x22\\]*",
        "${1}REDACTED",
    ),
    (
        "credentials in an address",
        r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s:@\x22']*:[^/\s@\x22']+@",
        "${1}REDACTED@",
    ),
    (
        "signature in an address",
        r"([?&](?:X-Amz-[A-Za-z-]+|AWSAccessKeyId|Signature|sig)=)[^&\s\x22']+",
        "${1}REDACTED",
    ),
    (
        "authorization",
        r"(?i)(\b(?:bearer|basic)\s+)[A-Za-z0-9+/=._~-]{8,}",
        "${1}REDACTED",
    ),
    (
        "value of a secret name",
        r"(?i)([\w.-]*(?:password|passwd|passphrase|secret|token|credential|api[_.-]?key|access[_.-]?key|private[_.-]?key|authorization)[\w.-]*\\?[\x22']?\s*[=:]\s*)(?:\\\x22[^\x22\\]*\\\x22|\x22[^\x22]*\x22|'[^']*'|[^\s,;&\x22'}\\]+)",
        "${1}REDACTED",
    ),
    ("access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b", REDACTED),
    (
        "token",
        r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        REDACTED,
    ),
];
const PRIVATE_KEY: &str =
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----";

/// Replaces secrets and remembers where.
pub struct Redactor {
    rules: Vec<(&'static str, Regex, &'static str)>,
    private_key: Regex,
    words: Vec<String>,
    found: BTreeMap<(String, String, &'static str), usize>,
}

impl Redactor {
    /// Replaces what the rules find, and these words.
    ///
    /// # Errors
    /// A rule is no expression, which would be a fault of this module.
    pub fn new(words: &[String]) -> Result<Self, Problem> {
        let compile = |text: &str| {
            Regex::new(text).map_err(|error| Problem::System {
                what: "a rule of redaction is wrong".to_owned(),
                reason: error.to_string(),
            })
        };
        let rules: Result<Vec<_>, Problem> = RULES
            .into_iter()
            .map(|(name, expression, by)| Ok((name, compile(expression)?, by)))
            .collect();
        Ok(Self {
            rules: rules?,
            private_key: compile(PRIVATE_KEY)?,
            words: words.to_vec(),
            found: BTreeMap::new(),
        })
    }

    /// Replaces secrets in a resource.
    pub fn value(&mut self, file: &str, value: &mut Value) {
        self.walk(file, "", value);
    }

    fn walk(&mut self, file: &str, place: &str, value: &mut Value) {
        match value {
            Value::Object(object) => {
                self.drop_copies(file, place, object);
                self.variable(file, place, object);
                for (key, value) in object.iter_mut() {
                    let at = if place.is_empty() {
                        key.clone()
                    } else {
                        format!("{place}.{key}")
                    };
                    if is_secret(key) && (value.is_string() || value.is_number()) {
                        self.replace(file, &at, value, "value of a secret name");
                    } else {
                        self.walk(file, &at, value);
                    }
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter_mut().enumerate() {
                    self.walk(file, &format!("{place}[{index}]"), value);
                }
            }
            Value::String(text) => match nested(text) {
                Some(mut inner) => {
                    self.walk(file, place, &mut inner);
                    *text = inner.to_string();
                }
                None => *text = self.line(file, place, text),
            },
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// What repeats the resource, or says only who wrote which field.
    fn drop_copies(
        &mut self,
        file: &str,
        place: &str,
        object: &mut serde_json::Map<String, Value>,
    ) {
        object.remove("managedFields");
        if object.remove(LAST_APPLIED).is_some() {
            let at = format!("{place}.{LAST_APPLIED}");
            self.note(file, &at, "left out, it repeats the resource");
        }
    }

    /// An environment variable, or another pair of a name and a value.
    fn variable(&mut self, file: &str, place: &str, object: &mut serde_json::Map<String, Value>) {
        let Some(name) = object.get("name").and_then(Value::as_str) else {
            return;
        };
        let is_variable = place.contains("env[");
        let is_secret = if is_variable {
            !HARMLESS_VARIABLES.contains(&name)
        } else {
            is_secret(name)
        };
        let at = format!("{place}.value ({name})");
        if let Some(value) = object.get_mut("value").filter(|_| is_secret) {
            let rule = if is_variable {
                "environment variable"
            } else {
                "value of a secret name"
            };
            self.replace(file, &at, value, rule);
        }
    }

    fn replace(&mut self, file: &str, place: &str, value: &mut Value, rule: &'static str) {
        let is_empty = value.as_str().is_some_and(str::is_empty);
        if !is_empty && value != REDACTED {
            *value = Value::String(REDACTED.to_owned());
            self.note(file, place, rule);
        }
    }

    /// Replaces secrets in a text of lines.
    pub fn text(&mut self, file: &str, text: &str) -> String {
        let keys = self.private_key.find_iter(text).count();
        for _ in 0..keys {
            self.note(file, "text", "private key");
        }
        let text = self.private_key.replace_all(text, REDACTED).into_owned();
        let mut redacted = String::with_capacity(text.len());
        for (number, line) in text.split_inclusive('\n').enumerate() {
            let place = format!("line {}", number + 1);
            redacted.push_str(&self.line(file, &place, line));
        }
        redacted
    }

    fn line(&mut self, file: &str, place: &str, line: &str) -> String {
        let mut text = line.to_owned();
        let mut hits = Vec::new();
        for (name, expression, by) in &self.rules {
            let replaced = expression.replace_all(&text, |found: &Captures<'_>| {
                let mut by_text = String::new();
                found.expand(by, &mut by_text);
                if found.get(0).is_some_and(|whole| whole.as_str() != by_text) {
                    hits.push(*name);
                }
                by_text
            });
            text = replaced.into_owned();
        }
        for word in &self.words {
            let count = text.matches(word.as_str()).count();
            hits.extend(std::iter::repeat_n("text that you named", count));
            text = text.replace(word, REDACTED);
        }
        for name in hits {
            self.note(file, place, name);
        }
        text
    }

    fn note(&mut self, file: &str, place: &str, rule: &'static str) {
        let key = (file.to_owned(), place.to_owned(), rule);
        *self.found.entry(key).or_default() += 1;
    }

    /// How many things were replaced or left out.
    pub fn count(&self) -> usize {
        self.found.values().sum()
    }

    /// What was replaced or left out: file, place, why; never what it was.
    pub fn list(&self) -> String {
        let lines = self.found.iter().map(|((file, place, rule), count)| {
            let times = if *count > 1 {
                format!(" ×{count}")
            } else {
                String::new()
            };
            format!("{file}: {place}: {rule}{times}\n")
        });
        lines.collect()
    }
}

/// What a text holds that is JSON itself, such as an annotation in which a tool keeps a resource.
fn nested(text: &str) -> Option<Value> {
    let is_json = text.trim_start().starts_with(['{', '[']);
    let value = is_json.then(|| serde_json::from_str::<Value>(text).ok())??;
    (value.is_object() || value.is_array()).then_some(value)
}

/// Whether a value of this name is secret: `sasl.password` is, `passwordFile` is not.
fn is_secret(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    SECRET_NAMES.iter().any(|part| plain.contains(part))
        && !REFERENCES.iter().any(|end| plain.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn redactor() -> Redactor {
        Redactor::new(&["kafka-7.internal".to_owned()]).unwrap()
    }

    #[test]
    fn no_planted_secret_is_left_in_text() {
        let planted = [
            "connect kafka://user:hunter2@broker:9092/",
            "sasl.jaas.config=org.apache.PlainLoginModule required username=\"u\" password=\"hunter2\";",
            r#"{"password":"hunter2","user":"u"}"#,
            r#"{"message":"{\"secretKey\":\"hunter2\"}"}"#,
            "AWS_SECRET_ACCESS_KEY=hunter2",
            r#"{"name":"AWS_SECRET_ACCESS_KEY","value":"hunter2"}"#,
            r#"{"x":"{\"name\":\"KAFKA_PASSWORD\",\"value\":\"hunter2\"}"}"#,
            "api-key: hunter2",
            "GET /b?X-Amz-Signature=hunter2&x=1",
            "Authorization: Bearer hunter2hunter2",
            "authorization: basic aHVudGVyMg==hunter2",
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
        ];
        for text in planted {
            let mut redactor = redactor();
            let redacted = redactor.text("log", text);
            assert!(!redacted.contains("hunter2"), "{text} became {redacted}");
            assert!(redactor.count() > 0, "{text} is not listed");
            assert!(!redactor.list().contains("hunter2"), "{}", redactor.list());
        }
        let keys = "id AKIAABCDEFGHIJKLMNOP token eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0xx.c2ln";
        assert_eq!(redactor().text("log", keys), "id REDACTED token REDACTED");
        let host = redactor().text("log", "to kafka-7.internal:9092");
        assert_eq!(host, "to REDACTED:9092");
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "checkpoint 42 completed in 34 ms at s3://bucket/checkpoints/default/orders/42",
            "2026-11-24T22:11:01Z INFO worker: 3 tasks run, 1,234 records\n",
            "http://127.0.0.1:8081/v1/job",
        ] {
            let mut redactor = redactor();
            assert_eq!(redactor.text("log", text), text);
            assert_eq!(redactor.count(), 0);
        }
    }

    #[test]
    fn resources_lose_values_of_secret_names_and_keep_references() {
        let mut resource = json!({
            "metadata": {
                "annotations": {LAST_APPLIED: "{\"password\":\"hunter2\"}", "note": "x"},
                "managedFields": [{"manager": "kubectl"}],
            },
            "spec": {
                "secrets": [{"name": "kafka", "mountPath": "/etc/s"}],
                "kafka": {"options": {"sasl.password": "hunter2", "sasl.mechanism": "PLAIN"}},
                "passwordFile": "/etc/s/password",
                "pod": {"env": [
                    {"name": "ANYTHING", "value": "hunter2"},
                    {"name": "RUST_LOG", "value": "info"},
                ]},
                "sql": "SELECT * FROM t",
            },
        });
        let mut redactor = redactor();
        redactor.value("job.yaml", &mut resource);
        assert_eq!(
            resource,
            json!({
                "metadata": {"annotations": {"note": "x"}},
                "spec": {
                    "secrets": [{"name": "kafka", "mountPath": "/etc/s"}],
                    "kafka": {"options": {"sasl.password": REDACTED, "sasl.mechanism": "PLAIN"}},
                    "passwordFile": "/etc/s/password",
                    "pod": {"env": [
                        {"name": "ANYTHING", "value": REDACTED},
                        {"name": "RUST_LOG", "value": "info"},
                    ]},
                    "sql": "SELECT * FROM t",
                },
            })
        );
        let list = redactor.list();
        assert!(
            list.contains("job.yaml: spec.kafka.options.sasl.password"),
            "{list}"
        );
        assert!(list.contains("spec.pod.env[0].value (ANYTHING)"), "{list}");
        assert_eq!(redactor.count(), 3);
    }

    #[test]
    fn resources_within_annotations_are_looked_through_too() {
        let kept = json!({"env": [{"name": "X", "value": "hunter2"}], "n": {"p": 1}}).to_string();
        let mut resource = json!({"metadata": {"annotations": {"tool/kept": kept}}});
        let mut redactor = redactor();
        redactor.value("s.yaml", &mut resource);
        assert!(!resource.to_string().contains("hunter2"), "{resource}");
        assert!(
            redactor.list().contains("tool/kept.env[0].value (X)"),
            "{}",
            redactor.list()
        );
    }

    #[test]
    fn redacting_again_changes_nothing() {
        let once = redactor().text("log", "password=hunter2 https://a:b@c/");
        let mut again = redactor();
        assert_eq!(again.text("log", &once), once);
        assert_eq!(again.count(), 0);
    }
}
