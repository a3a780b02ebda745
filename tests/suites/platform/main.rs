//! What stands around the operator: the chart, the images, and what tells other tools how a job is.
//!
//! [`chart`] what it renders, [`privileges`] what its roles and pods may do, [`argocd`] health and
//! actions run by Lua, [`kstatus`] what Flux and `kubectl` wait for.
//!
//! `MILLSTREAM_GOLDEN=write` writes the golden files anew, and what messages and actions are expected
//! of the resources in `contrib/argocd`, which the operator's unit tests write.

mod argocd;
mod chart;
mod kstatus;
mod privileges;

use std::path::{Path, PathBuf};

use millstream_tests::tools::root;
use serde_json::Value;

/// A document of the project, read as YAML.
#[track_caller]
fn yaml(path: &Path) -> Value {
    let text = text(path);
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[track_caller]
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All documents of a YAML stream.
#[track_caller]
fn documents(text: &str) -> Vec<Value> {
    use serde::Deserialize as _;
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("a YAML document"))
        .filter(|document| !document.is_null())
        .collect()
}

fn argocd_directory(kind: &str) -> PathBuf {
    root().join("contrib/argocd").join(kind)
}

/// Whether golden files are to be written anew.
fn writes_golden() -> bool {
    std::env::var_os("MILLSTREAM_GOLDEN").is_some_and(|value| value == "write")
}

/// The cases that a file such as `health_test.yaml` lists.
#[track_caller]
fn cases(file: &Path, key: &str) -> Vec<Value> {
    let cases = yaml(file)[key].as_array().cloned().unwrap_or_default();
    assert!(!cases.is_empty(), "{} lists no {key}", file.display());
    cases
}

/// Fails with all faults at once.
#[track_caller]
fn check(rule: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}
