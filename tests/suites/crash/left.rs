//! What a job has left, on the broker and in its store, is judged; and the judge sees what is wrong
//! with it. Nothing here is written by hand: the store, the topics and what looks at them are real.

use std::collections::BTreeMap;
use std::path::PathBuf;

use millstream_tests::audit::sightings::Sightings;
use millstream_tests::kafka::topics::Isolation;
use millstream_tests::wait::poll_until;
use millstream_tests::{Broker, KafkaVersion};

use crate::job::{Armed, DEADLINE, Ended, Job};

/// A job of which a worker was killed with open transactions, so that its topics hold aborted ones;
/// and its chain as it was then.
#[track_caller]
fn ended(broker: &Broker, name: &str) -> (Ended, Kept) {
    let armed = "kafka-sink::flushed=5*off->return";
    let mut job = Job::start(broker, name, "300ms", Armed::Worker(armed));
    let attempt = job.wait_for_worker_crash();
    assert!(job.coordinator.server.kill(), "the coordinator was running");
    let then = Kept::of(&job.chain().files());
    job.restart_coordinator("", &[]);
    drop(job.restart_worker(0));
    job.wait_until_beyond(attempt);
    (job.end(0), then)
}

/// Everybody else who reads and writes here is librdkafka. Kafka's own consumer sees the same
/// records in the same places, and without its isolation also those that were aborted.
#[test]
fn a_reader_in_java_sees_the_same_records() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let (mut ended, _) = ended(broker, "java");
    let report = ended.audit(broker);
    assert!(report.anomalies.is_clean(), "{report}");
    for (topic, watched) in ended
        .outputs()
        .iter()
        .zip([&ended.orders, &ended.dead_letters])
    {
        // On a busy machine a reader may end before its group has been formed.
        let java = poll_until(DEADLINE, || {
            let java = read_with_java(broker, topic);
            (java.len() >= watched.len()).then_some(java)
        });
        let java = java.unwrap_or_else(|| panic!("a reader in Java does not see all of {topic}"));
        assert_eq!(java.len(), watched.len(), "{topic}");
        assert_eq!(watched.retracted(&java), 0, "{topic}");
    }
    let [orders, _] = ended.outputs();
    let all = broker.read_with_java(&orders, Isolation::Uncommitted).len();
    assert!(all > ended.orders.len(), "nothing was aborted: {all}");
}

fn read_with_java(broker: &Broker, topic: &str) -> Sightings {
    let mut seen = Sightings::default();
    for record in broker.read_with_java(topic, Isolation::Committed) {
        seen.add(&record);
    }
    seen
}

#[test]
fn a_store_that_lost_or_kept_something_is_seen() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let (mut ended, then) = ended(broker, "left");
    let report = ended.audit(broker);
    assert!(report.anomalies.is_clean(), "{report}");
    let chain = ended.chain();
    let files = chain.files();
    let newest = chain
        .newest_checkpoint()
        .ok()
        .flatten()
        .expect("it has one");

    // Something that nobody names.
    let stray = chain.path().join("chain/stray");
    std::fs::copy(&files[&newest.number], &stray).expect("a file beside the slots");
    let report = ended.audit(broker);
    assert_eq!(report.anomalies.orphan_objects, 1, "{report}");
    std::fs::remove_file(&stray).expect("it was written a moment ago");

    // The newest checkpoint has another content than it had.
    let kept = Kept::of(&files);
    let text = std::fs::read_to_string(&files[&newest.number]).expect("a slot is text");
    let changed = text.replacen("\"recordsOut\":", "\"recordsOut\":1", 1);
    assert_ne!(changed, text);
    std::fs::write(&files[&newest.number], changed).expect("the slot is a file");
    assert!(ended.verified().missing_objects > 0);
    kept.put_back();

    // It is not there, although others say that it is.
    std::fs::remove_file(&files[&newest.number]).expect("the slot is a file");
    assert!(ended.verified().missing_objects > 0);
    kept.put_back();

    // The store has an older state than the output, as after a restore of a backup.
    for file in files.values() {
        std::fs::remove_file(file).expect("the slot is a file");
    }
    then.put_back();
    let report = ended.audit(broker);
    assert!(report.anomalies.divergent > 0, "{report}");
    for file in chain.files().values() {
        std::fs::remove_file(file).expect("the slot is a file");
    }
    kept.put_back();
    let report = ended.audit(broker);
    assert!(report.anomalies.is_clean(), "{report}");
}

/// Contents of files, to write them again.
struct Kept(BTreeMap<PathBuf, Vec<u8>>);

impl Kept {
    fn of(files: &BTreeMap<u64, PathBuf>) -> Self {
        let read = |path: &PathBuf| std::fs::read(path).expect("the slot is a file");
        Self(
            files
                .values()
                .map(|path| (path.clone(), read(path)))
                .collect(),
        )
    }

    fn put_back(&self) {
        for (path, content) in &self.0 {
            std::fs::write(path, content).expect("the slot is a file");
        }
    }
}
