//! What a deployment starts from is decided by the chain, after it was claimed.

use millstream_coordinator::{Outcome, Overrides, Restore};
use millstream_types::api::{JobState, StopRequest};
use millstream_types::{Attempt, ErrorCode, ErrorKind, Failure};

use crate::scenario::{Running, Scenario};
use crate::worker::TestWorker;

/// Where the splits of the newest deployment of tasks begin.
fn positions(worker: &TestWorker) -> Vec<u64> {
    let deploy = worker.deployment().unwrap();
    let states = deploy.tasks.iter().flat_map(|task| &task.restore);
    let mut all: Vec<u64> = states
        .flat_map(|(_, state)| &state.splits)
        .map(|split| split.position.0.parse().unwrap())
        .collect();
    all.sort_unstable();
    all
}

/// Starts a coordinator with a worker and waits until it has taken a few checkpoints.
async fn run(scenario: &Scenario, restore: Restore) -> (Running, TestWorker) {
    let running = scenario.start(restore);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(3).await;
    (running, worker)
}

/// The same, and kills it. Where it began, and what it said that it was restored from.
async fn run_and_crash(scenario: &Scenario, restore: Restore) -> (Vec<u64>, Option<String>) {
    let (running, worker) = run(scenario, restore).await;
    let restored_from = running.handle.snapshot().job.restored_from.clone();
    let began = positions(&worker);
    running.crash().await;
    (began, restored_from)
}

/// Runs a job and stops it with a savepoint. The savepoint's path.
async fn run_and_stop(scenario: &Scenario, restore: Restore, name: &str) -> String {
    let running = scenario.start(restore);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    let request = StopRequest {
        savepoint: Some(name.to_owned()),
        drain: false,
    };
    running.handle.stop(request).await.unwrap();
    let snapshot = running
        .wait_for("the job has stopped", |snapshot| {
            snapshot.job.state == JobState::Stopped
        })
        .await;
    snapshot.job.savepoint.clone().unwrap()
}

async fn newest_positions(scenario: &Scenario) -> Vec<u64> {
    let newest = scenario.chain().await.newest.unwrap();
    let subtasks = newest.operators[&"orders".into()].values();
    let mut all: Vec<u64> = subtasks
        .flat_map(|state| &state.splits)
        .map(|split| split.position.0.parse().unwrap())
        .collect();
    all.sort_unstable();
    all
}

async fn fails(running: Running) -> Failure {
    let Outcome::Failed(failure) = running.outcome().await else {
        panic!("it has not failed");
    };
    failure
}

fn by_operator(deployment: u64) -> Scenario {
    let mut scenario = Scenario::default();
    scenario.deployment = Some(deployment);
    scenario.unless_advanced = true;
    scenario
}

#[tokio::test]
async fn a_believed_restore_point_counts_until_the_chain_has_gone_on_from_it() {
    let mut scenario = by_operator(7);
    let savepoint = run_and_stop(&scenario, Restore::Latest, "upgrade").await;
    let stopped_at = newest_positions(&scenario).await;
    let restore = Restore::Path(savepoint.clone());

    scenario.deployment = Some(8);
    let (began, restored_from) = run_and_crash(&scenario, restore.clone()).await;
    assert_eq!(began, stopped_at);
    assert_eq!(restored_from.as_ref(), Some(&savepoint));

    // Whoever has not seen the checkpoints of deployment 8 believes that the savepoint is newest.
    scenario.deployment = Some(9);
    let before = scenario.chain().await;
    let reached = newest_positions(&scenario).await;
    let (began, restored_from) = run_and_crash(&scenario, restore.clone()).await;
    assert_eq!(began, reached);
    assert_eq!(restored_from, before.newest_path);

    // A person who wants to go back says so.
    scenario.deployment = Some(10);
    scenario.unless_advanced = false;
    let (began, restored_from) = run_and_crash(&scenario, restore).await;
    assert_eq!(began, stopped_at);
    assert_eq!(restored_from, Some(savepoint));
}

#[tokio::test]
async fn a_restore_point_that_was_imported_and_not_gone_on_from_is_not_needed_again() {
    let mut scenario = by_operator(7);
    let savepoint = run_and_stop(&scenario, Restore::Latest, "upgrade").await;
    let stopped_at = newest_positions(&scenario).await;
    scenario.deployment = Some(8);
    let restore = Restore::Path(savepoint.clone());
    let running = scenario.start(restore.clone());
    running.wait_for_state(JobState::WaitingForWorkers).await;
    running.crash().await;
    std::fs::remove_dir_all(savepoint.strip_prefix("file://").unwrap()).unwrap();
    scenario.deployment = Some(9);
    let (began, restored_from) = run_and_crash(&scenario, restore).await;
    assert_eq!(began, stopped_at);
    assert_eq!(restored_from, Some(savepoint));
}

#[tokio::test]
async fn a_folder_that_was_imported_before_stands_for_what_its_job_has_come_to_since() {
    let mut scenario = by_operator(7);
    run_and_stop(&scenario, Restore::Latest, "one").await;
    let home = scenario.storage.clone();
    let path = scenario.chain().await.newest_path.unwrap();
    let folder = path.split("/chain/").next().unwrap().to_owned();
    for begins in [true, false] {
        // The move begins and comes to nothing, and the job goes on where it was.
        scenario.storage = "moved".to_owned();
        scenario.deployment = scenario.deployment.map(|number| number + 1);
        let running = scenario.start(Restore::Path(folder.clone()));
        if begins {
            running.wait_for_state(JobState::WaitingForWorkers).await;
            running.crash().await;
            scenario.storage.clone_from(&home);
            scenario.deployment = scenario.deployment.map(|number| number + 1);
            run_and_stop(&scenario, Restore::Latest, "two").await;
            continue;
        }
        let worker = scenario.worker("a", 2, &running).await;
        running.wait_for_checkpoints(1).await;
        let began = positions(&worker);
        running.crash().await;
        scenario.storage.clone_from(&home);
        assert_eq!(began, newest_positions(&scenario).await);
    }
}

#[tokio::test]
async fn a_start_from_nothing_that_came_to_nothing_does_not_hide_the_savepoint_below_it() {
    let mut scenario = by_operator(7);
    let savepoint = run_and_stop(&scenario, Restore::Latest, "upgrade").await;
    let stopped_at = newest_positions(&scenario).await;
    // A stateless upgrade whose new revision never completes a checkpoint.
    for deployment in [8, 9] {
        scenario.deployment = Some(deployment);
        let running = scenario.start(Restore::Fresh);
        running.wait_for_state(JobState::WaitingForWorkers).await;
        running.crash().await;
    }
    scenario.deployment = Some(10);
    let restore = Restore::Path(savepoint.clone());
    let (began, restored_from) = run_and_crash(&scenario, restore.clone()).await;
    assert_eq!((began, restored_from), (stopped_at, Some(savepoint)));
    // One that has completed checkpoints has written output: there is no way back behind it.
    scenario.deployment = Some(11);
    run_and_crash(&scenario, Restore::Fresh).await;
    let before = scenario.chain().await;
    scenario.deployment = Some(12);
    let (_, restored_from) = run_and_crash(&scenario, restore).await;
    assert_eq!(restored_from, before.newest_path);
}

#[tokio::test]
async fn a_believed_checkpoint_of_the_own_chain_means_its_newest_even_when_it_has_gone() {
    let mut scenario = by_operator(7);
    let (running, _worker) = run(&scenario, Restore::Latest).await;
    let noted = scenario.chain().await.newest_path.unwrap();
    let completed = running.handle.snapshot().counts.completed;
    running
        .wait_for("the noted checkpoint is not retained", |snapshot| {
            snapshot.counts.completed > completed + 5
        })
        .await;
    running.crash().await;
    let before = scenario.chain().await;
    let reached = newest_positions(&scenario).await;
    scenario.deployment = Some(8);
    let (began, restored_from) = run_and_crash(&scenario, Restore::Path(noted)).await;
    assert_eq!(began, reached);
    assert_eq!(restored_from, before.newest_path);
}

#[tokio::test]
async fn the_jobs_own_folder_means_what_lies_below_the_claim() {
    let scenario = Scenario::default();
    let (mut old, mut worker) = run(&scenario, Restore::Latest).await;
    let folder = format!(
        "file://{}/default/orders",
        scenario.storage_path().display()
    );
    for attempt in 2..6 {
        // The old coordinator decides checkpoints until the very claim.
        let new = scenario.start(Restore::Path(folder.clone()));
        assert!(matches!(old.outcome().await, Outcome::Fenced(_)));
        let snapshot = new.wait_for_state(JobState::WaitingForWorkers).await;
        let state = scenario.chain().await;
        assert_eq!(snapshot.job.attempt, Attempt(attempt));
        assert_eq!(snapshot.job.restored_from, state.newest_path);
        assert_eq!(state.newest.unwrap().attempt, Attempt(attempt - 1));
        drop(worker);
        worker = scenario.worker("b", 2, &new).await;
        new.wait_for_checkpoints(1).await;
        old = new;
    }
}

#[tokio::test]
async fn a_chain_that_has_lost_everything_is_no_fresh_start() {
    let mut scenario = Scenario::default();
    scenario.deployment = Some(7);
    // Nothing is on its way to the store any more.
    run_and_stop(&scenario, Restore::Latest, "last").await;
    scenario.expect_state = true;
    let folder = scenario.storage_path();
    std::fs::remove_dir_all(&folder).unwrap();
    let running = scenario.start(Restore::Latest);
    let snapshot = running.wait_for_state(JobState::Failed).await;
    let failure = snapshot.job.last_failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::StateMissing);
    for part in [folder.to_str().unwrap(), "default/orders", "--restore"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    assert!(scenario.chain().await.claims.is_empty(), "it was claimed");
}

#[tokio::test]
async fn a_chain_that_is_lost_while_the_job_runs_is_not_begun_anew() {
    let scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    let folder = scenario.storage_path();
    std::fs::rename(&folder, folder.with_file_name("gone")).unwrap();
    drop(worker);
    let failure = fails(running).await;
    let named = [ErrorCode::StateMissing, ErrorCode::CorruptObject];
    assert!(named.contains(&failure.code), "{failure}");
    assert_eq!(scenario.topic().first_discoveries, 1, "it began anew");
}

#[tokio::test]
async fn a_moved_storage_carries_the_state_over_and_is_never_begun_empty() {
    let mut scenario = by_operator(7);
    let first = run_and_stop(&scenario, Restore::Latest, "one").await;
    let left_at = newest_positions(&scenario).await;
    scenario.expect_state = true;

    // There is nothing in the new place.
    scenario.storage = "moved".to_owned();
    scenario.deployment = Some(8);
    let running = scenario.start(Restore::Latest);
    let snapshot = running.wait_for_state(JobState::Failed).await;
    let failure = snapshot.job.last_failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::StateMissing);
    running.crash().await;

    // With the savepoint it goes on there, and later back in the old place.
    scenario.deployment = Some(9);
    let (began, restored_from) = run_and_crash(&scenario, Restore::Path(first.clone())).await;
    assert_eq!((began, restored_from), (left_at, Some(first)));
    scenario.deployment = Some(10);
    let second = run_and_stop(&scenario, Restore::Latest, "two").await;
    let left_at = newest_positions(&scenario).await;
    scenario.storage = "store".to_owned();
    scenario.deployment = Some(11);
    let (began, restored_from) = run_and_crash(&scenario, Restore::Path(second.clone())).await;
    assert_eq!((began, restored_from), (left_at, Some(second)));
}

#[tokio::test]
async fn a_believed_restore_point_that_has_nothing_to_do_with_the_chain_is_refused() {
    let mut scenario = by_operator(7);
    let elsewhere = run_and_stop(&scenario, Restore::Latest, "one").await;
    scenario.storage = "other".to_owned();
    run_and_crash(&scenario, Restore::Latest).await;
    let claims = scenario.chain().await.claims.len();
    scenario.deployment = Some(8);
    let running = scenario.start(Restore::Path(elsewhere.clone()));
    let snapshot = running.wait_for_state(JobState::Failed).await;
    let failure = snapshot.job.last_failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::UnrelatedState);
    assert!(failure.message.contains(&elsewhere), "{failure}");
    assert_eq!(scenario.chain().await.claims.len(), claims);
}

#[tokio::test]
async fn a_job_that_is_made_anew_is_not_sent_back_to_where_the_old_one_was_started_from() {
    let mut scenario = Scenario::default();
    let savepoint = run_and_stop(&scenario, Restore::Latest, "seed").await;
    let restore = Restore::Path(savepoint.clone());
    scenario.deployment = Some(7);
    scenario.identity = Some("uid-1".to_owned());
    run_and_stop(&scenario, restore.clone(), "last").await;
    // Deleted and created again, with the same manifest.
    scenario.deployment = Some(8);
    scenario.identity = Some("uid-2".to_owned());
    let running = scenario.start(restore.clone());
    let snapshot = running.wait_for_state(JobState::Failed).await;
    let failure = snapshot.job.last_failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::RestoredBefore);
    for part in [savepoint.as_str(), "uid-1", "--restore latest"] {
        assert!(failure.message.contains(part), "{failure}");
    }
    // An operator's resource may be made anew while the job keeps its identity.
    scenario.identity = Some("uid-1".to_owned());
    scenario.resource_uid = Some("resource-2".to_owned());
    let running = scenario.start(restore.clone());
    let snapshot = running.wait_for_state(JobState::Failed).await;
    let failure = snapshot.job.last_failure.clone().unwrap();
    assert_eq!(failure.code, ErrorCode::RestoredBefore);
    scenario.resource_uid = None;
    // The same job may be sent back there: whoever changes it says so.
    scenario.deployment = Some(9);
    scenario.identity = Some("uid-1".to_owned());
    let (_, restored_from) = run_and_crash(&scenario, restore).await;
    assert_eq!(restored_from, Some(savepoint));
}

#[tokio::test]
async fn a_chain_that_another_job_holds_is_no_restore_point_unless_both_may_go_on_from_there() {
    let mut scenario = Scenario::default();
    "interval: 50ms, timeout: 5s, retained: 100".clone_into(&mut scenario.checkpoint);
    let (orders, _worker) = run(&scenario, Restore::Latest).await;
    let folder = format!(
        "file://{}/default/orders",
        scenario.storage_path().display()
    );
    let slot = scenario.chain().await.newest_path.unwrap();
    scenario.name = "copy".to_owned();
    for path in [&folder, &slot] {
        let failure = fails(scenario.start(Restore::Path(path.clone()))).await;
        assert_eq!(failure.code, ErrorCode::ChainInUse);
        for part in [path.as_str(), "--fork", "attempt 1"] {
            assert!(failure.message.contains(part), "{failure}");
        }
    }
    assert!(scenario.chain().await.claims.is_empty(), "it was claimed");
    scenario.overrides.fork = true;
    let (_, restored_from) = run_and_crash(&scenario, Restore::Path(folder.clone())).await;
    assert_eq!(restored_from.as_ref(), Some(&folder));
    // A job that has stopped has released its chain.
    let stopped = orders.handle.stop(StopRequest::default());
    stopped.await.unwrap();
    orders.outcome().await;
    scenario.overrides = Overrides::default();
    scenario.name = "another".to_owned();
    let (_, restored_from) = run_and_crash(&scenario, Restore::Path(folder.clone())).await;
    assert_eq!(restored_from, Some(folder));
}

#[tokio::test]
async fn a_checkpoint_that_its_own_chain_has_confirmed_has_nothing_to_commit() {
    let mut scenario = Scenario::default();
    let running = scenario.start(Restore::Latest);
    let _worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(3).await;
    running.handle.stop(StopRequest::default()).await.unwrap();
    running.outcome().await;
    let state = scenario.chain().await;
    let entry = state.checkpoints.first().unwrap();
    // Its ids have been used again, or have expired: the broker knows nothing of them.
    scenario.ledger().transactions.clear();
    scenario.name = "copy".to_owned();
    let restore = Restore::Path(entry.path.clone());
    let (_, restored_from) = run_and_crash(&scenario, restore).await;
    assert_eq!(restored_from.as_ref(), Some(&entry.path));
}

#[tokio::test]
async fn lost_output_of_another_job_can_be_given_up_when_its_checkpoint_is_imported() {
    let mut scenario = Scenario::default();
    scenario.overrides.fork = true;
    let running = scenario.start(Restore::Latest);
    let worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(1).await;
    scenario.ledger().unreachable = true;
    let (path, _) = scenario.uncommitted().await;
    let checkpoint = scenario.chain().await.newest.unwrap().checkpoint;
    running.crash().await;
    drop(worker);
    scenario.ledger().unreachable = false;
    scenario.ledger().transactions.clear();
    scenario.name = "copy".to_owned();
    let failure = fails(scenario.start(Restore::Path(path.clone()))).await;
    assert_eq!(failure.kind, ErrorKind::DataLoss);
    let remedy = format!("--accept-lost-output {checkpoint}");
    assert!(failure.message.contains(&remedy), "{failure}");
    scenario.accept_lost_output = Some(checkpoint);
    let (_, restored_from) = run_and_crash(&scenario, Restore::Path(path.clone())).await;
    assert_eq!(restored_from, Some(path));
}
