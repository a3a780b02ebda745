//! A person goes back to a savepoint although the job has gone on since.

use millstream_tests::audit::Anomalies;
use millstream_tests::chain::Manifest;
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};
use millstream_types::Attempt;

use crate::job::{Armed, DEADLINE, Job, SINKS};

/// Records that the checkpoint says both sinks have written.
fn written(manifest: &Manifest) -> u64 {
    SINKS
        .iter()
        .map(|sink| manifest.counters(sink).records_out)
        .sum()
}

/// Point 17: what was committed since the savepoint is written again, and nothing else happens.
/// The audit counts it, record by record, and sees it while it happens.
#[test]
fn point_17_going_back_to_a_savepoint_writes_again_what_came_after_it() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let mut job = Job::start(broker, "point-17", "300ms", Armed::Nobody);
    job.wait_until_beyond(Attempt(0));
    let taken = job
        .coordinator
        .rest
        .post("/v1/savepoints", r#"{"name":"then"}"#);
    taken.expect("the coordinator takes savepoints");
    let folder = job.folder().join("savepoints/then");
    wait_until("the savepoint is complete", DEADLINE, || {
        std::fs::exists(folder.join("manifest.json")).is_ok_and(|is_there| is_there)
    });
    let path = format!("file://{}", folder.display());
    let savepoint: Manifest = job.cluster.checkpoints("show", &path);
    let since = |job: &Job| written(&job.newest_checkpoint().understood()) - written(&savepoint);
    wait_until("the job has gone on", DEADLINE, || since(&job) > 2_000);

    assert!(job.coordinator.server.kill(), "the coordinator was running");
    let again = since(&job);
    let attempt = job.newest_slot().attempt;
    job.restart_coordinator("", &["--restore", &path]);
    job.wait_until_beyond(attempt);

    let report = job.end(0).audit(broker);
    let early = report.anomalies.early;
    assert!(early > 0 && early <= again, "{report}");
    assert_eq!(
        report.anomalies,
        Anomalies {
            duplicate: again,
            early,
            // Dead letters go to another partition the second time.
            reordered: report.anomalies.reordered,
            ..Anomalies::default()
        },
        "{report}"
    );
}
