//! Looking at checkpoints from outside, for people and their tools. Nothing here writes.

mod verify;

use bytes::Bytes;
use futures::TryStreamExt;
use millstream_types::{Attempt, CheckpointId, Deployment, FileRef};
use serde::Serialize;

pub use verify::{Finding, Verified, verify};

use crate::chain::slots::Slots;
use crate::chain::survey::Survey;
use crate::chain::{CheckpointEntry, Claim, checkpoints, claims};
use crate::error::{Error, Result};
use crate::files;
use crate::key::Key;
use crate::manifest::Manifest;
use crate::protocol::view::View;
use crate::release::ReleaseReason;
use crate::savepoint::{RestorePoint, read_restore_point};
use crate::slot::SlotNumber;
use crate::storage::{Chunks, Storage, StorageOptions};

/// The chain of one job, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobListing {
    /// Address of the job's folder.
    pub path: String,
    /// The newest claim.
    pub claim: Option<Claim>,
    /// Why its attempt has ended, if it has said so.
    pub released: Option<ReleaseReason>,
    /// The newest deployment of the job, where an operator has named any.
    pub deployment: Option<Deployment>,
    /// Transactions of attempts up to this one are all resolved.
    pub swept_through: Attempt,
    /// Decided checkpoints that are still there, oldest first.
    pub checkpoints: Vec<CheckpointEntry>,
    /// Addresses of the savepoints' folders.
    pub savepoints: Vec<String>,
    /// Why the job could not be started from here, if it could not.
    pub fault: Option<String>,
}

/// The chains below a storage, or the one in a job's folder.
///
/// # Errors
/// There is no chain at all, or the store does not answer. A chain that is corrupt is listed with
/// its fault.
pub async fn list(uri: &str, options: &StorageOptions) -> Result<Vec<JobListing>> {
    let storage = Storage::open(uri, options).await?;
    let mut listings = Vec::new();
    for slots in jobs(&storage).await? {
        listings.push(listing(&slots).await?);
    }
    Ok(listings)
}

/// One checkpoint: by its number in the chain of a job's folder, or the newest there, or
/// whatever [`read_savepoint`](crate::read_savepoint) finds at the address.
///
/// # Errors
/// As [`read_savepoint`](crate::read_savepoint).
pub async fn show(
    uri: &str,
    checkpoint: Option<CheckpointId>,
    options: &StorageOptions,
) -> Result<Manifest> {
    let point = point(uri, checkpoint, options).await?;
    Ok(point.manifest)
}

/// A checkpoint or savepoint with the files that it names.
#[derive(Debug, Clone)]
pub struct Point {
    /// What it holds.
    pub manifest: Manifest,
    /// The folder that the paths of its files lie in.
    folder: Storage,
}

impl Point {
    /// Reads a file that the manifest names, and checks that it is what was written.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: it is missing, or is not what was written. A running job deletes the files
    /// of checkpoints that it does not retain any more.
    pub async fn read(&self, file: &FileRef) -> Result<Bytes> {
        let mut content = Vec::new();
        let mut chunks = self.open(file).await?;
        while let Some(chunk) = chunks.try_next().await? {
            content.extend_from_slice(&chunk);
        }
        Ok(content.into())
    }

    /// As [`read`](Self::read), in pieces: whether they are what was written is known at the end, where the
    /// last item may be an error.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub async fn open(&self, file: &FileRef) -> Result<Chunks> {
        let key = Key::root().descendant(&file.path);
        let key = key.ok_or_else(|| Error::corrupt(&file.path, "its path is not one of ours"))?;
        files::read(&self.folder, &key, file).await
    }
}

/// As [`show`], with a way to its files.
///
/// # Errors
/// As [`show`].
pub async fn point(
    uri: &str,
    checkpoint: Option<CheckpointId>,
    options: &StorageOptions,
) -> Result<Point> {
    let Some(id) = checkpoint else {
        let RestorePoint {
            manifest, folder, ..
        } = read_restore_point(uri, options).await?;
        let folder = Storage::open(&folder, options).await?;
        return Ok(Point { manifest, folder });
    };
    let folder = Storage::open(uri, options).await?;
    let manifest = by_number(uri, &folder, id).await?;
    Ok(Point { manifest, folder })
}

async fn by_number(uri: &str, folder: &Storage, id: CheckpointId) -> Result<Manifest> {
    let slots = Slots::in_folder(folder.clone(), Key::root());
    let mut survey = Survey::default();
    slots.survey(&mut survey).await?;
    let entries = checkpoints(&slots, &survey.records);
    // A number that an attempt did not decide may have been taken again: the newest counts.
    let entry = entries.iter().rev().find(|entry| entry.id == id);
    let found = match entry {
        Some(entry) => slots.manifest(entry.slot).await?,
        None => None,
    };
    found.ok_or_else(|| {
        let there: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
        Error::Missing {
            path: uri.to_owned(),
            reason: format!(
                "the chain has no checkpoint {id}; it has {}",
                if there.is_empty() {
                    "none".to_owned()
                } else {
                    there.join(", ")
                }
            ),
        }
    })
}

/// The job in whose folder a storage was opened, or all jobs below it.
async fn jobs(storage: &Storage) -> Result<Vec<Slots>> {
    let here = Slots::in_folder(storage.clone(), Key::root());
    if has_chain(&here).await? {
        return Ok(vec![here]);
    }
    let door = storage.door();
    let mut jobs = Vec::new();
    for namespace in door.folders(&Key::root()).await? {
        let folder = Key::from_store(namespace.clone());
        for name in door.folders(&folder).await? {
            let folder = Key::from_store(format!("{namespace}/{name}"));
            let slots = Slots::in_folder(storage.clone(), folder);
            if has_chain(&slots).await? {
                jobs.push(slots);
            }
        }
    }
    if jobs.is_empty() {
        return Err(Error::Missing {
            path: storage.uri().to_owned(),
            reason: "it is neither a checkpoint storage with a job in it nor a job's folder in one"
                .to_owned(),
        });
    }
    Ok(jobs)
}

async fn has_chain(slots: &Slots) -> Result<bool> {
    Ok(!slots.list_after(SlotNumber(0)).await?.is_empty())
}

async fn listing(slots: &Slots) -> Result<JobListing> {
    let mut survey = Survey::default();
    // A chain that does not fit together only because somebody writes fits at the next look.
    let fault = match slots.whole_view(&mut survey).await {
        Ok(_) => None,
        Err(error @ Error::Corrupt { .. }) => Some(error.to_string()),
        Err(error) => return Err(error),
    };
    let unreadable = survey.unreadable_slots();
    let view = View::of(&survey.records, &unreadable).ok();
    Ok(JobListing {
        path: slots.storage.address(&slots.folder),
        claim: claims(&survey.records).pop(),
        released: view
            .as_ref()
            .and_then(|view| Some(view.released.as_ref()?.reason)),
        deployment: view.as_ref().and_then(|view| view.deployment),
        swept_through: view.map(|view| view.swept_through).unwrap_or_default(),
        checkpoints: checkpoints(slots, &survey.records),
        savepoints: savepoint_folders(slots)
            .await?
            .iter()
            .map(|folder| slots.storage.address(folder))
            .collect(),
        fault,
    })
}

pub(crate) async fn savepoint_folders(slots: &Slots) -> Result<Vec<Key>> {
    let all = slots.folder.child("savepoints");
    let names = slots.storage.door().folders(&all).await?;
    let key =
        |name: &String| Key::from_store(format!("{all}/{name}").trim_start_matches('/').to_owned());
    Ok(names.iter().map(key).collect())
}
