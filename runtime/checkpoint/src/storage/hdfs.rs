//! Checkpoints in HDFS.
//!
//! As in a directory, an object is written to a temporary file beside it, made durable, and renamed
//! without overwriting ([`millstream_hdfs`]). What a rename came to whose answer is lost is never
//! guessed: objects of the chain are read and compared, and a file of state is its writer's, because
//! nobody else renames a file of this nonce, and names are used once.

use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use millstream_hdfs::{Error as HdfsError, Hdfs, HdfsOptions, Named};

use super::temporary::{self, final_name, is_temporary};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::storage::Rounds;
use crate::storage::blob::{Blobs, Chunks, Copied, Source};
use crate::storage::door::{Created, Door, Listed};

/// A directory in HDFS as a store.
#[derive(Debug)]
pub(crate) struct HdfsDoor {
    hdfs: Hdfs,
    /// Absolute, without `/` at its end; empty for the root.
    root: String,
}

impl HdfsDoor {
    /// Prepares a client; asks no NameNode.
    ///
    /// # Errors
    /// [`Error::Address`]: there is no NameNode to ask.
    pub(crate) fn new(
        uri: &str,
        authority: &str,
        path: &str,
        options: &HdfsOptions,
    ) -> Result<Self> {
        let hdfs = Hdfs::new(authority, options.clone()).map_err(|error| Error::Address {
            uri: uri.to_owned(),
            reason: error.to_string(),
        })?;
        let root = if path.is_empty() {
            String::new()
        } else {
            format!("/{path}")
        };
        Ok(Self { hdfs, root })
    }

    fn path(&self, key: &Key) -> String {
        // A key's segments are escaped, or come from a listing of this directory.
        if key.as_str().is_empty() && !self.root.is_empty() {
            self.root.clone()
        } else {
            format!("{}/{key}", self.root)
        }
    }

    /// A path beside that of an object, which nobody else takes.
    fn temporary(&self, key: &Key) -> String {
        let path = self.path(key);
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        format!("{folder}/{}", temporary::name(name))
    }

    fn error(&self, operation: &'static str, key: &Key, error: HdfsError) -> Error {
        Error::Unavailable {
            operation,
            object: self.address(key),
            is_refusal: error.is_refusal(),
            source: error.into(),
        }
    }

    async fn create_object(&self, key: &Key, bytes: &Bytes) -> Result<Created> {
        let failed = |error| self.error("create", key, error);
        let path = self.path(key);
        if self.hdfs.bytes(&path).await.map_err(failed)?.is_some() {
            return Ok(Created::Taken);
        }
        let temporary = self.temporary(key);
        self.hdfs.write(&temporary, bytes).await.map_err(failed)?;
        match self.hdfs.name(&temporary, &path).await {
            Ok(Named::New) => Ok(Created::New),
            // Whoever asks for it compares what has the name with what was to have it.
            Ok(Named::Taken | Named::SourceMissing) => Ok(Created::Taken),
            Err(error) => {
                self.hdfs.discard(&temporary).await;
                Err(failed(error))
            }
        }
    }

    async fn put_object(&self, key: &Key, bytes: &Bytes) -> Result<()> {
        let failed = |error| self.error("write", key, error);
        let temporary = self.temporary(key);
        self.hdfs.write(&temporary, bytes).await.map_err(failed)?;
        let named = self.hdfs.name_over(&temporary, &self.path(key)).await;
        if named.is_err() {
            self.hdfs.discard(&temporary).await;
        }
        named.map_err(failed)
    }

    async fn write_chunks(&self, key: &Key, chunks: Chunks) -> Result<Created> {
        let temporary = self.temporary(key);
        let pieces = chunks.map_err(Piece::Source);
        let written = self.hdfs.write_pieces(&temporary, pieces).await;
        written.map_err(|error| match error {
            Piece::Source(error) => error,
            Piece::Hdfs(error) => self.error("write", key, error),
        })?;
        self.name_file(key, &temporary).await
    }

    /// Gives a complete file its name, and finds out what came of it.
    async fn name_file(&self, key: &Key, temporary: &str) -> Result<Created> {
        let failed = |error| self.error("create", key, error);
        let path = self.path(key);
        let mut rounds = Rounds::default();
        loop {
            match self.hdfs.name(temporary, &path).await {
                Ok(Named::New) => return Ok(Created::New),
                Ok(Named::Taken) => return Ok(Created::Taken),
                // An earlier round has renamed it.
                Ok(Named::SourceMissing) => {
                    let there = self.hdfs.bytes(&path).await.map_err(failed)?;
                    let gone = || failed(HdfsError::NotFound(temporary.to_owned()));
                    return there.map(|_| Created::New).ok_or_else(gone);
                }
                Err(error) => {
                    if let Err(error) = rounds.again(failed(error)).await {
                        self.hdfs.discard(temporary).await;
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn list_objects(&self, folder: &Key) -> Result<Vec<Listed>> {
        let found = self.hdfs.walk(&self.path(folder)).await;
        let found = found.map_err(|error| self.error("list", folder, error))?;
        let listed = found.into_iter();
        let mut listed: Vec<Listed> = listed
            .map(|entry| Listed::below(folder, entry.name, entry.bytes))
            .collect();
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(listed)
    }

    async fn delete_object(&self, key: &Key) -> Result<()> {
        let deleted = self.hdfs.delete(&self.path(key)).await;
        deleted.map_err(|error| self.error("delete", key, error))?;
        self.remove_empty_folders(key).await
    }

    /// Removes the folders above an object that have become empty. The storage's own stays.
    async fn remove_empty_folders(&self, key: &Key) -> Result<()> {
        let mut below = key.as_str();
        while let Some((folder, _)) = below.rsplit_once('/') {
            match self.hdfs.delete(&format!("{}/{folder}", self.root)).await {
                Ok(_) => below = folder,
                Err(HdfsError::NotEmpty(_)) => break,
                Err(error) => return Err(self.error("delete the folder of", key, error)),
            }
        }
        Ok(())
    }
}

/// Why a file was not written: what was to be in it, or HDFS.
enum Piece {
    Source(Error),
    Hdfs(HdfsError),
}

impl From<HdfsError> for Piece {
    fn from(error: HdfsError) -> Self {
        Self::Hdfs(error)
    }
}

impl Door for HdfsDoor {
    fn address(&self, key: &Key) -> String {
        let address = format!("hdfs://{}{}", self.hdfs.authority(), self.path(key));
        address.trim_end_matches('/').to_owned()
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<Created>> {
        Box::pin(async move { self.create_object(key, &bytes).await })
    }

    fn confirm<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<()>> {
        // A file is durable before it has its name, and a name before the NameNode answers.
        Box::pin(std::future::ready(Ok(())))
    }

    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.put_object(key, &bytes).await })
    }

    fn read<'a>(&'a self, key: &'a Key, most: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let read = self.hdfs.read(&self.path(key), most).await;
            read.map_err(|error| self.error("read", key, error))
        })
    }

    fn list<'a>(
        &'a self,
        folder: &'a Key,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>>> {
        Box::pin(async move {
            let mut listed = self.list_objects(folder).await?;
            listed.retain(|listed| {
                !is_temporary(&listed.name) && after.is_none_or(|after| *listed.name > *after)
            });
            Ok(listed)
        })
    }

    fn folders<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let names = self.hdfs.directories(&self.path(folder)).await;
            names.map_err(|error| self.error("list", folder, error))
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.delete_object(key))
    }

    fn remove_unfinished<'a>(
        &'a self,
        folder: &'a Key,
        of: &'a (dyn Fn(&str) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async move {
            let mut removed = 0;
            for found in self.list_objects(folder).await? {
                if final_name(&found.name).is_some_and(|name| of(&name)) {
                    // Its writer may still have it open; a file that is deleted has no writer.
                    self.delete_object(&found.key).await?;
                    removed += 1;
                }
            }
            Ok(removed)
        })
    }
}

impl Blobs for HdfsDoor {
    fn write_file<'a>(&'a self, key: &'a Key, chunks: Chunks) -> BoxFuture<'a, Result<Created>> {
        Box::pin(self.write_chunks(key, chunks))
    }

    fn read_file<'a>(
        &'a self,
        key: &'a Key,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Option<Chunks>>> {
        Box::pin(async move {
            let opened = self.hdfs.open(&self.path(key), range).await;
            let opened = opened.map_err(|error| self.error("read", key, error))?;
            let address = self.address(key);
            Ok(opened.map(|pieces| {
                let error = move |error| Error::unavailable("read", address.clone(), error);
                pieces.map_err(error).boxed()
            }))
        })
    }

    fn file_bytes<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move {
            let bytes = self.hdfs.bytes(&self.path(key)).await;
            bytes.map_err(|error| self.error("look for", key, error))
        })
    }

    fn place(&self, _: &Key) -> Source {
        Source::Hdfs
    }

    fn copy_file<'a>(&'a self, _: &'a Source, _: &'a Key) -> BoxFuture<'a, Result<Copied>> {
        // Nothing is copied within HDFS without a client that reads and writes.
        Box::pin(std::future::ready(Ok(Copied::Elsewhere)))
    }
}
