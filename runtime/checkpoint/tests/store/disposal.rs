//! Deleting savepoints and jobs.

use millstream_checkpoint::disposal::{Disposed, JobDisposal, delete_job, delete_savepoint};
use millstream_checkpoint::{
    Error, Holder, ReleaseReason, Storage, StorageOptions, inspect, read_savepoint, reserve,
};
use millstream_types::{Attempt, Deployment};

use crate::sample::{NOW, chain, directory, holder, holder_of, job, large, manifest};

fn everything_of(name: &str) -> JobDisposal {
    JobDisposal {
        job: job(name),
        holder: holder("disposal"),
        keep_savepoints: false,
    }
}

/// A job that was killed, with two checkpoints, a savepoint and a reservation.
async fn killed(storage: &Storage) -> String {
    reserve(storage, "kafka/cluster/prefix", &job("orders"), None)
        .await
        .unwrap();
    let (mut claimed, _) = chain(storage).claim(holder("a"), NOW).await.unwrap();
    for number in [1, 2] {
        let decided = claimed.decide(manifest(Attempt(1), number)).await;
        decided.map(drop).unwrap();
    }
    let savepoint = manifest(Attempt(1), 2).without_committables();
    claimed.savepoint("kept", savepoint).await.unwrap().path
}

#[tokio::test]
async fn a_savepoint_goes_with_its_folder_and_may_be_deleted_again() {
    let (folder, storage) = directory();
    let path = killed(&storage).await;
    let options = StorageOptions::default();
    let deleted = delete_savepoint(&path, &options).await.unwrap();
    assert_eq!(deleted.savepoints, 1);
    let savepoints = folder.path().join("checkpoints/default/orders/savepoints");
    assert!(!savepoints.join("kept").try_exists().unwrap());
    for again in [
        path.clone(),
        format!("{path}/"),
        format!("{path}/manifest.json"),
    ] {
        let deleted = delete_savepoint(&again, &options).await.unwrap();
        assert!(deleted.is_nothing(), "{again}");
    }
    assert!(chain(&storage).observe().await.unwrap().newest.is_some());
}

#[tokio::test]
async fn what_a_cut_off_deletion_has_left_of_a_savepoint_is_deleted() {
    let (folder, storage) = directory();
    let (mut claimed, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let large = large(Attempt(1), 1).without_committables();
    let path = claimed.savepoint("large", large).await.unwrap().path;
    let savepoints = folder.path().join("checkpoints/default/orders/savepoints");
    assert_eq!(
        std::fs::read_dir(savepoints.join("large")).unwrap().count(),
        2
    );
    std::fs::remove_file(savepoints.join("large/manifest.json")).unwrap();
    let deleted = delete_savepoint(&path, &StorageOptions::default()).await;
    assert_eq!(deleted.unwrap().savepoints, 1);
    assert!(!savepoints.join("large").try_exists().unwrap());
}

#[tokio::test]
async fn what_is_no_savepoint_is_refused_and_stays() {
    let (folder, storage) = directory();
    let savepoint = killed(&storage).await;
    let root = storage.uri().to_owned();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    for path in [
        root.clone(),
        format!("{root}/default"),
        format!("{root}/default/orders"),
        format!("{root}/default/orders/chain"),
        format!("{root}/default/orders/savepoints"),
        format!("file://{}", folder.path().display()),
    ] {
        let refused = delete_savepoint(&path, &StorageOptions::default()).await;
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{path}: {error}");
        assert!(error.to_string().contains("nothing was deleted"), "{error}");
    }
    let options = StorageOptions::default();
    read_savepoint(&savepoint, &options).await.unwrap();
    let verified = inspect::verify(storage.uri(), &options).await.unwrap();
    assert_eq!((verified.faults.len(), verified.checkpoints), (0, 2));
}

#[tokio::test]
async fn a_deleted_job_leaves_its_fences_and_nothing_else_and_may_be_deleted_again() {
    let (_folder, storage) = directory();
    killed(&storage).await;
    let deleted = delete_job(&storage, &everything_of("orders"), NOW).await;
    let expected = Disposed {
        checkpoints: 2,
        savepoints: 1,
        reservations: 1,
        uncommitted: 2,
    };
    assert_eq!(deleted.unwrap(), expected);
    let state = chain(&storage).observe().await.unwrap();
    assert_eq!(state.released(), Some(ReleaseReason::Deleted));
    assert_eq!((state.newest, state.checkpoints.len()), (None, 0));
    let listing = inspect::list(storage.uri(), &StorageOptions::default()).await;
    assert_eq!(listing.unwrap()[0].savepoints, Vec::<String>::new());
    reserve(&storage, "kafka/cluster/prefix", &job("payments"), None)
        .await
        .unwrap();

    let again = delete_job(&storage, &everything_of("orders"), NOW).await;
    assert!(again.unwrap().is_nothing());
    let claims = chain(&storage).observe().await.unwrap().claims;
    assert_eq!(claims.len(), 2, "nothing was claimed again");
    let nobody = delete_job(&storage, &everything_of("nobody"), NOW).await;
    assert!(nobody.unwrap().is_nothing());

    let (claimed, state) = chain(&storage).claim(holder("new"), NOW).await.unwrap();
    assert_eq!(claimed.attempt(), Attempt(3));
    assert_eq!(state.newest, None);
}

#[tokio::test]
async fn a_coordinator_that_still_runs_is_fenced_by_the_deletion() {
    let (_folder, storage) = directory();
    let (mut running, _) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
    let decided = running.decide(manifest(Attempt(1), 1)).await;
    decided.map(drop).unwrap();
    let disposal = everything_of("orders");
    delete_job(&storage, &disposal, NOW)
        .await
        .map(drop)
        .unwrap();
    let late = running.decide(manifest(Attempt(1), 2)).await;
    assert!(matches!(late, Err(Error::Fenced { .. })), "{late:?}");
}

#[tokio::test]
async fn savepoints_are_kept_where_that_is_asked_for() {
    let (_folder, storage) = directory();
    let savepoint = killed(&storage).await;
    let disposal = JobDisposal {
        keep_savepoints: true,
        ..everything_of("orders")
    };
    let deleted = delete_job(&storage, &disposal, NOW).await.unwrap();
    assert_eq!((deleted.checkpoints, deleted.savepoints), (2, 0));
    read_savepoint(&savepoint, &StorageOptions::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_job_that_was_created_again_is_not_deleted_by_the_disposal_of_the_old_one() {
    let (_folder, storage) = directory();
    let newer = Holder {
        deployment: Some(Deployment(6)),
        ..holder_of("new-uid")
    };
    let (mut newer, _) = chain(&storage).claim(newer, NOW).await.unwrap();
    let decided = newer.decide(manifest(Attempt(1), 1)).await;
    decided.map(drop).unwrap();
    let by = |deployment: Option<u64>, identity: Option<&str>| JobDisposal {
        holder: Holder {
            deployment: deployment.map(Deployment),
            identity: identity.map(str::to_owned),
            ..holder("disposal")
        },
        ..everything_of("orders")
    };
    let older = delete_job(&storage, &by(Some(5), None), NOW).await;
    assert!(matches!(older, Err(Error::Superseded { .. })), "{older:?}");
    let other = delete_job(&storage, &by(Some(6), Some("old-uid")), NOW).await;
    assert!(matches!(other, Err(Error::PathTaken { .. })), "{other:?}");
    assert!(newer.holds().await.unwrap());
    // Its own deployment may, also after it has ended.
    newer.release(ReleaseReason::Stopped).await.unwrap();
    let own = delete_job(&storage, &by(Some(6), Some("new-uid")), NOW).await;
    assert_eq!(own.unwrap().checkpoints, 1);
}

#[tokio::test]
async fn a_job_that_had_many_attempts_may_be_created_again_after_its_deletion() {
    let (_folder, storage) = directory();
    for id in 1..=4 {
        let (mut claimed, state) = chain(&storage).claim(holder("a"), NOW).await.unwrap();
        let swept = state.lingering().last().map_or(Attempt(0), |last| last.0);
        let permit = claimed.recovery_permit();
        claimed.restate_commit(permit, swept).await.unwrap();
        let decided = claimed.decide(manifest(claimed.attempt(), id)).await;
        decided.map(drop).unwrap();
        // So that older claims are not listed any more.
        claimed.collect_garbage(1).await.unwrap();
    }
    let deleted = delete_job(&storage, &everything_of("orders"), NOW).await;
    assert_eq!(deleted.unwrap().checkpoints, 1);
    let again = delete_job(&storage, &everything_of("orders"), NOW).await;
    assert!(again.unwrap().is_nothing());
    let (claimed, state) = chain(&storage).claim(holder("new"), NOW).await.unwrap();
    assert_eq!((claimed.attempt(), state.newest), (Attempt(6), None));
}
