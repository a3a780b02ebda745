//! The table: where one process ends.

use millstream_tests::audit::Anomalies;
use millstream_tests::{Broker, KafkaVersion};

use crate::job::{Armed, Job};

/// Which process ends.
#[derive(Debug, Clone, Copy)]
enum Process {
    Coordinator,
    Worker,
}

/// What the newest slot of the chain is when the coordinator has ended, and what readers may see
/// then, in all partitions of both sinks.
#[derive(Debug, Clone, Copy)]
enum Chain {
    /// The checkpoint before is confirmed and visible, this one is not decided.
    Confirmed,
    /// This checkpoint is decided and not confirmed; the one before is visible.
    Decided,
    /// This checkpoint is decided and not confirmed; a part of it is visible.
    Begun,
    /// This checkpoint is decided and not confirmed; it is visible.
    Committed,
    /// Workers' ends leave the chain to the coordinator, which goes on.
    Any,
}

/// One place where one process ends.
#[derive(Debug)]
struct CrashPoint {
    /// Of the table, with a letter where several places have the number.
    number: &'static str,
    process: Process,
    failpoint: &'static str,
    /// How often it is passed before.
    passes: u32,
    chain: Chain,
}

/// The job survives the end of the process at this point, exactly once.
#[track_caller]
fn check(point: &CrashPoint, version: KafkaVersion) {
    let broker = Broker::shared(version);
    let name = format!(
        "point-{}-kafka-{}",
        point.number,
        version.text().replace('.', "-")
    );
    let armed = format!("{}={}*off->return", point.failpoint, point.passes);
    let (job, attempt) = match point.process {
        Process::Coordinator => {
            let mut job = Job::start(broker, &name, "300ms", Armed::Coordinator(&armed));
            let attempt = job.wait_for_coordinator_crash();
            check_chain(&job, broker, point.chain);
            job.restart_coordinator("", &[]);
            (job, attempt)
        }
        Process::Worker => {
            let mut job = Job::start(broker, &name, "300ms", Armed::Worker(&armed));
            let attempt = job.wait_for_worker_crash();
            drop(job.restart_worker(0));
            (job, attempt)
        }
    };
    job.wait_until_beyond(attempt);
    job.finish(broker);
}

#[track_caller]
fn check_chain(job: &Job, broker: &Broker, chain: Chain) {
    let newest = job.newest_slot();
    let (kind, visible) = match chain {
        Chain::Confirmed => ("committed", Some(job.newest_checkpoint())),
        Chain::Decided => ("checkpoint", job.chain().checkpoint_before(&newest)),
        Chain::Begun => ("checkpoint", None),
        Chain::Committed => ("checkpoint", Some(newest.clone())),
        Chain::Any => return,
    };
    assert!(newest.is(kind), "not {chain:?}: {newest:?}");
    if let Some(visible) = visible {
        let report = job.audit_checkpoint(broker, &visible);
        // Readers do not pass an open transaction, which may have begun before another task had
        // written the last of its records: what lies behind is seen later.
        let expected = Anomalies {
            torn: report.anomalies.torn,
            ..Anomalies::default()
        };
        assert_eq!(report.anomalies, expected, "{chain:?}: {report}");
    }
}

macro_rules! crash_points {
    ($($test:ident: $version:ident $number:literal $process:ident $failpoint:literal
       after $passes:literal, $chain:ident;)*) => {
        $(
            #[test]
            fn $test() {
                let point = CrashPoint {
                    number: $number,
                    process: Process::$process,
                    failpoint: $failpoint,
                    passes: $passes,
                    chain: Chain::$chain,
                };
                check(&point, KafkaVersion::$version);
            }
        )*
    };
}

// The third checkpoint or later, so that there are transactions before it and behind it. The order
// job prepares two sinks per checkpoint and task.
crash_points! {
    point_01_worker_ends_between_records:
        V3_9 "1a" Worker "worker::after-poll" after 40, Any;
    point_01_worker_ends_at_the_barrier_before_it_prepares:
        V3_9 "1b" Worker "worker::before-prepare" after 2, Any;
    point_02_worker_ends_when_records_are_flushed:
        V3_9 "2a" Worker "kafka-sink::flushed" after 4, Any;
    point_02_worker_ends_between_its_two_sinks:
        V3_9 "2b" Worker "kafka-sink::flushed" after 5, Any;
    point_02_worker_ends_before_it_acknowledges:
        V3_9 "2c" Worker "worker::before-ack" after 2, Any;
    point_03_worker_ends_when_it_has_acknowledged:
        V3_9 "3a" Worker "worker::after-ack" after 2, Any;
    point_03_coordinator_ends_before_the_decision:
        V3_9 "3b" Coordinator "coordinator::before-decide" after 2, Confirmed;
    point_03_coordinator_ends_with_the_manifest_stored_and_the_slot_not:
        V3_9 "3c" Coordinator "checkpoint::before-decision" after 3, Confirmed;
    point_04_coordinator_ends_after_the_decision:
        V3_9 "4a" Coordinator "coordinator::after-decide" after 2, Decided;
    point_04_coordinator_ends_before_the_first_commit:
        V3_9 "4b" Coordinator "coordinator::before-commit" after 2, Decided;
    point_06_coordinator_ends_with_a_commit_sent_and_not_answered:
        V3_9 "6" Coordinator "kafka-commit::sent" after 6, Begun;
    point_07_coordinator_ends_with_everything_committed_and_not_confirmed:
        V3_9 "7a" Coordinator "coordinator::after-commit" after 2, Committed;
    point_07_coordinator_ends_with_everything_committed_and_confirmed:
        V3_9 "7b" Coordinator "coordinator::after-committed" after 2, Confirmed;
    point_08_worker_ends_when_one_id_is_committed_and_the_next_is_open:
        V3_9 "8" Worker "worker::after-completed" after 2, Any;

    point_02_worker_ends_when_records_are_flushed_kafka_4:
        V4_4 "2a" Worker "kafka-sink::flushed" after 4, Any;
    point_04_coordinator_ends_after_the_decision_kafka_4:
        V4_4 "4a" Coordinator "coordinator::after-decide" after 2, Decided;
    point_06_coordinator_ends_with_a_commit_sent_and_not_answered_kafka_4:
        V4_4 "6" Coordinator "kafka-commit::sent" after 6, Begun;
    point_07_coordinator_ends_with_everything_committed_and_not_confirmed_kafka_4:
        V4_4 "7a" Coordinator "coordinator::after-commit" after 2, Committed;
}

/// The recovery of point 4 ends as well, before and after its commits, and the one after it.
#[test]
fn point_04_and_so_do_the_two_recoveries_after_it() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let first = "coordinator::after-decide=2*off->return";
    let mut job = Job::start(broker, "point-4c", "300ms", Armed::Coordinator(first));
    let mut attempt = job.wait_for_coordinator_crash();
    check_chain(&job, broker, Chain::Decided);
    for next in [
        "coordinator::before-commit=return",
        "coordinator::after-abort=return",
    ] {
        job.restart_coordinator(next, &[]);
        attempt = job.wait_for_coordinator_crash();
    }
    job.restart_coordinator("", &[]);
    job.wait_until_beyond(attempt);
    job.finish(broker);
}
