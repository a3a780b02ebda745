//! A job that keeps totals by customer, whose pods talk by TLS, through all that moves state.

use millstream_tests::certificates::Authority;
use millstream_tests::keyed::{Expected, Faults, Judge, SQL};
use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::manifest::Manifest;
use millstream_tests::kubernetes::nodes::{self, Cordoned};
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, text};
use serde_json::{Value, json};

use crate::alone;

/// Secret with the certificates of the job's pods.
const SECRET: &str = "orders-tls";

/// The order job that also writes every customer's totals to the topic `totals`.
fn with_totals(stage: &Stage) -> Manifest {
    let manifest = stage.orders();
    let dataflow = &manifest.json()["spec"]["dataflow"];
    let list = |name: &str| dataflow[name].as_array().expect("a list").clone();
    let (mut transforms, mut sinks) = (list("transforms"), list("sinks"));
    transforms.push(json!({"name": "totals", "input": "valid", "sql": SQL}));
    let mut sink = sinks.first().expect("a sink").clone();
    sink["name"] = json!("totals-out");
    sink["input"] = json!("totals");
    sink["kafka"]["topic"] = json!(stage.topic("totals"));
    sink["kafka"]["key"] = json!("customer_id");
    sinks.push(sink);
    manifest
        .set("/spec/dataflow/transforms", Value::Array(transforms))
        .set("/spec/dataflow/sinks", Value::Array(sinks))
        .set("/spec/internalTls", json!({"secretName": SECRET}))
}

/// Makes the secret that the job's pods know each other by.
#[track_caller]
fn make_secret(stage: &Stage) {
    let files = Authority::make(stage.scratch().path()).sign_process("orders");
    let read = |name: &str| std::fs::read_to_string(files.join(name)).expect("it was written");
    let data = json!({
        "ca.crt": read("ca.crt"), "tls.crt": read("tls.crt"), "tls.key": read("tls.key"),
    });
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET}, "stringData": data});
    stage
        .api()
        .create(&stage.path("api/v1", "secrets"), &secret)
        .expect("a secret in a new namespace");
}

#[test]
fn a_keyed_job_is_upgraded_rescaled_and_drained_from_a_node_and_its_totals_stay_exact() {
    let _alone = alone();
    let stage = Stage::new("keyed");
    let broker = &stage.world.broker;
    broker.create_topic(&stage.topic("totals"), 4);
    make_secret(&stage);
    let flow = Flow::start(&stage);
    let manifest = with_totals(&stage);
    stage.apply(&manifest);
    let job = stage.wait_ready("orders");
    let first = text(&job["status"]["revision"]);
    flow.wait_for_more("at first");

    stage.apply(&manifest.upgraded());
    stage.wait_for_job("orders", "it is upgraded", DEADLINE, |job| {
        holds(job, "Ready", "True") && job["status"]["revision"] != json!(first)
    });
    flow.wait_for_more("by the new revision");

    for parallelism in [4, 1, 3] {
        let replicas = format!("--replicas={parallelism}");
        let scale = ["scale", "sj/orders", &replicas];
        stage.kubectl().run(&scale).expect_success();
        let what = format!("it runs with parallelism {parallelism}");
        stage.wait_for_job("orders", &what, DEADLINE, |job| {
            job["status"]["parallelism"] == json!(parallelism) && holds(job, "Ready", "True")
        });
        flow.wait_for_more(&what);
    }

    let drained = Cordoned::and_drained(&stage, "node-2");
    nodes::wait_for_all_on(&stage, "orders", "node-1");
    stage.wait_ready("orders");
    flow.wait_for_more("on the other node");
    drop(drained);

    stage.finish(flow, "orders");
    let expected = Expected::read(broker, &stage.topic("orders"));
    assert!(expected.customers() > 100, "customers");
    let found = Judge::topic(&expected, broker, &stage.topic("totals"));
    assert_eq!(found, Faults::default());
    broker.delete_topic(&stage.topic("totals"));
}
