//! The places that the table does not name, one after another in one life of a job: each ends the
//! process that has come back from the one before.

use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::Attempt;
use millstream_types::api::StopRequest;

use crate::job::{Armed, DEADLINE, Job};

/// Where the coordinator has only begun: it pins where the job starts.
const BEGINNING: [&str; 2] = [
    "coordinator::before-begin=return",
    "coordinator::after-begin=return",
];

/// Where it recovers, up to the deployment of the second task.
const RECOVERY: [&str; 6] = [
    "coordinator::before-claim=return",
    "coordinator::after-claim=return",
    "coordinator::before-abort=return",
    "coordinator::after-abort=return",
    "coordinator::before-deploy=return",
    "coordinator::after-deploy=1*off->return",
];

/// Where it takes checkpoints: the second one, or the message to the second task.
const CHECKPOINTS: [&str; 10] = [
    "coordinator::before-trigger=3*off->return",
    "coordinator::after-trigger=2*off->return",
    "coordinator::before-ack=3*off->return",
    "coordinator::after-ack=2*off->return",
    "checkpoint::after-decision=1*off->return",
    "coordinator::before-committed=1*off->return",
    "coordinator::before-completed=3*off->return",
    "coordinator::after-completed=2*off->return",
    "checkpoint::before-collection=1*off->return",
    "checkpoint::slots-collected=1*off->return",
];

/// The coordinator ends here and comes back.
#[track_caller]
fn visit(job: &mut Job, place: &str) -> Attempt {
    println!("{place}");
    job.restart_coordinator(place, &[]);
    job.wait_for_coordinator_crash()
}

/// The coordinator is asked for something, ends here and comes back.
#[track_caller]
fn visit_after(job: &mut Job, place: &str, ask: impl FnOnce(&Job)) -> Attempt {
    println!("{place}");
    job.restart_coordinator(place, &[]);
    wait_until("a checkpoint has completed", DEADLINE, || {
        // A job that was stopped has sent its workers away.
        job.restart_ended_workers();
        job.has_checkpoint()
    });
    ask(job);
    job.wait_for_coordinator_crash()
}

fn stop(job: &Job) {
    // The answer may go with the process.
    drop(job.coordinator.rest.stop(&StopRequest::default()));
}

#[track_caller]
fn tour(version: KafkaVersion) {
    let broker = Broker::shared(version);
    let name = format!("tour-{}", version.text().replace('.', "-"));
    let [first, second] = BEGINNING;
    let mut job = Job::start(broker, &name, "300ms", Armed::Coordinator(first));
    job.wait_for_coordinator_crash();
    visit(&mut job, second);
    for place in RECOVERY.into_iter().chain(CHECKPOINTS) {
        visit(&mut job, place);
    }
    for place in [
        "coordinator::before-savepoint=return",
        "checkpoint::savepoint-copied=return",
    ] {
        visit_after(&mut job, place, |job| {
            let taken = job
                .coordinator
                .rest
                .post("/v1/savepoints", r#"{"name":"tour"}"#);
            drop(taken);
        });
    }
    visit_after(&mut job, "coordinator::before-release=return", stop);
    visit_after(&mut job, "coordinator::after-release=return", stop);
    let newest = job.newest_slot();
    assert!(newest.is("released"), "{newest:?}");

    job.restart_coordinator("", &[]);
    drop(job.restart_worker_with(0, "worker::after-prepare=2*off->return"));
    wait_until("the first worker ends", DEADLINE, || {
        // The second one may still be about to leave.
        if !job.workers[1].is_running() {
            drop(job.restart_worker(1));
        }
        !job.workers[0].is_running()
    });
    let attempt = job.wait_for_worker_crash();
    drop(job.restart_worker(0));
    job.wait_until_beyond(attempt);
    job.finish(broker);
}

#[test]
fn the_coordinator_ends_at_every_other_place_in_one_life_of_a_job() {
    tour(KafkaVersion::V3_9);
}

#[test]
fn extended_the_coordinator_ends_at_every_other_place_in_one_life_of_a_job_kafka_4() {
    tour(KafkaVersion::V4_4);
}
