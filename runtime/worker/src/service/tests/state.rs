//! Operators with state.

use std::collections::BTreeMap;

use millstream_types::{StateSnapshot, TaskSnapshot};

use super::*;
use crate::testing::{KEYS, Memory, Slow};

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

/// The reader of two full channels is slow: aligned, a checkpoint would wait for all that lies in them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_barrier_that_overtakes_takes_what_is_in_the_channels_with_it() {
    const END: u64 = 400_000;
    let job = Job::counting_to(END).shaped(Shape::Keyed).keyed();
    let slow = job
        .clone()
        .with_sink(|seen| Box::new(Slow(Memory::new(seen))));
    let mut coordinator = Coordinator::with_running(&slow, 1).await;
    coordinator.backpressured().await;
    coordinator.aligned_timeout_ms = Some(20);
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged_by_all(1, 3).await;
    let operator = &snapshot.operators[&"operator".into()];
    let in_flight = &operator.in_flight;
    assert_eq!(in_flight.len(), 1);
    assert!(in_flight[0].bytes > 1_000_000, "{in_flight:?}");
    let file = job.files().files()[&in_flight[0].path].clone();
    let records = millstream_exchange::in_flight::decode(&file).unwrap();
    let rows: usize = records.iter().map(|record| record.batch.rows()).sum();
    let read = |uid: &str| snapshot.operators[&uid.into()].counters.records_out;
    let overtaken = read("source") + read("other") - operator.counters.records_in;
    assert_eq!(
        rows as u64, overtaken,
        "each is in the state or in the file"
    );
    assert_eq!(operator.counters.in_flight, overtaken);
    coordinator.cancel(1).await;

    job.seen().counts.clear();
    coordinator.replace_job(&job);
    coordinator.deploy(&job, 2, Some(&snapshot)).await;
    for _ in 0..3 {
        coordinator.ended().await;
    }
    let each = i64::try_from(2 * END).unwrap() / KEYS;
    let counts = job.seen().counts.clone();
    assert!(counts.values().all(|count| *count == each), "{counts:?}");
    coordinator.trigger(2, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged_by_all(2, 3).await;
    let operator = &snapshot.operators[&"operator".into()];
    assert_eq!(operator.in_flight, []);
    assert_eq!(operator.counters.records_in, 2 * END);
    assert_eq!(operator.counters.in_flight, 0);
    coordinator.shut_down().await;
}
