//! The coordinator ends while the job stops with a savepoint.

use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::Attempt;
use millstream_types::api::StopRequest;

use crate::job::{Armed, DEADLINE, Job, open_transactions};

const SAVEPOINT: &str = "before-the-crash";

/// The job up to the end of its coordinator at `failpoint`, with no checkpoint before that.
#[track_caller]
fn stop_and_crash(broker: &Broker, name: &str, failpoint: &str) -> (Job, Attempt) {
    let armed = format!("{failpoint}=return");
    let mut job = Job::start(broker, name, "2m", Armed::Coordinator(&armed));
    job.wait_until_running();
    wait_until("both workers have written", DEADLINE, || {
        open_transactions(broker, name) >= 4
    });
    assert_eq!(job.seen(), 0, "nothing is committed yet");
    let stop = StopRequest {
        savepoint: Some(SAVEPOINT.to_owned()),
        drain: false,
    };
    // The answer may go with the process.
    drop(job.coordinator.rest.stop(&stop));
    let attempt = job.wait_for_coordinator_crash();
    job.change_interval("300ms");
    (job, attempt)
}

#[test]
fn point_18_coordinator_ends_between_the_last_decision_and_its_commits() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let (mut job, attempt) = stop_and_crash(broker, "point-18a", "coordinator::after-decide");
    assert_eq!(job.seen(), 0, "nothing is committed yet");
    job.restart_coordinator("", &[]);
    job.wait_until_beyond(attempt);
    job.finish(broker);
}

#[test]
fn point_18_coordinator_ends_with_the_savepoint_written_and_the_next_starts_from_it() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let (mut job, attempt) = stop_and_crash(broker, "point-18b", "coordinator::after-savepoint");
    wait_until(
        "everything before the savepoint is visible",
        DEADLINE,
        || job.seen() > 0,
    );
    let path = format!("file://{}/savepoints/{SAVEPOINT}", job.folder().display());
    job.restart_coordinator("", &["--restore", &path]);
    job.wait_until_beyond(attempt);
    job.finish(broker);
}
