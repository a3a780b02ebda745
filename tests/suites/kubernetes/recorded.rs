//! The resources that tools are tested with, on a real API server.

use millstream_tests::kubernetes::GROUP;
use millstream_tests::kubernetes::api::Patch;
use millstream_tests::kubernetes::operator::Operator;
use millstream_tests::kubernetes::stage::Stage;
use millstream_tests::tools;
use serde_json::{Value, json};

use crate::shared;

/// The fixtures of a kind with their names.
fn fixtures(kind: &str) -> Vec<(String, Value)> {
    let directory = tools::root().join("contrib/argocd").join(kind);
    let files = std::fs::read_dir(directory.join("testdata")).expect("the fixtures are there");
    let fixtures = files.map(|file| {
        let path = file.expect("a readable directory").path();
        let name = path.file_stem().expect("a name").to_string_lossy();
        let text = std::fs::read_to_string(&path).expect("a text file");
        let object = serde_yaml::from_str(&text).expect("YAML");
        (name.into_owned(), object)
    });
    fixtures.collect()
}

/// What the API server makes of a fixture, or why it refuses it.
fn stored(stage: &Stage, plural: &str, name: &str, fixture: &Value) -> Result<Value, String> {
    let object = json!({
        "apiVersion": fixture["apiVersion"],
        "kind": fixture["kind"],
        "metadata": {"name": name},
        "spec": fixture["spec"],
    });
    let path = stage.path(&format!("apis/{GROUP}"), plural);
    let strict = "fieldValidation=Strict";
    let created = stage
        .api()
        .create(&format!("{path}?{strict}"), &object)
        .map_err(|refused| refused.message)?;
    if fixture["status"].is_null() {
        return Ok(created);
    }
    let status = json!({"status": fixture["status"]});
    stage
        .api()
        .patch(
            &format!("{path}/{name}/status?{strict}"),
            Patch::Merge,
            &status,
        )
        .map_err(|refused| refused.message)
}

#[test]
fn a41_recorded_resources_are_what_the_api_server_stores() {
    let _shared = shared();
    // Nobody looks after them.
    let stage = Stage::with_operator("a41", |_, namespace, scratch| {
        Operator::prepare("127.0.0.1:1", &[namespace], scratch.path(), "unused")
    });
    let mut faults = Vec::new();
    let mut count = 0;
    for (kind, plural) in [
        ("StreamJob", "streamjobs"),
        ("StreamSavepoint", "streamsavepoints"),
    ] {
        for (name, fixture) in fixtures(kind) {
            count += 1;
            match stored(&stage, plural, &name, &fixture) {
                Err(refused) => faults.push(format!("{kind}/{name} is refused: {refused}")),
                Ok(object) => {
                    for part in ["spec", "status"] {
                        if object[part] != fixture[part] {
                            faults.push(format!(
                                "{kind}/{name}: {part} becomes {:#}, not {:#}",
                                object[part], fixture[part]
                            ));
                        }
                    }
                }
            }
        }
    }
    assert!(count > 25, "{count} fixtures");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
