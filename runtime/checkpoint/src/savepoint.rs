//! Savepoints, and whatever else a job can be started from by its address.

use serde::{Deserialize, Serialize};

use crate::chain::slots::Slots;
use crate::chain::survey::Survey;
use crate::envelope;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::manifest::Manifest;
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

/// Reads what a job is to be started from: the address of a savepoint (its folder or its
/// `manifest.json`), of one slot of a chain, or of a job's folder, which means its newest
/// checkpoint.
///
/// # Errors
/// [`Error::Missing`]: there is nothing to start from. [`Error::Corrupt`]: there is, but it
/// cannot be trusted.
pub async fn read_savepoint(uri: &str, options: &StorageOptions) -> Result<Manifest> {
    let uri = uri.trim_end_matches('/');
    let missing = |reason: &str| Error::Missing {
        path: uri.to_owned(),
        reason: reason.to_owned(),
    };
    if let Some((folder, name)) = split_last(uri) {
        if name == MANIFEST {
            let storage = Storage::open(folder, options).await?;
            let read = read_folder(&storage, &Key::root()).await?;
            return read.ok_or_else(|| missing("there is no such object"));
        }
        if let Some(slot) = SlotNumber::from_file_name(name) {
            let (job, _) =
                split_last(folder).ok_or_else(|| missing("it lies in no job's folder"))?;
            let read = Slots::in_folder(Storage::open(job, options).await?, Key::root())
                .manifest(slot)
                .await?;
            return read.ok_or_else(|| missing("there is no such slot"));
        }
    }
    let storage = Storage::open(uri, options).await?;
    if let Some(manifest) = read_folder(&storage, &Key::root()).await? {
        return Ok(manifest);
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

async fn newest(slots: &Slots) -> Result<Option<Manifest>> {
    let view = slots.view(&mut Survey::default()).await?;
    match view.newest {
        Some((slot, ..)) => slots.manifest(slot).await,
        None => Ok(None),
    }
}
