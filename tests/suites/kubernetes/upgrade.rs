//! How a change is brought in, and how a bad one is kept out.

use std::time::{Duration, Instant};

use millstream_tests::kubernetes::api::Patch;
use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::manifest::Manifest;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, message, reason, text};
use millstream_tests::kubernetes::world::{NEXT_IMAGE, push_image};
use millstream_tests::wait::wait_until;
use serde_json::{Value, json};

use crate::shared;

/// A ready order job with orders flowing through it.
pub(super) fn running(
    name: &str,
    manifest: impl FnOnce(Manifest) -> Manifest,
) -> (Stage, Flow, Manifest) {
    let stage = Stage::new(name);
    let flow = Flow::start(&stage);
    let manifest = manifest(stage.orders());
    stage.apply(&manifest);
    stage.wait_ready("orders");
    flow.wait_for_more("before the upgrade");
    (stage, flow, manifest)
}

pub(super) fn revision(stage: &Stage) -> String {
    text(&stage.job("orders")["status"]["revision"])
}

/// Waits until another revision than `old` is ready.
#[track_caller]
pub(super) fn wait_upgraded(stage: &Stage, old: &str) -> Value {
    stage.wait_for_job("orders", "the new revision is ready", DEADLINE, |job| {
        holds(job, "Ready", "True")
            && job["status"]["revision"] != json!(old)
            && job["status"]["upgrade"].is_null()
    })
}

/// Everything that a person reads about a job that does not get on.
fn said(job: &Value) -> String {
    ["Valid", "Stalled", "Reconciling", "Ready"]
        .map(|kind| format!("{kind} {}: {}", reason(job, kind), message(job, kind)))
        .join("\n")
}

#[test]
fn a04_an_upgrade_by_savepoint_loses_and_doubles_nothing() {
    let _shared = shared();
    let (stage, flow, manifest) = running("a04", |manifest| manifest);
    let (old, pods) = (revision(&stage), stage.pod_uids("orders"));
    // A new image, then another dataflow.
    let manifest = manifest.set("/spec/image", json!(NEXT_IMAGE));
    stage.apply(&manifest);
    let job = wait_upgraded(&stage, &old);
    assert!(holds(&job, "RestoredFromState", "True"), "{job:#}");
    assert!(
        text(&job["status"]["restoredFrom"]).contains("savepoint"),
        "{job:#}"
    );
    let after = stage.pod_uids("orders");
    assert!(
        pods.iter().all(|uid| !after.contains(uid)),
        "all pods are new"
    );
    flow.wait_for_more("by the new image");

    let old = revision(&stage);
    stage.apply(&manifest.upgraded());
    wait_upgraded(&stage, &old);
    flow.wait_for_more("by the new dataflow");
    stage.finish(flow, "orders");
}

#[test]
fn a05_an_upgrade_from_the_last_state_takes_no_savepoint_and_loses_nothing() {
    let _shared = shared();
    let last_state =
        |manifest: Manifest| manifest.set("/spec/upgrade", json!({"strategy": "LastState"}));
    let (stage, flow, manifest) = running("a05", last_state);
    let old = revision(&stage);
    stage.apply(&manifest.upgraded());
    let job = wait_upgraded(&stage, &old);
    assert!(holds(&job, "RestoredFromState", "True"), "{job:#}");
    let stored = stage.stored("orders");
    assert!(
        !stored.iter().any(|key| key.contains("savepoint")),
        "{stored:?}"
    );
    flow.wait_for_more("by the new revision");
    stage.finish(flow, "orders");
}

#[test]
fn a07_a_stateless_upgrade_starts_empty_and_leaves_the_checkpoints() {
    let _shared = shared();
    let stage = Stage::new("a07");
    // So many are kept that none goes for being old.
    let job = stage
        .generated("orders", None)
        .set("/spec/checkpoint/retained", json!(1000))
        .set("/spec/upgrade", json!({"strategy": "Stateless"}));
    stage.apply(&job);
    stage.wait_ready("orders");
    let old = revision(&stage);
    let checkpoint = text(&stage.job("orders")["status"]["checkpoint"]["path"]);
    let stored = stage.stored("orders");
    assert!(
        stored.iter().any(|key| checkpoint.ends_with(key.as_str())),
        "{checkpoint} in {stored:?}"
    );
    stage.apply(&job.clone().set("/spec/image", json!(NEXT_IMAGE)));
    let upgraded = wait_upgraded(&stage, &old);
    assert!(
        holds(&upgraded, "RestoredFromState", "False"),
        "{upgraded:#}"
    );
    assert!(upgraded["status"]["restoredFrom"].is_null(), "{upgraded:#}");
    let left = stage.stored("orders");
    let gone: Vec<_> = stored.iter().filter(|key| !left.contains(key)).collect();
    assert_eq!(gone, [""; 0], "checkpoints of before the upgrade");

    // And one can go back to them.
    let from = json!({"policy": "From", "from": {"path": checkpoint}});
    stage.apply(&job.set("/spec/restore", from));
    stage.wait_for_job("orders", "it is restored from before", DEADLINE, |job| {
        holds(job, "Ready", "True") && job["status"]["restoredFrom"] == json!(checkpoint)
    });
}

/// What a revision that was brought in by a strategy must have started from.
#[track_caller]
fn assert_started_as(job: &Value, strategy: &str, number: usize) {
    let from = text(&job["status"]["restoredFrom"]);
    let right = match strategy {
        "Savepoint" => {
            from.contains("/savepoints/") && reason(job, "RestoredFromState") == "Restored"
        }
        "LastState" => from.contains("/chain/"),
        _ => from.is_empty() && holds(job, "RestoredFromState", "False"),
    };
    assert!(right, "{number} {strategy}: from `{from}`: {job:#}");
}

#[test]
fn a08_strategies_that_keep_state_may_follow_each_other_and_lose_nothing() {
    let _shared = shared();
    let (stage, flow, mut job) = running("a08", |manifest| manifest);
    let walk = ["Savepoint", "LastState", "LastState", "Savepoint"];
    for (number, strategy) in walk.into_iter().enumerate() {
        let old = revision(&stage);
        job = job
            .set("/spec/upgrade", json!({"strategy": strategy}))
            .set("/spec/checkpoint/retained", json!(4 + number));
        stage.apply(&job);
        assert_started_as(&wait_upgraded(&stage, &old), strategy, number);
        flow.wait_for_more(&format!("after {strategy}"));
    }
    stage.finish(flow, "orders");
}

#[test]
fn a08_a_stateless_upgrade_may_follow_and_precede_every_other() {
    let _shared = shared();
    let stage = Stage::new("a08-stateless");
    let mut job = stage.generated("orders", None);
    stage.apply(&job);
    stage.wait_ready("orders");
    // From the default, Savepoint: all pairs with Stateless in them.
    let walk = [
        "Stateless",
        "Stateless",
        "LastState",
        "Stateless",
        "Savepoint",
    ];
    for (number, strategy) in walk.into_iter().enumerate() {
        let old = revision(&stage);
        job = job
            .set("/spec/upgrade", json!({"strategy": strategy}))
            .set("/spec/checkpoint/retained", json!(4 + number));
        stage.apply(&job);
        assert_started_as(&wait_upgraded(&stage, &old), strategy, number);
    }
}

#[test]
fn a11_a_job_goes_back_to_a_savepoint_a_path_and_another_jobs_state() {
    let _shared = shared();
    let stage = Stage::new("a11");
    let job = stage.generated("orders", None);
    stage.apply(&job);
    stage.wait_ready("orders");
    let savepoint = json!({"apiVersion": "millstream.dev/v1alpha1", "kind": "StreamSavepoint",
        "metadata": {"name": "before"}, "spec": {"jobRef": {"name": "orders"}}});
    stage.kubectl().apply(&savepoint).expect_success();
    let wait = [
        "wait",
        "ssp/before",
        "--for=jsonpath={.status.state}=Completed",
        "--timeout=60s",
    ];
    stage.kubectl().run(&wait).expect_success();
    let saved = stage
        .api()
        .get(&stage.savepoint_path("before"))
        .expect("it is there");
    let path = text(&saved["status"]["path"]);

    let restored = |name: &str, place: &str| {
        stage.wait_for_job(name, "it is restored from there", DEADLINE, |job| {
            holds(job, "Ready", "True") && text(&job["status"]["restoredFrom"]).contains(place)
        });
    };
    let from = |from: Value| json!({"policy": "From", "from": from});
    stage.apply(
        &job.clone()
            .set("/spec/restore", from(json!({"savepoint": "before"}))),
    );
    restored("orders", &path);
    let other = job
        .clone()
        .named("by-path")
        .set("/spec/restore", from(json!({"path": path})));
    stage.apply(&other);
    restored("by-path", &path);
    // Nobody begins from a chain that is held.
    let suspended = job
        .clone()
        .set("/spec/restore", from(json!({"savepoint": "before"})))
        .set("/spec/state", json!("Suspended"));
    stage.apply(&suspended);
    stage.wait_condition("orders", "Suspended", "True");
    let other = job
        .named("by-job")
        .set("/spec/restore", from(json!({"job": "orders"})));
    stage.apply(&other);
    restored("by-job", &format!("{}/orders", stage.namespace));
}

/// Brings in a bad change: the old revision goes on, and the job says `words`.
#[track_caller]
fn is_kept_out(stage: &Stage, flow: &Flow, bad: &Manifest, words: &[&str]) {
    let (old, pods) = (revision(stage), stage.pod_uids("orders"));
    stage.apply(bad);
    let job = stage.wait_for_job("orders", "the change is rejected", DEADLINE, |job| {
        let settled = holds(job, "Stalled", "True") || holds(job, "Valid", "False");
        settled && words.iter().all(|word| said(job).contains(word))
    });
    println!("{}", said(&job));
    flow.wait_for_more("by the old revision");
    assert_eq!(revision(stage), old);
    assert_eq!(stage.pod_uids("orders"), pods, "no pod was touched");
    assert!(!holds(&job, "Reconciling", "True"), "{job:#}");
}

#[test]
fn a23_a_bad_image_or_account_or_secret_never_stops_the_running_job() {
    let _shared = shared();
    // What is missing may come yet: it is waited for until the deadline.
    let patience = json!({"progressDeadline": "20s"});
    let (stage, flow, good) = running("a23", |manifest| manifest.set("/spec/upgrade", patience));
    let image = "localhost/no-such-image:1";
    is_kept_out(
        &stage,
        &flow,
        &good.clone().set("/spec/image", json!(image)),
        &[image],
    );
    let account = good
        .clone()
        .set("/spec/serviceAccountName", json!("nobody"));
    is_kept_out(&stage, &flow, &account, &["nobody"]);
    let secret = good
        .clone()
        .set("/spec/secrets/0/name", json!("no-such-secret"));
    is_kept_out(&stage, &flow, &secret, &["no-such-secret"]);
    // And back to what runs: nothing has to be restarted.
    let pods = stage.pod_uids("orders");
    stage.apply(&good);
    stage.wait_ready("orders");
    assert_eq!(stage.pod_uids("orders"), pods);
    stage.finish(flow, "orders");
}

#[test]
fn an_image_that_comes_after_its_manifest_is_brought_in_without_another_change() {
    let _shared = shared();
    let (stage, flow, good) = running("late", |manifest| manifest);
    let old = revision(&stage);
    let image = format!("localhost/late-{}:1", stage.namespace);
    stage.apply(&good.set("/spec/image", json!(image)));
    // Longer than it takes to push an image after its manifest.
    let waited = Instant::now();
    let job = stage.wait_for_job("orders", "the check waits for its image", DEADLINE, |job| {
        assert!(!holds(job, "Valid", "False"), "{}", said(job));
        message(job, "Reconciling").contains(&image) && waited.elapsed() > Duration::from_secs(35)
    });
    println!("{}", said(&job));
    flow.wait_for_more("by the old revision");
    push_image(&image);
    wait_upgraded(&stage, &old);
    flow.wait_for_more("by the new image");
    stage.finish(flow, "orders");
}

#[test]
fn a24_sql_that_does_not_bind_and_state_that_does_not_fit_are_found_before_anything_stops() {
    let _shared = shared();
    let (stage, flow, good) = running("a24", |manifest| manifest);
    let sql = json!("SELECT * FROM orders WHERE amount > 0");
    let unbound = good.clone().set("/spec/dataflow/transforms/0/sql", sql);
    is_kept_out(
        &stage,
        &flow,
        &unbound,
        &["transforms[valid].sql", "amount"],
    );
    // Another name of the source: what `orders` has read would be forgotten.
    let renamed = good
        .clone()
        .set("/spec/dataflow/sources/0/name", json!("renamed"))
        .set("/spec/dataflow/transforms/0/input", json!("renamed"))
        .set(
            "/spec/dataflow/transforms/0/sql",
            json!("SELECT * FROM renamed WHERE quantity > 0"),
        )
        .set("/spec/dataflow/sinks/1/input", json!("renamed.deadLetters"));
    is_kept_out(&stage, &flow, &renamed, &["orders", "allowDroppedState"]);
    let old = revision(&stage);
    stage.apply(&good.upgraded());
    wait_upgraded(&stage, &old);
    stage.finish(flow, "orders");
}

/// Workers that no node takes.
pub(super) fn unschedulable(manifest: Manifest) -> Manifest {
    manifest.set(
        "/spec/workers/pod/nodeSelector",
        json!({"millstream.dev/nowhere": "true"}),
    )
}

#[test]
fn a25_a_revision_that_does_not_get_on_stalls_at_its_deadline_until_it_is_corrected() {
    let _shared = shared();
    let (stage, flow, good) = running("a25", |manifest| manifest);
    let bad = unschedulable(good.clone()).set("/spec/upgrade", json!({"progressDeadline": "20s"}));
    stage.apply(&bad);
    let job = stage.wait_condition("orders", "Stalled", "True");
    assert_eq!(
        reason(&job, "Stalled"),
        "ProgressDeadlineExceeded",
        "{}",
        said(&job)
    );
    assert!(holds(&job, "Ready", "False"), "{job:#}");
    stage.apply(&good);
    stage.wait_ready("orders");
    flow.wait_for_more("after the correction");
    stage.finish(flow, "orders");
}

#[test]
fn a27_a_job_that_fails_again_and_again_stalls_and_runs_again_when_told() {
    let _shared = shared();
    let restart = json!({"fixedDelay": {"delay": "200ms", "attempts": 3}});
    let (stage, flow, _) = running("a27", |manifest| manifest.set("/spec/restart", restart));
    kill_until_it_stalls(&stage);
    // Told to, it goes on from its newest checkpoint, with as many tries as at first.
    stage.change("orders", &json!({"restartAt": "2026-11-24T12:00:00Z"}));
    stage.wait_ready("orders");
    flow.wait_for_more("after it was told to run again");
    kill_until_it_stalls(&stage);
    stage.change("orders", &json!({"restartAt": "2026-11-25T12:00:00Z"}));
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
}

/// Kills the workers of a job that may be restarted three times: it is, and the fourth failure is
/// its last.
#[track_caller]
fn kill_until_it_stalls(stage: &Stage) {
    let attempt = |job: &Value| job["status"]["attempt"].as_i64();
    for kill in 1..=3 {
        let before = attempt(&stage.job("orders"));
        // Not deleted: a worker that is told to go leaves in peace, which is no failure.
        stage.kill_processes("orders", "worker");
        let what = format!("it runs again after failure {kill}");
        stage.wait_for_job("orders", &what, DEADLINE, |job| {
            attempt(job) > before && job["status"]["state"] == json!("Running")
        });
    }
    stage.kill_processes("orders", "worker");
    let job = stage.wait_condition("orders", "Stalled", "True");
    assert_eq!(reason(&job, "Stalled"), "JobFailed", "{}", said(&job));
    assert_eq!(job["status"]["state"], json!("Failed"), "{job:#}");
}

#[test]
fn an_upgrade_waits_for_the_approval_that_it_asks_for() {
    let _shared = shared();
    let manual = json!({"approval": "Manual"});
    let (stage, flow, good) = running("approval", |manifest| manifest.set("/spec/upgrade", manual));
    let (old, pods) = (revision(&stage), stage.pod_uids("orders"));
    stage.apply(&good.upgraded());
    let job = stage.wait_for_job("orders", "it waits for a person", DEADLINE, |job| {
        job["status"]["upgrade"]["step"] == json!("WaitingForApproval")
    });
    assert!(
        said(&job).contains("millstream.dev/approve"),
        "{}",
        said(&job)
    );
    flow.wait_for_more("while the upgrade waits");
    assert_eq!(stage.pod_uids("orders"), pods);
    let wanted = text(&job["status"]["upgrade"]["to"]);
    let annotation = json!({"metadata": {"annotations": {"millstream.dev/approve": wanted}}});
    stage
        .api()
        .patch(&stage.job_path("orders"), Patch::Merge, &annotation)
        .expect("an annotation");
    wait_upgraded(&stage, &old);
    stage.finish(flow, "orders");
}

#[test]
fn a49_a_changed_secret_restarts_nothing_and_a_revisions_config_cannot_be_changed() {
    let _shared = shared();
    let (stage, flow, _) = running("a49", |manifest| manifest);
    let pods = stage.pod_uids("orders");
    let secret = stage.path("api/v1", "secrets/s3-credentials");
    let change = json!({"stringData": {"more": "text"}});
    stage
        .api()
        .patch(&secret, Patch::Merge, &change)
        .expect("a changed secret");
    flow.wait_for_more("after the secret was changed");
    assert_eq!(stage.pod_uids("orders"), pods, "no pod was restarted");

    let map = stage.path("api/v1", &format!("configmaps/{}", revision(&stage)));
    let change = json!({"data": {"job.yaml": "nothing"}});
    let refused = stage
        .api()
        .patch(&map, Patch::Merge, &change)
        .expect_err("it is immutable");
    assert!(refused.message.contains("immutable"), "{refused:?}");
    // Deleted by accident, it is written again.
    assert!(stage.api().delete(&map));
    wait_until("the revision is written again", DEADLINE, || {
        stage.api().get(&map).is_some()
    });
    assert_eq!(stage.pod_uids("orders"), pods);
    stage.finish(flow, "orders");
}
