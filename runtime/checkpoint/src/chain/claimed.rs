//! A chain that one attempt owns, until a newer one claims it.

use millstream_types::{Attempt, CheckpointId, Deployment, Lineage};

use bytes::Bytes;

use crate::chain::slots::Outcome;
use crate::chain::survey::Survey;
use crate::chain::{Chain, Collected};
use crate::envelope;
use crate::error::{Error, Result};
use crate::manifest::{Encoded, MANIFEST_VERSION, Manifest, Origin};
use crate::protocol::Record;
use crate::protocol::claim::Bid;
use crate::protocol::files::Files;
use crate::protocol::placing::Intent;
use crate::protocol::view::View;
use crate::release::{Release, ReleaseReason};
use crate::savepoint::{self, PendingSavepoints, Saved};
use crate::slot::{CommittedEntry, DecidedCheckpoint, Entry, Slot, SlotNumber};
use crate::stored::store;

/// Most starts that a chain remembers, the newest.
const ORIGINS_MAX: usize = 64;

/// Leave to commit what one decided checkpoint lists. Only a decided checkpoint gives it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what the checkpoint lists must be committed and confirmed"]
pub struct CommitPermit {
    decided: DecidedCheckpoint,
}

impl CommitPermit {
    /// The decided checkpoint.
    pub const fn decided(&self) -> DecidedCheckpoint {
        self.decided
    }
}

/// What lies behind the slots of an attempt.
enum Ahead {
    /// Nothing of anybody else; the newest claim that was made for the next attempt, if one was.
    Own(Option<(SlotNumber, Attempt)>),
    /// Somebody else's.
    Theirs,
}

/// A slot on its way to the store.
#[derive(Debug, Clone)]
struct Write {
    intent: Intent,
    bytes: Bytes,
    record: Record,
}

/// A chain that this attempt has claimed. Every write says whether the claim still holds.
///
/// # Cancel safety
/// A cancelled write may have happened. The next one finds out.
#[derive(Debug)]
pub struct ClaimedChain {
    pub(super) chain: Chain,
    pub(super) attempt: Attempt,
    /// The newest deployment of the job.
    deployment: Option<Deployment>,
    lineage: Option<Lineage>,
    /// Where the claim lies.
    pub(super) claim: SlotNumber,
    /// What is known of the chain: all slots that still matter, and all that this attempt wrote.
    pub(super) survey: Survey,
    /// The next slot to write.
    next: SlotNumber,
    /// What is being written there, until it is known whether it was.
    unsettled: Option<Write>,
    newest: Option<DecidedCheckpoint>,
    newest_sha256: Option<String>,
    newest_is_committed: bool,
    /// What the chain was ever started from, oldest first.
    origins: Vec<Origin>,
    /// Number of key groups of the newest checkpoint, if it has said it.
    pub(super) max_parallelism: Option<u32>,
    swept_through: Attempt,
    next_checkpoint: CheckpointId,
    pub(super) released: Option<ReleaseReason>,
    /// Savepoints that are not complete.
    pub(super) pending_savepoints: PendingSavepoints,
    /// Files that slots have named which are gone, to be deleted unless something else needs them.
    pub(super) going: Files,
    /// Whether files may be there of checkpoints of this attempt that were not decided.
    pub(super) has_undecided: bool,
    /// Whether what older attempts left unfinished has been removed.
    pub(super) swept_leftovers: bool,
    /// Below which slots this attempt has said that it deletes, as far as these marks are there.
    pub(super) marks: Vec<SlotNumber>,
    /// Where listings are said to begin, as far as this attempt has said it.
    pub(super) remembered_start: Option<SlotNumber>,
}

impl ClaimedChain {
    pub(super) fn new(
        chain: Chain,
        taken: Bid,
        view: &View,
        newest_manifest: Option<&Manifest>,
        mut survey: Survey,
    ) -> Self {
        survey.newest = None;
        let newest = view.newest.as_ref();
        let own = survey.records.get(&taken.slot);
        Self {
            chain,
            attempt: taken.attempt,
            deployment: own.and_then(|claim| claim.deployment),
            lineage: own.and_then(|claim| claim.lineage.clone()),
            claim: taken.slot,
            survey,
            next: taken.slot.next(),
            unsettled: None,
            newest: newest.map(|(slot, mark, attempt)| DecidedCheckpoint {
                id: mark.id,
                attempt: *attempt,
                slot: *slot,
            }),
            newest_sha256: newest.map(|(_, mark, _)| mark.sha256.clone()),
            newest_is_committed: view.newest_is_committed(),
            origins: newest_manifest
                .map(|manifest| manifest.origins.clone())
                .unwrap_or_default(),
            max_parallelism: newest_manifest.and_then(|manifest| manifest.max_parallelism),
            swept_through: view.swept_through,
            next_checkpoint: view.next_checkpoint,
            released: None,
            pending_savepoints: PendingSavepoints::default(),
            going: Files::new(),
            has_undecided: false,
            swept_leftovers: false,
            marks: Vec::new(),
            remembered_start: None,
        }
    }

    /// The name that the chain's first claim has given it: no other chain has it. `None` for a
    /// chain that an older build has begun.
    pub const fn lineage(&self) -> Option<&Lineage> {
        self.lineage.as_ref()
    }

    /// The attempt that the claim began.
    pub const fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// Leave to commit what the newest checkpoint below the claim lists, if nobody has confirmed
    /// that it is committed. For a recovery.
    pub fn recovery_permit(&self) -> Option<CommitPermit> {
        let decided = self.newest.filter(|_| !self.newest_is_committed)?;
        Some(CommitPermit { decided })
    }

    /// Decides a checkpoint: writes its manifest into the next slot. Fills in
    /// [`previous`](Manifest::previous) and raises [`swept_through`](Manifest::swept_through).
    ///
    /// It may name files that the newest checkpoint names, and files that this attempt has written
    /// for checkpoints after it, complete and durable.
    ///
    /// # Errors
    /// [`Error::MaxParallelism`]: it has another number of key groups than the checkpoint before.
    /// [`Error::StateMissing`]: the directory of the chain is gone.
    /// [`Error::Fenced`]: a newer attempt owns the chain; stop. [`Error::Unavailable`]: it could
    /// not be found out whether the checkpoint is decided. Delete and abort nothing that it
    /// lists; fail the attempt, or go on and decide a later one that lists it all again: the
    /// chain settles the earlier one first.
    pub async fn decide(&mut self, mut manifest: Manifest) -> Result<CommitPermit> {
        self.settle().await?;
        if let Some(decided) = self.newest.filter(|newest| newest.is(&manifest)) {
            return Ok(CommitPermit { decided });
        }
        self.check(&manifest)?;
        self.check_files(&manifest)?;
        // A directory that is away (a volume that is not mounted) is made anew by a write, and the
        // checkpoint would stand there alone.
        if self.chain.slots.storage.is_directory() {
            self.ensure_there().await?;
        }
        let id = manifest.checkpoint;
        manifest.version = MANIFEST_VERSION;
        manifest.max_parallelism = self.key_groups(&manifest)?;
        manifest.previous.clone_from(&self.newest_sha256);
        self.origins = history(&self.origins, &manifest.origins);
        manifest.origins.clone_from(&self.origins);
        manifest.swept_through = manifest.swept_through.max(self.swept_through);
        let slots = &self.chain.slots;
        let (attempt, number) = (self.attempt.to_string(), id.to_string());
        let path = ["data", &attempt, &number, "manifest.json"];
        let max_parallelism = manifest.max_parallelism;
        let manifest = Encoded::new(manifest)?;
        let stored = store(&slots.storage, &slots.folder, &path, manifest).await?;
        fail::fail_point!("checkpoint::before-decision", |_| std::process::abort());
        let slot = self
            .place(Intent::Checkpoint { id }, Entry::Checkpoint(stored))
            .await?;
        fail::fail_point!("checkpoint::after-decision", |_| std::process::abort());
        self.max_parallelism = max_parallelism;
        Ok(CommitPermit {
            decided: DecidedCheckpoint {
                id,
                attempt: self.attempt,
                slot,
            },
        })
    }

    fn check(&self, manifest: &Manifest) -> Result<()> {
        let broken = |rule: String| Err(Error::Rule(rule));
        if manifest.job != self.chain.job || manifest.attempt != self.attempt {
            return broken(format!(
                "attempt {} of {} decides a checkpoint of attempt {} of {}",
                self.attempt, self.chain.job, manifest.attempt, manifest.job
            ));
        }
        if !manifest.kind.commits() {
            return broken(format!(
                "savepoint {} is no checkpoint: it commits nothing and does not belong into the chain",
                manifest.checkpoint
            ));
        }
        if manifest.checkpoint < self.next_checkpoint {
            return broken(format!(
                "checkpoint {} comes after {} was decided",
                manifest.checkpoint, self.next_checkpoint
            ));
        }
        Ok(())
    }

    /// Confirms that everything a decided checkpoint lists is committed, so that a recovery need
    /// not commit it again.
    ///
    /// # Errors
    /// As [`decide`](Self::decide). The commits stand in any case.
    pub async fn committed(&mut self, permit: CommitPermit) -> Result<()> {
        self.confirm(Some(permit.decided)).await
    }

    /// Confirms what a recovery has done: committed what the newest checkpoint lists (with its
    /// [`recovery_permit`](Self::recovery_permit), if there was one) and aborted whatever else
    /// attempts up to `swept_through` had left. Must come before any task of this attempt runs.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub async fn restate_commit(
        &mut self,
        permit: Option<CommitPermit>,
        swept_through: Attempt,
    ) -> Result<()> {
        if swept_through >= self.attempt {
            return Err(Error::Rule(format!(
                "attempt {} says that it has swept attempt {swept_through}",
                self.attempt
            )));
        }
        self.swept_through = self.swept_through.max(swept_through);
        self.confirm(permit.map(|permit| permit.decided)).await
    }

    /// Says that nothing which the newest checkpoint lists was ever visible, or ever will be,
    /// because all of it was aborted, and that this attempt goes back to the checkpoint before it.
    /// For a recovery, in the place of [`restate_commit`](Self::restate_commit). The attempt must
    /// [`decide`](Self::decide) where it begins before any task of it runs.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub async fn give_up(&mut self, permit: CommitPermit, swept_through: Attempt) -> Result<()> {
        self.swept_through = self.swept_through.max(swept_through);
        let entry = CommittedEntry {
            checkpoint: None,
            given_up: Some(permit.decided),
            swept_through: self.swept_through,
        };
        self.place(Intent::Committed(entry), Entry::Committed(entry))
            .await?;
        Ok(())
    }

    async fn confirm(&mut self, checkpoint: Option<DecidedCheckpoint>) -> Result<()> {
        let entry = CommittedEntry {
            checkpoint,
            given_up: None,
            swept_through: self.swept_through,
        };
        self.place(Intent::Committed(entry), Entry::Committed(entry))
            .await?;
        if checkpoint.is_some() && checkpoint == self.newest {
            self.newest_is_committed = true;
        }
        Ok(())
    }

    /// The newest decided checkpoint.
    pub(super) const fn newest(&self) -> Option<DecidedCheckpoint> {
        self.newest
    }

    /// Number that the next checkpoint has at least.
    pub const fn next_checkpoint(&self) -> CheckpointId {
        self.next_checkpoint
    }

    /// Whether a write of this attempt has stayed unknown. The next write finishes it first, so
    /// that a checkpoint that it decides is decided then.
    pub const fn is_unsettled(&self) -> bool {
        self.unsettled.is_some()
    }

    /// Whether everything that the newest checkpoint lists is known to be committed.
    pub const fn newest_is_committed(&self) -> bool {
        self.newest.is_none() || self.newest_is_committed
    }

    /// The chain, to claim it again: claims that are made through it do not count as somebody
    /// else's.
    pub fn chain(&self) -> Chain {
        self.chain.clone()
    }

    /// Whether no newer attempt of another coordinator has claimed the chain.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn holds(&self) -> Result<bool> {
        Ok(matches!(self.look_ahead().await?, Ahead::Own(_)))
    }

    /// What lies behind the last slot that this attempt knows as its own.
    async fn look_ahead(&self) -> Result<Ahead> {
        let last = SlotNumber(self.next.0 - 1);
        let slots = &self.chain.slots;
        let mut claims = Vec::new();
        for number in slots.list_after(last).await? {
            match slots.read(number).await? {
                // A write that had stayed unknown.
                Some((slot, _)) if slot.attempt == self.attempt => {}
                // A claim that was made, and whose maker could not read what lies below it.
                Some((slot, _)) if self.chain.is_own_claim(&slot) => {
                    claims.push((number, slot.attempt));
                }
                _ => return Ok(Ahead::Theirs),
            }
        }
        Ok(Ahead::Own(claims.last().copied()))
    }

    /// Checks that the claim is still where it was written: claims are never deleted, so that
    /// without it the chain is not the one that was claimed.
    ///
    /// # Errors
    /// [`Error::StateMissing`]: it is gone. The store does not answer.
    pub async fn ensure_there(&self) -> Result<()> {
        if self.chain.slots.read(self.claim).await?.is_some() {
            return Ok(());
        }
        Err(self.chain.state_missing())
    }

    /// Ends the attempt by itself: a job of another identity may claim the chain from now on.
    /// After [`ReleaseReason::Deleted`] the checkpoints count as gone, and
    /// [`collect_garbage`](Self::collect_garbage) deletes them.
    ///
    /// # Errors
    /// As [`decide`](Self::decide).
    pub async fn release(&mut self, release: impl Into<Release>) -> Result<()> {
        let release = release.into();
        let reason = release.reason;
        self.settle().await?;
        if let Ahead::Own(Some((slot, attempt))) = self.look_ahead().await? {
            // Nothing was done under that claim, so that all there is to say of it is its end.
            self.attempt = attempt;
            self.next = slot.next();
        }
        self.place(Intent::Released, Entry::Released(release))
            .await?;
        self.released = Some(reason);
        Ok(())
    }

    /// Writes a savepoint with copies of all files that it names. The same savepoint again is fine. It
    /// must have been [pending](Self::set_pending_savepoints) from its trigger on, or files that it
    /// names may be missing.
    ///
    /// # Errors
    /// [`Error::SavepointExists`]: another one has the name. [`Error::Fenced`]: a newer attempt
    /// owns the chain; a savepoint that was written nevertheless must not be used.
    pub async fn savepoint(&mut self, name: &str, mut manifest: Manifest) -> Result<Saved> {
        self.ensure_held().await?;
        manifest.version = MANIFEST_VERSION;
        manifest.max_parallelism = self.key_groups(&manifest)?;
        manifest.origins = history(&self.origins, &manifest.origins);
        let saved = savepoint::write(&self.chain.slots, name, manifest).await?;
        self.ensure_held().await?;
        Ok(saved)
    }

    pub(super) async fn ensure_held(&self) -> Result<()> {
        if self.holds().await? {
            Ok(())
        } else {
            Err(self.chain.fenced(self.attempt, None))
        }
    }

    /// Deletes checkpoints but the `retained` newest (at least one), what confirms them and the
    /// objects that only they name; the first time also what older attempts left unfinished.
    /// Savepoints stay.
    ///
    /// # Errors
    /// The store does not answer, or the chain is claimed by a newer attempt. Nothing that is
    /// needed has been deleted; the next call goes on.
    pub async fn collect_garbage(&mut self, retained: u32) -> Result<Collected> {
        super::collection::collect(self, retained).await
    }

    /// Writes the next slot, after whatever is still unsettled.
    async fn place(&mut self, intent: Intent, entry: Entry) -> Result<SlotNumber> {
        if let Some(reason) = self.released {
            return Err(Error::Rule(format!(
                "attempt {} writes although it has released the chain ({reason:?})",
                self.attempt
            )));
        }
        self.settle().await?;
        let number = self.next;
        let slot = Slot {
            job: self.chain.job.clone(),
            number,
            attempt: self.attempt,
            newest: self.newest.map(|newest| newest.slot),
            next_checkpoint: self.next_checkpoint,
            deployment: self.deployment,
            lineage: self.lineage.clone(),
            entry,
        };
        let sealed = envelope::seal(&slot)?;
        let bytes = u64::try_from(sealed.bytes.len()).unwrap_or(u64::MAX);
        self.unsettled = Some(Write {
            intent,
            record: Record::of(&slot, &sealed.sha256, bytes),
            bytes: sealed.bytes,
        });
        self.settle().await?;
        Ok(number)
    }

    /// Finishes a write, now or after an earlier try had been cancelled or given up. Until it is
    /// known to be there, nothing else may be written.
    async fn settle(&mut self) -> Result<()> {
        let Some(write) = self.unsettled.clone() else {
            return Ok(());
        };
        let number = self.next;
        let slots = &self.chain.slots;
        let outcome = slots
            .place(number, self.attempt, &write.intent, &write.bytes)
            .await?;
        match outcome {
            Outcome::Placed(found) => {
                self.unsettled = None;
                self.note(number, found.unwrap_or(write.record));
                Ok(())
            }
            Outcome::Overtaken(by) => Err(self.chain.fenced(self.attempt, by.as_ref())),
        }
    }

    /// Takes note of a slot that this attempt has written.
    fn note(&mut self, number: SlotNumber, record: Record) {
        if let Some(checkpoint) = record.checkpoint() {
            self.newest = Some(DecidedCheckpoint {
                id: checkpoint.id,
                attempt: self.attempt,
                slot: number,
            });
            self.newest_sha256 = Some(checkpoint.sha256.clone());
            self.newest_is_committed = false;
            self.has_undecided |= checkpoint.id > self.next_checkpoint;
            self.next_checkpoint = checkpoint.id.next();
        }
        self.survey.records.insert(number, record);
        self.next = number.next();
    }
}

/// What a chain was started from, with what has come.
fn history(known: &[Origin], new: &[Origin]) -> Vec<Origin> {
    let mut all = known.to_vec();
    for origin in new {
        if !all.contains(origin) {
            all.push(origin.clone());
        }
    }
    all.drain(..all.len().saturating_sub(ORIGINS_MAX));
    all
}
