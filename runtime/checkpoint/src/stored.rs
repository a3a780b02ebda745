//! Manifests where slots and savepoints can name them: inside, or in an object beside.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_types::Attempt;

use crate::envelope::{self, MAX_OBJECT_BYTES};
use crate::error::{Error, Result};
use crate::key::{Key, escape};
use crate::manifest::{Encoded, Manifest};
use crate::slot::{Large, ObjectRef, Stored, check_manifest};
use crate::storage::Storage;

/// Manifests above this many bytes lie in an object of their own.
const MAX_INLINE_BYTES: usize = 4 * 1024 * 1024;

/// Reads the manifest that a slot or savepoint holds or names. Paths are below `folder`.
pub(crate) async fn load(
    storage: &Storage,
    folder: &Key,
    attempt: Attempt,
    stored: Stored,
) -> Result<Manifest> {
    let object = match stored {
        Stored::Manifest(encoded) => {
            let manifest = encoded.into_manifest();
            check_manifest(&storage.address(folder), &manifest, attempt)?;
            return Ok(manifest);
        }
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
    if !usize::try_from(object.bytes).is_ok_and(|bytes| bytes <= MAX_OBJECT_BYTES) {
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
    manifest: Encoded,
) -> Result<Stored> {
    if manifest.bytes() <= MAX_INLINE_BYTES {
        return Ok(Stored::Manifest(Box::new(manifest)));
    }
    let key = path
        .iter()
        .fold(folder.clone(), |key, segment| key.child(segment));
    let sealed = envelope::seal(&manifest)?;
    let bytes = u64::try_from(sealed.bytes.len()).unwrap_or(u64::MAX);
    let manifest = manifest.manifest();
    if sealed.bytes.len() > MAX_OBJECT_BYTES {
        return Err(Error::Rule(format!(
            "the manifest of checkpoint {} has {bytes} bytes, more than the {MAX_OBJECT_BYTES} that can be read back",
            manifest.checkpoint
        )));
    }
    storage.door().put(&key, sealed.bytes).await?;
    let escaped: Vec<String> = path.iter().map(|segment| escape(segment)).collect();
    let files: BTreeSet<&str> = manifest.files().map(|file| file.path.as_str()).collect();
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
        files: files.into_iter().map(str::to_owned).collect(),
        state_bytes: manifest.state_bytes(),
    }))
}
