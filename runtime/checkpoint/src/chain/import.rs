//! State from elsewhere: its files are copied before the chain names them.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};

use crate::chain::ClaimedChain;
use crate::error::{Error, Result};
use crate::files::{CONCURRENT_COPIES, copy};
use crate::key::Key;
use crate::manifest::Manifest;
use crate::protocol::files::{DATA, File};
use crate::storage::{Storage, StorageOptions, split_last};

/// Folder of what was copied for a checkpoint that an attempt begins with.
const IMPORTED: &str = "imported";

/// Whether a file was copied from elsewhere.
pub(super) fn is_imported(file: &File) -> bool {
    file.path.split('/').nth(3) == Some(IMPORTED)
}

impl ClaimedChain {
    /// Copies all files that a manifest names into this chain, and makes it name the copies. It is to
    /// be decided next, and may name no others then: those of another chain or savepoint are not
    /// this job's, and those of an older checkpoint of this chain may be deleted at any time.
    ///
    /// `folder` is the address of the folder that the manifest's paths lie in: a job's or a
    /// savepoint's.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: a file is missing or is not what was written. [`Error::Unavailable`]: a
    /// store does not answer. Then the manifest must not be used.
    pub async fn import_files(
        &self,
        manifest: &mut Manifest,
        folder: &str,
        options: &StorageOptions,
    ) -> Result<()> {
        if manifest.files().next().is_none() {
            return Ok(());
        }
        let from = Storage::open(folder, options).await?;
        let slots = &self.chain.slots;
        let (attempt, id) = (self.attempt.to_string(), manifest.checkpoint.to_string());
        let mut copies = BTreeMap::new();
        for file in manifest.files_mut() {
            let wrong = || {
                Error::corrupt(
                    format!("{folder}/{}", file.path),
                    "its path is not one of ours",
                )
            };
            let source = Key::root().descendant(&file.path).ok_or_else(wrong)?;
            let number = copies.len().to_string();
            let (_, name) = split_last(&file.path).ok_or_else(wrong)?;
            // Several subtasks may share a file.
            let (path, _) = copies.entry(source).or_insert_with(|| {
                let name = format!("{number}-{name}");
                let path = Key::new(&[DATA, &attempt, &id, IMPORTED]).child(&name);
                (path, file.clone())
            });
            file.path = path.as_str().to_owned();
        }
        let copies: Vec<_> = copies
            .iter()
            .filter_map(|(source, (path, file))| {
                Some((source, slots.folder.descendant(path.as_str())?, file))
            })
            .collect();
        let copies: Vec<_> = copies
            .iter()
            .map(|(source, target, file)| copy((&from, source), (&slots.storage, target), file))
            .collect();
        stream::iter(copies)
            .buffer_unordered(CONCURRENT_COPIES)
            .try_collect()
            .await
    }
}
