//! The audit sees it when what is visible is not what was decided. A job on a real broker is
//! tampered with in each way, and each time the counter meant for it counts, and nothing else.

use millstream_tests::audit::Anomalies;
use millstream_tests::chain::Slot;
use millstream_tests::kafka::transactions::Prepared;
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};

use crate::job::{Armed, DEADLINE, Job, SINKS, undecided};

/// Records that the checkpoint says both sinks have written.
fn written(checkpoint: &Slot) -> u64 {
    let manifest = checkpoint.understood();
    SINKS
        .iter()
        .map(|sink| manifest.counters(sink).records_out)
        .sum()
}

/// Everything is prepared and nothing decided. A process that was given up commits it all the same:
/// it is visible early, and twice once the job has written it again.
#[test]
fn a_commit_that_nobody_decided_is_early_and_then_a_duplicate() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let armed = "coordinator::before-decide=2*off->return";
    let mut job = Job::start(broker, "early", "300ms", Armed::Coordinator(armed));
    let attempt = job.wait_for_coordinator_crash();
    let newest = job.newest_checkpoint();
    job.kill_workers();
    let clean = job.audit_checkpoint(broker, &newest);
    assert_eq!(clean.anomalies.early, 0, "{clean}");

    for transaction in undecided(broker, "early") {
        broker.commit_as_a_zombie(&transaction.transactional_id);
    }
    let tampered = job.audit_checkpoint(broker, &newest);
    let early = tampered.anomalies.early;
    assert!(early > 0, "{tampered}");
    assert_eq!(
        tampered.anomalies,
        Anomalies {
            early,
            ..Anomalies::default()
        },
        "{tampered}"
    );
    let decided = written(&newest);
    wait_until("readers see it", DEADLINE, || job.seen() == decided + early);

    job.restart_coordinator("", &[]);
    job.restart_ended_workers();
    job.wait_until_beyond(attempt);
    let report = job.end(0).audit(broker);
    assert_eq!(
        report.anomalies,
        Anomalies {
            early,
            duplicate: early,
            // Dead letters go to another partition the second time.
            reordered: report.anomalies.reordered,
            ..Anomalies::default()
        },
        "{report}"
    );
}

/// A checkpoint is decided and only the transactions of one sink are committed.
#[test]
fn a_checkpoint_that_one_sink_shows_and_the_other_does_not_is_torn() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let armed = "coordinator::after-decide=2*off->return";
    let mut job = Job::start(broker, "torn", "300ms", Armed::Coordinator(armed));
    let attempt = job.wait_for_coordinator_crash();
    let newest = job.newest_checkpoint();
    let before = job.chain().checkpoint_before(&newest);
    let before = before.expect("it is not the first");

    job.kill_workers();
    let listed = Prepared::listed_in(newest.manifest());
    for open in undecided(broker, "torn") {
        // Readers do not pass what later ones have open.
        if !listed
            .iter()
            .any(|listed| listed.transactional_id == open.transactional_id)
        {
            broker.take_transactional_id(&open.transactional_id);
        }
    }
    let (letters, orders): (Vec<_>, Vec<_>) = listed
        .into_iter()
        .filter(|prepared| {
            undecided(broker, "torn")
                .iter()
                .any(|open| open.transactional_id == prepared.transactional_id)
        })
        .partition(|prepared| prepared.topic.ends_with("rejected"));
    for prepared in &orders {
        broker.commit_as_a_zombie(&prepared.transactional_id);
    }
    let records = |of: &[Prepared]| of.iter().map(|prepared| prepared.records).sum::<u64>();
    let torn = job.audit_checkpoint(broker, &newest);
    assert!(
        records(&letters) > 0 && records(&orders) > 0,
        "{letters:?} {orders:?}"
    );
    assert_eq!(
        torn.anomalies,
        Anomalies {
            torn: torn.anomalies.torn,
            ..Anomalies::default()
        },
        "{torn}"
    );
    // Open ones also hide what another task wrote behind their beginning.
    assert!(torn.anomalies.torn >= records(&letters), "{torn}");
    let early = job.audit_checkpoint(broker, &before);
    assert_eq!(early.anomalies.early, records(&orders), "{early}");

    // It was decided: who comes next commits the rest, and nothing was wrong.
    job.restart_coordinator("", &[]);
    job.restart_ended_workers();
    job.wait_until_beyond(attempt);
    job.finish(broker);
}
