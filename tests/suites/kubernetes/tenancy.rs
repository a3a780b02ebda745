//! Several operators, several namespaces, several managers of one object.

use std::time::{Duration, Instant};

use millstream_tests::kubernetes::api::Patch;
use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::operator::{self, Operator};
use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds, message, reason, text};
use millstream_tests::wait::{poll_until, wait_until};
use serde_json::{Value, json};

use crate::shared;

#[test]
fn a38_a_forbidden_namespace_does_not_stop_the_others() {
    let _shared = shared();
    let mut gate = None;
    let forbidden = "default";
    let stage = Stage::with_operator("a38", |cluster, namespace, scratch| {
        let (server, address) = cluster.gate(Some(&operator::account(cluster, namespace)));
        gate = Some(server);
        Operator::prepare(
            &address,
            &[namespace, forbidden],
            scratch.path(),
            "operator",
        )
    });
    stage.operator.run();
    stage.apply(&stage.generated("allowed", None));
    stage.wait_ready("allowed");
    assert!(stage.operator.is_running(), "{}", stage.operator.output());
    assert!(
        stage.operator.output().contains(forbidden),
        "it says so: {}",
        stage.operator.output()
    );
    drop(gate);
}

#[test]
fn a39_another_operator_leads_within_half_a_minute_of_the_leaders_death() {
    let _shared = shared();
    let stage = Stage::new("a39");
    let namespace = stage.namespace.clone();
    let user = operator::account(stage.cluster, &namespace);
    let (gate, address) = stage.cluster.gate(Some(&user));
    let second = Operator::prepare(&address, &[&namespace], stage.scratch().path(), "second");
    second.run();
    // Two at once: one acts, and the job's objects are written once.
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    flow.wait_for_more("with two operators");
    let pods = stage.pod_uids("orders");
    let generation = |stage: &Stage| {
        let deployments = stage.api().list(&stage.path("apis/apps/v1", "deployments"));
        let mut generations = deployments
            .iter()
            .filter(|one| text(&one["metadata"]["name"]).starts_with("orders-coordinator-"))
            .map(|one| one["metadata"]["generation"].clone());
        let generation = generations.next().expect("it is there");
        assert_eq!(generations.next(), None, "there is one");
        generation
    };
    assert_eq!(generation(&stage), json!(1), "nobody wrote it twice");

    stage.operator.kill();
    let started = Instant::now();
    stage.change("orders", &json!({"parallelism": 3}));
    let adopted = poll_until(Duration::from_mins(1), || {
        let job = stage.job("orders");
        (job["status"]["observedGeneration"] == job["metadata"]["generation"]).then_some(())
    });
    let took = started.elapsed();
    assert!(adopted.is_some(), "{}", second.output());
    println!("a39: the second operator acted {took:?} after the first was killed");
    assert!(took < Duration::from_secs(30), "{took:?}");
    stage.wait_ready("orders");
    let kept = stage.pod_uids("orders");
    assert!(
        pods.iter().any(|uid| kept.contains(uid)),
        "workers that stay keep their pods"
    );
    stage.finish(flow, "orders");
    second.kill();
    drop(gate);
}

#[test]
fn a43_two_managers_share_a_job_and_its_manifest_stays_without_a_difference() {
    let _shared = shared();
    let stage = Stage::new("a43");
    let flow = Flow::start(&stage);
    // What a pipeline applies says nothing of the parallelism, which belongs to an autoscaler.
    let manifest = stage.orders().without("/spec/parallelism");
    let path = stage.job_path("orders");
    let mut object = manifest.json().clone();
    object["metadata"]["namespace"] = json!(stage.namespace);
    let apply = |manager: &str, object: &Value| {
        stage
            .api()
            .patch(&path, Patch::Apply(manager), object)
            .unwrap_or_else(|refused| panic!("{manager}: {refused:?}"))
    };
    apply("pipeline", &object);
    stage.wait_ready("orders");
    stage
        .kubectl()
        .run(&["scale", "sj/orders", "--replicas=2"])
        .expect_success();
    stage.wait_for_job("orders", "it runs with parallelism 2", DEADLINE, |job| {
        job["status"]["parallelism"] == json!(2) && holds(job, "Ready", "True")
    });
    let scaled = stage.job("orders")["metadata"]["generation"].clone();
    // The pipeline applies again, as it does every few minutes: nothing changes.
    apply("pipeline", &object);
    let job = stage.job("orders");
    assert_eq!(job["metadata"]["generation"], scaled, "{job:#}");
    assert_eq!(job["spec"]["parallelism"], json!(2));
    let diff = stage.kubectl().run_with(
        &[
            "diff",
            "--server-side",
            "--field-manager=pipeline",
            "-f",
            "-",
        ],
        &object.to_string(),
    );
    assert!(diff.ok && diff.out.is_empty(), "{}{}", diff.out, diff.err);
    // Nothing of ours writes the spec.
    let managers = job["metadata"]["managedFields"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for manager in &managers {
        if text(&manager["manager"]).contains("millstream") {
            assert!(manager["fieldsV1"]["f:spec"].is_null(), "{manager:#}");
        }
    }
    // What an autoscaler reads.
    let scale = stage
        .api()
        .get(&format!("{path}/scale"))
        .expect("the scale subresource");
    assert_eq!(scale["spec"]["replicas"], json!(2));
    assert_eq!(scale["status"]["replicas"], json!(2));
    assert!(text(&scale["status"]["selector"]).contains("millstream.dev/job=orders"));
    stage.finish(flow, "orders");
}

#[test]
fn a46_a_job_runs_where_only_restricted_pods_may() {
    let _shared = shared();
    let stage = Stage::new("a46");
    // The namespace does refuse others.
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"},
        "spec": {"containers": [{"name": "c", "image": "localhost/any"}]}});
    let refused = stage.kubectl().apply(&pod).expect_failure();
    assert!(refused.contains("restricted"), "{refused}");
    stage.apply(&stage.generated("modest", None));
    stage.wait_ready("modest");
    for role in ["coordinator", "worker"] {
        for pod in stage.pods("modest", role) {
            let container = &pod["spec"]["containers"][0]["securityContext"];
            assert_eq!(container["readOnlyRootFilesystem"], json!(true), "{role}");
            assert_eq!(
                pod["spec"]["automountServiceAccountToken"],
                json!(false),
                "{role}"
            );
        }
    }
    let budget = stage.path("apis/policy/v1", "poddisruptionbudgets/modest-workers");
    assert!(
        stage.api().get(&budget).is_some(),
        "a budget for voluntary disruptions"
    );
    let policy = stage.path("apis/networking.k8s.io/v1", "networkpolicies/modest-pods");
    assert!(stage.api().get(&policy).is_some(), "a network policy");
}

#[test]
fn what_belongs_to_somebody_else_is_neither_taken_over_nor_deleted() {
    let _shared = shared();
    let stage = Stage::new("owner");
    // A service that has a name of ours, and a Deployment that has all our labels.
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "orders-coordinator"},
        "spec": {"ports": [{"name": "web", "port": 80}], "selector": {"app": "shop"}}});
    let labels = json!({"millstream.dev/job": "orders", "millstream.dev/role": "coordinator",
        "app.kubernetes.io/managed-by": "millstream-operator"});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "shop", "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "shop"}},
            "template": {"metadata": {"labels": {"app": "shop"}},
                "spec": {"containers": [{"name": "shop", "image": "localhost/shop"}]}}}});
    for object in [&service, &deployment] {
        stage.kubectl().apply(object).expect_success();
    }
    stage.apply(&stage.generated("orders", None));
    let job = stage.wait_for_job("orders", "it says whose the service is", DEADLINE, |job| {
        reason(job, "Reconciling") == "ApplyFailed"
    });
    let said = message(&job, "Reconciling");
    assert!(
        said.contains("Service orders-coordinator belongs to"),
        "{said}"
    );
    let path = stage.path("api/v1", "services/orders-coordinator");
    let found = stage.api().get(&path).expect("the service stays");
    assert_eq!(found["spec"]["selector"], json!({"app": "shop"}));
    assert!(found["metadata"]["ownerReferences"].is_null(), "{found:#}");

    assert!(stage.api().delete(&path));
    stage.wait_ready("orders");
    stage.suspend("orders");
    let path = stage.path("apis/apps/v1", "deployments/shop");
    let found = stage.api().get(&path).expect("the deployment stays");
    assert!(
        found["metadata"]["deletionTimestamp"].is_null(),
        "{found:#}"
    );
}

#[test]
fn a_paused_job_is_observed_and_left_alone() {
    let _shared = shared();
    let stage = Stage::new("paused");
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    let pods = stage.pod_uids("orders");
    stage.change("orders", &json!({"paused": true}));
    stage.change("orders", &json!({"restartAt": "2026-11-24T12:00:00Z"}));
    stage.wait_for_job("orders", "the change is observed", DEADLINE, |job| {
        job["status"]["observedGeneration"] == job["metadata"]["generation"]
    });
    flow.wait_for_more("while it is paused");
    assert_eq!(stage.pod_uids("orders"), pods);
    stage.change("orders", &json!({"paused": false}));
    wait_until("the change is brought in", DEADLINE, || {
        stage
            .pod_uids("orders")
            .iter()
            .all(|uid| !pods.contains(uid))
    });
    stage.wait_ready("orders");
    stage.finish(flow, "orders");
}
