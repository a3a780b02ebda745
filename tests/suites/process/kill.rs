//! `kill -9` of workers and of the coordinator, at random instants.

use std::sync::Arc;
use std::time::Duration;

use millstream_tests::wait::pause;
use millstream_tests::workload::Workload;

use crate::faults::{Random, seed};
use crate::fixture::{OrderJob, Setup, feed};
use crate::machine;

const WORKERS: usize = 2;
const RECORDS: u64 = 1_000_000;
const WORKER_KILLS: usize = 10;
const COORDINATOR_KILLS: usize = 5;
const FEED: Duration = Duration::from_secs(80);

#[derive(Debug, Clone, Copy)]
enum Fault {
    KillWorker,
    KillCoordinator,
}

#[test]
fn every_order_arrives_exactly_once_while_workers_and_coordinators_are_killed() {
    let _machine = machine();
    let seed = seed();
    println!("MILLSTREAM_SEED={seed}");
    let workload = Workload::new(seed, RECORDS);
    let mut job = OrderJob::start(Setup::new("kill", WORKERS));
    let brokers = Arc::clone(&job.brokers);
    let mut seen_between = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| feed(&brokers, workload, FEED));
        seen_between = kill(&mut job, &mut Random::new(seed));
    });
    let finished = job.finish(workload);
    finished.check(workload);
    // Without these the run would prove little.
    assert!(finished.attempts > 10, "attempts");
    assert!(finished.checkpoints > 20, "checkpoints");
    assert!(
        finished.swept >= 5,
        "transactions that a killed process left open"
    );
    assert!(seen_between >= 5, "output was committed between faults");
}

/// Carries the plan out. How often new output was seen between two faults.
fn kill(job: &mut OrderJob, random: &mut Random) -> u32 {
    let mut plan = vec![Fault::KillWorker; WORKER_KILLS];
    plan.extend([Fault::KillCoordinator; COORDINATOR_KILLS]);
    random.shuffle(&mut plan);
    let mut seen_between = 0;
    for fault in plan {
        let before = job.seen();
        pause(random.between(Duration::from_millis(500), Duration::from_secs(9)));
        job.tend();
        seen_between += u32::from(job.seen() > before);
        match fault {
            Fault::KillWorker => {
                let worker = random.below(2);
                println!("{fault:?} {worker} after {} records", job.seen());
                job.kill_worker(usize::try_from(worker).expect("few workers"));
            }
            Fault::KillCoordinator => {
                println!("{fault:?} after {} records", job.seen());
                job.kill_coordinator();
            }
        }
    }
    seen_between
}
