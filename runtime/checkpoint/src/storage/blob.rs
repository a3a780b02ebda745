//! What a store must be able to do with files that do not fit into memory.

use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::error::Result;
use crate::key::Key;
use crate::storage::door::{Created, Door};

/// A file's bytes as they come or go, in pieces of any size.
pub type Chunks = BoxStream<'static, Result<Bytes>>;

/// Where a file lies, so that a store knows whether it is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// In a directory.
    File(PathBuf),
    /// In S3.
    #[cfg(feature = "s3")]
    S3 {
        /// Address of the service; none for AWS.
        service: Option<String>,
        /// `bucket/key`
        object: String,
    },
    /// In HDFS, which copies nothing by itself.
    #[cfg(feature = "hdfs")]
    Hdfs,
}

/// What a copy came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copied {
    /// It is there: by this copy, or already.
    There,
    /// There is nothing to copy.
    Missing,
    /// The file lies in another store: its bytes must be read and written.
    Elsewhere,
}

/// A store of files. As with objects, an error of the store never says that a write did not happen;
/// an error of what is to be written says so.
///
/// # Cancel safety
/// A cancelled write leaves no file of the name, unless its last request was on its way. What else it
/// leaves is removed at once or by
/// [`remove_unfinished`](crate::storage::door::Door::remove_unfinished).
pub(crate) trait Blobs: Door {
    /// Writes a file, complete or not at all, if there is none of the name. Durable when it returns.
    /// Needs memory for a few pieces, whatever the file's size.
    fn write_file<'a>(&'a self, key: &'a Key, chunks: Chunks) -> BoxFuture<'a, Result<Created>>;

    /// Reads a file, or the part of it that lies in a range; `None` if there is none. The caller
    /// counts what comes.
    fn read_file<'a>(
        &'a self,
        key: &'a Key,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Option<Chunks>>>;

    /// Size of a file in bytes; `None` if there is none.
    fn file_bytes<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<u64>>>;

    /// Where a file lies.
    fn place(&self, key: &Key) -> Source;

    /// Copies a file within the store, without its bytes coming here. What is there already under the
    /// name may be overwritten or stay: only the same is ever copied to a name.
    fn copy_file<'a>(&'a self, from: &'a Source, to: &'a Key) -> BoxFuture<'a, Result<Copied>>;
}
