//! Prepared output is lost: the job stands still, says what to do, and goes on once that is done.

use std::time::Duration;

use millstream_tests::kafka::transactions::Prepared;
use millstream_tests::kubernetes::flow::{Flow, checkpoints};
use millstream_tests::kubernetes::manifest::Manifest;
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, message, reason};
use millstream_tests::wait::{poll_until, wait_for};
use serde_json::{Value, json};

use crate::shared;

/// Between a decision of the coordinator and its commits, once.
const HELD: Duration = Duration::from_secs(20);
/// A transaction that is prepared for so long, with a checkpoint every second, is held.
const STILL: Duration = Duration::from_secs(3);

#[test]
fn a_job_whose_output_is_lost_waits_until_the_loss_is_accepted() {
    let _shared = shared();
    let stage = Stage::new("lost");
    let flow = Flow::start(&stage);
    stage.apply(&held_once(stage.orders()));
    let lost = wait_for("a decided checkpoint is held", DEADLINE, || held(&stage));
    for prepared in &lost {
        stage
            .world
            .broker
            .take_transactional_id(&prepared.transactional_id);
    }
    let job = stage.wait_for_job("orders", "it has failed", DEADLINE, |job| {
        reason(job, "Stalled") == "JobFailed"
    });
    let says = message(&job, "Stalled");
    assert!(says.contains("MS0204"), "{says}");
    let checkpoint = named_in(&says);

    // Another start alone does not help, from nothing neither.
    stage.change("orders", &json!({"restore": {"policy": "Fresh"}}));
    let generation = stage.job("orders")["metadata"]["generation"].clone();
    let job = stage.wait_for_job("orders", "the fresh start has failed", DEADLINE, |job| {
        job["status"]["observedGeneration"] == generation
            && job["status"]["deployed"]["restore"] == "fresh"
            && reason(job, "Stalled") == "JobFailed"
    });
    assert_eq!(named_in(&message(&job, "Stalled")), checkpoint);

    stage.change(
        "orders",
        &json!({
            "restore": {"policy": "Latest", "acceptLostOutput": checkpoint},
            "restartAt": "2026-01-31T12:00:00Z",
        }),
    );
    let job = stage.wait_ready("orders");
    assert!(holds(&job, "Stalled", "False"), "{job:#}");
    flow.wait_for_more("by the job without the lost output");
    let restored = job["status"]["restoredFrom"].as_str();
    assert!(
        restored.is_some_and(|path| path.contains("/chain/")),
        "{job:#}"
    );
    let given_up = lost.iter().map(|prepared| prepared.records).sum();
    stage.finish_without(flow, "orders", given_up);
}

/// The coordinator waits before the commits of its sixth checkpoint.
fn held_once(manifest: Manifest) -> Manifest {
    let mut env = manifest.json()["spec"]["coordinator"]["env"].clone();
    let points = format!(
        "coordinator::before-commit=5*off->1*{}({})->off",
        "sleep",
        HELD.as_millis()
    );
    let variables = env.as_array_mut().expect("the manifest has variables");
    variables.push(json!({"name": "FAILPOINTS", "value": points}));
    manifest.set("/spec/coordinator/env", env)
}

/// What the newest checkpoint has prepared, if nobody commits it.
fn held(stage: &Stage) -> Option<Vec<Prepared>> {
    let chain = stage.stored("orders");
    if !chain.iter().any(|object| object.contains("/chain/")) {
        return None;
    }
    let prepared = Prepared::listed_in(&checkpoints::<Value>(stage, "show", "orders"));
    let is_open = || {
        let open = stage.world.broker.open_transactions();
        let is_open = |prepared: &Prepared| {
            open.iter()
                .any(|open| open.transactional_id == prepared.transactional_id)
        };
        prepared.iter().all(is_open)
    };
    let is_held =
        !prepared.is_empty() && poll_until(STILL, || (!is_open()).then_some(())).is_none();
    is_held.then_some(prepared)
}

/// The checkpoint whose loss a message says how to accept.
fn named_in(message: &str) -> i64 {
    let (_, rest) = message
        .split_once("restore.acceptLostOutput: ")
        .unwrap_or_else(|| panic!("it does not say what to do: {message}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().expect("the number of a checkpoint")
}
