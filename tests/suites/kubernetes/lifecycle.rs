//! A job from its first deployment to its deletion.

use std::time::{Duration, Instant};

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::operator::Operator;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, make_namespace, message, text};
use millstream_tests::wait::{pause, wait_until};
use serde_json::json;

use crate::shared;

/// Whether nothing of the job is left in its namespace but its retained state's names.
fn is_gone(stage: &Stage, job: &str) -> bool {
    let objects = [
        ("apis/apps/v1", "deployments"),
        ("api/v1", "services"),
        ("api/v1", "pods"),
        ("apis/policy/v1", "poddisruptionbudgets"),
        ("apis/networking.k8s.io/v1", "networkpolicies"),
        ("api/v1", "configmaps"),
    ];
    stage.api().get(&stage.job_path(job)).is_none()
        && objects.into_iter().all(|(group, kind)| {
            let query = format!("{kind}?labelSelector=millstream.dev/job%3D{job}");
            stage.api().list(&stage.path(group, &query)).is_empty()
        })
}

/// `kubectl delete`, and waits until everything is gone.
#[track_caller]
fn delete(stage: &Stage, job: &str) -> Duration {
    let started = Instant::now();
    stage
        .kubectl()
        .run(&["delete", "streamjob", job, "--timeout=120s"])
        .expect_success();
    wait_until("all objects of the deleted job are gone", DEADLINE, || {
        is_gone(stage, job)
    });
    started.elapsed()
}

#[test]
fn a09_a_suspended_job_has_no_pods_and_goes_on_from_its_savepoint() {
    let _shared = shared();
    let stage = Stage::new("a09");
    let flow = Flow::start(&stage);

    // Created suspended: nothing is made.
    stage.apply(&stage.orders().set("/spec/state", json!("Suspended")));
    let job = stage.wait_condition("orders", "Suspended", "True");
    assert_eq!(job["status"]["state"], json!("Suspended"), "{job:#}");
    assert!(
        !holds(&job, "Reconciling", "True") && !holds(&job, "Stalled", "True"),
        "{job:#}"
    );
    assert!(stage.pod_uids("orders").is_empty());

    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    flow.wait_for_more("by the resumed job");

    stage.suspend("orders");
    let job = stage.job("orders");
    let restore_point = text(&job["status"]["restorePoint"]);
    assert!(restore_point.contains("savepoint"), "{job:#}");
    let seen = flow.seen();
    // Nothing comes out of a suspended job, for as long as two checkpoints would take.
    pause(Duration::from_secs(2));
    assert_eq!(flow.seen(), seen);

    stage.change("orders", &json!({"state": "Running"}));
    let job = stage.wait_ready("orders");
    assert!(holds(&job, "RestoredFromState", "True"), "{job:#}");
    flow.wait_for_more("after the second resumption");
    stage.finish(flow, "orders");
}

#[test]
fn a10_a_new_restart_time_restarts_the_job_once() {
    let _shared = shared();
    let stage = Stage::new("a10");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    let before = stage.pod_uids("orders");

    stage.change("orders", &json!({"restartAt": "2026-11-24T12:00:00Z"}));
    stage.wait_ready("orders");
    let after = stage.pod_uids("orders");
    assert!(
        before.iter().all(|uid| !after.contains(uid)),
        "all pods are new"
    );
    flow.wait_for_more("after the restart");
    // The same value again restarts nothing.
    stage.change("orders", &json!({"restartAt": "2026-11-24T12:00:00Z"}));
    flow.wait_for_more("after a change that is none");
    assert_eq!(stage.pod_uids("orders"), after);
    stage.finish(flow, "orders");
}

#[test]
fn a12_a_job_is_rescaled_up_and_down_and_loses_nothing() {
    let _shared = shared();
    let stage = Stage::new("a12");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    let revision = stage.job("orders")["status"]["revision"].clone();
    for parallelism in [4, 1, 3] {
        let replicas = format!("--replicas={parallelism}");
        stage
            .kubectl()
            .run(&["scale", "sj/orders", &replicas])
            .expect_success();
        let what = format!("it runs with parallelism {parallelism}");
        stage.wait_for_job("orders", &what, DEADLINE, |job| {
            job["status"]["parallelism"] == json!(parallelism) && holds(job, "Ready", "True")
        });
        assert_eq!(stage.pods("orders", "worker").len(), parallelism);
        flow.wait_for_more(&format!("at parallelism {parallelism}"));
    }
    assert_eq!(
        stage.job("orders")["status"]["revision"],
        revision,
        "no new revision"
    );
    stage.finish(flow, "orders");
}

#[test]
fn a28_a_bounded_job_completes_and_runs_again_when_its_spec_changes() {
    let _shared = shared();
    let stage = Stage::new("a28");
    let bounded = stage.generated("bounded", Some(5_000));
    stage.apply(&bounded);
    let job = stage.wait_condition("bounded", "Completed", "True");
    assert_eq!(job["status"]["state"], json!("Completed"), "{job:#}");
    assert!(
        !holds(&job, "Reconciling", "True") && !holds(&job, "Stalled", "True"),
        "{job:#}"
    );
    wait_until("the pods of the completed job are gone", DEADLINE, || {
        stage.pod_uids("bounded").is_empty()
    });
    let first = job["status"]["revision"].clone();

    // More of other orders: not a continuation of what it has made.
    let again = bounded
        .set("/spec/dataflow/sources/0/generator/rows", json!(9_000))
        .set("/spec/restore", json!({"policy": "Fresh"}));
    stage.apply(&again);
    let job = stage.wait_for_job("bounded", "it has run again", DEADLINE, |job| {
        holds(job, "Completed", "True") && job["status"]["revision"] != first
    });
    assert!(!holds(&job, "Stalled", "True"), "{job:#}");
}

#[test]
fn a31_retained_checkpoints_stay_and_a_job_under_the_same_name_goes_on_from_them() {
    let _shared = shared();
    let stage = Stage::new("a31-retain");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    let job = stage.wait_ready("orders");
    assert!(
        job["metadata"]["finalizers"].is_null(),
        "nothing has to be done: {job:#}"
    );
    flow.wait_for_more("by the first job");

    delete(&stage, "orders");
    assert!(!stage.stored("orders").is_empty(), "checkpoints stay");

    // A34: created again, it adopts what it finds and says so.
    stage.apply(&stage.orders());
    let job = stage.wait_ready("orders");
    assert!(holds(&job, "RestoredFromState", "True"), "{job:#}");
    wait_until("an event tells of the adopted state", DEADLINE, || {
        stage
            .event_reasons("orders")
            .iter()
            .any(|reason| reason == "AdoptedState")
    });
    flow.wait_for_more("by the second job");
    stage.finish(flow, "orders");
}

#[test]
fn a31_a_savepoint_is_taken_before_the_job_goes() {
    let _shared = shared();
    let stage = Stage::new("a31-savepoint");
    let flow = Flow::start(&stage);
    let manifest = stage
        .orders()
        .set("/spec/deletion", json!({"policy": "Savepoint"}));
    stage.apply(&manifest);
    let job = stage.wait_ready("orders");
    assert!(
        job["metadata"]["finalizers"]
            .to_string()
            .contains("millstream.dev/state"),
        "{job:#}"
    );
    flow.wait_for_more("by the first job");
    delete(&stage, "orders");
    let stored = stage.stored("orders");
    assert!(
        stored.iter().any(|key| key.contains("savepoint")),
        "{stored:?}"
    );
    stage.apply(&manifest);
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
}

#[test]
fn a31_checkpoints_are_deleted_with_the_job_if_it_says_so() {
    let _shared = shared();
    let stage = Stage::new("a31-delete");
    let job = stage.generated("short", None);
    let job = job.set("/spec/deletion", json!({"policy": "DeleteCheckpoints"}));
    stage.apply(&job);
    stage.wait_ready("short");
    assert!(!stage.stored("short").is_empty());
    delete(&stage, "short");
    // What fences an old coordinator stays; nothing is left that a job could go on from.
    stage.apply(&job);
    let job = stage.wait_ready("short");
    assert!(holds(&job, "RestoredFromState", "False"), "{job:#}");
}

#[test]
fn a31_a_deletion_that_cannot_succeed_ends_at_its_deadline_and_checkpoints_stay() {
    let _shared = shared();
    let stage = Stage::new("a31-deadline");
    let job = stage.generated("stuck", None);
    let deletion = json!({"policy": "Savepoint", "deadline": "15s"});
    stage.apply(&job.set("/spec/deletion", deletion));
    stage.wait_ready("stuck");
    // No pod can come up any more, so that no savepoint can be taken.
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}});
    stage.kubectl().apply(&quota).expect_success();
    stage.kill_pods("stuck", "worker");
    stage.kill_pods("stuck", "coordinator");
    let took = delete(&stage, "stuck");
    assert!(took < Duration::from_mins(1), "{took:?}");
    assert!(!stage.stored("stuck").is_empty(), "checkpoints stay");
}

#[test]
fn a32_a_job_that_is_deleted_while_a_savepoint_is_taken_goes_and_the_savepoint_tells() {
    let _shared = shared();
    let stage = Stage::new("a32");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    let savepoint = json!({"apiVersion": "millstream.dev/v1alpha1", "kind": "StreamSavepoint",
        "metadata": {"name": "late"}, "spec": {"jobRef": {"name": "orders"}, "deadline": "20s"}});
    stage.kubectl().apply(&savepoint).expect_success();
    delete(&stage, "orders");
    let path = stage.savepoint_path("late");
    let mut state = String::new();
    wait_until("the savepoint has come to an end", DEADLINE, || {
        let savepoint = stage.api().get(&path).expect("it is not owned by the job");
        state = text(&savepoint["status"]["state"]);
        ["Completed", "Failed", "Abandoned"].contains(&state.as_str())
    });
    println!("a32: the savepoint is {state}");
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
}

#[test]
fn a33_a_namespace_with_jobs_and_savepoints_is_gone_within_a_minute() {
    let _shared = shared();
    // The operator lives elsewhere, with rights that do not go with the namespace.
    let mut gate = None;
    let mut home = String::new();
    let stage = Stage::with_operator("a33", |cluster, namespace, scratch| {
        let (server, address) = cluster.gate(None);
        gate = Some(server);
        home = format!("{namespace}-operator");
        make_namespace(cluster, &home);
        Operator::prepare(&address, &[&home, namespace], scratch.path(), "operator")
    });
    stage.operator.run();
    stage.operator.wait_until_ready();
    let keep = stage.generated("keep", None);
    stage.apply(
        &keep
            .clone()
            .set("/spec/deletion", json!({"policy": "Savepoint"})),
    );
    stage.apply(
        &keep
            .named("drop")
            .set("/spec/deletion", json!({"policy": "DeleteCheckpoints"})),
    );
    stage.wait_ready("keep");
    stage.wait_ready("drop");
    let savepoint = json!({"apiVersion": "millstream.dev/v1alpha1", "kind": "StreamSavepoint",
        "metadata": {"name": "one"}, "spec": {"jobRef": {"name": "keep"}, "retain": false}});
    stage.kubectl().apply(&savepoint).expect_success();
    let started = Instant::now();
    let namespace = stage.namespace.clone();
    stage
        .kubectl()
        .run(&["delete", "namespace", &namespace, "--wait=false"])
        .expect_success();
    wait_until("the namespace is gone", Duration::from_mins(2), || {
        stage
            .api()
            .get(&format!("/api/v1/namespaces/{namespace}"))
            .is_none()
    });
    let took = started.elapsed();
    stage.api().delete(&format!("/api/v1/namespaces/{home}"));
    drop(gate);
    println!("a33: the namespace was gone after {took:?}");
    assert!(took < Duration::from_mins(1), "{took:?}");
}

#[test]
fn a35_without_an_operator_a_job_with_a_finalizer_goes_by_the_documented_escape() {
    let _shared = shared();
    let stage = Stage::new("a35");
    let job = stage.generated("left", None);
    stage.apply(&job.set("/spec/deletion", json!({"policy": "Savepoint"})));
    stage.wait_ready("left");
    stage.operator.kill();
    stage
        .kubectl()
        .run(&["delete", "sj", "left", "--wait=false"])
        .expect_success();
    pause(Duration::from_secs(2));
    assert!(
        stage.api().get(&stage.job_path("left")).is_some(),
        "its finalizer holds it"
    );
    let patch = r#"{"metadata": {"finalizers": null}}"#;
    stage
        .kubectl()
        .run(&["patch", "sj", "left", "--type=merge", "-p", patch])
        .expect_success();
    wait_until("everything of the job is gone", DEADLINE, || {
        is_gone(&stage, "left")
    });
    assert!(!stage.stored("left").is_empty(), "checkpoints stay");
}

#[test]
fn a48_a_quota_that_allows_no_pods_is_told_and_waited_out() {
    let _shared = shared();
    let stage = Stage::new("a48");
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}});
    stage.kubectl().apply(&quota).expect_success();
    stage.apply(&stage.generated("poor", None));
    let job = stage.wait_for_job("poor", "it says what is missing", DEADLINE, |job| {
        let all = ["Ready", "Reconciling", "Stalled"]
            .map(|kind| message(job, kind))
            .concat();
        all.contains("quota")
    });
    assert!(!holds(&job, "Ready", "True"), "{job:#}");
    stage
        .kubectl()
        .run(&["delete", "resourcequota", "no-pods"])
        .expect_success();
    stage.wait_ready("poor");
}
