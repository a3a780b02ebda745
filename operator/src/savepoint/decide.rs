//! What to do about a savepoint next: a pure function of the resource, of what was seen, and of
//! the time. The status is the only memory.

mod disposing;
mod taking;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use millstream_crds::conditions::{ConditionStatus, NewCondition};
use millstream_crds::{
    ConditionType, JobPhase, Reason, SavepointState, StreamSavepoint, StreamSavepointStatus,
};

use super::template::Template;
use crate::context::Next;
use crate::events::Notice;
use crate::runtime_client::RuntimeError;

/// Look again at something that is being done.
const SOON: Duration = Duration::from_secs(1);
/// Look again at something that somebody else must do.
const LATER: Duration = Duration::from_secs(5);
/// Delay after a first failure.
const RETRY: Duration = Duration::from_secs(5);
/// Longest delay after a failure.
const RETRY_MAX: Duration = Duration::from_mins(5);
/// How long a failed disposal is left to be looked at before it is tried again.
const DISPOSAL_RETRY: Duration = Duration::from_mins(2);

/// All that a decision looks at, besides the resource.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// The job; none if there is no such job.
    pub job: Option<JobSeen>,
    /// What its coordinator says of the savepoint.
    pub runtime: RuntimeSeen,
    /// How the deletion of its data stands.
    pub disposal: DisposalSeen,
}

/// The job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobSeen {
    /// What it is doing.
    pub phase: Option<JobPhase>,
    /// Its newest deployment.
    pub deployment: Option<i64>,
    /// What a pod needs that deletes a savepoint of it.
    pub template: Option<Template>,
}

/// What the coordinator says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum RuntimeSeen {
    /// It was not asked, or there is none.
    #[default]
    NoCoordinator,
    /// It does not answer.
    Silent(String),
    /// It has not heard of the savepoint.
    NotAsked,
    /// The savepoint is being taken.
    InProgress,
    /// The savepoint is complete.
    Completed {
        /// Where it lies.
        path: String,
        /// Its checkpoint number.
        id: Option<i64>,
        /// Bytes of everything it names.
        size_bytes: Option<i64>,
    },
    /// The savepoint failed.
    Failed(String),
}

/// How the deletion of the data stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DisposalSeen {
    /// There is no Kubernetes job for it.
    #[default]
    Absent,
    /// It has not ended.
    Running,
    /// The data is gone.
    Succeeded,
    /// It has failed.
    Failed {
        /// Why.
        message: String,
        /// When.
        at: Option<Timestamp>,
    },
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// The status, to be written before anything else is done.
    pub status: StreamSavepointStatus,
    /// What follows from it.
    pub action: Action,
    /// What to tell people.
    pub notices: Vec<Notice>,
    /// When to look again.
    pub next: Next,
}

impl Decision {
    /// Whether the savepoint is complete now and was not before.
    pub fn completes(&self, savepoint: &StreamSavepoint) -> bool {
        let before = savepoint.status.as_ref().and_then(|status| status.state);
        let complete = Some(SavepointState::Completed);
        self.status.state == complete && before != complete
    }
}

/// What follows from a status. All may be repeated.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Nothing.
    None,
    /// Ask the coordinator for the savepoint; before that, if there is a template, make sure that
    /// its data will be deleted with the resource.
    Ask {
        /// What the deletion needs.
        dispose_with: Option<Template>,
    },
    /// Delete the data at a path.
    Dispose {
        /// Where it lies.
        path: String,
        /// What the pod needs.
        template: Template,
    },
    /// Remove a disposal that has failed, so that it is tried again.
    RetryDisposal,
    /// Let the resource go.
    Release,
}

/// Decides what to do next.
pub fn decide(savepoint: &StreamSavepoint, seen: &Seen, now: Timestamp) -> Decision {
    let machine = Machine::new(savepoint, seen, now);
    let state = machine.status.state;
    if savepoint.metadata.deletion_timestamp.is_some() {
        return machine.dispose();
    }
    match state {
        Some(
            SavepointState::Completed
            | SavepointState::Failed
            | SavepointState::Abandoned
            | SavepointState::Unknown,
        ) => machine.ended(Action::None),
        None | Some(SavepointState::Pending | SavepointState::InProgress) => machine.take(),
    }
}

/// Whether the coordinator must be asked for a decision.
pub fn needs_runtime(savepoint: &StreamSavepoint) -> bool {
    let status = savepoint.status.clone().unwrap_or_default();
    if savepoint.metadata.deletion_timestamp.is_some() {
        return has_finalizer(savepoint) && status.path.is_none() && status.tries.is_some();
    }
    matches!(
        status.state,
        None | Some(SavepointState::Pending | SavepointState::InProgress)
    )
}

/// Whether the state of the disposal is needed for a decision.
pub fn needs_disposal(savepoint: &StreamSavepoint) -> bool {
    savepoint.metadata.deletion_timestamp.is_some() && has_finalizer(savepoint)
}

fn has_finalizer(savepoint: &StreamSavepoint) -> bool {
    let finalizers = savepoint.metadata.finalizers.iter().flatten();
    finalizers.into_iter().any(|name| name == super::FINALIZER)
}

/// The status after the coordinator has refused the request that `status` announced.
pub fn refused(
    savepoint: &StreamSavepoint,
    status: StreamSavepointStatus,
    error: &RuntimeError,
    now: Timestamp,
) -> Decision {
    let seen = Seen::default();
    let mut machine = Machine::new(savepoint, &seen, now);
    machine.status = status;
    match error {
        // Whether it was taken is unknown: the next reconcile looks.
        RuntimeError::Unreachable { .. } | RuntimeError::Gone { .. } => machine.again_soon(),
        RuntimeError::Conflict {
            code: Some(code), ..
        } if code == TAKEN => machine.fail(&error.to_string()),
        RuntimeError::Refused {
            status: 400..=499, ..
        } => machine.fail(&error.to_string()),
        RuntimeError::Conflict { .. }
        | RuntimeError::NotFound { .. }
        | RuntimeError::Refused { .. }
        | RuntimeError::Malformed { .. } => machine.try_later(&error.to_string()),
    }
}

/// Code of a refusal because another savepoint has the name.
const TAKEN: &str = "MS0307";

/// A decision in the making.
struct Machine<'a> {
    savepoint: &'a StreamSavepoint,
    seen: &'a Seen,
    now: Timestamp,
    status: StreamSavepointStatus,
    notices: Vec<Notice>,
}

impl<'a> Machine<'a> {
    fn new(savepoint: &'a StreamSavepoint, seen: &'a Seen, now: Timestamp) -> Self {
        let mut status = savepoint.status.clone().unwrap_or_default();
        status.observed_generation = savepoint.metadata.generation;
        Self {
            savepoint,
            seen,
            now,
            status,
            notices: Vec::new(),
        }
    }

    fn job(&self) -> &str {
        &self.savepoint.spec.job_ref.name
    }

    /// The time after which nothing is tried any more.
    fn deadline(&self) -> Timestamp {
        let created = self.savepoint.metadata.creation_timestamp.as_ref();
        let created = created.map_or(self.now, |time| time.0);
        created
            .checked_add(self.savepoint.spec.deadline.0)
            .unwrap_or(Timestamp::MAX)
    }

    fn decide(self, action: Action, next: Next) -> Decision {
        Decision {
            status: self.status,
            action,
            notices: self.notices,
            next,
        }
    }

    /// Nothing more will happen by itself.
    fn ended(self, action: Action) -> Decision {
        self.decide(action, Next::on_change())
    }

    /// Writes the conditions that belong to the state: by kstatus, a resource is ready, being
    /// worked at, or stalled.
    fn conclude(&mut self, reason: Reason, message: String) {
        let state = self.status.state.unwrap_or(SavepointState::Pending);
        let is = |states: &[SavepointState]| ConditionStatus::from(states.contains(&state));
        let conditions = [
            (ConditionType::Ready, is(&[SavepointState::Completed])),
            (
                ConditionType::Reconciling,
                is(&[SavepointState::Pending, SavepointState::InProgress]),
            ),
            (
                ConditionType::Stalled,
                is(&[SavepointState::Failed, SavepointState::Abandoned]),
            ),
        ];
        let generation = self.savepoint.metadata.generation.unwrap_or_default();
        let since = Time(self.now);
        let previous = std::mem::take(&mut self.status.conditions);
        self.status.conditions = conditions
            .into_iter()
            .map(|(condition_type, status)| {
                let new = NewCondition {
                    condition_type,
                    status,
                    reason,
                    message: message.clone(),
                };
                new.stored(&previous, generation, &since)
            })
            .collect();
        self.status.message = (!message.is_empty()).then_some(message);
    }
}

/// The delay after so many tries.
fn backoff(tries: i32) -> Duration {
    let doublings = u32::try_from(tries.saturating_sub(1)).unwrap_or(0).min(16);
    RETRY
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(RETRY_MAX)
}

fn rfc3339(time: Timestamp) -> String {
    time.to_string()
}

#[cfg(test)]
mod tests;
