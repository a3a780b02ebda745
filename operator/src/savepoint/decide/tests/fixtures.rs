//! A `StreamSavepoint` in every state, as the operator writes it.

use serde_json::Value;

use super::*;
use crate::fixtures::{check, resource};
use crate::runtime_client::RuntimeError;

const DEADLINE_SECONDS: i64 = 600;

/// The resource that a savepoint is, with a status.
fn recorded(name: &str, savepoint: &StreamSavepoint) {
    let mut metadata = json!({
        "generation": savepoint.metadata.generation,
        "creationTimestamp": savepoint.metadata.creation_timestamp,
    });
    if let Some(deleted) = &savepoint.metadata.deletion_timestamp {
        metadata["deletionTimestamp"] = json!(deleted);
        metadata["deletionGracePeriodSeconds"] = json!(0);
        metadata["finalizers"] = json!(savepoint.metadata.finalizers);
    }
    let spec = serde_json::to_value(&savepoint.spec).unwrap();
    let mut object = resource("StreamSavepoint", "before", &metadata, &spec);
    if let Some(status) = &savepoint.status {
        object["status"] = serde_json::to_value(status).unwrap();
    }
    check("StreamSavepoint", name, &object);
}

/// What the status becomes when this is seen.
fn next(before: &StreamSavepoint, seen: &Seen, seconds: i64) -> StreamSavepoint {
    let mut after = before.clone();
    after.status = Some(decide(before, seen, at(seconds)).status);
    after
}

#[test]
fn a_savepoint_in_every_state() {
    let created = savepoint(&Value::Null);
    recorded("created", &created);

    let nobody = Seen {
        job: None,
        runtime: RuntimeSeen::NoCoordinator,
        disposal: DisposalSeen::Absent,
    };
    let pending = next(&created, &nobody, 3);
    recorded("pending", &pending);
    recorded("abandoned", &next(&pending, &nobody, DEADLINE_SECONDS));

    let in_progress = next(&created, &seen(RuntimeSeen::NotAsked), 3);
    recorded("in-progress", &in_progress);
    recorded("completed", &next(&in_progress, &seen(completed()), 5));

    let taken = RuntimeError::Conflict {
        code: Some("MS0307".to_owned()),
        message: "another savepoint of the job has the name ssp-u-1".to_owned(),
    };
    let status = in_progress.status.clone().unwrap();
    let mut failed = in_progress.clone();
    failed.status = Some(refused(&in_progress, status, &taken, at(4)).status);
    recorded("failed", &failed);

    let mut deleting = next(&in_progress, &seen(completed()), 5);
    deleting.spec.retain = false;
    deleting.metadata.finalizers = Some(vec![super::super::super::FINALIZER.to_owned()]);
    deleting.metadata.deletion_timestamp = Some(Time(at(60)));
    recorded("deleting", &deleting);
}
