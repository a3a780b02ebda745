//! Chains as people look at them, whole and damaged.

use std::path::{Path, PathBuf};

use millstream_checkpoint::inspect::{Verified, list, show, verify};
use millstream_checkpoint::{Chain, Error, StorageOptions, reserve};
use millstream_types::{Attempt, CheckpointId};

use crate::sample::{NOW, chain, directory, holder, job, manifest};

/// A storage with a job of three checkpoints and a savepoint, and another job.
struct Store {
    folder: tempfile::TempDir,
    options: StorageOptions,
}

impl Store {
    async fn new() -> Self {
        let (folder, storage) = directory();
        let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
        for id in 1..=3 {
            let mut manifest = manifest(Attempt(1), id);
            if id == 3 {
                manifest.fingerprint = "x".repeat(5 * 1024 * 1024);
            }
            let permit = claimed.decide(manifest).await.unwrap();
            if id < 3 {
                claimed.committed(permit).await.unwrap();
            }
        }
        claimed.collect_garbage(2).await.unwrap();
        let savepoint = manifest(Attempt(1), 4);
        claimed.savepoint("kept", savepoint).await.unwrap();
        let other = Chain::new(storage.clone(), job("other"));
        drop(other.claim(holder("b"), NOW).await.unwrap());
        reserve(&storage, "prefix", &job("orders"), None)
            .await
            .unwrap();
        Self {
            folder,
            options: StorageOptions::default(),
        }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    fn uri(&self, path: &str) -> String {
        format!("file://{}", self.root().join(path).display())
    }

    async fn verify(&self) -> Verified {
        verify(&self.uri(""), &self.options).await.unwrap()
    }

    /// Everything in the store, paths below its root.
    fn objects(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    walk(&entry.path(), found);
                } else {
                    found.push(entry.path());
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.root(), &mut found);
        found.sort();
        found
    }
}

const SLOT: &str = "default/orders/chain/0000000000000000000";

#[tokio::test]
async fn all_jobs_of_a_storage_are_listed() {
    let store = Store::new().await;
    let jobs = list(&store.uri(""), &store.options).await.unwrap();
    let paths: Vec<&str> = jobs.iter().map(|job| job.path.as_str()).collect();
    assert_eq!(
        paths,
        [store.uri("default/orders"), store.uri("default/other")]
    );
    let ids: Vec<(u64, bool)> = jobs[0]
        .checkpoints
        .iter()
        .map(|entry| (entry.id.0, entry.committed))
        .collect();
    assert_eq!(ids, [(2, true), (3, false)]);
    assert_eq!(
        jobs[0].savepoints,
        [store.uri("default/orders/savepoints/kept")]
    );
    assert_eq!(jobs[0].claim.as_ref().unwrap().holder.name, "a");
    assert_eq!(jobs[0].fault, None);

    let one = list(&store.uri("default/orders"), &store.options)
        .await
        .unwrap();
    assert_eq!(one.len(), 1);
    assert_eq!(one[0].checkpoints, jobs[0].checkpoints);
    let nothing = list(&store.uri("default/orders/data"), &store.options).await;
    assert!(matches!(nothing, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn a_checkpoint_is_shown_by_its_number() {
    let store = Store::new().await;
    let uri = store.uri("default/orders");
    for (asked, expected) in [(None, 3), (Some(2), 2), (Some(3), 3)] {
        let shown = show(&uri, asked.map(CheckpointId), &store.options).await;
        assert_eq!(shown.unwrap().checkpoint.0, expected);
    }
    let missing = show(&uri, Some(CheckpointId(1)), &store.options)
        .await
        .unwrap_err();
    assert!(missing.to_string().contains("it has 2, 3"), "{missing}");
}

#[tokio::test]
async fn a_whole_storage_has_no_fault() {
    let store = Store::new().await;
    let verified = store.verify().await;
    assert_eq!(verified.faults, []);
    assert_eq!(verified.leftovers, Vec::<String>::new());
    assert_eq!(
        (verified.jobs, verified.checkpoints, verified.savepoints),
        (2, 2, 1)
    );
    assert_eq!(
        verified.objects,
        u64::try_from(store.objects().len()).unwrap()
    );
}

#[tokio::test]
async fn every_damaged_object_is_named() {
    let store = Store::new().await;
    let objects = store.objects();
    assert!(objects.len() >= 9, "{objects:?}");
    for object in objects {
        let whole = std::fs::read(&object).unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 1;
        for damaged in [&whole[..whole.len() - 1], &whole[..0], &flipped] {
            std::fs::write(&object, damaged).unwrap();
            let verified = store.verify().await;
            let address = format!("file://{}", object.display());
            assert!(
                verified.faults.iter().any(|fault| fault.object == address),
                "{address}: {:?}",
                verified.faults
            );
        }
        std::fs::write(&object, &whole).unwrap();
    }
    assert_eq!(store.verify().await.faults, []);
}

#[tokio::test]
async fn a_missing_newest_checkpoint_is_an_error_and_never_a_step_back() {
    let store = Store::new().await;
    let storage = millstream_checkpoint::Storage::directory(store.root());
    let (second, _) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    drop(second);
    let slot = store.root().join(format!("{SLOT}6.json"));
    let newest = std::fs::read(&slot).unwrap();
    std::fs::remove_file(&slot).unwrap();
    let error = chain(&storage)
        .claim(holder("c"), NOW)
        .await
        .map(drop)
        .unwrap_err();
    let address = format!("file://{}", slot.display());
    assert!(
        matches!(&error, Error::Corrupt { object, .. } if *object == address),
        "{error}"
    );
    let faults = store.verify().await.faults;
    assert!(
        faults.iter().any(|fault| fault.object == address),
        "{faults:?}"
    );

    std::fs::write(&slot, &newest[..100]).unwrap();
    let error = chain(&storage)
        .claim(holder("c"), NOW)
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(&error, Error::Corrupt { object, .. } if *object == address),
        "{error}"
    );
    assert_eq!(
        chain(&storage)
            .observe()
            .await
            .map(drop)
            .unwrap_err()
            .to_string(),
        error.to_string()
    );

    std::fs::write(&slot, &newest).unwrap();
    let (third, state) = chain(&storage).claim(holder("c"), NOW).await.unwrap();
    assert_eq!(
        third.attempt(),
        Attempt(3),
        "what was refused has claimed nothing"
    );
    assert_eq!(state.newest.unwrap().checkpoint, CheckpointId(3));
}

#[tokio::test]
async fn a_damaged_older_checkpoint_does_not_keep_a_job_from_starting() {
    let store = Store::new().await;
    let storage = millstream_checkpoint::Storage::directory(store.root());
    std::fs::write(store.root().join(format!("{SLOT}4.json")), "x").unwrap();
    let (_claimed, state) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    assert_eq!(state.newest.unwrap().checkpoint, CheckpointId(3));
}

#[tokio::test]
async fn a_slot_under_another_number_is_corrupt() {
    let store = Store::new().await;
    let (from, to) = (format!("{SLOT}4.json"), format!("{SLOT}7.json"));
    std::fs::copy(store.root().join(from), store.root().join(to)).unwrap();
    let storage = millstream_checkpoint::Storage::directory(store.root());
    let error = chain(&storage)
        .claim(holder("b"), NOW)
        .await
        .map(drop)
        .unwrap_err();
    assert!(
        error.to_string().contains("it holds slot 4, not slot 7"),
        "{error}"
    );
}

#[tokio::test]
async fn leftovers_are_told_apart_from_faults() {
    let store = Store::new().await;
    let orphan = store.root().join("default/orders/data/1/9/manifest.json");
    std::fs::create_dir_all(orphan.parent().unwrap()).unwrap();
    std::fs::write(&orphan, "x").unwrap();
    let verified = store.verify().await;
    assert_eq!(verified.faults, []);
    assert_eq!(verified.leftovers, [format!("file://{}", orphan.display())]);
}
