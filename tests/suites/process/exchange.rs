//! Records that cross between workers, while these are killed and frozen and their connections cut.
//!
//! The order job with edges: two transforms are put together again, and all orders of a customer go
//! through one of three subtasks, each in another worker. The audit sees whether they keep their order.

use std::sync::Arc;
use std::time::Duration;

use millstream_tests::order_job::OrderJobFile;
use millstream_tests::wait::{pause, wait_until};
use millstream_tests::workload::Workload;

use crate::faults::{Random, seed};
use crate::fixture::{OrderJob, feed};
use crate::machine;

const WORKERS: u64 = 3;
const RECORDS: u64 = 2_000_000;
const FEED: Duration = Duration::from_secs(110);
const DEADLINE: Duration = Duration::from_mins(1);

const TRANSFORM: &str = "      - name: enriched
        input: valid
        sql: SELECT *, quantity * price AS total FROM valid
";
/// Every customer's orders take one of the two ways, so that they keep their order.
const EDGES: &str = "      - name: lower
        input: valid
        sql: SELECT * FROM valid WHERE customer_id < 'c-005000'
      - name: upper
        input: valid
        sql: SELECT * FROM valid WHERE customer_id >= 'c-005000'
      - name: enriched
        inputs: [lower, upper]
        partitionBy: [customer_id]
        parallelism: 3
        sql: |
          SELECT *, quantity * price AS total FROM lower
          UNION ALL
          SELECT *, quantity * price AS total FROM upper
";

fn with_edges(file: OrderJobFile) -> OrderJobFile {
    file.replace(TRANSFORM, EDGES).replace(
        "      - name: processed-orders\n        input: enriched\n",
        "      - name: processed-orders\n        input: enriched\n        parallelism: 3\n",
    )
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9` of a worker.
    Kill,
    /// `SIGSTOP` of one, which goes on when others have taken its place.
    Freeze,
    /// Nothing arrives any more over the connections that lead to one.
    Cut,
    /// These connections break.
    Reset,
}

#[test]
fn orders_cross_between_workers_exactly_once_and_in_order_while_these_and_their_links_fail() {
    let _machine = machine();
    let seed = seed();
    println!("MILLSTREAM_SEED={seed}");
    let workload = Workload::new(seed, RECORDS);
    let mut job = OrderJob::start_with_links("exchange", 3, with_edges);
    let broker = Arc::clone(&job.broker);
    let mut seen_between = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| feed(&broker, workload, FEED));
        seen_between = run(&mut job, &mut Random::new(seed));
    });
    let finished = job.finish(workload);
    finished.check(workload);
    // Without these the run would prove little.
    assert!(finished.attempts > 8, "attempts");
    assert!(finished.checkpoints > 20, "checkpoints");
    assert!(seen_between >= 5, "output was committed between faults");
}

/// Carries the plan out. How often new output was seen between two faults.
fn run(job: &mut OrderJob, random: &mut Random) -> u32 {
    let mut plan = vec![Fault::Kill; 4];
    plan.extend([Fault::Freeze; 2]);
    plan.extend([Fault::Cut; 3]);
    plan.extend([Fault::Reset; 3]);
    random.shuffle(&mut plan);
    let mut seen_between = 0;
    for fault in plan {
        let before = job.seen();
        pause(random.between(Duration::from_millis(500), Duration::from_secs(6)));
        job.tend();
        job.wait_until_running();
        seen_between += u32::from(job.seen() > before);
        let number = usize::try_from(random.below(WORKERS)).expect("few workers");
        println!("{fault:?} {number} after {} records", job.seen());
        match fault {
            Fault::Kill => job.kill_worker(number),
            Fault::Freeze => {
                assert!(job.workers[number].pause(), "worker {number} was running");
                let attempt = attempt(job);
                let mut server = job.restart_worker(number);
                wait_until("a newer attempt runs", DEADLINE, || {
                    self::attempt(job) > attempt
                });
                job.wait_until_running();
                assert!(server.resume());
                pause(random.between(Duration::from_millis(100), Duration::from_secs(3)));
                // One more than the job has use for: a fault that meets it would be none.
                assert!(server.kill(), "it goes on after it was frozen");
            }
            Fault::Cut => {
                let attempt = attempt(job);
                job.links[number].cut_off();
                wait_until("somebody misses the others", DEADLINE, || {
                    self::attempt(job) > attempt
                });
                job.links[number].heal();
            }
            Fault::Reset => job.links[number].reset(),
        }
    }
    seen_between
}

fn attempt(job: &OrderJob) -> u64 {
    let status = job.coordinator.rest.job();
    status.map_or(0, |status| status.attempt.0)
}
