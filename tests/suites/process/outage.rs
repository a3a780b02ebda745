//! The store does not answer for longer than a transaction may stay open.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use millstream_tests::order_job::OrderJobFile;
use millstream_tests::proxy::{Action, Proxy, Request};
use millstream_tests::wait::wait_until;
use millstream_tests::workload::Workload;
use millstream_types::Attempt;

use crate::faults::seed;
use crate::fixture::{Between, OrderJob, Setup, feed};
use crate::machine;

const WORKERS: usize = 2;
const RECORDS: u64 = 300_000;
const FEED: Duration = Duration::from_secs(100);
const DEADLINE: Duration = Duration::from_mins(3);
/// Longer than the transactions' timeout, and than the broker takes to notice.
const OUTAGE: Duration = Duration::from_secs(75);

/// The shortest transaction timeout that goes with these checkpoints.
fn short_timeout(file: OrderJobFile) -> OrderJobFile {
    file.replace("timeout: 60s", "timeout: 4s")
        .replace("tolerableFailures: 3", "tolerableFailures: 0")
        .replace("transactionTimeout: 15m", "transactionTimeout: 45s")
}

/// Every task has acknowledged a checkpoint when the store stops answering, so that its decision
/// is on its way. When the store is back, all that was sent meanwhile reaches it, the decision too:
/// by then the broker has given up everything that it lists.
#[test]
fn an_outage_of_the_store_that_is_longer_than_a_transaction_costs_a_restart_and_nothing_else() {
    let _machine = machine();
    let workload = Workload::new(seed(), RECORDS);
    let mut job = OrderJob::start(Setup {
        between: Between::Store,
        change: short_timeout,
        ..Setup::new("outage", WORKERS)
    });
    let brokers = Arc::clone(&job.brokers);
    std::thread::scope(|scope| {
        scope.spawn(|| feed(&brokers, workload, FEED));
        wait_until("orders are committed", DEADLINE, || job.seen() > 10_000);
        let before = status(&job);
        let began = hold_up(job.store.as_ref().expect("a proxy"));
        wait_until("a decision is held up", DEADLINE, || began.get().is_some());
        wait_until("the store is back", DEADLINE, || {
            began.get().is_some_and(|began| began.elapsed() > OUTAGE)
        });
        let seen = job.seen();
        wait_until("the job goes on by itself", DEADLINE, || {
            job.tend();
            status(&job) > before && job.seen() > seen
        });
    });
    let late = job.cluster.log_lines("acknowledged and not written within");
    assert!(late > 0, "the decision has a deadline");
    let given_up = job
        .cluster
        .log_lines("the job goes back to the checkpoint before it");
    let lost = job.cluster.log_lines("is lost (");
    println!("{late} decisions too late, {given_up} times gone back, {lost} lines about a loss");
    let finished = job.finish(workload);
    finished.check(workload);
    assert!(finished.attempts > 1, "attempts");
}

fn status(job: &OrderJob) -> Attempt {
    let status = job.coordinator.rest.job();
    status.map_or(Attempt(0), |status| status.attempt)
}

/// From the next decision on, holds everything up until the outage is over. When it began.
fn hold_up(store: &Proxy) -> Arc<OnceLock<Instant>> {
    let began = Arc::new(OnceLock::new());
    let since = Arc::clone(&began);
    store.set_rule(move |request| {
        if since.get().is_none() && !is_decision(request) {
            return Action::Forward;
        }
        let left = OUTAGE.saturating_sub(since.get_or_init(Instant::now).elapsed());
        if left.is_zero() {
            Action::Forward
        } else {
            Action::Delay(left)
        }
    });
    began
}

fn is_decision(request: &Request) -> bool {
    let body = String::from_utf8_lossy(&request.body);
    request.method == "PUT" && body.contains(r#""entry":{"checkpoint""#)
}
