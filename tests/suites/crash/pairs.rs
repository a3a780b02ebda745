//! The coordinator and a worker end together.

use std::time::Duration;

use millstream_tests::wait::{poll_until, wait_until};
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::Attempt;

use crate::job::{Armed, DEADLINE, Job, assert_aborted};

/// How long the second may take without the first one.
const ALONE: Duration = Duration::from_secs(10);

/// Where the coordinator ends and where the worker does. In the first three the worker ends, and the
/// coordinator while it recovers from that: it has passed the place once when it started. In the
/// others the coordinator ends at its fourth checkpoint, and the worker at the first one that the
/// next coordinator takes.
const PAIRS: [(&str, &str); 7] = [
    (
        "coordinator::before-claim=1*off->return",
        "worker::after-poll=20*off->return",
    ),
    (
        "coordinator::after-claim=1*off->return",
        "worker::before-ack=3*off->return",
    ),
    (
        "coordinator::before-claim=1*off->return",
        "kafka-sink::flushed=5*off->return",
    ),
    (
        "coordinator::before-decide=3*off->return",
        "worker::after-prepare=4*off->return",
    ),
    (
        "coordinator::after-decide=3*off->return",
        "worker::before-prepare=4*off->return",
    ),
    (
        "coordinator::before-committed=3*off->return",
        "worker::before-ack=4*off->return",
    ),
    (
        "coordinator::after-committed=3*off->return",
        "worker::after-prepare=4*off->return",
    ),
];

/// Both end. Whether no checkpoint was decided in between.
#[track_caller]
fn end_both(job: &mut Job, (coordinator, worker): (&str, &str)) -> bool {
    assert!(job.coordinator.server.kill(), "the coordinator was running");
    drop(job.restart_worker_with(0, worker));
    job.restart_coordinator(coordinator, &[]);
    wait_until("one of them ends", DEADLINE, || {
        !job.coordinator.server.is_running() || !job.workers[0].is_running()
    });
    let first = job.newest_checkpoint().number;
    if job.workers[0].is_running() {
        assert_aborted(&mut job.coordinator.server);
        job.restart_coordinator("", &[]);
        assert_aborted(&mut job.workers[0]);
        let second = job.newest_checkpoint().number;
        drop(job.restart_worker(0));
        return first == second;
    }
    assert_aborted(&mut job.workers[0]);
    let has_ended = poll_until(ALONE, || {
        (!job.coordinator.server.is_running()).then_some(())
    });
    drop(job.restart_worker(0));
    assert_aborted(&mut job.coordinator.server);
    let second = job.newest_checkpoint().number;
    job.restart_coordinator("", &[]);
    has_ended.is_some() && first == second
}

#[track_caller]
fn check(version: KafkaVersion) {
    let broker = Broker::shared(version);
    let name = format!("pairs-{}", version.text().replace('.', "-"));
    let mut job = Job::start(broker, &name, "300ms", Armed::Nobody);
    let mut together = 0;
    for pair in PAIRS {
        let attempt = job.attempt();
        job.wait_until_beyond(Attempt(attempt.0.saturating_sub(1)));
        let is_pair = end_both(&mut job, pair);
        println!("{pair:?}: {}", if is_pair { "together" } else { "apart" });
        together += usize::from(is_pair);
    }
    // Without these it would be a plan of single ends.
    assert!(
        together >= 5,
        "{together} of {} ended together",
        PAIRS.len()
    );
    let attempt = job.newest_slot().attempt;
    job.wait_until_beyond(Attempt(attempt.0.saturating_sub(1)));
    job.finish(broker);
}

#[test]
fn coordinator_and_worker_end_together_kafka_3() {
    check(KafkaVersion::V3_9);
}

#[test]
fn coordinator_and_worker_end_together_kafka_4() {
    check(KafkaVersion::V4_4);
}
