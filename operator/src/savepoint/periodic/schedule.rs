//! When the next periodic savepoint is due. Pure.

use std::time::Duration;

use jiff::Timestamp;
use kube::core::DynamicObject;
use millstream_crds::JobPhase;
use millstream_crds::stream_job::PeriodicSavepoints;
use millstream_types::duration::KubeDuration;
use serde::Deserialize as _;

use super::retention::{Kept, Limits};
use crate::context::Next;
use crate::controller::build::names::bounded;

/// Look again at a job that does not run, or whose last savepoint has not ended.
const LATER: Duration = Duration::from_secs(10);
/// How long a periodic savepoint is tried at most.
const DEADLINE_MAX: Duration = Duration::from_mins(10);
/// Shorter intervals are faults of the spec.
const INTERVAL_MIN: Duration = Duration::from_mins(1);

/// The periodic savepoints that a job asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Namespace of the job.
    pub namespace: String,
    /// Its name.
    pub job: String,
    /// How many are kept.
    pub limits: Limits,
    interval: Duration,
    /// Whether the job runs, so that a savepoint can be taken.
    runs: bool,
    /// What the next one is counted from: the last one, or the creation of the job.
    last: Timestamp,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait(Next),
    /// Another operator has created one: note when.
    Note {
        /// When the newest was created.
        last: Timestamp,
        /// When to look again.
        next: Next,
    },
    /// Create one.
    Create {
        /// Its name.
        name: String,
        /// When to look again.
        next: Next,
    },
}

impl Schedule {
    /// What a job asks for; none if it asks for no periodic savepoints, is paused or being deleted,
    /// or if that part of its spec has faults.
    pub fn of(job: &DynamicObject) -> Option<Self> {
        let asked = job.data.pointer("/spec/savepoints")?;
        let asked = PeriodicSavepoints::deserialize(asked).ok()?;
        let paused = job
            .data
            .pointer("/spec/paused")
            .and_then(serde_json::Value::as_bool);
        if paused == Some(true) || job.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let text = |path: &str| job.data.pointer(path).and_then(serde_json::Value::as_str);
        let phase = job.data.pointer("/status/state");
        let phase = phase.and_then(|state| JobPhase::deserialize(state).ok());
        let created = job.metadata.creation_timestamp.as_ref()?.0;
        let last = text("/status/lastSavepointAt").and_then(|text| text.parse().ok());
        Some(Self {
            namespace: job.metadata.namespace.clone()?,
            job: job.metadata.name.clone()?,
            limits: Limits {
                keep: usize::try_from(asked.keep).unwrap_or(usize::MAX),
                max_age: asked.max_age.map(|age| age.0),
            },
            interval: asked.interval.0.max(INTERVAL_MIN),
            runs: phase == Some(JobPhase::Running),
            last: last.map_or(created, |last: Timestamp| last.max(created)),
        })
    }

    /// Time that one may take: no longer than until the next.
    pub fn deadline(&self) -> KubeDuration {
        KubeDuration(self.interval.min(DEADLINE_MAX))
    }

    /// What to do by what stands in the job's status.
    pub fn step(&self, now: Timestamp) -> Step {
        match self.left(self.last, now) {
            Some(left) => Step::Wait(Next::after(left)),
            None if !self.runs => Step::Wait(Next::after(LATER)),
            None => self.create(now),
        }
    }

    /// What to do by what is there.
    pub fn step_among(&self, existing: &[Kept], now: Timestamp) -> Step {
        let newest = existing.iter().max_by_key(|one| one.created);
        let Some(newest) = newest else {
            return self.step(now);
        };
        match self.left(newest.created, now) {
            Some(left) => Step::Note {
                last: newest.created,
                next: Next::after(left),
            },
            None if !newest.has_ended() && !newest.leaving => Step::Wait(Next::after(LATER)),
            None => self.step(now),
        }
    }

    fn create(&self, now: Timestamp) -> Step {
        let stamp = now.strftime("%Y%m%d%H%M%S").to_string();
        Step::Create {
            name: bounded(&self.job, &stamp),
            next: Next::after(self.interval),
        }
    }

    /// Time until the interval has passed since `last`; none if it has.
    fn left(&self, last: Timestamp, now: Timestamp) -> Option<Duration> {
        let due = last.checked_add(self.interval).unwrap_or(Timestamp::MAX);
        let left = Duration::try_from(due.duration_since(now)).unwrap_or_default();
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests;
