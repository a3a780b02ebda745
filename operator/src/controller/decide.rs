//! What to do next: a pure function of the resource, its status, what is observed, and the time.
//!
//! The status is the machine's only memory. A decision is a new status, and what has to be done
//! once it is written: objects and requests that follow from it and may be repeated. Which pods
//! should run is not part of a decision, because it stands in the status: those of
//! `status.revision` with `status.parallelism` and `status.deployment` if there is a
//! `status.deployed`, none otherwise.
//!
//! Reading order: `settled` begins things, `upgrade` → `stop` → `deploy` → `verify` are the steps
//! of an upgrade, the others what their names say.

mod complete;
mod delete;
mod deploy;
mod noted;
mod rescale;
mod settled;
mod stop;
mod suspend;
mod upgrade;
mod verify;

pub(super) use noted::completed_while_running;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millstream_crds::status::{RevisionStatus, UpgradeStep};
use millstream_crds::stream_job::{DeletionPolicy, DeletionSpec, DesiredState, RestorePolicy};
use millstream_crds::{Reason, StreamJobStatus};

use super::observe::Observed;
use super::observe::pods::PutOff;
use super::validate::{Faults, Wish};
use crate::events::Notice;
use crate::runtime_client::RuntimeStatus;

/// A look at something that is awaited.
const SOON: Duration = Duration::from_millis(500);
/// A look at something that nobody reports and for which output waits.
const VERY_SOON: Duration = Duration::from_millis(100);
/// A look at a job that runs.
const STEADY: Duration = Duration::from_secs(5);
/// A look at something that only a person changes, and that a watch reports.
const SELDOM: Duration = Duration::from_mins(10);

/// All that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The resource's metadata.
    pub meta: &'a ObjectMeta,
    /// Whether `spec.paused` is set, also in a spec with faults.
    pub paused: bool,
    /// `spec.deletion`, also of a spec with faults.
    pub deletion: &'a DeletionSpec,
    /// What the spec asks for, or what is wrong with it.
    pub wish: Result<&'a Wish, &'a Faults>,
    /// What was decided before.
    pub status: &'a StreamJobStatus,
    /// What is there.
    pub observed: &'a Observed,
    /// The time.
    pub now: Timestamp,
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The new status, still with the old conditions. To be written before anything else is done.
    pub status: StreamJobStatus,
    /// Leave all objects as they are: while paused.
    pub hands_off: bool,
    /// The check of a revision that should exist.
    pub preflight: Option<PreflightWanted>,
    /// Whether the Kubernetes job that deletes the job's checkpoints should exist.
    pub disposal: bool,
    /// Pods to replace by new ones.
    pub replace: Vec<PutOff>,
    /// What to ask of the coordinator.
    pub request: Option<RuntimeRequest>,
    /// Whether the finalizer should be there.
    pub finalizer: bool,
    /// What to tell people.
    pub notices: Vec<Notice>,
    /// When to look again if nothing happens before.
    pub requeue: Duration,
}

/// A check of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreflightWanted {
    /// Its revision.
    pub revision: String,
    /// What it should be able to restore: `latest`, a path, or `fresh` for nothing.
    pub restore: String,
    /// Whether state may be dropped.
    pub allow_dropped_state: bool,
    /// The step that it belongs to: an older job of the same name is another one.
    pub since: String,
}

/// A request to the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeRequest {
    /// Stop, with a savepoint of this name or with a last checkpoint.
    Stop {
        /// The name.
        savepoint: Option<String>,
    },
}

/// Decides what to do next.
pub fn decide(inputs: &Inputs<'_>) -> Decision {
    let mut machine = Machine::new(inputs);
    machine.note_runtime();
    if inputs.meta.deletion_timestamp.is_some() {
        machine.delete();
    } else if !inputs.paused {
        machine.forget_rejection();
        machine.step();
        machine.replace_pods();
    }
    machine.decision
}

/// A time as it stands in the status: RFC 3339 with milliseconds.
pub fn written(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// One decision in the making.
struct Machine<'a> {
    inputs: &'a Inputs<'a>,
    decision: Decision,
}

impl<'a> Machine<'a> {
    fn new(inputs: &'a Inputs<'a>) -> Self {
        Self {
            inputs,
            decision: Decision {
                status: inputs.status.clone(),
                hands_off: inputs.paused && inputs.meta.deletion_timestamp.is_none(),
                preflight: None,
                disposal: false,
                replace: Vec::new(),
                request: None,
                finalizer: inputs.deletion.policy != DeletionPolicy::Retain,
                notices: Vec::new(),
                requeue: STEADY,
            },
        }
    }

    fn step(&mut self) {
        match self.status().upgrade.as_ref().map(|upgrade| upgrade.step) {
            None => self.settled(),
            Some(UpgradeStep::Preflight) => self.preflight(),
            Some(UpgradeStep::WaitingForApproval) => self.approval(),
            Some(UpgradeStep::Stopping) => self.stopping(),
            Some(UpgradeStep::Deploying | UpgradeStep::Verifying) => self.verifying(),
        }
    }

    /// The restart delay after a failure is the job's own; what the kubelet adds to it helps
    /// nobody, unless the process cannot even start.
    fn replace_pods(&mut self) {
        if self.status().deployed.is_none() {
            return;
        }
        let observed = self.inputs.observed;
        for pod in observed
            .coordinator
            .put_off
            .iter()
            .chain(&observed.workers.put_off)
        {
            self.tell(Notice::warning(
                Reason::PodsFailing,
                format!("replaces pod {}: {}", pod.pod, pod.message),
            ));
            self.decision.replace.push(pod.clone());
        }
    }

    const fn status(&self) -> &StreamJobStatus {
        &self.decision.status
    }

    const fn status_mut(&mut self) -> &mut StreamJobStatus {
        &mut self.decision.status
    }

    /// What the spec asks for, if it has no fault.
    fn wish(&self) -> Option<&'a Wish> {
        self.inputs.wish.ok()
    }

    /// What the coordinator of the newest deployment says.
    fn runtime(&self) -> Option<&'a RuntimeStatus> {
        self.inputs.observed.runtime.current()
    }

    fn now(&self) -> String {
        written(self.inputs.now)
    }

    /// Milliseconds since 1970, for names and numbers that must grow.
    fn millis(&self) -> i64 {
        self.inputs.now.as_millisecond()
    }

    fn elapsed(&self, since: &str) -> Duration {
        since.parse::<Timestamp>().map_or(Duration::ZERO, |since| {
            Duration::try_from(self.inputs.now.duration_since(since)).unwrap_or_default()
        })
    }

    fn tell(&mut self, notice: Notice) {
        self.decision.notices.push(notice);
    }

    const fn look_again(&mut self, after: Duration) {
        self.decision.requeue = after;
    }

    fn generation(&self) -> i64 {
        self.inputs.meta.generation.unwrap_or_default()
    }

    /// Whether the newest deployment has taken over.
    fn claimed(&self) -> bool {
        self.status()
            .deployed
            .as_ref()
            .is_some_and(|deployed| deployed.claimed)
    }

    fn suspension_asked(&self) -> bool {
        self.wish()
            .is_some_and(|wish| wish.spec.state == DesiredState::Suspended)
    }

    /// Whether `spec.restore` names state that has not been applied yet. The newest checkpoint is
    /// what a job starts from anyway.
    fn restore_asked(&self, wish: &Wish) -> bool {
        wish.spec.restore.policy != RestorePolicy::Latest
            && self.status().restore_applied.as_deref() != Some(wish.restore_hash.as_str())
    }

    /// Whether the spec asks for something else than what is deployed.
    fn change_asked(&self, wish: &Wish) -> bool {
        self.status().revision.as_deref() != Some(wish.revision.name.as_str())
            || self.restore_asked(wish)
    }

    /// Whether what the spec asks for has been found not to work.
    fn is_rejected(&self, wish: &Wish) -> bool {
        self.status().rejected.as_ref().is_some_and(|rejected| {
            rejected.revision == wish.revision.name
                && (rejected.generation == self.generation() || !self.restore_asked(wish))
        })
    }

    /// Forgets a rejection once the spec asks for something else.
    fn forget_rejection(&mut self) {
        let Some(wish) = self.wish() else { return };
        let Some(rejected) = &self.status().rejected else {
            return;
        };
        let settled = self.status().upgrade.is_none()
            && !self.change_asked(wish)
            && rejected.generation != self.generation();
        if rejected.revision != wish.revision.name || settled {
            self.status_mut().rejected = None;
        }
    }

    fn revision_entry(&mut self, name: &str) -> Option<&mut RevisionStatus> {
        self.decision
            .status
            .revisions
            .iter_mut()
            .find(|revision| revision.name == name)
    }
}

#[cfg(test)]
pub(super) mod tests;
