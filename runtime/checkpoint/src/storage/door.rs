//! What a checkpoint store must be able to do.

use std::fmt;

use bytes::Bytes;
use futures::future::BoxFuture;

use crate::error::Result;
use crate::key::Key;

/// How a conditional write ended, if the store answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// The object was not there and is now what was given.
    New,
    /// The name was taken, possibly by an earlier try of the same write.
    Taken,
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its path below the storage root.
    pub(crate) key: Key,
    /// Its path below the folder that was listed.
    pub(crate) name: String,
    /// Its size in bytes.
    pub(crate) bytes: u64,
}

impl Listed {
    /// The object of this path below a folder.
    pub(crate) fn below(folder: &Key, name: String, bytes: u64) -> Self {
        let path = if folder.as_str().is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        Self {
            key: Key::from_store(path),
            name,
            bytes,
        }
    }
}

/// A store of objects. An error of a write never says that it did not happen.
pub(crate) trait Door: Send + Sync + fmt::Debug {
    /// Address of an object, for people.
    fn address(&self, key: &Key) -> String;

    /// Creates an object, complete or not at all, if there is none of the name. Durable when it
    /// returns.
    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<Created>>;

    /// Makes an object durable that a write with an unknown outcome has left.
    fn confirm<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>>;

    /// Writes an object, complete or not at all, over whatever is there.
    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<()>>;

    /// Reads an object, at most its first `most` bytes; `None` if there is none.
    fn read<'a>(&'a self, key: &'a Key, most: usize) -> BoxFuture<'a, Result<Option<Bytes>>>;

    /// All objects below a folder whose names are after `after`, in order of their names.
    fn list<'a>(
        &'a self,
        folder: &'a Key,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>>>;

    /// Names of the folders in a folder, in order.
    fn folders<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, Result<Vec<String>>>;

    /// Deletes an object. It is no error if there is none.
    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>>;

    /// Removes what unfinished writes have left below a folder, as far as `of` says so of the
    /// path, below the folder, of the object that was being written. Returns how many.
    fn remove_unfinished<'a>(
        &'a self,
        folder: &'a Key,
        of: &'a (dyn Fn(&str) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Result<u64>>;
}
