//! Transactions that the other side gives up while the job is away or the store does not answer.

use millstream_checkpoint::{ReleaseReason, StorageOptions};
use millstream_coordinator::{Outcome, Restore};
use millstream_types::api::JobState;
use millstream_types::{Attempt, CheckpointId, ErrorCode, ErrorKind};

use crate::scenario::{Running, Scenario};
use crate::sink::{Act, Stand};

/// Names of all transactions that checkpoints in the chain list.
async fn newest_listed(scenario: &Scenario) -> Vec<String> {
    let newest = scenario.chain().await.newest.unwrap();
    let listed = newest.committables(&"out".into()).into_iter();
    listed.map(|listed| listed.transaction.0).collect()
}

fn stand(scenario: &Scenario, name: &str) -> Stand {
    scenario.ledger().transactions[name].1
}

#[tokio::test]
async fn a_checkpoint_is_not_decided_when_what_it_lists_is_gone_and_the_job_goes_on_by_itself() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    {
        let mut ledger = scenario.ledger();
        ledger.is_late = true;
        ledger.gives_up_when_asked = true;
    }
    let snapshot = running
        .wait_for("a restart", |snapshot| snapshot.job.restarts == 1)
        .await;
    {
        let mut ledger = scenario.ledger();
        ledger.is_late = false;
        ledger.gives_up_when_asked = false;
    }
    let failure = snapshot.job.last_failure.clone().unwrap();
    let what = (failure.code.clone(), failure.kind.clone());
    assert_eq!(
        what,
        (
            ErrorCode::KafkaTransactionLost.into(),
            ErrorKind::Retryable.into()
        )
    );
    assert!(failure.message.contains("nothing is lost"), "{failure}");
    let completed = snapshot.counts.completed;
    running
        .wait_for("further checkpoints", |snapshot| {
            snapshot.counts.completed > completed + 1 && snapshot.job.attempt > Attempt(1)
        })
        .await;
    let gone = scenario.ledger().that_stand(Stand::Aborted);
    assert!(!gone.is_empty());
    for name in newest_listed(&scenario).await {
        assert!(!gone.contains(&name), "{name} is listed and gone");
    }
    assert_eq!(running.handle.snapshot().job.given_up, None);
}

/// Runs the job up to a decided checkpoint of which nothing can be committed, gives so many of its
/// transactions up, and lets commits through again.
async fn decide_and_give_up(scenario: &Scenario, running: &Running, count: usize) -> CheckpointId {
    running.wait_for_checkpoints(2).await;
    scenario.ledger().unreachable = true;
    let (_, listed) = scenario.uncommitted().await;
    {
        let mut ledger = scenario.ledger();
        for name in listed.iter().take(count) {
            ledger.transactions.get_mut(name).unwrap().1 = Stand::Aborted;
        }
        ledger.proves = true;
    }
    let newest = scenario.chain().await.newest.unwrap();
    scenario.ledger().unreachable = false;
    newest.checkpoint
}

#[tokio::test]
async fn where_all_of_the_newest_checkpoint_is_aborted_the_job_goes_back_to_the_one_before() {
    let mut scenario = Scenario::default();
    scenario.checkpoint = format!("{}, retained: 20", scenario.checkpoint);
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    let lost = decide_and_give_up(&scenario, &running, usize::MAX).await;
    let snapshot = running
        .wait_for("it goes back", |snapshot| snapshot.job.given_up.is_some())
        .await;
    let given_up = snapshot.job.given_up.clone().unwrap();
    let numbers = (given_up.checkpoint, given_up.went_back_to);
    assert_eq!(numbers, (lost, CheckpointId(lost.0 - 1)));
    assert_eq!(given_up.failure.code, ErrorCode::KafkaTransactionLost);

    let snapshot = running.wait_for_state(JobState::Running).await;
    let state = scenario.chain().await;
    let entry = |id| {
        let mut entries = state.checkpoints.iter();
        entries.find(|entry| entry.id == id).unwrap().clone()
    };
    let (before, gone) = (entry(given_up.went_back_to), entry(lost));
    assert!(before.committed && !before.given_up, "{before:?}");
    assert!(gone.given_up && !gone.committed, "{gone:?}");
    assert_eq!(snapshot.job.restored_from, Some(before.path.clone()));
    // Every split is read again from where the last committed output ended.
    let deploy = worker.deployment().unwrap();
    let restored = deploy.tasks.iter().flat_map(|task| &task.restore);
    let read: u64 = restored.map(|(_, state)| state.counters.records_in).sum();
    let counted =
        millstream_checkpoint::read_savepoint(&before.path, &StorageOptions::default()).await;
    let totals = counted.unwrap().totals();
    let before_in: u64 = totals.values().map(|total| total.records_in).sum();
    assert_eq!(read, before_in);

    let completed = snapshot.counts.completed;
    running
        .wait_for("further checkpoints", |snapshot| {
            snapshot.counts.completed > completed + 1
        })
        .await;
    assert!(running.handle.snapshot().audit.gaps.is_empty());
    running.crash().await;
    drop(worker);

    // Nobody starts from a checkpoint whose output nobody will ever see.
    let refused = scenario.start(Restore::Path(gone.path)).outcome().await;
    let Outcome::Failed(failure) = refused else {
        panic!("it was taken: {refused:?}");
    };
    assert_eq!(failure.code, ErrorCode::CheckpointMissing);
    assert!(failure.message.contains("given up"), "{failure}");
}

#[tokio::test]
async fn a_coordinator_that_was_away_for_too_long_goes_back_as_well() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    scenario.ledger().unreachable = true;
    let (_, listed) = scenario.uncommitted().await;
    running.crash().await;
    drop(worker);
    // At first one of them is gone, and the other is given up while it is looked at.
    {
        let mut ledger = scenario.ledger();
        ledger.transactions.get_mut(&listed[0]).unwrap().1 = Stand::Aborted;
        ledger.unreachable = false;
        ledger.is_late = true;
        ledger.gives_up_when_asked = true;
        ledger.proves = true;
        ledger.acts.clear();
    }
    // What follows the claim does not succeed, so that several attempts find the same.
    scenario.topic().failure = Some(millstream_types::Failure::new(
        ErrorCode::KafkaUnreachable,
        ErrorKind::Retryable,
        "as the test wants",
    ));
    let running = scenario.start(Restore::Latest);
    running
        .wait_for("several attempts", |snapshot| snapshot.job.restarts >= 2)
        .await;
    scenario.topic().failure = None;
    scenario.ledger().is_late = false;
    let _worker = scenario.worker("b", 2, &running).await;
    let snapshot = running.wait_for_checkpoints(2).await;
    assert!(snapshot.job.given_up.is_some());
    for name in listed {
        assert_eq!(stand(&scenario, &name), Stand::Aborted, "{name}");
        let commits = scenario.ledger().acts.contains(&Act::Commit(name.clone()));
        assert!(!commits, "{name} was committed");
    }
}

#[tokio::test]
async fn a_checkpoint_of_which_a_part_is_committed_is_for_a_person() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    let lost = decide_and_give_up(&scenario, &running, 1).await;
    let Outcome::Failed(failure) = running.outcome().await else {
        panic!("the loss was not noticed");
    };
    assert_eq!(failure.kind, ErrorKind::DataLoss);
    let remedy = format!("`--accept-lost-output {lost}`");
    assert!(failure.message.contains(&remedy), "{failure}");
    assert_eq!(
        scenario.chain().await.released(),
        Some(ReleaseReason::Failed)
    );
}

/// A transaction of an attempt that no checkpoint lists.
fn open(scenario: &Scenario, name: &str, attempt: u64) {
    let transaction = (Attempt(attempt), Stand::Open);
    let mut ledger = scenario.ledger();
    ledger.transactions.insert(name.to_owned(), transaction);
}

#[tokio::test]
async fn a_job_that_ends_leaves_nothing_open() {
    for failing in [true, false] {
        let scenario = Scenario::default();
        let running = scenario.start(Restore::Latest);
        let _worker = scenario.worker("a", 2, &running).await;
        running.wait_for_checkpoints(1).await;
        open(&scenario, "left", 1);
        if failing {
            decide_and_give_up(&scenario, &running, 1).await;
        } else {
            running.handle.cancel().await.unwrap();
        }
        let outcome = running.outcome().await;
        assert_eq!(matches!(outcome, Outcome::Failed(_)), failing);
        assert_eq!(stand(&scenario, "left"), Stand::Aborted);
    }
}

#[tokio::test]
async fn a_cancelled_job_goes_on_from_its_newest_checkpoint_when_it_is_started_again() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    running.handle.cancel().await.unwrap();
    running.handle.cancel().await.unwrap();
    assert_eq!(
        running.outcome().await,
        Outcome::Stopped { savepoint: None }
    );
    drop(worker);
    let state = scenario.chain().await;
    assert_eq!(state.released(), Some(ReleaseReason::Stopped));
    let again = scenario.start(Restore::Latest);
    let snapshot = again.wait_for_state(JobState::WaitingForWorkers).await;
    assert_eq!(snapshot.job.restored_from, state.newest_path);
}

#[tokio::test]
async fn checkpoints_are_deleted_with_a_job_that_is_cancelled_if_its_retention_says_so() {
    let mut scenario = Scenario::default();
    scenario.ledger().reservations = vec!["kafka/cluster-a/prefix".to_owned()];
    let retention = "retention: DeleteOnCancellation";
    scenario.checkpoint = format!("{}, {retention}", scenario.checkpoint);
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    running.handle.savepoint("kept").await.unwrap();
    running
        .wait_for("the savepoint", |snapshot| {
            let kept = snapshot.savepoints.get("kept");
            kept.is_some_and(|kept| kept.path.is_some())
        })
        .await;
    running.handle.cancel().await.unwrap();
    let snapshot = running.wait_for_state(JobState::Stopped).await;
    assert_eq!(
        snapshot.job.message,
        "cancelled; its checkpoints are deleted"
    );
    drop((running.outcome().await, worker));
    let state = scenario.chain().await;
    assert_eq!((state.newest, state.checkpoints.len()), (None, 0));
    assert_eq!(state.release.unwrap().reason, ReleaseReason::Deleted);
    let savepoint = "default/orders/savepoints/kept/manifest.json";
    let savepoint = scenario.storage_path().join(savepoint);
    assert!(savepoint.try_exists().unwrap());
    // Its names are free.
    scenario.name = "payments".to_owned();
    let other = scenario.start(Restore::Latest);
    other.wait_for_state(JobState::WaitingForWorkers).await;
}

#[tokio::test]
async fn checkpoints_stay_with_a_cancelled_job_while_output_of_them_is_not_committed() {
    let mut scenario = Scenario::default();
    let retention = "timeout: 300ms, retention: DeleteOnCancellation";
    scenario.checkpoint = format!("interval: 50ms, {retention}");
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.ledger().unreachable = true;
    let (path, listed) = scenario.uncommitted().await;
    running.handle.cancel().await.unwrap();
    let snapshot = running.wait_for_state(JobState::Stopped).await;
    let message = &snapshot.job.message;
    assert!(message.contains("not known to be committed"), "{message}");
    drop(running.outcome().await);
    assert_eq!(scenario.chain().await.newest_path, Some(path));
    for name in &listed {
        assert_eq!(stand(&scenario, name), Stand::Open, "{name}");
    }
    scenario.ledger().unreachable = false;
    let again = scenario.start(Restore::Latest);
    again.wait_for_state(JobState::WaitingForWorkers).await;
    for name in &listed {
        assert_eq!(stand(&scenario, name), Stand::Committed, "{name}");
    }
}

#[tokio::test]
async fn transactions_are_found_under_the_name_that_their_attempt_gave_them() {
    for reaches in [false, true] {
        let scenario = Scenario::default();
        scenario.ledger().family = Some("old-prefix".to_owned());
        let first = scenario.start(Restore::Latest);
        first.wait_for_state(JobState::WaitingForWorkers).await;
        first.crash().await;
        {
            let mut ledger = scenario.ledger();
            ledger.family = Some("new-prefix".to_owned());
            ledger
                .reaches
                .extend(reaches.then(|| "old-prefix".to_owned()));
            ledger.acts.clear();
        }
        // Whether they are reached or not, the job goes on.
        let running = scenario.start(Restore::Latest);
        running.wait_for_state(JobState::WaitingForWorkers).await;
        let swept = Act::SweepFamily("old-prefix".to_owned(), vec![Attempt(1)]);
        let expected: Vec<Act> = reaches.then_some(swept).into_iter().collect();
        assert_eq!(scenario.ledger().acts, expected);
        running.crash().await;
    }
}
