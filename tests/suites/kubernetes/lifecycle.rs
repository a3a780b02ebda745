//! A job that is suspended, restarted, rescaled, complete, or has no room.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::operator::{Operator, account};
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, message, text};
use millstream_tests::proxy::{Action, Proxy};
use millstream_tests::server::Server;
use millstream_tests::wait::{pause, wait_until};
use serde_json::json;

use crate::shared;

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

/// What an operator asks of the API, through a proxy.
struct Counted {
    _gate: Server,
    _proxy: Proxy,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Counted {
    /// Requests since the last call but watches and renewals of the lease, as `METHOD path`.
    fn since_last(&self) -> Vec<String> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *asked)
    }
}

/// A stage with an operator whose requests are counted.
fn counted(name: &str) -> (Stage, Counted) {
    let mut counted = None;
    let stage = Stage::with_operator(name, |cluster, namespace, scratch| {
        let (gate, address) = cluster.gate(Some(&account(cluster, namespace)));
        let proxy = Proxy::start("127.0.0.1", &address);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        proxy.set_rule(move |request| {
            if !request.path.contains("watch=true") && !request.path.contains("/leases") {
                note.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(format!("{} {}", request.method, request.place()));
            }
            Action::Forward
        });
        let address = proxy.address();
        counted = Some(Counted {
            _gate: gate,
            _proxy: proxy,
            asked,
        });
        Operator::prepare(&address, &[namespace], scratch.path(), "operator")
    });
    stage.operator.run();
    stage.operator.wait_until_ready();
    (stage, counted.expect("the operator was prepared"))
}

#[test]
fn a48_a_quota_that_allows_no_pods_is_told_and_waited_out_without_a_loop() {
    let _shared = shared();
    let (stage, counted) = counted("a48");
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}});
    stage.apply_quota(&quota);
    stage.apply(&stage.generated("poor", None));
    let job = stage.wait_for_job("poor", "it says what is missing", DEADLINE, |job| {
        let all = ["Ready", "Reconciling", "Stalled"]
            .map(|kind| message(job, kind))
            .concat();
        all.contains("quota")
    });
    assert!(!holds(&job, "Ready", "True"), "{job:#}");

    // While nothing changes, the operator looks at its pace, and writes next to nothing.
    counted.since_last();
    let waited = Duration::from_secs(40);
    pause(waited);
    let asked = counted.since_last();
    let (reads, writes): (Vec<_>, Vec<_>) = asked.iter().partition(|line| line.starts_with("GET "));
    println!(
        "a48: {} reads and {} writes in {waited:?}",
        reads.len(),
        writes.len()
    );
    // A job that is not ready yet is looked at less and less often, with five reads.
    assert!(reads.len() <= 240, "{} reads: {reads:#?}", reads.len());
    assert!(writes.len() <= 8, "{} writes: {writes:#?}", writes.len());
    let events = stage.event_reasons("poor");
    assert!(events.len() <= 8, "{events:?}");

    stage
        .kubectl()
        .run(&["delete", "resourcequota", "no-pods"])
        .expect_success();
    stage.wait_ready("poor");
}
