use std::collections::BTreeMap;
use std::time::Duration;

use millstream_coordinator::{Outcome, Progress, Restore};
use millstream_types::api::JobState;
use millstream_types::protocol::ToWorker;
use millstream_types::{Attempt, ErrorCode, OperatorUid};

use crate::scenario::{Scenario, until};
use crate::sink::Stand;
use crate::worker::Manners;

#[tokio::test]
async fn a_job_runs_and_everything_that_a_checkpoint_lists_becomes_visible() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    let snapshot = running.wait_for_checkpoints(3).await;
    assert_eq!(snapshot.job.state, JobState::Running);
    assert_eq!(snapshot.job.attempt, Attempt(1));
    assert_eq!(snapshot.audit.gaps, Vec::<String>::new());
    let read = snapshot.audit.sources[&OperatorUid::from("orders")].records_out;
    let written = snapshot.audit.sinks[&OperatorUid::from("out")].records_out;
    assert!(read >= 120 && read == written, "{read} {written}");
    let state = scenario.chain().await;
    let newest = state.newest.unwrap();
    assert!(newest.committables(&"out".into()).len() >= 2);
    assert_eq!(
        newest.identities[&OperatorUid::from("orders")].0,
        "cluster-a"
    );
    assert!(scenario.ledger().that_stand(Stand::Committed).len() >= 6);
    assert!(worker.was_told(|message| matches!(
        message,
        ToWorker::Completed {
            committed: true,
            ..
        }
    )));
    let slots = state.checkpoints.len();
    assert!(slots <= 4, "old checkpoints are deleted: {slots}");
}

#[tokio::test]
async fn subtasks_and_splits_are_shared_between_workers() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let a = scenario.worker("a", 1, &running).await;
    let waiting = running.wait_for_state(JobState::WaitingForWorkers).await;
    assert!(
        waiting.job.message.contains("MS0505"),
        "{}",
        waiting.job.message
    );
    let b = scenario.worker("b", 1, &running).await;
    running.wait_for_checkpoints(1).await;
    let mut splits = BTreeMap::new();
    for worker in [&a, &b] {
        let deploy = worker.deployment().unwrap();
        assert_eq!(deploy.tasks.len(), 1);
        for (uid, state) in &deploy.tasks[0].restore {
            for split in &state.splits {
                *splits
                    .entry((uid.clone(), split.split.clone()))
                    .or_insert(0) += 1;
            }
        }
    }
    assert_eq!(splits.len(), 4);
    assert!(splits.values().all(|count| *count == 1));
}

#[tokio::test]
async fn the_loss_of_a_worker_restarts_the_job_on_the_spare() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let mut news = running.handle.progress();
    let a = scenario.worker("a", 1, &running).await;
    let b = scenario.worker("b", 1, &running).await;
    let spare = scenario.worker("spare", 1, &running).await;
    running.wait_for_checkpoints(2).await;
    let lost = if spare.deployment().is_none() {
        a
    } else {
        spare
    };
    drop(lost);
    let snapshot = running
        .wait_for("a second attempt", |snapshot| {
            snapshot.job.attempt == Attempt(2) && snapshot.job.state == JobState::Running
        })
        .await;
    assert_eq!(snapshot.job.restarts, 1);
    assert_eq!(
        snapshot.job.last_failure.as_ref().unwrap().code,
        ErrorCode::WorkerLost
    );
    assert!(snapshot.job.restored_from.is_some());
    assert!(b.was_told(|message| *message
        == ToWorker::Cancel {
            attempt: Attempt(1)
        }));
    running.wait_for_checkpoints(5).await;
    assert_eq!(running.handle.snapshot().audit.gaps, Vec::<String>::new());
    let mut restarting = false;
    while let Ok(news) = news.try_recv() {
        restarting |= matches!(news, Progress::Restarting { .. });
    }
    assert!(restarting);
}

#[tokio::test]
async fn a_worker_that_falls_silent_is_lost() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let manners = Manners {
        silent: true,
        ignores_barriers: true,
        ..Manners::default()
    };
    let _silent = scenario.worker_with("silent", 2, &running, manners).await;
    let _spare = scenario.worker("spare", 2, &running).await;
    let snapshot = running
        .wait_for("the loss", |snapshot| snapshot.job.last_failure.is_some())
        .await;
    let failure = snapshot.job.last_failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::WorkerLost);
    assert!(
        failure.message.contains("silent: no heartbeat"),
        "{failure}"
    );
    running.wait_for_checkpoints(1).await;
}

#[tokio::test]
async fn a_worker_of_another_protocol_version_is_refused() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let manners = Manners {
        protocol: Some(99),
        ..Manners::default()
    };
    let worker = scenario.worker_with("old", 2, &running, manners).await;
    until("the refusal", || {
        worker.was_told(|message| {
            matches!(message, ToWorker::Refused { failure }
                if failure.code == ErrorCode::CoordinatorUnavailable
                    && failure.message.contains("version 99"))
        })
    })
    .await;
    assert!(running.handle.snapshot().job.workers.is_empty());
}

#[tokio::test]
async fn splits_that_appear_while_the_job_runs_are_read_from_their_beginning() {
    let scenario = Scenario::default();
    scenario.topic().interval = Some(Duration::from_millis(20));
    scenario.topic().end = 1_000;
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.topic().splits.push("p4".to_owned());
    let before = running.handle.snapshot().counts.completed;
    running
        .wait_for("more checkpoints", |snapshot| {
            snapshot.counts.completed > before + 3
        })
        .await;
    let newest = scenario.chain().await.newest.unwrap();
    let splits: BTreeMap<String, u64> = newest.operators[&OperatorUid::from("orders")]
        .values()
        .flat_map(|state| &state.splits)
        .map(|split| (split.split.clone(), split.position.0.parse().unwrap()))
        .collect();
    assert_eq!(splits.len(), 5);
    assert!((10..1_000).contains(&splits["p4"]), "{splits:?}");
    assert!(splits["p0"] > 1_000);
}

#[tokio::test]
async fn an_interrupted_coordinator_neither_stops_the_job_nor_releases_the_chain() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    running.shutdown.cancel();
    assert_eq!(running.outcome().await, Outcome::Interrupted);
    assert_eq!(scenario.chain().await.released(), None);
    assert!(!worker.was_told(|message| *message == ToWorker::Shutdown));
}
