//! Coordinators that an operator starts.

use millstream_coordinator::{Outcome, RequestError, Restore};
use millstream_types::api::{CheckpointState, JobState, StopRequest};
use millstream_types::protocol::ToWorker;
use millstream_types::{Deployment, ErrorCode, ErrorKind, Failure};

use crate::scenario::{Running, Scenario, until};
use crate::worker::TestWorker;

fn deployed(deployment: u64) -> Scenario {
    let mut scenario = Scenario::default();
    scenario.deployment = Some(deployment);
    scenario
}

fn stop_with(name: &str) -> StopRequest {
    StopRequest {
        savepoint: Some(name.to_owned()),
        drain: false,
    }
}

/// Where the splits of the newest deployment of tasks begin.
fn positions(worker: &TestWorker) -> Vec<u64> {
    let deploy = worker.deployment().unwrap();
    let states = deploy.tasks.iter().flat_map(|task| &task.restore);
    states
        .flat_map(|(_, state)| &state.splits)
        .map(|split| split.position.0.parse().unwrap())
        .collect()
}

/// Runs a job until it has a few checkpoints, then kills it.
async fn run_and_crash(scenario: &Scenario) {
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(3).await;
    running.crash().await;
}

#[tokio::test]
async fn a_restart_of_a_deployment_goes_on_from_the_newest_checkpoint_whatever_it_is_to_start_from()
{
    let mut scenario = Scenario::default();
    run_and_crash(&scenario).await;
    scenario.deployment = Some(7);
    scenario.topic().end = 7_000;
    let running = scenario.start(Restore::Fresh);
    let worker = scenario.worker("a", 2, &running).await;
    let snapshot = running.wait_for_checkpoints(3).await;
    assert_eq!(snapshot.job.deployment, Some(Deployment(7)));
    assert!(positions(&worker).iter().all(|position| *position == 7_000));
    running.crash().await;
    drop(worker);
    let state = scenario.chain().await;
    let running = scenario.start(Restore::Fresh);
    let worker = scenario.worker("b", 2, &running).await;
    let snapshot = running.wait_for_checkpoints(1).await;
    assert!(positions(&worker).iter().all(|position| *position > 7_000));
    assert_eq!(snapshot.job.restored_from, state.newest_path);
    // The next deployment starts afresh again.
    running.crash().await;
    scenario.deployment = Some(8);
    scenario.topic().end = 8_000;
    let running = scenario.start(Restore::Fresh);
    let worker = scenario.worker("c", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    assert!(positions(&worker).iter().all(|position| *position == 8_000));
}

#[tokio::test]
async fn a_deployment_that_died_between_its_claim_and_its_start_starts_where_it_was_to_start() {
    let mut scenario = Scenario::default();
    run_and_crash(&scenario).await;
    scenario.deployment = Some(7);
    scenario.topic().failure = Some(Failure::new(
        ErrorCode::KafkaUnreachable,
        ErrorKind::Retryable,
        "away",
    ));
    let claims = scenario.chain().await.claims.len();
    let running = scenario.start(Restore::Fresh);
    running
        .wait_for("it has tried in vain", |snapshot| snapshot.job.restarts > 1)
        .await;
    running.crash().await;
    assert!(scenario.chain().await.claims.len() > claims);
    {
        let mut topic = scenario.topic();
        topic.failure = None;
        topic.end = 7_000;
    }
    let running = scenario.start(Restore::Fresh);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    assert!(positions(&worker).iter().all(|position| *position == 7_000));
}

#[tokio::test]
async fn an_older_deployment_is_fenced_before_it_touches_anything() {
    let mut scenario = deployed(8);
    let newer = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &newer).await;
    newer.wait_for_checkpoints(1).await;
    scenario.deployment = Some(7);
    scenario.ledger().preflight = Some(Failure::new(
        ErrorCode::KafkaBroker,
        ErrorKind::InvalidJob,
        "it was asked",
    ));
    let Outcome::Fenced(failure) = scenario.start(Restore::Fresh).outcome().await else {
        panic!("it took over");
    };
    assert!(failure.message.contains("newer deployment 8"), "{failure}");
    let completed = newer.handle.snapshot().counts.completed;
    newer
        .wait_for("the newer one goes on", |snapshot| {
            snapshot.counts.completed > completed
        })
        .await;
}

/// How a deployment has stopped, as anybody may see it.
async fn assert_stopped(scenario: &Scenario, running: &Running, path: &str) {
    let snapshot = running.wait_for_state(JobState::Stopped).await;
    assert_eq!(snapshot.job.savepoint.as_deref(), Some(path));
    assert!(
        snapshot.job.message.contains(path),
        "{}",
        snapshot.job.message
    );
    let newest = scenario.chain().await.newest_path;
    let last = snapshot.job.last_checkpoint.clone().unwrap();
    assert_eq!(
        (last.state, &last.path),
        (CheckpointState::Completed, &newest)
    );
    assert!(last.completed_at.is_some() && last.duration_ms.is_some());
    assert!(
        snapshot
            .checkpoints
            .iter()
            .any(|detail| detail.summary == last)
    );
    let handle = &running.handle;
    let known = handle.savepoint_status("upgrade").await.unwrap().unwrap();
    assert_eq!(known.path.as_deref(), Some(path));
    assert!(known.size_bytes.is_some());
    handle.stop(stop_with("upgrade")).await.unwrap();
    for refused in [
        handle.stop(stop_with("another")).await,
        handle.savepoint("another").await.map(drop),
    ] {
        assert!(
            matches!(refused, Err(RequestError::Conflict(_))),
            "{refused:?}"
        );
    }
    let late = scenario.worker("late", 2, running).await;
    until("a worker that comes late may go", || {
        late.was_told(|message| *message == ToWorker::Shutdown)
    })
    .await;
    assert!(late.deployment().is_none());
}

#[tokio::test]
async fn a_deployment_that_has_stopped_goes_on_saying_so_also_after_a_restart() {
    let scenario = deployed(7);
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    running.handle.stop(stop_with("upgrade")).await.unwrap();
    let snapshot = running.wait_for_state(JobState::Stopped).await;
    let path = snapshot.job.savepoint.clone().unwrap();
    drop(worker);
    assert_stopped(&scenario, &running, &path).await;
    let claims = scenario.chain().await.claims;
    running.crash().await;
    let again = scenario.start(Restore::Fresh);
    assert_stopped(&scenario, &again, &path).await;
    assert_eq!(scenario.chain().await.claims, claims, "nothing was claimed");
    again.shutdown.cancel();
    let savepoint = Some(path);
    assert_eq!(again.outcome().await, Outcome::Stopped { savepoint });
}

#[tokio::test]
async fn a_deployment_that_failed_for_good_goes_on_saying_why_also_after_a_restart() {
    let mut scenario = deployed(7);
    let missing = Failure::new(
        ErrorCode::KafkaTopicMissing,
        ErrorKind::InvalidJob,
        "topic `orders` does not exist",
    );
    scenario.topic().failure = Some(missing.clone());
    let running = scenario.start(Restore::Latest);
    let snapshot = running.wait_for_state(JobState::Failed).await;
    assert_eq!(snapshot.job.last_failure, Some(missing.clone().into()));
    running.crash().await;
    scenario.topic().failure = None;
    let again = scenario.start(Restore::Latest);
    let snapshot = again.wait_for_state(JobState::Failed).await;
    assert_eq!(snapshot.job.last_failure, Some(missing.clone().into()));
    again.shutdown.cancel();
    assert_eq!(again.outcome().await, Outcome::Failed(missing));
    // The next deployment runs.
    scenario.deployment = Some(8);
    let next = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &next).await;
    next.wait_for_checkpoints(1).await;
}

#[tokio::test]
async fn a_restore_point_that_is_not_there_is_a_failure_that_is_shown() {
    let scenario = deployed(7);
    let path = format!("file://{}/nowhere", scenario.storage_path().display());
    let running = scenario.start(Restore::Path(path.clone()));
    let snapshot = running.wait_for_state(JobState::Failed).await;
    let failure = snapshot.job.last_failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::CheckpointMissing);
    assert!(failure.message.contains(&path), "{failure}");
    assert!(scenario.chain().await.claims.is_empty());
}

#[tokio::test]
async fn a_rescale_is_a_restart_of_the_same_deployment_with_another_parallelism() {
    let mut scenario = deployed(7);
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    running.crash().await;
    drop(worker);
    for (parallelism, slots) in [(4, 2), (1, 1)] {
        scenario.parallelism = parallelism;
        let before = scenario.chain().await;
        let running = scenario.start(Restore::Fresh);
        let first = scenario.worker("b", slots, &running).await;
        if parallelism > slots {
            let snapshot = running
                .wait_for("the other worker is missed", |snapshot| {
                    !snapshot.job.workers.is_empty()
                        && snapshot.job.state == JobState::WaitingForWorkers
                })
                .await;
            let message = &snapshot.job.message;
            assert!(
                message.contains("4 slots are needed and 2 are offered"),
                "{message}"
            );
        }
        let second = scenario.worker("c", slots, &running).await;
        let snapshot = running.wait_for_checkpoints(1).await;
        assert_eq!(snapshot.job.parallelism, parallelism);
        assert_eq!(snapshot.job.restored_from, before.newest_path);
        assert_eq!(snapshot.audit.gaps, Vec::<String>::new());
        let mut restored = positions(&first);
        if parallelism > slots {
            restored.extend(positions(&second));
        } else {
            assert!(second.deployment().is_none(), "it stays in reserve");
        }
        let newest = before.newest.unwrap();
        let subtasks = newest.operators[&"orders".into()].values();
        let mut kept: Vec<u64> = subtasks
            .flat_map(|state| &state.splits)
            .map(|split| split.position.0.parse().unwrap())
            .collect();
        restored.sort_unstable();
        kept.sort_unstable();
        assert_eq!(restored, kept);
        running.crash().await;
    }
}

#[tokio::test]
async fn a_worker_in_reserve_takes_over_when_another_one_is_lost() {
    let scenario = deployed(7);
    let running = scenario.start(Restore::Latest);
    let first = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    let reserve = scenario.worker("b", 2, &running).await;
    let completed = running.handle.snapshot().counts.completed;
    let snapshot = running
        .wait_for("the job is not disturbed", |snapshot| {
            snapshot.job.workers.len() == 2 && snapshot.counts.completed > completed
        })
        .await;
    assert_eq!(snapshot.job.restarts, 0);
    assert!(reserve.deployment().is_none());
    drop(first);
    running
        .wait_for("the reserve runs", |snapshot| {
            snapshot.job.restarts == 1 && snapshot.job.state == JobState::Running
        })
        .await;
    assert!(reserve.deployment().is_some());
}

#[tokio::test]
async fn state_that_has_no_place_is_dropped_when_that_is_allowed() {
    let mut scenario = Scenario::default();
    run_and_crash(&scenario).await;
    scenario.source_name = "renamed".to_owned();
    scenario.deployment = Some(7);
    let running = scenario.start(Restore::Latest);
    let snapshot = running.wait_for_state(JobState::Failed).await;
    let failure = snapshot.job.last_failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::IncompatibleState);
    for part in ["`orders`", "allowDroppedState", "`renamed`"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    running.crash().await;
    scenario.deployment = Some(8);
    scenario.allow_dropped_state = true;
    scenario.topic().end = 5_000;
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    assert!(positions(&worker).iter().all(|position| *position == 5_000));
    let newest = scenario.chain().await.newest.unwrap();
    assert!(!newest.operators.contains_key(&"orders".into()));
}

#[tokio::test]
async fn a_worker_that_leaves_takes_nothing_with_it() {
    let mut scenario = deployed(7);
    // Only the worker that leaves gives a reason for a checkpoint.
    "interval: 1h, timeout: 5s".clone_into(&mut scenario.checkpoint);
    let running = scenario.start(Restore::Latest);
    let first = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    let _reserve = scenario.worker("b", 2, &running).await;
    first.leave();
    until("it may go", || {
        first.was_told(|message| *message == ToWorker::Shutdown)
    })
    .await;
    let snapshot = running
        .wait_for("the job goes on elsewhere", |snapshot| {
            snapshot.job.state == JobState::Running && snapshot.job.restarts == 1
        })
        .await;
    assert_eq!(snapshot.job.last_failure, None);
    assert_eq!(snapshot.audit.gaps, Vec::<String>::new());
    let completed = snapshot.checkpoints.iter().filter(|detail| {
        detail.summary.state == CheckpointState::Completed && detail.summary.attempt.0 == 1
    });
    assert_eq!(completed.count(), 2);
}

#[tokio::test]
async fn a_lost_transaction_is_shown_and_stays_so_over_restarts() {
    let scenario = deployed(7);
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.ledger().unreachable = true;
    scenario.uncommitted().await;
    running.crash().await;
    drop(worker);
    {
        let mut ledger = scenario.ledger();
        ledger.unreachable = false;
        ledger.transactions.clear();
    }
    for _ in 0..2 {
        let running = scenario.start(Restore::Latest);
        let snapshot = running.wait_for_state(JobState::Failed).await;
        let failure = snapshot.job.last_failure.clone().unwrap();
        assert_eq!(failure.code, ErrorCode::KafkaTransactionLost);
        assert_eq!(failure.kind, ErrorKind::DataLoss);
        running.crash().await;
    }
}
