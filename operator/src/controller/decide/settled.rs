//! Nothing is under way: compare what is asked for with what is deployed.

use millstream_crds::Reason;
use millstream_crds::status::UpgradeStatus;
use millstream_crds::stream_job::RestorePolicy;

use super::deploy::empty_upgrade;
use super::start::Start;
use super::{Machine, SOON, completed_while_running};
use crate::controller::validate::Wish;
use crate::events::Notice;
use crate::runtime_client::RuntimeState;

impl Machine<'_> {
    pub(super) fn settled(&mut self) {
        if self.status().deployed.is_none() {
            return self.at_rest();
        }
        match self.runtime().map(|runtime| runtime.state) {
            Some(RuntimeState::Completed) => return self.complete(),
            Some(RuntimeState::Stopped) if !self.suspension_asked() => return self.revive(),
            _ => {}
        }
        self.note_goodness();
        let Some(wish) = self.wish() else { return };
        if self.suspension_asked() {
            return self.begin_suspension();
        }
        if self.status().revision.as_deref() == Some(wish.revision.name.as_str())
            && self.status().rolled_back_from.is_some()
        {
            self.status_mut().rolled_back_from = None;
        }
        if wish.spec.restore.policy == RestorePolicy::Latest {
            // So that a policy that is set again later counts as a wish again.
            self.status_mut().restore_applied = Some(wish.restore_hash.clone());
        }
        if self.change_asked(wish) && !self.is_rejected(wish) {
            return self.begin_upgrade(wish);
        }
        self.rescale(wish);
    }

    /// A revision whose proof was cut short by another change gives it now.
    fn note_goodness(&mut self) {
        let runs = self.runtime().is_some_and(completed_while_running);
        if let Some(name) = self.status().revision.clone()
            && let Some(entry) = self.revision_entry(&name).filter(|_| runs)
        {
            entry.good = true;
        }
    }

    /// Nothing is deployed: not yet, suspended, or complete.
    fn at_rest(&mut self) {
        self.look_at_rest();
        let Some(wish) = self.wish() else { return };
        if self.suspension_asked() {
            return;
        }
        if self.status().completed_at.is_some() && !self.change_asked(wish) {
            return;
        }
        self.begin(wish);
    }

    /// The first deployment, a resumption, or another run of a job that was complete.
    fn begin(&mut self, wish: &Wish) {
        if self.restore_asked(wish)
            && let Err(missing) = &wish.restore
        {
            // The conditions say what is missing.
            tracing::debug!(missing, "not deployed");
            return self.look_again(SOON * 4);
        }
        // What the spec asks for may have been found not to work before the job was suspended.
        let last = self.status().revision.clone();
        let last = last.filter(|last| {
            self.is_rejected(wish) && self.inputs.observed.revisions.contains_key(last)
        });
        let revision = last.unwrap_or_else(|| wish.revision.name.clone());
        let start = match self.next_start(&revision) {
            Ok(start) => start,
            Err(why) => return self.begin_no_more(wish, &why),
        };
        self.tell(Notice::normal(
            Reason::Deploying,
            format!("deploys {revision} from {}", start.restore),
        ));
        let applies = Some(wish.restore_hash.clone());
        self.deploy(&revision, start, None, applies);
    }

    /// The state cannot be brought into another storage: what ran last runs again.
    fn begin_no_more(&mut self, wish: &Wish, why: &str) {
        if self.is_rejected(wish) {
            return;
        }
        self.look_again(SOON);
        let upgrade = UpgradeStatus {
            to: Some(wish.revision.name.clone()),
            ..empty_upgrade(wish.spec.upgrade.strategy)
        };
        let message = self.storage_moved(&wish.revision.name, why);
        self.reject(&upgrade, Reason::StorageMoved, message);
    }

    /// The job was stopped, but not by us, and should run.
    fn revive(&mut self) {
        let Some(revision) = self.status().revision.clone() else {
            return;
        };
        self.tell(Notice::warning(
            Reason::Deploying,
            "the job was stopped over its REST interface, but `spec.state` is Running: it is \
             deployed again. To stop it set `spec.state: Suspended`",
        ));
        self.deploy(&revision, Start::latest(), None, None);
    }
}
