//! Another parallelism of the same revision: the same deployment goes on from its newest
//! checkpoint, and pods that stay keep their process.

use millstream_crds::Reason;

use super::{Machine, SOON, noted};
use crate::controller::validate::Wish;
use crate::events::Notice;

impl Machine<'_> {
    pub(super) fn rescale(&mut self, wish: &Wish) {
        let wanted = Some(i64::from(wish.spec.parallelism));
        let status = self.status();
        let same = status.revision.as_deref() == Some(wish.revision.name.as_str());
        // A parallelism that came with a rejected change is not applied to what runs.
        let since_rejection = status
            .rejected
            .as_ref()
            .is_none_or(|rejected| rejected.generation != self.generation());
        if wanted != status.parallelism && (same || since_rejection) {
            let before = status.parallelism.unwrap_or_default();
            self.tell(Notice::normal(
                Reason::Rescaling,
                format!(
                    "changes the parallelism from {before} to {}",
                    wish.spec.parallelism
                ),
            ));
            let now = self.now();
            let status = self.status_mut();
            status.parallelism = wanted;
            status.rescaled_at = Some(now);
            return self.look_again(SOON);
        }
        let Some(since) = self.status().rescaled_at.clone() else {
            return;
        };
        let arrived = self.runtime().is_some_and(|runtime| {
            Some(i64::from(runtime.parallelism)) == self.status().parallelism
                && noted::completed_while_running(runtime)
        });
        if arrived {
            self.status_mut().rescaled_at = None;
            self.tell(Notice::normal(
                Reason::Deployed,
                format!("runs with a parallelism of {}", wish.spec.parallelism),
            ));
        } else {
            self.look_for(&since, SOON);
        }
    }
}
