//! The broker goes while a commit is on its way to it.

use std::time::Duration;

use millstream_tests::wait::{pause, poll_until, wait_for, wait_until};
use millstream_tests::{Broker, BrokerOptions, KafkaVersion};

use rdkafka::producer::{BaseProducer, Producer};

use crate::job::{Armed, DEADLINE, Job};

/// How long the coordinator waits between a decision and its commits, milliseconds.
const HELD: u64 = 5_000;
/// A chain that does not change for so long, with a checkpoint every 300 ms, is held.
const STILL: Duration = Duration::from_millis(1_500);

/// Enough to meet each of the few partitions of the transaction log.
const IDS: u32 = 12;

/// Points 5 and 15: the `EndTxn` reaches a broker that stands still and is lost with it. The
/// coordinator asks again, until the broker has come back and read its transactions.
#[track_caller]
fn check(version: KafkaVersion) {
    let mut broker = Broker::start(BrokerOptions::version(version));
    warm_up(&broker);
    let armed = format!(
        "coordinator::before-commit=2*off->2*{}({HELD})->off",
        "sleep"
    );
    let job = Job::start(&broker, "point-5", "300ms", Armed::Coordinator(&armed));
    let decided = wait_for("a decided checkpoint is held", DEADLINE, || held(&job));
    assert!(broker.server().pause(), "the broker was running");
    pause(Duration::from_millis(HELD));
    broker.server().kill();
    let newest = job.newest_slot();
    assert_eq!(
        newest.number, decided,
        "nothing was committed before: {newest:?}"
    );
    broker.restart();
    let seen = job.seen();
    wait_until("the held orders are committed", DEADLINE, || {
        job.seen() > seen
    });
    job.finish(&broker);
}

/// Waits until the broker coordinates transactions of every id. A new one refuses some at first,
/// which would cost the job an attempt.
#[track_caller]
fn warm_up(broker: &Broker) {
    for number in 0..IDS {
        wait_until("transactions are coordinated", DEADLINE, || {
            let mut client = broker.client();
            client.set("transactional.id", format!("warm-up-{number}"));
            let producer: BaseProducer = client.create().expect("the settings are valid");
            producer.init_transactions(DEADLINE).is_ok()
        });
    }
}

/// The newest slot, if it is a decided checkpoint and stays so.
pub(crate) fn held(job: &Job) -> Option<u64> {
    let newest = job.newest_slot();
    let is_other = || (job.newest_slot().number != newest.number).then_some(());
    let is_held = newest.is("checkpoint") && poll_until(STILL, is_other).is_none();
    is_held.then_some(newest.number)
}

#[test]
fn point_05_and_15_a_commit_is_lost_with_the_broker_that_comes_back() {
    check(KafkaVersion::V3_9);
}

#[test]
fn point_05_and_15_a_commit_is_lost_with_the_broker_that_comes_back_kafka_4() {
    check(KafkaVersion::V4_4);
}
