//! Registered workers: what they offer, and which of them want to go.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::WorkerId;
use millstream_types::api::WorkerStatus;

use crate::job::execution::Execution;

/// Registered workers.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    slots: BTreeMap<WorkerId, u32>,
    /// Those of them that want to go.
    leaving: BTreeSet<WorkerId>,
}

impl Workers {
    pub(crate) fn joined(&mut self, worker: WorkerId, slots: u32) {
        self.slots.insert(worker, slots);
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, worker: &WorkerId) -> bool {
        self.leaving.remove(worker);
        self.slots.remove(worker).is_some()
    }

    /// Takes note that a worker wants to go. Whether that is new.
    pub(crate) fn wants_to_leave(&mut self, worker: &WorkerId) -> bool {
        self.contains(worker) && self.leaving.insert(worker.clone())
    }

    /// Takes those out that want to go and may.
    pub(crate) fn take_leaving(&mut self, may_go: impl Fn(&WorkerId) -> bool) -> Vec<WorkerId> {
        let leaving = self.leaving.iter();
        let going: Vec<WorkerId> = leaving.filter(|worker| may_go(worker)).cloned().collect();
        for worker in &going {
            self.remove(worker);
        }
        going
    }

    /// Names of those that want to go.
    pub(crate) fn leaving(&self) -> String {
        let names: Vec<&str> = self.leaving.iter().map(WorkerId::as_str).collect();
        names.join(", ")
    }

    pub(crate) fn contains(&self, worker: &WorkerId) -> bool {
        self.slots.contains_key(worker)
    }

    /// Slots by worker.
    pub(crate) const fn slots(&self) -> &BTreeMap<WorkerId, u32> {
        &self.slots
    }

    /// What is told of them; `execution` says what they run.
    pub(crate) fn statuses(&self, execution: Option<&Execution>) -> Vec<WorkerStatus> {
        let workers = self.slots.iter();
        workers
            .map(|(worker, slots)| {
                let tasks = execution.and_then(|execution| execution.hosts.get(worker));
                WorkerStatus {
                    worker: worker.to_string(),
                    slots: *slots,
                    tasks: tasks.map_or(0, |tasks| u32::try_from(tasks.len()).unwrap_or(u32::MAX)),
                }
            })
            .collect()
    }
}
