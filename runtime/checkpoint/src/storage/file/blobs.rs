//! Files in a directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};

use super::{FileDoor, create_folders, discard, sync_folder, take_name, temporary_path};
use crate::error::{Error, Result};
use crate::key::Key;
use crate::storage::blob::{Blobs, Chunks, Copied, Source};
use crate::storage::door::{Created, Door};

/// Bytes that are read or written at a time.
const PIECE_BYTES: usize = 1024 * 1024;

/// A file that has no name yet. It goes with its value.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// A new one beside `path`.
    fn beside(path: &Path) -> io::Result<Self> {
        create_folders(path.parent().unwrap_or(path))?;
        let path = temporary_path(path);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Self { path, file })
    }

    /// Makes it durable and gives it its name, if nobody has that.
    fn finish(self, path: &Path) -> io::Result<Created> {
        self.file.sync_all()?;
        let created = take_name(&self.path, path)?;
        if created == Created::New {
            sync_folder(path)?;
        }
        Ok(created)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        discard(&self.path);
    }
}

impl FileDoor {
    async fn write_chunks(&self, key: &Key, mut chunks: Chunks) -> Result<Created> {
        let mut temporary = self.run("create", key, Temporary::beside).await?;
        loop {
            let pieces = gather(&mut chunks, PIECE_BYTES).await?;
            if pieces.is_empty() {
                break;
            }
            let write = move |_: &Path| {
                for piece in &pieces {
                    temporary.file.write_all(piece)?;
                }
                Ok(temporary)
            };
            temporary = self.run("write", key, write).await?;
        }
        self.run("create", key, move |path| temporary.finish(path))
            .await
    }

    async fn read_chunks(&self, key: &Key, range: Option<Range<u64>>) -> Result<Option<Chunks>> {
        let Range { start, end } = range.unwrap_or(0..u64::MAX);
        let file = self.run("read", key, move |path| open(path, start)).await?;
        let Some(file) = file else {
            return Ok(None);
        };
        let address = self.address(key);
        let left = end.saturating_sub(start);
        let chunks = stream::try_unfold((file, left), move |(mut file, left)| {
            let address = address.clone();
            async move {
                let read = tokio::task::spawn_blocking(move || {
                    let piece = read_piece(&mut file, left)?;
                    Ok((piece, file))
                });
                let read = read.await.map_err(io::Error::other).flatten();
                let (piece, file) =
                    read.map_err(|error| Error::unavailable("read", address, error))?;
                let left = left.saturating_sub(u64::try_from(piece.len()).unwrap_or(u64::MAX));
                Ok((!piece.is_empty()).then_some((piece, (file, left))))
            }
        });
        Ok(Some(chunks.boxed()))
    }
}

/// The next pieces of a file, together at least so many bytes; fewer only at its end.
async fn gather(chunks: &mut Chunks, least: usize) -> Result<Vec<Bytes>> {
    let (mut gathered, mut bytes) = (Vec::new(), 0);
    while bytes < least {
        let Some(chunk) = chunks.try_next().await? else {
            break;
        };
        bytes += chunk.len();
        if !chunk.is_empty() {
            gathered.push(chunk);
        }
    }
    Ok(gathered)
}

fn open(path: &Path, start: u64) -> io::Result<Option<File>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    file.seek(SeekFrom::Start(start))?;
    Ok(Some(file))
}

/// The next piece of at most `left` bytes; empty at the end.
fn read_piece(file: &mut File, left: u64) -> io::Result<Bytes> {
    let most = left.min(u64::try_from(PIECE_BYTES).unwrap_or(u64::MAX));
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    file.take(most).read_to_end(&mut piece)?;
    Ok(piece.into())
}

fn copy(from: &Path, to: &Path) -> io::Result<Copied> {
    let mut source = match File::open(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Copied::Missing),
        source => source?,
    };
    if to.try_exists()? {
        return Ok(Copied::There);
    }
    let mut temporary = Temporary::beside(to)?;
    // The kernel copies, or shares blocks where the file system can.
    io::copy(&mut source, &mut temporary.file)?;
    temporary.finish(to)?;
    Ok(Copied::There)
}

impl Blobs for FileDoor {
    fn write_file<'a>(&'a self, key: &'a Key, chunks: Chunks) -> BoxFuture<'a, Result<Created>> {
        Box::pin(self.write_chunks(key, chunks))
    }

    fn read_file<'a>(
        &'a self,
        key: &'a Key,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Option<Chunks>>> {
        Box::pin(self.read_chunks(key, range))
    }

    fn file_bytes<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<u64>>> {
        self.run("look for", key, |path| match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            metadata => Ok(Some(metadata?.len())),
        })
    }

    fn place(&self, key: &Key) -> Source {
        Source::File(self.path(key))
    }

    fn copy_file<'a>(&'a self, from: &'a Source, to: &'a Key) -> BoxFuture<'a, Result<Copied>> {
        match from {
            Source::File(from) => {
                let from = from.clone();
                self.run("copy a file to", to, move |path| copy(&from, path))
            }
            #[cfg(feature = "s3")]
            Source::S3 { .. } => Box::pin(std::future::ready(Ok(Copied::Elsewhere))),
            #[cfg(feature = "hdfs")]
            Source::Hdfs => Box::pin(std::future::ready(Ok(Copied::Elsewhere))),
        }
    }
}
