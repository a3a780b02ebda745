//! One chain, used as a coordinator uses it.

use millstream_checkpoint::{
    Chain, Error, Manifest, ReleaseReason, StorageOptions, read_savepoint, reserve,
};
use millstream_types::{Attempt, CheckpointId, CheckpointKind, JobId, OperatorUid};

use crate::sample::{NOW, chain, directory, holder, holder_of, job, manifest};

#[tokio::test]
async fn a_new_chain_starts_with_attempt_and_checkpoint_one() {
    let (_folder, storage) = directory();
    let (claimed, state) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    assert_eq!(claimed.attempt(), Attempt(1));
    assert_eq!(state.newest, None);
    assert_eq!(state.next_checkpoint, CheckpointId(1));
    assert!(state.newest_is_committed());
    assert_eq!(state.lingering(), []);
}

#[tokio::test]
async fn what_was_decided_is_restored_by_the_next_attempt() {
    let (_folder, storage) = directory();
    let (mut first, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let permit = first.decide(manifest(Attempt(1), 1)).await.unwrap();
    first.committed(permit).await.unwrap();
    let undone = first.decide(manifest(Attempt(1), 2)).await.unwrap();
    drop(undone);

    let (mut second, state) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    assert_eq!(second.attempt(), Attempt(2));
    let newest = state.newest.clone().unwrap();
    assert_eq!(newest.checkpoint, CheckpointId(2));
    assert!(newest.previous.is_some());
    assert_eq!(
        newest.committables(&OperatorUid::from("processed")).len(),
        2
    );
    assert_eq!(
        newest.totals()[&OperatorUid::from("orders")].records_out,
        400
    );
    assert!(!state.newest_is_committed());
    assert_eq!(state.committed.unwrap().id, CheckpointId(1));
    assert_eq!(state.next_checkpoint, CheckpointId(3));
    assert_eq!(state.lingering(), [(Attempt(1), 2)]);

    let permit = second.recovery_permit();
    assert_eq!(permit.as_ref().unwrap().decided().id, CheckpointId(2));
    second.restate_commit(permit, Attempt(1)).await.unwrap();
    let (third, state) = chain(&storage).claim(holder("c"), NOW).await.unwrap();
    assert!(state.newest_is_committed());
    assert!(third.recovery_permit().is_none());
    assert_eq!(state.lingering(), [(Attempt(2), 2)]);
}

#[tokio::test]
async fn a_chain_keeps_its_name_and_no_other_has_it() {
    let (_folder, storage) = directory();
    let (mut first, below) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    assert_eq!(below.lineage, None);
    let name = first.lineage().cloned().unwrap();
    assert_eq!(name.as_str().len(), 8);
    assert!(name.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
    for checkpoint in 1..5 {
        let permit = first
            .decide(manifest(Attempt(1), checkpoint))
            .await
            .unwrap();
        first.committed(permit).await.unwrap();
    }
    first.collect_garbage(1).await.unwrap();
    let (second, below) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    assert_eq!(below.lineage.as_ref(), Some(&name));
    assert_eq!(second.lineage(), Some(&name));

    let (_folder, elsewhere) = directory();
    let (other, _) = chain(&elsewhere).claim(holder("a"), NOW).await.unwrap();
    assert_ne!(other.lineage(), Some(&name));
}

#[tokio::test]
async fn a_deposed_coordinator_can_write_nothing_any_more() {
    let (_folder, storage) = directory();
    let (mut old, _) = chain(&storage).claim(holder("old"), NOW).await.unwrap();
    let permit = old.decide(manifest(Attempt(1), 1)).await.unwrap();
    assert!(old.holds().await.unwrap());
    let (_new, state) = chain(&storage).claim(holder("new"), NOW).await.unwrap();
    assert_eq!(state.newest.unwrap().checkpoint, CheckpointId(1));

    assert!(!old.holds().await.unwrap());
    let decided = old.decide(manifest(Attempt(1), 2)).await.unwrap_err();
    assert!(decided.to_string().contains("attempt 2 (new)"), "{decided}");
    assert!(matches!(decided, Error::Fenced { .. }));
    assert!(matches!(
        old.committed(permit).await,
        Err(Error::Fenced { .. })
    ));
    let savepoint = old.savepoint("late", manifest(Attempt(1), 2)).await;
    assert!(matches!(savepoint, Err(Error::Fenced { .. })));
    let released = old.release(ReleaseReason::Stopped).await;
    assert!(matches!(released, Err(Error::Fenced { .. })));
    assert_eq!(
        chain(&storage).observe().await.unwrap().checkpoints.len(),
        1
    );
}

#[tokio::test]
async fn jobs_of_one_name_in_two_namespaces_have_chains_of_their_own() {
    let (folder, storage) = directory();
    chain(&storage).claim(holder("one"), NOW).await.unwrap();
    let elsewhere = JobId {
        namespace: "bank".to_owned(),
        ..job("orders")
    };
    let other = Chain::new(storage.clone(), elsewhere);
    let (claimed, state) = other.claim(holder("other"), NOW).await.unwrap();
    assert_eq!((claimed.attempt(), state.newest), (Attempt(1), None));
    for namespace in ["default", "bank"] {
        let chain = folder
            .path()
            .join("checkpoints")
            .join(namespace)
            .join("orders/chain");
        assert_eq!(std::fs::read_dir(chain).unwrap().count(), 1, "{namespace}");
    }
}

#[tokio::test]
async fn another_job_of_the_same_name_is_refused_until_the_chain_is_released() {
    let (_folder, storage) = directory();
    let (mut first, _) = chain(&storage)
        .claim(holder_of("uid-1"), NOW)
        .await
        .unwrap();
    let refused = chain(&storage).claim(holder_of("uid-2"), NOW).await;
    let error = refused.map(drop).unwrap_err();
    assert!(matches!(error, Error::PathTaken { .. }));
    for part in ["uid-1", "uid-2", "default/orders"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(
        first.holds().await.unwrap(),
        "a refused claim fences nobody"
    );

    first.release(ReleaseReason::Stopped).await.unwrap();
    let (second, state) = chain(&storage)
        .claim(holder_of("uid-2"), NOW)
        .await
        .unwrap();
    assert_eq!(second.attempt(), Attempt(2));
    assert_eq!(state.released(), Some(ReleaseReason::Stopped));
    let (third, _) = chain(&storage)
        .take_over(holder_of("uid-3"), NOW)
        .await
        .unwrap();
    assert_eq!(third.attempt(), Attempt(3));
    assert!(!second.holds().await.unwrap());
}

#[tokio::test]
async fn the_folder_of_another_job_is_refused() {
    let (folder, storage) = directory();
    chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let root = folder.path().join("checkpoints/default");
    std::fs::rename(root.join("orders"), root.join("payments")).unwrap();
    let moved = Chain::new(storage.clone(), job("payments"));
    let error = moved.claim(holder("b"), NOW).await.map(drop).unwrap_err();
    assert!(matches!(&error, Error::PathTaken { reason, .. }
        if reason.contains("default/orders") && reason.contains("default/payments")));
}

#[tokio::test]
async fn rules_that_a_caller_breaks_are_errors_and_write_nothing() {
    let (_folder, storage) = directory();
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    claimed
        .decide(manifest(Attempt(1), 5))
        .await
        .map(drop)
        .unwrap();
    let mut savepoint = manifest(Attempt(1), 6);
    savepoint.kind = CheckpointKind::Savepoint;
    for wrong in [manifest(Attempt(2), 6), manifest(Attempt(1), 4), savepoint] {
        let error = claimed.decide(wrong).await.map(drop).unwrap_err();
        assert!(matches!(error, Error::Rule(_)), "{error}");
    }
    let swept = claimed.restate_commit(None, Attempt(1)).await;
    assert!(matches!(swept, Err(Error::Rule(_))));
    assert_eq!(
        chain(&storage).observe().await.unwrap().checkpoints.len(),
        1
    );
}

#[tokio::test]
async fn a_savepoint_is_written_once_and_read_by_any_of_its_addresses() {
    let (_folder, storage) = directory();
    let options = StorageOptions::default();
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let taken = manifest(Attempt(1), 1);
    let saved = claimed.savepoint("before-upgrade", taken.clone()).await;
    let again = claimed.savepoint("before-upgrade", taken.clone()).await;
    let address = saved.unwrap().path;
    assert_eq!(again.unwrap().path, address);
    let other = claimed
        .savepoint("before-upgrade", manifest(Attempt(1), 2))
        .await;
    assert!(matches!(other, Err(Error::SavepointExists { .. })));

    for address in [
        address.clone(),
        format!("{address}/"),
        format!("{address}/manifest.json"),
    ] {
        assert_eq!(
            read_savepoint(&address, &options).await.unwrap(),
            taken,
            "{address}"
        );
    }
    let missing = read_savepoint(&format!("{address}-2"), &options).await;
    assert!(matches!(missing, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn a_checkpoint_is_read_by_its_slot_or_as_the_newest_of_its_job() {
    let (_folder, storage) = directory();
    let options = StorageOptions::default();
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    for id in 1..=2 {
        claimed
            .decide(manifest(Attempt(1), id))
            .await
            .map(drop)
            .unwrap();
    }
    let state = chain(&storage).observe().await.unwrap();
    for entry in &state.checkpoints {
        let read = read_savepoint(&entry.path, &options).await.unwrap();
        assert_eq!(read.checkpoint, entry.id);
    }
    let newest = read_savepoint(&chain(&storage).path(), &options)
        .await
        .unwrap();
    assert_eq!(Some(newest), state.newest);
    let claim = state.claims[0].slot;
    let path = state.checkpoints[0]
        .path
        .replace("2.json", &format!("{claim}.json"));
    let no_checkpoint = read_savepoint(&path, &options).await;
    assert!(matches!(no_checkpoint, Err(Error::Missing { .. })));
}

#[tokio::test]
async fn a_large_manifest_lies_in_an_object_of_its_own() {
    let (folder, storage) = directory();
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let mut large = manifest(Attempt(1), 1);
    large.fingerprint = "x".repeat(9 * 1024 * 1024);
    claimed.decide(large.clone()).await.map(drop).unwrap();
    claimed
        .decide(manifest(Attempt(1), 2))
        .await
        .map(drop)
        .unwrap();
    let data = folder
        .path()
        .join("checkpoints/default/orders/data/1/1/manifest.json");
    assert!(data.try_exists().unwrap());
    let state = chain(&storage).observe().await.unwrap();
    assert!(state.checkpoints[0].size_bytes > 9 * 1024 * 1024);
    assert!(state.newest.unwrap().previous.is_some());
    let options = StorageOptions::default();
    let read = read_savepoint(&state.checkpoints[0].path, &options).await;
    assert_eq!(
        read.unwrap(),
        Manifest {
            previous: None,
            ..large
        }
    );

    let collected = claimed.collect_garbage(1).await.unwrap();
    assert_eq!((collected.slots, collected.objects), (1, 1));
    assert!(!data.try_exists().unwrap());
}

#[tokio::test]
async fn a_deleted_job_starts_from_nothing_but_keeps_its_fences() {
    let (_folder, storage) = directory();
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let permit = claimed.decide(manifest(Attempt(1), 1)).await.unwrap();
    claimed.committed(permit).await.unwrap();
    claimed.release(ReleaseReason::Deleted).await.unwrap();
    assert_eq!(claimed.collect_garbage(3).await.unwrap().slots, 2);
    let late = claimed.decide(manifest(Attempt(1), 2)).await;
    assert!(matches!(late.map(drop), Err(Error::Rule(_))));

    let (next, state) = chain(&storage).claim(holder("b"), NOW).await.unwrap();
    assert_eq!(next.attempt(), Attempt(2));
    assert_eq!((state.newest, state.checkpoints.len()), (None, 0));
    assert_eq!(state.next_checkpoint, CheckpointId(2));
}

#[tokio::test]
async fn a_reserved_name_belongs_to_one_job() {
    let (_folder, storage) = directory();
    let name = "kafka/cluster-1/../order processor";
    reserve(&storage, name, &job("a"), Some("uid-1"))
        .await
        .unwrap();
    reserve(&storage, name, &job("a"), Some("uid-2"))
        .await
        .unwrap();
    let error = reserve(&storage, name, &job("b"), None).await.unwrap_err();
    assert!(matches!(error, Error::PathTaken { .. }));
    for part in ["default/a", "default/b", name] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

/// A volume that is not mounted any more: a write would make the directory anew, and the checkpoint would
/// stand there alone.
#[tokio::test]
async fn a_directory_that_is_gone_is_not_made_anew_by_a_checkpoint() {
    let (folder, storage) = directory();
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let permit = claimed.decide(manifest(Attempt(1), 1)).await.unwrap();
    claimed.committed(permit).await.unwrap();
    let (here, away) = (
        folder.path().join("checkpoints"),
        folder.path().join("away"),
    );
    std::fs::rename(&here, &away).unwrap();
    let error = claimed.decide(manifest(Attempt(1), 2)).await.unwrap_err();
    assert!(matches!(error, Error::StateMissing { .. }), "{error}");
    assert!(!std::fs::exists(here.join("default/orders/chain")).unwrap());
    // It is back.
    drop(std::fs::remove_dir_all(&here));
    std::fs::rename(&away, &here).unwrap();
    let permit = claimed.decide(manifest(Attempt(1), 2)).await.unwrap();
    assert_eq!(permit.decided().id, CheckpointId(2));
}
