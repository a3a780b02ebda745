//! Records that cross between workers, while these are killed and frozen and their connections cut.
//!
//! The order job with edges, by TLS, on three brokers: the orders of two topics are put together, and all orders of
//! a customer go through one of three subtasks, each in another worker. The audit sees whether they keep
//! their order.

use std::sync::Arc;
use std::time::Duration;

use millstream_tests::audit::Topics;
use millstream_tests::order_job::OrderJobFile;
use millstream_tests::wait::{pause, wait_until};
use millstream_tests::workload::Workload;

use crate::faults::{Random, seed};
use crate::fixture::{self, Between, OrderJob, Setup, feed_part};
use crate::machine;

const WORKERS: u64 = 3;
const RECORDS: u64 = 2_000_000;
const FEED: Duration = Duration::from_secs(110);
const DEADLINE: Duration = Duration::from_mins(1);

const TOPICS: Topics<'static> = Topics {
    input: "north",
    other_input: Some("south"),
    ..fixture::TOPICS
};

/// All orders of a customer lie in one of the two topics: there is no order between the two.
const fn is_northern(customer: u64) -> bool {
    customer.is_multiple_of(2)
}

const UNION: &str = "    transforms:
      - name: northern
        input: north
        sql: SELECT * FROM north WHERE quantity > 0 AND price > 0
      - name: southern
        input: south
        sql: SELECT * FROM south WHERE quantity > 0 AND price > 0
      - name: enriched
        inputs: [northern, southern]
        partitionBy: [customer_id]
        parallelism: 3
        sql: |
          SELECT *, quantity * price AS total FROM northern
          UNION ALL
          SELECT *, quantity * price AS total FROM southern
";

/// The order job with two sources of two subtasks, whose orders go to three.
fn with_union(file: OrderJobFile) -> OrderJobFile {
    let orders = file.part("      - name: orders\n", "    transforms:\n");
    let source = |name: &str| {
        orders
            .replace("name: orders\n", &format!("name: {name}\n"))
            .replace("topics: [orders]", &format!("topics: [{name}]"))
            .replace("groupId: order-processor", &format!("groupId: {name}"))
    };
    let sources = [source("north"), source("south")].concat();
    let transforms = file.part("    transforms:\n", "    sinks:\n");
    file.replace(&orders, &sources)
        .replace(&transforms, UNION)
        .replace(
            "        input: enriched\n",
            "        input: enriched\n        parallelism: 3\n",
        )
        .replace(
            "input: orders.deadLetters",
            "inputs: [north.deadLetters, south.deadLetters]",
        )
}

/// What is done to a job.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// `kill -9` of a worker.
    Kill,
    /// `SIGSTOP` of one, which goes on when others have taken its place.
    Freeze,
    /// Nothing arrives any more over the connections that lead to one.
    Cut,
    /// These connections break.
    Reset,
}

const PLAN: &[(Fault, usize)] = &[
    (Fault::Kill, 4),
    (Fault::Freeze, 2),
    (Fault::Cut, 3),
    (Fault::Reset, 3),
];

#[test]
fn orders_of_two_topics_cross_between_workers_in_order_while_these_and_their_links_fail() {
    let _machine = machine();
    let seed = seed();
    println!("MILLSTREAM_SEED={seed}");
    let workload = Workload::new(seed, RECORDS);
    let mut job = OrderJob::start(Setup {
        change: with_union,
        between: Between::Workers,
        tls: true,
        three_brokers: true,
        topics: TOPICS,
        sources: &["north", "south"],
        ..Setup::new("exchange", 3)
    });
    let brokers = Arc::clone(&job.brokers);
    let mut seen_between = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| feed_part(&brokers, "north", workload, FEED, is_northern));
        scope.spawn(|| feed_part(&brokers, "south", workload, FEED, |it| !is_northern(it)));
        seen_between = run(&mut job, &mut Random::new(seed), PLAN);
    });
    let finished = job.finish(workload);
    finished.check(workload);
    // Without these the run would prove little.
    assert!(finished.attempts > 8, "attempts");
    assert!(finished.checkpoints > 20, "checkpoints");
    assert!(seen_between >= 5, "output was committed between faults");
}

/// Carries a plan out: which faults, and how often each. How often new output was seen between two.
pub(crate) fn run(job: &mut OrderJob, random: &mut Random, plan: &[(Fault, usize)]) -> u32 {
    let faults = plan.iter();
    let mut plan: Vec<Fault> = faults
        .flat_map(|(fault, times)| vec![*fault; *times])
        .collect();
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
