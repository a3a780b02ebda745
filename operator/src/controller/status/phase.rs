//! The state in one word, for printing.

use millstream_crds::JobPhase;
use millstream_crds::status::UpgradeStep;

use super::View;
use super::situation::{Situation, is_completed, is_deleting, is_suspended};
use crate::controller::observe::Runtime;
use crate::runtime_client::RuntimeState;

pub(super) fn of(view: &View<'_>, situation: &Situation) -> JobPhase {
    if is_deleting(view) {
        return JobPhase::Deleting;
    }
    if is_completed(view) {
        return JobPhase::Completed;
    }
    if is_suspended(view) {
        return JobPhase::Suspended;
    }
    if view.status.deployed.is_none() {
        return match view.inputs.wish {
            Err(_) => JobPhase::Invalid,
            Ok(_) => JobPhase::Deploying,
        };
    }
    if situation.unready.is_some() && situation.stalled.is_some() && view.inputs.wish.is_ok() {
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
    match view.inputs.observed.runtime.current() {
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
    let Runtime::Answers(runtime) = &view.inputs.observed.runtime else {
        return JobPhase::Restarting;
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
