//! The slots of one job as objects: listing, reading and writing them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use millstream_types::{Attempt, JobId};
use serde::{Deserialize, Serialize};

use crate::envelope::{self, MAX_OBJECT_BYTES};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::manifest::Manifest;
use crate::protocol::placing::{Intent, Next, Put, after_look, after_put, after_read};
use crate::protocol::view::{Gap, View};
use crate::protocol::{Record, Records};
use crate::slot::{Entry, Large, ObjectRef, Slot, SlotNumber, Stored, check_manifest};
use crate::storage::{Created, Rounds, Storage};

/// Slots that are read at the same time.
const CONCURRENT_READS: usize = 16;
/// How often a chain is looked at again whose slots do not fit together.
const LOOKS: u32 = 4;

/// The slots of one job.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    pub(crate) storage: Storage,
    /// The job's folder.
    pub(crate) folder: Key,
    /// The job they must belong to; any if none.
    pub(crate) job: Option<JobId>,
}

/// What a reading of a chain found.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    /// Slots that were understood.
    pub(crate) records: Records,
    /// Slots that were not, and why.
    pub(crate) unreadable: BTreeMap<SlotNumber, String>,
    /// What the newest checkpoint among them holds, so that it need not be read again.
    pub(crate) newest: Option<(SlotNumber, Slot)>,
    /// Where listings begin, once that has been looked up.
    start: Option<Option<SlotNumber>>,
}

impl Survey {
    fn keep_newest(&mut self, number: SlotNumber, slot: Slot) {
        if self.newest.as_ref().is_none_or(|newest| newest.0 < number) {
            self.newest = Some((number, slot));
        }
    }

    pub(crate) fn unreadable_slots(&self) -> Vec<SlotNumber> {
        self.unreadable.keys().copied().collect()
    }
}

/// Counts looks at a chain whose slots do not fit together. Slots that are written and deleted
/// while one looks can hide each other, so the first look need not be right.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    done: u32,
}

impl Looks {
    /// Waits for the next look, or gives up with `error`.
    pub(crate) async fn again(&mut self, error: impl FnOnce() -> Error) -> Result<()> {
        self.done += 1;
        if self.done >= LOOKS {
            return Err(error());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }
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
    async fn list(&self, start: Option<SlotNumber>) -> Result<Vec<SlotNumber>> {
        if let Some(start) = start {
            let before = SlotNumber(start.0.saturating_sub(1));
            let slots = self.list_after(before).await?;
            if slots.first() == Some(&start) {
                return Ok(slots);
            }
            tracing::warn!(chain = %self.chain_address(), %start, "remembered start is not there, listing the whole chain");
        }
        self.list_after(SlotNumber(0)).await
    }

    async fn listing_start(&self) -> Result<Option<SlotNumber>> {
        let key = self.start_key();
        let Some(bytes) = self.storage.read(&key).await? else {
            return Ok(None);
        };
        match envelope::open::<ListingStart>(&self.storage.address(&key), &bytes) {
            Ok((start, _)) => Ok(Some(start.slot)),
            Err(error) => {
                tracing::warn!(%error, "listing the whole chain");
                Ok(None)
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

    /// Folder of the objects that say what attempts delete.
    pub(crate) fn marks(&self) -> Key {
        self.folder.child("collected")
    }

    fn mark_key(&self, attempt: Attempt) -> Key {
        self.marks().child(&format!("{:020}.json", attempt.0))
    }

    /// Says that an attempt deletes its slots below one, before it does. Only the attempt itself
    /// writes it, so that it never goes back.
    pub(crate) async fn mark_deletions(&self, attempt: Attempt, below: SlotNumber) -> Result<()> {
        let sealed = envelope::seal(&DeletionMark { attempt, below })?;
        let door = self.storage.door();
        door.put(&self.mark_key(attempt), sealed.bytes).await
    }

    /// Below which slot an attempt may have deleted its own.
    pub(crate) async fn deletion_mark(&self, attempt: Attempt) -> Result<Option<SlotNumber>> {
        let key = self.mark_key(attempt);
        let Some(bytes) = self.storage.read(&key).await? else {
            return Ok(None);
        };
        let address = self.storage.address(&key);
        let (mark, _) = envelope::open::<DeletionMark>(&address, &bytes)?;
        if mark.attempt != attempt {
            let reason = format!("it is the mark of attempt {}", mark.attempt);
            return Err(Error::corrupt(address, reason));
        }
        Ok(Some(mark.below))
    }

    /// Keys of the deletion marks of attempts before one, which no claim reads any more.
    pub(crate) async fn marks_before(&self, attempt: Attempt) -> Result<Vec<Key>> {
        let own = self.mark_key(attempt);
        let listed = self.storage.door().list(&self.marks(), None).await?;
        let keys = listed.into_iter().map(|listed| listed.key);
        Ok(keys.filter(|key| *key < own).collect())
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

    /// Reads what is there beyond what is `known`; forgets what has gone.
    pub(crate) async fn survey(&self, known: &mut Survey) -> Result<()> {
        let start = match known.start {
            Some(start) => start,
            None => *known.start.insert(self.listing_start().await?),
        };
        let listed: BTreeSet<SlotNumber> = self.list(start).await?.into_iter().collect();
        known.records.retain(|slot, _| listed.contains(slot));
        known.unreadable.retain(|slot, _| listed.contains(slot));
        let unknown = listed
            .into_iter()
            .filter(|slot| !known.records.contains_key(slot))
            .collect::<Vec<_>>();
        let mut reads = stream::iter(unknown)
            .map(|slot| async move { (slot, self.read(slot).await) })
            .buffer_unordered(CONCURRENT_READS);
        while let Some((slot, read)) = reads.next().await {
            match read {
                Ok(Some((body, record))) => {
                    if record.checkpoint().is_some() {
                        known.keep_newest(slot, body);
                    }
                    known.unreadable.remove(&slot);
                    known.records.insert(slot, record);
                }
                Ok(None) => {}
                Err(Error::Corrupt { reason, .. }) => {
                    known.unreadable.insert(slot, reason);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads the chain until its slots fit together.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the slot that does not fit.
    pub(crate) async fn view(&self, known: &mut Survey) -> Result<View> {
        let mut looks = Looks::default();
        loop {
            self.survey(known).await?;
            match View::of(&known.records, &known.unreadable_slots()) {
                Ok(view) => return Ok(view),
                Err(gap) => looks.again(|| self.gap(known, gap)).await?,
            }
        }
    }

    /// The error that a gap is, if it stays.
    pub(crate) fn gap(&self, known: &Survey, gap: Gap) -> Error {
        let Some(slot) = gap.slot else {
            return Error::corrupt(self.chain_address(), gap.reason);
        };
        let reason = known.unreadable.get(&slot).map_or_else(
            || gap.reason.clone(),
            |why| format!("{why}; {}", gap.reason),
        );
        Error::corrupt(self.address(slot), reason)
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
                        Ok(Created::Taken) => {
                            unknown = Some(self.storage.vanished(&key));
                            Put::Taken
                        }
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

    /// As [`manifest`](Self::manifest), for a slot that a survey has found.
    pub(crate) async fn surveyed_manifest(
        &self,
        survey: &Survey,
        number: SlotNumber,
    ) -> Result<Option<Manifest>> {
        match survey.newest.as_ref().filter(|newest| newest.0 == number) {
            Some((_, slot)) => self.manifest_in(slot.clone()).await.map(Some),
            None => self.manifest(number).await,
        }
    }

    async fn manifest_in(&self, slot: Slot) -> Result<Manifest> {
        match slot.entry {
            Entry::Checkpoint(stored) => {
                load(&self.storage, &self.folder, slot.attempt, stored).await
            }
            _ => Err(Error::Missing {
                path: self.address(slot.slot),
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
            .buffered(CONCURRENT_READS)
            .try_collect::<()>()
            .await
    }
}

/// Manifests above this many bytes lie in an object of their own.
pub(crate) const MAX_INLINE_BYTES: usize = 4 * 1024 * 1024;

/// Reads the manifest that a slot or savepoint holds or names. Paths are below `folder`.
pub(crate) async fn load(
    storage: &Storage,
    folder: &Key,
    attempt: Attempt,
    stored: Stored,
) -> Result<Manifest> {
    let object = match stored {
        Stored::Manifest(manifest) => return Ok(*manifest),
        Stored::Large(large) => large.object,
    };
    let named = format!("{}/{}", storage.address(folder), object.path);
    let key = folder
        .descendant(&object.path)
        .ok_or_else(|| Error::corrupt(&named, "its path is not one of ours"))?;
    let bytes = read_named(storage, &key, &object).await?;
    let (manifest, sha256) = envelope::open::<Manifest>(&named, &bytes)?;
    if sha256 != object.sha256 {
        return Err(Error::corrupt(
            named,
            format!("its checksum is {sha256}, its slot names {}", object.sha256),
        ));
    }
    check_manifest(&named, &manifest, attempt)?;
    Ok(manifest)
}

async fn read_named(storage: &Storage, key: &Key, object: &ObjectRef) -> Result<Bytes> {
    let named = || storage.address(key);
    if object.bytes > MAX_OBJECT_BYTES {
        return Err(Error::corrupt(
            named(),
            format!("{} bytes are too many", object.bytes),
        ));
    }
    let bytes = storage
        .read(key)
        .await?
        .ok_or_else(|| Error::corrupt(named(), "it is missing, but a checkpoint names it"))?;
    if u64::try_from(bytes.len()).ok() != Some(object.bytes) {
        return Err(Error::corrupt(
            named(),
            format!(
                "it has {} bytes, {} were written",
                bytes.len(),
                object.bytes
            ),
        ));
    }
    Ok(bytes)
}

/// Puts a manifest where a slot or savepoint can name it: into it, or into an object of its own
/// at `path` below `folder`.
pub(crate) async fn store(
    storage: &Storage,
    folder: &Key,
    path: &[&str],
    manifest: Manifest,
) -> Result<Stored> {
    let sealed = envelope::seal(&manifest)?;
    if sealed.bytes.len() <= MAX_INLINE_BYTES {
        return Ok(Stored::Manifest(Box::new(manifest)));
    }
    let key = path
        .iter()
        .fold(folder.clone(), |key, segment| key.child(segment));
    let bytes = u64::try_from(sealed.bytes.len()).unwrap_or(u64::MAX);
    if bytes > MAX_OBJECT_BYTES {
        return Err(Error::Rule(format!(
            "the manifest of checkpoint {} has {bytes} bytes, more than the {MAX_OBJECT_BYTES} that can be read back",
            manifest.checkpoint
        )));
    }
    storage.door().put(&key, sealed.bytes).await?;
    let escaped: Vec<String> = path
        .iter()
        .map(|segment| crate::key::escape(segment))
        .collect();
    Ok(Stored::Large(Large {
        checkpoint: manifest.checkpoint,
        kind: manifest.kind,
        decided_at: manifest.decided_at,
        swept_through: manifest.swept_through,
        object: ObjectRef {
            path: escaped.join("/"),
            bytes,
            sha256: sealed.sha256,
        },
    }))
}
