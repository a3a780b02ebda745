//! Who may hold a chain, and who is fenced by whom.

use std::path::PathBuf;

use millstream_coordinator::{Outcome, Restore};
use millstream_types::api::{JobState, StopRequest};
use millstream_types::protocol::ToWorker;
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure};

use crate::scenario::{Running, Scenario, until};
use crate::sink::Act;

fn deployed(deployment: u64) -> Scenario {
    let mut scenario = Scenario::default();
    scenario.deployment = Some(deployment);
    scenario
}

async fn run_and_crash(scenario: &Scenario) {
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    running.crash().await;
}

async fn fails(running: Running) -> Failure {
    let Outcome::Failed(failure) = running.outcome().await else {
        panic!("it has not failed");
    };
    failure
}

/// Where the job's objects lie.
fn folder(scenario: &Scenario) -> PathBuf {
    scenario.storage_path().join("default/orders")
}

#[tokio::test]
async fn a_start_by_hand_does_not_take_a_chain_from_a_deployment_unless_it_says_so() {
    let mut scenario = deployed(7);
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.deployment = None;
    for restore in [Restore::Latest, Restore::Fresh] {
        let failure = fails(scenario.start(restore)).await;
        assert_eq!(failure.code, ErrorCode::PathTaken);
        for part in ["deployment 7", "--take-over", "default/orders"] {
            assert!(failure.message.contains(part), "{failure}");
        }
    }
    let completed = running.handle.snapshot().counts.completed;
    running
        .wait_for("the deployment is not disturbed", |snapshot| {
            snapshot.counts.completed > completed + 1
        })
        .await;
    scenario.overrides.take_over = true;
    let by_hand = scenario.start(Restore::Latest);
    by_hand.wait_for_state(JobState::WaitingForWorkers).await;
    assert!(matches!(running.outcome().await, Outcome::Fenced(_)));
    // What a person holds, a person may go on with.
    by_hand.crash().await;
    scenario.overrides.take_over = false;
    let again = scenario.start(Restore::Latest);
    again.wait_for_state(JobState::WaitingForWorkers).await;
}

#[tokio::test]
async fn a_run_by_hand_that_fails_does_not_end_the_deployment() {
    let mut scenario = deployed(7);
    run_and_crash(&scenario).await;
    scenario.deployment = None;
    scenario.overrides.take_over = true;
    let missing = Failure::new(
        ErrorCode::KafkaTopicMissing,
        ErrorKind::InvalidJob,
        "topic `orders` does not exist",
    );
    scenario.topic().failure = Some(missing.clone());
    assert_eq!(fails(scenario.start(Restore::Latest)).await, missing);
    let state = scenario.chain().await;
    assert!(state.release.is_some(), "it has said that it has failed");
    scenario.topic().failure = None;
    scenario.overrides.take_over = false;
    scenario.deployment = Some(7);
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("b", 2, &running).await;
    let snapshot = running.wait_for_checkpoints(1).await;
    assert_eq!(snapshot.job.restored_from, state.newest_path);
}

#[tokio::test]
async fn a_job_that_does_not_fit_its_chain_fences_nobody() {
    let mut scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.source_name = "renamed".to_owned();
    let failure = fails(scenario.start(Restore::Latest)).await;
    assert_eq!(failure.code, ErrorCode::IncompatibleState);
    assert_eq!(scenario.chain().await.claims.len(), 1, "it has claimed");
    let completed = running.handle.snapshot().counts.completed;
    running
        .wait_for("the job goes on", |snapshot| {
            snapshot.counts.completed > completed
        })
        .await;
}

#[tokio::test]
async fn a_claim_that_could_not_be_read_below_fences_not_its_own_maker() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    // The store cannot be read for a while, behind the claim: a file lies where a folder should.
    let marks = folder(&scenario).join("collected");
    let aside = folder(&scenario).join("aside");
    if marks.try_exists().unwrap() {
        std::fs::rename(&marks, &aside).unwrap();
    }
    std::fs::write(&marks, "in the way").unwrap();
    drop(worker);
    running
        .wait_for("claims that cannot be read below", |snapshot| {
            let failure = snapshot.job.last_failure.as_ref();
            snapshot.job.restarts > 2
                && failure.is_some_and(|failure| failure.code == ErrorCode::StoreUnavailable)
        })
        .await;
    scenario.ledger().acts.clear();
    std::fs::remove_file(&marks).unwrap();
    if aside.try_exists().unwrap() {
        std::fs::rename(&aside, &marks).unwrap();
    }
    let _worker = scenario.worker("b", 2, &running).await;
    let snapshot = running
        .wait_for("the job runs again", |snapshot| {
            snapshot.job.state == JobState::Running
        })
        .await;
    assert!(snapshot.job.attempt > Attempt(2), "{:?}", snapshot.job);
    // Attempts that came no further than their claim have left nothing that must be swept.
    let acts = scenario.ledger().acts.clone();
    let sweep = acts.iter().find(|act| matches!(act, Act::Sweep(_)));
    assert_eq!(sweep, Some(&Act::Sweep(vec![Attempt(1)])));
}

#[tokio::test]
async fn attempts_that_came_no_further_than_their_claim_are_not_swept() {
    let scenario = Scenario::default();
    run_and_crash(&scenario).await;
    for name in ["x", "y", "z"] {
        scenario.claim(name).await;
    }
    let state = scenario.chain().await;
    assert_eq!(state.lingering(), [(Attempt(1), 2)]);
    scenario.ledger().acts.clear();
    let running = scenario.start(Restore::Latest);
    running.wait_for_state(JobState::WaitingForWorkers).await;
    assert_eq!(scenario.ledger().acts, [Act::Sweep(vec![Attempt(1)])]);
    assert_eq!(scenario.chain().await.swept_through, Attempt(4));
    // This attempt has said what it has swept, so it counts from here on.
    let lingering = scenario.chain().await.lingering();
    assert_eq!(lingering, [(Attempt(5), 2)]);
}

#[tokio::test]
async fn a_process_that_was_replaced_waits_while_the_other_one_runs_the_job() {
    let mut scenario = deployed(7);
    "interval: 50ms, timeout: 1s".clone_into(&mut scenario.checkpoint);
    scenario.host = Some("pod-a".to_owned());
    run_and_crash(&scenario).await;
    // A restart in its own place waits for nobody.
    let first = scenario.start(Restore::Latest);
    let _a = scenario.worker("a", 2, &first).await;
    first.wait_for_checkpoints(1).await;
    // A pod that has never held the chain does not either.
    scenario.host = Some("pod-b".to_owned());
    let second = scenario.start(Restore::Latest);
    let _b = scenario.worker("b", 2, &second).await;
    second.wait_for_checkpoints(1).await;
    assert!(matches!(first.outcome().await, Outcome::Fenced(_)));
    // The first one is started again by its kubelet.
    scenario.host = Some("pod-a".to_owned());
    let again = scenario.start(Restore::Latest);
    let snapshot = again
        .wait_for("it says that it waits", |snapshot| {
            snapshot.job.message.contains("has replaced this process")
        })
        .await;
    assert_eq!(snapshot.job.state, JobState::Restoring);
    let completed = second.handle.snapshot().counts.completed;
    second
        .wait_for(
            "the second one runs on for longer than the wait",
            |snapshot| snapshot.counts.completed > completed + 30,
        )
        .await;
    let claims = scenario.chain().await.claims;
    assert_eq!(claims.last().unwrap().holder.host.as_deref(), Some("pod-b"));
    // When that one is gone, the job goes on here.
    second.crash().await;
    again.wait_for_state(JobState::WaitingForWorkers).await;
}

#[tokio::test]
async fn a_coordinator_that_waits_for_workers_learns_that_it_is_deposed_and_lets_them_go() {
    let scenario = Scenario::default();
    let deposed = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 1, &deposed).await;
    deposed.wait_for_state(JobState::WaitingForWorkers).await;
    let newer = scenario.start(Restore::Latest);
    newer.wait_for_state(JobState::WaitingForWorkers).await;
    let Outcome::Fenced(failure) = deposed.outcome().await else {
        panic!("it is not fenced");
    };
    assert_eq!(failure.code, ErrorCode::Fenced);
    assert!(failure.message.contains("newer attempt"), "{failure}");
    until("its worker is told", || {
        worker.was_told(|message| matches!(message, ToWorker::Cancel { .. }))
    })
    .await;
    drop(worker);
    let _workers = [
        scenario.worker("a", 1, &newer).await,
        scenario.worker("b", 1, &newer).await,
    ];
    newer.wait_for_checkpoints(1).await;
}

#[tokio::test]
async fn a_stop_that_was_cut_off_before_the_release_is_finished_by_the_restart() {
    let mut scenario = deployed(7);
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    let request = StopRequest {
        savepoint: Some("upgrade".to_owned()),
        drain: false,
    };
    running.handle.stop(request.clone()).await.unwrap();
    let snapshot = running.wait_for_state(JobState::Stopped).await;
    let path = snapshot.job.savepoint.clone().unwrap();
    running.crash().await;
    drop(worker);
    // As if it had died before the release was written.
    let tail = scenario.chain().await.tail;
    let release = folder(&scenario).join(format!("chain/{:020}.json", tail.0));
    assert!(
        std::fs::read_to_string(&release)
            .unwrap()
            .contains("released")
    );
    std::fs::remove_file(release).unwrap();
    assert!(scenario.chain().await.release.is_none());

    let again = scenario.start(Restore::Latest);
    let snapshot = again.wait_for_state(JobState::Stopped).await;
    assert_eq!(snapshot.job.savepoint.as_ref(), Some(&path));
    again.handle.stop(request).await.unwrap();
    let release = scenario.chain().await.release.unwrap();
    assert_eq!(release.savepoint.as_ref(), Some(&path));
    again.crash().await;
    // The next deployment runs on from there.
    scenario.deployment = Some(8);
    let next = scenario.start(Restore::Path(path.clone()));
    let snapshot = next.wait_for_state(JobState::WaitingForWorkers).await;
    assert_eq!(snapshot.job.restored_from, Some(path));
}

#[tokio::test]
async fn a_coordinator_that_has_broken_ends_so_that_it_is_started_again() {
    let scenario = deployed(7);
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.ledger().before_commit = Some(Box::pin(async { panic!("a bug") }));
    let failure = fails(running).await;
    assert_eq!(failure.code, ErrorCode::TaskPanicked);
    drop(worker);
    let again = scenario.start(Restore::Latest);
    let _worker = scenario.worker("b", 2, &again).await;
    again.wait_for_checkpoints(1).await;
}
