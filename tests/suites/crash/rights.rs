//! The right to use the transactional ids is taken away between a decision and its commits.

use std::time::Duration;

use millstream_tests::order_job::OrderJobFile;
use millstream_tests::wait::{pause, wait_for, wait_until};
use millstream_tests::{Broker, BrokerOptions, KafkaVersion};

use crate::broker::held;
use crate::job::{Armed, DEADLINE, Job};

/// How long the coordinator waits between a decision and its commits, milliseconds.
const HELD: u64 = 5_000;

/// Point 19: the commits are refused and the job says so; nothing is taken for lost. With the right
/// back, they are made.
#[test]
fn point_19_a_commit_that_is_forbidden_is_made_once_it_is_allowed() {
    let broker = Broker::start(BrokerOptions::version(KafkaVersion::V3_9).with_acls());
    let armed = format!(
        "coordinator::before-commit=2*off->1*{}({HELD})->off",
        "sleep"
    );
    let armed = Armed::Coordinator(&armed);
    let mut job = Job::start_with(&broker, "point-19", "300ms", armed, impatient);
    let decided = wait_for("a decided checkpoint is held", DEADLINE, || held(&job));
    broker.deny_transactions("point-19");
    let seen = job.seen();
    pause(Duration::from_millis(HELD));
    // TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
    let refusals = "with error 53";
    wait_until("the commits are refused", DEADLINE, || {
        job.cluster.log_lines(refusals) > 0
    });
    assert_eq!(job.seen(), seen, "nothing is committed");
    let newest = job.newest_checkpoint();
    assert_eq!(newest.number, decided, "nothing more is decided");
    assert_eq!(
        job.cluster.log_lines("MS0204"),
        0,
        "nothing is taken for lost"
    );

    broker.allow_transactions("point-19");
    if !job.coordinator.server.is_running() {
        job.restart_coordinator("", &[]);
        job.restart_ended_workers();
    }
    wait_until("the commits are made", DEADLINE, || job.seen() > seen);
    job.finish(&broker);
}

fn impatient(file: OrderJobFile) -> OrderJobFile {
    file.replace(
        "transactionTimeout: 15m\n",
        "transactionTimeout: 15m\n          connectTimeout: 3s\n",
    )
}
