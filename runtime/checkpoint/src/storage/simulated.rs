//! A store that a simulator keeps: every request is a value that is answered when it likes.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Error, Result};
use crate::key::Key;
use crate::storage::blob::{Blobs, Chunks, Copied, Source};
use crate::storage::door::{Created, Door, Listed};

thread_local! {
    static STORE: RefCell<Option<Arc<dyn Store>>> = const { RefCell::new(None) };
}

/// What [`Storage::open`](crate::Storage::open) opens on this thread from now on, instead of what
/// the address names.
pub fn install(store: Option<Arc<dyn Store>>) {
    STORE.set(store);
}

/// A store of objects by their paths.
pub trait Store: Send + Sync + fmt::Debug {
    /// Answers a request. An error never says that a write did not happen.
    fn ask(&self, request: Request) -> BoxFuture<'static, Answer>;

    /// A name that nobody else makes.
    fn nonce(&self) -> String;
}

/// How a request ended, or why it is not known to have.
pub type Answer = std::result::Result<Reply, String>;

/// What a store is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Store an object unless there is one of the name.
    Create(String, Bytes),
    /// Store an object over whatever is there.
    Put(String, Bytes),
    /// Read an object.
    Read(String),
    /// All objects below a folder, in order of their paths.
    List(String),
    /// Delete an object, if it is there.
    Delete(String),
}

/// What a store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Done.
    Done,
    /// Not created: the name is taken.
    Taken,
    /// The object.
    Object(Option<Bytes>),
    /// Paths and sizes.
    Listing(Vec<(String, u64)>),
}

/// The door to a place in the store of this thread.
pub(super) fn door(uri: &str) -> Option<Arc<dyn Blobs>> {
    let store = STORE.with_borrow(Clone::clone)?;
    let root = uri.trim_start_matches("file://").trim_matches('/');
    Some(Arc::new(SimulatedDoor {
        root: format!("{root}/"),
        store,
    }))
}

pub(crate) fn nonce() -> Option<String> {
    STORE.with_borrow(|store| store.as_ref().map(|store| store.nonce()))
}

#[derive(Debug)]
struct SimulatedDoor {
    root: String,
    store: Arc<dyn Store>,
}

impl SimulatedDoor {
    fn path(&self, key: &Key) -> String {
        format!("{}{key}", self.root)
    }

    async fn ask(&self, operation: &'static str, key: &Key, request: Request) -> Result<Reply> {
        let answer = self.store.ask(request).await;
        answer.map_err(|reason| Error::unavailable(operation, self.address(key), reason))
    }

    async fn listing(&self, folder: &Key) -> Result<Vec<Listed>> {
        let below = self.path(folder);
        let request = Request::List(below.clone());
        let Reply::Listing(found) = self.ask("list", folder, request).await? else {
            return Ok(Vec::new());
        };
        let listed = found.into_iter().filter_map(|(path, bytes)| {
            let name = path.strip_prefix(&below)?.trim_start_matches('/');
            Some(Listed {
                name: name.to_owned(),
                key: Key::from_store(path.strip_prefix(&self.root)?.to_owned()),
                bytes,
            })
        });
        Ok(listed.collect())
    }
}

impl Door for SimulatedDoor {
    fn address(&self, key: &Key) -> String {
        format!("file:///{}{key}", self.root)
    }

    fn create<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<Created>> {
        Box::pin(async move {
            let request = Request::Create(self.path(key), bytes);
            let taken = self.ask("create", key, request).await? == Reply::Taken;
            Ok(if taken { Created::Taken } else { Created::New })
        })
    }

    fn confirm<'a>(&'a self, _: &'a Key) -> BoxFuture<'a, Result<()>> {
        Box::pin(async { Ok(()) })
    }

    fn put<'a>(&'a self, key: &'a Key, bytes: Bytes) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let request = Request::Put(self.path(key), bytes);
            self.ask("write", key, request).await.map(drop)
        })
    }

    fn read<'a>(&'a self, key: &'a Key, most: usize) -> BoxFuture<'a, Result<Option<Bytes>>> {
        Box::pin(async move {
            let request = Request::Read(self.path(key));
            Ok(match self.ask("read", key, request).await? {
                Reply::Object(object) => object.map(|bytes| bytes.slice(..bytes.len().min(most))),
                Reply::Done | Reply::Taken | Reply::Listing(_) => None,
            })
        })
    }

    fn list<'a>(
        &'a self,
        folder: &'a Key,
        after: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<Listed>>> {
        Box::pin(async move {
            let mut found = self.listing(folder).await?;
            found.retain(|listed| after.is_none_or(|after| listed.name.as_str() > after));
            Ok(found)
        })
    }

    fn folders<'a>(&'a self, folder: &'a Key) -> BoxFuture<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let found = self.listing(folder).await?;
            let names = found
                .iter()
                .filter_map(|listed| listed.name.split_once('/'));
            let mut names: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
            names.dedup();
            Ok(names)
        })
    }

    fn delete<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let request = Request::Delete(self.path(key));
            self.ask("delete", key, request).await.map(drop)
        })
    }

    fn remove_unfinished<'a>(
        &'a self,
        _: &'a Key,
        _: &'a (dyn Fn(&str) -> bool + Send + Sync),
    ) -> BoxFuture<'a, Result<u64>> {
        Box::pin(async { Ok(0) })
    }
}

/// Files are small here: each is an object.
impl Blobs for SimulatedDoor {
    fn write_file<'a>(&'a self, key: &'a Key, chunks: Chunks) -> BoxFuture<'a, Result<Created>> {
        Box::pin(async move {
            let chunks: Vec<Bytes> = chunks.try_collect().await?;
            self.create(key, chunks.concat().into()).await
        })
    }

    fn read_file<'a>(
        &'a self,
        key: &'a Key,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'a, Result<Option<Chunks>>> {
        Box::pin(async move {
            let file = self.read(key, usize::MAX).await?;
            let part = file.map(|file| {
                let place = |byte| usize::try_from(byte).unwrap_or(usize::MAX).min(file.len());
                range.map_or_else(
                    || file.clone(),
                    |range| file.slice(place(range.start)..place(range.end)),
                )
            });
            Ok(part.map(|part| stream::iter([Ok(part)]).boxed()))
        })
    }

    fn file_bytes<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<u64>>> {
        Box::pin(async move {
            let file = self.read(key, usize::MAX).await?;
            Ok(file.map(|file| u64::try_from(file.len()).unwrap_or(u64::MAX)))
        })
    }

    fn place(&self, key: &Key) -> Source {
        Source::File(self.path(key).into())
    }

    fn copy_file<'a>(&'a self, from: &'a Source, to: &'a Key) -> BoxFuture<'a, Result<Copied>> {
        Box::pin(async move {
            #[cfg_attr(
                not(any(feature = "s3", feature = "hdfs")),
                expect(irrefutable_let_patterns, reason = "with S3 and HDFS there are others")
            )]
            let Source::File(from) = from else {
                return Ok(Copied::Elsewhere);
            };
            let request = Request::Read(from.display().to_string());
            match self.ask("copy a file to", to, request).await? {
                Reply::Object(Some(file)) => {
                    self.put(to, file).await?;
                    Ok(Copied::There)
                }
                _ => Ok(Copied::Missing),
            }
        })
    }
}
