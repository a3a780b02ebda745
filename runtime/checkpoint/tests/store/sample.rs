//! Small jobs and manifests.

use std::collections::BTreeMap;

use millstream_checkpoint::{Chain, Holder, MANIFEST_VERSION, Manifest, Storage};
use millstream_types::snapshot::Counters;
use millstream_types::{
    Attempt, CheckpointId, CheckpointKind, Committable, JobId, Opaque, OperatorSnapshot,
    OperatorUid, SplitState, SubtaskIndex, Timestamp,
};

pub(crate) fn job(name: &str) -> JobId {
    JobId {
        namespace: "default".to_owned(),
        name: name.to_owned(),
    }
}

pub(crate) fn holder(name: &str) -> Holder {
    Holder {
        name: name.to_owned(),
        build: "test".to_owned(),
        identity: None,
        parallelism: 2,
        deployment: None,
        host: None,
        sinks: BTreeMap::new(),
    }
}

pub(crate) fn holder_of(identity: &str) -> Holder {
    Holder {
        identity: Some(identity.to_owned()),
        ..holder(identity)
    }
}

/// A storage in a directory that goes with the test.
pub(crate) fn directory() -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::directory(folder.path().join("checkpoints"));
    (folder, storage)
}

pub(crate) fn chain(storage: &Storage) -> Chain {
    Chain::new(storage.clone(), job("orders"))
}

/// A manifest of one source and one sink in two subtasks.
pub(crate) fn manifest(attempt: Attempt, checkpoint: u64) -> Manifest {
    let checkpoint = CheckpointId(checkpoint);
    let source = |subtask: u64| OperatorSnapshot {
        splits: vec![SplitState {
            split: format!("orders/{subtask}"),
            position: Opaque(format!("{{\"offset\":{checkpoint}}}")),
            records: checkpoint.0 * 100,
            finished: false,
        }],
        counters: Counters {
            records_out: checkpoint.0 * 100,
            ..Counters::default()
        },
        ..OperatorSnapshot::default()
    };
    let sink = |subtask: u64| OperatorSnapshot {
        committables: vec![Committable {
            checkpoint,
            transaction: Opaque(format!(
                "{{\"id\":\"out-{attempt}-{subtask}-{checkpoint}\"}}"
            )),
            records: 100,
        }],
        ..OperatorSnapshot::default()
    };
    let subtasks = |snapshot: &dyn Fn(u64) -> OperatorSnapshot| {
        BTreeMap::from([
            (SubtaskIndex(0), snapshot(0)),
            (SubtaskIndex(1), snapshot(1)),
        ])
    };
    Manifest {
        version: MANIFEST_VERSION,
        job: job("orders"),
        checkpoint,
        attempt,
        kind: CheckpointKind::Checkpoint,
        fingerprint: "f".to_owned(),
        parallelism: 2,
        max_parallelism: None,
        triggered_at: Timestamp(1_000),
        decided_at: Timestamp(2_000),
        identities: BTreeMap::new(),
        connectors: BTreeMap::new(),
        operators: BTreeMap::from([
            (OperatorUid::from("orders"), subtasks(&source)),
            (OperatorUid::from("processed"), subtasks(&sink)),
        ]),
        inputs: BTreeMap::new(),
        swept_through: Attempt(0),
        imported_from: None,
        beginning: None,
        origins: Vec::new(),
        previous: None,
        ended: false,
    }
}

/// A manifest that is too large for a slot.
pub(crate) fn large(attempt: Attempt, checkpoint: u64) -> Manifest {
    Manifest {
        fingerprint: "x".repeat(9 * 1_024 * 1_024),
        ..manifest(attempt, checkpoint)
    }
}

pub(crate) const NOW: Timestamp = Timestamp(1_700_000_000_000);
