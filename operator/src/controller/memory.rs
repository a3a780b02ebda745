//! What the controller remembers between reconciles, in this process only. All of it may be lost:
//! it only saves work and keeps messages steady.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::build::names::Role;
use super::observe::{Observed, Runtime};
use crate::runtime_client::RuntimeStatus;

/// Looks without an answer after which what a coordinator has said is no longer believed.
const SILENT_LOOKS: u32 = 3;
/// Window in which replaced pods are counted.
const REPLACED_WITHIN: Duration = Duration::from_mins(10);
/// Pods that may be replaced within the window, for each pod of the role.
const REPLACED_EACH: usize = 5;

/// What is remembered, by the uid of the resource.
#[derive(Debug, Default)]
pub struct Memory {
    jobs: Mutex<BTreeMap<String, JobMemory>>,
}

/// What is remembered of one job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobMemory {
    /// Uid of the namespace, which never changes.
    pub owner: Option<String>,
    /// Whether Kubernetes jobs of it may exist: none were there at the last look.
    pub without_tasks: bool,
    /// What was applied, by kind and name of the object.
    pub applied: BTreeMap<String, Applied>,
    /// Why objects could not be applied when it was last tried, by kind and name.
    pub troubles: BTreeMap<String, Trouble>,
    /// What the coordinator said last.
    pub heard: Option<Heard>,
    /// When pods were replaced that the kubelet had let wait.
    pub replaced: Replaced,
}

impl JobMemory {
    /// What the coordinator of a deployment said last, if it has not been silent for long.
    pub fn heard_of(&self, deployment: Option<i64>) -> Option<&RuntimeStatus> {
        let heard = self.heard.as_ref()?;
        let recent = heard.deployment == deployment && heard.silent_looks + 1 < SILENT_LOOKS;
        recent.then_some(&heard.status)
    }

    /// Takes note of what was observed of a deployment.
    pub fn note(&mut self, observed: &Observed, deployment: Option<i64>) {
        self.heard = match (&observed.runtime, self.heard.take()) {
            (Runtime::Answers(status), _) => Some(Heard {
                deployment,
                status: status.clone(),
                silent_looks: 0,
            }),
            (Runtime::Silent(_), Some(before)) if before.deployment == deployment => Some(Heard {
                silent_looks: before.silent_looks.saturating_add(1),
                ..before
            }),
            _ => None,
        };
    }

    /// Why objects could not be applied, all of them in one.
    pub fn trouble(&self) -> Option<Trouble> {
        let all = || self.troubles.values();
        let first = all().min_by_key(|trouble| trouble.since)?;
        let messages: Vec<&str> = all().map(|trouble| trouble.message.as_str()).collect();
        Some(Trouble {
            message: messages.join("; "),
            ..first.clone()
        })
    }
}

/// What a coordinator has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Its deployment.
    pub deployment: Option<i64>,
    /// What it said.
    pub status: RuntimeStatus,
    /// Looks since then to which it has not answered.
    pub silent_looks: u32,
}

/// Pods that were replaced, so that one which dies again and again is at last left to the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replaced {
    /// When coordinators were.
    coordinators: Vec<Timestamp>,
    /// When workers were.
    workers: Vec<Timestamp>,
}

impl Replaced {
    /// How many more pods of a role may be replaced now, of which there should be so many.
    pub fn left(&self, role: Role, pods: i32, now: Timestamp) -> usize {
        let most = REPLACED_EACH.saturating_mul(usize::try_from(pods).unwrap_or(0).max(1));
        let recent = self.of(role).iter().filter(|at| is_recent(**at, now));
        most.saturating_sub(recent.count())
    }

    /// Takes note of pods that are replaced now.
    pub fn note(&mut self, role: Role, count: usize, now: Timestamp) {
        let times = match role {
            Role::Coordinator => &mut self.coordinators,
            _ => &mut self.workers,
        };
        times.retain(|at| is_recent(*at, now));
        times.extend(std::iter::repeat_n(now, count));
    }

    fn of(&self, role: Role) -> &[Timestamp] {
        match role {
            Role::Coordinator => &self.coordinators,
            _ => &self.workers,
        }
    }
}

fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    Duration::try_from(now.duration_since(at)).unwrap_or_default() < REPLACED_WITHIN
}

/// An object as it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Digest of what was sent.
    pub digest: String,
    /// What the API server called that version: an object with another one has been changed by
    /// somebody else.
    pub version: String,
    /// When.
    pub at: Timestamp,
}

/// Kubernetes refuses objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Which, and why.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// When it is tried again, unless the spec changes before.
    pub next: Timestamp,
    /// Generation of the spec that it is about.
    pub generation: i64,
    /// How often it has been tried.
    pub tries: u32,
}

impl Memory {
    /// What is remembered of a job.
    pub fn of(&self, uid: &str) -> JobMemory {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.get(uid).cloned().unwrap_or_default()
    }

    /// Replaces what is remembered of a job.
    pub fn keep(&self, uid: &str, memory: JobMemory) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.insert(uid.to_owned(), memory);
    }

    /// Forgets a job.
    pub fn forget(&self, uid: &str) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_a_budget_of_replaced_pods_that_comes_back_with_time() {
        let mut replaced = Replaced::default();
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        assert_eq!(replaced.left(Role::Worker, 2, now), 10);
        replaced.note(Role::Worker, 10, now);
        assert_eq!(replaced.left(Role::Worker, 2, now), 0);
        assert_eq!(replaced.left(Role::Coordinator, 1, now), 5);
        let later = now.checked_add(REPLACED_WITHIN).unwrap();
        assert_eq!(replaced.left(Role::Worker, 2, later), 10);
    }
}
