//! What earlier builds have written.

use std::path::{Path, PathBuf};

use millstream_checkpoint::inspect::verify;
use millstream_checkpoint::{MANIFEST_VERSION, Manifest, Storage, StorageOptions, read_savepoint};
use millstream_types::{
    Attempt, EventTime, FileRef, OperatorSnapshot, Run, StateDeclaration, StateSnapshot,
};
use serde_json::json;

use crate::sample::{NOW, chain, directory, holder, manifest};

/// Chains that a build has written whose manifests had version 1: two checkpoints and a savepoint.
/// In the second one manifests lie beside their slots.
const VERSION_1: [&str; 2] = ["manifest-1", "manifest-1-large"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// A copy of what a build has written, that goes with the test.
fn written(name: &str) -> (tempfile::TempDir, Storage) {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("checkpoints");
    copy(&golden(name), &store);
    (folder, Storage::directory(store))
}

fn of_version_1(manifest: Manifest) -> Manifest {
    Manifest {
        version: 1,
        ..manifest
    }
}

#[tokio::test]
async fn a_chain_of_version_1_is_restored_and_goes_on_in_the_version_of_today() {
    for name in VERSION_1 {
        let (folder, storage) = written(name);
        let uri = storage.uri().to_owned();
        let before = verify(&uri, &StorageOptions::default()).await.unwrap();
        assert_eq!((before.checkpoints, before.savepoints), (2, 1), "{name}");
        assert_eq!((before.faults, before.leftovers), (Vec::new(), Vec::new()));

        let (mut claimed, state) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
        let newest = state.newest.unwrap();
        let expected = Manifest {
            previous: newest.previous.clone(),
            ..of_version_1(manifest(Attempt(1), 2))
        };
        assert_eq!(newest, expected, "{name}");
        assert!(newest.previous.is_some() && claimed.recovery_permit().is_none());

        // Restored, it is written again, as where an attempt begins.
        let again = Manifest {
            attempt: claimed.attempt(),
            checkpoint: state.next_checkpoint,
            ..newest
        };
        let permit = claimed.decide(again).await.unwrap();
        claimed.committed(permit).await.unwrap();
        let newest = chain(&storage).observe().await.unwrap().newest.unwrap();
        assert_eq!(newest.version, MANIFEST_VERSION);

        let collected = claimed.collect_garbage(1).await.unwrap();
        let large = u64::from(name.ends_with("large"));
        assert_eq!(
            (collected.slots, collected.objects),
            (4, 2 * large),
            "{name}"
        );
        let job = folder.path().join("checkpoints/default/orders");
        assert!(!job.join("data").try_exists().unwrap());
    }
}

#[tokio::test]
async fn a_savepoint_of_version_1_is_started_from() {
    for name in VERSION_1 {
        let (_folder, storage) = written(name);
        let path = format!("{}/savepoints/before-upgrade", chain(&storage).path());
        let read = read_savepoint(&path, &StorageOptions::default()).await;
        let expected = manifest(Attempt(1), 3).without_committables();
        assert_eq!(read.unwrap(), of_version_1(expected), "{name}");
    }
}

#[tokio::test]
async fn a_manifest_without_state_is_written_as_in_version_1_but_for_its_version() {
    let (folder, storage) = directory();
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    drop(claimed.decide(manifest(Attempt(1), 1)).await.unwrap());
    let slot = "default/orders/chain/00000000000000000002.json";
    let manifest_in = |store: &Path| {
        let text = std::fs::read_to_string(store.join(slot)).unwrap();
        text.split_once("\"manifest\":").unwrap().1.to_owned()
    };
    let today = manifest_in(&folder.path().join("checkpoints"));
    let version = format!("{{\"version\":{MANIFEST_VERSION},");
    assert!(today.starts_with(&version), "{today}");
    let as_before = today.replacen(&version, "{\"version\":1,", 1);
    assert_eq!(as_before, manifest_in(&golden("manifest-1")));
}

#[test]
fn state_and_records_in_flight_are_written_and_read_as_in_version_3() {
    let file = |path: &str| FileRef {
        path: path.to_owned(),
        bytes: 1_024,
        crc32c: 0xdead_beef,
    };
    let snapshot = OperatorSnapshot {
        state: Some(StateSnapshot {
            declarations: vec![StateDeclaration {
                name: "total".to_owned(),
                data_type: "int64".to_owned(),
                schema: 1,
            }],
            key_groups: (512..1024).into(),
            runs: vec![Run {
                state: "total".to_owned(),
                file: file("data/3/17/sums/1-1.sst"),
                range: (512..700).into(),
                sequence: 9,
            }],
            timer_watermark: Some(EventTime(1_700_000_000_000_000)),
        }),
        in_flight: vec![file("data/3/17/sums/1-in-flight")],
        ..OperatorSnapshot::default()
    };
    let written = json!({
        "counters": {"recordsIn": 0, "recordsOut": 0, "bytes": 0, "skipped": 0, "deadLetters": 0},
        "state": {
            "declarations": [{"name": "total", "type": "int64", "schema": 1}],
            "keyGroups": {"first": 512, "end": 1024},
            "runs": [{
                "state": "total",
                "file": {"path": "data/3/17/sums/1-1.sst", "bytes": 1024, "crc32c": 3_735_928_559_u32},
                "range": {"first": 512, "end": 700},
                "sequence": 9,
            }],
            "timerWatermark": 1_700_000_000_000_000_i64,
        },
        "inFlight": [
            {"path": "data/3/17/sums/1-in-flight", "bytes": 1024, "crc32c": 3_735_928_559_u32},
        ],
    });
    assert_eq!(serde_json::to_value(&snapshot).unwrap(), written);
    let read: OperatorSnapshot = serde_json::from_value(written).unwrap();
    assert_eq!(read, snapshot);
}
