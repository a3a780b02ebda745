//! Nodes that are drained, cut off, and lose their power, with what runs on them.

use std::time::{Duration, Instant};

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::manifest::Manifest;
use millstream_tests::kubernetes::nodes::{self, Away, Cordoned};
use millstream_tests::kubernetes::operator::Operator;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, text};
use millstream_tests::kubernetes::world::load_image;
use millstream_tests::wait::{poll_until, wait_until};
use serde_json::{Value, json};

use crate::alone;
use crate::chart::helm;

/// Longest time from the loss of a node to the next committed output, where an operator lives.
const AFTER_NODE_LOSS: Duration = Duration::from_secs(45);
/// The same where the node takes the operator with it: Kubernetes' own eviction comes after the
/// pods have tolerated the lost node for 20 s.
const AFTER_LOSS_OF_OPERATOR_TOO: Duration = Duration::from_secs(90);

/// Pods that would rather be on this node, and go to the other one if it is not there.
fn rather_on(node: &str) -> Value {
    json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
        "weight": 100,
        "preference": {"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
        ]},
    }]}})
}

/// A ready order job with orders flowing through it.
fn running(name: &str, place: impl FnOnce(Manifest) -> Manifest) -> (Stage, Flow, Manifest) {
    let stage = Stage::new(name);
    let flow = Flow::start_fast(&stage);
    let manifest = place(stage.orders());
    stage.apply(&manifest);
    stage.wait_ready("orders");
    flow.wait_for_more("before a node goes away");
    (stage, flow, manifest)
}

/// The same with all its pods on one node, though they may go to the other one.
fn running_on(node: &str, name: &str) -> (Stage, Flow, Manifest) {
    let elsewhere = Cordoned::node(nodes::other(node));
    let (stage, flow, manifest) = running(name, |manifest| manifest);
    nodes::wait_for_all_on(&stage, "orders", node);
    drop(elsewhere);
    (stage, flow, manifest)
}

fn attempt(stage: &Stage) -> i64 {
    stage.job("orders")["status"]["attempt"]
        .as_i64()
        .unwrap_or_default()
}

/// Takes a node away in some way until another attempt has committed output; how long nothing was
/// committed, as a reader of the output sees it.
#[track_caller]
fn gap_without<'a>(
    stage: &'a Stage,
    flow: &Flow,
    take: impl FnOnce() -> Away<'a>,
) -> (Away<'a>, Duration) {
    let before = attempt(stage);
    let mut away = None;
    let gap = flow.gap_during(|| {
        away = Some(take());
        stage.wait_for_job("orders", "another attempt runs", DEADLINE, |job| {
            let attempt = job["status"]["attempt"].as_i64().unwrap_or_default();
            attempt > before && job["status"]["state"] == json!("Running")
        });
        flow.wait_for_more("by another attempt");
    });
    (away.expect("the work was done"), gap)
}

#[test]
fn a20_a_drained_node_is_left_by_a_job_that_goes_on() {
    let _alone = alone();
    let (stage, flow, _) = running_on("node-2", "a20");
    let (mut drained, mut took) = (None, Duration::ZERO);
    let gap = flow.gap_during(|| {
        let started = Instant::now();
        drained = Some(Cordoned::and_drained(&stage, "node-2"));
        took = started.elapsed();
        nodes::wait_for_all_on(&stage, "orders", "node-1");
        stage.wait_ready("orders");
        flow.wait_for_more("on the other node");
    });
    println!("a20: drained in {took:?}, at most {gap:?} without committed output");
    drop(drained);
    stage.finish(flow, "orders");
}

#[test]
fn a21_a_coordinator_and_workers_that_are_cut_off_are_replaced_and_fenced() {
    let _alone = alone();
    let (stage, flow, _) = running("a21", |manifest| manifest);
    // A worker on either side.
    assert_eq!(nodes::of(&stage, "orders", "worker"), ["node-1", "node-2"]);
    let cut_off = nodes::of(&stage, "orders", "coordinator");
    let zombies = stage.uids_of("orders", "coordinator");
    flow.wait_for_more("before the network is cut");
    let (away, gap) = gap_without(&stage, &flow, || {
        Away::without_network(stage.cluster, &cut_off[0])
    });
    println!("a21: {gap:?} without committed output after a node was cut off");
    let now = stage.uids_of("orders", "coordinator");
    assert!(now.iter().all(|uid| !zombies.contains(uid)), "{now:?}");
    assert!(
        Stage::processes_live(&zombies),
        "the old coordinator lives on, where it reaches nobody"
    );
    // What was cut off comes back with all it believes.
    away.back();
    wait_until("what was cut off has ended", DEADLINE, || {
        !Stage::processes_live(&zombies)
    });
    flow.wait_for_more("with both nodes");
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
    assert!(gap <= AFTER_NODE_LOSS, "{gap:?}");
}

#[test]
fn a_node_that_loses_its_power_with_the_coordinator_costs_less_than_45_seconds_five_times() {
    let _alone = alone();
    let (stage, flow, _) = running_on("node-2", "power");
    let mut gaps = Vec::new();
    for round in 1..=5 {
        let coordinator = nodes::of(&stage, "orders", "coordinator");
        let (away, gap) = gap_without(&stage, &flow, || {
            Away::without_power(stage.cluster, &coordinator[0])
        });
        println!(
            "power: round {round}, {}: {gap:?} without committed output",
            coordinator[0]
        );
        gaps.push(gap);
        assert_eq!(
            nodes::of(&stage, "orders", "coordinator"),
            [nodes::other(&coordinator[0])]
        );
        away.back();
        stage.wait_ready("orders");
        flow.wait_for_more("with both nodes");
    }
    stage.finish(flow, "orders");
    assert!(gaps.iter().all(|gap| *gap <= AFTER_NODE_LOSS), "{gaps:?}");
}

#[test]
fn a_node_that_loses_its_power_with_all_workers_costs_less_than_45_seconds() {
    let _alone = alone();
    let (stage, flow, _) = running("workers", |manifest| {
        manifest
            .set("/spec/coordinator/affinity", rather_on("node-1"))
            .set("/spec/workers/pod/affinity", rather_on("node-2"))
            .set("/spec/parallelism", json!(1))
    });
    assert_eq!(nodes::of(&stage, "orders", "coordinator"), ["node-1"]);
    assert_eq!(nodes::of(&stage, "orders", "worker"), ["node-2"]);
    let coordinator = stage.uids_of("orders", "coordinator");
    let (away, gap) = gap_without(&stage, &flow, || {
        Away::without_power(stage.cluster, "node-2")
    });
    println!("workers: {gap:?} without committed output");
    assert_eq!(nodes::of(&stage, "orders", "worker"), ["node-1"]);
    assert_eq!(
        stage.uids_of("orders", "coordinator"),
        coordinator,
        "it was on the other node"
    );
    away.back();
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
    assert!(gap <= AFTER_NODE_LOSS, "{gap:?}");
}

#[test]
fn an_upgrade_while_a_node_is_dead_completes_and_waits_for_no_pod_on_it() {
    let _alone = alone();
    let (stage, flow, manifest) = running_on("node-2", "dead");
    let old = text(&stage.job("orders")["status"]["revision"]);
    let away = Away::without_power(stage.cluster, "node-2");
    // At once: nobody knows yet that the node is dead, and checks and pods may be sent there.
    let started = Instant::now();
    stage.apply(&manifest.upgraded());
    let patience = Duration::from_mins(4);
    stage.wait_for_job("orders", "the new revision is ready", patience, |job| {
        holds(job, "Ready", "True")
            && job["status"]["revision"] != json!(old)
            && job["status"]["upgrade"].is_null()
    });
    println!(
        "dead: upgraded {:?} after the node had died",
        started.elapsed()
    );
    assert!(
        !nodes::is_ready(stage.cluster, "node-2"),
        "it is still dead"
    );
    nodes::wait_for_all_on(&stage, "orders", "node-1");
    flow.wait_for_more("by the new revision");
    away.back();
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
}

#[test]
fn a_job_is_suspended_while_the_node_of_its_pods_is_dead() {
    let _alone = alone();
    let (stage, flow, _) = running_on("node-2", "suspended");
    let away = Away::without_power(stage.cluster, "node-2");
    stage.change("orders", &json!({"state": "Suspended"}));
    stage.wait_condition("orders", "Suspended", "True");
    assert!(
        stage.all_pods("orders").is_empty(),
        "also those that were ending"
    );
    assert!(
        !nodes::is_ready(stage.cluster, "node-2"),
        "it is still dead"
    );
    away.back();
    stage.change("orders", &json!({"state": "Running"}));
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
}

#[test]
fn a_node_that_loses_its_power_with_operator_and_job_is_survived_by_both() {
    let _alone = alone();
    load_image("operator", "millstream-operator");
    let stage = Stage::with_operator("both", |_, namespace, scratch| {
        Operator::prepare("127.0.0.1:1", &[namespace], scratch.path(), "unused")
    });
    let values = format!(
        "namespaces={{{}}},image.repository=localhost/millstream-operator,image.tag=dev,\
         rbac.aggregateRoles=false",
        stage.namespace
    );
    let install = [
        "install",
        "millstream",
        "charts/millstream-operator",
        "--wait",
        "--timeout=120s",
        "--take-ownership",
        "--set",
        &values,
    ];
    let elsewhere = Cordoned::node("node-1");
    helm(&stage, &install);
    let flow = Flow::start_fast(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    nodes::wait_for_all_on(&stage, "orders", "node-2");
    drop(elsewhere);
    flow.wait_for_more("before the node goes away");
    let mut away = None;
    let gap = flow.gap_during(|| {
        away = Some(Away::without_power(stage.cluster, "node-2"));
        let seen = flow.seen();
        // What was on its way at that moment comes out at once; what comes after a pause is new.
        let found = poll_until(DEADLINE, || {
            let moved = nodes::of(&stage, "orders", "worker") == ["node-1"];
            (moved && flow.seen() > seen).then_some(())
        });
        assert!(found.is_some(), "{}", stage.describe("orders"));
        flow.wait_for_more("on the other node");
    });
    println!("both: {gap:?} without committed output after job and operator were lost");
    // The operator is back as well: what is asked for is brought in.
    stage.change("orders", &json!({"parallelism": 3}));
    stage.wait_for_job("orders", "the operator acts", DEADLINE, |job| {
        job["status"]["parallelism"] == json!(3) && holds(job, "Ready", "True")
    });
    away.expect("the work was done").back();
    stage.finish(flow, "orders");
    assert!(gap <= AFTER_LOSS_OF_OPERATOR_TOO, "{gap:?}");
    helm(&stage, &["uninstall", "millstream", "--wait"]);
}
