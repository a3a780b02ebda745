use millstream_coordinator::{Outcome, Restore};
use millstream_types::api::JobState;
use millstream_types::protocol::ToWorker;
use millstream_types::{Attempt, CheckpointId, ErrorCode, ErrorKind, Failure, OperatorUid};

use crate::scenario::{Scenario, until};
use crate::sink::{Act, Stand};
use crate::worker::Manners;

#[tokio::test]
async fn a_new_coordinator_goes_on_from_the_newest_checkpoint() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(3).await;
    running.crash().await;
    drop(worker);
    let state = scenario.chain().await;
    let (newest, newest_path) = (state.newest.unwrap(), state.newest_path);
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    let deploy = worker.deployment().unwrap();
    assert_eq!(deploy.attempt, Attempt(2));
    let restored: Vec<_> = deploy
        .tasks
        .iter()
        .flat_map(|task| &task.restore)
        .flat_map(|(_, state)| &state.splits)
        .cloned()
        .collect();
    let mut kept: Vec<_> = newest.operators[&OperatorUid::from("orders")]
        .values()
        .flat_map(|state| state.splits.clone())
        .collect();
    assert_eq!(restored.len(), kept.len());
    kept.retain(|split| !restored.contains(split));
    assert_eq!(kept, []);
    assert_eq!(running.handle.snapshot().job.restored_from, newest_path);
    assert_eq!(running.handle.snapshot().audit.gaps, Vec::<String>::new());
}

#[tokio::test]
async fn what_was_decided_is_committed_and_everything_else_aborted_before_tasks_are_deployed() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    // From here on nothing can be committed, as if the coordinator died after a decision.
    scenario.ledger().unreachable = true;
    let (_, listed) = scenario.uncommitted().await;
    running.crash().await;
    drop(worker);
    assert!(!listed.is_empty());
    {
        let mut ledger = scenario.ledger();
        ledger.unreachable = false;
        ledger.acts.clear();
        // A transaction that the dead attempt had open besides.
        ledger
            .transactions
            .insert("open".to_owned(), (Attempt(1), Stand::Open));
    }
    let running = scenario.start(Restore::Latest);
    running.wait_for_state(JobState::WaitingForWorkers).await;
    {
        let ledger = scenario.ledger();
        let commits: Vec<Act> = listed.iter().cloned().map(Act::Commit).collect();
        let mut expected = commits;
        expected.push(Act::Sweep(vec![Attempt(1)]));
        assert_eq!(ledger.acts, expected);
        assert_eq!(ledger.transactions["open"].1, Stand::Aborted);
    }
    let state = scenario.chain().await;
    assert!(state.newest_is_committed());
    assert_eq!(state.swept_through, Attempt(1));
    // The next start finds nothing left to do.
    running.crash().await;
    scenario.ledger().acts.clear();
    let running = scenario.start(Restore::Latest);
    running.wait_for_state(JobState::WaitingForWorkers).await;
    assert_eq!(scenario.ledger().acts, [Act::Sweep(vec![Attempt(2)])]);
}

#[tokio::test]
async fn what_a_dying_attempt_opens_behind_the_sweep_is_aborted_with_the_next_checkpoint() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    running.crash().await;
    drop(worker);
    let running = scenario.start(Restore::Latest);
    running.wait_for_state(JobState::WaitingForWorkers).await;
    let late = ("late".to_owned(), (Attempt(1), Stand::Open));
    scenario.ledger().transactions.extend([late]);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    until("it is aborted", || {
        scenario.ledger().transactions["late"].1 == Stand::Aborted
    })
    .await;
}

#[tokio::test]
async fn commits_are_tried_again_while_the_other_side_is_away() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.ledger().unreachable = true;
    until("a transaction waits", || {
        !scenario.ledger().that_stand(Stand::Open).is_empty()
    })
    .await;
    scenario.ledger().unreachable = false;
    let completed = running.handle.snapshot().counts.completed;
    let snapshot = running
        .wait_for("further checkpoints", |snapshot| {
            snapshot.counts.completed > completed + 2
        })
        .await;
    assert_eq!((snapshot.job.restarts, snapshot.counts.failed), (0, 0));
}

/// Runs the job until its sink has lost what a checkpoint has prepared. The checkpoint, and what
/// the job says.
async fn lose_output(scenario: &Scenario) -> (CheckpointId, Failure) {
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.ledger().unreachable = true;
    let (_, lost) = scenario.uncommitted().await;
    {
        let mut ledger = scenario.ledger();
        for name in &lost {
            ledger.transactions.get_mut(name).unwrap().1 = Stand::Aborted;
        }
        ledger.unreachable = false;
    }
    let Outcome::Failed(failure) = running.outcome().await else {
        panic!("the loss was not noticed");
    };
    let newest = scenario.chain().await.newest.unwrap();
    (newest.checkpoint, failure)
}

#[tokio::test]
async fn a_lost_transaction_fails_the_job_on_this_start_and_every_other() {
    let scenario = Scenario::default();
    let (checkpoint, failure) = lose_output(&scenario).await;
    assert_eq!(
        (failure.code, failure.kind),
        (ErrorCode::KafkaTransactionLost, ErrorKind::DataLoss)
    );
    let remedy = format!("`--accept-lost-output {checkpoint}`");
    for part in ["sink out", "2 of its transactions", &remedy] {
        assert!(failure.message.contains(part), "no `{part}` in: {failure}");
    }
    for restore in [Restore::Latest, Restore::Fresh] {
        let acts = scenario.ledger().acts.len();
        let running = scenario.start(restore);
        let Outcome::Failed(again) = running.outcome().await else {
            panic!("the loss was skipped");
        };
        assert_eq!(again.code, ErrorCode::KafkaTransactionLost);
        assert_eq!(
            scenario.ledger().acts.len(),
            acts,
            "nothing else was touched"
        );
    }
}

#[tokio::test]
async fn lost_output_is_given_up_for_the_one_checkpoint_that_is_named() {
    let mut scenario = Scenario::default();
    let (first, _) = lose_output(&scenario).await;
    scenario.accept_lost_output = Some(first.next());
    let running = scenario.start(Restore::Latest);
    let refused = running.outcome().await;
    assert!(matches!(refused, Outcome::Failed(_)), "{refused:?}");
    scenario.accept_lost_output = Some(first);
    // The very same start gets over the first loss and not over the second.
    let (second, failure) = lose_output(&scenario).await;
    assert!(second > first, "{second} is not behind {first}");
    assert_eq!(failure.code, ErrorCode::KafkaTransactionLost);
    let remedy = format!("`--accept-lost-output {second}`");
    assert!(failure.message.contains(&remedy), "{failure}");
}

#[tokio::test]
async fn a_deposed_coordinator_is_fenced_by_its_next_decision_and_its_workers_stop() {
    let scenario = Scenario::default();
    let old = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &old).await;
    old.wait_for_checkpoints(1).await;
    let new = scenario.start(Restore::Latest);
    let Outcome::Fenced(failure) = old.outcome().await else {
        panic!("the old coordinator was not fenced");
    };
    assert_eq!(failure.code, ErrorCode::Fenced);
    assert!(worker.was_told(|message| matches!(message, ToWorker::Cancel { .. })));
    assert!(!worker.was_told(|message| *message == ToWorker::Shutdown));
    let _worker = scenario.worker("b", 2, &new).await;
    new.wait_for_checkpoints(2).await;
    assert_eq!(new.handle.snapshot().job.attempt, Attempt(2));
}

#[tokio::test]
async fn a_deposed_coordinator_gives_up_commits_that_it_tries_again() {
    let scenario = Scenario::default();
    let old = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &old).await;
    old.wait_for_checkpoints(1).await;
    scenario.ledger().unreachable = true;
    until("a transaction waits", || {
        !scenario.ledger().that_stand(Stand::Open).is_empty()
    })
    .await;
    scenario.claim("successor").await;
    assert!(matches!(old.outcome().await, Outcome::Fenced(_)));
}

#[tokio::test]
async fn a_transaction_that_is_unknown_to_a_deposed_coordinator_is_not_its_loss() {
    let scenario = Scenario::default();
    let old = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &old).await;
    old.wait_for_checkpoints(1).await;
    // Between a decision and its commit a successor claims, commits, and forgets.
    let sink = scenario.sink.clone();
    let claim = scenario.claim("successor");
    scenario.ledger().before_commit = Some(Box::pin(async move {
        claim.await;
        sink.0.lock().unwrap().transactions.clear();
    }));
    assert!(matches!(old.outcome().await, Outcome::Fenced(_)));
}

#[tokio::test]
async fn a_checkpoint_of_another_job_is_committed_and_not_swept_when_it_is_imported() {
    let mut scenario = Scenario::default();
    // That job was killed.
    scenario.overrides.fork = true;
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.ledger().unreachable = true;
    let (path, listed) = scenario.uncommitted().await;
    running.crash().await;
    drop(worker);
    scenario.ledger().unreachable = false;

    // The other job has a life behind it, whose leftovers have to be swept.
    scenario.name = "copy".to_owned();
    let earlier = scenario.start(Restore::Latest);
    earlier.wait_for_state(JobState::WaitingForWorkers).await;
    earlier.crash().await;
    let copy = scenario.start(Restore::Path(path));
    let _worker = scenario.worker("b", 2, &copy).await;
    copy.wait_for_checkpoints(1).await;
    assert!(
        scenario
            .ledger()
            .acts
            .contains(&Act::Sweep(vec![Attempt(1)]))
    );
    for name in listed {
        assert_eq!(
            scenario.ledger().transactions[&name].1,
            Stand::Committed,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_deposed_coordinator_does_not_come_back_when_its_workers_leave_it() {
    let scenario = Scenario::default();
    let old = scenario.start(Restore::Latest);
    let manners = Manners {
        ignores_barriers: true,
        ..Manners::default()
    };
    let worker = scenario.worker_with("a", 2, &old, manners).await;
    old.wait_for_state(JobState::Running).await;
    let new = scenario.start(Restore::Latest);
    new.wait_for_state(JobState::WaitingForWorkers).await;
    drop(worker);
    assert!(matches!(old.outcome().await, Outcome::Fenced(_)));
    assert_eq!(
        scenario.chain().await.claims.last().unwrap().attempt,
        Attempt(2)
    );
    let _worker = scenario.worker("b", 2, &new).await;
    new.wait_for_checkpoints(1).await;
}

#[tokio::test]
async fn where_a_job_begins_is_decided_once() {
    let scenario = Scenario::default();
    scenario.topic().end = 500;
    let first = scenario.start(Restore::Latest);
    first.wait_for_state(JobState::WaitingForWorkers).await;
    first.crash().await;
    // More records have come meanwhile. They belong to the job too.
    scenario.topic().end = 900;
    let second = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &second).await;
    second.wait_for_checkpoints(1).await;
    let deploy = worker.deployment().unwrap();
    let positions: Vec<String> = deploy
        .tasks
        .iter()
        .flat_map(|task| &task.restore)
        .flat_map(|(_, state)| &state.splits)
        .map(|split| split.position.0.clone())
        .collect();
    assert_eq!(positions, ["500"; 4]);
    assert_eq!(scenario.topic().first_discoveries, 1);
}

#[tokio::test]
async fn a_fresh_start_ignores_state_and_still_keeps_what_was_decided() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    running.crash().await;
    drop(worker);
    let before = scenario.chain().await.newest.unwrap();
    scenario.topic().end = 7_000;
    let running = scenario.start(Restore::Fresh);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    let deploy = worker.deployment().unwrap();
    for (_, state) in deploy.tasks.iter().flat_map(|task| &task.restore) {
        assert!(state.splits.iter().all(|split| split.position.0 == "7000"));
        assert_eq!(state.counters.records_in, 0);
    }
    for committable in before.committables(&"out".into()) {
        let stand = scenario.ledger().transactions[&committable.transaction.0].1;
        assert_eq!(stand, Stand::Committed);
    }
    assert_eq!(running.handle.snapshot().job.restored_from, None);
    // A later attempt goes on from there, not from the state that was ignored.
    drop(worker);
    let worker = scenario.worker("b", 2, &running).await;
    running
        .wait_for("a new attempt", |snapshot| {
            snapshot.job.state == JobState::Running && snapshot.job.restarts == 1
        })
        .await;
    let deploy = worker.deployment().unwrap();
    for (_, state) in deploy.tasks.iter().flat_map(|task| &task.restore) {
        assert!(
            state
                .splits
                .iter()
                .all(|split| split.position.0.parse::<u64>().unwrap() >= 7_000)
        );
    }
}

#[tokio::test]
async fn another_cluster_behind_the_same_name_is_refused() {
    let scenario = Scenario::default();
    let first = scenario.start(Restore::Latest);
    first.wait_for_state(JobState::WaitingForWorkers).await;
    first.crash().await;
    scenario.topic().identity = "cluster-b".to_owned();
    let Outcome::Failed(failure) = scenario.start(Restore::Latest).outcome().await else {
        panic!("it was not refused");
    };
    assert_eq!(failure.code, ErrorCode::KafkaIdentityChanged);
}

#[tokio::test]
async fn a_source_that_is_gone_from_the_job_is_not_forgotten_silently() {
    let mut scenario = Scenario::default();
    let first = scenario.start(Restore::Latest);
    first.wait_for_state(JobState::WaitingForWorkers).await;
    first.crash().await;
    scenario.source_name = "renamed".to_owned();
    let Outcome::Failed(failure) = scenario.start(Restore::Latest).outcome().await else {
        panic!("it was forgotten");
    };
    assert_eq!(failure.code, ErrorCode::IncompatibleState);
    assert!(failure.message.contains("orders"), "{failure}");
}

#[tokio::test]
async fn decided_output_of_a_sink_that_is_gone_is_given_up_only_by_its_checkpoint() {
    let mut scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.ledger().unreachable = true;
    scenario.uncommitted().await;
    running.crash().await;
    scenario.ledger().unreachable = false;
    let checkpoint = scenario.chain().await.newest.unwrap().checkpoint;
    "renamed".clone_into(&mut scenario.sink_name);
    // State may be dropped; output that was promised is another matter.
    scenario.allow_dropped_state = true;
    let Outcome::Failed(failure) = scenario.start(Restore::Latest).outcome().await else {
        panic!("it was dropped");
    };
    assert_eq!(failure.code, ErrorCode::IncompatibleState);
    let remedy = format!("`--accept-lost-output {checkpoint}`");
    for part in ["sink out", &remedy] {
        assert!(failure.message.contains(part), "no `{part}` in: {failure}");
    }
    scenario.accept_lost_output = Some(checkpoint);
    let accepted = scenario.start(Restore::Latest);
    accepted.wait_for_state(JobState::WaitingForWorkers).await;
    accepted.crash().await;
}

#[tokio::test]
async fn a_sink_that_cannot_work_is_refused_before_the_chain_is_touched() {
    let scenario = Scenario::default();
    scenario.ledger().preflight = Some(Failure::new(
        ErrorCode::KafkaTransactionTimeout,
        ErrorKind::InvalidJob,
        "too short",
    ));
    let Outcome::Failed(failure) = scenario.start(Restore::Latest).outcome().await else {
        panic!("it was not refused");
    };
    assert_eq!(failure.code, ErrorCode::KafkaTransactionTimeout);
    let state = scenario.chain().await;
    assert!(state.claims.is_empty());
}

#[tokio::test]
async fn a_name_that_another_job_has_reserved_is_refused() {
    let mut scenario = Scenario::default();
    scenario.ledger().reservations = vec!["kafka/cluster-a/prefix".to_owned()];
    let first = scenario.start(Restore::Latest);
    first.wait_for_state(JobState::WaitingForWorkers).await;
    scenario.name = "payments".to_owned();
    let Outcome::Failed(failure) = scenario.start(Restore::Latest).outcome().await else {
        panic!("it was not refused");
    };
    assert_eq!(failure.code, ErrorCode::PathTaken);
    assert!(failure.message.contains("default/orders"), "{failure}");
}
