//! What the operator takes from a coordinator's answers: bounded, because it goes into statuses and
//! is kept.

use std::collections::BTreeMap;

use millstream_types::api::{
    AuditReport, CheckpointFailures, JobStatus, ReportedFailure, SavepointStatus,
};
use millstream_types::told::{Told, Word};

use crate::text;

/// Longest text of an answer that is kept, bytes.
pub(super) const TEXT_BYTES_MAX: usize = 2_000;
/// Longest name that is kept, bytes.
const NAME_BYTES_MAX: usize = 100;
/// Most gaps of an audit that are kept.
const GAPS_MAX: usize = 20;

/// An answer with what is kept of it.
pub(super) trait Bounded {
    /// With texts that fit into a status, and without what the operator does not use.
    fn bounded(self) -> Self;
}

impl Bounded for JobStatus {
    fn bounded(mut self) -> Self {
        self.message = text::cut(self.message, TEXT_BYTES_MAX);
        self.last_failure = self.last_failure.map(Bounded::bounded);
        self.checkpoint_failures = self.checkpoint_failures.map(|failures| {
            let last = failures.last.bounded();
            CheckpointFailures { last, ..failures }
        });
        self.last_checkpoint = self.last_checkpoint.map(|mut checkpoint| {
            checkpoint.kind = word(checkpoint.kind);
            checkpoint.failure = checkpoint.failure.map(Bounded::bounded);
            checkpoint
        });
        Self {
            workers: Vec::new(),
            tasks: Vec::new(),
            operators: BTreeMap::new(),
            lags: BTreeMap::new(),
            warnings: Vec::new(),
            given_up: None,
            ..self
        }
    }
}

impl Bounded for SavepointStatus {
    fn bounded(self) -> Self {
        Self {
            failure: self.failure.map(Bounded::bounded),
            ..self
        }
    }
}

impl Bounded for ReportedFailure {
    fn bounded(self) -> Self {
        Self {
            code: word(self.code),
            kind: word(self.kind),
            message: text::cut(self.message, TEXT_BYTES_MAX),
        }
    }
}

impl Bounded for AuditReport {
    fn bounded(mut self) -> Self {
        self.gaps.truncate(GAPS_MAX);
        for gap in &mut self.gaps {
            *gap = text::cut(std::mem::take(gap), TEXT_BYTES_MAX);
        }
        Self {
            checkpoint: self.checkpoint,
            gaps: self.gaps,
            ..Self::default()
        }
    }
}

fn word<T>(told: Told<T>) -> Told<T> {
    match told {
        Told::Other(Word(name)) => Told::Other(Word(text::cut(name, NAME_BYTES_MAX))),
        known @ Told::Known(_) => known,
    }
}
