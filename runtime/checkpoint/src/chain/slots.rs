//! The slots of one job as objects: listing, reading and writing them.

#[cfg(test)]
mod marks;
#[cfg(test)]
mod races;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use millstream_types::{Attempt, Bug, JobId};
use serde::{Deserialize, Serialize};

use crate::envelope;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::manifest::Manifest;
use crate::protocol::Record;
use crate::protocol::placing::{Intent, Next, Put, after_look, after_put, after_read};
use crate::slot::{Entry, Slot, SlotNumber};
use crate::storage::{Created, Rounds, Settled, Storage};
use crate::stored::load;

/// Objects that are deleted at the same time.
pub(crate) const CONCURRENT_DELETIONS: usize = 16;

/// The slots of one job.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    pub(crate) storage: Storage,
    /// The job's folder.
    pub(crate) folder: Key,
    /// The job they must belong to; any if none.
    pub(crate) job: Option<JobId>,
}

/// What the names of an attempt's marks begin with.
fn marker(attempt: Attempt) -> String {
    format!("{:020}", attempt.0)
}

/// How the writing of a slot ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The slot is ours: as given now, or as an earlier try of the same write has left it.
    Placed(Option<Record>),
    /// Somebody else is past us: the slot that says so, if it is there.
    Overtaken(Option<Record>),
}

/// Body of the object that says below which slot an attempt deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeletionMark {
    attempt: Attempt,
    below: SlotNumber,
}

/// Body of the object that says where a listing of the chain may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListingStart {
    slot: SlotNumber,
}

impl Slots {
    /// The slots of a job below a storage.
    pub(crate) fn of_job(storage: Storage, job: JobId) -> Self {
        Self {
            storage,
            folder: Key::new(&[&job.namespace, &job.name]),
            job: Some(job),
        }
    }

    /// The slots in a job's folder, whichever job it is.
    pub(crate) const fn in_folder(storage: Storage, folder: Key) -> Self {
        Self {
            storage,
            folder,
            job: None,
        }
    }

    pub(crate) fn chain(&self) -> Key {
        self.folder.child("chain")
    }

    pub(crate) fn key(&self, slot: SlotNumber) -> Key {
        self.chain().child(&slot.file_name())
    }

    pub(crate) fn address(&self, slot: SlotNumber) -> String {
        self.storage.address(&self.key(slot))
    }

    pub(crate) fn chain_address(&self) -> String {
        self.storage.address(&self.chain())
    }

    pub(crate) fn start_key(&self) -> Key {
        self.folder.child("chain-start.json")
    }

    /// Numbers of the slots after one.
    pub(crate) async fn list_after(&self, after: SlotNumber) -> Result<Vec<SlotNumber>> {
        let name = after.file_name();
        let listed = self.storage.door().list(&self.chain(), Some(&name)).await?;
        Ok(listed
            .iter()
            .filter_map(|listed| SlotNumber::from_file_name(&listed.name))
            .collect())
    }

    /// Numbers of all slots that may matter: from the remembered start on, if it is there.
    pub(super) async fn list(&self, start: SlotNumber) -> Result<Vec<SlotNumber>> {
        if start != SlotNumber(0) {
            let slots = self.list_after(SlotNumber(start.0 - 1)).await?;
            if slots.first() == Some(&start) {
                return Ok(slots);
            }
            tracing::warn!(
                chain = %self.chain_address(), %start,
                "remembered start is not there, listing the whole chain"
            );
        }
        self.list_after(SlotNumber(0)).await
    }

    pub(super) async fn listing_start(&self) -> Result<SlotNumber> {
        let key = self.start_key();
        let Some(bytes) = self.storage.read(&key).await? else {
            return Ok(SlotNumber(0));
        };
        match envelope::open::<ListingStart>(&self.storage.address(&key), &bytes) {
            Ok((start, _)) => Ok(start.slot),
            Err(error) => {
                tracing::warn!(%error, "listing the whole chain");
                Ok(SlotNumber(0))
            }
        }
    }

    /// Remembers where listings may begin. Only a hint: it names a slot that is never deleted,
    /// and a listing that does not find it there lists everything.
    pub(crate) async fn remember_start(&self, slot: SlotNumber) -> Result<()> {
        let sealed = envelope::seal(&ListingStart { slot })?;
        let door = self.storage.door();
        door.put(&self.start_key(), sealed.bytes).await
    }

    /// Forgets it: from now on the whole chain is listed.
    pub(crate) async fn forget_start(&self) -> Result<()> {
        self.storage.door().delete(&self.start_key()).await
    }

    /// Folder of the objects that say what attempts delete.
    pub(crate) fn marks(&self) -> Key {
        self.folder.child("collected")
    }

    pub(crate) fn mark_key(&self, attempt: Attempt, below: SlotNumber) -> Key {
        let name = format!("{}-{}", marker(attempt), below.file_name());
        self.marks().child(&name)
    }

    /// Says that an attempt deletes its slots below one, before it does. Each mark is an object of
    /// its own, and the highest counts: whatever copy of an earlier request arrives late, it hides
    /// none.
    pub(crate) async fn mark_deletions(&self, attempt: Attempt, below: SlotNumber) -> Result<()> {
        let sealed = envelope::seal(&DeletionMark { attempt, below })?;
        let key = self.mark_key(attempt, below);
        match self.storage.create_settled(&key, sealed.bytes).await? {
            Settled::Mine => Ok(()),
            Settled::Other(_) => {
                let reason = "it is not the mark that its name says";
                Err(Error::corrupt(self.storage.address(&key), reason))
            }
        }
    }

    /// Below which slot an attempt may have deleted its own.
    pub(crate) async fn deletion_mark(&self, attempt: Attempt) -> Result<Option<SlotNumber>> {
        let prefix = marker(attempt);
        let listed = self
            .storage
            .door()
            .list(&self.marks(), Some(&prefix))
            .await?;
        let mut highest = None;
        for listed in &listed {
            let Some(rest) = listed.name.strip_prefix(&prefix) else {
                break;
            };
            let below = match rest.strip_prefix('-').and_then(SlotNumber::from_file_name) {
                Some(below) => Some(below),
                // As earlier builds have written it.
                None => self.single_mark(attempt, &listed.key).await?,
            };
            highest = highest.max(below);
        }
        Ok(highest)
    }

    /// The highest slot below which anybody may have deleted slots. Those from there on stay until
    /// there are newer ones.
    pub(crate) async fn highest_mark(&self) -> Result<SlotNumber> {
        let listed = self.storage.door().list(&self.marks(), None).await?;
        let below = listed.iter().filter_map(|listed| {
            let (_, slot) = listed.name.split_once('-')?;
            SlotNumber::from_file_name(slot)
        });
        Ok(below.max().unwrap_or_default())
    }

    async fn single_mark(&self, attempt: Attempt, key: &Key) -> Result<Option<SlotNumber>> {
        let Some(bytes) = self.storage.read(key).await? else {
            return Ok(None);
        };
        let address = self.storage.address(key);
        let (mark, _) = envelope::open::<DeletionMark>(&address, &bytes)?;
        if mark.attempt != attempt {
            let reason = format!("it is the mark of attempt {}", mark.attempt);
            return Err(Error::corrupt(address, reason));
        }
        Ok(Some(mark.below))
    }

    /// Keys of the deletion marks of attempts before one, which no claim reads any more.
    pub(crate) async fn marks_before(&self, attempt: Attempt) -> Result<Vec<Key>> {
        let own = marker(attempt);
        let listed = self.storage.door().list(&self.marks(), None).await?;
        let older = listed.into_iter().filter(|listed| listed.name < own);
        Ok(older.map(|listed| listed.key).collect())
    }

    /// Reads one slot; `None` if it is not there.
    ///
    /// # Errors
    /// It is corrupt, or belongs to another job.
    pub(crate) async fn read(&self, number: SlotNumber) -> Result<Option<(Slot, Record)>> {
        let Some(bytes) = self.storage.read(&self.key(number)).await? else {
            return Ok(None);
        };
        self.open(number, &bytes).map(Some)
    }

    fn open(&self, number: SlotNumber, bytes: &Bytes) -> Result<(Slot, Record)> {
        let address = self.address(number);
        let (slot, sha256) = envelope::open::<Slot>(&address, bytes)?;
        let slot = slot.verify(&address, number)?;
        if let Some(job) = self.job.as_ref().filter(|job| **job != slot.job) {
            return Err(Error::PathTaken {
                path: self.chain_address(),
                reason: format!(
                    "its slot {number} was written by job {}, not by {job}: use another storage path for one of them",
                    slot.job
                ),
            });
        }
        let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let record = Record::of(&slot, &sha256, bytes);
        Ok((slot, record))
    }

    /// Writes one slot by the rules of [`placing`](crate::protocol::placing).
    pub(crate) async fn place(
        &self,
        number: SlotNumber,
        attempt: Attempt,
        intent: &Intent,
        bytes: &Bytes,
    ) -> Result<Outcome> {
        let key = self.key(number);
        let door = self.storage.door();
        let mut rounds = Rounds::default();
        let mut unknown: Option<Error> = None;
        let mut found: Option<Record> = None;
        let mut next = Next::PutAgain;
        loop {
            next = match next {
                Next::PutAgain => {
                    if let Some(error) = unknown.take() {
                        rounds.again(error).await?;
                    }
                    let answer = match door.create(&key, bytes.clone()).await {
                        Ok(Created::New) => Put::Created,
                        Ok(Created::Taken) if Bug::TakenSlotIsWritten.is_seeded() => Put::Created,
                        Ok(Created::Taken) => {
                            unknown = Some(self.storage.vanished(&key));
                            Put::Taken
                        }
                        Err(_) if Bug::UnknownDecisionIsDone.is_seeded() => Put::Created,
                        Err(error) => {
                            unknown = Some(error);
                            Put::Unknown
                        }
                    };
                    after_put(answer)
                }
                Next::Read => match self.read(number).await {
                    Ok(read) => {
                        found = read.map(|(_, record)| record);
                        after_read(attempt, intent, found.as_ref())
                    }
                    Err(error @ Error::Unavailable { .. }) => {
                        rounds.again(error).await?;
                        Next::Read
                    }
                    Err(error) => return Err(error),
                },
                Next::LookBehind => match self.list_after(number).await {
                    Ok(later) => after_look(!later.is_empty()),
                    Err(error) => {
                        rounds.again(error).await?;
                        Next::LookBehind
                    }
                },
                Next::Placed => {
                    if found.is_some() {
                        door.confirm(&key).await?;
                    }
                    return Ok(Outcome::Placed(found));
                }
                Next::Overtaken => return Ok(Outcome::Overtaken(found)),
            };
        }
    }

    /// The manifest of a decided checkpoint; `None` if its slot has gone.
    pub(crate) async fn manifest(&self, number: SlotNumber) -> Result<Option<Manifest>> {
        match self.read(number).await? {
            Some((slot, _)) => self.manifest_in(slot).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn manifest_in(&self, slot: Slot) -> Result<Manifest> {
        match slot.entry {
            Entry::Checkpoint(stored) => {
                load(&self.storage, &self.folder, slot.attempt, stored).await
            }
            _ => Err(Error::Missing {
                path: self.address(slot.number),
                reason: "the slot holds no checkpoint".to_owned(),
            }),
        }
    }

    async fn delete_one(&self, slot: SlotNumber) -> Result<()> {
        self.storage.door().delete(&self.key(slot)).await
    }

    /// Deletes slots, the given order kept.
    pub(crate) async fn delete(&self, slots: &[SlotNumber]) -> Result<()> {
        let deletions: Vec<_> = slots.iter().map(|slot| self.delete_one(*slot)).collect();
        stream::iter(deletions)
            .buffered(CONCURRENT_DELETIONS)
            .try_collect::<()>()
            .await
    }
}
