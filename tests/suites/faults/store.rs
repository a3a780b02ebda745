//! A store that refuses, hangs, is late and loses answers, under a running job.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_tests::link::{Link, Way};
use millstream_tests::proxy::{Action, Proxy, Request};
use millstream_tests::wait::{pause, wait_until};
use millstream_tests::{Broker, BrokerOptions, Minio};

use crate::job::{DEADLINE, Job, Place, Storage, plain, unchanged};

/// What the store does for a while.
type Fault = fn(&Request, usize) -> Action;

/// Every request is refused: the store asks for patience.
fn refuses(_: &Request, _: usize) -> Action {
    Action::Answer(503)
}

/// Two of three requests are refused.
fn is_overloaded(_: &Request, number: usize) -> Action {
    if number.is_multiple_of(3) {
        Action::Forward
    } else {
        Action::Answer(503)
    }
}

/// Nothing is answered before everybody has given up; then everything arrives.
fn hangs(_: &Request, _: usize) -> Action {
    Action::Delay(Duration::from_secs(20))
}

/// What is written arrives late, every time another bit.
fn is_late(request: &Request, number: usize) -> Action {
    if request.method == "PUT" {
        Action::Delay(Duration::from_millis(200 * (number as u64 % 10)))
    } else {
        Action::Forward
    }
}

/// Every second answer to a write is lost, and the write is done.
fn loses_answers(request: &Request, number: usize) -> Action {
    if request.method == "PUT" && number.is_multiple_of(2) {
        Action::CutAfter(Box::new(|| ()))
    } else {
        Action::Forward
    }
}

/// The connection breaks before the request arrives, every second time.
fn breaks(_: &Request, number: usize) -> Action {
    if number.is_multiple_of(2) {
        Action::CutBefore(Box::new(|| ()))
    } else {
        Action::Forward
    }
}

const FAULTS: [(&str, Fault, Duration); 6] = [
    ("is overloaded", is_overloaded, Duration::from_secs(8)),
    ("refuses", refuses, Duration::from_secs(10)),
    ("is late", is_late, Duration::from_secs(10)),
    ("loses answers", loses_answers, Duration::from_secs(8)),
    ("breaks", breaks, Duration::from_secs(8)),
    ("hangs", hangs, Duration::from_secs(25)),
];

/// How long no answer comes over the network.
const CUT: Duration = Duration::from_secs(6);

/// The job goes on after each, and its processes end meanwhile, too: whoever comes next finds out
/// what became of the writes that nobody was told of.
#[track_caller]
fn misbehave(name: &str, faults: &[(&str, Fault, Duration)], kills: bool) {
    let broker = Broker::start(BrokerOptions::default());
    let minio = Minio::start();
    let server = minio.endpoint();
    let link = Link::to(server.trim_start_matches("http://"));
    let proxy = Proxy::start("127.0.0.1", &link.address());
    let mut environment = minio.environment();
    environment[0] = ("AWS_ENDPOINT_URL", format!("http://{}", proxy.address()));
    let place = Place {
        name,
        broker: &broker,
        bootstrap: broker.bootstrap(),
        storage: Storage::Bucket([environment, minio.environment()]),
        change: unchanged,
    };
    let mut job = Job::start(&place, [&plain; 3]);
    job.wait_for_output();
    for (what, fault, time) in faults {
        println!(
            "the store {what} for {time:?}, after {} records",
            job.seen()
        );
        let met = Arc::new(AtomicUsize::new(0));
        proxy.set_rule({
            let (met, fault) = (Arc::clone(&met), *fault);
            move |request| fault(request, met.fetch_add(1, Ordering::Relaxed))
        });
        pause(*time / 2);
        if kills {
            job.restart_coordinator();
        }
        pause(*time / 2);
        wait_until("the store was asked meanwhile", DEADLINE, || {
            met.load(Ordering::Relaxed) > 0
        });
        proxy.set_rule(|_| Action::Forward);
        job.wait_for_output();
    }
    // What is on its way when the network breaks may have arrived or not.
    link.reset();
    job.wait_for_output();
    link.cut(Way::ToClient);
    pause(CUT);
    link.heal();
    job.wait_for_output();
    job.finish(&broker);
}

#[test]
fn a_store_that_refuses_is_late_and_loses_answers_costs_no_record() {
    misbehave("store", &FAULTS[1..4], false);
}

#[test]
fn extended_a_store_that_misbehaves_in_every_way_costs_no_record() {
    misbehave("store-long", &FAULTS, false);
}

#[test]
fn extended_a_coordinator_that_is_killed_while_its_store_misbehaves_costs_no_record() {
    misbehave("store-kills", &FAULTS, true);
}
