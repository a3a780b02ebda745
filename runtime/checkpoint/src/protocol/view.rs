//! What the slots of a chain say together.

use millstream_types::{Attempt, CheckpointId, Deployment, Lineage};

use crate::protocol::claim::{Admission, admit};
use crate::protocol::{CheckpointMark, Mark, Record, Records};
use crate::release::{Release, ReleaseReason};
use crate::slot::{ClaimEntry, DecidedCheckpoint, Holder, SlotNumber};

/// Digits of a nonce that name a chain.
const LINEAGE_DIGITS: usize = 8;

/// What a chain says, as seen in one reading.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct View {
    /// The last slot; 0 if there is none.
    pub(crate) tail: SlotNumber,
    /// The newest attempt; 0 if there is none.
    pub(crate) attempt: Attempt,
    /// Its claim.
    pub(crate) claim: Option<(SlotNumber, ClaimEntry)>,
    /// Why it has ended, if it has said so.
    pub(crate) released: Option<Release>,
    /// What to restore from.
    pub(crate) newest: Option<(SlotNumber, CheckpointMark, Attempt)>,
    /// The newest deployment of the job.
    pub(crate) deployment: Option<Deployment>,
    /// The chain, if its first slot has named it.
    pub(crate) lineage: Option<Lineage>,
    /// The deployment under which the newest checkpoint was decided.
    pub(crate) begun: Option<Deployment>,
    /// The newest checkpoint that is confirmed to be committed.
    pub(crate) committed: Option<DecidedCheckpoint>,
    /// Transactions of attempts up to this one are all resolved.
    pub(crate) swept_through: Attempt,
    /// No checkpoint has this number or a larger one.
    pub(crate) next_checkpoint: CheckpointId,
}

/// Why slots do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Gap {
    /// The slot that is missing or cannot be read, where its number is known.
    pub(crate) slot: Option<SlotNumber>,
    /// Who says that it must be there.
    pub(crate) reason: String,
}

impl View {
    /// Reads the slots of a chain together. `unreadable` are slots that are there but cannot be
    /// understood.
    ///
    /// # Errors
    /// A slot that matters is missing or unreadable. In a reading that ran beside writes and
    /// deletions that may mean no more than that it must be repeated.
    pub(crate) fn of(records: &Records, unreadable: &[SlotNumber]) -> Result<Self, Gap> {
        let wiped = last_wipe(records);
        let alive = || records.range(wiped.next()..);
        let newest = alive().rev().find_map(|(slot, record)| {
            let checkpoint = record.checkpoint()?;
            Some((*slot, checkpoint.clone(), record.attempt))
        });
        let claim = records
            .iter()
            .rev()
            .find_map(|(slot, record)| Some((*slot, record.attempt, record.claim()?.clone())));
        let view = Self {
            tail: records.keys().next_back().copied().unwrap_or_default(),
            attempt: claim.as_ref().map(|claim| claim.1).unwrap_or_default(),
            released: claim.as_ref().and_then(|claim| release(records, claim.0)),
            claim: claim.map(|(slot, _, claim)| (slot, claim)),
            deployment: records
                .values()
                .filter_map(|record| record.deployment)
                .max(),
            lineage: records
                .values()
                .rev()
                .find_map(|record| record.lineage.clone()),
            begun: newest
                .as_ref()
                .and_then(|newest| records.get(&newest.0)?.deployment),
            committed: alive().rev().find_map(|(_, record)| confirmed(record)),
            swept_through: records.values().map(swept).max().unwrap_or_default(),
            next_checkpoint: next_checkpoint(records),
            newest,
        };
        view.check(records, unreadable, wiped)?;
        Ok(view)
    }

    /// What lies below a claim, read after it was made: what its attempt restores from.
    ///
    /// # Errors
    /// As [`of`](Self::of); also if the checkpoint is missing that the claim itself names as the
    /// newest before it, which happens when a newer attempt has already deleted it.
    pub(crate) fn below(
        records: &Records,
        unreadable: &[SlotNumber],
        claim: SlotNumber,
    ) -> Result<Self, Gap> {
        let below: Records = records
            .range(..claim)
            .map(|(slot, record)| (*slot, record.clone()))
            .collect();
        let unreadable: Vec<SlotNumber> = unreadable
            .iter()
            .filter(|slot| **slot < claim)
            .copied()
            .collect();
        let view = Self::of(&below, &unreadable)?;
        let own = records.get(&claim).ok_or_else(|| Gap {
            slot: Some(claim),
            reason: "the claim that was just made is missing".to_owned(),
        })?;
        let found = view.newest.as_ref().map(|newest| newest.0);
        match own.newest.filter(|named| Some(*named) > found) {
            None => Ok(view),
            Some(named) => Err(missing_checkpoint(named, claim)),
        }
    }

    /// What a process may do with the chain that was started for this deployment.
    pub(crate) fn admits(&self, deployment: Option<Deployment>) -> Admission {
        admit(deployment, self.deployment, self.begun, self.ended())
    }

    /// The deployment whose own attempt was the newest and has ended by itself, if it has.
    fn ended(&self) -> Option<Deployment> {
        let claim = &self.claim.as_ref()?.1;
        let own = claim.holder.deployment.filter(|_| self.released.is_some());
        own.or(claim.ended)
    }

    /// What a claim says of that: the claim of a deployment says it by itself.
    pub(crate) fn ended_before(&self, holder: &Holder) -> Option<Deployment> {
        self.ended().filter(|_| holder.deployment.is_none())
    }

    /// The name of the chain from a claim with this nonce on: what its first claim gives it. A chain
    /// that an older build has begun has none, also later: what its attempts have opened goes by
    /// names without it.
    pub(crate) fn lineage_after(&self, nonce: &str) -> Option<Lineage> {
        if self.tail == SlotNumber::default() {
            return nonce.get(..LINEAGE_DIGITS).map(Lineage::from);
        }
        self.lineage.clone()
    }

    /// Whether everything that the newest checkpoint lists is confirmed to be committed.
    pub(crate) fn newest_is_committed(&self) -> bool {
        match (&self.newest, &self.committed) {
            (Some((slot, ..)), Some(committed)) => committed.slot >= *slot,
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    fn check(
        &self,
        records: &Records,
        unreadable: &[SlotNumber],
        wiped: SlotNumber,
    ) -> Result<(), Gap> {
        let found = self.newest.as_ref().map(|newest| newest.0);
        if let Some(slot) = unreadable.iter().find(|slot| Some(**slot) > found) {
            return Err(Gap {
                slot: Some(*slot),
                reason: "it may be a newer checkpoint than all others".to_owned(),
            });
        }
        let named = records
            .range(wiped.next()..)
            .filter_map(|(by, record)| Some((record.newest?, *by)))
            .max();
        if let Some((slot, by)) = named.filter(|(slot, _)| Some(*slot) > found) {
            return Err(missing_checkpoint(slot, by));
        }
        // Every attempt that may have left transactions must be known with its parallelism.
        let writer = records.values().next_back().map(|record| record.attempt);
        let attempts =
            self.swept_through.0.saturating_add(1)..=self.attempt.max(writer.unwrap_or_default()).0;
        let missing = attempts
            .map(Attempt)
            .chain(writer)
            .find(|attempt| !is_claimed(records, *attempt));
        match missing {
            None => Ok(()),
            Some(attempt) => Err(Gap {
                slot: unreadable.first().copied(),
                reason: format!("the claim of attempt {attempt} is missing"),
            }),
        }
    }
}

fn missing_checkpoint(slot: SlotNumber, by: SlotNumber) -> Gap {
    Gap {
        slot: Some(slot),
        reason: format!("slot {by} names it as the newest checkpoint, but it is missing"),
    }
}

/// The release after which the chain counts as new; 0 if there is none.
pub(crate) fn last_wipe(records: &Records) -> SlotNumber {
    let wipe = |record: &Record| matches!(&record.mark, Mark::Released(release) if release.reason == ReleaseReason::Deleted);
    records
        .iter()
        .rev()
        .find(|(_, record)| wipe(record))
        .map(|(slot, _)| *slot)
        .unwrap_or_default()
}

fn is_claimed(records: &Records, attempt: Attempt) -> bool {
    records
        .values()
        .rev()
        .any(|record| record.attempt == attempt && record.claim().is_some())
}

fn release(records: &Records, claim: SlotNumber) -> Option<Release> {
    records
        .range(claim..)
        .find_map(|(_, record)| match &record.mark {
            Mark::Released(release) => Some(release.clone()),
            _ => None,
        })
}

const fn confirmed(record: &Record) -> Option<DecidedCheckpoint> {
    match &record.mark {
        Mark::Committed(committed) => committed.checkpoint,
        _ => None,
    }
}

fn swept(record: &Record) -> Attempt {
    match &record.mark {
        Mark::Committed(committed) => committed.swept_through,
        Mark::Checkpoint(checkpoint) => checkpoint.swept_through,
        Mark::Claim(_) | Mark::Released(_) => Attempt::default(),
    }
}

fn next_checkpoint(records: &Records) -> CheckpointId {
    let after = |record: &Record| {
        let own = record.checkpoint().map(|checkpoint| checkpoint.id.next());
        own.unwrap_or_default().max(record.next_checkpoint)
    };
    records.values().map(after).max().unwrap_or(CheckpointId(1))
}

#[cfg(test)]
mod tests {
    use millstream_types::Timestamp;

    use super::*;
    use crate::slot::Holder;

    fn view(claims: &[Option<&str>]) -> View {
        let record = |attempt: u64, lineage: Option<&str>| Record {
            attempt: Attempt(attempt),
            newest: None,
            next_checkpoint: CheckpointId(1),
            deployment: None,
            lineage: lineage.map(Lineage::from),
            mark: Mark::Claim(ClaimEntry {
                nonce: attempt.to_string(),
                holder: Holder {
                    name: "a".to_owned(),
                    build: String::new(),
                    identity: None,
                    parallelism: 1,
                    deployment: None,
                    host: None,
                    sinks: std::collections::BTreeMap::new(),
                },
                replaced: Vec::new(),
                earlier: Vec::new(),
                ended: None,
                time: Timestamp(0),
            }),
        };
        let records: Records = (1..)
            .zip(claims)
            .map(|(number, lineage)| (SlotNumber(number), record(number, *lineage)))
            .collect();
        View::of(&records, &[]).unwrap()
    }

    #[test]
    fn the_first_claim_names_a_chain_for_good_and_none_names_one_that_has_begun_without() {
        let nonce = "0123456789abcdef";
        let named = |claims: &[Option<&str>]| view(claims).lineage_after(nonce);
        assert_eq!(named(&[]), Some("01234567".into()));
        assert_eq!(named(&[Some("abcdabcd")]), Some("abcdabcd".into()));
        assert_eq!(named(&[None, None]), None);
    }
}
