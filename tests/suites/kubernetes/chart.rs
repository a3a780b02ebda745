//! The operator as the chart installs it: a Deployment in the cluster with its own account.

use std::process::Command;

use millstream_tests::kubernetes::flow::Flow;
use millstream_tests::kubernetes::operator::Operator;
use millstream_tests::kubernetes::stage::Stage;
use millstream_tests::kubernetes::world::load_image;
use millstream_tests::tools;
use millstream_tests::wait::wait_until;
use serde_json::json;

use crate::alone;

const PATIENCE: std::time::Duration = std::time::Duration::from_mins(2);

/// Runs Helm in the stage's namespace.
#[track_caller]
pub(crate) fn helm(stage: &Stage, arguments: &[&str]) -> String {
    let output = Command::new(tools::cache().join("bin/helm"))
        .args([
            "--kubeconfig",
            &stage.cluster.kubeconfig().to_string_lossy(),
        ])
        .args(["--namespace", &stage.namespace])
        .args(arguments)
        .current_dir(tools::root())
        .output()
        .expect("helm is installed: tools/kubernetes.sh");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "helm {arguments:?}: {out}{errors}");
    out
}

#[test]
fn a37_the_chart_is_installed_upgraded_rolled_back_and_removed_while_a_job_runs() {
    let _alone = alone();
    load_image("operator", "millstream-operator");
    load_image("busybox", "busybox");
    let stage = Stage::with_operator("a37", |_, namespace, scratch| {
        Operator::prepare("127.0.0.1:1", &[namespace], scratch.path(), "unused")
    });
    let values = format!(
        "namespaces={{{}}},image.repository=localhost/millstream-operator,image.tag=dev,\
         test.image=localhost/busybox:dev,rbac.aggregateRoles=false",
        stage.namespace
    );
    let chart = [
        "millstream",
        "charts/millstream-operator",
        "--wait",
        "--timeout=120s",
        "--set",
    ];
    let with = |verb: &[&str], values: &str| {
        // The definitions are there already, and are now the chart's.
        helm(
            &stage,
            &[verb, &chart, &[values, "--take-ownership"]].concat(),
        );
    };
    with(&["install"], &values);
    let flow = Flow::start(&stage);
    stage.apply(&stage.orders());
    stage.wait_ready("orders");
    let pods = stage.pod_uids("orders");
    helm(&stage, &["test", "millstream", "--timeout=120s"]);

    with(
        &["upgrade"],
        &format!("{values},resources.requests.cpu=21m"),
    );
    flow.wait_for_more("after the chart was upgraded");
    helm(
        &stage,
        &["rollback", "millstream", "1", "--wait", "--timeout=120s"],
    );
    flow.wait_for_more("after the chart was rolled back");
    // It works: what is asked for is brought in.
    stage.change("orders", &json!({"upgrade": {"progressDeadline": "11m"}}));
    stage.wait_ready("orders");
    assert_eq!(
        stage.pod_uids("orders"),
        pods,
        "no pod of the job was touched"
    );

    helm(&stage, &["uninstall", "millstream", "--wait"]);
    wait_until("the operator is gone", PATIENCE, || {
        let query = "pods?labelSelector=app.kubernetes.io/component%3Doperator";
        stage.api().list(&stage.path("api/v1", query)).is_empty()
    });
    flow.wait_for_more("without the chart");
    assert_eq!(stage.pod_uids("orders"), pods, "the job runs on");
    assert!(
        stage.api().get(&stage.job_path("orders")).is_some(),
        "definitions stay"
    );

    with(&["install"], &values);
    stage.finish(flow, "orders");
}
