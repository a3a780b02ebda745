//! What a check came to, for people and for programs.

use millstream_plan::Incompatibility;
use millstream_plan::advice::advice;
use millstream_types::advice::Advice;
use millstream_types::{ErrorCode, Failure};
use serde::Serialize;

use crate::job::LoadedJob;

/// Most bytes of a summary: what Kubernetes keeps of a container's termination message.
const SUMMARY_BYTES_MAX: usize = 4_096;

/// What a check came to.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Whether the job can run, from where it is to go on.
    valid: bool,
    /// Path of what it would go on from.
    pub(super) restore_point: Option<String>,
    /// What would be different, for people.
    pub(super) changes: Vec<String>,
    /// What is wrong.
    pub(super) faults: Vec<Fault>,
    /// What is not wrong and seldom meant.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<Advice>,
    #[serde(skip)]
    about: String,
    /// The same faults as one error.
    #[serde(skip)]
    pub(super) failure: Option<Failure>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fault {
    /// Where in the job file; empty if it is not one place.
    pub(super) path: String,
    /// What is wrong, and what to do.
    pub(super) message: String,
    /// Code with a page in `docs/errors/`.
    pub(super) code: String,
}

impl Fault {
    /// A fault of the plan, and its line of the job file.
    pub(super) fn of(fault: &millstream_plan::Fault, line: Option<usize>) -> Self {
        let path = fault.transform().map_or_else(
            || fault.subject.clone(),
            |name| format!("spec.dataflow.transforms[{name}].sql"),
        );
        let place = fault.place.as_ref();
        let place = place.map(|place| format!(" (line {}, column {})", place.line, place.column));
        let line = line.map(|line| format!(" (line {line} of the job file)"));
        let help = fault.help.as_ref().map(|help| format!("; {help}"));
        Self {
            path,
            message: [Some(fault.message.clone()), place, line, help]
                .into_iter()
                .flatten()
                .collect(),
            code: fault.code.code().to_owned(),
        }
    }
}

impl Report {
    /// Nothing is wrong with the job.
    pub(super) fn valid(loaded: &LoadedJob) -> Self {
        Self {
            valid: true,
            restore_point: None,
            changes: Vec::new(),
            faults: Vec::new(),
            warnings: advice(&loaded.job, &loaded.graph),
            about: about(loaded),
            failure: None,
        }
    }

    /// One thing is wrong.
    pub(super) fn failed(loaded: Option<&LoadedJob>, failure: Failure) -> Self {
        Self {
            valid: false,
            restore_point: None,
            changes: Vec::new(),
            faults: vec![Fault {
                path: String::new(),
                message: failure.message.clone(),
                code: failure.code.code().to_owned(),
            }],
            warnings: Vec::new(),
            about: loaded.map(about).unwrap_or_default(),
            failure: Some(failure),
        }
    }

    /// Takes note of state that has no place.
    pub(super) fn misfits(&mut self, misfits: &[Incompatibility], failure: Option<Failure>) {
        let code = ErrorCode::IncompatibleState.code();
        self.faults.extend(misfits.iter().map(|misfit| Fault {
            path: format!("spec.dataflow[{}]", misfit.uid()),
            message: format!(
                "{misfit}. To keep it, {}; or give this state up with restore.allowDroppedState",
                misfit.remedy()
            ),
            code: code.to_owned(),
        }));
        self.valid &= failure.is_none();
        self.failure = failure;
    }

    /// Takes note of what would keep the job from starting.
    pub(super) fn refusals(&mut self, failures: &[Failure]) {
        self.faults.extend(failures.iter().map(|failure| Fault {
            path: String::new(),
            message: failure.message.clone(),
            code: failure.code.code().to_owned(),
        }));
        let known = self.failure.take();
        let failures: Vec<&Failure> = known.iter().chain(failures).collect();
        self.valid = failures.is_empty();
        // One that somebody must act on counts for more than one that may pass.
        let worst = failures.iter().find(|one| !one.kind.is_restartable());
        let Some(&worst) = worst.or_else(|| failures.first()) else {
            return;
        };
        let others = failures.iter().filter(|one| **one != worst);
        let others: Vec<String> = others.map(|one| format!("\n  {one}")).collect();
        self.failure = Some(Failure {
            message: format!("{}{}", worst.message, others.concat()),
            ..worst.clone()
        });
    }

    /// The report in words.
    pub(super) fn text(&self, file: &str) -> String {
        let mut lines = vec![format!("{file}: {}\n", self.about)];
        if let Some(path) = &self.restore_point {
            lines.push(format!("{file}: it can go on from {path}\n"));
        }
        let changes = self.changes.iter();
        lines.extend(changes.map(|change| format!("  {change}\n")));
        lines.extend(self.warnings.iter().map(|warning| {
            let Advice { path, message, .. } = warning;
            format!("warning: {path} {message}\n  more: {}\n", warning.page())
        }));
        lines.concat()
    }

    /// The report on one line.
    pub(super) fn json(&self) -> String {
        // A struct of texts is always written.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The report on one line of at most 4 KiB: long texts are cut, then lists, and what was cut
    /// is said.
    pub(super) fn summary(&self) -> String {
        let mut short = self.clone();
        if short.json().len() > SUMMARY_BYTES_MAX {
            // Faults count for more.
            short.warnings.clear();
        }
        let mut longest = SUMMARY_BYTES_MAX;
        loop {
            let text = short.json();
            if text.len() <= SUMMARY_BYTES_MAX {
                return text;
            }
            if longest > 200 {
                longest /= 2;
                for fault in &mut short.faults {
                    cut(&mut fault.message, longest);
                }
                short.changes.iter_mut().for_each(|one| cut(one, longest));
            } else {
                let (faults, changes) = (short.faults.len(), short.changes.len());
                short.faults.truncate(faults / 2);
                short.changes.truncate(changes / 2);
                let cut = (self.faults.len() + self.changes.len())
                    .saturating_sub(short.faults.len() + short.changes.len());
                short.changes.push(format!("… and {cut} more lines"));
                if faults == 0 && changes <= 1 {
                    // Only a path of the restore point is left, and that is too long.
                    short.restore_point = None;
                }
            }
        }
    }
}

fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        text.truncate(text.floor_char_boundary(longest));
        text.push('…');
    }
}

fn about(loaded: &LoadedJob) -> String {
    let job = &loaded.job;
    let count = |count: usize, noun: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {noun}{plural}")
    };
    format!(
        "job {} is valid: {}, {}, {}",
        job.id,
        count(job.sources.len(), "source"),
        count(job.transforms.len(), "transform"),
        count(job.sinks.len(), "sink")
    )
}

#[cfg(test)]
mod tests {
    use millstream_types::ErrorKind;

    use super::*;

    fn report(faults: usize, message: &str) -> Report {
        let failure = Failure::new(ErrorCode::InvalidJob, ErrorKind::InvalidJob, message);
        let mut report = Report::failed(None, failure);
        let fault = report.faults.remove(0);
        report.faults = vec![fault; faults];
        report
    }

    #[test]
    fn a_short_report_is_its_own_summary() {
        let report = report(2, "wrong");
        assert_eq!(report.summary(), report.json());
        assert!(
            report
                .json()
                .starts_with(r#"{"valid":false,"restorePoint":null,"#)
        );
    }

    #[test]
    fn a_summary_fits_whatever_is_wrong() {
        for (faults, message) in [(1, 100_000), (100, 300), (100, 10), (3, 5_000)] {
            let report = report(faults, &"ü".repeat(message));
            let summary = report.summary();
            assert!(summary.len() <= SUMMARY_BYTES_MAX, "{}", summary.len());
            let read: serde_json::Value = serde_json::from_str(&summary).unwrap();
            assert_eq!(read["valid"], false);
            assert_eq!(read["faults"][0]["code"], "MS0002");
        }
    }
}
