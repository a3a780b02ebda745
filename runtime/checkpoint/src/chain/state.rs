//! What a chain looks like to its user.

use millstream_types::{Attempt, CheckpointId, CheckpointKind, Deployment, Lineage, Timestamp};

use serde::Serialize;

use crate::manifest::Manifest;
use crate::protocol::claim::{Admission, admit};
use crate::release::{Release, ReleaseReason};
use crate::slot::{DecidedCheckpoint, EarlierAttempt, Holder, SlotNumber};

/// What a chain says. From [`claim`](crate::Chain::claim): what lies below the claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// The last slot; 0 if there is none.
    pub tail: SlotNumber,
    /// What to restore from: the newest decided checkpoint.
    pub newest: Option<Manifest>,
    /// Address of its slot.
    pub newest_path: Option<String>,
    /// The newest checkpoint all of whose transactions are confirmed to be committed.
    pub committed: Option<DecidedCheckpoint>,
    /// Claims, oldest first: at least those of all attempts after
    /// [`swept_through`](Self::swept_through), and the newest.
    pub claims: Vec<Claim>,
    /// How the newest attempt has ended, if it has said so.
    pub release: Option<Release>,
    /// The newest deployment of the job, where an operator has named any.
    pub deployment: Option<Deployment>,
    /// The name of the chain; `None` if it is empty, or an older build has begun it.
    pub lineage: Option<Lineage>,
    /// The deployment under which [`newest`](Self::newest) was decided.
    pub begun: Option<Deployment>,
    /// Transactions of attempts up to this one are all resolved.
    pub swept_through: Attempt,
    /// Number for the next checkpoint: larger than every decided one's.
    pub next_checkpoint: CheckpointId,
    /// Decided checkpoints that are still there, oldest first.
    pub checkpoints: Vec<CheckpointEntry>,
}

impl ChainState {
    /// Why the newest attempt has ended, if it has said so.
    pub fn released(&self) -> Option<ReleaseReason> {
        self.release.as_ref().map(|release| release.reason)
    }

    /// What a process may do with the chain that was started for this deployment of the job.
    pub fn admits(&self, deployment: Option<Deployment>) -> Admission {
        let ended = self.claims.last().and_then(|claim| {
            let own = claim.holder.deployment.filter(|_| self.release.is_some());
            own.or(claim.ended)
        });
        admit(deployment, self.deployment, self.begun, ended)
    }

    /// Whether everything that [`newest`](Self::newest) lists is confirmed to be committed; true
    /// if there is no checkpoint.
    pub fn newest_is_committed(&self) -> bool {
        self.newest.as_ref().is_none_or(|newest| {
            self.committed.is_some_and(|committed| {
                committed.id == newest.checkpoint && committed.attempt == newest.attempt
            })
        })
    }

    /// Whether an attempt has found all output of [`newest`](Self::newest) aborted, and has not yet
    /// gone back to the checkpoint before it.
    pub fn newest_is_given_up(&self) -> bool {
        self.checkpoints.last().is_some_and(|entry| entry.given_up)
    }

    /// Attempts that may have left open transactions, with their parallelism, oldest first. One
    /// that has written nothing behind its claim has deployed no task: it says what it has swept
    /// before it does.
    pub fn lingering(&self) -> Vec<(Attempt, u32)> {
        self.claims
            .iter()
            .filter(|claim| claim.attempt > self.swept_through && claim.has_written)
            .map(|claim| (claim.attempt, claim.holder.parallelism))
            .collect()
    }
}

/// One claim of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// Where it lies.
    pub slot: SlotNumber,
    /// The attempt that it began.
    pub attempt: Attempt,
    /// Who made it.
    #[serde(flatten)]
    pub holder: Holder,
    /// When, by its own clock.
    pub time: Timestamp,
    /// Places whose processes have held the chain before, for the same deployment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<String>,
    /// The deployment that had ended by itself before, where a person runs the job since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Deployment>,
    /// The newest attempts before its own, oldest first, also those whose claims are deleted.
    #[serde(skip)]
    pub earlier: Vec<EarlierAttempt>,
    /// Whether its attempt has written anything behind it, or may have.
    #[serde(skip)]
    pub has_written: bool,
}

/// One decided checkpoint in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointEntry {
    /// Its number.
    pub id: CheckpointId,
    /// The attempt that took it.
    pub attempt: Attempt,
    /// The slot that holds it.
    pub slot: SlotNumber,
    /// What it is for.
    pub kind: CheckpointKind,
    /// When all tasks had acknowledged it.
    pub decided_at: Timestamp,
    /// Bytes of its objects and of all files that it names.
    pub size_bytes: u64,
    /// Bytes of the files of keyed state among them.
    pub state_bytes: u64,
    /// Address of its slot.
    pub path: String,
    /// Whether its transactions are confirmed to be committed.
    pub committed: bool,
    /// Whether it was given up, because all of its transactions were aborted: a later attempt has
    /// gone back to the checkpoint before it.
    #[serde(skip_serializing_if = "is_false")]
    pub given_up: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the form that serde wants"
)]
const fn is_false(value: &bool) -> bool {
    !*value
}
