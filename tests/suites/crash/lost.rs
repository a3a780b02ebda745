//! Prepared output is lost, and the job goes on without it once somebody has said so.

use millstream_tests::kafka::transactions::Prepared;
use millstream_tests::{Broker, KafkaVersion};

use crate::job::{Armed, DEADLINE, Job};

const FINAL: i32 = 2;

/// Point 9: a transaction of a decided checkpoint is aborted by somebody else. No start goes on
/// from there, whatever state it wants, until the loss of this checkpoint is accepted. What is
/// missing then is that transaction and nothing else.
#[test]
fn point_09_a_job_goes_on_without_the_output_that_was_given_up() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let decided = "coordinator::after-decide=2*off->return";
    let mut job = Job::start(broker, "point-9", "300ms", Armed::Coordinator(decided));
    let attempt = job.wait_for_coordinator_crash();
    let slot = job.newest_slot();
    let manifest = slot.manifest();
    let prepared = Prepared::listed_in(manifest).into_iter();
    let lost = prepared.max_by_key(|prepared| prepared.records);
    let lost = lost.expect("the checkpoint lists transactions");
    assert!(lost.records > 0, "{lost:?}");
    broker.take_transactional_id(&lost.transactional_id);

    let checkpoint = manifest["checkpoint"].as_u64().expect("it has a number");
    let accepting = format!("--accept-lost-output {checkpoint}");
    let another = (checkpoint - 1).to_string();
    for arguments in [
        &[][..],
        &["--restore", "fresh"],
        &["--accept-lost-output", &another],
    ] {
        job.restart_coordinator("", arguments);
        let status = job.coordinator.server.wait(DEADLINE);
        let output = job.coordinator.server.output();
        assert_eq!(status.code(), Some(FINAL), "{arguments:?}: {output}");
        for part in ["MS0204", &lost.transactional_id, &accepting] {
            assert!(output.contains(part), "no `{part}` in:\n{output}");
        }
    }

    let arguments: Vec<&str> = accepting.split(' ').collect();
    job.restart_coordinator("", &arguments);
    // Those before may have been told that the job is over.
    for number in 0..job.workers.len() {
        drop(job.restart_worker(number));
    }
    job.wait_until_beyond(attempt);
    job.finish_without(broker, lost.records);
}
