//! The old revision is stopped, with a savepoint if possible; never waited for without end.

use std::time::Duration;

use millstream_crds::Reason;
use millstream_crds::status::UpgradeStatus;
use millstream_crds::stream_job::UpgradeStrategy;

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
        self.look_for(&upgrade.since, VERY_SOON);
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
            RuntimeState::Stopped => self.stopped_by_request(upgrade, runtime.savepoint.as_ref()),
            _ if waited > patience => {
                let reason = format!("it did not stop within {}s", patience.as_secs());
                self.fall_back(upgrade, &reason);
            }
            RuntimeState::Stopping => {}
            state => self.ask_to_stop(upgrade, state == RuntimeState::Restoring),
        }
    }

    /// Nobody answers who could be asked.
    fn stop_unseen(&mut self, upgrade: UpgradeStatus) {
        let must_stop = upgrade.to.as_deref().is_some_and(|to| self.must_stop(to));
        if !self.claimed() && !must_stop {
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

    /// The job has stopped: with our savepoint, if it says so itself. A savepoint of that name may
    /// lie there from a stop that came to nothing.
    fn stopped_by_request(&mut self, upgrade: UpgradeStatus, with: Option<&String>) {
        let Some(name) = &upgrade.savepoint else {
            return self.stopped(upgrade, None);
        };
        let ours = with.filter(|path| path.rsplit('/').next() == Some(name));
        if let Some(path) = ours.cloned() {
            self.tell(Notice::normal(
                Reason::SavepointCompleted,
                format!("stopped with savepoint {path}"),
            ));
            return self.stopped(upgrade, Some(path));
        }
        let reason = match &self.inputs.observed.savepoint {
            SavepointSeen::Failed(reason) => format!("the savepoint failed: {reason}"),
            _ => "the job stopped without the savepoint".to_owned(),
        };
        self.fall_back(upgrade, &reason);
    }

    fn ask_to_stop(&mut self, upgrade: UpgradeStatus, restoring: bool) {
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
            // A coordinator that was started again finishes the stop, unless it goes on after all.
            SavepointSeen::Completed(_) if restoring => return,
            SavepointSeen::Completed(_) if upgrade.tries >= TRIES_MAX => {
                let reason = format!("it went on after its savepoint {TRIES_MAX} times");
                return self.fall_back(upgrade, &reason);
            }
            SavepointSeen::Completed(_) => return self.stop_again(upgrade),
            SavepointSeen::Unknown | SavepointSeen::NotAsked => {}
        }
        self.status_mut().upgrade = Some(UpgradeStatus { tries, ..upgrade });
        self.decision.request = Some(RuntimeRequest::Stop { savepoint });
    }

    /// The savepoint is complete and the job goes on: its coordinator has ended before the release,
    /// and the next one could not finish the stop. What it does now is not in that savepoint, and its name is taken.
    fn stop_again(&mut self, upgrade: UpgradeStatus) {
        let before = upgrade.savepoint.as_deref().unwrap_or_default();
        let kind = before.split('-').next().unwrap_or_default();
        let savepoint = format!("{kind}-{}", self.millis());
        self.tell(Notice::warning(
            Reason::TakingSavepoint,
            format!(
                "the job went on after savepoint {before}: stops it with savepoint {savepoint}"
            ),
        ));
        self.status_mut().upgrade = Some(UpgradeStatus {
            savepoint: Some(savepoint),
            tries: upgrade.tries.max(1) + 1,
            ..upgrade
        });
    }

    /// No savepoint: the newest checkpoint is what the job goes on from, as the chain has it.
    /// Never nothing, and never from another chain.
    fn fall_back(&mut self, upgrade: UpgradeStatus, reason: &str) {
        let asked = upgrade.savepoint.is_some() && self.claimed();
        // The name stays, so that the conditions can tell that there should have been one.
        let savepoint = upgrade.savepoint.clone().filter(|_| asked);
        let upgrade = UpgradeStatus {
            savepoint,
            ..upgrade
        };
        if let Some(to) = self.stops_for(&upgrade)
            && let Err(why) = self.start_of(&upgrade, &to, None)
        {
            return self.stay(&upgrade, &format!("{reason}; {why}"));
        }
        if asked {
            self.tell(Notice::warning(
                Reason::FellBackToCheckpoint,
                fallback(upgrade.strategy, reason),
            ));
        }
        self.stopped(upgrade, None);
    }

    /// The revision that the old one is stopped for; none if it is to be suspended. What is
    /// stopped runs again if the spec asks for it again.
    fn stops_for(&self, upgrade: &UpgradeStatus) -> Option<String> {
        if self.suspension_asked() {
            return None;
        }
        let to = upgrade.to.clone()?;
        let reverted = self.wish().is_some_and(|wish| {
            upgrade.from.as_deref() == Some(wish.revision.name.as_str())
                && upgrade.restore_hash.is_none()
        });
        upgrade.from.clone().filter(|_| reverted).or(Some(to))
    }

    /// What ran has stopped, or is given up.
    fn stopped(&mut self, upgrade: UpgradeStatus, savepoint: Option<String>) {
        match self.stops_for(&upgrade) {
            None => self.suspended(savepoint),
            to => self.bring_in(UpgradeStatus { to, ..upgrade }, savepoint),
        }
    }

    /// Deploys what an upgrade brings in. `savepoint` is what the old revision was stopped with.
    pub(super) fn bring_in(&mut self, upgrade: UpgradeStatus, savepoint: Option<String>) {
        let Some(to) = upgrade.to.clone() else { return };
        let start = match self.start_of(&upgrade, &to, savepoint.as_ref()) {
            Ok(start) => start,
            Err(why) => return self.stay(&upgrade, &why),
        };
        // A savepoint that waits still to be restored stays what there is to go back to.
        let waits = start.path().filter(|_| start.unless_advanced);
        let point = savepoint.or_else(|| waits.map(str::to_owned));
        let newest = self.status().checkpoint.as_ref();
        let seen = newest.map(|checkpoint| checkpoint.path.clone());
        if let Some(from) = self.status().revision.clone()
            && let Some(entry) = self.revision_entry(&from)
        {
            entry.last_checkpoint = seen.filter(|_| point.is_none());
            entry.restore_point.clone_from(&point);
        }
        self.status_mut().restore_point = point;
        self.tell(Notice::normal(
            Reason::Deploying,
            format!("deploys {to} from {}", start.restore),
        ));
        let hash = upgrade.restore_hash.clone();
        self.deploy(&to, start, Some(upgrade), hash);
    }

    /// The state cannot be brought into another storage: what runs is left alone.
    fn stay(&mut self, upgrade: &UpgradeStatus, why: &str) {
        let message = self.storage_moved(upgrade.to.as_deref().unwrap_or_default(), why);
        self.reject(upgrade, Reason::StorageMoved, message);
        self.status_mut().upgrade = None;
    }

    /// Why a change of the storage is not brought in, and what a person can do.
    pub(super) fn storage_moved(&self, to: &str, why: &str) -> String {
        let current = self.status().revision.as_deref();
        let current = current.and_then(|revision| self.storage_of(revision));
        let held = self.moves_from(to);
        format!(
            "spec.checkpoint.storage: state cannot be taken along from {} to {}: {why}. Put it \
             back; or change `restartAt` to try again once the job runs; or say with `restore` \
             what it is to start from there",
            held.as_deref().or(current).unwrap_or_default(),
            self.storage_of(to).unwrap_or_default(),
        )
    }
}

fn fallback(strategy: UpgradeStrategy, reason: &str) -> String {
    if strategy == UpgradeStrategy::Stateless {
        format!("starts without a savepoint of what ran, so nothing can be rolled back: {reason}")
    } else {
        format!("goes on from the newest checkpoint instead of a savepoint: {reason}")
    }
}
