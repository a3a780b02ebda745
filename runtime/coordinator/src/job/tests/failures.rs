use millstream_checkpoint::ReleaseReason;
use millstream_spec::restart::NoRestart;

use super::*;

const CANCEL: ToWorker = ToWorker::Cancel {
    attempt: Attempt(1),
};

#[test]
fn after_the_loss_of_a_worker_the_others_stop_before_the_next_attempt_is_claimed() {
    let mut rig = Rig::running();
    rig.lose("a");
    assert!(rig.was_sent("b", &CANCEL) && !rig.was_sent("a", &CANCEL));
    rig.pass(1_500);
    assert_eq!(rig.prepares(), 1, "b has not answered");
    rig.cancelled("b");
    assert_eq!(rig.prepares(), 2, "the delay is over by now");
    let snapshot = rig.job.snapshot();
    assert_eq!(snapshot.job.restarts, 1);
    assert_eq!(snapshot.job.state, JobState::Restoring);
}

#[test]
fn a_worker_that_does_not_stop_its_tasks_is_dropped() {
    let mut rig = Rig::running();
    rig.lose("a");
    rig.pass(2_000);
    assert_eq!(
        rig.count(|command| *command
            == Command::Disconnect {
                worker: worker("b")
            }),
        1
    );
    assert!(rig.job.snapshot().job.workers.is_empty());
    assert_eq!(rig.prepares(), 2);
}

#[test]
fn the_delay_counts_from_the_failure() {
    let mut rig = Rig::running();
    rig.lose("a");
    rig.pass(600);
    rig.cancelled("b");
    assert_eq!(rig.prepares(), 1);
    rig.pass(399);
    assert_eq!(rig.prepares(), 1);
    rig.pass(1);
    assert_eq!(rig.prepares(), 2);
}

#[test]
fn a_failure_that_a_restart_cannot_help_gives_the_job_up() {
    for kind in [
        ErrorKind::InvalidJob,
        ErrorKind::CorruptData,
        ErrorKind::DataLoss,
    ] {
        let mut rig = Rig::running();
        rig.say(
            "a",
            ToCoordinator::TaskFailed {
                attempt: Attempt(1),
                task: task(0, 0),
                failure: failure(kind),
            },
        );
        assert!(rig.was_sent("a", &CANCEL) && rig.was_sent("b", &CANCEL));
        rig.cancelled("a");
        rig.cancelled("b");
        assert_eq!(rig.count(|c| released_as(c, ReleaseReason::Failed)), 1);
        rig.tell(Event::Released(Ok(())));
        let Some(Outcome::Failed(failure)) = rig.outcome() else {
            panic!("{kind:?}: {:?}", rig.outcome());
        };
        assert_eq!(failure.kind, kind);
        assert!(failure.message.contains("task 0.0 in a"), "{failure}");
        assert!(rig.was_sent("a", &ToWorker::Shutdown));
        assert_eq!(rig.job.state(), JobState::Failed);
        assert_eq!(rig.prepares(), 1);
    }
}

#[test]
fn a_worse_failure_while_tasks_stop_is_not_overlooked() {
    let mut rig = Rig::running();
    rig.lose("a");
    rig.say(
        "b",
        ToCoordinator::TaskFailed {
            attempt: Attempt(1),
            task: task(0, 1),
            failure: failure(ErrorKind::CorruptData),
        },
    );
    rig.cancelled("b");
    rig.tell(Event::Released(Ok(())));
    assert!(matches!(rig.outcome(), Some(Outcome::Failed(f)) if f.kind == ErrorKind::CorruptData));
}

#[test]
fn a_strategy_that_allows_no_more_restarts_gives_the_job_up() {
    let fixed = RestartStrategy::FixedDelay(FixedDelay {
        delay: KubeDuration::from_secs(0),
        attempts: 1,
    });
    let mut rig = Rig::with(settings(), fixed).run();
    rig.lose("a");
    rig.cancelled("b");
    rig.join("c", 1);
    rig.prepared(2);
    rig.all_run();
    rig.lose("b");
    rig.cancelled("c");
    rig.tell(Event::Released(Ok(())));
    let Some(Outcome::Failed(failure)) = rig.outcome() else {
        panic!("{:?}", rig.outcome());
    };
    assert_eq!(failure.code, ErrorCode::RestartsExhausted);
    assert!(failure.message.contains("attempts"), "{failure}");
    assert!(
        failure.message.contains("MS0501"),
        "the cause is quoted: {failure}"
    );
}

#[test]
fn a_prepare_that_fails_for_now_is_tried_again_after_the_delay() {
    let mut rig = Rig::new();
    rig.tell(Event::PrepareFailed(failure(ErrorKind::Retryable)));
    assert_eq!(rig.job.state(), JobState::Restarting);
    rig.pass(1_000);
    assert_eq!(rig.prepares(), 2);
    rig.tell(Event::PrepareFailed(failure(ErrorKind::Retryable)));
    rig.pass(1_499);
    assert_eq!(rig.prepares(), 2);
    rig.pass(1);
    assert_eq!(rig.prepares(), 3);
}

#[test]
fn a_prepare_that_cannot_succeed_gives_the_job_up() {
    let mut rig = Rig::with(settings(), RestartStrategy::None(NoRestart {}));
    rig.tell(Event::PrepareFailed(failure(ErrorKind::DataLoss)));
    rig.tell(Event::Released(Ok(())));
    assert!(matches!(rig.outcome(), Some(Outcome::Failed(f)) if f.kind == ErrorKind::DataLoss));
}

#[test]
fn a_fenced_coordinator_stops_its_tasks_and_writes_nothing_more() {
    let fenced = || failure(ErrorKind::Fenced);
    let by_decision: fn(&mut Rig, Failure) = |rig, failure| {
        rig.acknowledge(11);
        rig.tell(Event::Finalized {
            attempt: Attempt(1),
            checkpoint: CheckpointId(11),
            result: Err(NotFinalized::NotDecided(failure)),
        });
    };
    let by_commit: fn(&mut Rig, Failure) = |rig, failure| {
        rig.acknowledge(11);
        rig.tell(Event::Finalized {
            attempt: Attempt(1),
            checkpoint: CheckpointId(11),
            result: Err(NotFinalized::NotCommitted(written(), failure)),
        });
    };
    let by_claim: fn(&mut Rig, Failure) = |rig, failure| {
        rig.lose("a");
        rig.pass(2_000);
        rig.tell(Event::PrepareFailed(failure));
    };
    for fence in [by_decision, by_commit, by_claim] {
        let mut rig = Rig::running();
        fence(&mut rig, fenced());
        assert_eq!(rig.outcome(), Some(&Outcome::Fenced(fenced())));
        assert!(
            !rig.sent()
                .any(|(_, message)| *message == ToWorker::Shutdown)
        );
        assert_eq!(
            rig.count(|command| matches!(command, Command::Chain(Operation::Release(_)))),
            0
        );
        let before = rig.commands.len();
        rig.join("late", 2);
        rig.pass(60_000);
        assert_eq!(rig.commands.len(), before);
    }
}

#[test]
fn lost_output_is_never_skipped_even_if_the_attempt_has_failed_meanwhile() {
    let mut rig = Rig::running();
    rig.acknowledge(11);
    rig.lose("a");
    rig.tell(Event::Finalized {
        attempt: Attempt(1),
        checkpoint: CheckpointId(11),
        result: Err(NotFinalized::NotCommitted(
            written(),
            failure(ErrorKind::DataLoss),
        )),
    });
    rig.cancelled("b");
    rig.tell(Event::Released(Ok(())));
    assert!(matches!(rig.outcome(), Some(Outcome::Failed(f)) if f.kind == ErrorKind::DataLoss));
}

#[test]
fn a_checkpoint_that_is_decided_after_its_attempt_failed_is_recorded() {
    let mut rig = Rig::running();
    rig.acknowledge(11);
    rig.lose("a");
    rig.finalized(11);
    let snapshot = rig.job.snapshot();
    assert_eq!(snapshot.counts.completed, 1);
    assert_eq!(snapshot.job.last_checkpoint.unwrap().id, CheckpointId(11));
    assert!(
        !rig.sent()
            .any(|(_, message)| matches!(message, ToWorker::Completed { .. }))
    );
}

#[test]
fn an_interrupted_coordinator_leaves_the_chain_as_it_is() {
    let mut rig = Rig::running();
    rig.tell(Event::Interrupted);
    assert_eq!(rig.outcome(), Some(&Outcome::Interrupted));
    assert_eq!(
        rig.count(|command| matches!(command, Command::Chain(Operation::Release(_)))),
        0
    );
    assert!(
        !rig.sent()
            .any(|(_, message)| *message == ToWorker::Shutdown)
    );
}

#[test]
fn what_an_attempt_has_left_open_is_undone_before_the_restart_delay() {
    let mut rig = Rig::running();
    rig.lose("a");
    assert_eq!(
        rig.count(|c| *c == Command::Chain(Operation::Sweep)),
        0,
        "tasks still run"
    );
    rig.cancelled("b");
    assert_eq!(rig.count(|c| *c == Command::Chain(Operation::Sweep)), 1);
    assert_eq!((rig.prepares(), rig.job.state()), (1, JobState::Restarting));
}

#[test]
fn an_attempt_that_cannot_decide_any_more_is_over_although_failures_are_tolerated() {
    let tolerant = Settings {
        tolerable_failures: 5,
        ..settings()
    };
    let mut rig = Rig::with(tolerant, strategy()).run();
    rig.acknowledge(11);
    rig.tell(Event::Finalized {
        attempt: Attempt(1),
        checkpoint: CheckpointId(11),
        result: Err(NotFinalized::Undecidable(failure(ErrorKind::Retryable))),
    });
    assert_eq!(rig.job.state(), JobState::Restarting);
    let checkpoints = rig.job.snapshot().checkpoints;
    assert_eq!(
        checkpoints[0].summary.failure,
        Some(failure(ErrorKind::Retryable).into())
    );
    rig.cancelled("a");
    rig.cancelled("b");
    rig.pass(1_000);
    rig.prepared(2);
    assert_eq!(rig.job.state(), JobState::Deploying);
}
