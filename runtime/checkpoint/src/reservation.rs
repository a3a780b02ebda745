//! Names that only one job of a storage may use.

use millstream_types::JobId;
use serde::{Deserialize, Serialize};

use crate::envelope;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::storage::{Settled, Storage};

/// Body of a reservation's object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reservation {
    name: String,
    owner: JobId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity: Option<String>,
}

impl Reservation {
    /// Whether it is this job's.
    pub(crate) fn is_of(&self, job: &JobId) -> bool {
        self.owner == *job
    }
}

/// Where reservations lie below the storage root.
pub(crate) fn folder() -> Key {
    Key::new(&["reservations"])
}

/// Reserves a name for a job, for as long as the storage lives. The same job may reserve it
/// again, also under another identity: who may be that job is for its chain to say.
///
/// # Errors
/// [`Error::PathTaken`]: another job has reserved it; both are named.
pub async fn reserve(
    storage: &Storage,
    name: &str,
    owner: &JobId,
    identity: Option<&str>,
) -> Result<()> {
    let key = folder().child(&format!("{name}.json"));
    let sealed = envelope::seal(&Reservation {
        name: name.to_owned(),
        owner: owner.clone(),
        identity: identity.map(str::to_owned),
    })?;
    match storage.create_settled(&key, sealed.bytes).await? {
        Settled::Mine => Ok(()),
        Settled::Other(bytes) => judge(&storage.address(&key), &bytes, name, owner),
    }
}

/// Looks whether [`reserve`] would succeed, and reserves nothing.
///
/// # Errors
/// [`Error::PathTaken`]: another job has reserved it; both are named.
pub async fn ensure_not_reserved(storage: &Storage, name: &str, owner: &JobId) -> Result<()> {
    let key = folder().child(&format!("{name}.json"));
    match storage.read(&key).await? {
        None => Ok(()),
        Some(bytes) => judge(&storage.address(&key), &bytes, name, owner),
    }
}

/// Whether what is stored for a name is this job's.
fn judge(address: &str, bytes: &[u8], name: &str, owner: &JobId) -> Result<()> {
    let (existing, _) = envelope::open::<Reservation>(address, bytes)?;
    if existing.owner == *owner {
        return Ok(());
    }
    Err(Error::PathTaken {
        path: address.to_owned(),
        reason: format!(
            "`{name}` is reserved by job {}, and job {owner} asks for it too; give one of them another name, or delete the reservation if {} is gone for good",
            existing.owner, existing.owner
        ),
    })
}
