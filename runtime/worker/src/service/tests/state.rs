//! Operators with state.

use std::collections::BTreeMap;

use millstream_types::{StateSnapshot, TaskSnapshot};

use super::*;
use crate::testing::KEYS;

const KEYED_END: u64 = 5_000_000;

/// Counts of a whole run, by key.
fn all() -> BTreeMap<i64, i64> {
    let each = i64::try_from(KEYED_END).unwrap() / KEYS;
    (0..KEYS).map(|key| (key, each)).collect()
}

fn state(snapshot: &TaskSnapshot) -> &StateSnapshot {
    let state = snapshot.operators[&"operator".into()].state.as_ref();
    state.expect("the operator keeps state")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_acknowledges_when_its_state_is_durable_and_goes_on_meanwhile() {
    let job = Job::counting_to(ENDLESS).keyed();
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    job.files().set_open(false);
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    for _ in 0..3 {
        coordinator.more_written(&job).await;
    }
    assert!(coordinator.has_not_acknowledged());
    assert_eq!(job.files().files().len(), 0);
    job.files().set_open(true);
    let snapshot = coordinator.acknowledged(1).await;
    let runs = &state(&snapshot).runs;
    assert!(!runs.is_empty());
    let is_there = |path: &String| job.files().files().contains_key(path);
    assert!(runs.iter().all(|run| is_there(&run.file.path)));
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_cannot_be_written_declines_its_checkpoint_and_is_in_the_next() {
    let job = Job::counting_to(KEYED_END).keyed();
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.ended().await;
    job.files().refuse(1);
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    let failure = coordinator.declined(1).await;
    assert_eq!(failure.code, ErrorCode::StoreUnavailable);
    coordinator.trigger(2, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged(2).await;
    coordinator.cancel(1).await;
    // One more record for each key shows what they were counted to.
    let more = job.clone().to(KEYED_END + u64::try_from(KEYS).unwrap());
    coordinator.replace_job(&more);
    let mut reopened = snapshot.clone();
    let source = reopened.operators.get_mut(&"source".into()).unwrap();
    source.splits[0].finished = false;
    coordinator.deploy(&more, 2, Some(&reopened)).await;
    coordinator.ended().await;
    let counts = job.seen().counts.clone();
    assert!(
        counts.values().all(|count| *count == all()[&0] + 1),
        "{counts:?}"
    );
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_goes_on_counting_from_its_state() {
    let job = Job::counting_to(KEYED_END).keyed();
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    for checkpoint in 1..=3 {
        coordinator.more_written(&job).await;
        coordinator
            .trigger(checkpoint, CheckpointKind::Checkpoint)
            .await;
        let snapshot = coordinator.acknowledged(checkpoint).await;
        coordinator.cancel(checkpoint).await;
        job.seen().counts.clear();
        coordinator
            .deploy(&job, checkpoint + 1, Some(&snapshot))
            .await;
    }
    coordinator.ended().await;
    let seen = job.seen().counts.clone();
    assert!(!seen.is_empty());
    for (key, count) in seen {
        assert_eq!(count, all()[&key], "key {key}");
    }
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_missing_fails_the_deployment_by_name() {
    let job = Job::counting_to(ENDLESS).keyed();
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged(1).await;
    coordinator.cancel(1).await;
    let path = state(&snapshot).runs[0].file.path.clone();
    job.files().files().remove(&path);
    coordinator.deploy_from(&job, 2, &snapshot).await;
    let failure = coordinator.failed().await;
    assert_eq!(failure.code, ErrorCode::CorruptObject);
    assert!(failure.message.contains(&path), "{failure}");
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn state_that_needs_more_memory_than_it_may_have_fails_its_task_and_says_how_much() {
    let job = Job::counting_to(ENDLESS).keyed().with_memory(2_000);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    let failure = coordinator.failed().await;
    assert_eq!(failure.code, ErrorCode::StateTooLarge);
    assert!(failure.message.contains("may have 2.0 KiB"), "{failure}");
    coordinator.shut_down().await;
}
