//! What holds, in the few words that all conditions are made of: is it ready, does it work
//! towards something, is it stuck, and why.

use std::time::Duration;

use jiff::Timestamp;
use millstream_crds::status::UpgradeStep;
use millstream_crds::stream_job::DesiredState;
use millstream_crds::{ConditionType, Reason};

use super::View;
use super::words;
use crate::controller::decide::completed_while_running;
use crate::runtime_client::{RuntimeState, RuntimeStatus};

/// A reason and what is said about it.
pub(super) type Said = (Reason, String);

/// What holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Situation {
    /// Why the job is not ready, if it is not.
    pub(super) unready: Option<Said>,
    /// What the operator works towards.
    pub(super) reconciling: Option<Said>,
    /// Why only a person can help.
    pub(super) stalled: Option<Said>,
}

impl Situation {
    pub(super) fn of(view: &View<'_>) -> Self {
        let unready = unready(view);
        let stalled = stalled(view, unready.as_ref());
        let reconciling = reconciling(view, unready.as_ref(), stalled.is_some());
        Self {
            unready,
            reconciling,
            stalled,
        }
    }

    /// The most important sentence.
    pub(super) fn headline(&self) -> Option<String> {
        let said = self
            .stalled
            .as_ref()
            .or(self.reconciling.as_ref())
            .or(self.unready.as_ref());
        said.map(|(_, message)| words::headline(message))
            .filter(|message| !message.is_empty())
    }
}

/// Whether the job is at rest because that is wanted.
pub(super) fn is_suspended(view: &View<'_>) -> bool {
    let wished = view
        .inputs
        .wish
        .is_ok_and(|wish| wish.spec.state == DesiredState::Suspended);
    let was = had(view, ConditionType::Suspended) && view.inputs.wish.is_err();
    view.status.deployed.is_none() && !is_completed(view) && (wished || was)
}

pub(super) const fn is_completed(view: &View<'_>) -> bool {
    view.status.completed_at.is_some()
}

pub(super) const fn is_deleting(view: &View<'_>) -> bool {
    view.inputs.meta.deletion_timestamp.is_some()
}

fn had(view: &View<'_>, condition: ConditionType) -> bool {
    let mut before = view.inputs.status.conditions.iter();
    before.any(|one| one.type_ == condition.as_str() && one.status == "True")
}

fn runtime<'a>(view: &View<'a>) -> Option<&'a RuntimeStatus> {
    view.runtime()
}

/// Whether pods of the job are there, also such that are ending.
pub(super) const fn has_pods(view: &View<'_>) -> bool {
    let observed = view.inputs.observed;
    observed.coordinator.count > 0 || observed.workers.count > 0
}

fn unready(view: &View<'_>) -> Option<Said> {
    if is_deleting(view) {
        return Some((Reason::Deleting, words::deleting(view)));
    }
    if is_completed(view) {
        let message = "All sources have ended and everything is committed";
        return Some((Reason::Completed, message.to_owned()));
    }
    if is_suspended(view) {
        return Some((Reason::Suspended, words::suspended(view)));
    }
    if view.status.deployed.is_none() {
        return Some(not_deployed(view));
    }
    let Some(runtime) = runtime(view) else {
        return Some(words::no_coordinator(view));
    };
    if completed_while_running(runtime) {
        let rescaling = view.status.rescaled_at.as_ref();
        return rescaling.map(|since| (Reason::Rescaling, words::rescaling(view, since)));
    }
    Some(words::runtime(view, runtime))
}

fn not_deployed(view: &View<'_>) -> Said {
    match view.inputs.wish {
        Err(faults) => (Reason::InvalidSpec, faults.text()),
        Ok(wish) => match &wish.restore {
            Err(missing) => (Reason::ReferenceMissing, missing.clone()),
            Ok(_) => (
                Reason::Deploying,
                "The job is about to be deployed".to_owned(),
            ),
        },
    }
}

fn stalled(view: &View<'_>, unready: Option<&Said>) -> Option<Said> {
    if is_deleting(view) {
        return None;
    }
    let runs_on = words::runs_on(view);
    if let Err(faults) = view.inputs.wish {
        return Some((Reason::InvalidSpec, format!("{}{runs_on}", faults.text())));
    }
    if let Some(rejected) = rejection(view) {
        return Some(rejected);
    }
    view.status.deployed.as_ref()?;
    if let Some(runtime) = runtime(view)
        && runtime.state == RuntimeState::Failed
        && view.status.upgrade.is_none()
    {
        return Some((Reason::JobFailed, words::failed(runtime)));
    }
    unreachable(view, unready).or_else(|| overdue(view, unready))
}

/// A deployment that runs, as the kubelet finds, and that nobody can ask within its deadline.
fn unreachable(view: &View<'_>, unready: Option<&Said>) -> Option<Said> {
    let (reason, message) = unready?;
    let observed = view.inputs.observed;
    if *reason != Reason::CoordinatorUnreachable || !observed.kubelet_finds_it_running {
        return None;
    }
    view.status.upgrade.as_ref()?;
    let deployed = view.status.deployed.as_ref()?;
    let since = deployed.at.parse().ok()?;
    let deadline = view.inputs.wish.ok()?.spec.upgrade.progress_deadline.0.0;
    (waited(view, since) > deadline).then(|| (*reason, message.clone()))
}

fn waited(view: &View<'_>, since: Timestamp) -> Duration {
    Duration::try_from(view.inputs.now.duration_since(since)).unwrap_or_default()
}

/// What the spec asks for has been found not to work.
fn rejection(view: &View<'_>) -> Option<Said> {
    let rejected = view.status.rejected.as_ref()?;
    let reason = Reason::ALL
        .iter()
        .find(|reason| reason.as_str() == rejected.reason)
        .copied()
        .unwrap_or(Reason::Unknown);
    let current = view.status.revision.as_ref() == Some(&rejected.revision);
    let what = if current && view.status.upgrade.is_some() {
        format!(
            "{} does not work, and nothing is changed any more until the spec changes",
            rejected.revision
        )
    } else if let Some(revision) = &view.status.revision {
        format!(
            "{} cannot be brought in; {revision} runs on. Correct the spec",
            rejected.revision
        )
    } else {
        rejected.revision.clone()
    };
    Some((reason, format!("{what}: {}", rejected.message)))
}

/// Not ready for longer than the progress deadline, though nothing is under way that has a
/// deadline of its own.
fn overdue(view: &View<'_>, unready: Option<&Said>) -> Option<Said> {
    let (reason, message) = unready?;
    if view.status.upgrade.is_some() {
        return None;
    }
    let deadline = view.inputs.wish.ok()?.spec.upgrade.progress_deadline.0.0;
    let before = &view.inputs.status.conditions;
    let since = before
        .iter()
        .find(|one| one.type_ == ConditionType::Ready.as_str() && one.status != "True")?;
    let since = since.last_transition_time.0;
    (waited(view, since) > deadline).then(|| {
        let message = format!("not ready since {since}: {message}");
        let reason = match reason {
            Reason::CoordinatorUnreachable => *reason,
            _ => Reason::ProgressDeadlineExceeded,
        };
        (reason, message)
    })
}

fn reconciling(view: &View<'_>, unready: Option<&Said>, stalled: bool) -> Option<Said> {
    if is_deleting(view) {
        return unready.cloned();
    }
    if stalled || view.inputs.paused {
        return None;
    }
    if let Some(trouble) = view.trouble {
        return Some((Reason::ApplyFailed, words::trouble(trouble)));
    }
    if let Some(upgrade) = &view.status.upgrade {
        return Some(match upgrade.step {
            UpgradeStep::Preflight => (Reason::Preflight, words::preflight(view, upgrade)),
            UpgradeStep::WaitingForApproval => {
                (Reason::WaitingForApproval, words::approval(upgrade))
            }
            UpgradeStep::Stopping => (Reason::TakingSavepoint, words::stopping(view, upgrade)),
            UpgradeStep::Deploying | UpgradeStep::Verifying | UpgradeStep::Unknown => {
                let waits = unready.cloned();
                waits.unwrap_or_else(|| {
                    let message = "The revision must complete more checkpoints".to_owned();
                    (Reason::WaitingForCheckpoint, message)
                })
            }
        });
    }
    if is_suspended(view) && has_pods(view) {
        let message = "Suspended; its pods are ending".to_owned();
        return Some((Reason::WaitingForPods, message));
    }
    if is_suspended(view) || is_completed(view) {
        return None;
    }
    if let Some(missing) = missing_reference(view) {
        return Some((Reason::ReferenceMissing, missing));
    }
    unready.cloned()
}

fn missing_reference(view: &View<'_>) -> Option<String> {
    let wish = view.inputs.wish.ok()?;
    let applied = view.status.restore_applied.as_ref() == Some(&wish.restore_hash);
    wish.restore.as_ref().err().filter(|_| !applied).cloned()
}

/// Milliseconds since 1970 as people read them.
pub(super) fn at(millis: u64) -> String {
    i64::try_from(millis)
        .ok()
        .and_then(|millis| Timestamp::from_millisecond(millis).ok())
        .map_or_else(|| "an unknown time".to_owned(), |time| format!("{time:.0}"))
}
