//! What came of a drill, for people and for programs.

use millstream_types::JobId;
use millstream_types::text::number;
use serde::Serialize;

use super::faults::Suffered;
use super::records::SinkRecords;

/// What came of a drill.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    job: JobId,
    /// Whether the job recovered from every fault, and no record is missing or there twice.
    pub(super) passed: bool,
    /// What was done, in this order.
    faults: Vec<Suffered>,
    /// What became of the records of every sink.
    sinks: Vec<SinkRecords>,
    /// Records that did not add up between two checkpoints, as `GET /v1/audit` tells.
    gaps: Vec<String>,
}

impl Report {
    pub(super) fn new(
        job: &JobId,
        faults: Vec<Suffered>,
        sinks: Vec<SinkRecords>,
        gaps: Vec<String>,
    ) -> Self {
        let recovered = faults.iter().all(|fault| fault.recovery_ms.is_some());
        let complete = sinks.iter().all(|sink| sink.duplicates + sink.missing == 0);
        Self {
            job: job.clone(),
            passed: recovered && complete && gaps.is_empty(),
            faults,
            sinks,
            gaps,
        }
    }

    /// In words.
    pub(super) fn text(&self) -> String {
        let mut lines = vec![format!("drill of {}\n", self.job)];
        lines.extend(self.faults.iter().map(|fault| {
            let name = fault.fault.name();
            let [before, after] = fault.attempts;
            match fault.recovery_ms {
                Some(millis) => format!(
                    "  {name:<16} recovered after {}.{:03} s, attempt {before} → {after}\n",
                    millis / 1_000,
                    millis % 1_000
                ),
                None => format!("  {name:<16} NOT recovered in time, attempt {before} → {after}\n"),
            }
        }));
        lines.extend(self.sinks.iter().map(|sink| {
            let written = number(sink.written);
            match sink.visible {
                None => format!(
                    "  {}: {written} written; nobody can read it back\n",
                    sink.sink
                ),
                Some(visible) => format!(
                    "  {}: {written} written, {} visible: {} duplicates, {} missing\n",
                    sink.sink,
                    number(visible),
                    number(sink.duplicates),
                    number(sink.missing)
                ),
            }
        }));
        lines.extend(self.gaps.iter().map(|gap| format!("  GAP: {gap}\n")));
        lines.push(if self.passed {
            "passed: the job recovered from everything, and every record is there once\n".to_owned()
        } else {
            "FAILED\n".to_owned()
        });
        lines.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Fault;

    fn report(recovery_ms: Option<u64>, visible: Option<u64>, gaps: &[&str]) -> Report {
        let fault = Suffered {
            fault: Fault::KillWorker,
            recovery_ms,
            attempts: [1, 2],
        };
        let seen = visible.unwrap_or(1_000);
        let sink = SinkRecords {
            sink: "out".into(),
            written: 1_000,
            visible,
            duplicates: seen.saturating_sub(1_000),
            missing: 1_000_u64.saturating_sub(seen),
        };
        let job = JobId {
            namespace: "default".to_owned(),
            name: "orders".to_owned(),
        };
        let gaps = gaps.iter().map(|gap| (*gap).to_owned()).collect();
        Report::new(&job, vec![fault], vec![sink], gaps)
    }

    #[test]
    fn a_drill_passes_if_the_job_recovered_and_every_record_is_there_once() {
        let good = report(Some(1_234), Some(1_000), &[]);
        assert!(good.passed);
        assert_eq!(
            good.text(),
            "drill of default/orders\n  \
             kill-worker      recovered after 1.234 s, attempt 1 → 2\n  \
             out: 1,000 written, 1,000 visible: 0 duplicates, 0 missing\n\
             passed: the job recovered from everything, and every record is there once\n"
        );
        assert!(
            report(Some(1), None, &[]).passed,
            "of a sink that nobody can read"
        );
    }

    #[test]
    fn whatever_is_wrong_fails_it() {
        for (bad, says) in [
            (report(None, Some(1_000), &[]), "NOT recovered"),
            (report(Some(1), Some(1_001), &[]), "1 duplicates, 0 missing"),
            (report(Some(1), Some(998), &[]), "0 duplicates, 2 missing"),
            (report(Some(1), Some(1_000), &["a gap"]), "GAP: a gap"),
        ] {
            assert!(!bad.passed && bad.text().contains(says), "{}", bad.text());
            assert!(bad.text().ends_with("FAILED\n"));
        }
    }
}
