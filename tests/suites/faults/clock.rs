//! Clocks that differ by hours, and jump.

use std::time::Duration;

use millstream_tests::clock::{Clock, right_time};
use millstream_tests::{Broker, BrokerOptions, KafkaVersion};

use crate::job::{Job, Place, Storage, plain, unchanged};

const HOUR: i64 = 3_600;

/// How far ahead of this process the coordinator was when it decided the newest checkpoint.
#[track_caller]
fn ahead(job: &Job) -> i64 {
    let newest = job.newest_checkpoint();
    let decided = newest["decidedAt"].as_i64().expect("milliseconds");
    decided / 1_000 - right_time()
}

/// The coordinator is an hour ahead, one worker an hour behind, the broker and the other worker are
/// right. Then the clocks are set, forwards and backwards, while the job runs and recovers.
/// Takes minutes.
#[test]
fn extended_clocks_that_are_wrong_and_jump_cost_no_record() {
    // A broker takes no record from the future, if it is not told to.
    let options = BrokerOptions::version(KafkaVersion::V4_4);
    let any = i64::MAX.to_string();
    let broker = Broker::start(options.property("log.message.timestamp.after.max.ms", &any));
    let place = Place {
        name: "clock",
        broker: &broker,
        bootstrap: broker.bootstrap(),
        storage: Storage::Scratch,
        change: unchanged,
    };
    let (coordinators, workers) = (Clock::ahead_by(HOUR), Clock::ahead_by(-HOUR));
    let at_coordinator = |launch| coordinators.give(launch);
    let at_worker = |launch| workers.give(launch);
    let mut job = Job::start(&place, [&at_coordinator, &at_worker, &plain]);
    job.wait_for_output();
    assert!(
        (HOUR - 120..HOUR + 120).contains(&ahead(&job)),
        "{}",
        ahead(&job)
    );

    for jump in [-HOUR, 3 * HOUR, 0, -24 * HOUR] {
        coordinators.jump(jump);
        workers.jump(-jump);
        millstream_tests::wait::wait_until("the clock has jumped", Duration::from_mins(3), || {
            job.tend();
            (jump - 120..jump + 120).contains(&ahead(&job))
        });
        job.wait_for_output();
        // The next attempt begins, by its clock, before or long after the last one.
        job.restart_worker(1);
        job.wait_for_output();
    }
    // It comes back with the right time, a day after the last slot was written.
    job.restart_coordinator();
    job.wait_for_output();
    job.finish(&broker);
}
