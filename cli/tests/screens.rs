//! What `status` shows of recorded resources.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed")]

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::DynamicObject;
use millstream_cli::coordinator::Coordinator;
use millstream_cli::job::Job;
use millstream_cli::screen::{Gathered, Screen};
use millstream_crds::StreamSavepoint;
use millstream_types::api::{CheckpointList, JobStatus};
use serde::Deserialize;

/// Resources of one moment.
#[derive(Deserialize)]
struct Case {
    job: DynamicObject,
    pods: Vec<Pod>,
    events: Vec<Event>,
    savepoints: Vec<StreamSavepoint>,
    coordinator: Option<Answers>,
    /// When they were recorded, where they are of a real cluster.
    now: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answers {
    Silent(String),
    Given {
        job: Box<JobStatus>,
        checkpoints: CheckpointList,
    },
}

fn path(case: &str, end: &str) -> String {
    format!("{}/tests/screens/{case}.{end}", env!("CARGO_MANIFEST_DIR"))
}

fn gathered(case: &str) -> Gathered {
    let text = std::fs::read_to_string(path(case, "json")).unwrap();
    let case: Case = serde_json::from_str(&text).unwrap();
    Gathered {
        job: Job::read(case.job).unwrap(),
        pods: case.pods,
        events: case.events,
        savepoints: case.savepoints,
        coordinator: match case.coordinator {
            None => Coordinator::None,
            Some(Answers::Silent(reason)) => Coordinator::Silent { reason },
            Some(Answers::Given { job, checkpoints }) => Coordinator::Answers {
                job,
                checkpoints: checkpoints.checkpoints,
            },
        },
        gaps: Vec::new(),
    }
}

fn now() -> Timestamp {
    "2026-11-24T22:11:04Z".parse().unwrap()
}

fn recorded_at(case: &str) -> Timestamp {
    let text = std::fs::read_to_string(path(case, "json")).unwrap();
    let case: Case = serde_json::from_str(&text).unwrap();
    case.now.unwrap_or_else(now)
}

/// The text on one line.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn shows(case: &str, gathered: &Gathered) -> String {
    let text = Screen::of(gathered).text(recorded_at(case));
    let path = path(case, "txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, expected,
        "{path} is not what is shown; run the test with UPDATE_EXPECT=1 and look at the change"
    );
    text
}

#[test]
fn a_running_job_shows_everything_on_one_screen() {
    let text = shows("running", &gathered("running"));
    assert!(
        !text.contains("order-processor-eu"),
        "another job's event is shown"
    );
    assert!(text.lines().count() <= 50, "{} lines", text.lines().count());
    assert!(text.contains("Waits for\n"), "a savepoint is pending");
}

#[test]
fn a_job_that_no_operator_has_seen_says_so() {
    let text = shows("unseen", &gathered("unseen"));
    assert!(
        text.contains("an operator: none has looked at this job yet"),
        "{text}"
    );
}

#[test]
fn an_upgrade_that_waits_for_approval_names_the_command() {
    let text = shows("approval", &gathered("approval"));
    assert!(
        text.contains("`kubectl streamjob upgrade approve order-processor -n shop`"),
        "{text}"
    );
    assert!(
        unwrapped(&text).contains("operator enriched is new"),
        "{text}"
    );
}

#[test]
fn a_rejected_revision_shows_why_while_the_old_one_runs() {
    let text = shows("bad-image", &gathered("bad-image"));
    assert!(text.contains("ImagePullBackOff"), "{text}");
    assert!(
        text.contains("(PreflightFailed), for"),
        "since when: {text}"
    );
    assert!(
        text.contains("cli-dev/made: Running"),
        "the old one runs: {text}"
    );
}

#[test]
fn pods_that_do_not_start_say_why() {
    let text = shows("deploying", &gathered("deploying"));
    assert!(unwrapped(&text).contains("1 Insufficient memory"), "{text}");
    assert!(text.contains("MS0101 the job file has 1 fault"), "{text}");
    assert!(
        text.contains("the coordinator, which does not answer"),
        "{text}"
    );
}

#[test]
fn a_suspended_job_waits_for_nothing() {
    let text = shows("suspended", &gathered("suspended"));
    assert!(text.contains("Waits for nothing"), "{text}");
    assert!(text.contains("suspend-4"), "{text}");
}

#[test]
fn what_could_not_be_read_is_told() {
    let mut gathered = gathered("running");
    gathered.pods.clear();
    gathered.gaps = vec!["pods: not allowed: pods is forbidden".to_owned()];
    let text = Screen::of(&gathered).text(now());
    assert!(text.contains("not shown: pods: not allowed"), "{text}");
}

#[test]
fn a_job_that_is_being_deleted_says_what_for() {
    let mut gathered = gathered("running");
    let deleted = serde_json::from_str("\"2026-11-24T22:10:00Z\"").unwrap();
    gathered.job.metadata.deletion_timestamp = Some(deleted);
    gathered.job.metadata.finalizers = Some(vec!["millstream.dev/state".to_owned()]);
    let text = Screen::of(&gathered).text(now());
    assert!(
        text.contains("its deletion, which waits for millstream.dev/state, for 64s"),
        "{text}"
    );
}

#[test]
fn the_answer_as_json_has_what_the_text_has() {
    let screen = Screen::of(&gathered("running"));
    let json = serde_json::to_value(&screen).unwrap();
    assert_eq!(json["state"], "Running");
    assert_eq!(json["since"], "2026-11-24T22:05:12Z");
    assert_eq!(json["checkpoint"]["id"], 512);
    assert_eq!(json["pods"].as_array().unwrap().len(), 3);
    assert_eq!(
        json["waitsFor"].as_array().unwrap().len(),
        screen.waits_for.len()
    );
}
