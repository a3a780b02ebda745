//! `millstream transactions`: what a job that was killed has left open, and ending it by hand.

use millstream_tests::kafka::transactions::Prepared;
use millstream_tests::wait::wait_until;
use millstream_tests::{Broker, KafkaVersion};
use serde_json::Value;

use crate::job::{Armed, DEADLINE, Job, undecided_transactions};

const INVALID: i32 = 2;

/// All processes are killed when a checkpoint is decided and not committed. What it lists cannot be
/// aborted, everything else can, and the job goes on as if nothing had happened.
#[test]
fn what_a_killed_job_has_left_open_is_shown_and_ended_by_hand() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let decided = "coordinator::after-decide=2*off->return";
    let mut job = Job::start(broker, "by-hand", "300ms", Armed::Coordinator(decided));
    let attempt = job.wait_for_coordinator_crash();
    let slot = job.newest_slot();
    let listed: Vec<String> = Prepared::listed_in(slot.manifest())
        .into_iter()
        .map(|prepared| prepared.transactional_id)
        .collect();
    assert!(!listed.is_empty());
    for worker in &mut job.workers {
        worker.kill();
    }

    let open = |job: &mut Job| {
        let (code, output) = job.millstream(
            "transactions",
            &["list", "streamjob.yaml", "--output", "json"],
        );
        assert_eq!(code, Some(0), "{output}");
        let json = output.find('[').map_or("", |start| &output[start..]);
        serde_json::from_str::<Vec<Value>>(json).unwrap_or_else(|error| panic!("{error}: {output}"))
    };
    let is_listed = |row: &Value| listed.iter().any(|id| row["id"] == **id);
    let shown = open(&mut job);
    let count = u64::try_from(shown.len()).expect("few transactions");
    assert_eq!(
        count,
        undecided_transactions(broker, "by-hand"),
        "{shown:?}"
    );
    for row in &shown {
        assert_eq!(row["state"], "Ongoing", "{row}");
        assert_eq!(row["checkpoint"].is_number(), is_listed(row), "{row}");
        assert_ne!(row["partitions"], Value::Array(Vec::new()), "{row}");
    }
    assert!(shown.iter().any(is_listed), "{shown:?}");

    // Its coordinator might live, as far as anybody can tell.
    let (code, output) = job.millstream("transactions", &["abort", "streamjob.yaml"]);
    assert_eq!(code, Some(INVALID), "{output}");
    assert!(output.contains("--fence"), "{output}");
    assert_eq!(open(&mut job).len(), shown.len());

    let named = ["abort", "streamjob.yaml", "--fence", &listed[0]];
    let (code, output) = job.millstream("transactions", &named);
    assert_eq!(code, Some(INVALID), "{output}");
    assert!(output.contains("decided and lists it"), "{output}");
    assert_eq!(open(&mut job).len(), shown.len());

    let (code, output) = job.millstream("transactions", &["abort", "streamjob.yaml", "--fence"]);
    assert_eq!(code, Some(0), "{output}");
    wait_until("only what is decided is open", DEADLINE, || {
        open(&mut job).iter().all(is_listed)
    });
    let (_, text) = job.millstream("transactions", &["list", "streamjob.yaml"]);
    assert!(text.contains("to be committed"), "{text}");

    job.restart_coordinator("", &[]);
    for number in 0..job.workers.len() {
        drop(job.restart_worker(number));
    }
    job.wait_until_beyond(attempt);
    job.finish(broker);
}

/// A job that is deleted with its file at hand leaves no reader waiting.
#[test]
fn a_deleted_job_leaves_nothing_open() {
    let broker = Broker::shared(KafkaVersion::V3_9);
    let mut job = Job::start(broker, "deleted", "2m", Armed::Nobody);
    job.wait_for_checkpoint();
    wait_until("the job has written", DEADLINE, || {
        undecided_transactions(broker, "deleted") > 0
    });
    job.coordinator.server.kill();
    for worker in &mut job.workers {
        worker.kill();
    }
    let storage = job.storage();
    let delete = ["delete", "--job", &storage, "default", "deleted"];
    let (code, output) = job.millstream(
        "checkpoints",
        &[&delete[..], &["--job-file", "streamjob.yaml"]].concat(),
    );
    assert_eq!(code, Some(0), "{output}");
    assert_eq!(undecided_transactions(broker, "deleted"), 0, "{output}");
}
