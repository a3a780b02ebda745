//! The old revision is stopped, with a savepoint if possible; never waited for without end.

use std::time::Duration;

use millstream_crds::Reason;
use millstream_crds::status::UpgradeStatus;

use super::{Machine, RuntimeRequest, SOON, VERY_SOON};
use crate::controller::observe::{Runtime, SavepointSeen};
use crate::events::Notice;
use crate::runtime_client::RuntimeState;

/// How long a job that is not healthy is asked for a savepoint.
const UNHEALTHY_PATIENCE: Duration = Duration::from_secs(30);
/// How often a savepoint is asked for again after it failed.
const TRIES_MAX: i32 = 3;

impl Machine<'_> {
    pub(super) fn stopping(&mut self) {
        let Some(upgrade) = self.status().upgrade.clone() else {
            return;
        };
        self.look_again(VERY_SOON);
        let Some(runtime) = self.runtime() else {
            return self.stop_unseen(upgrade);
        };
        let waited = self.elapsed(&upgrade.since);
        let healthy = matches!(
            runtime.state,
            RuntimeState::Running | RuntimeState::Stopping
        );
        let patience = if healthy {
            self.progress_deadline()
        } else {
            UNHEALTHY_PATIENCE
        };
        match runtime.state {
            RuntimeState::Completed => self.complete(),
            RuntimeState::Failed => self.fall_back(upgrade, "the job has failed"),
            RuntimeState::Stopped => self.stopped_by_request(upgrade, waited),
            _ if waited > patience => {
                let reason = format!("it did not stop within {}s", patience.as_secs());
                self.fall_back(upgrade, &reason);
            }
            RuntimeState::Stopping => {}
            _ => self.ask_to_stop(upgrade),
        }
    }

    /// Nobody answers who could be asked.
    fn stop_unseen(&mut self, upgrade: UpgradeStatus) {
        if !self.claimed() {
            return self.fall_back(upgrade, "the job never ran");
        }
        if self.elapsed(&upgrade.since) > UNHEALTHY_PATIENCE {
            let reason = match &self.inputs.observed.runtime {
                Runtime::Silent(reason) => reason.clone(),
                _ => "there is no coordinator".to_owned(),
            };
            self.fall_back(upgrade, &reason);
        }
    }

    fn stopped_by_request(&mut self, upgrade: UpgradeStatus, waited: Duration) {
        match (&upgrade.savepoint, &self.inputs.observed.savepoint) {
            (None, _) => self.stopped(upgrade, None),
            (Some(_), SavepointSeen::Completed(path)) => {
                let path = path.clone();
                self.tell(Notice::normal(
                    Reason::SavepointCompleted,
                    format!("stopped with savepoint {path}"),
                ));
                self.stopped(upgrade, Some(path));
            }
            (Some(_), SavepointSeen::Unknown | SavepointSeen::InProgress)
                if waited <= UNHEALTHY_PATIENCE => {}
            (Some(_), SavepointSeen::Failed(reason)) => {
                let reason = format!("the savepoint failed: {reason}");
                self.fall_back(upgrade, &reason);
            }
            (Some(_), _) => self.fall_back(upgrade, "the job stopped without the savepoint"),
        }
    }

    fn ask_to_stop(&mut self, upgrade: UpgradeStatus) {
        let savepoint = upgrade.savepoint.clone();
        let mut tries = upgrade.tries.max(1);
        match &self.inputs.observed.savepoint {
            SavepointSeen::InProgress => return,
            SavepointSeen::Failed(reason) if upgrade.tries >= TRIES_MAX => {
                let reason = format!("the savepoint failed {TRIES_MAX} times: {reason}");
                return self.fall_back(upgrade, &reason);
            }
            SavepointSeen::Failed(_) => {
                tries = upgrade.tries + 1;
                self.look_again(SOON * 4);
            }
            SavepointSeen::Unknown | SavepointSeen::NotAsked | SavepointSeen::Completed(_) => {}
        }
        self.status_mut().upgrade = Some(UpgradeStatus { tries, ..upgrade });
        self.decision.request = Some(RuntimeRequest::Stop { savepoint });
    }

    /// No savepoint: the newest checkpoint is what the job goes on from. Never nothing.
    fn fall_back(&mut self, upgrade: UpgradeStatus, reason: &str) {
        if upgrade.savepoint.is_some() && self.claimed() {
            self.tell(Notice::warning(
                Reason::FellBackToCheckpoint,
                format!("goes on from the newest checkpoint instead of a savepoint: {reason}"),
            ));
        }
        self.stopped(upgrade, None);
    }

    /// What ran has stopped, or is given up.
    fn stopped(&mut self, upgrade: UpgradeStatus, savepoint: Option<String>) {
        if upgrade.to.is_none() || self.suspension_asked() {
            return self.suspended(savepoint);
        }
        let reverted = self.wish().is_some_and(|wish| {
            upgrade.from.as_deref() == Some(wish.revision.name.as_str())
                && upgrade.restore_hash.is_none()
        });
        let to = if reverted {
            upgrade.from.clone()
        } else {
            upgrade.to.clone()
        };
        self.bring_in(UpgradeStatus { to, ..upgrade }, savepoint);
    }

    /// Deploys what an upgrade brings in: from the state that `spec.restore` names if the upgrade
    /// is about that, from the savepoint that the old revision was stopped with, or from what
    /// there is.
    pub(super) fn bring_in(&mut self, upgrade: UpgradeStatus, savepoint: Option<String>) {
        let Some(to) = upgrade.to.clone() else { return };
        let inherited = self.wish().map(|wish| self.next_restore(wish));
        let restore = upgrade
            .restore_from
            .clone()
            .or_else(|| savepoint.clone())
            .or(inherited)
            .unwrap_or_else(|| "latest".to_owned());
        // Checkpoints are swept when newer ones come, so without a savepoint this is a hint.
        let point = savepoint.or_else(|| {
            let newest = self.status().checkpoint.as_ref();
            newest.map(|checkpoint| checkpoint.path.clone())
        });
        if let Some(from) = self.status().revision.clone()
            && let Some(entry) = self.revision_entry(&from)
        {
            entry.restore_point.clone_from(&point);
        }
        self.status_mut().restore_point = point;
        self.tell(Notice::normal(
            Reason::Deploying,
            format!("deploys {to} from {restore}"),
        ));
        let hash = upgrade.restore_hash.clone();
        self.deploy(&to, restore, Some(upgrade), hash);
    }
}
