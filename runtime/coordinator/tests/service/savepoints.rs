use std::collections::BTreeMap;

use millstream_checkpoint::{Manifest, StorageOptions, read_savepoint};
use millstream_coordinator::{Outcome, RequestError, Restore};
use millstream_types::OperatorUid;
use millstream_types::api::{CheckpointState, SavepointStatus, StopRequest};

use crate::scenario::{Running, Scenario};
use crate::sink::Stand;

async fn completed(running: &Running, name: &str) -> SavepointStatus {
    let snapshot = running
        .wait_for(&format!("savepoint {name}"), |snapshot| {
            snapshot
                .savepoints
                .get(name)
                .is_some_and(|status| status.state != CheckpointState::InProgress)
        })
        .await;
    let status = snapshot.savepoints[name].clone();
    assert_eq!(status.state, CheckpointState::Completed, "{status:?}");
    status
}

async fn read(path: &str) -> Manifest {
    read_savepoint(path, &StorageOptions::default())
        .await
        .unwrap()
}

fn positions(manifest: &Manifest) -> BTreeMap<String, String> {
    manifest.operators[&OperatorUid::from("orders")]
        .values()
        .flat_map(|state| &state.splits)
        .map(|split| (split.split.clone(), split.position.0.clone()))
        .collect()
}

#[tokio::test]
async fn a_savepoint_lists_nothing_to_commit_and_can_start_another_job() {
    let mut scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    let first = running.handle.savepoint("s1").await.unwrap();
    assert_eq!(first.state, CheckpointState::InProgress);
    let status = completed(&running, "s1").await;
    let path = status.path.unwrap();
    let manifest = read(&path).await;
    assert_eq!(manifest.committables(&"out".into()), []);
    assert_eq!(positions(&manifest).len(), 4);
    // Its output is visible up to its barrier.
    let taken = manifest.checkpoint;
    for (name, (_, stand)) in &scenario.ledger().transactions {
        let checkpoint: u64 = name.split('-').nth(1).unwrap().parse().unwrap();
        if checkpoint <= taken.0 {
            assert_eq!(*stand, Stand::Committed, "{name}");
        }
    }
    drop(running);

    scenario.name = "copy".to_owned();
    let copy = scenario.start(Restore::Path(path.clone()));
    let worker = scenario.worker("b", 2, &copy).await;
    copy.wait_for_checkpoints(1).await;
    let deploy = worker.deployment().unwrap();
    let deployed: BTreeMap<String, String> = deploy
        .tasks
        .iter()
        .flat_map(|task| &task.restore)
        .flat_map(|(_, state)| &state.splits)
        .map(|split| (split.split.clone(), split.position.0.clone()))
        .collect();
    assert_eq!(deployed, positions(&manifest));
    assert_eq!(
        scenario.topic().first_discoveries,
        1,
        "its positions are explicit"
    );
    assert_eq!(copy.handle.snapshot().audit.gaps, Vec::<String>::new());
}

#[tokio::test]
async fn savepoints_of_an_earlier_coordinator_are_found_by_name() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    running.handle.savepoint("s1").await.unwrap();
    let status = completed(&running, "s1").await;
    running.crash().await;
    drop(worker);
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    let found = running
        .handle
        .savepoint_status("s1")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (found.state, &found.path),
        (CheckpointState::Completed, &status.path)
    );
    assert_eq!(
        running.handle.savepoint("s1").await.unwrap().path,
        status.path
    );
    assert_eq!(running.handle.savepoint_status("never").await, Ok(None));
    let stop = StopRequest {
        savepoint: Some("s1".to_owned()),
        drain: false,
    };
    assert!(matches!(
        running.handle.stop(stop).await,
        Err(RequestError::Conflict(_))
    ));
    assert!(matches!(
        running.handle.savepoint("../s1").await,
        Err(RequestError::Invalid(_))
    ));
}

#[tokio::test]
async fn a_job_stopped_with_a_savepoint_is_continued_from_it() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    let stop = StopRequest {
        savepoint: Some("upgrade".to_owned()),
        drain: false,
    };
    running.handle.stop(stop).await.unwrap();
    let Outcome::Stopped {
        savepoint: Some(path),
    } = running.outcome().await
    else {
        panic!("no savepoint");
    };
    drop(worker);
    let state = scenario.chain().await;
    assert_eq!(
        state.released(),
        Some(millstream_checkpoint::ReleaseReason::Stopped)
    );
    assert!(state.newest_is_committed());
    assert_eq!(
        scenario.ledger().that_stand(Stand::Open),
        Vec::<String>::new()
    );
    let manifest = read(&path).await;
    assert_eq!(positions(&manifest), positions(&state.newest.unwrap()));

    let running = scenario.start(Restore::Path(path.clone()));
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    let snapshot = running.handle.snapshot();
    assert_eq!(snapshot.audit.gaps, Vec::<String>::new());
    assert!(snapshot.job.restored_from.is_some());
    drop(running);
    let imported = scenario.chain().await;
    assert!(imported.newest.unwrap().checkpoint > manifest.checkpoint);
}

#[tokio::test]
async fn an_older_checkpoint_of_the_chain_can_be_gone_back_to() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(4).await;
    running.handle.stop(StopRequest::default()).await.unwrap();
    running.outcome().await;
    drop(worker);
    let state = scenario.chain().await;
    let older = state.checkpoints.first().unwrap().clone();
    assert!(older.id < state.newest.unwrap().checkpoint);
    let kept = read(&older.path).await;
    assert!(!kept.committables(&"out".into()).is_empty());
    // A broker forgets transactions whose ids were used again; all of these are committed.
    scenario.ledger().transactions.clear();
    let running = scenario.start(Restore::Path(older.path));
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    let deploy = worker.deployment().unwrap();
    let deployed: BTreeMap<String, String> = deploy
        .tasks
        .iter()
        .flat_map(|task| &task.restore)
        .flat_map(|(_, state)| &state.splits)
        .map(|split| (split.split.clone(), split.position.0.clone()))
        .collect();
    assert_eq!(deployed, positions(&kept));
}

#[tokio::test]
async fn a_path_that_holds_nothing_is_refused_before_the_chain_is_claimed() {
    let scenario = Scenario::default();
    let path = format!("file://{}/nowhere", scenario.storage_path().display());
    let Outcome::Failed(failure) = scenario.start(Restore::Path(path)).outcome().await else {
        panic!("it started");
    };
    assert_eq!(failure.code, millstream_types::ErrorCode::CheckpointMissing);
    assert!(scenario.chain().await.claims.is_empty());
}
