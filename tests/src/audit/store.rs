//! Judges the checkpoint store: what the last checkpoint says became of the records, against what
//! did; and whether the store holds what it must and nothing else.

use millstream_types::snapshot::Counters;
use serde::Deserialize;

use super::Report;
use super::ledger::Verdict;
use crate::chain::Manifest;

/// What a job left in its store.
#[derive(Debug)]
pub struct Store {
    /// The last checkpoint, as `millstream checkpoints show --output json` prints it.
    pub manifest: Manifest,
    /// What a verification of the chain found.
    pub verified: Verified,
    /// The sources of the job.
    pub sources: &'static [&'static str],
}

/// The source of the order job as the example has it.
pub const SOURCES: &[&str] = &["orders"];

/// What `millstream checkpoints verify --output json` prints; the part that counts.
#[derive(Debug, Default, Deserialize)]
pub struct Verified {
    faults: Vec<Finding>,
    leftovers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    object: String,
    reason: String,
}

impl Verified {
    /// Counts objects that are missing or damaged, and those that nothing names.
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for Finding { object, reason } in &self.faults {
            verdict.anomalies.missing_objects += 1;
            verdict.example(|| format!("{object}: {reason}"));
        }
        for object in &self.leftovers {
            verdict.anomalies.orphan_objects += 1;
            verdict.example(|| format!("{object} is named by nothing"));
        }
        verdict
    }
}

impl Store {
    /// Judges all of it.
    pub(super) fn judge(&self, report: &Report) -> [Verdict; 2] {
        [
            judge_counters(&self.manifest, self.sources, report),
            self.verified.judge(),
        ]
    }
}

/// Compares the counters of the order job's operators with what must have become of the input.
fn judge_counters(manifest: &Manifest, sources: &[&str], report: &Report) -> Verdict {
    let sources: Vec<Counters> = sources.iter().map(|uid| manifest.counters(uid)).collect();
    let all = |count: fn(&Counters) -> u64| sources.iter().map(count).sum::<u64>();
    let mut verdict = Verdict::default();
    for (what, counted, due) in [
        (
            "records read",
            all(|source| source.records_in),
            report.input,
        ),
        (
            "dead letters",
            all(|source| source.dead_letters),
            report.dead_letters,
        ),
        (
            "records decoded",
            all(|source| source.records_out),
            report.input - report.dead_letters,
        ),
        (
            "records written by `processed-orders`",
            manifest.counters("processed-orders").records_out,
            report.orders,
        ),
        (
            "records written by `rejected-orders`",
            manifest.counters("rejected-orders").records_out,
            report.dead_letters,
        ),
    ] {
        if counted != due {
            verdict.anomalies.divergent += 1;
            verdict.example(|| format!("{what}: the last checkpoint says {counted}, not {due}"));
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on a manifest of two subtasks that have written this many records.
    fn judge(written: [u64; 2]) -> u64 {
        let report = Report {
            input: 100,
            orders: 80,
            dead_letters: 5,
            ..Report::default()
        };
        let [first, second] = written;
        let text = format!(
            r#"{{"operators": {{
            "orders": {{"0": {{"counters": {{"recordsIn": 100, "recordsOut": 95, "deadLetters": 5}}}}}},
            "processed-orders": {{"0": {{"counters": {{"recordsOut": {first}}}}},
                                  "1": {{"counters": {{"recordsOut": {second}}}}}}},
            "rejected-orders": {{"0": {{"counters": {{"recordsOut": 5}}}}}}
            }}}}"#
        );
        let manifest: Manifest = serde_json::from_str(&text).unwrap();
        judge_counters(&manifest, SOURCES, &report)
            .anomalies
            .divergent
    }

    #[test]
    fn missing_and_orphaned_objects_are_counted() {
        let text = r#"{"jobs": 1, "faults": [{"object": "a", "reason": "missing"}],
            "leftovers": ["b", "c"]}"#;
        let verified: Verified = serde_json::from_str(text).unwrap();
        let anomalies = verified.judge().anomalies;
        assert_eq!(
            (anomalies.missing_objects, anomalies.orphan_objects),
            (1, 2)
        );
        assert!(Verified::default().judge().anomalies.is_clean());
    }

    #[test]
    fn a_manifest_that_counts_another_record_is_divergent() {
        assert_eq!(judge([30, 50]), 0);
        assert_eq!(judge([30, 51]), 1);
    }
}
