//! The job is stopped with a savepoint and its pods go; a resumption begins from there.

use millstream_crds::Reason;
use millstream_crds::status::{UpgradeStatus, UpgradeStep};

use super::Machine;
use super::deploy::empty_upgrade;
use super::start::is_path;
use crate::events::Notice;

impl Machine<'_> {
    pub(super) fn begin_suspension(&mut self) {
        if !self.claimed() && self.runtime().is_none() {
            // It never ran: there is nothing to save.
            return self.suspended(None);
        }
        let savepoint = format!("suspend-{}", self.millis());
        self.tell(Notice::normal(
            Reason::TakingSavepoint,
            format!("stops the job with savepoint {savepoint}"),
        ));
        let upgrade = UpgradeStatus {
            from: self.status().revision.clone(),
            step: UpgradeStep::Stopping,
            since: self.now(),
            savepoint: Some(savepoint),
            ..empty_upgrade(self.strategy())
        };
        self.enter(upgrade);
    }

    /// The pods go. Without a savepoint the newest checkpoint is what a resumption begins from.
    pub(super) fn suspended(&mut self, savepoint: Option<String>) {
        let claimed = self.claimed();
        let status = &mut self.decision.status;
        let unused = status.deployed.take().filter(|_| !claimed);
        // What the deployment should have been restored from still waits for the next one.
        let waiting = unused.as_ref().filter(|last| is_path(&last.restore));
        status.restore_point = savepoint.or_else(|| waiting.map(|last| last.restore.clone()));
        if unused.is_some_and(|last| last.restore == "fresh") {
            status.restore_applied = None;
        }
        if let Some(name) = status.revision.clone() {
            let point = status.restore_point.clone();
            if let Some(entry) = self.revision_entry(&name) {
                entry.restore_point = point;
            }
        }
        let status = self.status_mut();
        status.upgrade = None;
        status.rescaled_at = None;
        let state = status.restore_point.clone();
        let state = state.unwrap_or_else(|| "its newest checkpoint".to_owned());
        if self.inputs.meta.deletion_timestamp.is_none() {
            let message = format!("suspended; it will go on from {state}");
            self.tell(Notice::normal(Reason::Suspended, message));
        }
        self.look_at_rest();
    }
}
