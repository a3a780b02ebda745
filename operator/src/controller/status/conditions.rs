//! The conditions, one by one.

use std::time::Duration;

use jiff::Timestamp;
use millstream_crds::conditions::ConditionStatus;
use millstream_crds::status::UpgradeStep;
use millstream_crds::{ConditionType, Reason};

use super::View;
use super::situation::{Said, Situation, has_pods, is_completed, is_suspended};
use crate::runtime_client::{CheckpointFailures, CompletedCheckpoint, RuntimeState, RuntimeStatus};

type Value = (ConditionStatus, Reason, String);

/// One condition.
pub(super) fn of(condition: ConditionType, view: &View<'_>, situation: &Situation) -> Value {
    match condition {
        ConditionType::Ready => ready(view, situation),
        ConditionType::Reconciling => reconciling(view, situation),
        ConditionType::Stalled => abnormal(situation.stalled.as_ref()),
        ConditionType::Valid => valid(view),
        ConditionType::CheckpointHealthy => checkpoint_healthy(view),
        ConditionType::RestoredFromState => restored(view),
        ConditionType::SavepointInProgress => savepoint(view),
        ConditionType::RolledBack => rolled_back(view),
        ConditionType::Suspended => {
            let at_rest = is_suspended(view) && !has_pods(view);
            let said = situation.unready.clone().filter(|_| at_rest);
            abnormal(said.as_ref())
        }
        ConditionType::Completed => {
            let said = situation.unready.clone().filter(|_| is_completed(view));
            abnormal(said.as_ref())
        }
        ConditionType::Audit => audit(view),
    }
}

fn is(value: impl Into<ConditionStatus>, reason: Reason, message: impl Into<String>) -> Value {
    (value.into(), reason, message.into())
}

/// A condition that is false when all is well.
fn abnormal(said: Option<&Said>) -> Value {
    match said {
        Some((reason, message)) => is(true, *reason, message),
        None => is(false, Reason::AsExpected, ""),
    }
}

fn ready(view: &View<'_>, situation: &Situation) -> Value {
    match &situation.unready {
        // The kubelet finds that it is.
        Some((reason @ Reason::CoordinatorUnreachable, message))
            if view.inputs.observed.kubelet_finds_it_running =>
        {
            is(ConditionStatus::Unknown, *reason, message)
        }
        Some((reason, message)) => is(false, *reason, message),
        None => is(
            true,
            Reason::AsExpected,
            "All tasks run and a checkpoint has completed since",
        ),
    }
}

fn reconciling(view: &View<'_>, situation: &Situation) -> Value {
    if view.inputs.paused && situation.reconciling.is_none() {
        return is(false, Reason::Paused, "");
    }
    abnormal(situation.reconciling.as_ref())
}

fn valid(view: &View<'_>) -> Value {
    match view.inputs.wish {
        Err(faults) => is(false, Reason::InvalidSpec, faults.text()),
        Ok(_) => match &view.status.rejected {
            Some(rejected) if rejected.reason == Reason::PreflightFailed.as_str() => {
                is(false, Reason::PreflightFailed, &rejected.message)
            }
            Some(rejected) if rejected.reason == Reason::InvalidSpec.as_str() => {
                is(false, Reason::InvalidSpec, &rejected.message)
            }
            _ => is(true, Reason::AsExpected, ""),
        },
    }
}

fn running<'a>(view: &View<'a>) -> Option<&'a RuntimeStatus> {
    view.runtime()
        .filter(|runtime| runtime.state == RuntimeState::Running)
}

/// A failure with its cause is told before one that only shows in the time that has passed. A
/// checkpoint is overdue after two intervals and a timeout.
fn checkpoint_healthy(view: &View<'_>) -> Value {
    let (Some(runtime), Some(spec)) = (running(view), view.running) else {
        return is(
            ConditionStatus::Unknown,
            Reason::Unknown,
            "The job does not run",
        );
    };
    if let Some(failures) = &runtime.checkpoint_failures {
        return is(false, Reason::CheckpointFailing, failing(failures));
    }
    let checkpoint = &spec.checkpoint;
    let patience = checkpoint.interval.0 * 2 + checkpoint.timeout.0;
    let newest = runtime.last_checkpoint.as_ref();
    let completed = newest.map_or(runtime.since, CompletedCheckpoint::ended_at);
    let millis = i64::try_from(completed.max(runtime.since).0).unwrap_or_default();
    let from = Timestamp::from_millisecond(millis).unwrap_or(view.inputs.now);
    let age = Duration::try_from(view.inputs.now.duration_since(from)).unwrap_or_default();
    match newest {
        _ if age > patience => is(
            false,
            Reason::CheckpointOverdue,
            format!(
                "No checkpoint has completed since {from:.0}, though one is taken every {}",
                checkpoint.interval
            ),
        ),
        None => is(
            ConditionStatus::Unknown,
            Reason::NoCheckpointYet,
            "No checkpoint has completed yet",
        ),
        Some(_) => is(true, Reason::AsExpected, ""),
    }
}

fn failing(failures: &CheckpointFailures) -> String {
    let restart = failures.tolerable.saturating_add(1);
    format!(
        "{} checkpoints in a row have failed, {restart} restart the job; the last one: {}",
        failures.in_a_row, failures.last
    )
}

fn restored(view: &View<'_>) -> Value {
    let deployed = view.status.deployed.as_ref();
    if !deployed.is_some_and(|deployed| deployed.claimed) {
        return is(ConditionStatus::Unknown, Reason::Unknown, "");
    }
    match &view.status.restored_from {
        Some(path) if fell_back(view) => is(
            true,
            Reason::FellBackToCheckpoint,
            format!(
                "Restored from {path}: the job could not be stopped with a savepoint, so its \
                 newest checkpoint is used"
            ),
        ),
        Some(path) => is(true, Reason::Restored, format!("Restored from {path}")),
        None => is(false, Reason::StartedFresh, "The job began without state"),
    }
}

/// Whether a savepoint was wanted and is not what the job was restored from. Told until the next
/// restart.
fn fell_back(view: &View<'_>) -> bool {
    let status = view.status;
    if let Some(upgrade) = &status.upgrade {
        return upgrade.step >= UpgradeStep::Deploying
            && upgrade.savepoint.is_some()
            && upgrade.restore_from.as_deref() == Some("latest");
    }
    let name = ConditionType::RestoredFromState.as_str();
    let before = view
        .inputs
        .status
        .conditions
        .iter()
        .find(|one| one.type_ == name);
    before.is_some_and(|one| one.reason == Reason::FellBackToCheckpoint.as_str())
        && view.inputs.status.restored_from == status.restored_from
}

fn savepoint(view: &View<'_>) -> Value {
    let upgrade = view.status.upgrade.as_ref();
    let stopping = upgrade.filter(|upgrade| upgrade.step == UpgradeStep::Stopping);
    match stopping.and_then(|upgrade| upgrade.savepoint.as_ref()) {
        Some(name) => is(
            true,
            Reason::TakingSavepoint,
            format!("Takes savepoint {name}"),
        ),
        None => is(false, Reason::AsExpected, ""),
    }
}

fn rolled_back(view: &View<'_>) -> Value {
    match (&view.status.rolled_back_from, &view.status.revision) {
        (Some(from), Some(to)) => is(
            true,
            Reason::RolledBack,
            format!("{from} did not work; {to} was deployed again"),
        ),
        _ => is(false, Reason::AsExpected, ""),
    }
}

fn audit(view: &View<'_>) -> Value {
    match &view.inputs.observed.audit {
        Some(audit) if !audit.gaps.is_empty() => is(false, Reason::Gap, audit.gaps.join("; ")),
        Some(audit) if audit.checkpoint.is_some() => is(true, Reason::Verified, ""),
        _ => kept(view),
    }
}

/// What was known before: nobody can say now.
fn kept(view: &View<'_>) -> Value {
    let name = ConditionType::Audit.as_str();
    let before = view.inputs.status.conditions.iter();
    match before.into_iter().find(|one| one.type_ == name) {
        Some(one) if one.status == "True" => is(true, Reason::Verified, ""),
        Some(one) if one.status == "False" => is(false, Reason::Gap, &one.message),
        _ => is(ConditionStatus::Unknown, Reason::Unknown, ""),
    }
}
