//! Savepoints, and whatever else a job can be started from by its address.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use millstream_types::CheckpointId;
use serde::{Deserialize, Serialize};

use crate::chain::slots::Slots;
use crate::chain::survey::Survey;
use crate::chain::{Claim, claims};
use crate::envelope;
use crate::error::{Error, Result};
use crate::files::{CONCURRENT_COPIES, copy};
use crate::key::Key;
use crate::manifest::{Encoded, Manifest};
use crate::protocol::files::{DATA, File};
use crate::protocol::{Mark, Record, Records};
use crate::slot::{SlotNumber, Stored};
use crate::storage::{Settled, Storage, StorageOptions, split_last};
use crate::stored::{load, store};

/// Name of a savepoint's object in its folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Folder of the files of a savepoint's state in its folder.
const FILES: &str = "files";

/// Where a file of a chain lies in a savepoint's folder; `None` if it is none.
fn place_of(path: &str) -> Option<String> {
    let file = File::at(path)?;
    let rest = file.path.strip_prefix(DATA)?;
    Some(format!("{FILES}{rest}"))
}

/// Whether an object of this name in a savepoint's folder is a file of its state.
pub(crate) fn is_file(name: &str) -> bool {
    let below = name.strip_prefix(FILES);
    below.is_some_and(|rest| File::at(&format!("{DATA}{rest}")).is_some())
}

/// Whether an object of this name in a savepoint's folder belongs to it.
pub(crate) fn is_part(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let state = || {
        let numbers = name.strip_prefix("state-")?.strip_suffix(".json")?;
        numbers.split_once('-')
    };
    name == MANIFEST
        || is_file(name)
        || state().is_some_and(|(attempt, id)| digits(attempt) && digits(id))
}

/// Body of a savepoint's object. Paths in it are below its folder, so that the folder can be
/// moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Savepoint {
    name: String,
    attempt: millstream_types::Attempt,
    stored: Stored,
}

/// Savepoints that were triggered and are neither written nor given up, by their numbers. Clones share
/// them: who triggers says so here before any task hears of it.
#[derive(Debug, Clone, Default)]
pub struct PendingSavepoints(Arc<Mutex<BTreeSet<CheckpointId>>>);

impl PendingSavepoints {
    /// A savepoint is about to be triggered.
    pub fn begin(&self, savepoint: CheckpointId) {
        self.numbers().insert(savepoint);
    }

    /// It is written or given up.
    pub fn end(&self, savepoint: CheckpointId) {
        self.numbers().remove(&savepoint);
    }

    /// All of them are given up: their attempt has ended.
    pub fn clear(&self) {
        self.numbers().clear();
    }

    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        !self.numbers().is_empty()
    }

    fn numbers(&self) -> MutexGuard<'_, BTreeSet<CheckpointId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A savepoint that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// Address of its folder.
    pub path: String,
    /// Size in bytes of its manifest and of its files.
    pub bytes: u64,
}

/// Writes a savepoint below the job's folder, with copies of all files that it names; the same one
/// again is fine.
pub(crate) async fn write(slots: &Slots, name: &str, mut manifest: Manifest) -> Result<Saved> {
    let folder = slots.folder.child("savepoints").child(name);
    let key = folder.child(MANIFEST);
    let taken = (manifest.attempt, manifest.checkpoint);
    if manifest.files().next().is_some() {
        // Before anything is copied into somebody else's folder.
        match read_folder(&slots.storage, &folder).await? {
            Some(existing) if (existing.attempt, existing.checkpoint) != taken => {
                let path = slots.storage.address(&folder);
                return Err(exists(path, &existing));
            }
            _ => copy_files(slots, &folder, &mut manifest).await?,
        }
    }
    fail::fail_point!("checkpoint::savepoint-copied", |_| std::process::abort());
    let large = format!("state-{}-{}.json", manifest.attempt, manifest.checkpoint);
    let state = manifest.state_bytes();
    let manifest = Encoded::new(manifest)?;
    let saved = Saved {
        path: slots.storage.address(&folder),
        bytes: state.saturating_add(u64::try_from(manifest.bytes()).unwrap_or(u64::MAX)),
    };
    let savepoint = Savepoint {
        name: name.to_owned(),
        attempt: taken.0,
        stored: store(&slots.storage, &folder, &[&large], manifest).await?,
    };
    let sealed = envelope::seal(&savepoint)?;
    match slots.storage.create_settled(&key, sealed.bytes).await? {
        Settled::Mine => Ok(saved),
        Settled::Other(bytes) => {
            let (existing, _) = envelope::open::<Savepoint>(&slots.storage.address(&key), &bytes)?;
            let existing = load(&slots.storage, &folder, existing.attempt, existing.stored).await?;
            if (existing.attempt, existing.checkpoint) == taken {
                return Ok(saved);
            }
            Err(exists(saved.path, &existing))
        }
    }
}

fn exists(path: String, existing: &Manifest) -> Error {
    Error::SavepointExists {
        path,
        existing: format!("{} of attempt {}", existing.checkpoint, existing.attempt),
    }
}

/// Copies the files of a savepoint into its folder; its manifest then names the copies.
async fn copy_files(slots: &Slots, folder: &Key, manifest: &mut Manifest) -> Result<()> {
    let mut copies = BTreeMap::new();
    for file in manifest.files_mut() {
        let wrong = || Error::corrupt(&file.path, "it is no path of a file of a chain");
        let place = place_of(&file.path).ok_or_else(wrong)?;
        let source = slots.folder.descendant(&file.path).ok_or_else(wrong)?;
        let target = folder.descendant(&place).ok_or_else(wrong)?;
        copies.insert(target, (source, file.clone()));
        file.path = place;
    }
    let storage = &slots.storage;
    let copies: Vec<_> = copies
        .iter()
        .map(|(target, (source, file))| copy((storage, source), (storage, target), file))
        .collect();
    stream::iter(copies)
        .buffer_unordered(CONCURRENT_COPIES)
        .try_collect()
        .await
}

/// What lies at an address that a job can be started from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// Its state.
    pub manifest: Manifest,
    /// Address of the folder that the paths of its files lie in.
    pub folder: String,
    /// Whether all that it lists is known to be committed: its chain says so of it or of a later
    /// checkpoint. A savepoint lists nothing.
    pub is_committed: bool,
    /// The claim under which its chain is still held, if it is a checkpoint of one that is.
    pub held_by: Option<Claim>,
}

impl RestorePoint {
    fn savepoint(folder: &str, manifest: Manifest) -> Self {
        Self {
            manifest,
            folder: folder.to_owned(),
            is_committed: true,
            held_by: None,
        }
    }

    /// A checkpoint, and what the slots of its chain say about it.
    fn checkpoint(folder: &str, manifest: Manifest, slot: SlotNumber, records: &Records) -> Self {
        let confirms = |record: &Record| match &record.mark {
            Mark::Committed(committed) => committed
                .checkpoint
                .is_some_and(|checkpoint| checkpoint.slot >= slot),
            _ => false,
        };
        let last = claims(records).pop();
        let is_released = |claim: &Claim| {
            let mut later = records.range(claim.slot..).map(|(_, record)| &record.mark);
            later.any(|mark| matches!(mark, Mark::Released(_)))
        };
        Self {
            manifest,
            folder: folder.to_owned(),
            is_committed: records.values().any(confirms),
            held_by: last.filter(|claim| !is_released(claim)),
        }
    }
}

/// Reads what a job is to be started from: the address of a savepoint (its folder or its
/// `manifest.json`), of one slot of a chain, or of a job's folder, which means its newest
/// checkpoint.
///
/// # Errors
/// [`Error::Missing`]: there is nothing to start from. [`Error::Corrupt`]: there is, but it
/// cannot be trusted.
pub async fn read_savepoint(uri: &str, options: &StorageOptions) -> Result<Manifest> {
    let point = read_restore_point(uri, options).await?;
    Ok(point.manifest)
}

/// As [`read_savepoint`], with what the chain of a checkpoint says about it.
///
/// # Errors
/// As [`read_savepoint`].
pub async fn read_restore_point(uri: &str, options: &StorageOptions) -> Result<RestorePoint> {
    let uri = uri.trim_end_matches('/');
    let missing = |reason: &str| Error::Missing {
        path: uri.to_owned(),
        reason: reason.to_owned(),
    };
    if let Some((folder, name)) = split_last(uri) {
        if name == MANIFEST {
            let storage = Storage::open(folder, options).await?;
            let read = read_folder(&storage, &Key::root()).await?;
            let read = read.map(|manifest| RestorePoint::savepoint(folder, manifest));
            return read.ok_or_else(|| missing("there is no such object"));
        }
        if let Some(slot) = SlotNumber::from_file_name(name) {
            let (job, _) =
                split_last(folder).ok_or_else(|| missing("it lies in no job's folder"))?;
            let slots = Slots::in_folder(Storage::open(job, options).await?, Key::root());
            let manifest = slots.manifest(slot).await?;
            let manifest = manifest.ok_or_else(|| missing("there is no such slot"))?;
            // Not a view: an older checkpoint can be started from where the newest is corrupt.
            let mut survey = Survey::default();
            slots.survey(&mut survey).await?;
            return Ok(RestorePoint::checkpoint(
                job,
                manifest,
                slot,
                &survey.records,
            ));
        }
    }
    let storage = Storage::open(uri, options).await?;
    if let Some(manifest) = read_folder(&storage, &Key::root()).await? {
        return Ok(RestorePoint::savepoint(uri, manifest));
    }
    newest(uri, &Slots::in_folder(storage, Key::root())).await?.ok_or_else(|| {
        missing("it is neither a savepoint's folder (with a manifest.json) nor a job's (with a chain that has a checkpoint)")
    })
}

/// The savepoint in a folder; `None` if there is none.
pub(crate) async fn read_folder(storage: &Storage, folder: &Key) -> Result<Option<Manifest>> {
    let key = folder.child(MANIFEST);
    let Some(bytes) = storage.read(&key).await? else {
        return Ok(None);
    };
    let (savepoint, _) = envelope::open::<Savepoint>(&storage.address(&key), &bytes)?;
    load(storage, folder, savepoint.attempt, savepoint.stored)
        .await
        .map(Some)
}

async fn newest(folder: &str, slots: &Slots) -> Result<Option<RestorePoint>> {
    let mut survey = Survey::default();
    let view = slots.view(&mut survey).await?;
    let Some((slot, ..)) = view.newest else {
        return Ok(None);
    };
    let manifest = slots.manifest(slot).await?;
    let point = |manifest| RestorePoint::checkpoint(folder, manifest, slot, &survey.records);
    Ok(manifest.map(point))
}
