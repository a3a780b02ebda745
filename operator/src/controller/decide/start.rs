//! What a deployment starts from.
//!
//! Only the chain knows how far a job has got: what was seen of it may be old. So the operator
//! passes what it believes to be the newest state as a belief, and the coordinator judges it when
//! it has claimed the chain: a savepoint is left aside if the chain has gone on since. What a
//! person asks for is no belief.
//!
//! The chain lies in the job's storage. Another `checkpoint.storage` is another chain, which knows
//! nothing of the job: state is carried over only from a chain that has come to its end, and by the
//! address of that chain, so that what it has come to since counts as well.

use millstream_crds::status::{DeployedStatus, UpgradeStatus};
use millstream_crds::stream_job::{RestorePolicy, UpgradeStrategy};

use super::Machine;
use crate::controller::observe::Runtime;
use crate::controller::validate::Wish;
use crate::runtime_client::{RuntimeState, RuntimeStatus};

/// The newest checkpoint of the chain.
const LATEST: &str = "latest";
/// Nothing.
const FRESH: &str = "fresh";

/// What a deployment starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Start {
    /// `latest`, `fresh` or a path.
    pub(super) restore: String,
    /// Whether it is left aside if the chain has gone on since.
    pub(super) unless_advanced: bool,
}

impl Start {
    /// The newest checkpoint.
    pub(super) fn latest() -> Self {
        Self::asked(LATEST)
    }

    /// Nothing.
    fn fresh() -> Self {
        Self::asked(FRESH)
    }

    /// What a person has asked for.
    fn asked(restore: impl Into<String>) -> Self {
        Self {
            restore: restore.into(),
            unless_advanced: false,
        }
    }

    /// What we believe to be the newest state.
    pub(super) fn believed(path: impl Into<String>) -> Self {
        Self {
            restore: path.into(),
            unless_advanced: true,
        }
    }

    /// What still waits, because the deployment has never come to life.
    pub(super) fn of(deployed: &DeployedStatus) -> Self {
        Self {
            restore: deployed.restore.clone(),
            unless_advanced: deployed.unless_advanced,
        }
    }

    pub(super) fn path(&self) -> Option<&str> {
        is_path(&self.restore).then_some(self.restore.as_str())
    }
}

impl Machine<'_> {
    /// What the deployment of `to` by an upgrade starts from: what `spec.restore` names if the
    /// upgrade is about that, the savepoint that the old revision was stopped with, or what there
    /// is.
    ///
    /// # Errors
    /// Why the state cannot be carried over to another storage.
    pub(super) fn start_of(
        &self,
        upgrade: &UpgradeStatus,
        to: &str,
        savepoint: Option<&String>,
    ) -> Result<Start, String> {
        if let Some(restore) = &upgrade.restore_from {
            return Ok(Start::asked(restore.clone()));
        }
        if upgrade.strategy == UpgradeStrategy::Stateless && self.changes_to(to) {
            return Ok(Start::fresh());
        }
        match savepoint.filter(|_| self.moves_from(to).is_none()) {
            Some(path) => Ok(Start::believed(path.clone())),
            None => self.newest(to),
        }
    }

    /// What the next deployment starts from, if no savepoint was taken for it. Without state only
    /// if somebody has asked for that.
    ///
    /// # Errors
    /// Why the state cannot be carried over to another storage.
    pub(super) fn next_start(&self, to: &str) -> Result<Start, String> {
        if let Some(wish) = self.wish().filter(|wish| self.restore_asked(wish))
            && let Ok(restore) = &wish.restore
        {
            return Ok(Start::asked(restore.clone()));
        }
        if self.strategy() == UpgradeStrategy::Stateless && self.changes_to(to) {
            return Ok(Start::fresh());
        }
        self.newest(to)
    }

    /// The newest state that there is.
    fn newest(&self, to: &str) -> Result<Start, String> {
        let status = self.status();
        if let Some(deployed) = status.deployed.as_ref().filter(|one| !one.claimed) {
            return self.waiting(deployed, to);
        }
        if let Some(old) = self.moves_from(to) {
            return self.carried_over(&old);
        }
        Ok(match (&status.deployed, &status.restore_point) {
            // Suspended.
            (None, Some(point)) => Start::believed(point.clone()),
            _ => Start::latest(),
        })
    }

    /// What a deployment that has never come to life should have been restored from still waits:
    /// in the same storage for the chain to judge it, in another one only if nothing of it ran.
    fn waiting(&self, deployed: &DeployedStatus, to: &str) -> Result<Start, String> {
        let fresh = deployed.restore == FRESH;
        let asked = |wish: &Wish| wish.spec.restore.policy == RestorePolicy::Fresh;
        let meant = self.status().revision.as_deref().unwrap_or(to);
        if !self.share_storage(meant, to) {
            let nothing = match &self.inputs.observed.runtime {
                // Otherwise pods may have run while nobody looked.
                Runtime::NoPod => {
                    let problem = self.inputs.observed.coordinator.problem.as_ref();
                    problem.is_some_and(|problem| problem.kind.is_before_start())
                }
                Runtime::Silent(_) | Runtime::Outdated(_) => false,
                Runtime::Answers(runtime) => self.status().storage.is_none() && never_ran(runtime),
            };
            if !nothing {
                return Err(format!(
                    "{meant} was to go on from {} there, and may have done so",
                    deployed.restore
                ));
            }
            let asked = fresh && self.wish().is_some_and(asked);
            if self.status().storage.is_some() && !is_path(&deployed.restore) && !asked {
                return Err("the job could not be stopped".to_owned());
            }
        }
        let own = self.storage_of(to).map(|storage| self.folder_in(storage));
        if fresh && !self.wish().is_some_and(asked) {
            // It was to start empty, and this one is not: the state is where it was.
            let folder = self.moves_from(to).map(|old| self.folder_in(&old));
            return Ok(folder.map_or_else(Start::latest, Start::believed));
        }
        if own.as_ref() == Some(&deployed.restore) {
            return Ok(Start::latest());
        }
        Ok(Start::of(deployed))
    }

    /// State of a chain in another storage. It must have come to its end: the two chains know
    /// nothing of each other, so nobody could tell which of them has gone further.
    fn carried_over(&self, old: &str) -> Result<Start, String> {
        let status = self.status();
        let folder = || Ok(Start::believed(self.folder_in(old)));
        let ended = |runtime: &RuntimeStatus| runtime.state.is_terminal();
        match (&status.deployed, &status.restore_point) {
            (Some(_), _) if self.runtime().is_some_and(ended) => folder(),
            (Some(_), _) => Err("the job could not be stopped".to_owned()),
            // Its own savepoint; otherwise what it should have been restored from waits still.
            (None, Some(point)) if point.starts_with(&self.folder_in(old)) => folder(),
            (None, Some(point)) => Ok(Start::believed(point.clone())),
            (None, None) if status.completed_at.is_some() => folder(),
            (None, None) => Err("the job was suspended without a savepoint".to_owned()),
        }
    }

    fn changes_to(&self, to: &str) -> bool {
        let revision = self.status().revision.as_deref();
        revision.is_some_and(|revision| revision != to)
    }

    /// The storage that holds the job's state, or may hold it by now, if a revision has another one.
    pub(super) fn moves_from(&self, revision: &str) -> Option<String> {
        let status = self.status();
        let begun = || self.storage_of(status.revision.as_ref()?);
        let old = status.storage.as_deref().or_else(begun)?;
        let new = self.storage_of(revision)?;
        (place(old) != place(new)).then(|| old.to_owned())
    }

    /// Whether the job has to be stopped before `to` can have its state, because it lies in another
    /// storage, where what is deployed goes on; also if that has not been seen to have come up.
    pub(super) fn must_stop(&self, to: &str) -> bool {
        let current = self.status().revision.as_deref();
        let current = current.filter(|_| self.status().deployed.is_some());
        let current = current.and_then(|revision| self.storage_of(revision));
        self.moves_from(to)
            .is_some_and(|old| current.map(place) == Some(place(&old)))
    }

    /// Whether two revisions have the same storage, as far as that is known.
    pub(super) fn share_storage(&self, one: &str, other: &str) -> bool {
        let both = self.storage_of(one).zip(self.storage_of(other));
        both.is_none_or(|(one, other)| place(one) == place(other))
    }

    /// Whether a deployment of a revision must find state in its chain.
    pub(super) fn expects_state(&self, revision: &str, start: &Start) -> bool {
        let goes_on = start.unless_advanced || start.restore == LATEST;
        let held = self.status().storage.as_deref();
        goes_on && held.is_some() && held.map(place) == self.storage_of(revision).map(place)
    }

    /// The checkpoint storage of a revision.
    pub(super) fn storage_of(&self, revision: &str) -> Option<&str> {
        let inputs = self.inputs;
        let wished = inputs.wish.ok();
        let wished = wished.filter(|wish| wish.revision.name == revision);
        let kept = inputs.observed.revisions.get(revision);
        wished
            .map(|wish| wish.spec.checkpoint.storage.as_str())
            .or_else(|| kept.map(String::as_str))
    }

    /// The job's folder in a storage, which stands for the newest checkpoint of its chain.
    fn folder_in(&self, storage: &str) -> String {
        let meta = self.inputs.meta;
        format!(
            "{}/{}/{}",
            place(storage),
            meta.namespace.as_deref().unwrap_or("default"),
            meta.name.as_deref().unwrap_or_default()
        )
    }

    /// What a check of a new revision has to be able to read, while the old one runs.
    pub(super) fn restore_to_check(&self, upgrade: &UpgradeStatus) -> String {
        if let Some(restore) = &upgrade.restore_from {
            return restore.clone();
        }
        let to = upgrade.to.as_deref().unwrap_or_default();
        if upgrade.strategy == UpgradeStrategy::Stateless {
            return FRESH.to_owned();
        }
        match (self.moves_from(to), self.claimed()) {
            (Some(old), true) => self.folder_in(&old),
            _ => self
                .next_start(to)
                .map_or_else(|_| LATEST.to_owned(), |start| start.restore),
        }
    }
}

/// Whether the coordinator has given up before it did anything.
fn never_ran(runtime: &RuntimeStatus) -> bool {
    runtime.state == RuntimeState::Failed
        && runtime.last_checkpoint.is_none()
        && runtime.restored_from.is_none()
}

/// A storage as it is compared with another one.
fn place(storage: &str) -> &str {
    storage.trim_end_matches('/')
}

pub(super) fn is_path(restore: &str) -> bool {
    restore != LATEST && restore != FRESH
}
