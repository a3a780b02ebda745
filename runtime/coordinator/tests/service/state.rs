//! Keyed state over the lives of a job: restarts, rescales, savepoints, other jobs that start from it.
//! Tasks write real files; what every manifest holds is read back and compared.

use std::path::Path;

use millstream_checkpoint::disposal::{JobDisposal, delete_job};
use millstream_checkpoint::inspect::verify;
use millstream_checkpoint::{Holder, Manifest, Storage, StorageOptions, read_savepoint};
use millstream_coordinator::preflight::Reach;
use millstream_coordinator::{Outcome, Restore, fitting, rehearse};
use millstream_plan::Incompatibility;
use millstream_types::api::{CheckpointState, JobState, StopRequest};
use millstream_types::{ErrorCode, ErrorKind, Failure, FileRef, JobId, Timestamp};

use crate::keyed::{self, Keyed};
use crate::scenario::{Running, Scenario};
use crate::worker::{Manners, TestWorker};

const GROUPS: u32 = 128;
const OPERATOR: &str = "counts/aggregate";
const KEEPS: &str = "customer_id string -> count(*) int64";

/// A job whose operator `counts/aggregate` keeps state.
fn scenario() -> Scenario {
    let mut scenario = Scenario::default();
    scenario.counts = Some(("counts".to_owned(), "count(*)".to_owned()));
    "interval: 20ms, timeout: 5s, tolerableFailures: 3, retained: 2"
        .clone_into(&mut scenario.checkpoint);
    scenario.max_parallelism = GROUPS;
    scenario
}

fn job(scenario: &Scenario) -> JobId {
    JobId {
        namespace: "default".to_owned(),
        name: scenario.name.clone(),
    }
}

fn storage(scenario: &Scenario) -> Storage {
    Storage::directory(scenario.storage_path())
}

fn keeps(scenario: &Scenario) -> Keyed {
    Keyed {
        storage: storage(scenario),
        job: job(scenario),
        operator: OPERATOR.into(),
        keeps: KEEPS.to_owned(),
        parallelism: scenario.parallelism,
        max_parallelism: GROUPS,
        miscounts: false,
        withholds: false,
        faults: std::sync::Arc::default(),
    }
}

async fn worker(scenario: &Scenario, keyed: &Keyed, running: &Running) -> TestWorker {
    let manners = Manners {
        keyed: Some(keyed.clone()),
        ..Manners::default()
    };
    let slots = scenario.parallelism;
    scenario.worker_with("a", slots, running, manners).await
}

/// Runs the job for some checkpoints, checks the newest manifests and lets the coordinator crash.
async fn run_and_crash(scenario: &Scenario, restore: Restore) {
    let keyed = keeps(scenario);
    let running = scenario.start(restore);
    let _worker = worker(scenario, &keyed, &running).await;
    running.wait_for_checkpoints(6).await;
    running.crash().await;
    assert_eq!(*keyed.faults.lock().unwrap(), Vec::<String>::new());
    check_chain(scenario).await;
}

async fn run_and_stop(scenario: &Scenario, restore: Restore, name: &str) -> String {
    let keyed = keeps(scenario);
    let running = scenario.start(restore);
    let _worker = worker(scenario, &keyed, &running).await;
    running.wait_for_checkpoints(3).await;
    let request = StopRequest {
        savepoint: Some(name.to_owned()),
        drain: false,
    };
    running.handle.stop(request).await.unwrap();
    let stopped = running.wait_for_state(JobState::Stopped).await;
    assert_eq!(*keyed.faults.lock().unwrap(), Vec::<String>::new());
    stopped.job.savepoint.clone().unwrap()
}

/// Checks the state in every checkpoint that the chain retains.
async fn check_chain(scenario: &Scenario) {
    let state = scenario.chain().await;
    assert!(!state.checkpoints.is_empty());
    for entry in &state.checkpoints {
        let manifest = read(&entry.path).await;
        // Before the first barrier there is nothing.
        if manifest.operators.contains_key(&OPERATOR.into()) {
            keyed::check(&manifest, OPERATOR, &storage(scenario), GROUPS).await;
        }
    }
}

async fn read(path: &str) -> Manifest {
    read_savepoint(path, &StorageOptions::default())
        .await
        .unwrap()
}

fn holder() -> Holder {
    Holder {
        name: "test".to_owned(),
        build: "test".to_owned(),
        identity: None,
        parallelism: 2,
        deployment: None,
        host: None,
        sinks: std::collections::BTreeMap::new(),
    }
}

/// Deletes what the job does not need any more, and checks that the files which are named are there
/// and no others.
async fn only_named_files_are_there(scenario: &Scenario) {
    let (mut claimed, _) = scenario
        .job_chain()
        .claim(holder(), Timestamp(1))
        .await
        .unwrap();
    claimed.collect_garbage(2).await.unwrap();
    let uri = format!("file://{}", scenario.storage_path().display());
    let verified = verify(&uri, &StorageOptions::default()).await.unwrap();
    assert_eq!(verified.faults, []);
    assert_eq!(verified.leftovers, Vec::<String>::new());
    // That it looks at files at all.
    let data = scenario.storage_path().join("default").join(&scenario.name);
    assert!(files(&data.join("data")) > 0);
}

fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let count = |path: &Path| if path.is_dir() { files(path) } else { 1 };
    entries.map(|entry| count(&entry.unwrap().path())).sum()
}

async fn fails(running: Running) -> Failure {
    let Outcome::Failed(failure) = running.outcome().await else {
        panic!("it has not failed");
    };
    failure
}

#[tokio::test]
async fn state_goes_on_over_restarts_and_from_any_parallelism_to_another() {
    let mut scenario = scenario();
    for parallelism in [2, 2, 3, 1, 4, 2, 1, 3] {
        scenario.parallelism = parallelism;
        run_and_crash(&scenario, Restore::Latest).await;
    }
    only_named_files_are_there(&scenario).await;
    check_chain(&scenario).await;
}

#[tokio::test]
async fn what_was_uploaded_for_a_checkpoint_that_was_not_decided_is_never_named() {
    let scenario = scenario();
    run_and_crash(&scenario, Restore::Latest).await;
    let before = scenario.chain().await.newest.unwrap().checkpoint;
    let keyed = Keyed {
        withholds: true,
        ..keeps(&scenario)
    };
    let running = scenario.start(Restore::Latest);
    let lost = worker(&scenario, &keyed, &running).await;
    let attempt = running.wait_for_state(JobState::Running).await.job.attempt;
    let data = scenario.storage_path().join("default/orders/data");
    let uploads = data.join(attempt.to_string());
    crate::scenario::until("an upload", || files(&uploads) == 2).await;
    running.crash().await;
    drop(lost);
    assert_eq!(scenario.chain().await.newest.unwrap().checkpoint, before);
    run_and_crash(&scenario, Restore::Latest).await;
    for entry in scenario.chain().await.checkpoints {
        let manifest = read(&entry.path).await;
        let theirs = format!("data/{attempt}/");
        assert!(manifest.files().all(|file| !file.path.starts_with(&theirs)));
    }
    only_named_files_are_there(&scenario).await;
    assert_eq!(files(&uploads), 0);
}

#[tokio::test]
async fn another_job_goes_on_from_a_savepoint_whose_job_is_deleted() {
    let mut scenario = scenario();
    run_and_crash(&scenario, Restore::Latest).await;
    let savepoint = run_and_stop(&scenario, Restore::Latest, "moves").await;
    let folder = keyed::open(&savepoint).await;
    let manifest = read(&savepoint).await;
    let source = job(&scenario);

    let elsewhere = tempfile::tempdir().unwrap();
    let moved = elsewhere.path().join("moved");
    copy(Path::new(savepoint.trim_start_matches("file://")), &moved);
    let moved = format!("file://{}", moved.display());
    assert_eq!(read(&moved).await.files().count(), manifest.files().count());
    drop(folder);

    scenario.name = "copy".to_owned();
    scenario.storage = "elsewhere".to_owned();
    scenario.parallelism = 3;
    run_and_crash(&scenario, Restore::Path(moved.clone())).await;
    // Neither the savepoint nor the job that took it is needed any more.
    elsewhere.close().unwrap();
    let theirs = Storage::directory(scenario.storage_path().with_file_name("store"));
    let disposal = JobDisposal {
        job: source,
        holder: holder(),
        keep_savepoints: false,
    };
    delete_job(&theirs, &disposal, Timestamp(1)).await.unwrap();
    scenario.parallelism = 1;
    run_and_crash(&scenario, Restore::Latest).await;
    only_named_files_are_there(&scenario).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn a_fork_of_a_running_job_copies_the_files_of_a_checkpoint() {
    let mut scenario = scenario();
    run_and_crash(&scenario, Restore::Latest).await;
    let checkpoint = scenario.chain().await.newest_path.unwrap();
    let first = scenario.storage_path();
    scenario.name = "fork".to_owned();
    scenario.overrides.fork = true;
    run_and_crash(&scenario, Restore::Path(checkpoint)).await;
    scenario.overrides.fork = false;
    // What it was started from may go now.
    std::fs::remove_dir_all(first.join("default/orders")).unwrap();
    run_and_crash(&scenario, Restore::Latest).await;
    only_named_files_are_there(&scenario).await;
}

#[tokio::test]
async fn a_job_goes_back_to_an_older_checkpoint_of_its_own_chain() {
    let mut scenario = scenario();
    scenario.checkpoint = scenario.checkpoint.replace("retained: 2", "retained: 9");
    run_and_crash(&scenario, Restore::Latest).await;
    let checkpoints = scenario.chain().await.checkpoints;
    let older = checkpoints[1].path.clone();
    let newest = checkpoints.last().unwrap().path.clone();
    let (before, after) = (read(&older).await, read(&newest).await);
    let after: Vec<&FileRef> = after.files().collect();
    assert!(
        before.files().any(|file| !after.contains(&file)),
        "some would be deleted"
    );
    let step = keyed::step(&before);
    run_and_crash(&scenario, Restore::Path(older)).await;
    assert!(keyed::step(&scenario.chain().await.newest.unwrap()) > step);
    only_named_files_are_there(&scenario).await;
}

#[tokio::test]
async fn a_savepoint_of_a_running_job_has_its_own_files() {
    let mut scenario = scenario();
    let keyed = keeps(&scenario);
    let running = scenario.start(Restore::Latest);
    let job_worker = worker(&scenario, &keyed, &running).await;
    running.wait_for_checkpoints(3).await;
    running.handle.savepoint("kept").await.unwrap();
    let taken = running
        .wait_for("the savepoint", |snapshot| {
            let status = snapshot.savepoints.get("kept");
            status.is_some_and(|status| status.state == CheckpointState::Completed)
        })
        .await;
    let path = taken.savepoints["kept"].path.clone().unwrap();
    let detail = taken
        .checkpoints
        .iter()
        .find(|detail| Some(detail.summary.id) == taken.savepoints["kept"].id);
    let summary = &detail.unwrap().summary;
    let manifest = read(&path).await;
    assert_eq!(summary.state_size, Some(manifest.state_bytes()));
    assert_eq!(summary.checkpointed_size, summary.state_size);
    assert!(taken.savepoints["kept"].size_bytes.unwrap() > manifest.state_bytes());
    let before = taken.counts.completed;
    running
        .wait_for("more checkpoints", |it| it.counts.completed > before + 4)
        .await;
    running.crash().await;
    drop(job_worker);
    // The files of the checkpoint that it was taken with are gone by now; its own are there.
    scenario.parallelism = 4;
    run_and_crash(&scenario, Restore::Path(path)).await;
    only_named_files_are_there(&scenario).await;
}

#[tokio::test]
async fn sizes_tell_the_whole_state_and_what_is_new() {
    let scenario = scenario();
    let keyed = keeps(&scenario);
    let running = scenario.start(Restore::Latest);
    let _worker = worker(&scenario, &keyed, &running).await;
    let snapshot = running.wait_for_checkpoints(8).await;
    let metrics = running.handle.metrics().encode();
    let completed = snapshot.checkpoints.iter().map(|detail| &detail.summary);
    let completed = completed.filter(|it| it.state == CheckpointState::Completed);
    let sizes: Vec<(u64, u64, u64)> = completed
        .map(|it| {
            let total = it.size_bytes.unwrap();
            (total, it.state_size.unwrap(), it.checkpointed_size.unwrap())
        })
        .collect();
    assert!(
        sizes
            .iter()
            .all(|(total, state, new)| total > state && state >= new && *new > 0)
    );
    // Most share files with the ones before.
    let sharing = sizes.iter().filter(|(_, state, new)| new < state).count();
    assert!(sharing >= sizes.len() / 2, "{sizes:?}");
    for name in ["state_size", "checkpointed_size"] {
        let line = format!("millstream_last_checkpoint_{name}_bytes{{");
        let value = metrics.lines().find(|it| it.starts_with(&line)).unwrap();
        assert!(!value.ends_with(" 0.0"), "{value}");
    }
}

#[tokio::test]
async fn another_number_of_key_groups_is_refused_as_long_as_there_is_state() {
    let mut scenario = scenario();
    let running = scenario.start(Restore::Latest);
    let stateless = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(2).await;
    running.crash().await;
    drop(stateless);
    // There is none yet.
    scenario.max_parallelism = 64;
    let running = scenario.start(Restore::Latest);
    running.wait_for_state(JobState::WaitingForWorkers).await;
    running.crash().await;
    scenario.max_parallelism = GROUPS;
    run_and_crash(&scenario, Restore::Latest).await;

    scenario.max_parallelism = 64;
    let attempts = scenario.chain().await.claims.len();
    let refused = fails(scenario.start(Restore::Latest)).await;
    let rehearsed = rehearse(&scenario.options(Restore::Latest), Reach::Live).await;
    for failure in [refused, rehearsed.unwrap().failures.remove(0)] {
        assert_eq!(failure.code, ErrorCode::IncompatibleState);
        assert_eq!(failure.kind, ErrorKind::InvalidJob);
        for part in ["128 key groups", "asks for 64", "`maxParallelism` to 128"] {
            assert!(failure.message.contains(part), "no `{part}` in: {failure}");
        }
    }
    // Nobody was fenced for that.
    assert_eq!(scenario.chain().await.claims.len(), attempts);
    let fresh = scenario.start(Restore::Fresh);
    fresh.wait_for_state(JobState::WaitingForWorkers).await;
    fresh.crash().await;
}

#[tokio::test]
async fn state_that_the_job_has_no_place_for_is_dropped_only_if_that_is_allowed() {
    let mut scenario = scenario();
    run_and_crash(&scenario, Restore::Latest).await;
    for (name, counts, parts) in [
        ("renamed", "count(*)", [OPERATOR, "call it `counts` again"]),
        ("counts", "sum(quantity)", [KEEPS, "sum(quantity) int64"]),
    ] {
        scenario.counts = Some((name.to_owned(), counts.to_owned()));
        let attempts = scenario.chain().await.claims.len();
        let failure = fails(scenario.start(Restore::Latest)).await;
        assert_eq!(failure.code, ErrorCode::IncompatibleState);
        for part in parts.iter().chain(&["--allow-dropped-state"]) {
            assert!(failure.message.contains(part), "no `{part}` in: {failure}");
        }
        // What a rehearsal finds is judged by the same code.
        let options = scenario.options(Restore::Latest);
        let (_, manifest) = rehearse(&options, Reach::Live)
            .await
            .unwrap()
            .point
            .unwrap();
        let misfits = fitting::misfits(&options.graph, &manifest);
        let told = Incompatibility::failure(&misfits).unwrap();
        assert_eq!(told.message, failure.message);
        assert_eq!(scenario.chain().await.claims.len(), attempts);
    }
    // It begins empty, in as many key groups as it likes, and everything else goes on.
    scenario.allow_dropped_state = true;
    scenario.max_parallelism = 64;
    let step = keyed::step(&scenario.chain().await.newest.unwrap());
    let running = scenario.start(Restore::Latest);
    let job_worker = scenario.worker("a", 2, &running).await;
    running.wait_for_checkpoints(3).await;
    running.crash().await;
    drop(job_worker);
    let newest = scenario.chain().await.newest.unwrap();
    assert!(keyed::step(&newest) > step);
    assert_eq!((newest.files().count(), newest.max_parallelism), (0, None));
    let data = scenario.storage_path().join("default/orders/data");
    let (mut claimed, _) = scenario
        .job_chain()
        .claim(holder(), Timestamp(1))
        .await
        .unwrap();
    claimed.collect_garbage(1).await.unwrap();
    assert_eq!(files(&data), 0);
}

#[tokio::test]
async fn a_checkpoint_that_lacks_a_key_group_is_not_decided() {
    let scenario = scenario();
    run_and_crash(&scenario, Restore::Latest).await;
    let before = scenario.chain().await.newest.unwrap().checkpoint;
    let keyed = Keyed {
        miscounts: true,
        ..keeps(&scenario)
    };
    let running = scenario.start(Restore::Latest);
    let _worker = worker(&scenario, &keyed, &running).await;
    let snapshot = running
        .wait_for("a restart", |snapshot| {
            snapshot.job.restarts > 0 && snapshot.job.last_failure.is_some()
        })
        .await;
    let failure = snapshot.job.last_failure.as_ref().unwrap().to_string();
    for part in [
        "MS0510",
        "operator counts/aggregate",
        "[0, 63)",
        "[0, 64) of 128",
    ] {
        assert!(failure.contains(part), "no `{part}` in: {failure}");
    }
    running.crash().await;
    assert_eq!(scenario.chain().await.newest.unwrap().checkpoint, before);
}
