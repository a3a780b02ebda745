//! The job comes back with another parallelism than it had when it ended.

use millstream_tests::order_job::OrderJobFile;
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::Attempt;

use crate::job::{Armed, DEADLINE, Job, undecided};

fn parallelism(subtasks: u32) -> impl FnOnce(OrderJobFile) -> OrderJobFile {
    move |file| file.replace("parallelism: 2", &format!("parallelism: {subtasks}"))
}

/// Point 13: a checkpoint of two subtasks is decided and not committed. Three go on from it, and
/// then one.
#[test]
fn point_13_decided_transactions_are_committed_at_another_parallelism() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let decided = "coordinator::after-decide=2*off->return";
    let mut job = Job::start(broker, "point-13", "300ms", Armed::Coordinator(decided));
    let attempt = job.wait_for_coordinator_crash();
    job.change_file(parallelism(3));
    job.add_worker();
    job.restart_coordinator(decided, &[]);
    let next = job.wait_for_coordinator_crash();
    assert!(next > attempt, "three subtasks took checkpoints");
    let slot = job.newest_slot();
    assert!(slot.is("checkpoint"), "{slot:?}");
    job.change_file(parallelism(1));
    job.restart_coordinator("", &[]);
    job.wait_until_beyond(next);
    job.finish(broker);
}

/// Point 14: an attempt of four subtasks ends before its first checkpoint is decided, with
/// transactions open in each. The attempt of one subtask that follows aborts them all: readers are
/// not held up until they time out.
#[test]
fn point_14_transactions_of_subtasks_that_are_no_more_are_aborted() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let mut job = Job::start(broker, "point-14", "300ms", Armed::Nobody);
    job.wait_until_beyond(Attempt(0));
    job.change_file(parallelism(4));
    job.add_worker();
    job.add_worker();
    assert!(job.coordinator.server.kill(), "the coordinator was running");
    let before = undecided(broker, "point-14");
    let held = format!("coordinator::before-decide={}(60000)", "sleep");
    job.restart_coordinator(&held, &[]);
    wait_until(
        "each subtask of the new attempt has written",
        DEADLINE,
        || {
            let open = undecided(broker, "point-14");
            open.iter().filter(|open| !before.contains(open)).count() >= 4
        },
    );
    assert!(job.coordinator.server.kill(), "the coordinator was running");
    let (newest, decided) = (job.newest_slot(), job.newest_checkpoint());
    assert!(decided.attempt < newest.attempt, "{decided:?} {newest:?}");
    let attempt = newest.attempt;
    job.change_file(parallelism(1));
    job.restart_coordinator("", &[]);
    job.wait_until_beyond(attempt);
    job.finish(broker);
}
