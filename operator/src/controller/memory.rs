//! What the controller remembers between reconciles, in this process only. All of it may be lost:
//! it only saves work and keeps messages steady.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

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
    /// Why objects could not be applied when it was last tried.
    pub trouble: Option<Trouble>,
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
