use super::*;
use crate::told::Word;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).unwrap()
}

/// As the first coordinators answered: no deployment, no tasks, no time of completion.
const OLDER: &str = r#"{
    "job": {"namespace": "default", "name": "orders"}, "state": "Running",
    "since": 1780000000000, "attempt": 3, "restarts": 1, "parallelism": 2,
    "workers": [{"worker": "w-1", "slots": 2, "tasks": 4}],
    "restoredFrom": "file:///state/default/orders/chain/7.json",
    "lastCheckpoint": {"id": 9, "kind": "checkpoint", "state": "Completed", "attempt": 3,
        "triggeredAt": 1780000005000, "durationMs": 120, "sizeBytes": 4096,
        "path": "file:///state/default/orders/chain/9.json", "failure": null},
    "operators": {"out": {"recordsIn": 7, "recordsOut": 7}}, "message": "",
    "lastFailure": {"code": "WorkerLost", "kind": "Retryable", "message": "w-2 is gone"}
}"#;

/// As a coordinator may answer one day: with more fields, more states, more kinds and more errors.
const NEWER: &str = r#"{
    "job": {"namespace": "default", "name": "orders", "cluster": "eu-1"}, "state": "Rescaling",
    "since": 1780000000000, "mood": {"good": true},
    "workers": [{"worker": "w-1", "slots": 2, "tasks": 4, "memory": 17}],
    "lastCheckpoint": {"id": 9, "kind": {"incremental": {"base": 8}}, "state": "Uploading",
        "attempt": 3, "triggeredAt": 5, "files": ["a", "b"]},
    "checkpointFailures": {"inARow": 2, "tolerable": 3,
        "last": {"code": "DiskOnFire", "kind": "Burning", "message": "call the fire brigade"}},
    "tasks": [{"vertex": 0, "subtask": 1, "worker": "w-1", "threads": 2,
        "load": {"busy": 700, "idle": 300, "gpu": 5,
            "channels": [{"from": {"vertex": 1, "subtask": 0}, "queueFill": 900, "lost": 0}]}}],
    "operators": {"out": {"recordsIn": 7, "lateRecords": 1}},
    "message": "on the way"
}"#;

#[test]
fn an_answer_of_an_older_coordinator_is_read() {
    let status: JobStatus = read(OLDER);
    assert_eq!(status.state, JobState::Running);
    assert_eq!(
        (status.attempt, status.restarts, status.parallelism),
        (Attempt(3), 1, 2)
    );
    assert_eq!((status.deployment, status.tasks.len()), (None, 0));
    let checkpoint = status.last_checkpoint.unwrap();
    assert_eq!(checkpoint.kind, CheckpointKind::Checkpoint);
    assert_eq!(checkpoint.ended_at(), Timestamp(1_780_000_005_120));
    assert_eq!(status.last_failure.unwrap().code, ErrorCode::WorkerLost);
}

#[test]
fn an_answer_of_a_newer_coordinator_is_read_and_its_names_are_kept() {
    let status: JobStatus = read(NEWER);
    assert_eq!(status.state, JobState::Unknown);
    assert!(!status.state.is_terminal());
    assert_eq!(status.message, "on the way");
    let checkpoint = status.last_checkpoint.unwrap();
    assert_eq!(checkpoint.state, CheckpointState::Unknown);
    assert_eq!(checkpoint.kind, Told::Other(Word("incremental".to_owned())));
    let failures = status.checkpoint_failures.unwrap();
    assert_eq!(failures.in_a_row, 2);
    assert_eq!(
        failures.last.to_string(),
        "DiskOnFire: call the fire brigade"
    );
    let load = status.tasks[0].load.as_ref().unwrap();
    assert_eq!((load.busy, load.backpressured, load.idle), (700, 0, 300));
    assert_eq!(load.channels[0].queue_fill, 900);
}

#[test]
fn all_but_the_state_may_be_missing_and_nothing_else_is_an_answer() {
    let status: JobStatus = read(r#"{"state": "Deploying"}"#);
    assert_eq!(status, JobStatus::new(unnamed(), JobState::Deploying));
    let error = serde_json::from_str::<JobStatus>(r#"{"message": "no such route"}"#);
    assert!(error.unwrap_err().to_string().contains("state"));
}

#[test]
fn lists_and_details_of_another_version_are_read() {
    let list: CheckpointList = read(
        r#"{"checkpoints": [{"id": 4, "state": "Completed", "path": "p"}, {"id": 5}], "more": 1}"#,
    );
    assert_eq!(list.counts, CheckpointCounts::default());
    assert_eq!(list.checkpoints[1].state, CheckpointState::Unknown);
    let detail: CheckpointDetail = read(r#"{"id": 4, "state": "Completed", "alignment": {}}"#);
    assert_eq!((detail.acknowledged, detail.tasks), (0, 0));
    let savepoint: SavepointStatus = read(r#"{"name": "a", "state": "Verifying", "files": 3}"#);
    assert_eq!(savepoint.state, CheckpointState::Unknown);
    let audit: AuditReport = read(r#"{"checkpoint": 42, "edges": [], "gaps": ["one is missing"]}"#);
    assert_eq!(audit.checkpoint, Some(CheckpointId(42)));
    let refused: ApiError = read(r#"{"message": "no", "hint": "ask again"}"#);
    assert_eq!((refused.code, refused.message), (None, "no".to_owned()));
}

#[test]
fn what_is_written_is_read_as_it_was() {
    let mut status: JobStatus = read(OLDER);
    status.given_up = Some(GivenUp {
        checkpoint: CheckpointId(8),
        went_back_to: CheckpointId(7),
        at: Timestamp(1),
        failure: Failure::new(
            ErrorCode::KafkaTransactionLost,
            ErrorKind::Retryable,
            "gone",
        )
        .into(),
    });
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(read::<JobStatus>(&text), status);
}
