//! What to do next: a pure function of the resource, its status, what is observed, and the time.
//!
//! The status is the machine's only memory. A decision is a new status, and what has to be done
//! once it is written: objects and requests that follow from it and may be repeated. Which pods
//! should run is not part of a decision, because it stands in the status: those of
//! `status.revision` with `status.parallelism` and `status.deployment` if there is a
//! `status.deployed`, none otherwise.
//!
//! Reading order: `settled` begins things, `upgrade` → `stop` → `deploy` → `verify` are the steps
//! of an upgrade, `start` is what a deployment starts from, the others what their names say.

mod complete;
mod delete;
mod deploy;
mod noted;
mod rescale;
mod settled;
mod start;
mod stop;
mod suspend;
mod upgrade;
mod verify;

pub(super) use noted::completed_while_running;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millstream_crds::status::{RevisionStatus, UpgradeStep};
use millstream_crds::stream_job::{DeletionPolicy, DesiredState, RestorePolicy};
use millstream_crds::{Reason, StreamJobStatus};

use super::build::names::{ANNOTATION_APPROVE, Role};
use super::deletion::Deletion;
use super::memory::Replaced;
use super::observe::Observed;
use super::observe::pods::{PutOff, Quiet};
use super::validate::{Faults, Wish};
use crate::events::Notice;
use crate::runtime_client::{RuntimeState, RuntimeStatus};
use crate::text;

/// Longest account of a rejection that is kept, bytes.
const REJECTION_BYTES_MAX: usize = 4_000;
/// A look at something that is awaited.
const SOON: Duration = Duration::from_millis(500);
/// A look at something that nobody reports and for which output waits.
const VERY_SOON: Duration = Duration::from_millis(100);
/// A look at a job that runs.
const STEADY: Duration = Duration::from_secs(5);
/// How long after its end was due a pod is removed by force.
const OVERDUE: Duration = Duration::from_secs(15);
/// The pause before the next look is this part of the time that something has been awaited for: what
/// takes long is seen a little later, and does not keep the API server busy. Watches report pods and
/// Kubernetes jobs at once.
const PART_OF_WAIT: u32 = 16;
/// A look at something that only a person changes, and that a watch reports.
const SELDOM: Duration = Duration::from_mins(10);

/// All that a decision depends on.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The resource's metadata.
    pub meta: &'a ObjectMeta,
    /// Whether `spec.paused` is set, also in a spec with faults.
    pub paused: bool,
    /// What becomes of state when the resource is deleted, also of a spec with faults.
    pub deletion: &'a Deletion,
    /// What the spec asks for, or what is wrong with it.
    pub wish: Result<&'a Wish, &'a Faults>,
    /// What was decided before.
    pub status: &'a StreamJobStatus,
    /// What is there.
    pub observed: &'a Observed,
    /// Pods that were replaced of late.
    pub replaced: &'a Replaced,
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
    pub replace: Vec<(Role, PutOff)>,
    /// Pods to remove by force, because their nodes say nothing any more.
    pub remove: Vec<Quiet>,
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
    pub step: String,
    /// How long it may take.
    pub deadline: Duration,
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
    machine.forget_approval();
    if inputs.meta.deletion_timestamp.is_some() {
        machine.delete();
    } else if !inputs.paused {
        machine.forget_rejection();
        machine.step();
        machine.replace_pods();
    }
    if !machine.decision.hands_off {
        machine.remove_quiet_pods();
    }
    if let Some(rejected) = &mut machine.decision.status.rejected {
        let message = std::mem::take(&mut rejected.message);
        rejected.message = text::cut(message, REJECTION_BYTES_MAX);
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
                remove: Vec::new(),
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
            Some(UpgradeStep::Unknown) => {
                // Another version has begun something. What there is decides how to go on.
                self.status_mut().upgrade = None;
                self.settled();
            }
        }
    }

    /// The restart delay after a failure is the job's own; what the kubelet adds to it helps
    /// nobody, unless the process cannot even start, or ends so often that nodes need its pauses.
    fn replace_pods(&mut self) {
        if self.status().deployed.is_none() {
            return;
        }
        let (observed, now) = (self.inputs.observed, self.inputs.now);
        for (role, pods) in [
            (Role::Coordinator, &observed.coordinator),
            (Role::Worker, &observed.workers),
        ] {
            let left = self.inputs.replaced.left(role, pods.count, now);
            for pod in pods.put_off.iter().take(left) {
                self.tell(Notice::warning(
                    Reason::PodsFailing,
                    format!("replaces pod {}: {}", pod.pod, pod.message),
                ));
                self.decision.replace.push((role, pod.clone()));
            }
        }
    }

    /// A pod whose node says nothing any more neither ends nor makes room for another one by
    /// itself. The chain fences what still runs there. A job that goes on all the same, because
    /// only the kubelet is away, is left alone.
    fn remove_quiet_pods(&mut self) {
        let runs = self.runtime().is_some_and(|runtime| {
            matches!(
                runtime.state,
                RuntimeState::Running | RuntimeState::Stopping
            )
        });
        let now = self.inputs.now;
        for pod in &self.inputs.observed.quiet {
            let overdue = pod.due.and_then(|due| due.checked_add(OVERDUE).ok());
            let is_due = overdue.is_some_and(|at| now >= at);
            if is_due || pod.node_lost && (pod.due.is_some() || !runs) {
                let why = if pod.node_lost {
                    "Kubernetes has lost its node"
                } else {
                    "it should have ended long ago"
                };
                let message = format!("removes pod {}: {why}", pod.pod);
                self.tell(Notice::warning(Reason::PodsFailing, message));
                self.decision.remove.push(pod.clone());
            } else if let Some(at) = overdue {
                let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
                let sooner = self.decision.requeue.min(left.max(SOON));
                self.look_again(sooner);
            }
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

    /// A look at a job at rest: soon while its pods are still ending.
    const fn look_at_rest(&mut self) {
        let observed = self.inputs.observed;
        let has_pods = observed.coordinator.count > 0 || observed.workers.count > 0;
        self.look_again(if has_pods { STEADY } else { SELDOM });
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

    /// A look at something that has been awaited since then: soon at first.
    fn look_for(&mut self, since: &str, soonest: Duration) {
        let pause = self.elapsed(since) / PART_OF_WAIT;
        self.look_again(pause.clamp(soonest, STEADY));
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

    /// Forgets that an approval was used once it is another one.
    fn forget_approval(&mut self) {
        let annotations = self.inputs.meta.annotations.as_ref();
        let given = annotations.and_then(|all| all.get(ANNOTATION_APPROVE));
        if given.is_none() {
            self.status_mut().approval_used = None;
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
