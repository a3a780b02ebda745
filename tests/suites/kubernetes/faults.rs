//! What dies while the job goes on: coordinators, workers, all pods, the operator, the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::nodes::Unreachable;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, message, reason, text};
use millstream_tests::proxy::Action;
use millstream_tests::wait::{pause, wait_until};
use serde_json::{Value, json};

use crate::{alone, shared};

/// A ready order job with orders flowing through it.
fn running(name: &str) -> (Stage, Flow) {
    let stage = Stage::new(name);
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    flow.wait_for_more("before any fault");
    (stage, flow)
}

fn attempt(job: &Value) -> i64 {
    job["status"]["attempt"].as_i64().unwrap_or_default()
}

#[test]
fn a13_a_killed_coordinator_comes_back_and_goes_on() {
    let _shared = shared();
    let (stage, flow) = running("a13");
    let before = attempt(&stage.job("orders"));
    for _ in 0..3 {
        stage.kill_processes("orders", "coordinator");
        flow.wait_for_more("after the coordinator was killed");
    }
    let job = stage.wait_for_job("orders", "it is ready again", DEADLINE, |job| {
        holds(job, "Ready", "True") && attempt(job) >= before + 3
    });
    assert!(!holds(&job, "Stalled", "True"), "{job:#}");
    stage.finish(flow, "orders");
}

#[test]
fn a14_killed_workers_come_back_and_the_job_goes_on() {
    let _shared = shared();
    let (stage, flow) = running("a14");
    let before = attempt(&stage.job("orders"));
    for _ in 0..3 {
        stage.kill_processes("orders", "worker");
        flow.wait_for_more("after the workers were killed");
    }
    stage.wait_for_job("orders", "it is ready again", DEADLINE, |job| {
        holds(job, "Ready", "True") && attempt(job) > before
    });
    stage.finish(flow, "orders");
}

#[test]
fn pods_that_had_worked_are_replaced_where_the_kubelet_lets_them_wait() {
    let _shared = shared();
    let (stage, flow) = running("replaced");
    let old = stage.uids_of("orders", "worker");
    // The kubelet starts a container again at once only the first time.
    for _ in 0..2 {
        pause(Duration::from_secs(12));
        stage.kill_processes("orders", "worker");
        flow.wait_for_more("after the workers were killed");
    }
    wait_until("all workers are other pods", DEADLINE, || {
        let new = stage.uids_of("orders", "worker");
        new.len() == old.len() && new.iter().all(|uid| !old.contains(uid))
    });
    stage.wait_ready("orders");
    let told = stage.event_reasons("orders");
    assert!(told.contains(&"PodsFailing".to_owned()), "{told:?}");
    stage.finish(flow, "orders");
}

#[test]
fn a15_a_job_whose_pods_are_all_deleted_comes_back() {
    let _shared = shared();
    let (stage, flow) = running("a15");
    for _ in 0..2 {
        assert_eq!(stage.kill_pods("orders", "worker"), 2);
        assert_eq!(stage.kill_pods("orders", "coordinator"), 1);
        flow.wait_for_more("after all pods were deleted");
    }
    // Also what makes pods: the operator builds it again.
    let number = &stage.job("orders")["status"]["deployment"];
    let names = [
        format!("orders-workers-{number}"),
        format!("orders-coordinator-{number}"),
    ];
    let path = stage.path("apis/apps/v1", "deployments/");
    for deployment in &names {
        assert!(
            stage.api().delete(&format!("{path}{deployment}")),
            "{deployment} is there"
        );
    }
    wait_until("the deployments are back", DEADLINE, || {
        names.iter().all(|name| {
            let found = stage.api().get(&format!("{path}{name}"));
            found.is_some_and(|found| found["metadata"]["deletionTimestamp"].is_null())
        })
    });
    flow.wait_for_more("after the deployments were deleted");
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
}

#[test]
fn a17_without_an_operator_for_five_minutes_a_job_survives_kills_by_itself() {
    let _shared = shared();
    let (stage, flow) = running("a17");
    stage.operator.kill();
    let (started, mut kills) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_mins(5) {
        let role = if kills % 3 == 2 {
            "coordinator"
        } else {
            "worker"
        };
        if kills % 2 == 0 {
            stage.kill_processes("orders", role);
        } else {
            assert!(stage.kill_pods("orders", role) > 0, "a {role} runs");
        }
        kills += 1;
        flow.wait_for_more("while there is no operator");
        pause(Duration::from_secs(8));
    }
    assert!(kills > 10, "{kills} kills");
    println!("a17: {kills} kills in five minutes without an operator");
    stage.operator.run();
    stage.operator.wait_until_ready();
    stage.wait_for_job("orders", "the operator sees it ready", DEADLINE, |job| {
        holds(job, "Ready", "True") && attempt(job) > 10
    });
    stage.finish(flow, "orders");
}

#[test]
fn a_coordinator_that_only_its_kubelet_reaches_stalls_with_the_likely_reason_and_runs_on() {
    let _shared = shared();
    let stage = Stage::new("mesh");
    let flow = Flow::start(&stage);
    let patience = json!({"progressDeadline": "20s"});
    stage.apply(&stage.orders().set("/spec/upgrade", patience));
    stage.wait_ready("orders");
    let (deployment, pods) = (
        stage.job("orders")["status"]["deployment"].clone(),
        stage.pod_uids("orders"),
    );
    let ip = text(&stage.pods("orders", "coordinator")[0]["status"]["podIP"]);
    let unreachable = Unreachable::address(&ip);
    let job = stage.wait_for_job("orders", "it says that nobody asks it", DEADLINE, |job| {
        holds(job, "Stalled", "True")
    });
    assert_eq!(reason(&job, "Stalled"), "CoordinatorUnreachable", "{job:#}");
    assert!(
        message(&job, "Stalled").contains("network policy"),
        "{job:#}"
    );
    assert!(holds(&job, "Ready", "Unknown"), "{job:#}");
    flow.wait_for_more("though nobody asks it");
    drop(unreachable);
    let job = stage.wait_ready("orders");
    assert!(!holds(&job, "Stalled", "True"), "{job:#}");
    assert_eq!(job["status"]["deployment"], deployment, "it was left alone");
    assert_eq!(stage.pod_uids("orders"), pods);
    stage.finish(flow, "orders");
}

/// A job whose store is behind a proxy.
#[test]
fn a22_a_store_that_fails_is_slow_or_refuses_costs_time_and_no_record() {
    let _alone = alone();
    let stage = Stage::new("a22");
    let proxy = stage.store_proxy();
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders().with_store_at(&proxy.address()));
    stage.wait_ready("orders");
    for fault in ["503", "slow", "403", "503"] {
        let met = Arc::new(AtomicU64::new(0));
        let meets = Arc::clone(&met);
        proxy.set_rule(move |_| {
            meets.fetch_add(1, Ordering::Relaxed);
            match fault {
                "slow" => Action::Delay(Duration::from_secs(3)),
                status => Action::Answer(status.parse().expect("a number")),
            }
        });
        wait_until("the job has met the fault", DEADLINE, || {
            met.load(Ordering::Relaxed) >= 3
        });
        pause(Duration::from_secs(15));
        proxy.set_rule(|_| Action::Forward);
        flow.wait_for_more(&format!("after the store was back from {fault}"));
    }
    let job = stage.wait_ready("orders");
    assert!(holds(&job, "CheckpointHealthy", "True"), "{job:#}");
    stage.finish(flow, "orders");
}
