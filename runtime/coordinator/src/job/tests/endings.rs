use millstream_checkpoint::ReleaseReason;
use millstream_types::api::CheckpointState;

use super::*;

fn ended(rig: &mut Rig, task: TaskId) {
    let attempt = rig.attempt();
    let host = rig
        .hosts()
        .into_iter()
        .find(|(_, hosted)| *hosted == task)
        .unwrap()
        .0;
    rig.say(&host, ToCoordinator::TaskEnded { attempt, task });
}

/// Whose source will find no more splits.
fn bounded(rig: &mut Rig, change: impl FnOnce(&mut Prepared)) {
    rig.join("a", 2);
    let mut prepared = prepared(1);
    prepared.discovering.clear();
    change(&mut prepared);
    rig.tell(Event::Prepared(Box::new(prepared)));
    rig.all_run();
}

#[test]
fn a_bounded_job_completes_after_a_final_checkpoint() {
    let mut rig = Rig::new();
    bounded(&mut rig, |_| {});
    rig.complete(11);
    for task in [task(0, 0), task(0, 1), task(1, 0)] {
        ended(&mut rig, task);
    }
    assert_eq!(rig.barriers(), [11]);
    ended(&mut rig, task(1, 1));
    assert_eq!(
        rig.barriers(),
        [11, 12],
        "the final checkpoint begins at once"
    );
    rig.acknowledge(12);
    assert!(rig.finalizing().last().unwrap().ended);
    assert_eq!(
        rig.count(|c| matches!(c, Command::Chain(Operation::Release(_)))),
        0
    );
    rig.finalized(12);
    assert_eq!(rig.count(|c| released_as(c, ReleaseReason::Completed)), 1);
    assert_eq!(rig.outcome(), None);
    rig.tell(Event::Released(Ok(())));
    assert_eq!(rig.outcome(), Some(&Outcome::Completed));
    assert!(rig.was_sent("a", &ToWorker::Shutdown));
    assert_eq!(rig.job.state(), JobState::Completed);
}

/// A subtask without splits of such a source ends at once, which is the worker's to say.
#[test]
fn workers_are_told_which_sources_find_no_more_splits() {
    let bounded_of = |rig: &Rig| -> Vec<Vec<OperatorUid>> {
        let deploys = rig.deploys().into_iter();
        deploys
            .map(|(_, deploy)| deploy.bounded.iter().cloned().collect())
            .collect()
    };
    let mut rig = Rig::new();
    bounded(&mut rig, |_| {});
    assert_eq!(bounded_of(&rig), [vec![OperatorUid::from("orders")]]);
    let mut rig = Rig::new();
    bounded(&mut rig, |prepared| {
        prepared.discovering.insert("orders".into());
    });
    assert_eq!(bounded_of(&rig), [vec![]]);
}

#[test]
fn a_job_restored_from_its_final_checkpoint_completes_without_running() {
    let mut rig = Rig::new();
    let mut last = prepared(2);
    last.manifest.ended = true;
    last.discovering.clear();
    rig.tell(Event::Prepared(Box::new(last)));
    rig.tell(Event::Released(Ok(())));
    assert_eq!(rig.outcome(), Some(&Outcome::Completed));
    assert!(rig.deploys().is_empty());
}

#[test]
fn a_job_whose_chain_says_completed_ends_at_once() {
    let mut rig = Rig::new();
    rig.tell(Event::AlreadyCompleted(Some(Box::new(manifest(3)))));
    assert_eq!(rig.outcome(), Some(&Outcome::Completed));
    assert_eq!(rig.job.snapshot().audit.checkpoint, Some(CheckpointId(10)));
}

#[test]
fn a_stop_takes_a_last_checkpoint_after_which_sources_emit_nothing() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.stop(None).unwrap();
    assert_eq!(rig.job.state(), JobState::Stopping);
    assert_eq!(
        rig.last_barrier().unwrap().kind,
        CheckpointKind::StopWithSavepoint { drain: false }
    );
    rig.complete(12);
    assert!(rig.written_savepoints().is_empty());
    assert_eq!(rig.count(|c| released_as(c, ReleaseReason::Stopped)), 1);
    rig.tell(Event::Released(Ok(())));
    assert_eq!(rig.outcome(), Some(&Outcome::Stopped { savepoint: None }));
    assert!(rig.was_sent("a", &ToWorker::Shutdown) && rig.was_sent("b", &ToWorker::Shutdown));
}

#[test]
fn a_stop_with_savepoint_decides_and_commits_before_the_savepoint_is_written() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.stop(Some("upgrade")).unwrap();
    rig.acknowledge_with(12, &[transaction(12)]);
    assert!(rig.written_savepoints().is_empty());
    assert_eq!(rig.finalizing().len(), 2);
    rig.finalized(12);
    let (name, manifest) = rig.written_savepoints()[0];
    assert_eq!((name, manifest.checkpoint), ("upgrade", CheckpointId(12)));
    assert_eq!(
        manifest.committables(&"out".into()),
        [],
        "they are committed"
    );
    assert_eq!(
        rig.count(|c| matches!(c, Command::Chain(Operation::Release(_)))),
        0
    );
    rig.tell(Event::SavepointWritten {
        attempt: Attempt(1),
        checkpoint: CheckpointId(12),
        name: "upgrade".to_owned(),
        result: Ok(written()),
    });
    rig.tell(Event::Released(Ok(())));
    let savepoint = Some("file:///chain/x.json".to_owned());
    assert_eq!(rig.outcome(), Some(&Outcome::Stopped { savepoint }));
    assert_eq!(
        rig.job.savepoint("upgrade").unwrap().state,
        CheckpointState::Completed
    );
}

#[test]
fn a_job_goes_on_if_the_savepoint_it_was_to_stop_with_expires() {
    let mut rig = Rig::with(
        Settings {
            tolerable_failures: 1,
            ..settings()
        },
        strategy(),
    )
    .run();
    rig.complete(11);
    rig.stop(Some("upgrade")).unwrap();
    rig.pass(10_000);
    assert_eq!(
        rig.job.savepoint("upgrade").unwrap().state,
        CheckpointState::Failed
    );
    assert_eq!(rig.job.state(), JobState::Running);
    assert!(rig.was_sent(
        "a",
        &ToWorker::Aborted {
            attempt: Attempt(1),
            checkpoint: CheckpointId(12),
        }
    ));
    assert_eq!(rig.last_barrier().unwrap().kind, CheckpointKind::Checkpoint);
    rig.stop(Some("again")).unwrap();
}

#[test]
fn a_stop_without_savepoint_is_tried_again_until_it_succeeds() {
    let mut rig = Rig::with(
        Settings {
            tolerable_failures: 1,
            ..settings()
        },
        strategy(),
    )
    .run();
    rig.complete(11);
    rig.stop(None).unwrap();
    rig.pass(10_000);
    assert_eq!(rig.barriers(), [11, 12, 13]);
    assert_eq!(
        rig.last_barrier().unwrap().kind,
        CheckpointKind::StopWithSavepoint { drain: false }
    );
}

#[test]
fn a_job_goes_on_with_a_new_attempt_if_its_last_savepoint_cannot_be_written() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.stop(Some("upgrade")).unwrap();
    rig.complete(12);
    rig.tell(Event::SavepointWritten {
        attempt: Attempt(1),
        checkpoint: CheckpointId(12),
        name: "upgrade".to_owned(),
        result: Err(failure(ErrorKind::InvalidJob)),
    });
    assert_eq!(rig.job.state(), JobState::Restarting);
    rig.cancelled("a");
    rig.cancelled("b");
    rig.pass(1_000);
    rig.prepared(2);
    assert_eq!(rig.job.state(), JobState::Deploying);
    assert_eq!(
        rig.job.savepoint("upgrade").unwrap().state,
        CheckpointState::Failed
    );
}

#[test]
fn what_becomes_of_tasks_after_their_last_snapshot_does_not_matter_once_it_is_decided() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.stop(None).unwrap();
    rig.acknowledge(12);
    rig.lose("a");
    rig.finalized(12);
    rig.tell(Event::Released(Ok(())));
    assert_eq!(rig.outcome(), Some(&Outcome::Stopped { savepoint: None }));
    assert_eq!(rig.prepares(), 1);
}

#[test]
fn it_matters_if_the_last_snapshot_is_not_decided() {
    let mut rig = Rig::with(
        Settings {
            tolerable_failures: 1,
            ..settings()
        },
        strategy(),
    )
    .run();
    rig.complete(11);
    rig.stop(None).unwrap();
    rig.acknowledge(12);
    rig.lose("a");
    rig.tell(Event::Finalized {
        attempt: Attempt(1),
        checkpoint: CheckpointId(12),
        result: Err(NotFinalized::NotDecided(failure(ErrorKind::Retryable))),
    });
    assert_eq!(rig.job.state(), JobState::Restarting);
    rig.cancelled("b");
    rig.pass(1_000);
    // The stop is still wanted, and what the new attempt has found is all committed.
    rig.prepared(2);
    rig.tell(Event::Released(Ok(())));
    assert_eq!(rig.outcome(), Some(&Outcome::Stopped { savepoint: None }));
}

#[test]
fn a_job_that_does_not_run_stops_as_soon_as_everything_is_resolved() {
    let mut waiting = Rig::new();
    waiting.prepared(1);
    let mut delayed = Rig::new();
    delayed.tell(Event::PrepareFailed(failure(ErrorKind::Retryable)));
    for mut rig in [waiting, delayed, Rig::new()] {
        let waits = rig.job.state() == JobState::WaitingForWorkers;
        rig.stop(None).unwrap();
        if !waits {
            assert_eq!(
                rig.count(|c| matches!(c, Command::Chain(Operation::Release(_)))),
                0
            );
            rig.prepared(1);
        }
        rig.tell(Event::Released(Ok(())));
        assert_eq!(rig.outcome(), Some(&Outcome::Stopped { savepoint: None }));
        assert!(rig.deploys().is_empty());
    }
}

#[test]
fn a_job_that_does_not_run_stops_with_a_savepoint_of_its_newest_checkpoint() {
    let mut rig = Rig::new();
    rig.stop(Some("s")).unwrap();
    rig.prepared(4);
    let (name, savepoint) = rig.written_savepoints()[0];
    assert_eq!((name, savepoint.checkpoint), ("s", CheckpointId(10)));
    assert_eq!(savepoint.operators, manifest(4).operators);
}

#[test]
fn stop_requests_are_idempotent_and_exclude_each_other() {
    let mut rig = Rig::running();
    rig.stop(Some("s")).unwrap();
    rig.stop(Some("s")).unwrap();
    assert!(matches!(
        rig.stop(None),
        Err(crate::RequestError::Conflict(_))
    ));
    assert!(matches!(
        rig.savepoint("t"),
        Err(crate::RequestError::Conflict(_))
    ));
}

#[test]
fn a_stop_cannot_reuse_the_name_of_a_savepoint() {
    let mut rig = Rig::running();
    rig.savepoint("s").unwrap();
    assert!(matches!(
        rig.stop(Some("s")),
        Err(crate::RequestError::Conflict(_))
    ));
}

#[test]
fn a_savepoint_that_a_completing_job_cannot_take_any_more_has_failed() {
    let mut rig = Rig::new();
    rig.savepoint("s").unwrap();
    rig.tell(Event::AlreadyCompleted(None));
    assert_eq!(
        rig.job.savepoint("s").unwrap().state,
        CheckpointState::Failed
    );
}

#[test]
fn a_cancelled_job_ends_without_a_checkpoint_whatever_it_was_doing() {
    let mut waiting = Rig::new();
    waiting.prepared(1);
    let mut delayed = Rig::new();
    delayed.tell(Event::PrepareFailed(failure(ErrorKind::Retryable)));
    let mut stopping = Rig::running();
    stopping.stop(Some("s")).unwrap();
    let mut failing = Rig::running();
    failing.lose("a");
    let all = [
        Rig::running(),
        Rig::new(),
        waiting,
        delayed,
        stopping,
        failing,
    ];
    for mut rig in all {
        let finalizing = rig.finalizing().len();
        rig.cancel().unwrap();
        rig.cancel().unwrap();
        assert_eq!(rig.outcome(), None);
        assert_eq!(rig.job.state(), JobState::Stopping);
        assert!(rig.savepoint("t").is_err() && rig.stop(None).is_err());
        rig.cancelled("a");
        rig.cancelled("b");
        // What was under way comes to an end by itself.
        rig.tell(Event::PrepareFailed(failure(ErrorKind::Retryable)));
        assert_eq!(rig.count(|c| released_as(c, ReleaseReason::Stopped)), 1);
        rig.tell(Event::Released(Ok(())));
        assert_eq!(rig.outcome(), Some(&Outcome::Stopped { savepoint: None }));
        assert_eq!(rig.finalizing().len(), finalizing);
        let status = rig.job.snapshot().job;
        assert_eq!(status.message, "cancelled; its checkpoints are kept");
        if let Some(savepoint) = rig.job.savepoint("s") {
            assert_eq!(savepoint.state, CheckpointState::Failed);
        }
    }
}

#[test]
fn a_job_that_is_cancelled_while_an_attempt_begins_ends_when_that_is_done() {
    let mut rig = Rig::new();
    rig.cancel().unwrap();
    rig.join("a", 2);
    rig.prepared(1);
    assert!(rig.deploys().is_empty());
    rig.tell(Event::Released(Ok(())));
    assert_eq!(rig.outcome(), Some(&Outcome::Stopped { savepoint: None }));
}

/// A running job whose checkpoints are deleted when it is cancelled.
fn discarding() -> Rig {
    let discards = Settings {
        discards: true,
        ..settings()
    };
    Rig::with(discards, strategy()).run()
}

#[test]
fn checkpoints_go_with_a_job_that_is_cancelled_and_with_no_other() {
    let discards = |rig: &Rig| rig.count(|c| matches!(c, Command::Chain(Operation::Discard(_))));
    let mut cancelled = discarding();
    cancelled.cancel().unwrap();
    cancelled.cancelled("a");
    cancelled.cancelled("b");
    assert_eq!(discards(&cancelled), 1);
    cancelled.tell(Event::Released(Err(failure(ErrorKind::Retryable))));
    let status = cancelled.job.snapshot().job;
    assert_eq!(status.state, JobState::Stopped);
    assert!(status.message.contains("as the test wants"), "{status:?}");

    let mut stopped = discarding();
    stopped.complete(11);
    stopped.stop(None).unwrap();
    stopped.complete(12);
    let mut failed = discarding();
    let attempt = failed.attempt();
    failed.say(
        "a",
        ToCoordinator::TaskFailed {
            attempt,
            task: task(0, 0),
            failure: failure(ErrorKind::InvalidJob),
        },
    );
    failed.cancelled("a");
    failed.cancelled("b");
    // It is cancelled, and a decided checkpoint turns out to be lost before that is done.
    let mut lost = discarding();
    lost.acknowledge(11);
    lost.cancel().unwrap();
    lost.tell(Event::Finalized {
        attempt: Attempt(1),
        checkpoint: CheckpointId(11),
        result: Err(NotFinalized::NotCommitted(
            written(),
            failure(ErrorKind::DataLoss),
        )),
    });
    lost.cancelled("a");
    lost.cancelled("b");
    for mut rig in [stopped, failed, lost] {
        assert_eq!(
            rig.count(|c| matches!(c, Command::Chain(Operation::Release(_)))),
            1
        );
        rig.tell(Event::Released(Ok(())));
        assert!(rig.outcome().is_some());
        assert_eq!(discards(&rig), 0);
    }
}

#[test]
fn a_job_that_has_ended_cannot_be_cancelled() {
    let mut rig = Rig::new();
    rig.tell(Event::AlreadyCompleted(None));
    assert!(matches!(
        rig.cancel(),
        Err(crate::RequestError::Conflict(_))
    ));
}
