//! Savepoints, and whatever else a job can be started from by its address.

use serde::{Deserialize, Serialize};

use crate::chain::slots::Slots;
use crate::chain::survey::Survey;
use crate::chain::{Claim, claims};
use crate::envelope;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::manifest::Manifest;
use crate::protocol::{Mark, Record, Records};
use crate::slot::{SlotNumber, Stored};
use crate::storage::{Settled, Storage, StorageOptions, split_last};
use crate::stored::{load, store};

/// Name of a savepoint's object in its folder.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Whether an object of this name in a savepoint's folder belongs to it.
pub(crate) fn is_part(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let state = || {
        let numbers = name.strip_prefix("state-")?.strip_suffix(".json")?;
        numbers.split_once('-')
    };
    name == MANIFEST || state().is_some_and(|(attempt, id)| digits(attempt) && digits(id))
}

/// Body of a savepoint's object. Paths in it are below its folder, so that the folder can be
/// moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Savepoint {
    name: String,
    attempt: millstream_types::Attempt,
    stored: Stored,
}

/// Writes a savepoint below the job's folder; the same one again is fine.
pub(crate) async fn write(slots: &Slots, name: &str, manifest: &Manifest) -> Result<String> {
    let folder = slots.folder.child("savepoints").child(name);
    let key = folder.child(MANIFEST);
    let large = format!("state-{}-{}.json", manifest.attempt, manifest.checkpoint);
    let savepoint = Savepoint {
        name: name.to_owned(),
        attempt: manifest.attempt,
        stored: store(&slots.storage, &folder, &[&large], manifest.clone()).await?,
    };
    let sealed = envelope::seal(&savepoint)?;
    let address = slots.storage.address(&folder);
    match slots.storage.create_settled(&key, sealed.bytes).await? {
        Settled::Mine => Ok(address),
        Settled::Other(bytes) => {
            let (existing, _) = envelope::open::<Savepoint>(&slots.storage.address(&key), &bytes)?;
            let existing = load(&slots.storage, &folder, existing.attempt, existing.stored).await?;
            let name_of = |manifest: &Manifest| (manifest.attempt, manifest.checkpoint);
            if name_of(&existing) == name_of(manifest) {
                return Ok(address);
            }
            Err(Error::SavepointExists {
                path: address,
                existing: format!("{} of attempt {}", existing.checkpoint, existing.attempt),
            })
        }
    }
}

/// What lies at an address that a job can be started from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// Its state.
    pub manifest: Manifest,
    /// Whether all that it lists is known to be committed: its chain says so of it or of a later
    /// checkpoint. A savepoint lists nothing.
    pub is_committed: bool,
    /// The claim under which its chain is still held, if it is a checkpoint of one that is.
    pub held_by: Option<Claim>,
}

impl RestorePoint {
    const fn savepoint(manifest: Manifest) -> Self {
        Self {
            manifest,
            is_committed: true,
            held_by: None,
        }
    }

    /// A checkpoint, and what the slots of its chain say about it.
    fn checkpoint(manifest: Manifest, slot: SlotNumber, records: &Records) -> Self {
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
            let read = read.map(RestorePoint::savepoint);
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
            return Ok(RestorePoint::checkpoint(manifest, slot, &survey.records));
        }
    }
    let storage = Storage::open(uri, options).await?;
    if let Some(manifest) = read_folder(&storage, &Key::root()).await? {
        return Ok(RestorePoint::savepoint(manifest));
    }
    newest(&Slots::in_folder(storage, Key::root())).await?.ok_or_else(|| {
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

async fn newest(slots: &Slots) -> Result<Option<RestorePoint>> {
    let mut survey = Survey::default();
    let view = slots.view(&mut survey).await?;
    let Some((slot, ..)) = view.newest else {
        return Ok(None);
    };
    let manifest = slots.manifest(slot).await?;
    let point = |manifest| RestorePoint::checkpoint(manifest, slot, &survey.records);
    Ok(manifest.map(point))
}
