use millstream_types::api::{AuditReport, CheckpointCounts, JobState, JobStatus};
use millstream_types::{Attempt, CheckpointId, JobId};

use super::*;
use crate::job::LoadedJob;

const JOB: &str = r#"
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: orders}
spec:
  checkpoint: {storage: "file:///tmp/none"}
  dataflow:
    sources: [{name: made, generator: {rows: 10}}]
    transforms: [{name: valid, input: made, sql: "SELECT * FROM made WHERE quantity > 0"}]
    sinks: [{name: gone, input: valid, blackhole: {}}]
"#;

fn flow() -> Flow {
    let loaded = LoadedJob::parse(JOB.to_owned(), "test").unwrap();
    Flow::of(&loaded.graph)
}

fn snapshot(checkpoint: Option<u64>, written: u64, gaps: Vec<String>) -> Snapshot {
    let counters = |records_in, records_out| Counters {
        records_in,
        records_out,
        ..Counters::default()
    };
    Snapshot {
        job: JobStatus {
            attempt: Attempt(2),
            restarts: 1,
            parallelism: 1,
            operators: BTreeMap::from([
                ("made".into(), counters(1_000, 1_000)),
                ("valid".into(), counters(1_000, 900)),
                ("gone".into(), counters(written, written)),
            ]),
            ..JobStatus::new(
                JobId {
                    namespace: "default".to_owned(),
                    name: "orders".to_owned(),
                },
                JobState::Completed,
            )
        },
        counts: CheckpointCounts::default(),
        checkpoints: Vec::new(),
        failures: Vec::new(),
        savepoints: BTreeMap::new(),
        audit: AuditReport {
            checkpoint: checkpoint.map(CheckpointId),
            gaps,
            ..AuditReport::default()
        },
        began_with: None,
    }
}

fn summary(snapshot: &Snapshot, outcome: &Outcome) -> (String, bool) {
    text(snapshot, &flow(), outcome, Duration::from_millis(12_345))
}

#[test]
fn a_summary_says_how_it_ended_and_what_became_of_every_record() {
    let (text, balanced) = summary(&snapshot(Some(7), 900, Vec::new()), &Outcome::Completed);
    assert!(balanced);
    assert_eq!(
        text,
        "default/orders completed after 12.3 s: attempt 2, 1 restart, 0 checkpoints\n\
         audit of the newest checkpoint, number 7:\n  \
         made → gone: 1,000 in = 900 written + 100 filtered + 0 dead letters + 0 skipped  ok\n"
    );
}

#[test]
fn records_that_are_missing_are_not_passed_over() {
    let (text, balanced) = summary(&snapshot(Some(7), 899, Vec::new()), &Outcome::Completed);
    assert!(!balanced);
    assert!(text.contains("1,000 in ≠ 899 written"), "{text}");
    assert!(text.contains("WRONG"), "{text}");
}

#[test]
fn a_gap_that_the_coordinator_has_found_is_told() {
    let gaps = vec!["made went back".to_owned()];
    let (text, balanced) = summary(&snapshot(Some(7), 900, gaps), &Outcome::Completed);
    assert!(!balanced);
    assert!(text.contains("GAP: made went back"), "{text}");
}

#[test]
fn without_a_checkpoint_there_is_nothing_to_audit() {
    let (text, balanced) = summary(&snapshot(None, 0, Vec::new()), &Outcome::Interrupted);
    assert!(balanced);
    assert!(text.contains("interrupted"), "{text}");
    assert!(text.contains("nothing is committed"), "{text}");
}

#[test]
fn a_run_of_a_completed_job_says_that_nothing_ran_and_how_to_start_over() {
    let mut over = snapshot(Some(7), 900, Vec::new());
    over.job.restored_from = Some("file:///c/chain/7.json".to_owned());
    let (text, balanced) = summary(&over, &Outcome::Completed);
    assert!(balanced);
    assert!(
        text.contains("nothing ran: an earlier run read every source to its end (checkpoint file:///c/chain/7.json)"),
        "{text}"
    );
    assert!(text.contains("--restore fresh"), "{text}");

    let mut resumed = over.clone();
    resumed.counts.triggered = 1;
    let (text, _) = summary(&resumed, &Outcome::Completed);
    assert!(!text.contains("nothing ran"), "{text}");
    let (text, _) = summary(&over, &Outcome::Interrupted);
    assert!(!text.contains("nothing ran"), "{text}");
}
