//! The coordinator ends while the job stops with a savepoint.

use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::Attempt;
use millstream_types::api::StopRequest;

use crate::job::{Armed, DEADLINE, Job, open_transactions, undecided_transactions};

const SAVEPOINT: &str = "before-the-crash";

/// Transactions of a subtask's two sinks, times the workers.
const TRANSACTIONS: u64 = 4;

/// The job up to the end of its coordinator at `failpoint`, where its last checkpoint is the only
/// one since the job began to write.
#[track_caller]
fn stop_and_crash(broker: &Broker, name: &str, failpoint: &str) -> (Job, Attempt) {
    let mut job = Job::start(broker, name, "2m", Armed::Coordinator(failpoint));
    // The first checkpoint begins as soon as all tasks run, with or without records before it.
    job.wait_for_checkpoint();
    let begun = job.newest_slot().number;
    wait_until("both workers have written", DEADLINE, || {
        undecided_transactions(broker, name) >= TRANSACTIONS
    });
    let stop = StopRequest {
        savepoint: Some(SAVEPOINT.to_owned()),
        drain: false,
    };
    // The answer may go with the process.
    drop(job.coordinator.rest.stop(&stop));
    let attempt = job.wait_for_coordinator_crash();
    let newest = job.newest_slot();
    assert!(newest.number > begun, "it stopped before: {newest:?}");
    job.change_interval("300ms");
    (job, attempt)
}

#[test]
fn point_18_coordinator_ends_between_the_last_decision_and_its_commits() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let second = "coordinator::after-decide=1*off->return";
    let (mut job, attempt) = stop_and_crash(broker, "point-18a", second);
    let newest = job.newest_slot();
    assert!(newest.is("checkpoint"), "it is decided: {newest:?}");
    let open = undecided_transactions(broker, "point-18a");
    assert!(open >= TRANSACTIONS, "nothing of it is committed: {open}");
    job.restart_coordinator("", &[]);
    job.wait_until_beyond(attempt);
    job.finish(broker);
}

#[test]
fn point_18_coordinator_ends_with_the_savepoint_written_and_the_next_starts_from_it() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let written = "coordinator::after-savepoint=return";
    let (mut job, attempt) = stop_and_crash(broker, "point-18b", written);
    let newest = job.newest_slot();
    assert!(newest.is("committed"), "it is confirmed: {newest:?}");
    wait_until("all before the savepoint is committed", DEADLINE, || {
        open_transactions(broker, "point-18b") == 0
    });
    let path = format!("file://{}/savepoints/{SAVEPOINT}", job.folder().display());
    job.restart_coordinator("", &["--restore", &path]);
    job.wait_until_beyond(attempt);
    job.finish(broker);
}
