//! A worker with real tasks, driven as a coordinator would.

mod coordinator;
mod state;

use std::time::Duration;

use millstream_types::{CheckpointId, CheckpointKind, ErrorCode, EventTime};

use super::*;
use crate::testing::{PanicAt, Shared, Stuck};
use coordinator::{Coordinator, Job, Shape};

const ENDLESS: u64 = u64::MAX / 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn positions_and_transactions_of_a_snapshot_agree() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    for checkpoint in 1..=3 {
        coordinator.more_written(&job).await;
        coordinator
            .trigger(checkpoint, CheckpointKind::Checkpoint)
            .await;
        let snapshot = coordinator.acknowledged(checkpoint).await;
        let source = &snapshot.operators[&"source".into()];
        let sink = &snapshot.operators[&"sink".into()];
        let read: u64 = source.splits.iter().map(|split| split.records).sum();
        let prepared: u64 = sink.committables.iter().map(|one| one.records).sum();
        assert_eq!(
            read, prepared,
            "nothing is committed yet, so everything is listed"
        );
        assert_eq!(source.counters.records_in, read);
        assert_eq!(sink.counters.records_out, read);
        assert_eq!(sink.committables.len() as u64, checkpoint);
    }
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn committed_transactions_are_listed_no_more() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    for checkpoint in 1..=2 {
        coordinator.more_written(&job).await;
        coordinator
            .trigger(checkpoint, CheckpointKind::Checkpoint)
            .await;
        let snapshot = coordinator.acknowledged(checkpoint).await;
        let listed = &snapshot.operators[&"sink".into()].committables;
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].checkpoint, CheckpointId(checkpoint));
        coordinator.completed(checkpoint, true).await;
    }
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_completed_savepoint_commits_nothing() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    coordinator.trigger(1, CheckpointKind::Savepoint).await;
    coordinator.acknowledged(1).await;
    coordinator.completed(1, false).await;
    coordinator.trigger(2, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged(2).await;
    let listed = &snapshot.operators[&"sink".into()].committables;
    assert_eq!(listed[0].checkpoint, CheckpointId(1));
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_repeated_or_older_barrier_is_passed_once() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    for checkpoint in [2, 2, 1, 3] {
        coordinator
            .trigger(checkpoint, CheckpointKind::Checkpoint)
            .await;
    }
    coordinator.acknowledged(2).await;
    coordinator.acknowledged(3).await;
    let prepared = job.seen().prepared.keys().copied().collect::<Vec<_>>();
    assert_eq!(prepared, [CheckpointId(2), CheckpointId(3)]);
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_bounded_task_ends_and_still_takes_part_in_the_final_checkpoint() {
    let job = Job::counting_to(95);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.ended().await;
    assert!(job.seen().ended);
    assert_eq!(job.seen().watermarks.last(), Some(&EventTime::MAX));
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged(1).await;
    let sink = &snapshot.operators[&"sink".into()];
    assert_eq!(sink.committables[0].records, 95);
    assert!(snapshot.operators[&"source".into()].splits[0].finished);
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn vertices_that_are_joined_by_an_edge_see_the_same_records_and_barriers() {
    let job = Job::counting_to(100_000).shaped(Shape::TwoVertices);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged_by_all(1, 2).await;
    let read = snapshot.operators[&"source".into()].counters.records_out;
    let written = snapshot.operators[&"sink".into()].counters.records_out;
    assert_eq!(read, written);
    coordinator.ended().await;
    coordinator.ended().await;
    coordinator.trigger(2, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged_by_all(2, 2).await;
    assert_eq!(
        snapshot.operators[&"sink".into()].counters.records_out,
        100_000
    );
    coordinator.shut_down().await;
}

/// A task that waits for room in what it writes passes barriers, and so its part of a checkpoint does not
/// wait for whoever reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_task_without_room_still_takes_its_snapshot() {
    let job = Job::counting_to(ENDLESS)
        .shaped(Shape::TwoVertices)
        .with_sink(|seen| Box::new(Stuck(Shared::clone(seen))));
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    coordinator.backpressured().await;
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged(1).await;
    let source = &snapshot.operators[&"source".into()];
    assert!(source.counters.records_out > 0);
    coordinator.close();
    assert!(matches!(coordinator.end().await, Ended::Stuck(_)));
}

/// Whatever the two threads do, a checkpoint has of both what the sink has written of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_checkpoint_cuts_two_inputs_at_one_place() {
    let job = Job::counting_to(ENDLESS).shaped(Shape::Union);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    for checkpoint in 1..=20 {
        coordinator.more_written(&job).await;
        coordinator
            .trigger(checkpoint, CheckpointKind::Checkpoint)
            .await;
        let snapshot = coordinator.acknowledged_by_all(checkpoint, 3).await;
        let of = |uid: &str| snapshot.operators[&uid.into()].counters.records_out;
        assert_eq!(of("source") + of("other"), of("sink"), "{checkpoint}");
    }
    let watermarks = job.seen().watermarks.clone();
    assert!(watermarks.is_sorted(), "time goes on");
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_source_without_splits_ends_if_it_will_get_none() {
    let job = Job::counting_to(10).shaped(Shape::TwoVertices);
    let job = job.bounded("source");
    let mut coordinator = Coordinator::registered(&job).await;
    let nothing = millstream_types::TaskSnapshot::default();
    coordinator.deploy(&job, 1, Some(&nothing)).await;
    coordinator.ended().await;
    coordinator.ended().await;
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    coordinator.acknowledged_by_all(1, 2).await;
    assert_eq!(job.seen().written, 0);
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_inputs_go_on_from_one_snapshot() {
    // More than the channels hold: no source may end before the checkpoint.
    let job = Job::counting_to(300_000).shaped(Shape::Union);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged_by_all(1, 3).await;
    let before = snapshot.operators[&"sink".into()].counters.records_out;
    coordinator.cancel(1).await;
    job.seen().written = 0;
    coordinator.deploy(&job, 2, Some(&snapshot)).await;
    // Their ends may have been told while others were still starting.
    for checkpoint in 2.. {
        coordinator
            .trigger(checkpoint, CheckpointKind::Checkpoint)
            .await;
        let snapshot = coordinator.acknowledged_by_all(checkpoint, 3).await;
        if snapshot.operators[&"sink".into()].counters.records_out == 600_000 {
            break;
        }
    }
    for _ in 0..3 {
        coordinator.ended().await;
    }
    assert_eq!(job.seen().watermarks.last(), Some(&EventTime::MAX));
    assert_eq!(job.seen().written, 600_000 - before);
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_task_goes_on_from_its_snapshot() {
    let job = Job::counting_to(1_000);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged(1).await;
    let position = snapshot.operators[&"source".into()].splits[0].records;
    coordinator.cancel(1).await;
    job.seen().written = 0;
    coordinator.deploy(&job, 2, Some(&snapshot)).await;
    coordinator.ended().await;
    assert_eq!(job.seen().written, 1_000 - position);
    coordinator.trigger(2, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged(2).await;
    assert_eq!(
        snapshot.operators[&"source".into()].counters.records_in,
        1_000
    );
    assert_eq!(
        snapshot.operators[&"sink".into()].counters.records_out,
        1_000
    );
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_panic_fails_the_task_with_its_place_and_the_worker_lives_on() {
    let job = Job::counting_to(ENDLESS).with_operator(|_| Box::new(PanicAt(55)));
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    let failure = coordinator.failed().await;
    assert_eq!(failure.code, ErrorCode::TaskPanicked);
    assert!(failure.message.contains("cannot bear 55"), "{failure}");
    assert!(failure.message.contains("part-0 at 60"), "{failure}");
    coordinator.cancel(1).await;
    let healthy = Job::counting_to(50);
    coordinator.replace_job(&healthy);
    coordinator.deploy(&healthy, 2, None).await;
    coordinator.ended().await;
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn nothing_follows_the_barrier_that_a_job_stops_with() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    let stop = CheckpointKind::StopWithSavepoint { drain: false };
    coordinator.trigger(1, stop).await;
    let snapshot = coordinator.acknowledged(1).await;
    let at_barrier = snapshot.operators[&"sink".into()].counters.records_out;
    // The task answers another barrier, so it has had every chance to read on.
    coordinator.trigger(2, CheckpointKind::Checkpoint).await;
    let snapshot = coordinator.acknowledged(2).await;
    assert_eq!(
        snapshot.operators[&"sink".into()].counters.records_out,
        at_barrier
    );
    assert!(!job.seen().ended, "only draining ends the input");
    coordinator.aborted(1).await;
    coordinator.more_written(&job).await;
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_source_that_stopped_goes_on_at_the_next_checkpoint_if_nobody_said_that_its_savepoint_failed()
 {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    let stop = CheckpointKind::StopWithSavepoint { drain: false };
    coordinator.trigger(1, stop).await;
    coordinator.acknowledged(1).await;
    coordinator.trigger(2, CheckpointKind::Checkpoint).await;
    coordinator.acknowledged(2).await;
    coordinator.more_written(&job).await;
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn draining_lets_windows_fire_before_the_last_barrier() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    let drain = CheckpointKind::StopWithSavepoint { drain: true };
    coordinator.trigger(1, drain).await;
    let snapshot = coordinator.acknowledged(1).await;
    assert!(job.seen().ended);
    assert_eq!(job.seen().watermarks.last(), Some(&EventTime::MAX));
    let read = snapshot.operators[&"source".into()].counters.records_out;
    assert_eq!(
        snapshot.operators[&"sink".into()].counters.records_out,
        read
    );
    coordinator.aborted(1).await;
    assert_eq!(
        coordinator.failed().await.kind,
        millstream_types::ErrorKind::Retryable
    );
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn messages_of_older_attempts_are_dropped() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 5).await;
    coordinator.deploy_unseen(&job, 4).await;
    coordinator
        .trigger_in(4, 1, CheckpointKind::Checkpoint)
        .await;
    coordinator
        .trigger_in(5, 2, CheckpointKind::Checkpoint)
        .await;
    coordinator.acknowledged(2).await;
    assert_eq!(job.seen().prepared.len(), 1);
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_newer_attempt_replaces_an_older_one() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.deploy(&job, 2, None).await;
    coordinator
        .trigger_in(2, 1, CheckpointKind::Checkpoint)
        .await;
    coordinator.acknowledged(1).await;
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn cancelling_an_attempt_that_is_not_there_is_answered() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::registered(&job).await;
    coordinator.cancel(3).await;
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_task_that_waits_for_room_is_cancelled() {
    let job = Job::counting_to(ENDLESS)
        .shaped(Shape::TwoVertices)
        .with_sink(|seen| Box::new(Stuck(Arc::clone(seen))));
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    // The sink never takes a second batch, so the queue fills and its writer waits. The sink's own
    // task is past help, which the worker says after its timeout.
    coordinator.close();
    let Ended::Stuck(failure) = coordinator.end().await else {
        panic!("a task that never returns must be reported")
    };
    assert_eq!(failure.code, ErrorCode::TaskStuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_lost_connection_stops_the_tasks() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.more_written(&job).await;
    coordinator.close();
    assert_eq!(coordinator.end().await, Ended::ConnectionLost);
    let written = job.seen().written;
    assert_eq!(
        Shared::strong_count(&job.shared()),
        2,
        "no task holds it any more"
    );
    assert_eq!(job.seen().written, written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_worker_hears_that_it_is_sent_home_though_it_has_something_to_tell_that_nobody_takes() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.listen_no_more();
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    let prepared = async {
        while job.seen().prepared.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), prepared).await;
    in_time.expect("the task prepares");
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn heartbeats_say_what_tasks_do_with_their_time_and_how_channels_stand() {
    let job = Job::counting_to(ENDLESS).shaped(Shape::Union);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    coordinator.acknowledged_by_all(1, 3).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let loads = loop {
        let progress = coordinator.heartbeat().await;
        let loads: Option<Vec<_>> = progress.into_iter().map(|it| it.load).collect();
        if let Some(loads) = loads.filter(|loads| loads.len() == 3) {
            break loads;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "nothing is measured"
        );
    };
    for load in &loads {
        assert_eq!(load.busy + load.backpressured + load.idle, 1_000);
        assert!(load.watermark.is_some(), "{load:?}");
    }
    assert!(loads[0].channels.is_empty() && loads[1].channels.is_empty());
    let channels = &loads[2].channels;
    let from: Vec<u32> = channels.iter().map(|it| it.from.vertex.0).collect();
    assert_eq!(from, [0, 1]);
    let inputs: Vec<u32> = channels.iter().map(|it| it.input).collect();
    assert_eq!(inputs, [0, 1]);
    let alignments: Vec<_> = channels.iter().map(|it| it.alignment_ms).collect();
    assert!(
        alignments.contains(&Some(0)),
        "one came first: {alignments:?}"
    );
    assert!(alignments.iter().all(Option::is_some));
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn heartbeats_carry_positions_and_counters() {
    let job = Job::counting_to(1_000);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    coordinator.ended().await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let progress = coordinator.heartbeat().await;
        let read = progress[0].counters[&"source".into()].records_in;
        if read == 1_000 {
            assert_eq!(progress[0].positions[&"source".into()].len(), 1);
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "stays at {read}");
    }
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_worker_that_plans_a_job_is_alive_and_may_be_told_to_stop() {
    let gate = Arc::new(std::sync::Barrier::new(2));
    let job = Job::counting_to(ENDLESS).planned_at(&gate);
    let mut coordinator = Coordinator::registered(&job).await;
    coordinator.deploy_unseen(&job, 1).await;
    for _ in 0..3 {
        coordinator.heartbeat().await;
    }
    coordinator.cancel(1).await;
    gate.wait();
    let other = Job::counting_to(50);
    coordinator.replace_job(&other);
    coordinator.deploy(&other, 2, None).await;
    coordinator.ended().await;
    coordinator.shut_down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_worker_that_is_to_leave_runs_on_until_it_may() {
    let job = Job::counting_to(ENDLESS);
    let mut coordinator = Coordinator::with_running(&job, 1).await;
    let activity = coordinator.activity();
    assert_eq!(
        *activity.borrow(),
        Activity {
            registered: true,
            leaving: false,
            attempt: Some(millstream_types::Attempt(1)),
            tasks: 1,
        }
    );
    coordinator.told_to_leave().await;
    assert!(activity.borrow().leaving);
    coordinator.more_written(&job).await;
    coordinator.trigger(1, CheckpointKind::Checkpoint).await;
    coordinator.acknowledged(1).await;
    coordinator.cancel(1).await;
    coordinator.shut_down().await;
    assert_eq!(*activity.borrow(), Activity::default());
}
