//! The rules of the chain, without I/O: from what was seen to what is to be done.
//!
//! 1. A coordinator claims the next slot before it trusts what it has read; then it reads again
//!    and restores from the newest checkpoint below its claim ([`claim`], [`view`]).
//! 2. A checkpoint is decided when, and only when, its slot is written ([`placing`]).
//! 3. A write whose outcome is unknown is resolved by reading its slot, and repeated byte for byte
//!    until it is: nothing else is written before ([`placing`]).
//! 4. Every slot carries its attempt; a slot of another attempt means that the writer is fenced.
//! 5. A chain that had a checkpoint never restores from nothing or from an older one
//!    ([`view`]).
//! 6. Only checkpoints that are not retained go, and what confirms them ([`garbage`]); after them the
//!    files that nothing names any more and nothing will ([`files`]).
//! 7. Claims and releases never go, nor does anything that is not below the newest checkpoint: the
//!    next slot of a deposed coordinator is its successor's claim and stays taken for ever. An
//!    absent slot below an existing one is therefore not free ([`placing`], [`garbage`]). Deletions
//!    are marked before they are made, so that a claim made in such a hole is seen to be in one,
//!    and is made again ([`garbage`], [`claim`]).
//! 8. The store is probed for what all of this rests on
//!    ([`Storage::probe`](crate::Storage::probe)).
//! 9. A claim under another job identity is refused while an older one is not released
//!    ([`claim`]).
//! 10. Every slot says which is the newest deployment of the job. A claim for an older one is
//!     refused, and so is one for a deployment whose own attempt has ended by itself; what a
//!     deployment is to start from counts until a checkpoint was decided under it ([`claim`]).
//! 11. What is believed to be the newest state is started from only if the newest checkpoint below
//!     the claim says so too ([`kinship`]).
//!
//! `protocol/interleavings.rs` runs these very functions in every order that two and three
//! coordinators, crashes, lost replies, late writes and deletions can produce.

pub(crate) mod claim;
pub(crate) mod files;
pub(crate) mod garbage;
#[cfg(test)]
mod interleavings;
pub(crate) mod kinship;
pub(crate) mod placing;
pub(crate) mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::{Attempt, CheckpointId, CheckpointKind, Deployment, Lineage, Timestamp};

use crate::release::Release;
use crate::slot::{ClaimEntry, CommittedEntry, Entry, Slot, SlotNumber, Stored};
use files::{File, Files};

/// A slot as far as the rules need to know it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Record {
    /// The attempt that wrote it.
    pub(crate) attempt: Attempt,
    /// The newest checkpoint before it.
    pub(crate) newest: Option<SlotNumber>,
    /// No checkpoint before it has this number or a larger one.
    pub(crate) next_checkpoint: CheckpointId,
    /// The newest deployment of the job up to here.
    pub(crate) deployment: Option<Deployment>,
    /// The chain that it is of.
    pub(crate) lineage: Option<Lineage>,
    /// What it says.
    pub(crate) mark: Mark,
}

/// What a slot says, without the state that a manifest holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Mark {
    /// See [`Entry::Claim`].
    Claim(ClaimEntry),
    /// See [`Entry::Checkpoint`].
    Checkpoint(CheckpointMark),
    /// See [`Entry::Committed`].
    Committed(CommittedEntry),
    /// See [`Entry::Released`].
    Released(Release),
}

/// A decided checkpoint without its state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CheckpointMark {
    /// Its number.
    pub(crate) id: CheckpointId,
    /// What it is for.
    pub(crate) kind: CheckpointKind,
    /// When all tasks had acknowledged it.
    pub(crate) decided_at: Timestamp,
    /// Transactions of attempts up to this one are all resolved.
    pub(crate) swept_through: Attempt,
    /// SHA-256 of the slot's body.
    pub(crate) sha256: String,
    /// Bytes of the slot and of the object that it names.
    pub(crate) bytes: u64,
    /// Bytes of the files of keyed state that it names.
    pub(crate) state_bytes: u64,
    /// The files that it names, and the object that holds its manifest if that is large.
    pub(crate) files: Arc<Files>,
}

/// Slots by their number.
pub(crate) type Records = BTreeMap<SlotNumber, Record>;

impl Record {
    /// What the rules need of a slot whose body has this hash and whose object this size.
    pub(crate) fn of(slot: &Slot, sha256: &str, bytes: u64) -> Self {
        let mark = match &slot.entry {
            Entry::Claim(claim) => Mark::Claim(claim.clone()),
            Entry::Committed(committed) => Mark::Committed(*committed),
            Entry::Released(release) => Mark::Released(release.clone()),
            Entry::Checkpoint(stored) => Mark::Checkpoint(mark_of(stored, sha256, bytes)),
        };
        Self {
            attempt: slot.attempt,
            newest: slot.newest,
            next_checkpoint: slot.next_checkpoint,
            deployment: slot.deployment,
            lineage: slot.lineage.clone(),
            mark,
        }
    }

    /// The checkpoint that it decides, if it does.
    pub(crate) const fn checkpoint(&self) -> Option<&CheckpointMark> {
        match &self.mark {
            Mark::Checkpoint(checkpoint) => Some(checkpoint),
            _ => None,
        }
    }

    /// The claim that it is, if it is one.
    pub(crate) const fn claim(&self) -> Option<&ClaimEntry> {
        match &self.mark {
            Mark::Claim(claim) => Some(claim),
            _ => None,
        }
    }
}

fn mark_of(stored: &Stored, sha256: &str, bytes: u64) -> CheckpointMark {
    let sha256 = sha256.to_owned();
    // Paths that are none have been refused when the slot was opened.
    let files = stored.paths().into_iter().filter_map(File::at).collect();
    let files = Arc::new(files);
    match stored {
        Stored::Manifest(encoded) => {
            let manifest = encoded.manifest();
            CheckpointMark {
                id: manifest.checkpoint,
                kind: manifest.kind,
                decided_at: manifest.decided_at,
                swept_through: manifest.swept_through,
                sha256,
                bytes,
                state_bytes: manifest.state_bytes(),
                files,
            }
        }
        Stored::Large(large) => CheckpointMark {
            id: large.checkpoint,
            kind: large.kind,
            decided_at: large.decided_at,
            swept_through: large.swept_through,
            sha256,
            bytes: bytes.saturating_add(large.object.bytes),
            state_bytes: large.state_bytes,
            files,
        },
    }
}
