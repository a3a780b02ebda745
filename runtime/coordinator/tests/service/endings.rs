use millstream_checkpoint::ReleaseReason;
use millstream_coordinator::{Outcome, RequestError, Restore};
use millstream_types::api::{JobState, StopRequest};
use millstream_types::protocol::ToWorker;

use crate::scenario::{Scenario, until};
use crate::sink::Stand;
use crate::worker::Manners;

#[tokio::test]
async fn a_bounded_job_completes_and_a_later_start_ends_at_once() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let handle = running.handle.clone();
    let manners = Manners {
        ends_after: Some(2),
        ..Manners::default()
    };
    let worker = scenario.worker_with("a", 2, &running, manners).await;
    assert_eq!(running.outcome().await, Outcome::Completed);
    assert_eq!(handle.snapshot().job.state, JobState::Completed);
    assert_eq!(handle.snapshot().audit.gaps, Vec::<String>::new());
    until("the worker may go", || {
        worker.was_told(|message| *message == ToWorker::Shutdown)
    })
    .await;
    let state = scenario.chain().await;
    assert_eq!(state.released(), Some(ReleaseReason::Completed));
    assert!(state.newest.unwrap().ended);
    assert_eq!(
        scenario.ledger().that_stand(Stand::Open),
        Vec::<String>::new()
    );
    let claims = state.claims.len();

    let again = scenario.start(Restore::Latest);
    assert_eq!(again.outcome().await, Outcome::Completed);
    assert_eq!(
        scenario.chain().await.claims.len(),
        claims,
        "nothing was claimed"
    );
}

#[tokio::test]
async fn a_job_that_died_after_its_final_checkpoint_completes_without_workers() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let manners = Manners {
        ends_after: Some(1),
        ..Manners::default()
    };
    let worker = scenario.worker_with("a", 2, &running, manners).await;
    // The final checkpoint cannot be committed before the coordinator dies.
    running
        .wait_for("the first checkpoint", |snapshot| {
            snapshot.counts.completed >= 1
        })
        .await;
    running.outcome().await;
    drop(worker);
    // A claim that nobody continued hides the release.
    scenario.claim("died").await;
    assert_eq!(scenario.chain().await.released(), None);
    let again = scenario.start(Restore::Latest);
    assert_eq!(again.outcome().await, Outcome::Completed);
    assert_eq!(
        scenario.chain().await.released(),
        Some(ReleaseReason::Completed)
    );
}

#[tokio::test]
async fn a_stopped_job_has_committed_everything_and_goes_on_when_it_is_started_again() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let handle = running.handle.clone();
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    handle.stop(StopRequest::default()).await.unwrap();
    assert_eq!(
        running.outcome().await,
        Outcome::Stopped { savepoint: None }
    );
    assert_eq!(handle.snapshot().job.state, JobState::Stopped);
    assert_eq!(handle.savepoint("late").await, Err(RequestError::Ended));
    until("the worker may go", || {
        worker.was_told(|message| *message == ToWorker::Shutdown)
    })
    .await;
    let state = scenario.chain().await;
    assert_eq!(state.released(), Some(ReleaseReason::Stopped));
    assert!(state.newest_is_committed());
    assert_eq!(
        scenario.ledger().that_stand(Stand::Open),
        Vec::<String>::new()
    );
    drop(worker);

    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    let snapshot = running.wait_for_checkpoints(1).await;
    assert_eq!(snapshot.job.restored_from, state.newest_path);
    assert_eq!(snapshot.audit.gaps, Vec::<String>::new());
}

#[tokio::test]
async fn a_stop_that_died_after_its_decision_is_committed_by_the_next_start() {
    let mut scenario = Scenario::default();
    // After the first checkpoint only the stop takes one.
    "interval: 1h, timeout: 5s".clone_into(&mut scenario.checkpoint);
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.ledger().unreachable = true;
    let stop = StopRequest {
        savepoint: Some("last".to_owned()),
        drain: false,
    };
    running.handle.stop(stop).await.unwrap();
    scenario.uncommitted().await;
    let decided = scenario.chain().await.newest.unwrap();
    assert!(decided.kind.stops_job());
    running.crash().await;
    drop(worker);
    scenario.ledger().unreachable = false;
    let running = scenario.start(Restore::Latest);
    running.wait_for_state(JobState::WaitingForWorkers).await;
    for committable in decided.committables(&"out".into()) {
        let stand = scenario.ledger().transactions[&committable.transaction.0].1;
        assert_eq!(stand, Stand::Committed);
    }
    // Nobody waits for the savepoint any more; stopping again works without workers.
    let stop = StopRequest {
        savepoint: Some("again".to_owned()),
        drain: false,
    };
    running.handle.stop(stop).await.unwrap();
    assert!(matches!(
        running.outcome().await,
        Outcome::Stopped { savepoint: Some(_) }
    ));
}
