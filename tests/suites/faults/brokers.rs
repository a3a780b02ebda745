//! Three brokers, of which one at a time is down, frozen or cut off, with workers and coordinators
//! killed meanwhile.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use millstream_tests::kafka::brokers::Brokers;
use millstream_tests::wait::{pause, wait_until};
use millstream_tests::workload::mix;
use millstream_tests::{BrokerOptions, KafkaVersion};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;

use crate::job::{DEADLINE, Job, Place, Storage, plain, unchanged};

const BROKERS: usize = 3;
/// Longer than the controller waits for a broker's heartbeat (9 s): leaders and coordinators move.
const AWAY: Duration = Duration::from_secs(12);

/// What happens to one broker.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// `kill -9`, and it comes back later.
    Killed,
    /// It is stopped and started, and then the others, one after another: a rolling restart.
    Rolled,
    /// It stands still for longer than a session, and goes on with what it knew.
    Frozen,
    /// The job does not reach it; the other brokers do.
    CutOff,
    /// All its connections to the job break, and everything it says comes late.
    Slow,
}

const FAULTS: [Fault; 5] = [
    Fault::Frozen,
    Fault::Killed,
    Fault::CutOff,
    Fault::Rolled,
    Fault::Slow,
];

/// Waits until all three keep every record again: the next fault may take any of them.
#[track_caller]
fn wait_until_in_sync(brokers: &Brokers) {
    let consumer: BaseConsumer = brokers.any().client().create().expect("valid settings");
    wait_until("all brokers are in sync", DEADLINE, || {
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(5));
        metadata.is_ok_and(|metadata| {
            let topics = metadata.topics().iter();
            let mut partitions = topics.flat_map(MetadataTopic::partitions);
            partitions.all(|partition| partition.isr().len() == BROKERS)
        })
    });
}

#[track_caller]
fn happen(fault: Fault, number: usize, brokers: &mut Brokers, meanwhile: impl FnOnce()) {
    match fault {
        Fault::Killed => {
            assert!(
                brokers.node(number).server().kill(),
                "the broker was running"
            );
            meanwhile();
            pause(AWAY);
            brokers.node(number).restart();
        }
        Fault::Rolled => {
            meanwhile();
            for next in 0..BROKERS {
                let number = (number + next) % BROKERS;
                let server = brokers.node(number).server();
                server.terminate(Duration::from_secs(30));
                brokers.node(number).restart();
                wait_until_in_sync(brokers);
            }
        }
        Fault::Frozen => {
            assert!(
                brokers.node(number).server().pause(),
                "the broker was running"
            );
            meanwhile();
            // As long as made a stale answer in nine of ten rounds.
            pause(AWAY * 3);
            assert!(brokers.node(number).server().resume());
        }
        Fault::CutOff => {
            brokers.node(number).link().cut_off();
            meanwhile();
            pause(AWAY);
            brokers.node(number).link().heal();
        }
        Fault::Slow => {
            brokers.node(number).link().reset();
            brokers.node(number).link().delay(Duration::from_millis(50));
            meanwhile();
            pause(AWAY);
            brokers.node(number).link().heal();
        }
    }
}

/// The job goes on after each fault, until the time is over.
#[track_caller]
fn live_through(version: KafkaVersion, faults: &[Fault], duration: Duration, seed: u64) {
    let mut brokers = Brokers::start(BrokerOptions {
        link: true,
        ..BrokerOptions::version(version)
    });
    let links: Vec<String> = brokers
        .nodes()
        .iter()
        .map(|node| node.link().address())
        .collect();
    let place = Place {
        name: "brokers",
        broker: brokers.any(),
        bootstrap: links.join(","),
        storage: Storage::Scratch,
        change: unchanged,
    };
    let mut job = Job::start(&place, [&plain; 3]);
    job.wait_for_output();
    let started = Instant::now();
    let mut round = 0;
    while started.elapsed() < duration || round < faults.len() {
        let fault = faults[round % faults.len()];
        let dice = mix(seed.wrapping_add(round as u64));
        let number = usize::try_from(dice % 3).expect("few brokers");
        println!("{fault:?} broker {number} after {} records", job.seen());
        happen(fault, number, &mut brokers, || match dice / 3 % 4 {
            0 => job.restart_worker(0),
            1 => job.restart_worker(1),
            2 => job.restart_coordinator(),
            _ => {}
        });
        job.tend();
        wait_until_in_sync(&brokers);
        job.wait_for_output();
        round += 1;
    }
    println!("{round} faults in {:?}", started.elapsed());
    job.finish(brokers.any());
}

#[test]
fn one_of_three_brokers_is_away_and_no_record_is_lost() {
    live_through(KafkaVersion::V4_4, &FAULTS[..3], Duration::ZERO, seed());
}

#[test]
fn extended_one_of_three_brokers_is_away_for_ten_minutes() {
    live_through(KafkaVersion::V4_4, &FAULTS, Duration::from_mins(10), seed());
}

#[test]
fn extended_one_of_three_brokers_is_away_and_no_record_is_lost_kafka_3() {
    live_through(KafkaVersion::V3_9, &FAULTS, Duration::ZERO, seed());
}

/// The seed that `MILLSTREAM_SEED` names, or a new one; printed, to have the same faults again.
fn seed() -> u64 {
    let seed = match std::env::var("MILLSTREAM_SEED") {
        Ok(text) => text.parse().expect("MILLSTREAM_SEED is a number"),
        Err(_) => RandomState::new().hash_one(0),
    };
    println!("MILLSTREAM_SEED={seed}");
    seed
}
