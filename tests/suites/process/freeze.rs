//! `SIGSTOP` of workers and of the coordinator: they are taken for dead, replaced, and wake up.

use std::sync::Arc;
use std::time::Duration;

use millstream_tests::cluster::Coordinator;
use millstream_tests::server::Server;
use millstream_tests::wait::{pause, wait_until};
use millstream_tests::workload::Workload;
use millstream_types::Attempt;

use crate::faults::{Random, seed};
use crate::fixture::{OrderJob, Setup, feed};
use crate::machine;

const WORKERS: usize = 2;
const RECORDS: u64 = 1_000_000;
const FEED: Duration = Duration::from_secs(80);
const DEADLINE: Duration = Duration::from_mins(1);
/// Exit code of a coordinator that met a newer claim.
const FENCED: i32 = 3;

#[derive(Debug, Clone, Copy)]
enum Fault {
    FreezeWorker,
    FreezeCoordinator,
}

const PLAN: [Fault; 5] = [
    Fault::FreezeWorker,
    Fault::FreezeWorker,
    Fault::FreezeWorker,
    Fault::FreezeCoordinator,
    Fault::FreezeCoordinator,
];

#[test]
fn every_order_arrives_exactly_once_while_frozen_processes_are_replaced_and_wake_up() {
    let _machine = machine();
    let seed = seed();
    println!("MILLSTREAM_SEED={seed}");
    let workload = Workload::new(seed, RECORDS);
    let mut job = OrderJob::start(Setup::new("freeze", WORKERS));
    let brokers = Arc::clone(&job.brokers);
    let mut woken = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| feed(&brokers, workload, FEED));
        woken = freeze(&mut job, &mut Random::new(seed));
    });
    let finished = job.finish(workload);
    finished.check(workload);
    assert!(
        finished.fenced >= 2,
        "coordinators that woke up met a claim"
    );
    assert!(finished.checkpoints > 10, "checkpoints");
}

/// Carries the plan out. Workers that woke up; they run until the end of the test.
fn freeze(job: &mut OrderJob, random: &mut Random) -> Vec<Server> {
    let mut plan = PLAN;
    random.shuffle(&mut plan);
    let mut woken = Vec::new();
    for fault in plan {
        pause(random.between(Duration::from_millis(500), Duration::from_secs(4)));
        job.tend();
        println!("{fault:?} after {} records", job.seen());
        match fault {
            Fault::FreezeWorker => freeze_worker(job, &mut woken, random),
            Fault::FreezeCoordinator => {
                let (mut coordinator, workers) = freeze_coordinator(job, random);
                woken.extend(workers);
                let status = coordinator.server.wait(DEADLINE);
                assert_eq!(
                    status.code(),
                    Some(FENCED),
                    "{}",
                    coordinator.server.output()
                );
            }
        }
    }
    woken
}

/// The coordinator gives a silent worker up and deploys its tasks to another; then the worker goes
/// on in the middle of whatever it did. Frozen is one that runs tasks, which may be one that has
/// woken up before.
fn freeze_worker(job: &mut OrderJob, woken: &mut Vec<Server>, random: &mut Random) {
    let attempt = attempt(job);
    let busy = busy(job);
    let runs_tasks = |server: &Server| {
        let pid = format!("-{}-", server.pid());
        busy.iter().any(|worker| worker.contains(&pid))
    };
    let first = usize::try_from(random.below(2)).expect("few workers");
    let numbers = [first, WORKERS - 1 - first];
    let number = numbers
        .into_iter()
        .find(|number| runs_tasks(&job.workers[*number]));
    let frozen = if let Some(number) = number {
        assert!(job.workers[number].pause(), "worker {number} was running");
        let frozen = job.restart_worker(number);
        woken.push(frozen);
        woken.len() - 1
    } else {
        let older = woken.iter().position(runs_tasks);
        let older = older.unwrap_or_else(|| panic!("none of ours runs tasks: {busy:?}"));
        assert!(woken[older].pause(), "it was running");
        older
    };
    wait_until("a newer attempt runs", DEADLINE, || {
        self::attempt(job) > attempt
    });
    job.wait_until_running();
    pause(random.between(Duration::ZERO, Duration::from_secs(3)));
    assert!(woken[frozen].resume());
}

/// Names of the workers that run tasks.
fn busy(job: &OrderJob) -> Vec<String> {
    job.wait_until_running();
    let status = job.coordinator.rest.job().expect("the coordinator runs");
    let workers = status.workers.into_iter();
    let busy = workers.filter(|worker| worker.tasks > 0);
    busy.map(|worker| worker.worker).collect()
}

/// A second coordinator claims the job while the first is frozen together with its view of the
/// world; its workers live on and write into their transactions. Then it goes on.
fn freeze_coordinator(job: &mut OrderJob, random: &mut Random) -> (Coordinator, Vec<Server>) {
    assert!(
        job.coordinator.server.pause(),
        "the coordinator was running"
    );
    let (mut frozen, workers) = job.replace_everything();
    job.wait_until_running();
    pause(random.between(Duration::ZERO, Duration::from_secs(3)));
    assert!(frozen.server.resume());
    (frozen, workers)
}

fn attempt(job: &OrderJob) -> Attempt {
    let status = job.coordinator.rest.job();
    status.map_or(Attempt(0), |status| status.attempt)
}
