//! Bad networks: between workers and the coordinator, and between the job and its broker.

use std::time::Duration;

use millstream_tests::link::{Link, Way};
use millstream_tests::wait::{pause, wait_until};
use millstream_tests::{Broker, BrokerOptions, KafkaVersion};

use crate::job::{DEADLINE, Job, Place, Storage, plain, unchanged};

/// Longer than the coordinator waits for a worker's heartbeat (3 s).
const SILENCE: Duration = Duration::from_secs(6);

// Numbers of requests in Kafka's protocol.
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const INIT_PRODUCER_ID: i16 = 22;
const END_TXN: i16 = 26;

/// One worker's network fails in every way. The coordinator gives it up when it hears nothing, also
/// while the worker hears everything, and the other way round.
#[test]
fn a_worker_behind_a_bad_network_is_given_up_and_comes_back() {
    let broker = Broker::shared(KafkaVersion::V4_4);
    let place = Place {
        name: "worker-network",
        broker,
        bootstrap: broker.bootstrap(),
        storage: Storage::Scratch,
        change: unchanged,
    };
    let link = Link::to("");
    let reached_at = |grpc: &str| {
        link.lead_to(grpc);
        link.address()
    };
    let mut job = Job::start_over(&place, [&plain; 3], reached_at);
    job.wait_for_output();

    for way in [Way::ToServer, Way::ToClient] {
        let attempt = job.attempt();
        link.cut(way);
        wait_until("the coordinator gives the workers up", DEADLINE, || {
            job.status()
                .is_some_and(|status| status.attempt > attempt || status.workers.is_empty())
        });
        link.heal();
        wait_until("a new attempt begins", DEADLINE, || job.attempt() > attempt);
        job.wait_for_output();
    }
    for _ in 0..3 {
        link.reset();
        job.wait_for_output();
    }
    link.cut_off();
    pause(SILENCE);
    link.heal();
    job.wait_for_output();
    // Slow is not gone.
    let attempt = job.attempt();
    link.delay(Duration::from_millis(100));
    for _ in 0..3 {
        job.wait_for_output();
    }
    assert_eq!(job.attempt(), attempt, "a slow network costs no attempt");
    link.heal();
    job.finish(broker);
}

/// The broker is reached over a network that loses answers, holds requests up for longer than
/// anybody waits, and breaks. Commits are made again until they are known to be made.
#[test]
fn a_broker_behind_a_bad_network_loses_and_doubles_nothing() {
    let broker = Broker::start(BrokerOptions {
        link: true,
        ..BrokerOptions::version(KafkaVersion::V3_9)
    });
    let link = broker.link();
    let place = Place {
        name: "broker-network",
        broker: &broker,
        bootstrap: link.address(),
        storage: Storage::Scratch,
        change: unchanged,
    };
    let mut job = Job::start(&place, [&plain; 3]);
    job.wait_for_output();

    for request in [END_TXN, INIT_PRODUCER_ID, PRODUCE] {
        link.lose_answers(request);
        wait_until("answers are lost", DEADLINE, || link.lost(request) > 1);
        link.heal();
        job.wait_for_output();
    }
    // The commit arrives after the committer has given up waiting for it and asked again.
    link.hold(END_TXN);
    wait_until("commits are held", DEADLINE, || link.held(END_TXN) > 0);
    pause(Duration::from_secs(12));
    link.heal();
    job.wait_for_output();
    for request in [FETCH, PRODUCE] {
        link.hold(request);
        pause(SILENCE);
        link.heal();
        job.wait_for_output();
    }
    for way in [Way::ToServer, Way::ToClient] {
        link.cut(way);
        pause(SILENCE);
        link.heal();
        job.wait_for_output();
    }
    link.reset();
    link.refuse();
    pause(SILENCE);
    link.heal();
    job.wait_for_output();
    job.finish(&broker);
}
