//! Savepoints as resources: on demand, periodic, kept, disposed of.

use std::time::Duration;

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, text};
use millstream_tests::proxy::Action;
use millstream_tests::wait::{wait_for, wait_until};
use serde_json::{Value, json};

use crate::shared;

/// Long enough for a periodic savepoint that is taken every minute.
const PATIENCE: Duration = Duration::from_mins(3);

/// A `StreamSavepoint` of a job, with more in its spec.
pub(super) fn savepoint(name: &str, job: &str, more: &Value) -> Value {
    let mut spec = json!({"jobRef": {"name": job}});
    for (key, value) in more.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    json!({"apiVersion": "millstream.dev/v1alpha1", "kind": "StreamSavepoint",
        "metadata": {"name": name}, "spec": spec})
}

#[track_caller]
pub(super) fn wait_for_state(stage: &Stage, name: &str, state: &str) -> Value {
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

#[test]
fn a29_a_savepoint_that_fails_is_tried_again_while_the_job_runs_on() {
    let _shared = shared();
    let stage = Stage::new("a29-store");
    let proxy = stage.store_proxy();
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders().with_store_at(&proxy.address()));
    stage.wait_ready("orders");
    // Checkpoints go on; what is below `savepoints/` cannot be written.
    proxy.set_rule(|request| match request.method.as_str() {
        "PUT" | "POST" if request.path.contains("/savepoints/") => Action::Answer(403),
        _ => Action::Forward,
    });
    let kubectl = stage.kubectl();
    kubectl
        .apply(&savepoint("stubborn", "orders", &json!({})))
        .expect_success();
    kubectl
        .apply(&savepoint("hurried", "orders", &json!({"deadline": "20s"})))
        .expect_success();
    let tried = |name: &str, tries: i64| {
        let what = format!("savepoint {name} has failed {tries} times");
        wait_for(&what, DEADLINE, || {
            let found = stage.api().get(&stage.savepoint_path(name))?;
            let failed = text(&found["status"]["message"]).contains(&format!("try {tries} failed"));
            failed.then_some(found)
        })
    };
    let first = tried("stubborn", 1);
    assert_eq!(first["status"]["state"], json!("Pending"), "{first:#}");
    let says = text(&first["status"]["message"]);
    assert!(
        says.contains("cannot create s3://") && says.contains("Next try at"),
        "{says}"
    );
    tried("stubborn", 2);
    let hurried = wait_for_state(&stage, "hurried", "Abandoned");
    let says = text(&hurried["status"]["message"]);
    assert!(
        says.contains("not complete after 20s") && says.contains("cannot create s3://"),
        "with why: {says}"
    );
    assert!(hurried["status"]["path"].is_null(), "{hurried:#}");
    flow.wait_for_more("while savepoints fail");
    let job = stage.job("orders");
    assert!(holds(&job, "Ready", "True"), "{job:#}");

    proxy.set_rule(|_| Action::Forward);
    let stubborn = wait_for_state(&stage, "stubborn", "Completed");
    let path = text(&stubborn["status"]["path"]);
    assert!(objects(&stage, &path) > 0, "{path}");
    stage.finish(flow, "orders");
}

/// Savepoints of a job, oldest first.
fn periodic(stage: &Stage) -> Vec<Value> {
    let path = stage.path("apis/millstream.dev/v1alpha1", "streamsavepoints");
    let mut all = stage.api().list(&path);
    all.retain(|found| text(&found["metadata"]["name"]) != "by-hand");
    all.sort_by_key(|found| text(&found["metadata"]["creationTimestamp"]));
    all
}

/// Waits for a periodic savepoint that is complete and none of these.
#[track_caller]
fn wait_for_another(stage: &Stage, known: &[String]) -> String {
    let found = wait_for("another periodic savepoint is complete", PATIENCE, || {
        periodic(stage).into_iter().find(|one| {
            one["status"]["state"] == json!("Completed")
                && !known.contains(&text(&one["metadata"]["name"]))
        })
    });
    text(&found["metadata"]["name"])
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
    let from = |name: &str| json!({"policy": "From", "from": {"savepoint": name}});

    // Another job has started from it: its status says so, its spec no longer.
    let in_status = wait_for_another(&stage, &[]);
    let heir = job.clone().named("heir");
    stage.apply(&heir.clone().set("/spec/restore", from(&in_status)));
    stage.wait_ready("heir");
    stage.apply(&heir);
    let heir = stage.wait_ready("heir");
    assert_eq!(heir["spec"]["restore"]["policy"], json!("Latest"));
    let path = stage.api().get(&stage.savepoint_path(&in_status));
    let path = text(&path.expect("it is there")["status"]["path"]);
    assert_eq!(heir["status"]["restoredFrom"], json!(path), "{heir:#}");

    // Another job will start from it: only its spec says so.
    let in_spec = wait_for_another(&stage, std::slice::from_ref(&in_status));
    let waiting = job
        .named("waiting")
        .set("/spec/restore", from(&in_spec))
        .set("/spec/state", json!("Suspended"));
    stage.apply(&waiting);

    let third = wait_for_another(&stage, &[in_status.clone(), in_spec.clone()]);
    wait_until(
        "the third one goes when there is a fourth",
        PATIENCE,
        || {
            let all = periodic(&stage);
            all.len() >= 3
                && all
                    .iter()
                    .all(|one| one["metadata"]["name"] != json!(third))
        },
    );
    let left: Vec<String> = periodic(&stage)
        .iter()
        .map(|one| text(&one["metadata"]["name"]))
        .collect();
    assert!(
        left.contains(&in_status),
        "a status refers to {in_status}: {left:?}"
    );
    assert!(
        left.contains(&in_spec),
        "a spec refers to {in_spec}: {left:?}"
    );
    assert!(
        stage.api().get(&stage.savepoint_path("by-hand")).is_some(),
        "nobody's to delete"
    );
}
