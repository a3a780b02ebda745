//! What a deployment starts from: the chain decides, whatever the operator has seen.

use std::time::Duration;

use millstream_tests::cluster;
use millstream_tests::kubernetes::api::Patch;
use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::manifest::Manifest;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, message, reason, text};
use millstream_tests::minio::Minio;
use millstream_tests::server::{Launch, Server};
use millstream_tests::wait::wait_until;
use serde_json::{Value, json};

use crate::shared;

/// Time for a new revision to prove itself, and to be given up.
const PATIENCE: &str = "20s";

/// A ready order job with orders flowing through it.
fn running(name: &str, manifest: impl FnOnce(Manifest) -> Manifest) -> (Stage, Flow, Manifest) {
    let stage = Stage::new(name);
    let flow = Flow::start(&stage);
    let manifest = manifest(stage.orders());
    stage.apply(&manifest);
    stage.wait_ready("orders");
    flow.wait_for_more("at first");
    (stage, flow, manifest)
}

/// A place in the coordinator's code that something is to happen at.
fn failing_at(manifest: Manifest, points: &str) -> Manifest {
    let mut env = manifest.json()["spec"]["coordinator"]["env"].clone();
    let variables = env.as_array_mut().expect("the manifest has variables");
    variables.push(json!({"name": "FAILPOINTS", "value": points}));
    manifest.set("/spec/coordinator/env", env)
}

/// A revision whose workers no node takes: it claims the chain and gets no further.
fn doomed(manifest: Manifest, strategy: &str) -> Manifest {
    let upgrade = json!({"strategy": strategy, "progressDeadline": PATIENCE,
        "rollback": {"enabled": true}});
    manifest
        .set(
            "/spec/workers/pod/nodeSelector",
            json!({"millstream.dev/nowhere": "true"}),
        )
        .set("/spec/upgrade", upgrade)
}

#[track_caller]
fn wait_rolled_back(stage: &Stage) -> Value {
    let job = stage.wait_for_job("orders", "it is rolled back", DEADLINE, |job| {
        holds(job, "RolledBack", "True") && job["status"]["upgrade"].is_null()
    });
    assert!(holds(&job, "RestoredFromState", "True"), "{job:#}");
    job
}

fn restore(job: &Value) -> String {
    text(&job["status"]["deployed"]["restore"])
}

#[test]
fn a_rollback_after_a_fallback_takes_nothing_back() {
    let _shared = shared();
    // Its coordinator ends before it writes a savepoint, and its next one goes on.
    let (stage, flow, good) = running("rollback-fallback", |manifest| {
        failing_at(manifest, "coordinator::before-savepoint=return")
    });
    stage.apply(&doomed(good, "Savepoint"));
    let job = wait_rolled_back(&stage);
    let events = stage.event_reasons("orders");
    assert!(
        events.iter().any(|reason| reason == "FellBackToCheckpoint"),
        "{events:?}"
    );
    assert_eq!(restore(&job), "latest", "{job:#}");
    assert!(job["status"]["restorePoint"].is_null(), "{job:#}");
    flow.wait_for_more("by the old revision");
    // Ends with a last checkpoint: a savepoint is what it cannot take.
    let drained = flow.drain();
    stage.apply(
        &stage
            .orders()
            .set("/spec/upgrade", json!({"strategy": "LastState"})),
    );
    stage.wait_ready("orders");
    stage.suspend("orders");
    drained.audit(&stage, "orders");
}

#[test]
fn a_rollback_of_a_stateless_upgrade_goes_on_from_what_the_old_revision_had() {
    let _shared = shared();
    let (stage, flow, good) = running("rollback-stateless", |manifest| manifest);
    stage.apply(&doomed(good, "Stateless"));
    let job = stage.wait_for_job("orders", "the new revision starts empty", DEADLINE, |job| {
        restore(job) == "fresh"
    });
    let savepoint = text(&job["status"]["restorePoint"]);
    assert!(savepoint.contains("/savepoints/upgrade-"), "{job:#}");
    let job = wait_rolled_back(&stage);
    assert_eq!(restore(&job), savepoint, "{job:#}");
    flow.wait_for_more("by the old revision");
    stage.finish(flow, "orders");
}

#[test]
fn a_rollback_that_has_seen_no_checkpoint_takes_none_back() {
    let _shared = shared();
    let (stage, flow, good) = running("rollback-unseen", |manifest| manifest);
    let upgrade = json!({"progressDeadline": PATIENCE,
        "rollback": {"enabled": true, "afterCheckpoints": 100}});
    let old = stage.job("orders")["status"]["deployment"].clone();
    stage.apply(&good.upgraded().set("/spec/upgrade", upgrade));
    let job = stage.wait_for_job("orders", "it is deployed", DEADLINE, |job| {
        job["status"]["deployment"] != old
    });
    // The status says so before the pods are asked for.
    let workers = format!("deployments/orders-workers-{}", job["status"]["deployment"]);
    let workers = stage.path("apis/apps/v1", &workers);
    wait_until("its pods are asked for", DEADLINE, || {
        stage.api().get(&workers).is_some()
    });
    // The operator is away while the new revision commits, and its coordinator is restarted.
    stage.operator.kill();
    let at = text(&stage.job("orders")["status"]["deployed"]["restore"]);
    assert!(at.contains("/savepoints/upgrade-"), "{at}");
    flow.wait_for_more("by the new revision");
    flow.wait_for_more("by the new revision, again");
    stage.kill_processes("orders", "coordinator");
    stage.operator.run();
    let job = stage.wait_for_job("orders", "it is rolled back", DEADLINE, |job| {
        holds(job, "RolledBack", "True") && job["status"]["upgrade"].is_null()
    });
    let restored = text(&job["status"]["restoredFrom"]);
    assert!(restored.contains("/chain/"), "{job:#}");
    flow.wait_for_more("by the old revision");
    stage.finish(flow, "orders");
}

/// Another place in the same store.
fn elsewhere() -> String {
    format!("s3://{}/kubernetes-moved", Minio::BUCKET)
}

#[track_caller]
fn wait_moved(stage: &Stage, storage: &str) -> Value {
    stage.wait_for_job("orders", "it runs in the other storage", DEADLINE, |job| {
        job["status"]["storage"] == json!(storage)
            && holds(job, "Ready", "True")
            && job["status"]["upgrade"].is_null()
    })
}

/// Moves the storage of a job away and back, and again, now that an older chain of it lies there.
fn moves_with(name: &str, strategy: &str) {
    let upgrade = json!({"strategy": strategy});
    let (stage, flow, home) = running(name, |manifest| manifest.set("/spec/upgrade", upgrade));
    let first = text(&home.json()["spec"]["checkpoint"]["storage"]);
    let away = home
        .clone()
        .set("/spec/checkpoint/storage", json!(elsewhere()));
    for (manifest, from, to) in [
        (&away, &first, &elsewhere()),
        (&home, &elsewhere(), &first),
        (&away, &first, &elsewhere()),
        (&home, &elsewhere(), &first),
    ] {
        stage.apply(manifest);
        let job = wait_moved(&stage, to);
        let folder = format!("{from}/{}/orders", stage.namespace);
        assert_eq!(restore(&job), folder, "{job:#}");
        flow.wait_for_more("from the other storage");
    }
    stage.finish(flow, "orders");
}

#[test]
fn a_moved_storage_takes_what_it_was_stopped_with_along_and_back() {
    let _shared = shared();
    moves_with("moved-savepoint", "Savepoint");
}

#[test]
fn a_moved_storage_takes_the_last_state_along_and_back() {
    let _shared = shared();
    moves_with("moved-last-state", "LastState");
}

#[test]
fn a_moved_storage_starts_empty_only_if_that_is_asked_for() {
    let _shared = shared();
    let stage = Stage::new("moved-stateless");
    let job = stage.generated("orders", None);
    stage.apply(&job);
    stage.wait_ready("orders");
    stage.apply(
        &job.set("/spec/upgrade", json!({"strategy": "Stateless"}))
            .set("/spec/checkpoint/storage", json!(elsewhere())),
    );
    let job = wait_moved(&stage, &elsewhere());
    assert_eq!(restore(&job), "fresh", "{job:#}");
    assert!(holds(&job, "RestoredFromState", "False"), "{job:#}");
}

#[test]
fn a_moved_storage_whose_state_cannot_be_taken_along_is_refused() {
    let _shared = shared();
    let (stage, flow, home) = running("moved-refused", |manifest| {
        failing_at(manifest, "coordinator::before-savepoint=return")
            .set("/spec/upgrade", json!({"progressDeadline": PATIENCE}))
    });
    let revision = text(&stage.job("orders")["status"]["revision"]);
    stage.apply(
        &home
            .clone()
            .set("/spec/checkpoint/storage", json!(elsewhere())),
    );
    let job = stage.wait_for_job("orders", "the change is refused", DEADLINE, |job| {
        reason(job, "Stalled") == "StorageMoved"
    });
    let says = message(&job, "Stalled");
    assert!(
        says.contains(&elsewhere()) && says.contains("restore"),
        "{says}"
    );
    assert_eq!(text(&job["status"]["revision"]), revision, "{job:#}");
    flow.wait_for_more("where it was");
    // A last checkpoint is what it can be stopped with.
    stage.apply(
        &home
            .set("/spec/checkpoint/storage", json!(elsewhere()))
            .set("/spec/upgrade", json!({"strategy": "LastState"}))
            .set("/spec/restartAt", json!("2026-01-31T12:00:00Z")),
    );
    wait_moved(&stage, &elsewhere());
    flow.wait_for_more("in the other storage");
    let drained = flow.drain();
    stage
        .kubectl()
        .run(&["delete", "streamjob", "orders"])
        .expect_success();
    wait_until("its pods are gone", DEADLINE, || {
        stage.pod_uids("orders").is_empty()
    });
    let report = drained.audit_topics(&stage);
    report.assert_exactly_once_without(0);
}

#[test]
fn a_stop_whose_release_is_lost_loses_and_doubles_nothing() {
    let _shared = shared();
    let held = format!("coordinator::before-release={}(15000)", "sleep");
    let (stage, flow, good) = running("release-lost", |manifest| failing_at(manifest, &held));
    let old = text(&stage.job("orders")["status"]["revision"]);
    stage.apply(&good.upgraded());
    wait_until("the savepoint is written", DEADLINE, || {
        let stored = stage.stored("orders");
        stored.iter().any(|key| key.ends_with("/manifest.json"))
    });
    stage.kill_processes("orders", "coordinator");
    let job = stage.wait_for_job("orders", "the new revision is ready", DEADLINE, |job| {
        holds(job, "Ready", "True")
            && job["status"]["revision"] != json!(old)
            && job["status"]["upgrade"].is_null()
    });
    assert!(restore(&job).contains("/savepoints/upgrade-"), "{job:#}");
    flow.wait_for_more("by the new revision");
    stage.finish(flow, "orders");
}

/// As an operator would have given it out whose clock was hours ahead.
#[test]
fn a_job_whose_chain_has_seen_a_greater_number_is_deployed_beyond_it() {
    let _shared = shared();
    let (stage, flow, manifest) = running("number", |manifest| manifest);
    let number = |stage: &Stage| {
        let number = stage.job("orders")["status"]["deployment"].as_i64();
        number.expect("a number")
    };
    let ahead = number(&stage) + 5 * 3_600_000;
    let status = stage.job_path("orders") + "/status";
    let patch = json!({"status": {"deployment": ahead}});
    stage
        .api()
        .patch(&status, Patch::Merge, &patch)
        .expect("the status is written");
    stage.wait_for_job("orders", "it runs under that number", DEADLINE, |job| {
        holds(job, "Ready", "True")
            && job["status"]["selector"]
                .as_str()
                .is_some_and(|selector| selector.contains(&ahead.to_string()))
    });
    flow.wait_for_more("under that number");
    stage
        .kubectl()
        .run(&["delete", "streamjob", "orders", "--timeout=120s"])
        .expect_success();
    wait_until("its pods are gone", DEADLINE, || {
        stage.pod_uids("orders").is_empty()
    });

    stage.apply(&manifest);
    let job = stage.wait_ready("orders");
    assert!(number(&stage) > ahead, "{job:#}");
    assert!(holds(&job, "RestoredFromState", "True"), "{job:#}");
    flow.wait_for_more("by the job that was made again");
    stage.finish(flow, "orders");
}

/// What its pods are told was written when it had none.
#[test]
fn a_first_deployment_whose_store_is_emptied_does_not_begin_again() {
    let _shared = shared();
    let (stage, flow, _) = running("emptied", |manifest| manifest);
    let number = stage.job("orders")["status"]["deployment"].clone();
    let map = stage.path("api/v1", "configmaps/orders-ran");
    wait_until("it is known that it has run", DEADLINE, || {
        let map = stage.api().get(&map);
        map.is_some_and(|map| text(&map["data"]["deployment"]) == number.to_string())
    });
    // Nobody looks, and nobody runs, while the store is emptied.
    stage.operator.kill();
    let deployment = format!("deployment/orders-coordinator-{number}");
    let scale = |replicas: &str| {
        stage
            .kubectl()
            .run(&["scale", &deployment, replicas])
            .expect_success();
    };
    scale("--replicas=0");
    wait_until("its coordinator is gone", DEADLINE, || {
        let pods = stage.all_pods("orders");
        let mut roles = pods
            .iter()
            .map(|pod| &pod["metadata"]["labels"]["millstream.dev/role"]);
        roles.all(|role| role == "worker")
    });
    let bucket = format!("s3://{}/", Minio::BUCKET);
    let chain = stage.chain("orders");
    let folder = chain.strip_prefix(&bucket).expect("it lies in the bucket");
    stage.world.minio.remove(folder);
    let before = flow.seen();
    scale("--replicas=1");
    stage.operator.run();
    let job = stage.wait_for_job("orders", "it says what is missing", DEADLINE, |job| {
        holds(job, "Stalled", "True")
    });
    assert!(message(&job, "Stalled").contains("MS0309"), "{job:#}");
    assert_eq!(flow.seen(), before, "it began again");
    assert_eq!(job["status"]["deployment"], number, "{job:#}");
}

/// A person's run of a job with the file that its pods read.
fn by_hand(stage: &Stage) -> Server {
    let revision = text(&stage.job("orders")["status"]["revision"]);
    let map = stage.path("api/v1", &format!("configmaps/{revision}"));
    let map = stage.api().get(&map).expect("the revision is there");
    let file = stage.scratch().join("by-hand.yaml");
    std::fs::write(&file, text(&map["data"]["job.yaml"])).expect("a file");
    let mut launch = Launch::new(cluster::binary())
        .arg("run")
        .arg(&file)
        .args(["--progress", "none"]);
    for (name, value) in stage.world.minio.environment() {
        launch = launch.env(name, value);
    }
    launch.start(&stage.log("by-hand"))
}

#[test]
fn a_run_by_hand_beside_the_deployment_is_refused_and_one_of_a_suspended_job_counts() {
    let _shared = shared();
    let (stage, flow, _) = running("by-hand", |manifest| manifest);
    let pods = stage.pod_uids("orders");
    let mut beside = by_hand(&stage);
    let status = beside.wait(Duration::from_mins(1));
    assert!(!status.success(), "{}", beside.output());
    assert!(beside.output().contains("MS0305"), "{}", beside.output());
    flow.wait_for_more("by the deployment");
    assert_eq!(stage.pod_uids("orders"), pods);

    stage.suspend("orders");
    let point = text(&stage.job("orders")["status"]["restorePoint"]);
    let mut alone = by_hand(&stage);
    flow.wait_for_more("by hand");
    flow.wait_for_more("by hand, again");
    assert!(alone.kill(), "{}", alone.output());
    stage.change("orders", &json!({"state": "Running"}));
    let job = stage.wait_ready("orders");
    assert_eq!(restore(&job), point, "{job:#}");
    let restored = text(&job["status"]["restoredFrom"]);
    assert!(
        restored.contains("/chain/"),
        "it goes on from what was done by hand: {job:#}"
    );
    flow.wait_for_more("by the deployment that came after");
    stage.finish(flow, "orders");
}
