//! Which crate may use which.

use std::collections::BTreeSet;
use std::process::Command;

use millstream_tests::tools::root;
use serde_json::{Value, json};

use super::check;

/// A crate of ours and the crates of ours that it may use. A new arrow needs a decision record in
/// `docs/decisions/`.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("spec", &["types"]),
    ("plan", &["spec", "types"]),
    ("state", &["types"]),
    ("hdfs", &[]),
    ("checkpoint", &["hdfs", "types"]),
    ("connect", &["types"]),
    ("sinks", &["connect", "types"]),
    ("postgres", &["sinks", "connect", "spec", "types"]),
    ("operators", &["state", "types"]),
    ("derive", &[]),
    ("transport", &["types"]),
    ("exchange", &["transport", "types"]),
    ("formats", &["types"]),
    ("connectors", &["connect", "formats", "spec", "types"]),
    (
        "worker",
        &[
            "connect",
            "operators",
            "exchange",
            "state",
            "checkpoint",
            "types",
        ],
    ),
    (
        "coordinator",
        &["plan", "spec", "checkpoint", "connect", "types"],
    ),
    ("crds", &["spec", "types"]),
    ("operator", &["crds", "spec", "types"]),
    ("cli", &["crds", "types"]),
];

/// Crates of ours that may use everything.
const TOP: &[&str] = &["millstream", "tests", "benches", "examples"];

/// An external crate (or all whose names begin so, with `*`) and the only crates of ours that may
/// name it.
const HEAVY: &[(&str, &[&str])] = &[
    ("rocksdb", &["state"]),
    ("aws-*", &["checkpoint"]),
    ("hdfs-native", &["hdfs"]),
    ("rdkafka", &["connectors", "tests", "benches"]),
    ("rdkafka-sys", &["connectors"]),
    ("kafka-protocol", &["connectors", "tests"]),
    ("tokio-postgres", &["postgres"]),
    ("serde_yaml", &["spec", "crds", "operator", "cli", "tests"]),
    ("datafusion-sql", &["plan"]),
    ("datafusion-*", &["plan", "operators"]),
    ("tonic", &["millstream", "coordinator", "worker"]),
    ("axum", &["cli", "coordinator", "millstream", "operator"]),
    ("kube", &["crds", "operator", "cli", "tests"]),
    ("k8s-openapi", &["crds", "operator", "cli", "tests"]),
    ("indicatif", &["millstream", "cli"]),
    (
        "tokio",
        &[
            "hdfs",
            "checkpoint",
            "connectors",
            "transport",
            "exchange",
            "sinks",
            "postgres",
            "worker",
            "coordinator",
            "millstream",
            "operator",
            "cli",
            "tests",
            "benches",
        ],
    ),
];

struct Dependency {
    of: String,
    on: String,
}

/// What cargo says of the packages of the workspace.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--no-deps",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo is there");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    metadata["packages"]
        .as_array()
        .expect("a list of packages")
        .clone()
}

/// Everything the crates of the workspace depend on to be built, tests left out.
fn dependencies() -> Vec<Dependency> {
    let mut dependencies = Vec::new();
    for package in &packages() {
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if dependency["kind"] != "dev" {
                dependencies.push(Dependency {
                    of: short(&package["name"]),
                    on: short(&dependency["name"]),
                });
            }
        }
    }
    assert!(dependencies.len() > 20, "cargo lists the workspace");
    dependencies
}

/// Features with hooks for the simulation, which nothing turns on that is shipped.
const ONLY_FOR_TESTS: [&str; 2] = ["simulation", "seeded-bugs"];

/// Who turns one of these on, other than a test.
fn shipped_hooks(packages: &[Value]) -> Vec<String> {
    let is_hook = |feature: &Value| {
        let name = feature.as_str().unwrap_or_default();
        ONLY_FOR_TESTS.contains(&name.rsplit('/').next().unwrap_or_default())
    };
    let mut faults = Vec::new();
    for package in packages {
        let name = short(&package["name"]);
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        for dependency in dependencies.filter(|dependency| dependency["kind"] != "dev") {
            let features = dependency["features"].as_array().into_iter().flatten();
            if features.into_iter().any(is_hook) {
                faults.push(format!("`{name}` turns on hooks of {}", dependency["name"]));
            }
        }
        let features = package["features"].as_object().into_iter().flatten();
        for (feature, turns_on) in features {
            let turns_on = turns_on.as_array().into_iter().flatten();
            if turns_on.into_iter().any(is_hook) {
                faults.push(format!("feature `{feature}` of `{name}` turns on hooks"));
            }
        }
    }
    faults
}

/// `millstream-types` is `types`.
fn short(name: &Value) -> String {
    let name = name.as_str().expect("a name");
    name.strip_prefix("millstream-").unwrap_or(name).to_owned()
}

fn allowed(of: &str) -> Option<&'static [&'static str]> {
    ARROWS
        .iter()
        .find(|(name, _)| *name == of)
        .map(|(_, allowed)| *allowed)
}

fn arrow_faults(dependencies: &[Dependency]) -> Vec<String> {
    let ours: BTreeSet<&str> = ARROWS
        .iter()
        .map(|(name, _)| *name)
        .chain(TOP.iter().copied())
        .collect();
    let mut faults = Vec::new();
    for Dependency { of, on } in dependencies {
        if TOP.contains(&of.as_str()) || !ours.contains(on.as_str()) {
            continue;
        }
        match allowed(of) {
            None => faults.push(format!("`{of}` is not in the table")),
            Some(allowed) if allowed.contains(&on.as_str()) => {}
            Some(_) => faults.push(format!("`{of}` must not use `{on}`")),
        }
    }
    faults
}

fn heavy_faults(dependencies: &[Dependency]) -> Vec<String> {
    let mut faults = Vec::new();
    for Dependency { of, on } in dependencies {
        let rule = HEAVY.iter().find(|(name, _)| {
            name.strip_suffix('*')
                .map_or(on == name, |start| on.starts_with(start))
        });
        if let Some((_, allowed)) = rule
            && !allowed.contains(&of.as_str())
        {
            faults.push(format!("`{of}` must not use `{on}`: only {allowed:?} may"));
        }
    }
    faults
}

#[test]
fn crates_use_only_what_the_table_allows() {
    check("arrows between crates", &arrow_faults(&dependencies()));
}

#[test]
fn heavy_external_crates_stay_behind_their_door() {
    check("heavy external crates", &heavy_faults(&dependencies()));
}

#[test]
fn nothing_that_is_shipped_has_hooks_of_the_simulation() {
    check("features only for tests", &shipped_hooks(&packages()));
}

#[test]
fn a_hook_that_is_shipped_is_seen() {
    let package = |kind: &str, features: Value| {
        json!({
            "name": "millstream-worker",
            "dependencies": [{"name": "millstream-types", "kind": kind, "features": ["seeded-bugs"]}],
            "features": features,
        })
    };
    let hooks = |kind: &str, features| shipped_hooks(&[package(kind, features)]).len();
    assert_eq!(hooks("dev", json!({"simulation": []})), 0);
    assert_eq!(hooks("normal", json!({})), 1);
    assert_eq!(hooks("dev", json!({"default": ["simulation"]})), 1);
    assert_eq!(
        hooks("dev", json!({"default": ["millstream-types/seeded-bugs"]})),
        1
    );
}

#[test]
fn a_forbidden_arrow_is_seen() {
    let forbidden = |of: &str, on: &str| {
        [Dependency {
            of: of.to_owned(),
            on: on.to_owned(),
        }]
    };
    assert_eq!(arrow_faults(&forbidden("types", "worker")).len(), 1);
    assert_eq!(arrow_faults(&forbidden("new", "types")).len(), 1);
    assert_eq!(arrow_faults(&forbidden("worker", "types")).len(), 0);
    assert_eq!(heavy_faults(&forbidden("plan", "rdkafka")).len(), 1);
    assert_eq!(heavy_faults(&forbidden("plan", "aws-config")).len(), 1);
    assert_eq!(
        heavy_faults(&forbidden("checkpoint", "aws-config")).len(),
        0
    );
}

/// Directories of the workspace's crates, from its root manifest.
pub(crate) fn directories() -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("the root manifest");
    let (_, rest) = manifest.split_once("members = [").expect("members");
    let (members, _) = rest.split_once(']').expect("the end of the list");
    members
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}
