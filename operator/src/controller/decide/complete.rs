//! All sources were bounded, and everything is committed.

use millstream_crds::Reason;

use super::Machine;
use crate::events::Notice;

impl Machine<'_> {
    /// The pods go. Another revision runs the job again, from where it ended unless it asks for
    /// something else.
    pub(super) fn complete(&mut self) {
        let now = self.now();
        if let Some(revision) = self.status().revision.clone()
            && let Some(entry) = self.revision_entry(&revision)
        {
            entry.good = true;
        }
        let status = self.status_mut();
        status.deployed = None;
        status.upgrade = None;
        status.rescaled_at = None;
        status.restore_point = None;
        status.rejected = None;
        status.completed_at = Some(now);
        self.tell(Notice::normal(
            Reason::Completed,
            "all sources have ended and everything is committed",
        ));
        self.look_at_rest();
    }
}
