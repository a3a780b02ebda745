//! Resources as the operator writes them, for the tests of other tools: the files of
//! `contrib/argocd/*/testdata`.

use std::path::PathBuf;

use serde_json::{Value, json};

/// Where jobs of the fixtures have their state.
const STORAGE: &str = "s3://millstream/checkpoints/shop/orders";

/// Compares a resource with its file; `MILLSTREAM_GOLDEN=write` writes the file anew.
///
/// # Panics
/// They differ.
pub(crate) fn check(kind: &str, name: &str, resource: &Value) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../contrib/argocd");
    let path = root.join(format!("{kind}/testdata/{name}.yaml"));
    let now = serde_yaml::to_string(resource).unwrap();
    if std::env::var_os("MILLSTREAM_GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(&path, &now).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    let stored: Value = serde_yaml::from_str(&stored).unwrap();
    assert_eq!(
        stored,
        *resource,
        "{} is not what the operator writes; after MILLSTREAM_GOLDEN=write look at what has changed",
        path.display()
    );
}

/// A resource of the namespace `shop`.
pub(crate) fn resource(kind: &str, name: &str, metadata: &Value, spec: &Value) -> Value {
    let mut resource = json!({
        "apiVersion": "millstream.dev/v1alpha1",
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": "shop",
            "uid": "0b4a3b0e-52a5-4f5e-9a45-0f5c3f0a1d22",
        },
        "spec": spec,
    });
    for (key, value) in metadata.as_object().into_iter().flatten() {
        resource["metadata"][key] = value.clone();
    }
    resource
}

/// Paths of the model below the storage of a real job.
pub(crate) fn with_paths(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(below_storage(&text)),
        Value::Array(items) => items.into_iter().map(with_paths).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, with_paths(value)))
            .collect(),
        other => other,
    }
}

fn below_storage(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let Some(rest) = word.strip_prefix("s3://bucket/jobs") else {
            return word.to_owned();
        };
        let Some(path) = rest.strip_prefix("/default/orders/") else {
            return format!("s3://millstream/checkpoints{rest}");
        };
        let Some(number) = path.strip_prefix("chain/") else {
            return format!("{STORAGE}/{path}");
        };
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        let rest = number.trim_start_matches(|c: char| c.is_ascii_digit());
        format!("{STORAGE}/chain/{digits:0>20}.json{rest}")
    });
    words.collect::<Vec<_>>().join(" ")
}
