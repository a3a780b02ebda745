use millstream_types::api::CheckpointState;
use millstream_types::snapshot::Counters;

use super::*;

#[test]
fn a_checkpoint_is_decided_once_every_task_has_acknowledged_it() {
    let mut rig = Rig::running();
    let attempt = rig.attempt();
    let hosts = rig.hosts();
    for (host, task) in &hosts[..3] {
        let (task, checkpoint) = (*task, CheckpointId(11));
        let snapshot = snapshot_of(task, &[]);
        rig.say(
            host,
            ToCoordinator::CheckpointAcknowledged {
                attempt,
                checkpoint,
                task,
                snapshot,
                passage: millstream_types::protocol::Passage::default(),
            },
        );
    }
    assert!(rig.finalizing().is_empty());
    assert_eq!(rig.job.snapshot().checkpoints[0].acknowledged, 3);
    rig.acknowledge_with(11, &[]);
    let finalizing = rig.finalizing();
    assert_eq!(finalizing.len(), 1);
    let manifest = finalizing[0];
    assert_eq!(manifest.checkpoint, CheckpointId(11));
    assert_eq!(manifest.attempt, Attempt(1));
    assert_eq!(manifest.fingerprint, "abc");
    assert_eq!(manifest.parallelism, 2);
    assert_eq!(manifest.identities.len(), 1);
    assert_eq!(manifest.operators[&OperatorUid::from("orders")].len(), 2);
    assert!(!manifest.ended);
}

#[test]
fn workers_hear_of_a_checkpoint_only_when_it_is_committed() {
    let mut rig = Rig::running();
    rig.acknowledge(11);
    let completed = ToWorker::Completed {
        attempt: Attempt(1),
        checkpoint: CheckpointId(11),
        committed: true,
    };
    assert!(!rig.was_sent("a", &completed));
    rig.finalized(11);
    assert!(rig.was_sent("a", &completed) && rig.was_sent("b", &completed));
    let snapshot = rig.job.snapshot();
    assert_eq!(snapshot.job.last_checkpoint.unwrap().id, CheckpointId(11));
    assert_eq!(
        (snapshot.counts.triggered, snapshot.counts.completed),
        (1, 1)
    );
}

#[test]
fn the_next_checkpoint_begins_after_the_interval() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.pass(999);
    assert_eq!(rig.barriers(), [11]);
    rig.pass(1);
    assert_eq!(rig.barriers(), [11, 12]);
}

#[test]
fn messages_of_older_attempts_and_from_elsewhere_change_nothing() {
    let mut rig = Rig::running();
    let message = |attempt| ToCoordinator::TaskFailed {
        attempt: Attempt(attempt),
        task: task(0, 0),
        failure: failure(ErrorKind::Retryable),
    };
    rig.say("a", message(0));
    rig.say("stranger", message(1));
    assert_eq!(rig.job.state(), JobState::Running);
    let acknowledged = |attempt, name: &str, rig: &mut Rig| {
        rig.say(
            name,
            ToCoordinator::CheckpointAcknowledged {
                attempt: Attempt(attempt),
                checkpoint: CheckpointId(11),
                task: task(0, 0),
                snapshot: TaskSnapshot::default(),
                passage: millstream_types::protocol::Passage::default(),
            },
        );
        rig.job.snapshot().checkpoints[0].acknowledged
    };
    assert_eq!(acknowledged(0, "a", &mut rig), 0);
    assert_eq!(
        acknowledged(1, "b", &mut rig),
        0,
        "the task runs in the other worker"
    );
    assert_eq!(acknowledged(1, "a", &mut rig), 1);
}

#[test]
fn a_checkpoint_that_takes_too_long_is_aborted_and_its_late_acknowledgements_are_dropped() {
    let mut rig = Rig::with(
        Settings {
            tolerable_failures: 1,
            ..settings()
        },
        strategy(),
    );
    rig = rig.run();
    rig.pass(10_000);
    let aborted = ToWorker::Aborted {
        attempt: Attempt(1),
        checkpoint: CheckpointId(11),
    };
    assert!(rig.was_sent("a", &aborted) && rig.was_sent("b", &aborted));
    assert_eq!(rig.barriers(), [11, 12], "the next one begins at once");
    rig.acknowledge(11);
    assert!(rig.finalizing().is_empty());
    let snapshot = rig.job.snapshot();
    let failed = &snapshot.checkpoints[1].summary;
    assert_eq!(failed.state, CheckpointState::Failed);
    let expired = failed.failure.as_ref().unwrap();
    assert_eq!(expired.code, ErrorCode::CheckpointExpired);
    assert!(expired.message.contains("0.0, 0.1, 1.0, 1.1"), "{expired}");
    assert!(
        snapshot.job.message.contains("failed"),
        "{}",
        snapshot.job.message
    );
    let told = snapshot.job.checkpoint_failures.unwrap();
    assert_eq!((told.in_a_row, told.tolerable), (1, 1));
    assert_eq!(told.last, *expired);
    rig.complete(12);
    assert_eq!(rig.job.snapshot().job.checkpoint_failures, None);
}

#[test]
fn one_failed_checkpoint_more_than_tolerated_ends_the_attempt() {
    let mut rig = Rig::running();
    rig.say(
        "a",
        ToCoordinator::CheckpointDeclined {
            attempt: Attempt(1),
            checkpoint: CheckpointId(11),
            task: task(1, 0),
            failure: failure(ErrorKind::Retryable),
        },
    );
    assert_eq!(rig.job.state(), JobState::Restarting);
    let failure = rig.job.snapshot().job.last_failure.unwrap();
    assert_eq!(failure.code, ErrorCode::CheckpointFailuresExceeded);
    assert!(failure.message.contains("as the test wants"), "{failure}");
}

#[test]
fn a_manifest_that_cannot_be_written_counts_as_a_failure() {
    let mut rig = Rig::running();
    rig.acknowledge(11);
    rig.tell(Event::Finalized {
        attempt: Attempt(1),
        checkpoint: CheckpointId(11),
        result: Err(NotFinalized::NotDecided(failure(ErrorKind::Retryable))),
    });
    let failure = rig.job.snapshot().job.last_failure.unwrap();
    assert_eq!(failure.code, ErrorCode::CheckpointFailuresExceeded);
}

#[test]
fn what_is_decided_but_not_committed_ends_the_attempt_and_counts_as_completed() {
    let mut rig = Rig::running();
    rig.acknowledge(11);
    rig.tell(Event::Finalized {
        attempt: Attempt(1),
        checkpoint: CheckpointId(11),
        result: Err(NotFinalized::NotCommitted(
            written(),
            failure(ErrorKind::Retryable),
        )),
    });
    assert_eq!(rig.job.state(), JobState::Restarting);
    assert_eq!(rig.job.snapshot().counts.completed, 1);
    assert!(
        !rig.sent()
            .any(|(_, message)| matches!(message, ToWorker::Completed { .. }))
    );
}

#[test]
fn a_newer_checkpoint_gives_up_the_older_ones() {
    let mut rig = Rig::with(
        Settings {
            checkpoint: TriggerSettings {
                max_concurrent: 2,
                ..settings().checkpoint
            },
            ..settings()
        },
        strategy(),
    )
    .run();
    rig.pass(1_000);
    assert_eq!(rig.barriers(), [11, 12]);
    rig.complete(12);
    assert!(rig.was_sent(
        "a",
        &ToWorker::Aborted {
            attempt: Attempt(1),
            checkpoint: CheckpointId(11),
        }
    ));
    assert_eq!(
        rig.job.state(),
        JobState::Running,
        "that is not counted as a failure"
    );
}

#[test]
fn a_savepoint_without_transactions_is_written_at_once_and_commits_nothing() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.savepoint("before-upgrade").unwrap();
    assert_eq!(rig.last_barrier().unwrap().kind, CheckpointKind::Savepoint);
    rig.acknowledge(12);
    let written_now = rig.written_savepoints();
    assert_eq!(written_now.len(), 1);
    assert_eq!(
        (written_now[0].0, written_now[0].1.checkpoint),
        ("before-upgrade", CheckpointId(12))
    );
    assert_eq!(rig.finalizing().len(), 1, "it does not go into the chain");
    rig.tell(Event::SavepointWritten {
        attempt: Attempt(1),
        checkpoint: CheckpointId(12),
        name: "before-upgrade".to_owned(),
        result: Ok(written()),
    });
    assert!(rig.was_sent(
        "a",
        &ToWorker::Completed {
            attempt: Attempt(1),
            checkpoint: CheckpointId(12),
            committed: false,
        }
    ));
    let status = rig.job.savepoint("before-upgrade").unwrap();
    assert_eq!(status.state, CheckpointState::Completed);
    assert_eq!(status.path.as_deref(), Some("file:///chain/x.json"));
    let last = rig.job.snapshot().job.last_checkpoint.unwrap();
    assert_eq!(last.id, CheckpointId(11), "nobody is restored from it");
}

#[test]
fn a_savepoint_with_transactions_is_written_when_a_later_checkpoint_has_committed_them() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.savepoint("s").unwrap();
    rig.acknowledge_with(12, &[transaction(12)]);
    assert!(rig.written_savepoints().is_empty());
    assert_eq!(
        rig.barriers(),
        [11, 12, 13],
        "the next checkpoint begins at once"
    );
    rig.acknowledge_with(13, &[transaction(12), transaction(13)]);
    assert!(rig.written_savepoints().is_empty());
    rig.finalized(13);
    let written = rig.written_savepoints();
    assert_eq!(written[0].1.checkpoint, CheckpointId(12));
    assert_eq!(written[0].1.committables(&"out".into()), []);
}

#[test]
fn a_savepoint_whose_transactions_nobody_committed_is_never_written() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.savepoint("s").unwrap();
    rig.acknowledge_with(12, &[transaction(12)]);
    rig.acknowledge_with(13, &[transaction(13)]);
    rig.finalized(13);
    assert!(rig.written_savepoints().is_empty());
    let failure = rig.job.savepoint("s").unwrap().failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::InconsistentSnapshot);
    assert_eq!(rig.job.state(), JobState::Restarting);
}

#[test]
fn a_failed_savepoint_is_not_counted_and_may_be_asked_for_again() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.savepoint("s").unwrap();
    rig.pass(10_000);
    assert_eq!(
        rig.job.savepoint("s").unwrap().state,
        CheckpointState::Failed
    );
    assert_eq!(rig.job.state(), JobState::Running);
    rig.savepoint("s").unwrap();
    assert_eq!(
        rig.job.savepoint("s").unwrap().state,
        CheckpointState::InProgress
    );
}

#[test]
fn the_same_savepoint_asked_for_twice_is_taken_once() {
    let mut rig = Rig::running();
    rig.complete(11);
    rig.savepoint("s").unwrap();
    rig.savepoint("s").unwrap();
    assert_eq!(rig.barriers(), [11, 12]);
    rig.acknowledge(12);
    rig.savepoint("s").unwrap();
    assert_eq!(rig.barriers(), [11, 12]);
}

#[test]
fn names_that_are_no_savepoint_names_are_refused() {
    let mut rig = Rig::running();
    let too_long = "a".repeat(64);
    for name in ["", "A", "a/b", "..", "ä", too_long.as_str()] {
        assert!(
            matches!(rig.savepoint(name), Err(crate::RequestError::Invalid(_))),
            "{name}"
        );
    }
}

#[test]
fn a_savepoint_that_is_asked_for_early_is_taken_when_the_tasks_run() {
    let mut rig = Rig::new();
    rig.savepoint("early").unwrap();
    let rig = rig.run();
    assert_eq!(rig.last_barrier().unwrap().kind, CheckpointKind::Savepoint);
}

#[test]
fn records_that_do_not_add_up_are_a_gap_in_the_audit() {
    let mut rig = Rig::running();
    let attempt = rig.attempt();
    for (host, task) in rig.hosts() {
        let mut snapshot = snapshot_of(task, &[]);
        for state in snapshot.operators.values_mut() {
            state.counters = Counters {
                records_in: if task.vertex.0 == 0 { 10 } else { 9 },
                records_out: 10,
                ..Counters::default()
            };
        }
        rig.say(
            &host,
            ToCoordinator::CheckpointAcknowledged {
                attempt,
                checkpoint: CheckpointId(11),
                task,
                snapshot,
                passage: millstream_types::protocol::Passage::default(),
            },
        );
    }
    rig.finalized(11);
    let audit = rig.job.snapshot().audit;
    assert_eq!(audit.checkpoint, Some(CheckpointId(11)));
    assert_eq!(audit.sources[&OperatorUid::from("orders")].records_out, 20);
    assert_eq!(
        audit.gaps,
        ["checkpoint 11: orders emitted 20 records and out received 18"]
    );
}

#[test]
fn a_checkpoint_must_be_decided_before_its_timeout_is_over() {
    let mut rig = Rig::running();
    rig.pass(4_000);
    rig.acknowledge(11);
    let deadline = rig.commands.iter().find_map(|command| match command {
        Command::Chain(Operation::Finalize { deadline, .. }) => Some(*deadline),
        _ => None,
    });
    assert_eq!(deadline, Some(millis(10_000)), "counted from its trigger");
}

#[test]
fn splits_that_are_found_while_the_job_stops_are_read_if_it_goes_on() {
    let tolerant = Settings {
        tolerable_failures: 1,
        ..settings()
    };
    let mut rig = Rig::with(tolerant, strategy()).run();
    rig.complete(11);
    rig.stop(Some("upgrade")).unwrap();
    rig.tell(Event::Discovered {
        attempt: Attempt(1),
        uid: "orders".into(),
        discovery: millstream_connect::Discovery {
            splits: vec![split("p4")],
            identity: None,
        },
    });
    let added = |rig: &Rig| {
        let messages = rig.sent().filter(|(_, message)| match message {
            ToWorker::AddSplits { splits, .. } => *splits == [split("p4")],
            _ => false,
        });
        messages.count()
    };
    assert_eq!(added(&rig), 0, "the last barrier has gone out");
    rig.pass(10_000);
    assert_eq!(rig.job.state(), JobState::Running);
    assert_eq!(added(&rig), 1);
}

/// A savepoint may be restored by a job that reads otherwise, and nothing follows the barrier of a stop.
#[test]
fn only_periodic_checkpoints_may_overtake() {
    let settings = Settings {
        checkpoint: TriggerSettings {
            aligned_timeout: Some(Duration::from_millis(250)),
            ..settings().checkpoint
        },
        ..settings()
    };
    let mut rig = Rig::with(settings, strategy()).run();
    let timeout = |rig: &Rig| rig.last_barrier().unwrap().aligned_timeout_ms;
    assert_eq!(timeout(&rig), Some(250));
    rig.complete(11);
    rig.savepoint("before").unwrap();
    assert_eq!(timeout(&rig), None);
    rig.acknowledge(12);
    rig.stop(None).unwrap();
    assert_eq!(rig.barriers(), [11, 12, 13]);
    assert_eq!(timeout(&rig), None);
}
