//! Savepoints of earlier coordinators: what lies in the store under a name.

use millstream_checkpoint::{Manifest, Storage, StorageOptions, read_savepoint};
use millstream_types::api::{CheckpointState, SavepointStatus};
use millstream_types::{ErrorCode, Failure, JobId};

/// Where to look.
#[derive(Debug, Clone)]
pub(super) struct SavepointFolder {
    pub(super) storage_uri: String,
    pub(super) options: StorageOptions,
    pub(super) job: JobId,
}

/// How a savepoint in the store stands; `None` if there is none of the name.
pub(super) async fn look_up(
    folder: SavepointFolder,
    name: String,
) -> Result<Option<SavepointStatus>, Failure> {
    let SavepointFolder {
        storage_uri,
        options,
        job,
    } = folder;
    let storage = Storage::open(&storage_uri, &options).await?;
    let chain = millstream_checkpoint::Chain::new(storage, job);
    let path = format!("{}/savepoints/{name}", chain.path());
    // Its folder could also be read as that of a job, so the object is named.
    let object = format!("{path}/manifest.json");
    match read_savepoint(&object, &options).await {
        Ok(manifest) => Ok(Some(SavepointStatus {
            name,
            state: CheckpointState::Completed,
            id: Some(manifest.checkpoint),
            path: Some(path),
            size_bytes: Some(size(&manifest)),
            failure: None,
        })),
        Err(error) => {
            let failure = Failure::from(error);
            if failure.code == ErrorCode::CheckpointMissing {
                Ok(None)
            } else {
                Err(failure)
            }
        }
    }
}

/// Bytes of a manifest as it is stored, and of the files that it names.
fn size(manifest: &Manifest) -> u64 {
    let stored = serde_json::to_vec(manifest);
    let stored = stored.map_or(0, |bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    stored.saturating_add(manifest.state_bytes())
}
