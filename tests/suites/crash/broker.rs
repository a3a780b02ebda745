//! The broker goes while a commit is on its way to it.

use std::time::Duration;

use millstream_tests::wait::{pause, poll_until, wait_until};
use millstream_tests::{Broker, BrokerOptions, KafkaVersion};

use crate::job::{Armed, DEADLINE, Job};

/// How long the coordinator waits between a decision and its commits, milliseconds.
const HELD: u64 = 3_000;
/// A chain that does not change for so long, with a checkpoint every 300 ms, is held.
const STILL: Duration = Duration::from_secs(1);

/// What the coordinator says of commits that are not answered.
const IN_VAIN: &str = "so far in vain";

/// Points 5 and 15: the `EndTxn` reaches a broker that stands still and is lost with it. The
/// coordinator asks again, until the broker has come back and read its transactions.
#[track_caller]
fn check(version: KafkaVersion) {
    let mut broker = Broker::start(BrokerOptions::version(version));
    let held = format!(
        "coordinator::before-commit=2*off->1*{}({HELD})->off",
        "sleep"
    );
    let job = Job::start(&broker, "point-5", "300ms", Armed::Coordinator(&held));
    wait_until("a decided checkpoint is held", DEADLINE, || is_held(&job));
    let attempt = job.attempt();
    assert!(broker.server().pause(), "the broker was running");
    pause(Duration::from_millis(HELD));
    broker.server().kill();
    wait_until("the commit is not answered", DEADLINE, || {
        job.cluster.log_lines(IN_VAIN) > 0
    });
    broker.restart();
    let seen = job.seen();
    wait_until("the held orders are committed", DEADLINE, || {
        job.seen() > seen
    });
    println!(
        "attempt {attempt} before the broker went, {} now",
        job.attempt()
    );
    job.finish(&broker);
}

/// Whether the newest slot is a decided checkpoint, and stays so.
fn is_held(job: &Job) -> bool {
    let held = job.newest_slot();
    let is_later = job.seen() > 0 && held.is("checkpoint");
    is_later
        && poll_until(STILL, || {
            (job.newest_slot().slot != held.slot).then_some(())
        })
        .is_none()
}

#[test]
fn point_05_and_15_a_commit_is_lost_with_the_broker_that_comes_back() {
    check(KafkaVersion::V3_9);
}

#[test]
fn point_05_and_15_a_commit_is_lost_with_the_broker_that_comes_back_kafka_4() {
    check(KafkaVersion::V4_4);
}
