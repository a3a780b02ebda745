//! `kubectl streamjob` on a job that lives.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use millstream_tests::kubernetes::stage::{DEADLINE, Stage, holds};
use millstream_tests::rest::{Rest, RestError};
use millstream_tests::tools;
use millstream_tests::wait::wait_for;
use millstream_types::api::JobState;
use serde_json::{Value, json};

use crate::shared;

/// The plugin in the stage's namespace and scratch directory, not started yet.
fn command(stage: &Stage, line: &str) -> Command {
    let mut command = Command::new(tools::built("kubectl-streamjob"));
    command
        .args(line.split_whitespace())
        .args(["--namespace", &stage.namespace])
        .env("KUBECONFIG", stage.cluster.kubeconfig())
        .current_dir(stage.scratch().path());
    command
}

/// Runs the plugin.
fn plugin(stage: &Stage, line: &str) -> Output {
    let mut command = command(stage, line);
    command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} (cargo build -p millstream-cli): {error}"))
}

/// Asks for the console of a job, through the plugin and the API server.
#[track_caller]
fn shows_the_console(stage: &Stage, job: &str) {
    let mut command = command(stage, &format!("ui {job} --no-open"));
    let mut process = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let output = process.stdout.take().expect("a pipe");
    let mut url = String::new();
    BufReader::new(output)
        .read_line(&mut url)
        .expect("it prints an address");
    let rest = Rest::new(
        url.trim()
            .trim_start_matches("http://")
            .trim_end_matches('/'),
    );
    let page = rest.get("/");
    let job = rest.job();
    let savepoint = rest.post("/v1/savepoints", r#"{"name": "from-the-console"}"#);
    let cancel = rest.post("/v1/cancel", "{}");
    process.kill().expect("it runs");
    process.wait().expect("it has ended");
    assert!(
        page.expect("the page")
            .contains("<title>Millstream</title>")
    );
    assert_eq!(job.expect("the job").state, JobState::Running);
    assert!(savepoint.expect("a savepoint").contains("from-the-console"));
    assert!(
        matches!(cancel, Err(RestError::Refused(403, _))),
        "{cancel:?}"
    );
}

/// As [`plugin`], which must succeed; what it printed.
#[track_caller]
fn succeeds(stage: &Stage, line: &str) -> String {
    let output = plugin(stage, line);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{line}: {out}{errors}");
    out
}

#[test]
fn the_plugin_leads_a_job_through_its_life() {
    let _shared = shared();
    let stage = Stage::new("plugin");
    stage.apply(&stage.generated("made", None));
    stage.wait_ready("made");

    // A pod's readiness is told later than that its tasks run.
    let screen = wait_for("the job waits for nothing", DEADLINE, || {
        let screen = succeeds(&stage, "status made -o json");
        let screen: Value = serde_json::from_str(&screen).expect("JSON");
        (screen["waitsFor"] == json!([])).then_some(screen)
    });
    assert_eq!(screen["state"], "Running", "{screen:#}");
    assert_eq!(screen["gaps"], json!([]), "{screen:#}");
    assert!(screen["checkpoint"]["id"].is_i64(), "{screen:#}");
    assert_eq!(
        screen["operators"].as_array().map(Vec::len),
        Some(2),
        "{screen:#}"
    );

    shows_the_console(&stage, "made");

    let taken = succeeds(&stage, "savepoint made --name by-hand --wait");
    assert!(taken.contains("completed: s3://"), "{taken}");
    succeeds(&stage, "restart made --wait");

    stage.change("made", &json!({"operatorChaining": false}));
    stage.wait_ready("made");
    let history = succeeds(&stage, "history made");
    assert!(history.contains("+operatorChaining: false"), "{history}");
    let dry = succeeds(&stage, "rollback made --dry-run");
    assert!(dry.contains("+operatorChaining: true"), "{dry}");
    assert_eq!(stage.job("made")["spec"]["operatorChaining"], json!(false));
    succeeds(&stage, "rollback made --wait");
    assert_eq!(stage.job("made")["spec"]["operatorChaining"], json!(true));

    let logs = succeeds(&stage, "logs made --tail 3");
    for role in ["coordinator-", "workers-"] {
        assert!(
            logs.lines().any(|line| line.starts_with(role)),
            "{role}: {logs}"
        );
    }
    let report = succeeds(&stage, "report made --file report.zip");
    assert!(report.contains("report.zip written"), "{report}");

    stage.change(
        "made",
        &json!({"upgrade": {"approval": "Manual"}, "operatorChaining": false}),
    );
    stage.wait_for_job("made", "it waits for approval", DEADLINE, |job| {
        job["status"]["upgrade"]["step"] == json!("WaitingForApproval")
    });
    let screen = succeeds(&stage, "status made");
    assert!(
        screen.contains("kubectl streamjob upgrade approve made"),
        "{screen}"
    );
    succeeds(&stage, "upgrade approve made --wait");

    succeeds(&stage, "suspend made --wait");
    assert!(holds(&stage.job("made"), "Suspended", "True"));
    succeeds(&stage, "resume made --wait");
    let late = plugin(&stage, "suspend made --wait --timeout 1ms");
    assert_eq!(late.status.code(), Some(3));
}
