//! A job that is deleted: what stays of it, what goes, and for how long that may take.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream_tests::feed::Feed;
use millstream_tests::kubernetes::flow::{Flow, checkpoints_text};
use millstream_tests::kubernetes::operator::Operator;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, make_namespace, reason, text};
use millstream_tests::proxy::Action;
use millstream_tests::wait::{pause, wait_until};
use serde_json::json;

use crate::savepoints::{savepoint, wait_for_state};
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

    let newest = text(&stage.job("orders")["status"]["checkpoint"]["path"]);
    delete(&stage, "orders");
    let stored = stage.stored("orders");
    assert!(
        number_of(&newest_slot(&stored)) >= number_of(&newest),
        "checkpoints stay: {newest} in {stored:?}"
    );

    // A34: created again, it adopts what it finds and says so.
    stage.apply(&stage.orders());
    let job = stage.wait_ready("orders");
    assert!(holds(&job, "RestoredFromState", "True"), "{job:#}");
    let from = text(&job["status"]["restoredFrom"]);
    assert!(
        number_of(&from) >= number_of(&newest),
        "{from} is older than {newest}"
    );
    stage.wait_event("orders", "AdoptedState");
    flow.wait_for_more("by the second job");

    // Also at once, while pods of the old one are still there.
    stage.api().delete(&stage.job_path("orders"));
    stage.apply(&stage.orders());
    let again = stage.wait_ready("orders");
    assert_ne!(again["metadata"]["uid"], job["metadata"]["uid"]);
    assert!(holds(&again, "RestoredFromState", "True"), "{again:#}");
    flow.wait_for_more("by the third job");
    stage.finish(flow, "orders");
}

/// The newest slot of a chain among objects of a job.
fn newest_slot(stored: &[String]) -> String {
    let slots = stored.iter().filter(|key| key.contains("/chain/"));
    slots.max().cloned().unwrap_or_default()
}

/// The number of a slot.
#[track_caller]
fn number_of(path: &str) -> u64 {
    let name = path.rsplit('/').next().unwrap_or_default();
    let number = name.trim_end_matches(".json").parse();
    number.unwrap_or_else(|_| panic!("`{path}` is no slot of a chain"))
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
    let whole = |key: &&String| key.contains("/savepoints/") && key.ends_with("manifest.json");
    assert_eq!(stored.iter().filter(whole).count(), 1, "{stored:?}");
    let seen = flow.seen();
    stage.apply(&manifest);
    let job = stage.wait_ready("orders");
    assert!(holds(&job, "RestoredFromState", "True"), "{job:#}");
    wait_until("the new job commits", DEADLINE, || flow.seen() > seen);
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
    let savepoint = savepoint("kept", "short", &json!({}));
    stage.kubectl().apply(&savepoint).expect_success();
    wait_for_state(&stage, "kept", "Completed");
    let ready = stage.job("short");
    let newest = text(&ready["status"]["checkpoint"]["path"]);
    let before = stage.stored("short");
    assert!(
        before.iter().any(|key| key.contains("/chain/")),
        "{before:?}"
    );
    delete(&stage, "short");

    // Of the chain only what fences an old coordinator off: no slot holds a checkpoint.
    let left = stage.stored("short");
    let listed = checkpoints_text(&stage, &["list", &stage.chain("short")]);
    assert!(
        listed.contains("no checkpoints"),
        "some are left:\n{listed}"
    );
    assert!(
        !left.iter().any(|key| newest.ends_with(key.as_str())),
        "{newest} is left: {left:?}"
    );
    let of_checkpoints = |key: &&String| key.contains("/data/");
    assert_eq!(left.iter().filter(of_checkpoints).count(), 0, "{left:?}");
    // Savepoints stay, whole.
    let saved = |all: &[String]| -> BTreeSet<String> {
        let savepoints = all.iter().filter(|key| key.contains("/savepoints/"));
        savepoints.cloned().collect()
    };
    assert!(!saved(&before).is_empty(), "{before:?}");
    assert_eq!(saved(&left), saved(&before));

    stage.apply(&job);
    let job = stage.wait_ready("short");
    assert!(holds(&job, "RestoredFromState", "False"), "{job:#}");
}

/// Transactions of a stage's jobs that the broker holds open.
fn open(stage: &Stage) -> Vec<String> {
    let all = stage.world.broker.open_transactions().into_iter();
    let ids = all.map(|transaction| transaction.transactional_id);
    ids.filter(|id| id.contains(&stage.namespace)).collect()
}

/// Readers would wait for what it leaves open, for 15 minutes.
#[test]
fn a31_a_job_that_has_died_and_is_deleted_with_its_checkpoints_leaves_nothing_open() {
    let _shared = shared();
    let stage = Stage::new("a31-open");
    let feed = Feed::start(&stage.world.broker, &stage.topic("orders"));
    let retention = json!("DeleteOnCancellation");
    stage.apply(&stage.orders().set("/spec/checkpoint/retention", retention));
    stage.wait_ready("orders");
    stage.apply_quota(&json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}}));
    wait_until("it has written something", DEADLINE, || {
        !open(&stage).is_empty()
    });
    stage.kill_pods("orders", "coordinator");
    stage.kill_pods("orders", "worker");
    assert!(!open(&stage).is_empty(), "nobody is left who could end it");
    stage
        .kubectl()
        .run(&["delete", "streamjob", "orders", "--wait=false"])
        .expect_success();
    let deployments = "deployments?labelSelector=millstream.dev/job%3Dorders";
    let deployments = stage.path("apis/apps/v1", deployments);
    wait_until("the job is given up", DEADLINE, || {
        stage.api().list(&deployments).is_empty()
    });
    // Room for the pod that deletes the checkpoints.
    stage
        .kubectl()
        .run(&["delete", "resourcequota", "no-pods"])
        .expect_success();
    wait_until("the job is gone", DEADLINE, || is_gone(&stage, "orders"));
    assert_eq!(slots(&stage, "orders", "checkpoint"), 0);
    assert_eq!(open(&stage), [""; 0]);
    feed.end();
}

/// Slots of a job's chain that say this, such as `checkpoint` or `claim`.
fn slots(stage: &Stage, job: &str, entry: &str) -> usize {
    let says = format!("\"entry\":{{\"{entry}\"");
    let stored = stage.stored(job);
    let chain = stored.iter().filter(|key| key.contains("/chain/"));
    let texts = chain.map(|key| stage.world.minio.stored_text(key));
    texts.filter(|text| text.contains(&says)).count()
}

#[test]
fn a31_checkpoints_that_are_not_retained_are_deleted_only_when_the_job_is_cancelled() {
    let _shared = shared();
    let stage = Stage::new("a31-retention");
    let manifest = stage
        .generated("short", None)
        .set("/spec/checkpoint/retention", json!("DeleteOnCancellation"))
        .set("/spec/restart", json!({"none": {}}));
    stage.apply(&manifest);
    let job = stage.wait_ready("short");
    assert!(
        job["spec"]["deletion"]["policy"].is_null(),
        "it follows the retention: {job:#}"
    );
    let there = |when: &str| {
        assert!(slots(&stage, "short", "checkpoint") > 0, "{when}: deleted");
    };
    there("while it runs");
    // An upgrade, a suspension and a failure cancel nothing.
    stage.change("short", &json!({"operatorChaining": false}));
    stage.wait_ready("short");
    there("after an upgrade");
    stage.suspend("short");
    there("while it is suspended");
    stage.change("short", &json!({"state": "Running"}));
    stage.wait_ready("short");
    stage.kill_processes("short", "worker");
    stage.wait_for_job("short", "it has failed", DEADLINE, |job| {
        reason(job, "Stalled") == "JobFailed"
    });
    there("after it has failed");

    delete(&stage, "short");
    let stored = stage.stored("short");
    let (savepoints, others): (Vec<&String>, Vec<&String>) =
        stored.iter().partition(|key| key.contains("/savepoints/"));
    assert!(!savepoints.is_empty(), "savepoints stay: {stored:?}");
    let fences = slots(&stage, "short", "claim") + slots(&stage, "short", "released");
    let chain = others.iter().filter(|key| key.contains("/chain/")).count();
    assert_eq!(chain, fences, "more than what fences is left: {stored:?}");
    let hints = |key: &&&String| key.ends_with("/chain-start.json") || key.contains("/collected/");
    let hints = others.iter().filter(hints).count();
    assert_eq!(others.len(), chain + hints, "more is left: {stored:?}");
    assert!(
        stage
            .event_reasons("short")
            .contains(&"StateDeleted".to_owned()),
        "it is told"
    );
    stage.apply(&manifest);
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
    stage.apply_quota(&quota);
    stage.kill_pods("stuck", "worker");
    stage.kill_pods("stuck", "coordinator");
    let took = delete(&stage, "stuck");
    assert!(took < Duration::from_mins(1), "{took:?}");
    assert!(!stage.stored("stuck").is_empty(), "checkpoints stay");
}

#[test]
fn a32_a_job_that_is_deleted_while_a_savepoint_is_taken_goes_and_the_savepoint_is_abandoned() {
    let _shared = shared();
    let stage = Stage::new("a32");
    let proxy = stage.store_proxy();
    let flow = Flow::start(&stage);
    let manifest = stage.orders().with_store_at(&proxy.address());
    stage.apply(&manifest);
    stage.wait_ready("orders");
    flow.wait_for_more("before the savepoint");
    // What is below `savepoints/` is held up, and then lost.
    proxy.set_rule(|request| match request.method.as_str() {
        "PUT" | "POST" if request.path.contains("/savepoints/") => {
            Action::CutBefore(Box::new(|| pause(Duration::from_secs(30))))
        }
        _ => Action::Forward,
    });
    let late = savepoint("late", "orders", &json!({"deadline": "45s"}));
    stage.kubectl().apply(&late).expect_success();
    let path = stage.savepoint_path("late");
    let state = || {
        let savepoint = stage.api().get(&path).expect("it is not owned by the job");
        (text(&savepoint["status"]["state"]), savepoint)
    };
    wait_until("the savepoint is being taken", DEADLINE, || {
        state().0 == "InProgress"
    });
    delete(&stage, "orders");
    let (still, savepoint) = state();
    assert!(
        still == "InProgress" || still == "Pending",
        "the job waits for no savepoint: {savepoint:#}"
    );
    wait_until("the savepoint has come to an end", DEADLINE, || {
        state().0 == "Abandoned"
    });
    let (_, savepoint) = state();
    let says = text(&savepoint["status"]["message"]);
    assert!(
        says.contains("not complete after 45s") && says.contains("there is no StreamJob orders"),
        "{says}"
    );
    assert!(savepoint["status"]["path"].is_null(), "{savepoint:#}");
    assert!(
        !stage
            .stored("orders")
            .iter()
            .any(|key| { key.contains("/savepoints/") && key.ends_with("manifest.json") }),
        "nothing that could be taken for a savepoint"
    );
    proxy.set_rule(|_| Action::Forward);
    stage.apply(&manifest);
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
