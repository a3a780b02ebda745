//! The resource is being deleted: do what `spec.deletion` or the retention of checkpoints says, but
//! never hold it up for longer than its deadline.

use jiff::Timestamp;
use millstream_crds::Reason;
use millstream_crds::status::{UpgradeStatus, UpgradeStep};
use millstream_crds::stream_job::DeletionPolicy;

use super::deploy::empty_upgrade;
use super::{Machine, SOON, STEADY, written};
use crate::controller::build::names::ANNOTATION_SKIP_FINALIZER;
use crate::controller::observe::TaskSeen;
use crate::events::Notice;

impl Machine<'_> {
    pub(super) fn delete(&mut self) {
        let since = self.inputs.meta.deletion_timestamp.as_ref();
        self.look_for(
            &since.map_or_else(String::new, |since| written(since.0)),
            SOON,
        );
        let policy = self.inputs.deletion.policy;
        let annotations = self.inputs.meta.annotations.as_ref();
        if let Some(fault) = &self.inputs.deletion.fault {
            self.tell(Notice::warning(
                Reason::InvalidSpec,
                format!(
                    "the checkpoints stay, because what is to become of them is unclear: {fault}"
                ),
            ));
        }
        let skip = annotations.and_then(|all| all.get(ANNOTATION_SKIP_FINALIZER));
        if policy == DeletionPolicy::Retain
            || skip.is_some_and(|value| value == "true")
            || self.inputs.observed.namespace_terminating
        {
            self.decision.finalizer = false;
            return;
        }
        if self.deletion_overdue() {
            self.tell(Notice::warning(
                Reason::DeadlineExceeded,
                format!(
                    "{} could not be carried out within its deadline; the checkpoints stay",
                    self.inputs.deletion
                ),
            ));
            self.decision.finalizer = false;
            return;
        }
        if self.status().deployed.is_some() {
            return self.stop_to_delete(policy);
        }
        match policy {
            DeletionPolicy::Retain => {}
            DeletionPolicy::Savepoint => self.decision.finalizer = false,
            DeletionPolicy::DeleteCheckpoints => self.dispose(),
        }
    }

    fn deletion_overdue(&self) -> bool {
        let began = self.inputs.meta.deletion_timestamp.as_ref();
        let began = began.map_or(self.inputs.now, |time| time.0);
        let deadline = self.inputs.deletion.deadline.0;
        Timestamp::checked_add(began, deadline).is_ok_and(|until| self.inputs.now > until)
    }

    fn stop_to_delete(&mut self, policy: DeletionPolicy) {
        let asked =
            self.status().upgrade.as_ref().is_some_and(|upgrade| {
                upgrade.step == UpgradeStep::Stopping && upgrade.to.is_none()
            });
        if asked {
            return self.stopping();
        }
        if !self.claimed() && self.runtime().is_none() {
            return self.suspended(None);
        }
        let savepoint =
            (policy == DeletionPolicy::Savepoint).then(|| format!("delete-{}", self.millis()));
        self.tell(Notice::normal(
            Reason::Deleting,
            savepoint.as_ref().map_or_else(
                || "stops the job before its checkpoints are deleted".to_owned(),
                |name| format!("stops the job with savepoint {name} before it is deleted"),
            ),
        ));
        let upgrade = UpgradeStatus {
            from: self.status().revision.clone(),
            step: UpgradeStep::Stopping,
            since: self.now(),
            savepoint,
            ..empty_upgrade(self.strategy())
        };
        self.enter(upgrade);
    }

    /// Deletes the chain, once nobody can write to it any more.
    fn dispose(&mut self) {
        let observed = self.inputs.observed;
        if observed.coordinator.count > 0 || observed.workers.count > 0 {
            return;
        }
        self.decision.disposal = true;
        match &observed.disposal {
            TaskSeen::Succeeded(_) => {
                self.tell(Notice::normal(
                    Reason::StateDeleted,
                    "the job's checkpoints are deleted; its savepoints stay",
                ));
                self.decision.finalizer = false;
            }
            TaskSeen::Absent
            | TaskSeen::Waiting(_)
            | TaskSeen::Failed(_)
            | TaskSeen::Broken { .. } => {
                self.look_again(STEADY / 5);
            }
        }
    }
}
