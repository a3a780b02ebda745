//! A new deployment: from here on the status names it, and objects are made from the status.

use millstream_crds::status::{DeployedStatus, RevisionStatus, UpgradeStatus, UpgradeStep};
use millstream_crds::stream_job::UpgradeStrategy;

use super::start::Start;
use super::{Machine, SOON};

/// Most revisions that are kept.
const REVISIONS_MAX: usize = 10;

impl Machine<'_> {
    /// Decides a new deployment of a revision. `under_way` is the upgrade that it belongs to,
    /// `restore_hash` the `spec.restore` that it applies.
    pub(super) fn deploy(
        &mut self,
        revision: &str,
        start: Start,
        under_way: Option<UpgradeStatus>,
        restore_hash: Option<String>,
    ) {
        let now = self.now();
        // Greater than all that the status has seen, whatever the clock says. What the chain has seen
        // beyond that, it tells.
        let number = self
            .status()
            .deployment
            .map_or(0, |before| before.saturating_add(1))
            .max(self.millis());
        let parallelism = self.wish().map_or_else(
            || self.status().parallelism,
            |wish| Some(i64::from(wish.spec.parallelism)),
        );
        let asked = self.wish().map(|wish| &wish.spec.restore);
        let allow_dropped_state = asked.is_some_and(|restore| restore.allow_dropped_state);
        let accept_lost_output = asked.and_then(|restore| restore.accept_lost_output);
        let strategy = self.strategy();
        let expect_state = self.expects_state(revision, &start);
        let Start {
            restore,
            unless_advanced,
        } = start;
        self.remember_revision(revision, &now);
        let status = self.status_mut();
        status.upgrade = Some(UpgradeStatus {
            to: Some(revision.to_owned()),
            step: UpgradeStep::Deploying,
            since: now.clone(),
            restore_from: Some(restore.clone()),
            tries: 0,
            ..under_way.unwrap_or_else(|| empty_upgrade(strategy))
        });
        status.deployment = Some(number);
        status.deployed = Some(DeployedStatus {
            restore,
            unless_advanced,
            expect_state,
            allow_dropped_state,
            accept_lost_output,
            at: now,
            claimed: false,
            checkpoints: 0,
        });
        status.revision = Some(revision.to_owned());
        status.rejected = status
            .rejected
            .take()
            .filter(|one| one.revision != revision);
        status.parallelism = parallelism;
        if restore_hash.is_some() {
            status.restore_applied = restore_hash;
        }
        status.completed_at = None;
        status.rescaled_at = None;
        status.restored_from = None;
        self.look_again(SOON);
    }

    /// Puts a revision at the front of the list, which is bounded.
    fn remember_revision(&mut self, name: &str, now: &str) {
        let generation = self.generation();
        let revisions = &mut self.decision.status.revisions;
        let known = revisions.iter().position(|known| known.name == name);
        let entry = known.map_or_else(
            || RevisionStatus {
                name: name.to_owned(),
                generation,
                deployed_at: now.to_owned(),
                restore_point: None,
                last_checkpoint: None,
                good: false,
            },
            |at| revisions.remove(at),
        );
        revisions.insert(0, entry);
        revisions.truncate(REVISIONS_MAX);
    }

    /// How state is carried over.
    pub(super) fn strategy(&self) -> UpgradeStrategy {
        self.wish()
            .map(|wish| wish.spec.upgrade.strategy)
            .unwrap_or_default()
    }
}

/// An upgrade of which nothing is known yet.
pub(super) const fn empty_upgrade(strategy: UpgradeStrategy) -> UpgradeStatus {
    UpgradeStatus {
        from: None,
        to: None,
        strategy,
        step: UpgradeStep::Deploying,
        since: String::new(),
        savepoint: None,
        restore_from: None,
        restore_hash: None,
        approval: None,
        changes: None,
        tries: 0,
    }
}
