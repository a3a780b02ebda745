//! Files of keyed state, as the tasks of an attempt write and read them.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use millstream_types::{Attempt, Bug, CheckpointId, FileRef, JobId, OperatorUid, SubtaskIndex};

use crate::error::{Error, Result};
use crate::key::Key;
use crate::manifest::Manifest;
use crate::protocol::files::DATA;
use crate::storage::{Chunks, Copied, Created, Storage, StorageOptions};

/// Largest file in bytes: what S3 copies with one request.
pub const MAX_FILE_BYTES: u64 = 5 * 1024 * 1024 * 1024;

/// Files that are copied at the same time.
pub(crate) const CONCURRENT_COPIES: usize = 4;

/// The files of one subtask of one attempt: what it writes carries its name.
#[derive(Debug, Clone)]
pub struct Files {
    storage: Storage,
    /// The job's folder.
    folder: Key,
    attempt: Attempt,
    subtask: SubtaskIndex,
}

impl Files {
    /// For a subtask of an attempt of a job.
    pub fn new(storage: Storage, job: &JobId, attempt: Attempt, subtask: SubtaskIndex) -> Self {
        Self {
            storage,
            folder: Key::new(&[&job.namespace, &job.name]),
            attempt,
            subtask,
        }
    }

    /// Writes a file of an operator for a checkpoint, and computes its checksum on the way. It is
    /// complete and durable when this returns, and may be named. Each name is used once, also after
    /// a failure: another try takes another name.
    ///
    /// # Errors
    /// [`Error::Unreadable`]: `chunks` has failed; there is no file. [`Error::Unavailable`]: whether
    /// there is a file is not known; it must not be named, and is deleted as garbage.
    /// [`Error::Rule`]: the name is taken, or the file is larger than [`MAX_FILE_BYTES`].
    ///
    /// # Cancel safety
    /// A cancelled write leaves no half file. Its name is used.
    pub async fn put<S>(
        &self,
        checkpoint: CheckpointId,
        operator: &OperatorUid,
        name: &str,
        chunks: S,
    ) -> Result<FileRef>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let (attempt, number) = (self.attempt.to_string(), checkpoint.to_string());
        let name = format!("{}-{name}", self.subtask);
        let below = Key::new(&[DATA, &attempt, &number, operator.as_str(), &name]);
        let key = self.key(below.as_str())?;
        let address = self.storage.address(&key);
        let tally = Tally::default();
        let chunks = tally.clone().counted(chunks, address.clone());
        let written = if Bug::AcknowledgedBeforeUpload.is_seeded() {
            write_later(self.storage.clone(), key, chunks).await;
            Ok(Created::New)
        } else {
            self.storage.blobs().write_file(&key, chunks).await
        };
        match written {
            Ok(Created::New) => {}
            Err(_) if Bug::FailedUploadNamed.is_seeded() => {}
            Err(error) => return Err(error),
            Ok(Created::Taken) => {
                return Err(Error::Rule(format!(
                    "{address} exists already: a name is used once"
                )));
            }
        }
        fail::fail_point!("checkpoint::file-uploaded", |_| std::process::abort());
        let counted = tally.counted_so_far();
        Ok(FileRef {
            path: below.as_str().to_owned(),
            bytes: counted.bytes,
            crc32c: counted.crc32c,
        })
    }

    /// Reads a file that a checkpoint of the job names. Whether it is what was written is known at its
    /// end: the last item may be an error.
    ///
    /// # Errors
    /// [`Error::Corrupt`]: it is missing or not what was written. [`Error::Unavailable`]: the store
    /// does not answer.
    pub async fn open(&self, file: &FileRef) -> Result<Chunks> {
        read(&self.storage, &self.key(&file.path)?, file).await
    }

    /// Reads a part of a file. Its length is checked, and nothing else: what reads parts has
    /// checksums of its own in them.
    ///
    /// # Errors
    /// As [`open`](Self::open); also [`Error::Rule`] for a range that leaves the file.
    pub async fn open_range(&self, file: &FileRef, range: Range<u64>) -> Result<Chunks> {
        let key = self.key(&file.path)?;
        let address = self.storage.address(&key);
        if range.start > range.end || range.end > file.bytes {
            return Err(Error::Rule(format!(
                "bytes {range:?} of {address} were asked for, which has {}",
                file.bytes
            )));
        }
        let bytes = range.end - range.start;
        let read = self.storage.blobs().read_file(&key, Some(range)).await?;
        let chunks = read.ok_or_else(|| missing(&address))?;
        Ok(checked(
            chunks,
            address,
            Expected {
                bytes,
                crc32c: None,
            },
        ))
    }

    fn key(&self, path: &str) -> Result<Key> {
        let key = self.folder.descendant(path);
        key.ok_or_else(|| Error::corrupt(path, "it is no path of a file of a chain"))
    }
}

/// Reads a file that is named and checks it on the way.
pub(crate) async fn read(storage: &Storage, key: &Key, file: &FileRef) -> Result<Chunks> {
    let address = storage.address(key);
    let read = storage.blobs().read_file(key, None).await?;
    let chunks = read.ok_or_else(|| missing(&address))?;
    let expected = Expected {
        bytes: file.bytes,
        crc32c: Some(file.crc32c),
    };
    Ok(checked(chunks, address, expected))
}

/// Copies a file that is named to another place, by the store itself where it can.
pub(crate) async fn copy(
    (from, source): (&Storage, &Key),
    (to, target): (&Storage, &Key),
    file: &FileRef,
) -> Result<()> {
    let place = from.blobs().place(source);
    match to.blobs().copy_file(&place, target).await? {
        Copied::There => {}
        Copied::Missing => return Err(missing(&from.address(source))),
        Copied::Elsewhere => {
            let chunks = read(from, source, file).await?;
            to.blobs().write_file(target, chunks).await?;
        }
    }
    let found = to.blobs().file_bytes(target).await?;
    if found == Some(file.bytes) {
        return Ok(());
    }
    let reason = format!(
        "{} were written, and its copy {} has {}",
        file.bytes,
        to.address(target),
        found.unwrap_or_default()
    );
    Err(Error::corrupt(from.address(source), reason))
}

/// Checks that the files of a manifest are there and have their sizes; what is in them is not looked at.
/// `folder` is the address of the folder that their paths lie in: a job's or a savepoint's.
///
/// # Errors
/// [`Error::Corrupt`]: one is missing or has another size. [`Error::Unavailable`]: the store does not
/// answer.
pub async fn check_files(
    manifest: &Manifest,
    folder: &str,
    options: &StorageOptions,
) -> Result<()> {
    let files: BTreeSet<&FileRef> = manifest.files().collect();
    if files.is_empty() {
        return Ok(());
    }
    let storage = Storage::open(folder, options).await?;
    let checks: Vec<_> = files
        .into_iter()
        .map(|file| check(&storage, file))
        .collect();
    stream::iter(checks)
        .buffer_unordered(CONCURRENT_COPIES)
        .try_collect()
        .await
}

async fn check(folder: &Storage, file: &FileRef) -> Result<()> {
    let key = Key::root().descendant(&file.path);
    let key = key.ok_or_else(|| Error::corrupt(&file.path, "its path is not one of ours"))?;
    let address = folder.address(&key);
    match folder.blobs().file_bytes(&key).await? {
        None => Err(missing(&address)),
        Some(found) if found != file.bytes => {
            let reason = format!("{} bytes were written, and it has {found}", file.bytes);
            Err(Error::corrupt(address, reason))
        }
        Some(_) => Ok(()),
    }
}

fn missing(address: &str) -> Error {
    Error::corrupt(address, "it is missing, but a checkpoint names it")
}

/// What has gone by of a file.
#[derive(Debug, Clone, Copy, Default)]
struct Counted {
    bytes: u64,
    crc32c: u32,
}

/// A seeded bug: a file counts as written when its writing begins.
#[expect(
    clippy::disallowed_methods,
    reason = "only a seeded bug leaves a write to itself"
)]
async fn write_later(storage: Storage, key: Key, chunks: Chunks) {
    let chunks: Vec<Result<Bytes>> = chunks.collect().await;
    let writing = async move {
        let chunks = stream::iter(chunks).boxed();
        drop(storage.blobs().write_file(&key, chunks).await);
    };
    drop(tokio::spawn(writing));
}

impl Counted {
    fn add(&mut self, chunk: &[u8]) {
        self.bytes += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
        self.crc32c = crc32c::crc32c_append(self.crc32c, chunk);
    }
}

/// Counts what a store takes of a file.
#[derive(Debug, Clone, Default)]
struct Tally(Arc<Mutex<Counted>>);

impl Tally {
    fn counted_so_far(&self) -> Counted {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counted<S>(self, chunks: S, address: String) -> Chunks
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let count = move |chunk: io::Result<Bytes>| {
            let chunk = chunk.map_err(|source| Error::Unreadable {
                object: address.clone(),
                source,
            })?;
            let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            counted.add(&chunk);
            if counted.bytes > MAX_FILE_BYTES {
                return Err(Error::Rule(format!(
                    "{address} would have more than {MAX_FILE_BYTES} bytes"
                )));
            }
            Ok(chunk)
        };
        chunks.map(count).boxed()
    }
}

/// What a reading must come to.
#[derive(Debug, Clone, Copy)]
struct Expected {
    bytes: u64,
    crc32c: Option<u32>,
}

impl Expected {
    fn check(self, counted: Counted) -> std::result::Result<(), String> {
        if counted.bytes != self.bytes {
            return Err(format!(
                "it has {} bytes, {} were written",
                counted.bytes, self.bytes
            ));
        }
        match self.crc32c {
            Some(crc32c) if crc32c != counted.crc32c => Err(format!(
                "its CRC-32C is {:08x}, {crc32c:08x} was written",
                counted.crc32c
            )),
            _ => Ok(()),
        }
    }
}

/// The same bytes; at their end an error if they are not what was written.
fn checked(chunks: Chunks, address: String, expected: Expected) -> Chunks {
    let begun = (chunks, Counted::default());
    let checked = stream::try_unfold(begun, move |(mut chunks, mut counted)| {
        let address = address.clone();
        async move {
            let chunk = chunks.try_next().await?;
            if let Some(chunk) = &chunk {
                counted.add(chunk);
            }
            if chunk.is_none() || counted.bytes > expected.bytes {
                let check = expected.check(counted);
                check.map_err(|reason| Error::corrupt(address, reason))?;
            }
            Ok(chunk.map(|chunk| (chunk, (chunks, counted))))
        }
    });
    checked.boxed()
}
