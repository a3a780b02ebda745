//! Jobs that cannot take the savepoint that an upgrade wants: they go on from their newest
//! checkpoint, and say so.

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, message, reason, text};
use millstream_tests::proxy::Action;
use serde_json::{Value, json};

use crate::shared;
use crate::upgrade::{revision, wait_upgraded};

/// The new revision runs on from a checkpoint, and condition and event tell why.
#[track_caller]
fn says_that_it_fell_back(stage: &Stage, job: &Value) {
    assert!(holds(job, "RestoredFromState", "True"), "{job:#}");
    assert_eq!(
        reason(job, "RestoredFromState"),
        "FellBackToCheckpoint",
        "{job:#}"
    );
    let says = message(job, "RestoredFromState");
    assert!(
        says.contains("could not be stopped with a savepoint"),
        "{says}"
    );
    let from = text(&job["status"]["restoredFrom"]);
    assert!(from.contains("/chain/"), "{from}");
    stage.wait_event("orders", "FellBackToCheckpoint");
}

/// Names of the savepoints that are whole.
fn savepoints(stage: &Stage) -> Vec<String> {
    let mut stored = stage.stored("orders");
    stored.retain(|key| key.contains("/savepoints/") && key.ends_with("manifest.json"));
    stored
}

/// Pods of these roles cannot come up any more; then the job is upgraded, and `judge` looks at it.
fn upgraded_without(name: &str, roles: &[&str], judge: fn(&Stage, &Value)) {
    let stage = Stage::new(name);
    let class = format!("{}-doomed", stage.namespace);
    let priority = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": class}, "value": 1});
    stage.kubectl().apply(&priority).expect_success();
    let flow = Flow::start(&stage);
    let good = stage.orders();
    let mut doomed = good.clone();
    for role in roles {
        let pod = if *role == "worker" {
            "workers/pod"
        } else {
            "coordinator"
        };
        doomed = doomed.set(&format!("/spec/{pod}/priorityClassName"), json!(class));
    }
    stage.apply(&doomed);
    stage.wait_ready("orders");
    flow.wait_for_more("by the old revision");
    let old = revision(&stage);

    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"},
        "spec": {"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": [class]}]}}});
    stage.apply_quota(&quota);
    for role in roles {
        stage.kill_pods("orders", role);
    }
    stage.wait_for_job("orders", "it is no longer ready", DEADLINE, |job| {
        holds(job, "Ready", "False")
    });
    stage.apply(&good);
    let job = wait_upgraded(&stage, &old);
    judge(&stage, &job);
    flow.wait_for_more("by the new revision");
    stage.finish(flow, "orders");
    stage
        .kubectl()
        .run(&["delete", "priorityclass", &class])
        .expect_success();
}

#[test]
fn a06_a_job_of_which_nobody_is_left_is_upgraded_from_its_newest_checkpoint() {
    let _shared = shared();
    upgraded_without("a06", &["worker", "coordinator"], |stage, job| {
        says_that_it_fell_back(stage, job);
        assert_eq!(savepoints(stage), [""; 0]);
    });
}

/// The coordinator needs no workers for it.
#[test]
fn a06_a_job_that_waits_for_workers_is_stopped_with_its_newest_checkpoint_as_a_savepoint() {
    let _shared = shared();
    upgraded_without("a06-workers", &["worker"], |stage, job| {
        assert!(holds(job, "RestoredFromState", "True"), "{job:#}");
        assert_eq!(reason(job, "RestoredFromState"), "Restored", "{job:#}");
        let from = text(&job["status"]["restoredFrom"]);
        assert!(from.contains("/savepoints/"), "{from}");
        assert_eq!(savepoints(stage).len(), 1);
    });
}

#[test]
fn a06_a_job_that_runs_and_whose_savepoints_fail_is_upgraded_from_its_newest_checkpoint() {
    let _shared = shared();
    let stage = Stage::new("a06-store");
    let proxy = stage.store_proxy();
    let flow = Flow::start(&stage);
    let patience = json!({"progressDeadline": "20s"});
    let manifest = stage
        .orders()
        .with_store_at(&proxy.address())
        .set("/spec/upgrade", patience);
    stage.apply(&manifest);
    stage.wait_ready("orders");
    flow.wait_for_more("by the old revision");
    let old = revision(&stage);

    // Checkpoints go on; what is below `savepoints/` cannot be written.
    proxy.set_rule(|request| match request.method.as_str() {
        "PUT" | "POST" if request.path.contains("/savepoints/") => Action::Answer(403),
        _ => Action::Forward,
    });
    stage.apply(&manifest.upgraded());
    let job = wait_upgraded(&stage, &old);
    says_that_it_fell_back(&stage, &job);
    assert_eq!(savepoints(&stage), [""; 0]);
    flow.wait_for_more("by the new revision");
    proxy.set_rule(|_| Action::Forward);
    stage.finish(flow, "orders");
}
