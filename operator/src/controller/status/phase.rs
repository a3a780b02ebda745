//! The state in one word, for printing.

use millstream_crds::JobPhase;
use millstream_crds::status::UpgradeStep;

use super::View;
use super::situation::{Situation, has_pods, is_completed, is_deleting, is_suspended};
use crate::runtime_client::RuntimeState;

pub(super) fn of(view: &View<'_>, situation: &Situation) -> JobPhase {
    if is_deleting(view) {
        return JobPhase::Deleting;
    }
    if is_completed(view) {
        return JobPhase::Completed;
    }
    if is_suspended(view) {
        return if has_pods(view) {
            JobPhase::Suspending
        } else {
            JobPhase::Suspended
        };
    }
    if view.status.deployed.is_none() {
        return match view.inputs.wish {
            Err(_) => JobPhase::Invalid,
            Ok(_) => JobPhase::Deploying,
        };
    }
    let runs = view.inputs.observed.kubelet_finds_it_running;
    let stuck = situation.unready.is_some() && situation.stalled.is_some() && !runs;
    if stuck && view.inputs.wish.is_ok() {
        return JobPhase::Failed;
    }
    match &view.status.upgrade {
        Some(upgrade) if upgrade.step == UpgradeStep::Stopping && upgrade.to.is_none() => {
            JobPhase::Suspending
        }
        Some(upgrade) if upgrade.from.is_some() => JobPhase::Upgrading,
        Some(_) => first(view),
        None if view.status.rescaled_at.is_some() => JobPhase::Rescaling,
        None => running(view),
    }
}

/// Of a job that is deployed for the first time or again.
fn first(view: &View<'_>) -> JobPhase {
    match view.runtime() {
        None => JobPhase::Deploying,
        Some(runtime) => match runtime.state {
            RuntimeState::Restoring => JobPhase::Restoring,
            RuntimeState::Running => JobPhase::Running,
            RuntimeState::Restarting => JobPhase::Restarting,
            _ => JobPhase::Deploying,
        },
    }
}

fn running(view: &View<'_>) -> JobPhase {
    let Some(runtime) = view.runtime() else {
        return if view.inputs.observed.kubelet_finds_it_running {
            JobPhase::Running
        } else {
            JobPhase::Restarting
        };
    };
    match runtime.state {
        RuntimeState::Running => JobPhase::Running,
        RuntimeState::Failed => JobPhase::Failed,
        RuntimeState::Restoring => JobPhase::Restoring,
        RuntimeState::Completed => JobPhase::Completed,
        RuntimeState::WaitingForWorkers
        | RuntimeState::Deploying
        | RuntimeState::Restarting
        | RuntimeState::Stopping
        | RuntimeState::Stopped
        | RuntimeState::Unknown => JobPhase::Restarting,
    }
}
