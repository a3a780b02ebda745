//! The chain of a job: who owns it, what it was checkpointed as, and what is committed.

mod claimed;
mod collection;
mod import;
mod naming;
mod place;
pub(crate) mod slots;
mod state;
pub(crate) mod survey;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use millstream_types::{Attempt, Deployment, JobId, Timestamp};

pub use claimed::{ClaimedChain, CommitPermit};
pub use collection::Collected;
pub use place::Place;
pub use state::{ChainState, CheckpointEntry, Claim};

use crate::envelope;
use crate::error::{Error, Result};
use crate::inspect::savepoint_folders;
use crate::manifest::{Manifest, Taken};
use crate::nonce::nonce;
use crate::protocol::claim::{Bid, Courtesy, Refusal, Standing, bid, is_in_a_hole, standing};
use crate::protocol::placing::Intent;
use crate::protocol::view::{View, last_wipe};
use crate::protocol::{Mark, Record, Records};
use crate::savepoint::read_folder;
use crate::slot::{ClaimEntry, Entry, Holder, Slot, SlotNumber};
use crate::storage::Storage;
use slots::{Outcome, Slots};
use survey::{Looks, Survey};

/// How often a claim that others overtake is tried.
const MAX_BIDS: u32 = 1_000;

/// A job's chain, not owned.
#[derive(Debug, Clone)]
pub struct Chain {
    slots: Slots,
    job: JobId,
    /// Nonces of the claims that were made, or tried, through this value and its clones.
    own_claims: Arc<Mutex<BTreeSet<String>>>,
}

impl Chain {
    /// The chain of a job below a storage, at `<namespace>/<name>/chain/`.
    pub fn new(storage: Storage, job: JobId) -> Self {
        Self {
            slots: Slots::of_job(storage, job.clone()),
            job,
            own_claims: Arc::default(),
        }
    }

    /// Address of the job's folder.
    pub fn path(&self) -> String {
        self.slots.storage.address(&self.slots.folder)
    }

    /// Reads the chain without owning it: what it says may be old when it is returned.
    ///
    /// # Errors
    /// The store does not answer, or a slot that matters is corrupt.
    pub async fn observe(&self) -> Result<ChainState> {
        let mut survey = Survey::default();
        let mut looks = Looks::default();
        loop {
            let view = self.slots.whole_view(&mut survey).await?;
            if let Some(state) = self.state(&view, &survey, &survey.records).await? {
                return Ok(state);
            }
            looks.again(|| self.vanished(&view)).await?;
        }
    }

    /// Claims the chain: fences every older attempt and begins a new one. Returns what lies
    /// below the claim, which is what the attempt restores from.
    ///
    /// # Errors
    /// [`Error::PathTaken`] while a job of another identity has not released the chain, or while a
    /// deployment has not and the holder is none; [`Error::Fenced`] if a newer claim came at once; [`Error::Superseded`] if the chain has a
    /// newer deployment than the holder's, [`Error::Over`] if the holder's has released it;
    /// [`Error::Corrupt`] if what must be restored cannot be read.
    ///
    /// # Cancel safety
    /// A cancelled claim may have been made. It fences older attempts, nothing else.
    pub async fn claim(
        &self,
        holder: Holder,
        now: Timestamp,
    ) -> Result<(ClaimedChain, ChainState)> {
        self.claim_with(holder, now, Courtesy::Respect).await
    }

    /// As [`claim`](Self::claim), also from a job of another identity or a deployment that has not
    /// released the chain: a person has made sure that it is gone.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), except for [`Error::PathTaken`].
    pub async fn take_over(
        &self,
        holder: Holder,
        now: Timestamp,
    ) -> Result<(ClaimedChain, ChainState)> {
        self.claim_with(holder, now, Courtesy::TakeOver).await
    }

    /// Claims the chain in order to [release](ClaimedChain::release) it as
    /// [deleted](crate::ReleaseReason::Deleted), also after the job has ended. A holder with a
    /// deployment does so only if the chain has no newer one, a holder with an identity only if no
    /// job of another identity holds the chain.
    ///
    /// # Errors
    /// As [`claim`](Self::claim), except for [`Error::Over`].
    pub(crate) async fn claim_to_delete(
        &self,
        holder: Holder,
        now: Timestamp,
    ) -> Result<(ClaimedChain, ChainState)> {
        self.claim_with(holder, now, Courtesy::Delete).await
    }

    /// Looks whether a claim would be made, and makes none: [`claim`](Self::claim), or
    /// [`take_over`](Self::take_over).
    ///
    /// # Errors
    /// As the claim.
    pub async fn may_claim(&self, holder: &Holder, take_over: bool) -> Result<()> {
        let courtesy = if take_over {
            Courtesy::TakeOver
        } else {
            Courtesy::Respect
        };
        let view = self.slots.view(&mut Survey::default()).await?;
        match bid(&view, holder, courtesy) {
            Ok(_) => Ok(()),
            Err(why) => Err(self.refused(holder, &why)),
        }
    }

    async fn claim_with(
        &self,
        holder: Holder,
        now: Timestamp,
        courtesy: Courtesy,
    ) -> Result<(ClaimedChain, ChainState)> {
        let mut survey = Survey::default();
        loop {
            let taken = self.take_slot(&mut survey, &holder, now, courtesy).await?;
            if let Some(claimed) = self.restore(survey.clone(), taken).await? {
                return Ok(claimed);
            }
        }
    }

    /// Reads what lies below a claim that was made; `None` if the claim fences nobody. What was
    /// read before was only for finding its slot. Now nobody older can add anything, so that
    /// this reading is complete.
    async fn restore(
        &self,
        mut survey: Survey,
        taken: Bid,
    ) -> Result<Option<(ClaimedChain, ChainState)>> {
        // In this order: see `is_in_a_hole`.
        let below = Attempt(taken.attempt.0 - 1);
        if is_in_a_hole(taken, self.slots.deletion_mark(below).await?) {
            return Ok(None);
        }
        let mut looks = Looks::default();
        loop {
            self.slots.survey(&mut survey).await?;
            match standing(&survey.records, taken) {
                Standing::Holds => {}
                Standing::InAHole => return Ok(None),
                Standing::Deposed => {
                    let by = survey.records.values().next_back();
                    return Err(self.fenced(taken.attempt, by));
                }
            }
            let unreadable = survey.unreadable_slots();
            match View::below(&survey.records, &unreadable, taken.slot) {
                Err(_) if survey.list_all() => {}
                Err(gap) => looks.again(|| self.slots.gap(&survey, gap)).await?,
                Ok(view) => {
                    let below: Records = survey
                        .records
                        .range(..taken.slot)
                        .map(|(slot, record)| (*slot, record.clone()))
                        .collect();
                    if let Some(state) = self.state(&view, &survey, &below).await? {
                        let newest = state.newest.as_ref();
                        let claimed = ClaimedChain::new(self.clone(), taken, &view, newest, survey);
                        return Ok(Some((claimed, state)));
                    }
                    // Only a newer attempt deletes what this one would restore from.
                    looks.again(|| self.vanished(&view)).await?;
                }
            }
        }
    }

    async fn take_slot(
        &self,
        survey: &mut Survey,
        holder: &Holder,
        now: Timestamp,
        courtesy: Courtesy,
    ) -> Result<Bid> {
        for _ in 0..MAX_BIDS {
            let view = self.slots.view(survey).await?;
            let next = bid(&view, holder, courtesy).map_err(|why| self.refused(holder, &why))?;
            let claim = ClaimEntry {
                nonce: nonce(),
                holder: holder.clone(),
                time: now,
                replaced: view
                    .claim
                    .as_ref()
                    .map(|(_, claim)| claim.replaced_by(holder))
                    .unwrap_or_default(),
                ended: view.ended_before(holder),
                earlier: view
                    .claim
                    .as_ref()
                    .map(|(_, claim)| claim.earlier_for_next(view.attempt))
                    .unwrap_or_default(),
            };
            let intent = Intent::Claim {
                nonce: claim.nonce.clone(),
            };
            self.own_claims().insert(claim.nonce.clone());
            let deployment = holder.deployment.or(view.deployment);
            let lineage = view.lineage_after(&claim.nonce);
            let mut slot = self.slot(&view, next, deployment, Entry::Claim(claim));
            slot.lineage = lineage;
            let sealed = envelope::seal(&slot)?;
            let placed = self
                .slots
                .place(next.slot, next.attempt, &intent, &sealed.bytes)
                .await?;
            if matches!(placed, Outcome::Placed(_)) {
                let bytes = u64::try_from(sealed.bytes.len()).unwrap_or(u64::MAX);
                let record = Record::of(&slot, &sealed.sha256, bytes);
                survey.records.insert(next.slot, record);
                return Ok(next);
            }
        }
        Err(Error::unavailable(
            "claim",
            self.slots.chain_address(),
            format!("others took the next slot {MAX_BIDS} times in a row"),
        ))
    }

    fn own_claims(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.own_claims
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a slot is a claim that was made through this value or one of its clones.
    fn is_own_claim(&self, slot: &Slot) -> bool {
        matches!(&slot.entry, Entry::Claim(claim) if self.own_claims().contains(&claim.nonce))
    }

    /// The manifest of a decided checkpoint of this chain; `None` if its slot has gone.
    ///
    /// # Errors
    /// The store does not answer, or the slot is corrupt or holds no checkpoint.
    pub async fn checkpoint(&self, slot: SlotNumber) -> Result<Option<Manifest>> {
        self.slots.manifest(slot).await
    }

    /// Address of the job's savepoint of a checkpoint, if it has one.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn savepoint_of(&self, taken: &Taken) -> Result<Option<String>> {
        let storage = &self.slots.storage;
        for folder in savepoint_folders(&self.slots).await? {
            match read_folder(storage, &folder).await {
                Ok(Some(manifest)) if manifest.taken() == *taken => {
                    return Ok(Some(storage.address(&folder)));
                }
                Ok(_) => {}
                Err(error @ Error::Unavailable { .. }) => return Err(error),
                Err(error) => tracing::warn!(%error, "savepoint not looked at"),
            }
        }
        Ok(None)
    }

    fn slot(&self, view: &View, bid: Bid, deployment: Option<Deployment>, entry: Entry) -> Slot {
        Slot {
            job: self.job.clone(),
            number: bid.slot,
            attempt: bid.attempt,
            newest: view.newest.as_ref().map(|newest| newest.0),
            next_checkpoint: view.next_checkpoint,
            deployment,
            lineage: view.lineage.clone(),
            entry,
        }
    }

    fn refused(&self, holder: &Holder, refusal: &Refusal) -> Error {
        let deployment = holder.deployment.unwrap_or_default();
        match refusal {
            Refusal::Taken(claim) => self.taken(holder, claim),
            Refusal::Deployed(claim) => self.deployed(claim),
            Refusal::Superseded { newest } => Error::Superseded {
                job: self.job.clone(),
                deployment,
                newest: *newest,
                chain: self.slots.chain_address(),
            },
            Refusal::Over => Error::Over {
                job: self.job.clone(),
                deployment,
                chain: self.slots.chain_address(),
            },
        }
    }

    fn taken(&self, holder: &Holder, claim: &ClaimEntry) -> Error {
        let identity = |holder: &Holder| holder.identity.clone().unwrap_or_default();
        Error::PathTaken {
            path: self.slots.chain_address(),
            reason: format!(
                "it is claimed by another job {} with identity {} ({}), which has not released it; this one has identity {}. Stop the other job, or give one of them another storage path or name; if the other job is gone for good, go on from its state under another storage path with --restore {}",
                self.job,
                identity(&claim.holder),
                claim.holder.name,
                identity(holder),
                self.path(),
            ),
        }
    }

    fn deployed(&self, claim: &ClaimEntry) -> Error {
        Error::PathTaken {
            path: self.slots.chain_address(),
            reason: format!(
                "deployment {} of {} holds it ({}), which an operator runs, and this process was started by hand: suspend the job where it is deployed, or start another one under another name from its state with --restore; only if that deployment is gone for good, take its chain with --take-over",
                claim.holder.deployment.unwrap_or_default(),
                self.job,
                claim.holder.name,
            ),
        }
    }

    fn fenced(&self, attempt: Attempt, by: Option<&Record>) -> Error {
        let by = by.map_or_else(
            || "a newer attempt".to_owned(),
            |record| match &record.mark {
                Mark::Claim(claim) => format!("attempt {} ({})", record.attempt, claim.holder.name),
                _ => format!("attempt {}", record.attempt),
            },
        );
        Error::Fenced {
            job: self.job.clone(),
            attempt,
            by,
            chain: self.slots.chain_address(),
        }
    }

    /// The error that an empty chain is where state is expected.
    pub fn state_missing(&self) -> Error {
        Error::StateMissing {
            job: self.job.clone(),
            chain: self.slots.chain_address(),
        }
    }

    fn vanished(&self, view: &View) -> Error {
        let newest = view.newest.as_ref().map(|newest| newest.0);
        let slot = newest.unwrap_or_default();
        Error::corrupt(self.slots.address(slot), "it is listed, but it is missing")
    }

    /// What a view says to the outside; `None` if its newest checkpoint has gone since.
    async fn state(
        &self,
        view: &View,
        survey: &Survey,
        records: &Records,
    ) -> Result<Option<ChainState>> {
        let newest = match &view.newest {
            None => None,
            Some((slot, ..)) => match self.slots.surveyed_manifest(survey, *slot).await? {
                None => return Ok(None),
                manifest => manifest,
            },
        };
        Ok(Some(ChainState {
            tail: view.tail,
            newest,
            newest_path: view
                .newest
                .as_ref()
                .map(|newest| self.slots.address(newest.0)),
            committed: view.committed,
            claims: claims(records),
            release: view.released.clone(),
            deployment: view.deployment,
            lineage: view.lineage.clone(),
            begun: view.begun,
            swept_through: view.swept_through,
            next_checkpoint: view.next_checkpoint,
            checkpoints: checkpoints(&self.slots, records),
        }))
    }
}

pub(crate) fn claims(records: &Records) -> Vec<Claim> {
    // A wipe takes what attempts before it had written.
    let wiped = last_wipe(records);
    let writes_after = |slot: SlotNumber, attempt: Attempt| {
        let mut later = records.range(slot.next()..).map(|(_, record)| record);
        slot < wiped || later.any(|record| record.attempt == attempt)
    };
    records
        .iter()
        .filter_map(|(slot, record)| {
            let claim = record.claim()?;
            Some(Claim {
                slot: *slot,
                attempt: record.attempt,
                holder: claim.holder.clone(),
                time: claim.time,
                replaced: claim.replaced.clone(),
                ended: claim.ended,
                earlier: claim.earlier.clone(),
                has_written: writes_after(*slot, record.attempt),
            })
        })
        .collect()
}

pub(crate) fn checkpoints(slots: &Slots, records: &Records) -> Vec<CheckpointEntry> {
    let is_committed = |slot: SlotNumber| {
        records.values().any(|record| match &record.mark {
            Mark::Committed(committed) => committed
                .checkpoint
                .is_some_and(|checkpoint| checkpoint.slot >= slot),
            _ => false,
        })
    };
    let is_given_up = |slot: SlotNumber| {
        records.values().any(|record| match &record.mark {
            Mark::Committed(entry) => entry.given_up.is_some_and(|given_up| given_up.slot == slot),
            _ => false,
        })
    };
    records
        .iter()
        .filter_map(|(slot, record)| {
            let checkpoint = record.checkpoint()?;
            let given_up = is_given_up(*slot);
            Some(CheckpointEntry {
                id: checkpoint.id,
                attempt: record.attempt,
                slot: *slot,
                kind: checkpoint.kind,
                decided_at: checkpoint.decided_at,
                size_bytes: checkpoint.bytes.saturating_add(checkpoint.state_bytes),
                state_bytes: checkpoint.state_bytes,
                path: slots.address(*slot),
                committed: !given_up && is_committed(*slot),
                given_up,
            })
        })
        .collect()
}
