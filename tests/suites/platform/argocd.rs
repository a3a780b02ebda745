//! Health checks and actions of Argo CD, run by a real Lua over a resource in every state.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use millstream_tests::scratch::Scratch;
use millstream_tests::tools::{self, root};
use serde_json::{Value, json};

use super::{argocd_directory, cases, check, writes_golden, yaml};

/// A value as Lua writes it.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(literal).collect();
            format!("{{{}}}", items.join(","))
        }
        Value::Object(fields) => {
            let mut text = String::new();
            for (key, value) in fields {
                write!(text, "[{}]={},", quoted(key), literal(value)).expect("a string grows");
            }
            format!("{{{text}}}")
        }
    }
}

fn quoted(text: &str) -> String {
    let mut quoted = String::new();
    for byte in text.bytes() {
        write!(quoted, "\\{byte:03}").expect("a string grows");
    }
    format!("\"{quoted}\"")
}

/// What a script returns for a resource.
#[track_caller]
fn run(scratch: &Scratch, script: &Path, resource: &Value) -> Value {
    let input = scratch.join("resource.lua");
    std::fs::write(&input, format!("return {}", literal(resource))).expect("a scratch file");
    let output = Command::new("lua5.4")
        .arg(root().join("tests/suites/platform/sandbox.lua"))
        .args([script, &input])
        .output()
        .expect("lua5.4 starts");
    assert!(
        output.status.success(),
        "{}: {}",
        script.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the sandbox prints JSON")
}

/// Lua does not tell an empty list from an empty table.
fn without_empty_lists(value: Value) -> Value {
    match value {
        Value::Array(items) if items.is_empty() => json!({}),
        Value::Array(items) => items.into_iter().map(without_empty_lists).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, without_empty_lists(value)))
            .collect(),
        other => other,
    }
}

#[track_caller]
fn write(file: &Path, content: &Value) {
    let text = serde_yaml::to_string(content).expect("YAML");
    std::fs::write(file, text).expect("a golden file");
}

#[track_caller]
fn every_fixture_is_tested(directory: &Path, cases: &[Value]) {
    for file in std::fs::read_dir(directory.join("testdata")).expect("fixtures") {
        let name = file.expect("a readable directory").file_name();
        let path = json!(format!("testdata/{}", name.to_string_lossy()));
        assert!(
            cases.iter().any(|case| case["inputPath"] == path),
            "no case has {path}"
        );
    }
}

#[test]
fn argo_cd_shows_the_health_of_every_state() {
    tools::install("kubernetes.sh", &["chart"]);
    let scratch = Scratch::new("argocd-health");
    let mut faults = Vec::new();
    for kind in ["StreamJob", "StreamSavepoint"] {
        let directory = argocd_directory(kind);
        let file = directory.join("health_test.yaml");
        let mut all = cases(&file, "tests");
        for case in &mut all {
            let input = case["inputPath"].as_str().expect("inputPath").to_owned();
            let resource = yaml(&directory.join(&input));
            let health = run(&scratch, &directory.join("health.lua"), &resource);
            // How a state counts is not recorded: it is what is wanted.
            if writes_golden() {
                case["healthStatus"]["message"] = health["message"].clone();
            }
            if health != case["healthStatus"] {
                faults.push(format!(
                    "{kind}/{input} is {health}, not {}",
                    case["healthStatus"]
                ));
            }
        }
        if writes_golden() {
            write(&file, &json!({"tests": all}));
        }
        every_fixture_is_tested(&directory, &all);
    }
    check("health", &faults);
}

#[test]
fn argo_cd_offers_the_actions_that_a_state_allows() {
    tools::install("kubernetes.sh", &["chart"]);
    let scratch = Scratch::new("argocd-discovery");
    let directory = argocd_directory("StreamJob/actions");
    let mut faults = Vec::new();
    for case in cases(&directory.join("action_test.yaml"), "discoveryTests") {
        let input = case["inputPath"].as_str().expect("inputPath");
        let resource = yaml(&directory.join(input));
        let offered = run(&scratch, &directory.join("discovery.lua"), &resource);
        let expected = case["result"].as_array().expect("a list of actions");
        for action in expected {
            let name = action["name"].as_str().expect("a name");
            if offered[name]["disabled"] != action["disabled"] {
                faults.push(format!("{input}: {name} is {}", offered[name]));
            }
        }
        if offered.as_object().map(serde_json::Map::len) != Some(expected.len()) {
            faults.push(format!("{input}: other actions than {expected:?}"));
        }
    }
    check("discovery", &faults);
}

#[test]
fn every_action_of_argo_cd_makes_what_it_says() {
    tools::install("kubernetes.sh", &["chart"]);
    let scratch = Scratch::new("argocd-actions");
    let directory = argocd_directory("StreamJob/actions");
    let mut faults = Vec::new();
    let cases = cases(&directory.join("action_test.yaml"), "actionTests");
    for case in &cases {
        let name = case["action"].as_str().expect("a name");
        let path = |key: &str| directory.join(case[key].as_str().expect("a path"));
        let script = directory.join(name).join("action.lua");
        let made = run(&scratch, &script, &yaml(&path("inputPath")));
        let made = without_empty_lists(made);
        if writes_golden() {
            write(&path("expectedOutputPath"), &made);
        }
        if made != without_empty_lists(yaml(&path("expectedOutputPath"))) {
            faults.push(format!("{name} makes {made}"));
        }
    }
    check("actions", &faults);
    let tested: Vec<&str> = cases
        .iter()
        .filter_map(|case| case["action"].as_str())
        .collect();
    for name in ["approve", "restart", "resume", "savepoint", "suspend"] {
        assert!(tested.contains(&name), "no test of {name}");
    }
}

#[test]
fn the_patch_for_argo_cd_holds_the_scripts_as_they_are() {
    let output = Command::new(root().join("contrib/argocd/argocd-cm.sh"))
        .output()
        .expect("the script runs");
    let patch: Value = serde_yaml::from_slice(&output.stdout).expect("it prints YAML");
    let script = |path: &str| super::text(&root().join("contrib/argocd").join(path));
    for kind in ["StreamJob", "StreamSavepoint"] {
        let key = format!("resource.customizations.health.millstream.dev_{kind}");
        assert_eq!(patch["data"][&key], script(&format!("{kind}/health.lua")));
    }
    let actions = &patch["data"]["resource.customizations.actions.millstream.dev_StreamJob"];
    let actions: Value = serde_yaml::from_str(actions.as_str().expect("text")).expect("YAML");
    assert_eq!(
        actions["discovery.lua"],
        script("StreamJob/actions/discovery.lua")
    );
    for action in actions["definitions"].as_array().expect("a list") {
        let name = action["name"].as_str().expect("a name");
        let path = format!("StreamJob/actions/{name}/action.lua");
        assert_eq!(action["action.lua"], script(&path));
    }
}
