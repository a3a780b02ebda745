//! Savepoints as resources: on demand, periodic, kept, disposed of.

use std::time::Duration;

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, text};
use millstream_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

use crate::shared;

fn savepoint(name: &str, job: &str, more: &Value) -> Value {
    let mut spec = json!({"jobRef": {"name": job}});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "millstream.dev/v1alpha1", "kind": "StreamSavepoint",
        "metadata": {"name": name}, "spec": spec})
}

#[track_caller]
fn wait_for_state(stage: &Stage, name: &str, state: &str) -> Value {
    wait_for(&format!("savepoint {name} is {state}"), DEADLINE, || {
        let found = stage.api().get(&stage.savepoint_path(name))?;
        (found["status"]["state"] == json!(state)).then_some(found)
    })
}

/// Objects in the store below a savepoint's path.
fn objects(stage: &Stage, path: &str) -> usize {
    let key = path.split_once("://").map_or(path, |(_, rest)| rest);
    let key = key.split_once('/').map_or(key, |(_, key)| key);
    stage.world.minio.keys(key).len()
}

#[test]
fn a29_a_savepoint_completes_outlives_its_job_and_is_disposed_of_while_the_job_is_down() {
    let _shared = shared();
    let stage = Stage::new("a29");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");

    let kubectl = stage.kubectl();
    kubectl
        .apply(&savepoint("kept", "orders", &json!({})))
        .expect_success();
    kubectl
        .apply(&savepoint(
            "thrown-away",
            "orders",
            &json!({"retain": false}),
        ))
        .expect_success();
    let kept = wait_for_state(&stage, "kept", "Completed");
    let thrown_away = wait_for_state(&stage, "thrown-away", "Completed");
    assert!(kept["metadata"]["ownerReferences"].is_null(), "{kept:#}");
    let [kept, thrown_away] = [kept, thrown_away].map(|found| text(&found["status"]["path"]));
    assert!(objects(&stage, &kept) > 0 && objects(&stage, &thrown_away) > 0);
    flow.wait_for_more("after the savepoints");

    stage.suspend("orders");
    kubectl
        .run(&["delete", "ssp", "kept", "thrown-away", "--timeout=90s"])
        .expect_success();
    wait_until(
        "the disposed savepoint is gone from the store",
        DEADLINE,
        || objects(&stage, &thrown_away) == 0,
    );
    assert!(objects(&stage, &kept) > 0, "the other one stays");
    stage.change("orders", &json!({"state": "Running"}));
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
}

#[test]
fn a29_a_savepoint_of_a_job_that_is_down_is_retried_until_its_deadline() {
    let _shared = shared();
    let stage = Stage::new("a29-down");
    let job = stage.generated("sleeper", None);
    stage.apply(&job.clone().set("/spec/state", json!("Suspended")));
    stage.wait_condition("sleeper", "Suspended", "True");
    let kubectl = stage.kubectl();
    kubectl
        .apply(&savepoint("late", "sleeper", &json!({"deadline": "12s"})))
        .expect_success();
    kubectl
        .apply(&savepoint("patient", "sleeper", &json!({})))
        .expect_success();
    kubectl
        .apply(&savepoint(
            "of-nobody",
            "nobody",
            &json!({"deadline": "12s"}),
        ))
        .expect_success();
    let late = wait_for_state(&stage, "late", "Abandoned");
    assert!(!text(&late["status"]["message"]).is_empty(), "{late:#}");
    let of_nobody = wait_for_state(&stage, "of-nobody", "Abandoned");
    assert!(
        text(&of_nobody["status"]["message"]).contains("nobody"),
        "{of_nobody:#}"
    );
    // What still has time completes once the job runs.
    stage.apply(&job);
    wait_for_state(&stage, "patient", "Completed");
    wait_for_state(&stage, "late", "Abandoned");
}

/// Savepoints of a job, oldest first.
fn periodic(stage: &Stage) -> Vec<Value> {
    let path = stage.path("apis/millstream.dev/v1alpha1", "streamsavepoints");
    let mut all = stage.api().list(&path);
    all.retain(|found| text(&found["metadata"]["name"]) != "by-hand");
    all.sort_by_key(|found| text(&found["metadata"]["creationTimestamp"]));
    all
}

#[test]
fn a30_periodic_savepoints_are_taken_and_old_ones_go_but_none_that_is_referred_to() {
    let _shared = shared();
    let stage = Stage::new("a30");
    let job = stage.generated("ticker", None);
    let periods = json!({"interval": "1m", "keep": 1});
    stage.apply(&job.clone().set("/spec/savepoints", periods));
    stage.wait_ready("ticker");
    let by_hand = savepoint("by-hand", "ticker", &json!({}));
    stage.kubectl().apply(&by_hand).expect_success();
    let patience = Duration::from_mins(3);
    let first = wait_for("the first periodic savepoint is complete", patience, || {
        periodic(&stage)
            .into_iter()
            .find(|one| one["status"]["state"] == json!("Completed"))
    });
    let name = text(&first["metadata"]["name"]);
    // Another job starts from it, so that it must stay.
    let from = json!({"policy": "From", "from": {"savepoint": name}});
    stage.apply(&job.named("heir").set("/spec/restore", from));
    stage.wait_ready("heir");
    let second = wait_for("a second one is complete", patience, || {
        let mut later = periodic(&stage);
        later.retain(|one| one["status"]["state"] == json!("Completed"));
        later
            .into_iter()
            .find(|one| one["metadata"]["name"] != json!(name))
    });
    let second = text(&second["metadata"]["name"]);
    wait_until(
        "the second one goes when there is a third",
        patience,
        || {
            let all = periodic(&stage);
            all.len() >= 2
                && all
                    .iter()
                    .all(|one| one["metadata"]["name"] != json!(second))
        },
    );
    let all = periodic(&stage);
    assert!(
        all.iter().any(|one| one["metadata"]["name"] == json!(name)),
        "{name} is referred to"
    );
    assert!(
        stage.api().get(&stage.savepoint_path("by-hand")).is_some(),
        "nobody's to delete"
    );
}
