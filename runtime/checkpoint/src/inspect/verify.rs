//! Reading everything and checking it.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt;
use millstream_types::FileRef;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{jobs, savepoint_folders};
use crate::chain::slots::{DeletionMark, ListingStart, Slots};
use crate::envelope;
use crate::error::{Error, Result};
use crate::files::read;
use crate::key::Key;
use crate::manifest::Manifest;
use crate::protocol::files::DATA;
use crate::protocol::view::View;
use crate::protocol::{Mark, Record, Records};
use crate::release::ReleaseReason;
use crate::reservation::{self, Reservation};
use crate::savepoint::{self, read_folder};
use crate::slot::SlotNumber;
use crate::storage::{Listed, Storage, StorageOptions};

/// What a verification has read and found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Chains.
    pub jobs: u64,
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Checkpoints that a job can be started from.
    pub checkpoints: u64,
    /// Savepoints that a job can be started from.
    pub savepoints: u64,
    /// What is wrong.
    pub faults: Vec<Finding>,
    /// What is left over: not wrong, but of no use.
    pub leftovers: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Address of the object.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Reads every object below a storage or in a job's folder and checks it: checksums, whether
/// slots fit together, whether everything that is named is there.
///
/// # Errors
/// There is nothing to verify, or the store does not answer. Whatever is wrong with the objects
/// themselves is a [`Finding`].
pub async fn verify(uri: &str, options: &StorageOptions) -> Result<Verified> {
    let storage = Storage::open(uri, options).await?;
    let mut verified = Verified::default();
    if storage
        .read(&Key::root().child("manifest.json"))
        .await?
        .is_some()
    {
        verified.savepoint(&storage, &Key::root()).await?;
        return Ok(verified);
    }
    for slots in jobs(&storage).await? {
        verified.job(&slots).await?;
    }
    let reservations = storage.door().list(&reservation::folder(), None).await?;
    for listed in reservations {
        verified
            .object::<Reservation>(&storage, &listed.key)
            .await?;
    }
    Ok(verified)
}

impl Verified {
    fn fault(&mut self, object: impl Into<String>, reason: impl Into<String>) {
        self.faults.push(Finding {
            object: object.into(),
            reason: reason.into(),
        });
    }

    /// Keeps what is wrong with an object; other errors end the verification.
    fn keep<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Corrupt { object, reason }) => {
                self.fault(object, reason);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn count(&mut self, listed: &Listed) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(listed.bytes);
    }

    async fn object<T: DeserializeOwned>(&mut self, storage: &Storage, key: &Key) -> Result<()> {
        if let Some(bytes) = storage.read(key).await? {
            self.objects += 1;
            self.bytes = self
                .bytes
                .saturating_add(bytes.len().try_into().unwrap_or(u64::MAX));
            let opened = envelope::open::<T>(&storage.address(key), &bytes);
            self.keep(opened)?;
        }
        Ok(())
    }

    async fn job(&mut self, slots: &Slots) -> Result<()> {
        self.jobs += 1;
        let mut records = Records::new();
        let mut manifests = Vec::new();
        let mut unreadable = Vec::new();
        for listed in slots.storage.door().list(&slots.chain(), None).await? {
            let Some(number) = SlotNumber::from_file_name(&listed.name) else {
                self.leftovers.push(slots.storage.address(&listed.key));
                continue;
            };
            self.count(&listed);
            match self.keep(slots.read(number).await)? {
                None => unreadable.push(number),
                // It went while we read.
                Some(None) => {}
                Some(Some((_, record))) => {
                    if record.checkpoint().is_some()
                        && let Some(Some(manifest)) = self.keep(slots.manifest(number).await)?
                    {
                        manifests.push((number, manifest));
                    }
                    records.insert(number, record);
                }
            }
        }
        self.whole(slots, &records, &unreadable);
        self.order(slots, &records, &manifests);
        self.states(slots, &manifests).await?;
        self.data(slots, &records).await?;
        for folder in savepoint_folders(slots).await? {
            self.savepoint(&slots.storage, &folder).await?;
        }
        let marks = slots.storage.door().list(&slots.marks(), None).await?;
        for listed in marks {
            self.object::<DeletionMark>(&slots.storage, &listed.key)
                .await?;
        }
        self.object::<ListingStart>(&slots.storage, &slots.start_key())
            .await
    }

    /// Whether a coordinator could start from these slots.
    fn whole(&mut self, slots: &Slots, records: &Records, unreadable: &[SlotNumber]) {
        if let Err(gap) = View::of(records, unreadable) {
            let at = gap
                .slot
                .map_or_else(|| slots.chain_address(), |slot| slots.address(slot));
            self.fault(at, gap.reason);
        }
    }

    /// Whether every slot knows what lies before it.
    fn order(&mut self, slots: &Slots, records: &Records, manifests: &[(SlotNumber, Manifest)]) {
        let mut newest = None;
        for (number, record) in records {
            if let Some(overlooked) = newest.filter(|newest| record.newest < Some(*newest)) {
                self.fault(
                    slots.address(*number),
                    format!("it does not know the checkpoint in slot {overlooked} before it"),
                );
            }
            match &record.mark {
                Mark::Checkpoint(_) => newest = Some(*number),
                Mark::Released(release) if release.reason == ReleaseReason::Deleted => {
                    newest = None;
                }
                Mark::Claim(_) | Mark::Committed(_) | Mark::Released(_) => {}
            }
        }
        for (number, manifest) in manifests {
            let named = records.get(number).and_then(|record| record.newest);
            let previous = named.and_then(|slot| records.get(&slot)?.checkpoint());
            if let Some(previous) = previous
                && manifest.previous.as_ref() != Some(&previous.sha256)
            {
                self.fault(
                    slots.address(*number),
                    format!("it does not seal checkpoint {} before it", previous.id),
                );
            }
        }
    }

    /// Reads every file that checkpoints name, once, and counts the checkpoints that have theirs.
    async fn states(&mut self, slots: &Slots, manifests: &[(SlotNumber, Manifest)]) -> Result<()> {
        let mut named: BTreeMap<&FileRef, Vec<SlotNumber>> = BTreeMap::new();
        for (number, manifest) in manifests {
            for file in manifest.files() {
                named.entry(file).or_default().push(*number);
            }
        }
        let mut faulty = BTreeSet::new();
        for (file, by) in named {
            let found = self.file(&slots.storage, &slots.folder, file).await?;
            let Some((object, reason)) = found else {
                continue;
            };
            let mut there = Vec::new();
            for number in by {
                // A file goes after the slots that name it, perhaps while we read.
                if slots
                    .storage
                    .door()
                    .read(&slots.key(number), 1)
                    .await?
                    .is_some()
                {
                    there.push(number);
                }
            }
            if !there.is_empty() {
                let slots: Vec<String> = there.iter().map(ToString::to_string).collect();
                self.fault(
                    object,
                    format!("{}; slot {} names it", reason, slots.join(", ")),
                );
                faulty.extend(there);
            }
        }
        let whole = manifests
            .iter()
            .filter(|(number, _)| !faulty.contains(number));
        self.checkpoints += u64::try_from(whole.count()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Reads a file that is named; which one it is and what is wrong with it.
    async fn file(
        &mut self,
        storage: &Storage,
        folder: &Key,
        file: &FileRef,
    ) -> Result<Option<(String, String)>> {
        let read = async {
            let key = folder.descendant(&file.path);
            let key = key.ok_or_else(|| Error::corrupt(&file.path, "it is no path of a file"))?;
            let mut chunks = read(storage, &key, file).await?;
            while chunks.try_next().await?.is_some() {}
            Ok(())
        };
        match read.await {
            Ok(()) => Ok(None),
            Err(Error::Corrupt { object, reason }) => Ok(Some((object, reason))),
            Err(error) => Err(error),
        }
    }

    /// Objects below `data/`: those that are named have been read.
    async fn data(&mut self, slots: &Slots, records: &Records) -> Result<()> {
        let named: BTreeSet<Key> = records
            .values()
            .filter_map(Record::checkpoint)
            .flat_map(|checkpoint| checkpoint.files.iter())
            .filter_map(|file| slots.folder.descendant(&file.path))
            .collect();
        let data = slots.folder.child(DATA);
        for listed in slots.storage.door().list(&data, None).await? {
            if named.contains(&listed.key) {
                self.count(&listed);
            } else {
                self.leftovers.push(slots.storage.address(&listed.key));
            }
        }
        Ok(())
    }

    async fn savepoint(&mut self, storage: &Storage, folder: &Key) -> Result<()> {
        let listed = storage.door().list(folder, None).await?;
        let read = read_folder(storage, folder).await;
        let manifest = match self.keep(read)? {
            Some(Some(manifest)) => manifest,
            Some(None) => {
                self.leftovers.push(storage.address(folder));
                return Ok(());
            }
            None => {
                for listed in &listed {
                    self.count(listed);
                }
                return Ok(());
            }
        };
        let named: BTreeSet<&FileRef> = manifest.files().collect();
        let mut is_whole = true;
        for file in &named {
            if let Some((object, reason)) = self.file(storage, folder, file).await? {
                self.fault(object, reason);
                is_whole = false;
            }
        }
        let paths: BTreeSet<&str> = named.iter().map(|file| file.path.as_str()).collect();
        for listed in &listed {
            if savepoint::is_file(&listed.name) && !paths.contains(listed.name.as_str()) {
                self.leftovers.push(storage.address(&listed.key));
            } else {
                self.count(listed);
            }
        }
        self.savepoints += u64::from(is_whole);
        Ok(())
    }
}
