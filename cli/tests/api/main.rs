//! The binary against recorded answers of an API server: what it asks, what it sends, what it says.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

mod server;
mod ui;

use std::io::Read as _;
use std::process::Output;

use serde_json::{Value, json};
use server::{Answer, Server, json as answer, text};

const JOBS: &str = "/apis/millstream.dev/v1alpha1/namespaces/shop/streamjobs";
const JOB: &str = "/apis/millstream.dev/v1alpha1/namespaces/shop/streamjobs/order-processor";
/// A patch of the job that counts.
const FOR_REAL: &str =
    "/apis/millstream.dev/v1alpha1/namespaces/shop/streamjobs/order-processor?&fieldManager";
const SAVEPOINTS: &str = "/apis/millstream.dev/v1alpha1/namespaces/shop/streamsavepoints";
const PODS: &str = "/api/v1/namespaces/shop/pods";
const PROXY: &str =
    "/api/v1/namespaces/shop/pods/order-processor-coordinator-6c5d8f7b9-x2x9p:8081/proxy/v1/";

fn case(name: &str) -> Value {
    let path = format!("{}/tests/screens/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn list(items: &Value) -> Value {
    json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items})
}

fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    })
}

/// Everything that is there in a case.
fn everything(name: &str) -> Vec<Answer> {
    let case = case(name);
    vec![
        answer("GET", JOB, 200, &case["job"]),
        answer("PATCH", JOB, 200, &case["job"]),
        answer("GET", SAVEPOINTS, 200, &list(&case["savepoints"])),
        answer("GET", PODS, 200, &list(&case["pods"])),
        answer(
            "GET",
            "/api/v1/namespaces/shop/events",
            200,
            &list(&case["events"]),
        ),
        answer(
            "GET",
            "/api/v1/namespaces/shop/configmaps",
            200,
            &list(&json!([])),
        ),
        answer(
            "GET",
            "/apis/apps/v1/namespaces/shop/deployments",
            200,
            &list(&json!([])),
        ),
        answer("GET", PROXY, 200, &case["coordinator"]["job"]),
    ]
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn status_asks_kubernetes_and_the_coordinator_and_changes_nothing() {
    let server = Server::start(everything("running"));
    let output = server.run("status order-processor");
    assert!(output.status.success(), "{}", err(&output));
    let text = out(&output);
    assert!(
        text.starts_with("StreamJob shop/order-processor: Running for"),
        "{text}"
    );
    assert!(
        text.contains("1,234,567"),
        "the coordinator's totals: {text}"
    );
    for method in ["PATCH", "POST", "PUT", "DELETE"] {
        assert!(server.asked(method).is_empty());
    }
    let output = server.run("status order-processor -o json");
    let screen: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(screen["state"], "Running");
}

#[test]
fn status_shows_what_it_may_read() {
    let forbidden = refusal(
        403,
        "Forbidden",
        "pods is forbidden: User \"eve\" cannot list resource",
    );
    let mut answers = everything("running");
    answers.push(answer(
        "GET",
        "/api/v1/namespaces/shop/pods?",
        403,
        &forbidden,
    ));
    let output = Server::start(answers).run("status order-processor");
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        out(&output).contains("not shown: pods: not allowed: pods is forbidden"),
        "{}",
        out(&output)
    );
}

#[test]
fn a_coordinator_that_may_not_be_asked_is_no_fault_of_the_job() {
    let forbidden = refusal(403, "Forbidden", "cannot get resource \"pods/proxy\"");
    let mut answers = everything("running");
    answers.push(answer("GET", "/api/v1/namespaces/shop/pods/order-processor-coordinator-6c5d8f7b9-x2x9p:8081/proxy/v1/job", 403, &forbidden));
    let output = Server::start(answers).run("status order-processor");
    assert!(output.status.success(), "{}", err(&output));
    let text = out(&output);
    assert!(
        text.contains("not shown: what the coordinator says: not allowed"),
        "{text}"
    );
    assert!(!text.contains("does not answer"), "{text}");
}

#[test]
fn a_job_that_is_not_there_is_told_with_those_that_are() {
    let missing = refusal(
        404,
        "NotFound",
        "streamjobs.millstream.dev \"orders\" not found",
    );
    let jobs = list(&json!([{"metadata": {"name": "order-processor"}}]));
    let server = Server::start(vec![
        answer(
            "GET",
            "/apis/millstream.dev/v1alpha1/namespaces/shop/streamjobs/orders",
            404,
            &missing,
        ),
        answer("GET", JOBS, 200, &jobs),
    ]);
    let output = server.run("status orders");
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(
        text.contains("there is no StreamJob `orders` in namespace `shop`"),
        "{text}"
    );
    assert!(text.contains("There are: order-processor."), "{text}");
}

#[test]
fn a_cluster_without_the_kind_says_to_install_it() {
    let output = Server::start(Vec::new()).run("status orders");
    assert_eq!(output.status.code(), Some(1));
    let text = err(&output);
    assert!(text.contains("does not know StreamJobs"), "{text}");
    assert!(text.contains("helm install"), "{text}");
}

#[test]
fn what_is_forbidden_or_needs_a_login_is_told_as_such() {
    let forbidden = refusal(
        403,
        "Forbidden",
        "streamjobs is forbidden: User \"eve\" cannot get",
    );
    let output = Server::start(vec![answer("GET", JOBS, 403, &forbidden)]).run("history orders");
    assert!(
        err(&output).starts_with("error: not allowed: streamjobs is forbidden"),
        "{}",
        err(&output)
    );
    let login = refusal(401, "Unauthorized", "Unauthorized");
    let output = Server::start(vec![answer("GET", JOBS, 401, &login)]).run("logs orders");
    assert!(
        err(&output).contains("does not accept your credentials"),
        "{}",
        err(&output)
    );
}

#[test]
fn each_action_is_one_patch_of_what_it_is_about() {
    let server = Server::start(everything("running"));
    for line in [
        "suspend order-processor",
        "resume order-processor",
        "restart order-processor",
    ] {
        let output = server.run(line);
        assert!(output.status.success(), "{line}: {}", err(&output));
    }
    let patches = server.asked("PATCH");
    // It runs, so there is nothing to resume.
    assert_eq!(patches.len(), 2, "{patches:?}");
    assert_eq!(patches[0].body, json!({"spec": {"state": "Suspended"}}));
    assert!(
        patches[0].path.contains("fieldManager=kubectl-streamjob"),
        "{}",
        patches[0].path
    );
    let restart_at = patches[1].body["spec"]["restartAt"].as_str().unwrap();
    assert!(
        restart_at.ends_with('Z') && restart_at.len() == 20,
        "{restart_at}"
    );
    assert_eq!(patches[1].body.as_object().unwrap().len(), 1);
}

#[test]
fn approval_names_the_revision_that_waits() {
    let server = Server::start(everything("approval"));
    let output = server.run("upgrade approve order-processor");
    assert!(output.status.success(), "{}", err(&output));
    let patches = server.asked("PATCH");
    let annotations = json!({"millstream.dev/approve": "order-processor-9c41ab03fe"});
    assert_eq!(
        patches[0].body,
        json!({"metadata": {"annotations": annotations}})
    );
    let other = server.run("upgrade approve order-processor --revision 3fa1c20b9d");
    assert_eq!(other.status.code(), Some(1));
    assert_eq!(server.asked("PATCH").len(), 1);
}

#[test]
fn a_savepoint_that_fails_ends_the_wait_with_3() {
    let failed = json!({
        "apiVersion": "millstream.dev/v1alpha1", "kind": "StreamSavepoint",
        "metadata": {"name": "s1"}, "spec": {"jobRef": {"name": "order-processor"}},
        "status": {"state": "Failed", "message": "the bucket is full"},
    });
    let mut answers = everything("running");
    answers.push(answer("POST", SAVEPOINTS, 201, &failed));
    answers.push(answer(
        "GET",
        "/apis/millstream.dev/v1alpha1/namespaces/shop/streamsavepoints/s1",
        200,
        &failed,
    ));
    let server = Server::start(answers);
    let output = server.run("savepoint order-processor --name s1 --wait --deadline 1m");
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    assert!(
        err(&output).contains("savepoint `s1` is Failed: the bucket is full"),
        "{}",
        err(&output)
    );
    let created = &server.asked("POST")[0].body;
    assert_eq!(created["spec"]["jobRef"]["name"], "order-processor");
    assert_eq!(created["spec"]["deadline"], "1m");
    assert_eq!(created["spec"]["retain"], true);
}

#[test]
fn rollback_is_checked_first_and_refused_if_the_job_changed_meanwhile() {
    let mut old = case("running")["job"]["spec"].clone();
    for key in [
        "parallelism",
        "state",
        "upgrade",
        "deletion",
        "paused",
        "restore",
    ] {
        old.as_object_mut().unwrap().remove(key);
    }
    old["image"] = json!("ghcr.io/millstream/millstream:0.0.9");
    let map = json!({
        "metadata": {"name": "order-processor-77b0e4d211"},
        "data": {"spec.json": old.to_string()},
    });
    let conflict = refusal(409, "Conflict", "the object has been modified");
    let mut answers = everything("running");
    answers.push(answer(
        "GET",
        "/api/v1/namespaces/shop/configmaps?",
        200,
        &list(&json!([map])),
    ));
    let server = Server::start(answers);
    let output = server.run("rollback order-processor --to 77b0 --dry-run");
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        out(&output).contains("+image: ghcr.io/millstream/millstream:0.0.9"),
        "{}",
        out(&output)
    );
    let patches = server.asked("PATCH");
    assert_eq!(patches.len(), 1);
    assert!(
        patches[0].path.contains("dryRun=All"),
        "{}",
        patches[0].path
    );
    assert_eq!(patches[0].body["metadata"]["resourceVersion"], "48213");

    let mut answers = everything("running");
    answers.push(answer(
        "GET",
        "/api/v1/namespaces/shop/configmaps?",
        200,
        &list(&json!([map])),
    ));
    // Not the one that is tried before.
    answers.push(answer("PATCH", FOR_REAL, 409, &conflict));
    let server = Server::start(answers);
    let output = server.run("rollback order-processor --to 77b0");
    assert_eq!(output.status.code(), Some(1), "{}", out(&output));
    assert!(
        err(&output).contains("it was not done: the object has been modified"),
        "{}",
        err(&output)
    );
    assert_eq!(server.asked("PATCH").len(), 2);
}

#[test]
fn logs_carry_the_pod_that_they_are_of() {
    let mut answers = everything("running");
    answers.push(text(
        "GET",
        "/api/v1/namespaces/shop/pods/order-processor-coordinator-6c5d8f7b9-x2x9p/log",
        200,
        "one\ntwo\n",
    ));
    answers.push(text(
        "GET",
        "/api/v1/namespaces/shop/pods/order-processor-workers-58d4c9c6b4-8k2lm/log",
        200,
        "\u{fffd}three",
    ));
    let waiting = refusal(400, "BadRequest", "container is waiting to start");
    answers.push(answer(
        "GET",
        "/api/v1/namespaces/shop/pods/order-processor-workers-58d4c9c6b4-zz7qd/log",
        400,
        &waiting,
    ));
    let server = Server::start(answers);
    let output = server.run("logs order-processor --tail 5");
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(
        out(&output),
        "coordinator-6c5d8f7b9-x2x9p | one\ncoordinator-6c5d8f7b9-x2x9p | two\n\
         workers-58d4c9c6b4-8k2lm    | \u{fffd}three\n"
    );
    assert!(
        err(&output).contains("zz7qd: the API server refused it: container is waiting"),
        "{}",
        err(&output)
    );
    let logs = server
        .asked("GET")
        .into_iter()
        .filter(|asked| asked.path.contains("/log?"));
    assert!(
        logs.into_iter()
            .all(|asked| asked.path.contains("tailLines=5"))
    );
}

#[test]
fn a_report_holds_everything_without_secrets_and_never_overwrites() {
    let mut answers = everything("running");
    answers.push(text(
        "GET",
        "/api/v1/namespaces/shop/pods/order-processor-coordinator-6c5d8f7b9-x2x9p/log",
        200,
        "login with password=hunter2\n",
    ));
    answers.push(text("GET", "/api/v1/namespaces/shop/pods/order-processor-coordinator-6c5d8f7b9-x2x9p:8081/proxy/metrics", 200, "millstream_up 1\n"));
    let server = Server::start(answers);
    let output = server.run("report order-processor --file r.zip");
    assert!(output.status.success(), "{}", err(&output));
    assert!(
        err(&output).contains("missing: kubernetes.yaml"),
        "{}",
        err(&output)
    );
    let mut archive =
        zip::ZipArchive::new(std::fs::File::open(server.file("r.zip")).unwrap()).unwrap();
    let mut texts = std::collections::BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(!text.contains("hunter2"));
        texts.insert(file.name().unwrap().into_owned(), text);
    }
    for name in [
        "README.txt",
        "redacted.txt",
        "missing.txt",
        "status.txt",
        "streamjob.yaml",
        "pods.yaml",
        "events.yaml",
        "savepoints.yaml",
        "deployments.yaml",
        "coordinator/job.json",
        "logs/order-processor-coordinator-6c5d8f7b9-x2x9p.millstream.log",
        "metrics/order-processor-coordinator-6c5d8f7b9-x2x9p.txt",
    ] {
        assert!(
            texts.contains_key(name),
            "{name} is not among {:?}",
            texts.keys()
        );
    }
    assert!(
        texts["redacted.txt"].contains("x2x9p.millstream.log: line 1"),
        "{}",
        texts["redacted.txt"]
    );
    let again = server.run("report order-processor --file r.zip");
    assert_eq!(again.status.code(), Some(1));
    assert!(
        err(&again).contains("r.zip cannot be created"),
        "{}",
        err(&again)
    );
    let secrets = server
        .asked("GET")
        .into_iter()
        .filter(|asked| asked.path.contains("secrets"));
    assert_eq!(secrets.count(), 0);
}

/// A running job, whose pods can be deleted; what the coordinator says stays as it is.
fn drillable() -> Vec<Answer> {
    let mut answers = everything("running");
    let pod = case("running")["pods"][0].clone();
    answers.push(answer("DELETE", "/api/v1/namespaces/shop/pods/", 200, &pod));
    let audit = json!({"checkpoint": 7, "sources": {}, "sinks": {}, "gaps": ["one is missing"]});
    answers.push(answer("GET", AUDIT, 200, &audit));
    answers
}

const AUDIT: &str =
    "/api/v1/namespaces/shop/pods/order-processor-coordinator-6c5d8f7b9-x2x9p:8081/proxy/v1/audit";

#[test]
fn a_drill_deletes_a_worker_and_the_coordinator_and_says_what_did_not_recover() {
    let server = Server::start(drillable());
    let output = server.run("drill order-processor --yes --deadline 1s -o json");
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let report: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(report["job"], "shop/order-processor");
    assert_eq!(report["passed"], false, "no newer attempt has come");
    assert_eq!(report["gaps"][0], "one is missing");
    let deleted = server.asked("DELETE");
    let faults = report["faults"].as_array().unwrap();
    let names: Vec<&str> = faults
        .iter()
        .filter_map(|it| it["fault"].as_str())
        .collect();
    assert_eq!(names, ["delete-worker", "delete-coordinator"]);
    for (fault, deleted) in faults.iter().zip(&deleted) {
        assert!(fault["recoveryMs"].is_null(), "{fault}");
        let pod = fault["pod"].as_str().unwrap();
        assert!(
            deleted.path.contains(&format!("/pods/{pod}")),
            "{}",
            deleted.path
        );
        let at_once = deleted.body["gracePeriodSeconds"] == 0
            || deleted.path.contains("gracePeriodSeconds=0");
        assert!(at_once, "{deleted:?}");
    }
    assert_eq!(deleted.len(), 2);
    assert!(faults[0]["pod"].as_str().unwrap().contains("worker"));
    assert!(faults[1]["pod"].as_str().unwrap().contains("coordinator"));
}

#[test]
fn a_drill_that_nobody_has_confirmed_deletes_nothing() {
    let server = Server::start(drillable());
    let output = server.run("drill order-processor");
    assert_eq!(output.status.code(), Some(1));
    let said = err(&output);
    assert!(
        said.contains("nobody has confirmed") && said.contains("--yes"),
        "{said}"
    );
    assert!(server.asked("DELETE").is_empty());
}

#[test]
fn a_job_that_does_not_run_is_not_drilled() {
    let server = Server::start(everything("suspended"));
    let output = server.run("drill order-processor --yes");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("does not run"), "{}", err(&output));
    assert!(server.asked("DELETE").is_empty());
}
