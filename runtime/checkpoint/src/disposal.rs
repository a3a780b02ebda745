//! Deleting savepoints and whole jobs, for whoever they belong to. What is already gone is no
//! error, so that everything here may be repeated after it was cut off anywhere.

use millstream_types::{JobId, Timestamp};

use crate::chain::Chain;
use crate::chain::slots::Slots;
use crate::chain::survey::Survey;
use crate::envelope;
use crate::error::{Error, Result};
use crate::inspect::savepoint_folders;
use crate::key::Key;
use crate::protocol::files::DATA;
use crate::protocol::{Mark, Records};
use crate::release::ReleaseReason;
use crate::reservation::{self, Reservation};
use crate::savepoint::{self, MANIFEST};
use crate::slot::Holder;
use crate::storage::{Storage, StorageOptions, split_last};

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disposed {
    /// Decided checkpoints.
    pub checkpoints: u64,
    /// Savepoints, also unfinished ones.
    pub savepoints: u64,
    /// Reserved names.
    pub reservations: u64,
    /// Prepared transactions that the newest checkpoint listed and nobody has confirmed to be
    /// committed: their output is lost.
    pub uncommitted: u64,
}

impl Disposed {
    /// Whether there was nothing to delete.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Deletes the savepoint at an address: its folder, or the `manifest.json` in it.
///
/// # Errors
/// [`Error::Missing`]: something else lies there; nothing was deleted. [`Error::Corrupt`]: it
/// cannot be told whether it is a savepoint.
pub async fn delete_savepoint(uri: &str, options: &StorageOptions) -> Result<Disposed> {
    let uri = uri.trim_end_matches('/');
    let folder = match split_last(uri) {
        Some((folder, name)) if name == MANIFEST => folder,
        _ => uri,
    };
    let refused = |reason: String| Error::Missing {
        path: uri.to_owned(),
        reason: format!("{reason}; nothing was deleted"),
    };
    // From one level above, so that the folder itself goes with the last object in it.
    let Some((parent, name)) = split_last(folder) else {
        return Err(refused("it is a whole storage".to_owned()));
    };
    let storage = Storage::open(parent, options).await?;
    let folder = Key::from_store(name.to_owned());
    if storage.door().read(&folder, 1).await?.is_some() {
        let what = "it is one object, such as a checkpoint of a chain, and a savepoint is a folder";
        return Err(refused(what.to_owned()));
    }
    if savepoint::read_folder(&storage, &folder).await?.is_none()
        && let Some(other) = foreign(&storage, &folder).await?
    {
        return Err(refused(format!("it is no savepoint, it holds {other}")));
    }
    Ok(Disposed {
        savepoints: u64::from(delete_folder(&storage, &folder).await?),
        ..Disposed::default()
    })
}

/// The first object in a folder that no savepoint has.
async fn foreign(storage: &Storage, folder: &Key) -> Result<Option<String>> {
    let listed = storage.door().list(folder, None).await?;
    let mut names = listed.into_iter().map(|listed| listed.name);
    Ok(names.find(|name| !savepoint::is_part(name)))
}

/// Deletes what belongs to a savepoint in a folder, its manifest first: it is whole, or it is no
/// savepoint any more. Whether there was anything.
async fn delete_folder(storage: &Storage, folder: &Key) -> Result<bool> {
    let door = storage.door();
    let manifest = folder.child(MANIFEST);
    let parts = door.list(folder, None).await?;
    let mut parts: Vec<Key> = parts
        .into_iter()
        .filter(|listed| savepoint::is_part(&listed.name))
        .map(|listed| listed.key)
        .collect();
    parts.sort_by_key(|key| *key != manifest);
    let unfinished = door.remove_unfinished(folder, &|_| true).await?;
    for key in &parts {
        door.delete(key).await?;
    }
    if unfinished > 0 && parts.is_empty() {
        // The last object of a folder takes the folder with it.
        door.delete(&manifest).await?;
    }
    Ok(!parts.is_empty() || unfinished > 0)
}

/// What of a job is to be deleted, and by whom.
#[derive(Debug, Clone)]
pub struct JobDisposal {
    /// Which job.
    pub job: JobId,
    /// Who deletes. With a deployment, only if the chain has no newer one; with an identity, only
    /// if no job of another identity holds the chain.
    pub holder: Holder,
    /// Leave its savepoints.
    pub keep_savepoints: bool,
}

/// Deletes all that a job has in a storage. Its chain is claimed for that, so that a coordinator
/// that still runs is fenced; claims and releases stay, as they must.
///
/// # Errors
/// [`Error::Superseded`], [`Error::PathTaken`]: the holder may not; nothing was deleted. Otherwise
/// the store does not answer, and the next call goes on.
pub async fn delete_job(
    storage: &Storage,
    disposal: &JobDisposal,
    now: Timestamp,
) -> Result<Disposed> {
    let chain = Chain::new(storage.clone(), disposal.job.clone());
    let slots = Slots::of_job(storage.clone(), disposal.job.clone());
    let mut disposed = Disposed::default();
    if has_state(&slots).await? {
        let holder = disposal.holder.clone();
        let (mut claimed, state) = chain.claim_to_delete(holder, now).await?;
        if let Some(newest) = state.newest.filter(|_| claimed.recovery_permit().is_some()) {
            let listed = newest.committing_operators();
            let count = listed.map(|uid| newest.committables(uid).len()).sum();
            disposed.uncommitted = length(count);
        }
        disposed.checkpoints = length(state.checkpoints.len());
        claimed.release(ReleaseReason::Deleted).await?;
        claimed.collect_garbage(1).await?;
    }
    if !disposal.keep_savepoints {
        for folder in savepoint_folders(&slots).await? {
            disposed.savepoints += u64::from(delete_folder(storage, &folder).await?);
        }
    }
    disposed.reservations = release_names(storage, &disposal.job).await?;
    Ok(disposed)
}

/// Whether a job's folder holds more than the fences of a deleted job.
async fn has_state(slots: &Slots) -> Result<bool> {
    let mut survey = Survey::default();
    slots.survey(&mut survey).await?;
    if !survey.unreadable.is_empty() || !is_deleted(&survey.records) {
        return Ok(!survey.records.is_empty() || !survey.unreadable.is_empty());
    }
    let data = slots.folder.child(DATA);
    Ok(!slots.storage.door().list(&data, None).await?.is_empty())
}

/// Whether a chain ends with its deletion and nothing else is left of it.
fn is_deleted(records: &Records) -> bool {
    let deleted = |mark: &Mark| matches!(mark, Mark::Released(release) if release.reason == ReleaseReason::Deleted);
    let fences = |mark: &Mark| matches!(mark, Mark::Claim(_) | Mark::Released(_));
    let mut marks = records.values().map(|record| &record.mark);
    marks.next_back().is_some_and(deleted) && marks.all(fences)
}

async fn release_names(storage: &Storage, job: &JobId) -> Result<u64> {
    let mut released = 0;
    for listed in storage.door().list(&reservation::folder(), None).await? {
        let Some(bytes) = storage.read(&listed.key).await? else {
            continue;
        };
        let address = storage.address(&listed.key);
        match envelope::open::<Reservation>(&address, &bytes) {
            Ok((reservation, _)) if reservation.is_of(job) => {
                storage.door().delete(&listed.key).await?;
                released += 1;
            }
            Ok(_) => {}
            // Somebody else's, as far as anybody can tell.
            Err(error) => tracing::warn!(%error, "reservation not looked at"),
        }
    }
    Ok(released)
}

fn length(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
