//! A client of one file system: every request has a time limit, and one that may be repeated is.

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use hdfs_native::{Client, ClientBuilder, HdfsError};
use tokio::sync::RwLock;

use crate::error::{Error, Result};

/// A file's bytes as they come, in pieces of any size.
pub type Pieces = BoxStream<'static, Result<Bytes>>;

/// Between the first two tries of a request; doubled from then on.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Directories below one that is walked lie this deep at most.
const MAX_DEPTH: usize = 16;
/// The client's own failing over, within one request. What it does not come to, the next try does.
const FAILOVER: [(&str, &str); 3] = [
    ("dfs.client.failover.max.attempts", "4"),
    ("dfs.client.failover.sleep.base.millis", "100"),
    ("dfs.client.failover.sleep.max.millis", "1000"),
];

/// How HDFS is reached, beside what `HADOOP_CONF_DIR` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HdfsOptions {
    /// Directory with `core-site.xml` and `hdfs-site.xml`; none for that of `HADOOP_CONF_DIR`, or
    /// `etc/hadoop` in `HADOOP_HOME`.
    pub configuration: Option<String>,
    /// The user; none for that of `HADOOP_USER_NAME`, or of this process.
    pub user: Option<String>,
    /// Principal of Kerberos; none for the ticket that is there.
    pub principal: Option<String>,
    /// File with the keys of the principal; none for the ticket that is there.
    pub keytab: Option<String>,
    /// One try of a request takes this long at most.
    pub attempt_timeout: Duration,
    /// Tries of a request before it fails, from 1.
    pub attempts: u32,
}

impl Default for HdfsOptions {
    fn default() -> Self {
        Self {
            configuration: None,
            user: None,
            principal: None,
            keytab: None,
            attempt_timeout: Duration::from_secs(15),
            attempts: 5,
        }
    }
}

/// A file below a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the directory.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A file system in HDFS. Clones share it.
#[derive(Clone)]
pub struct Hdfs {
    inner: Arc<Inner>,
}

struct Inner {
    authority: String,
    options: HdfsOptions,
    client: RwLock<Client>,
    /// The client's connection says nothing, or its credentials were refused: the next request makes
    /// another one, which reads configuration and ticket anew.
    is_stale: AtomicBool,
}

impl fmt::Debug for Hdfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hdfs")
            .field("authority", &self.inner.authority)
            .finish_non_exhaustive()
    }
}

impl Hdfs {
    /// A client for `host:port` of a NameNode, or for the name of a name service. Asks nobody yet.
    ///
    /// # Errors
    /// [`Error::Configuration`]: there is no NameNode to ask.
    pub fn new(authority: &str, options: HdfsOptions) -> Result<Self> {
        check_configuration(options.configuration.as_deref())?;
        let client = build(authority, &options)?;
        let inner = Inner {
            authority: authority.to_owned(),
            options,
            client: RwLock::new(client),
            is_stale: AtomicBool::new(false),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Host and port of the NameNode, or the name of the name service.
    pub fn authority(&self) -> &str {
        &self.inner.authority
    }

    pub(crate) async fn client(&self) -> Client {
        let inner = &self.inner;
        if inner.is_stale.swap(false, Ordering::AcqRel) {
            match build(&inner.authority, &inner.options) {
                Ok(fresh) => *inner.client.write().await = fresh,
                Err(error) => {
                    tracing::warn!(%error, "the configuration of Hadoop is not read anew")
                }
            }
        }
        inner.client.read().await.clone()
    }

    /// One try of a request.
    pub(crate) async fn once<T>(
        &self,
        request: impl Future<Output = std::result::Result<T, HdfsError>>,
    ) -> Result<T> {
        let limit = self.inner.options.attempt_timeout;
        let answer = match tokio::time::timeout(limit, request).await {
            Ok(answer) => answer.map_err(Error::from),
            Err(_) => Err(Error::NoAnswer(limit)),
        };
        if let Err(Error::NoAnswer(_) | Error::Authentication(_)) = answer {
            self.inner.is_stale.store(true, Ordering::Release);
        }
        answer
    }

    /// Tries of something that may happen twice.
    pub(crate) async fn repeated<T, F: Future<Output = Result<T>>>(
        &self,
        request: impl Fn() -> F,
    ) -> Result<T> {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            match request().await {
                Err(error) if error.is_passing() && attempt < self.inner.options.attempts => {
                    tracing::warn!("hdfs://{}: {error}; trying again", self.inner.authority);
                }
                answer => return answer,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Error::NoAnswer(pause))
    }

    /// Reads a file, at most its first `most` bytes; `None` if there is none.
    pub async fn read(&self, path: &str, most: usize) -> Result<Option<Bytes>> {
        let read = || async {
            let client = self.client().await;
            let reading = async {
                let file = client.read(path).await?;
                file.read_range(0, file.file_length().min(most)).await
            };
            self.once(reading).await
        };
        absent(self.repeated(read).await)
    }

    /// Reads a file, or the part of it that lies in a range, as it comes; `None` if there is none.
    pub async fn open(&self, path: &str, range: Option<Range<u64>>) -> Result<Option<Pieces>> {
        let open = || async {
            let client = self.client().await;
            self.once(client.read(path)).await
        };
        let Some(file) = absent(self.repeated(open).await)? else {
            return Ok(None);
        };
        let length = file.file_length();
        let bound = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(length);
        let range = range.unwrap_or(0..u64::MAX);
        let (start, end) = (bound(range.start), bound(range.end));
        if start >= end {
            return Ok(Some(stream::empty().boxed()));
        }
        let pieces = file.read_range_stream(start, end - start).boxed();
        let limited = stream::unfold(Some((self.clone(), pieces)), |state| async move {
            let (hdfs, mut pieces) = state?;
            let next = async { pieces.next().await.transpose() };
            match hdfs.once(next).await {
                Ok(None) => None,
                Ok(Some(piece)) => Some((Ok(piece), Some((hdfs, pieces)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Some(limited.boxed()))
    }

    /// Size of a file in bytes; `None` if there is none.
    pub async fn bytes(&self, path: &str) -> Result<Option<u64>> {
        let look = || async {
            let client = self.client().await;
            self.once(client.get_file_info(path)).await
        };
        let status = absent(self.repeated(look).await)?;
        Ok(status
            .filter(|status| !status.isdir)
            .map(|status| u64::try_from(status.length).unwrap_or(u64::MAX)))
    }

    /// All files below a directory, in no order. Those that go while it looks are left out.
    pub async fn walk(&self, directory: &str) -> Result<Vec<Entry>> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), 0)];
        while let Some((below, depth)) = open.pop() {
            let path = joined(directory, &below);
            for (name, bytes) in self.children(&path).await? {
                let name = if below.is_empty() {
                    name
                } else {
                    format!("{below}/{name}")
                };
                match bytes {
                    Some(bytes) => found.push(Entry { name, bytes }),
                    None if depth < MAX_DEPTH => open.push((name, depth + 1)),
                    None => {}
                }
            }
        }
        Ok(found)
    }

    /// Names of the directories in a directory, in order.
    pub async fn directories(&self, directory: &str) -> Result<Vec<String>> {
        let children = self.children(directory).await?.into_iter();
        let mut names: Vec<String> = children
            .filter(|(_, bytes)| bytes.is_none())
            .map(|(name, _)| name)
            .collect();
        names.sort();
        Ok(names)
    }

    /// What is in a directory: names, and the size of what is a file.
    async fn children(&self, directory: &str) -> Result<Vec<(String, Option<u64>)>> {
        let list = || async {
            let client = self.client().await;
            self.once(client.list_status(directory, false)).await
        };
        let listed = absent(self.repeated(list).await)?.unwrap_or_default();
        let child = |status: hdfs_native::client::FileStatus| {
            let name = status.path.rsplit('/').next()?.to_owned();
            let bytes = u64::try_from(status.length).unwrap_or(u64::MAX);
            Some((name, (!status.isdir).then_some(bytes)))
        };
        Ok(listed.into_iter().filter_map(child).collect())
    }

    /// Deletes a file, or an empty directory. It is no error if there is none; whether there was.
    pub async fn delete(&self, path: &str) -> Result<bool> {
        let delete = || async {
            let client = self.client().await;
            self.once(client.delete(path, false)).await
        };
        self.repeated(delete).await
    }
}

/// `None` for what is not there.
fn absent<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Err(Error::NotFound(_) | Error::IsDirectory(_)) => Ok(None),
        answer => answer.map(Some),
    }
}

fn joined(directory: &str, below: &str) -> String {
    match (directory.trim_end_matches('/'), below) {
        ("", "") => "/".to_owned(),
        (directory, "") => directory.to_owned(),
        (directory, below) => format!("{directory}/{below}"),
    }
}

/// A directory of configuration that somebody names must have one: the client would take an empty one.
fn check_configuration(directory: Option<&str>) -> Result<()> {
    let variable = "HADOOP_CONF_DIR";
    let Some(directory) = directory
        .map(str::to_owned)
        .or_else(|| std::env::var(variable).ok())
    else {
        return Ok(());
    };
    let has = |file: &str| Path::new(&directory).join(file).is_file();
    if has("core-site.xml") || has("hdfs-site.xml") {
        return Ok(());
    }
    Err(Error::Configuration(format!(
        "{variable} is {directory}, and there is neither core-site.xml nor hdfs-site.xml in it: name \
         the directory with the configuration of the cluster, or unset the variable"
    )))
}

fn build(authority: &str, options: &HdfsOptions) -> Result<Client> {
    let mut builder = ClientBuilder::new()
        .with_url(format!("hdfs://{authority}"))
        .with_config(FAILOVER);
    if let Some(directory) = &options.configuration {
        builder = builder.with_config_dir(directory);
    }
    if let Some(user) = &options.user {
        builder = builder.with_user(user);
    }
    if let Some(principal) = &options.principal {
        builder = builder.with_kerberos_principal(principal);
    }
    if let Some(keytab) = &options.keytab {
        builder = builder.with_kerberos_keytab(keytab);
    }
    builder.build().map_err(|error| match error {
        HdfsError::InvalidArgument(text) if text.starts_with("No NameNode") => {
            Error::Configuration(format!(
                "`{authority}` has no port, so that it is the name of a name service, and \
                 `dfs.ha.namenodes.{authority}` with the addresses \
                 `dfs.namenode.rpc-address.{authority}.…` is not in hdfs-site.xml of \
                 HADOOP_CONF_DIR; for a single NameNode write its port too, as in \
                 hdfs://{authority}:8020/path"
            ))
        }
        error => Error::Configuration(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_service_without_name_nodes_says_where_they_are_looked_for() {
        let error = Hdfs::new("analytics", HdfsOptions::default()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::Configuration(_)), "{error:?}");
        for part in ["dfs.ha.namenodes.analytics", "hdfs://analytics:8020/path"] {
            assert!(text.contains(part), "{text}");
        }
        let nowhere = HdfsOptions {
            configuration: Some("/nowhere".to_owned()),
            ..HdfsOptions::default()
        };
        let error = Hdfs::new("namenode:8020", nowhere).unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
    }

    #[test]
    fn paths_are_joined_by_one_slash() {
        assert_eq!(joined("/", ""), "/");
        assert_eq!(joined("/", "a"), "/a");
        assert_eq!(joined("/a/", "b/c"), "/a/b/c");
        assert_eq!(joined("/a", ""), "/a");
    }
}
