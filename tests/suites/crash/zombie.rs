//! Processes that were given up wake up and go on.

use std::time::Duration;

use millstream_tests::order_job::OrderJobFile;
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::Attempt;

use crate::job::{Armed, DEADLINE, Job};

/// Exit code of a coordinator that met a newer claim.
const FENCED: i32 = 3;

/// Points 11, 12 and 21: a worker freezes with open transactions and unread messages, is replaced,
/// and goes on with all of them. What it opens behind the sweeps of its successors hides later
/// records until its timeout, and nothing else.
#[test]
fn point_11_12_21_a_given_up_worker_wakes_up() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let mut job = Job::start_with(broker, "point-11", "300ms", Armed::Nobody, short_timeout);
    job.wait_until_beyond(Attempt(0));
    let attempt = job.attempt();
    assert!(job.workers[0].pause(), "the worker was running");
    let mut zombie = job.restart_worker(0);
    job.wait_until_beyond(attempt);
    assert!(zombie.is_running());
    assert!(zombie.resume());
    // It comes back to its coordinator, which knows it under this name and has no use for two.
    let before = job.attempt();
    job.wait_until_beyond(Attempt(before.0 - 1));
    let seen = job.seen();
    wait_until("orders flow on", DEADLINE, || job.seen() > seen + 5_000);
    drop(zombie);
    job.wait_until_beyond(Attempt(before.0 - 1));
    job.finish(broker);
}

/// The shortest transaction timeout that goes with these checkpoints.
fn short_timeout(file: OrderJobFile) -> OrderJobFile {
    file.replace("timeout: 60s", "timeout: 4s")
        .replace("tolerableFailures: 3", "tolerableFailures: 1")
        .replace("transactionTimeout: 15m", "transactionTimeout: 52s")
}

/// Point 22: a coordinator has claimed the chain and read what is to be committed. Before it does,
/// another one claims, commits and goes on. What the first one does then is stale.
#[test]
fn point_22_a_deposed_coordinator_recovers_with_a_stale_view() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let decided = "coordinator::after-decide=2*off->return";
    let mut job = Job::start(broker, "point-22", "300ms", Armed::Coordinator(decided));
    job.wait_for_coordinator_crash();
    let decided = job.newest_slot().number;
    let held = format!("coordinator::after-claim=1*{}(12000)->off", "sleep");
    job.restart_coordinator(&held, &[]);
    wait_until("the chain is claimed", DEADLINE, || {
        job.newest_slot().number > decided
    });
    let claimed = job.newest_slot();
    assert!(claimed.is("claim"), "{claimed:?}");
    let (mut deposed, zombies) = job.replace_everything();
    job.wait_until_beyond(claimed.attempt);
    assert!(deposed.server.is_running(), "it is still to wake up");
    let status = deposed.server.wait(Duration::from_mins(1));
    let output = deposed.server.output();
    assert_eq!(status.code(), Some(FENCED), "{output}");
    assert!(output.contains("MS0304"), "{output}");
    let attempt = job.attempt();
    job.wait_until_beyond(Attempt(attempt.0 - 1));
    drop(zombies);
    job.finish(broker);
}
