//! What tools that follow kstatus make of our conditions: Flux, `kubectl` plugins, kpt.
//!
//! Source: kstatus, `status.Compute` for a resource that it knows nothing about.

use serde_json::Value;

use super::{argocd_directory, cases, check, yaml};

/// The status that kstatus computes.
fn computed(resource: &Value) -> &'static str {
    if resource["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    let status = &resource["status"];
    if status["observedGeneration"].is_number()
        && status["observedGeneration"] != resource["metadata"]["generation"]
    {
        return "InProgress";
    }
    let condition = |name: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions
            .into_iter()
            .find(|condition| condition["type"] == name)
            .and_then(|condition| condition["status"].as_str())
    };
    match (
        condition("Reconciling"),
        condition("Stalled"),
        condition("Ready"),
    ) {
        (Some("True"), _, _) => "InProgress",
        (_, Some("True"), _) => "Failed",
        (_, _, Some("True") | None) => "Current",
        (_, _, Some(_)) => "InProgress",
    }
}

#[test]
fn every_state_of_a_resource_is_what_kstatus_makes_of_it() {
    let mut faults = Vec::new();
    for kind in ["StreamJob", "StreamSavepoint"] {
        let directory = argocd_directory(kind);
        for case in cases(&directory.join("kstatus_test.yaml"), "tests") {
            let input = case["inputPath"].as_str().expect("inputPath");
            let status = computed(&yaml(&directory.join(input)));
            if case["status"] != status {
                faults.push(format!(
                    "{kind}/{input} is {status}, not {}",
                    case["status"]
                ));
            }
        }
    }
    check("kstatus", &faults);
}

#[test]
fn reconciling_and_stalled_never_hold_together() {
    let mut faults = Vec::new();
    for kind in ["StreamJob", "StreamSavepoint"] {
        let directory = argocd_directory(kind);
        for case in cases(&directory.join("kstatus_test.yaml"), "tests") {
            let input = case["inputPath"].as_str().expect("inputPath");
            let resource = yaml(&directory.join(input));
            let conditions = resource["status"]["conditions"].as_array();
            let holding = conditions
                .into_iter()
                .flatten()
                .filter(|condition| condition["status"] == "True")
                .filter(|condition| {
                    condition["type"] == "Reconciling" || condition["type"] == "Stalled"
                });
            if holding.count() > 1 {
                faults.push(format!("{kind}/{input}"));
            }
        }
    }
    check("conditions that contradict each other", &faults);
}
