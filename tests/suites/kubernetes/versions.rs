//! From one version of the operator to the next and back, definitions included.

use std::path::{Path, PathBuf};

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::operator::{self, Operator};
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds};
use millstream_tests::tools;
use serde_json::{Value, json};

use crate::alone;

/// Specs of what makes pods.
fn deployments(stage: &Stage) -> Vec<Value> {
    let all = stage.api().list(&stage.path("apis/apps/v1", "deployments"));
    all.into_iter().map(|mut one| one["spec"].take()).collect()
}

/// Seconds that each pod of the job may take to stop.
fn grace(stage: &Stage) -> Vec<Value> {
    let pods = ["coordinator", "worker"].map(|role| stage.pods("orders", role));
    let seconds = |pod: &Value| pod["spec"]["terminationGracePeriodSeconds"].clone();
    pods.iter().flatten().map(seconds).collect()
}

/// The definitions of a directory become those of the cluster.
#[track_caller]
fn define(stage: &Stage, directory: &Path) {
    for kind in ["streamjobs", "streamsavepoints"] {
        let file = directory.join(format!("{kind}.millstream.dev.yaml"));
        let file = file.to_string_lossy().into_owned();
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", &file];
        stage.kubectl().run(&apply).expect_success();
    }
}

/// The operator has looked at a change that restarts nothing.
#[track_caller]
fn looks_at(stage: &Stage, deadline: &str, of_next_version: &Value) {
    stage.change(
        "orders",
        &json!({"upgrade": {"progressDeadline": deadline}}),
    );
    stage.wait_for_job("orders", "the operator has looked at it", DEADLINE, |job| {
        holds(job, "Ready", "True") && job["status"]["ofNextVersion"] == *of_next_version
    });
}

#[test]
fn a36_the_next_version_and_the_one_before_take_over_and_restart_no_pod() {
    let _alone = alone();
    let stage = Stage::new("a36");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    let (pods, before) = (stage.pod_uids("orders"), deployments(&stage));
    let grace_before = grace(&stage);

    // The next version: other pods, and fields that this one does not know.
    let program = std::env::var_os("MILLSTREAM_NEXT_OPERATOR_BIN").map_or_else(
        || PathBuf::from(tools::install("next-operator.sh", &[]).trim_end()),
        PathBuf::from,
    );
    let user = operator::account(stage.cluster, &stage.namespace);
    let (gate, address) = stage.cluster.gate(Some(&user));
    let next = Operator::prepare(
        &address,
        &[&stage.namespace],
        stage.scratch().path(),
        "next",
    )
    .with_program(&program);
    stage.operator.kill();
    define(&stage, &program.with_file_name("next-crds"));
    next.run();
    next.wait_until_ready();
    looks_at(&stage, "11m", &json!("looked at"));
    flow.wait_for_more("under the next version");
    assert_eq!(stage.pod_uids("orders"), pods);
    assert_eq!(deployments(&stage), before);

    // What it makes itself is another thing.
    stage.change(
        "orders",
        &json!({"restartAt": "2026-11-24T12:00:00Z", "ofNextVersion": "known"}),
    );
    stage.wait_ready("orders");
    let (pods, before) = (stage.pod_uids("orders"), deployments(&stage));
    let after = grace(&stage);
    assert_eq!(after.len(), grace_before.len());
    assert!(
        after.iter().all(|grace| !grace_before.contains(grace)),
        "the next version makes the same pods: {after:?}"
    );

    // And back, with the definitions of this version.
    next.kill();
    define(&stage, &tools::root().join("crds"));
    stage.operator.run();
    stage.operator.wait_until_ready();
    looks_at(&stage, "12m", &Value::Null);
    flow.wait_for_more("under the version before");
    assert_eq!(stage.pod_uids("orders"), pods);
    assert_eq!(deployments(&stage), before);
    stage.finish(flow, "orders");
    drop(gate);
}
