//! Files that checkpoints name: what may be named, and what is deleted when.

use std::path::{Path, PathBuf};

use millstream_checkpoint::{
    Began, ClaimedChain, Error, Manifest, PendingSavepoints, Storage, StorageOptions,
    read_savepoint,
};
use millstream_types::{Attempt, CheckpointId, FileRef};

use crate::copies::naming;
use crate::sample::{NOW, chain, directory, holder, manifest};

/// A chain in a directory, whose files are written by hand.
struct Job {
    folder: tempfile::TempDir,
    storage: Storage,
    claimed: ClaimedChain,
}

impl Job {
    async fn new() -> Self {
        let (folder, storage) = directory();
        let (claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
        Self {
            folder,
            storage,
            claimed,
        }
    }

    async fn claim(&mut self) {
        self.claimed = chain(&self.storage)
            .claim(holder("b"), NOW)
            .await
            .unwrap()
            .0;
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder
            .path()
            .join("checkpoints/default/orders")
            .join(path)
    }

    /// Writes a file of the live attempt for a checkpoint.
    fn upload(&self, checkpoint: u64, name: &str) -> String {
        let path = format!("data/{}/{checkpoint}/{name}", self.claimed.attempt());
        put(&self.path(&path));
        path
    }

    fn manifest(&self, checkpoint: u64, files: &[&str]) -> Manifest {
        let file = |path: &&str| FileRef {
            path: (*path).to_owned(),
            bytes: 6,
            crc32c: 0,
        };
        let files: Vec<FileRef> = files.iter().map(file).collect();
        naming(manifest(self.claimed.attempt(), checkpoint), &files)
    }

    async fn decide(&mut self, checkpoint: u64, files: &[&str]) {
        let manifest = self.manifest(checkpoint, files);
        drop(self.claimed.decide(manifest).await.unwrap());
    }

    /// Files below `data/`.
    fn files(&self) -> Vec<String> {
        let root = self.path("");
        let mut found = Vec::new();
        walk(&self.path("data"), &mut found);
        let below = |path: PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
        let mut found: Vec<String> = found.into_iter().map(below).collect();
        found.sort();
        found
    }
}

fn put(path: &Path) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, "sorted").unwrap();
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn a_file_goes_with_the_last_checkpoint_that_names_it() {
    let mut job = Job::new().await;
    let (one, two) = (job.upload(1, "one"), job.upload(1, "two"));
    job.decide(1, &[&one, &two]).await;
    let three = job.upload(2, "three");
    job.decide(2, &[&two, &three]).await;
    assert_eq!(job.claimed.collect_garbage(2).await.unwrap().objects, 0);
    job.decide(3, &[&three]).await;
    assert_eq!(job.claimed.collect_garbage(2).await.unwrap().objects, 1);
    assert_eq!(job.files(), [two.as_str(), &three]);
    job.decide(4, &[]).await;
    let collected = job.claimed.collect_garbage(1).await.unwrap();
    assert_eq!((collected.slots, collected.objects), (2, 2));
    assert_eq!(job.files(), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_checkpoint_must_not_name_is_refused_with_the_file() {
    let mut job = Job::new().await;
    let dropped = job.upload(1, "dropped");
    job.decide(1, &[&dropped]).await;
    let kept = job.upload(2, "kept");
    job.decide(2, &[&kept]).await;
    let undecided = job.upload(3, "undecided");
    job.claim().await;
    let own = job.upload(3, "own");
    for wrong in [
        &*dropped,
        &undecided,
        "data/3/3/x",
        "savepoints/a/files/1/1/x",
        "../x",
    ] {
        let manifest = job.manifest(3, &[&kept, wrong]);
        let refused = job.claimed.decide(manifest).await.unwrap_err();
        assert!(matches!(refused, Error::Rule(_)), "{refused:?}");
        assert!(
            refused.to_string().contains(&format!("`{wrong}`")),
            "{refused}"
        );
    }
    job.decide(3, &[&kept, &own]).await;
    // The large manifest of a checkpoint names as well.
    let mut large = job.manifest(4, &[&own]);
    large.fingerprint = "x".repeat(5 * 1024 * 1024);
    drop(job.claimed.decide(large).await.unwrap());
    job.claimed.collect_garbage(1).await.unwrap();
    assert_eq!(job.files(), [own.as_str(), "data/2/4/manifest.json"]);
    job.claim().await;
    job.claimed.collect_garbage(1).await.unwrap();
    assert_eq!(job.files(), [own.as_str(), "data/2/4/manifest.json"]);
}

#[tokio::test]
async fn uploads_for_failed_checkpoints_go_and_those_for_the_next_stay() {
    let mut job = Job::new().await;
    let one = job.upload(1, "one");
    job.decide(1, &[&one]).await;
    job.claimed.collect_garbage(1).await.unwrap();
    job.upload(2, "failed");
    let next = job.upload(4, "next");
    job.decide(3, &[&one]).await;
    assert_eq!(job.claimed.collect_garbage(1).await.unwrap().objects, 1);
    assert_eq!(job.files(), [one.as_str(), &next]);
    job.decide(4, &[&one, &next]).await;
    // What arrives late is the next attempt's to delete.
    job.upload(2, "late");
    job.claimed.collect_garbage(1).await.unwrap();
    job.claim().await;
    assert_eq!(job.claimed.collect_garbage(1).await.unwrap().objects, 1);
    assert_eq!(job.files(), [one.as_str(), &next]);
}

#[tokio::test]
async fn a_pending_savepoint_keeps_all_files_until_it_is_written_or_given_up() {
    let mut job = Job::new().await;
    let pending = PendingSavepoints::default();
    job.claimed.set_pending_savepoints(pending.clone());
    let base = job.upload(1, "base");
    job.decide(1, &[&base]).await;
    job.claimed.collect_garbage(1).await.unwrap();
    pending.begin(CheckpointId(2));
    let for_it = job.upload(2, "for-it");
    let merged = job.upload(3, "merged");
    job.decide(3, &[&merged]).await;
    assert_eq!(job.claimed.collect_garbage(1).await.unwrap().objects, 0);
    assert_eq!(job.files(), [base.as_str(), &for_it, &merged]);

    let manifest = job.manifest(2, &[&base, &for_it, &base]);
    let saved = job.claimed.savepoint("whole", manifest).await.unwrap();
    pending.end(CheckpointId(2));
    assert_eq!(job.claimed.collect_garbage(1).await.unwrap().objects, 2);
    assert_eq!(job.files(), [merged]);
    let read = read_savepoint(&saved.path, &StorageOptions::default())
        .await
        .unwrap();
    let named: Vec<&str> = read.files().map(|file| file.path.as_str()).collect();
    assert_eq!(
        named,
        ["files/1/1/base", "files/1/2/for-it", "files/1/1/base"]
    );
    for path in named {
        let copy = job.path("savepoints/whole").join(path);
        assert_eq!(std::fs::read(copy).unwrap(), b"sorted");
    }
}

#[tokio::test]
async fn no_file_goes_while_a_slot_cannot_be_read() {
    let mut job = Job::new().await;
    let (one, two) = (job.upload(1, "one"), job.upload(2, "two"));
    job.decide(1, &[&one]).await;
    job.decide(2, &[&two]).await;
    let three = job.upload(3, "three");
    job.decide(3, &[&three]).await;
    let slot = job.path("chain/00000000000000000002.json");
    let whole = std::fs::read(&slot).unwrap();
    std::fs::write(&slot, &whole[..whole.len() / 2]).unwrap();
    job.claim().await;
    let collected = job.claimed.collect_garbage(1).await.unwrap();
    assert_eq!((collected.slots, collected.objects), (1, 0));
    assert_eq!(job.files(), [one.as_str(), &two, &three]);
    std::fs::write(&slot, &whole).unwrap();
    job.claim().await;
    job.claimed.collect_garbage(1).await.unwrap();
    assert_eq!(job.files(), [three]);
}

#[tokio::test]
async fn a_number_of_key_groups_stays_as_long_as_the_state() {
    let mut job = Job::new().await;
    let manifest = |job: &Job, id: u64, groups: Option<u32>| Manifest {
        max_parallelism: groups,
        ..job.manifest(id, &[])
    };
    drop(
        job.claimed
            .decide(manifest(&job, 1, Some(512)))
            .await
            .unwrap(),
    );
    drop(job.claimed.decide(manifest(&job, 2, None)).await.unwrap());
    job.claim().await;
    let other = job
        .claimed
        .decide(manifest(&job, 3, Some(1024)))
        .await
        .unwrap_err();
    let text = other.to_string();
    assert!(text.contains("512") && text.contains("1024"), "{text}");
    assert!(matches!(other, Error::MaxParallelism { .. }), "{other:?}");
    let options = StorageOptions::default();
    let saved = job
        .claimed
        .savepoint("s", manifest(&job, 3, None))
        .await
        .unwrap();
    let saved = read_savepoint(&saved.path, &options).await.unwrap();
    assert_eq!(saved.max_parallelism, Some(512));
    let newest = chain(&job.storage).observe().await.unwrap().newest.unwrap();
    assert_eq!(
        (newest.checkpoint, newest.max_parallelism),
        (CheckpointId(2), Some(512))
    );
    // From nothing, or from other state, the number is chosen again.
    let mut anew = manifest(&job, 3, Some(1024));
    anew.beginning = Some(Began { after: None });
    drop(job.claimed.decide(anew).await.unwrap());
    let newest = chain(&job.storage).observe().await.unwrap().newest.unwrap();
    assert_eq!(
        (newest.attempt, newest.max_parallelism),
        (Attempt(2), Some(1024))
    );
    // So it is once the state is gone.
    let stateless = crate::sample::manifest(Attempt(2), 4);
    drop(job.claimed.decide(stateless).await.unwrap());
    let newest = chain(&job.storage).observe().await.unwrap().newest.unwrap();
    assert_eq!(newest.max_parallelism, None);
    let other = manifest(&job, 5, Some(256));
    drop(job.claimed.decide(other).await.unwrap());
}
