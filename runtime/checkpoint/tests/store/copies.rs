//! State that goes to other places: savepoints, and jobs that are started from them.

use bytes::Bytes;
use futures::{TryStreamExt, stream};
use millstream_checkpoint::disposal::{JobDisposal, delete_job, delete_savepoint};
use millstream_checkpoint::inspect::{Verified, verify};
use millstream_checkpoint::{
    Began, Chain, ClaimedChain, Error, Files, Manifest, PendingSavepoints, Storage, StorageOptions,
    read_restore_point,
};
use millstream_tests::Minio;
use millstream_types::{
    Attempt, CheckpointId, FileRef, JobId, OperatorUid, Run, StateSnapshot, SubtaskIndex,
};

use crate::s3::{open, options};
use crate::sample::{NOW, chain, directory, holder, job, manifest};

/// The manifest of a job whose operator `sums` has these files.
pub(crate) fn naming(mut manifest: Manifest, files: &[FileRef]) -> Manifest {
    let run = |(file, sequence): (&FileRef, u64)| Run {
        state: "sums".to_owned(),
        file: file.clone(),
        range: (0..1024).into(),
        sequence,
    };
    let state = StateSnapshot {
        key_groups: (0..1024).into(),
        runs: files.iter().zip(1..).map(run).collect(),
        ..StateSnapshot::default()
    };
    let subtasks = manifest
        .operators
        .entry(OperatorUid::from("sums"))
        .or_default();
    subtasks.entry(SubtaskIndex(0)).or_default().state = Some(state);
    manifest
}

const CONTENT: &[u8] = b"sorted runs of keys and values";

async fn upload(storage: &Storage, attempt: Attempt, checkpoint: u64, name: &str) -> FileRef {
    let files = Files::new(storage.clone(), &job("orders"), attempt, SubtaskIndex(0));
    let content = stream::iter([Ok(Bytes::from_static(CONTENT))]);
    let operator = OperatorUid::from("sums");
    let put = files.put(CheckpointId(checkpoint), &operator, name, content);
    put.await.unwrap()
}

/// A job with two files, a checkpoint that names one of them, and a savepoint that names both.
async fn with_state(storage: &Storage) -> (ClaimedChain, String) {
    let (mut claimed, _) = chain(storage).claim(holder("a"), NOW).await.unwrap();
    let pending = PendingSavepoints::default();
    claimed.set_pending_savepoints(pending.clone());
    let one = upload(storage, Attempt(1), 1, "a b.sst").await;
    let first = naming(manifest(Attempt(1), 1), std::slice::from_ref(&one));
    let permit = claimed.decide(first).await.unwrap();
    claimed.committed(permit).await.unwrap();
    pending.begin(CheckpointId(2));
    let two = upload(storage, Attempt(1), 2, "2.sst").await;
    let taken = naming(manifest(Attempt(1), 2).without_committables(), &[one, two]);
    let saved = claimed.savepoint("moves", taken).await.unwrap();
    pending.end(CheckpointId(2));
    (claimed, saved.path)
}

fn disposal(of: &JobId) -> JobDisposal {
    JobDisposal {
        job: of.clone(),
        holder: holder("disposal"),
        keep_savepoints: false,
    }
}

/// Starts another job from a savepoint or chain at `path`; what that was is deleted then.
async fn started_from(
    path: &str,
    (origin, storage): (&Storage, &Storage),
    options: &StorageOptions,
    files: usize,
) {
    let point = read_restore_point(path, options).await.unwrap();
    let copy = job(&format!("copy-of-{files}"));
    let other = Chain::new(storage.clone(), copy.clone());
    let (mut claimed, _) = other.claim(holder("b"), NOW).await.unwrap();
    let mut first = Manifest {
        job: copy.clone(),
        attempt: Attempt(1),
        checkpoint: CheckpointId(1),
        beginning: Some(Began { after: None }),
        ..point.manifest.without_committables()
    };
    let refused = claimed.decide(first.clone()).await;
    assert!(matches!(refused, Err(Error::Rule(_))), "{refused:?}");
    // Also twice, as where the decision is tried again.
    let before = first.clone();
    for _ in 0..2 {
        first.clone_from(&before);
        let imported = claimed.import_files(&mut first, &point.folder, options);
        imported.await.unwrap();
    }
    drop(claimed.decide(first.clone()).await.unwrap());
    claimed.collect_garbage(1).await.unwrap();

    delete_job(origin, &disposal(&job("orders")), NOW)
        .await
        .unwrap();
    let newest = other.observe().await.unwrap().newest.unwrap();
    assert_eq!(newest.files().count(), files);
    let reader = Files::new(storage.clone(), &copy, Attempt(1), SubtaskIndex(0));
    for file in newest.files() {
        let read: Vec<Bytes> = reader
            .open(file)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert_eq!(read.concat(), CONTENT);
    }
    let verified = verify(&other.path(), options).await.unwrap();
    assert_eq!(
        (verified.faults, verified.leftovers),
        (Vec::new(), Vec::new())
    );
}

#[tokio::test]
async fn state_in_a_directory_is_copied_within_it() {
    let (_folder, storage) = directory();
    let options = StorageOptions::default();
    let (claimed, savepoint) = with_state(&storage).await;
    let sound = verify(&claimed.chain().path(), &options).await.unwrap();
    // What was written for the savepoint alone lies there until a later checkpoint.
    assert_eq!((sound.faults, sound.leftovers.len()), (Vec::new(), 1));
    started_from(&savepoint, (&storage, &storage), &options, 2).await;
}

#[tokio::test]
async fn a_checkpoint_of_another_chain_is_copied_too() {
    let (_folder, storage) = directory();
    let (claimed, _) = with_state(&storage).await;
    let (path, options) = (claimed.chain().path(), StorageOptions::default());
    started_from(&path, (&storage, &storage), &options, 1).await;
}

#[tokio::test]
async fn state_in_s3_is_copied_by_the_service() {
    let minio = Minio::start();
    let options = options(minio.endpoint());
    let storage = open(&options).await;
    let (claimed, savepoint) = with_state(&storage).await;
    let sound = verify(&claimed.chain().path(), &options).await.unwrap();
    // What was written for the savepoint alone lies there until a later checkpoint.
    assert_eq!((sound.faults, sound.leftovers.len()), (Vec::new(), 1));
    started_from(&savepoint, (&storage, &storage), &options, 2).await;
}

#[tokio::test]
async fn state_goes_from_a_directory_to_s3_and_back() {
    let minio = Minio::start();
    let options = options(minio.endpoint());
    let service = open(&options).await;
    let (_folder, here) = directory();
    let (_, savepoint) = with_state(&here).await;
    started_from(&savepoint, (&here, &service), &options, 2).await;
    let (_, savepoint) = with_state(&service).await;
    let (_folder, there) = directory();
    started_from(&savepoint, (&service, &there), &options, 2).await;
}

#[tokio::test]
async fn verification_names_every_file_that_is_missing_or_damaged() {
    let (folder, storage) = directory();
    let (claimed, savepoint) = with_state(&storage).await;
    let options = StorageOptions::default();
    let verified = async || -> Verified { verify(storage.uri(), &options).await.unwrap() };
    let sound = verified().await;
    assert_eq!((sound.checkpoints, sound.savepoints), (1, 1));
    // What was written for the savepoint alone lies there until a later checkpoint.
    assert_eq!(sound.leftovers.len(), 1, "{sound:?}");
    let job = folder.path().join("checkpoints/default/orders");
    for (file, counts) in [
        (job.join("data/1/1/sums/0-a%20b.sst"), (0, 1)),
        (
            job.join("savepoints/moves/files/1/1/sums/0-a%20b.sst"),
            (1, 0),
        ),
        (job.join("savepoints/moves/files/1/2/sums/0-2.sst"), (1, 0)),
    ] {
        let whole = std::fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        flipped[5] ^= 1;
        for (damaged, words) in [
            (None, "missing"),
            (Some(&whole[..7]), "it has 7 bytes, 30 were written"),
            (Some(flipped.as_slice()), "its CRC-32C is"),
        ] {
            match damaged {
                None => std::fs::remove_file(&file).unwrap(),
                Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            }
            let found = verified().await;
            assert_eq!((found.checkpoints, found.savepoints), counts, "{words}");
            let [fault] = found.faults.as_slice() else {
                panic!("{:?}", found.faults);
            };
            assert!(
                fault.object.ends_with(&*file.display().to_string()),
                "{fault:?}"
            );
            assert!(fault.reason.contains(words), "{fault:?}");
        }
        std::fs::write(&file, whole).unwrap();
    }
    let stray = job.join("savepoints/moves/files/9/9/stray");
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::write(&stray, "x").unwrap();
    assert_eq!(verified().await.leftovers.len(), 2);

    drop(claimed);
    assert_eq!(
        delete_savepoint(&savepoint, &options)
            .await
            .unwrap()
            .savepoints,
        1
    );
    assert!(!job.join("savepoints/moves").try_exists().unwrap());
    delete_job(&storage, &disposal(&crate::sample::job("orders")), NOW)
        .await
        .unwrap();
    assert!(!job.join("data").try_exists().unwrap());
}

#[tokio::test]
async fn a_savepoint_whose_name_is_taken_copies_nothing() {
    let (folder, storage) = directory();
    let (mut claimed, _) = with_state(&storage).await;
    let file = upload(&storage, Attempt(1), 3, "3.sst").await;
    let other = naming(manifest(Attempt(1), 3).without_committables(), &[file]);
    let taken = claimed.savepoint("moves", other).await;
    assert!(
        matches!(taken, Err(Error::SavepointExists { .. })),
        "{taken:?}"
    );
    let copy = "checkpoints/default/orders/savepoints/moves/files/1/3";
    assert!(!folder.path().join(copy).try_exists().unwrap());
}

#[tokio::test]
async fn an_upload_of_a_replaced_attempt_is_named_by_nobody_and_goes() {
    let (folder, storage) = directory();
    let (mut old, _) = with_state(&storage).await;
    let (mut new, state) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    new.collect_garbage(1).await.unwrap();
    // Tasks of the old attempt do not know yet.
    let late = upload(&storage, Attempt(1), 3, "late.sst").await;
    let stale = old
        .decide(naming(manifest(Attempt(1), 3), std::slice::from_ref(&late)))
        .await;
    assert!(matches!(stale, Err(Error::Fenced { .. })), "{stale:?}");
    let own = naming(
        manifest(Attempt(2), state.next_checkpoint.0),
        std::slice::from_ref(&late),
    );
    let refused = new.decide(own).await;
    assert!(matches!(refused, Err(Error::Rule(_))), "{refused:?}");
    let path = folder
        .path()
        .join("checkpoints/default/orders")
        .join(&late.path);
    assert!(path.try_exists().unwrap());
    let (mut third, state) = chain(&storage).claim(holder("c"), NOW).await.unwrap();
    assert_eq!(third.collect_garbage(1).await.unwrap().objects, 1);
    assert!(!path.try_exists().unwrap());
    let newest = state.newest.unwrap();
    let files = Files::new(storage.clone(), &job("orders"), Attempt(3), SubtaskIndex(0));
    for file in newest.files() {
        let read: Vec<Bytes> = files.open(file).await.unwrap().try_collect().await.unwrap();
        assert_eq!(read.concat(), CONTENT);
    }
}
