//! Where checkpoints lie: one [`Storage`] over the door that its address names.

mod blob;
mod door;
mod file;
#[cfg(feature = "hdfs")]
mod hdfs;
mod location;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "simulation")]
pub mod simulated;
mod temporary;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_types::duration::KubeDuration;

pub use blob::Chunks;
pub(crate) use blob::{Blobs, Copied};
pub(crate) use door::{Created, Door, Listed};
pub(crate) use location::{is_same_place, split_last};

use crate::envelope::MAX_OBJECT_BYTES;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::nonce::nonce;
use location::Location;
#[cfg(feature = "hdfs")]
pub use millstream_hdfs::HdfsOptions;

/// The environment variable of [`StorageOptions::write_delay`].
pub const WRITE_DELAY_VARIABLE: &str = "MILLSTREAM_STORAGE_DELAY";

/// How stores are reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageOptions {
    /// For `s3://` addresses.
    pub s3: S3Options,
    /// For `hdfs://` addresses.
    #[cfg(feature = "hdfs")]
    pub hdfs: HdfsOptions,
    /// How much longer a write that decides something takes, as with a slow store. For drills.
    pub write_delay: Duration,
}

/// How an S3 service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Options {
    /// Address of the service, `http://host:port` or `https://…`; none for AWS.
    pub endpoint: Option<String>,
    /// Put the bucket into the path (`endpoint/bucket/key`) instead of the host name.
    pub path_style: bool,
    /// Credentials; none for the standard chain of the AWS SDK: environment, profile, web
    /// identity, container, instance.
    pub credentials: Option<S3Credentials>,
    /// Region; none for what the standard chain says, or `us-east-1` with an endpoint.
    pub region: Option<String>,
    /// One try of a request takes this long at most.
    pub attempt_timeout: Duration,
    /// Tries of a request before it fails, from 1.
    pub attempts: u32,
}

/// A key pair for an S3 service.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: None,
            path_style: false,
            credentials: None,
            region: None,
            attempt_timeout: Duration::from_secs(15),
            attempts: 5,
        }
    }
}

impl StorageOptions {
    /// Options from the environment: `MILLSTREAM_S3_ENDPOINT`, `AWS_ENDPOINT_URL_S3` or
    /// `AWS_ENDPOINT_URL`; `MILLSTREAM_S3_PATH_STYLE` (`true`, `false`; default: true with an
    /// endpoint); `MILLSTREAM_S3_REGION`, `AWS_REGION` or `AWS_DEFAULT_REGION`;
    /// `MILLSTREAM_HDFS_PRINCIPAL` and `MILLSTREAM_HDFS_KEYTAB`. And [`WRITE_DELAY_VARIABLE`], a
    /// duration such as `2s`.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| variable(name).filter(|value| !value.is_empty()))
        };
        // The SDK reads the others itself, and an empty one as an address.
        let endpoint = first(&["MILLSTREAM_S3_ENDPOINT"])
            .or_else(|| variable("AWS_ENDPOINT_URL_S3"))
            .or_else(|| variable("AWS_ENDPOINT_URL"));
        let path_style = match first(&["MILLSTREAM_S3_PATH_STYLE"]) {
            Some(value) => value.eq_ignore_ascii_case("true"),
            None => endpoint.is_some(),
        };
        let delay = first(&[WRITE_DELAY_VARIABLE]);
        let delay = delay.map(|text| {
            text.parse::<KubeDuration>().unwrap_or_else(|error| {
                tracing::warn!(%error, "{WRITE_DELAY_VARIABLE} is no duration; nothing is delayed");
                KubeDuration::default()
            })
        });
        Self {
            write_delay: delay.unwrap_or_default().0,
            s3: S3Options {
                path_style,
                region: first(&["MILLSTREAM_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"]),
                endpoint,
                ..S3Options::default()
            },
            // The client of HDFS reads HADOOP_CONF_DIR, HADOOP_HOME and HADOOP_USER_NAME itself.
            #[cfg(feature = "hdfs")]
            hdfs: HdfsOptions {
                principal: first(&["MILLSTREAM_HDFS_PRINCIPAL"]),
                keytab: first(&["MILLSTREAM_HDFS_KEYTAB"]),
                ..HdfsOptions::default()
            },
        }
    }
}

/// An opened checkpoint storage. Clones share it.
#[derive(Debug, Clone)]
pub struct Storage {
    uri: Arc<str>,
    door: Arc<dyn Blobs>,
    /// Whether it is a directory, which a write would make anew where it is gone.
    is_directory: bool,
    write_delay: Duration,
}

pub use location::without_secret;

/// What a conditional write came to, once its outcome is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The object is what was given, by this try or an earlier one.
    Mine,
    /// Another writer has the name; this is its object.
    Other(Bytes),
}

/// How often an unknown outcome is looked into before it is given up. Every look has the door's
/// own retries.
pub(crate) const SETTLE_ROUNDS: u32 = 6;

impl Storage {
    /// Opens `s3://bucket/prefix`, `hdfs://namenode:port/path` or `file:///path`. Asks nobody yet.
    ///
    /// # Errors
    /// [`Error::Address`]: the address is not one, or names a kind of store that this build does
    /// not have.
    #[cfg_attr(
        not(feature = "s3"),
        expect(clippy::unused_async, reason = "only S3 has something to wait for")
    )]
    pub async fn open(uri: &str, options: &StorageOptions) -> Result<Self> {
        #[cfg(feature = "simulation")]
        if let Some(door) = simulated::door(uri) {
            return Ok(Self {
                uri: uri.trim_end_matches('/').into(),
                door,
                is_directory: false,
                write_delay: options.write_delay,
            });
        }
        let location = Location::parse(uri)?;
        let is_directory = matches!(location, Location::File { .. });
        let door: Arc<dyn Blobs> = match location {
            Location::File { directory } => Arc::new(file::FileDoor::new(directory)),
            #[cfg(feature = "s3")]
            Location::S3 { bucket, prefix } => {
                s3::check_endpoint(uri, options.s3.endpoint.as_deref())?;
                Arc::new(s3::S3Door::connect(bucket, prefix, &options.s3).await)
            }
            #[cfg(feature = "hdfs")]
            Location::Hdfs { authority, path } => {
                Arc::new(hdfs::HdfsDoor::new(uri, &authority, &path, &options.hdfs)?)
            }
            #[cfg(not(all(feature = "s3", feature = "hdfs")))]
            other => return Err(other.not_built(uri, options)),
        };
        Ok(Self {
            uri: uri.trim_end_matches('/').into(),
            door,
            is_directory,
            write_delay: options.write_delay,
        })
    }

    /// A storage in a directory.
    pub fn directory(path: PathBuf) -> Self {
        Self {
            uri: format!("file://{}", path.display()).into(),
            door: Arc::new(file::FileDoor::new(path)),
            is_directory: true,
            write_delay: Duration::ZERO,
        }
    }

    /// Whether it is a directory: one that is gone is made anew by the next write.
    pub(crate) const fn is_directory(&self) -> bool {
        self.is_directory
    }

    /// Its address.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Checks that the store does what fencing needs: a conditional write of a name that is
    /// taken is refused and changes nothing, and a listing shows what was written. Writes one
    /// object of a name that nobody else uses and deletes it again.
    ///
    /// # Errors
    /// [`Error::NotConditional`] if the store breaks the rule, [`Error::Unavailable`] if it does
    /// not answer.
    pub async fn probe(&self) -> Result<()> {
        let folder = Key::new(&["probes"]);
        let key = folder.child(&format!("{}.json", nonce()));
        let verdict = self.probe_with(&folder, &key).await;
        let cleaned = self.door.delete(&key).await;
        verdict?;
        cleaned
    }

    async fn probe_with(&self, folder: &Key, key: &Key) -> Result<()> {
        let broken = |reason: &str| Error::NotConditional {
            storage: self.uri.to_string(),
            reason: reason.to_owned(),
        };
        let first = Bytes::from_static(b"{\"probe\":1}\n");
        let second = Bytes::from_static(b"{\"probe\":2}\n");
        if self.create_settled(key, first.clone()).await? != Settled::Mine {
            return Err(broken("shows another object under a name nobody else uses"));
        }
        // One plain write, not a settled one: only its refusal counts.
        if self.door.create(key, second).await? == Created::New {
            return Err(broken(
                "overwrites an object although `If-None-Match: *` forbids it",
            ));
        }
        if self.read(key).await?.as_ref() != Some(&first) {
            return Err(broken("changed an object by a write that it refused"));
        }
        let listed = self.door.list(folder, None).await?;
        if !listed.iter().any(|listed| listed.key == *key) {
            return Err(broken("does not list an object that it has just stored"));
        }
        Ok(())
    }

    /// Creates an object if there is none of the name, and finds out what came of it. The bytes
    /// must be such that nobody else writes the same under this name with another meaning.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: the outcome could not be found out.
    pub(crate) async fn create_settled(&self, key: &Key, bytes: Bytes) -> Result<Settled> {
        let mut rounds = Rounds::default();
        if !self.write_delay.is_zero() {
            tokio::time::sleep(self.write_delay).await;
        }
        loop {
            let created = self.door.create(key, bytes.clone()).await;
            if matches!(created, Ok(Created::New)) {
                return Ok(Settled::Mine);
            }
            let found = self.read(key).await;
            match (created, found) {
                (_, Ok(Some(found))) if found == bytes => {
                    self.door.confirm(key).await?;
                    return Ok(Settled::Mine);
                }
                (_, Ok(Some(found))) => return Ok(Settled::Other(found)),
                (Err(error), _) | (_, Err(error)) => rounds.again(error).await?,
                (Ok(_), Ok(None)) => rounds.again(self.vanished(key)).await?,
            }
        }
    }

    /// Error for an object that a write met and a read did not.
    pub(crate) fn vanished(&self, key: &Key) -> Error {
        Error::unavailable(
            "read",
            self.address(key),
            "it was there and is not there any more",
        )
    }

    pub(crate) fn door(&self) -> &dyn Door {
        self.door.as_ref()
    }

    pub(crate) fn blobs(&self) -> &dyn Blobs {
        self.door.as_ref()
    }

    pub(crate) fn address(&self, key: &Key) -> String {
        self.door.address(key)
    }

    /// Reads an object; `None` if there is none.
    pub(crate) async fn read(&self, key: &Key) -> Result<Option<Bytes>> {
        let read = self.door.read(key, MAX_OBJECT_BYTES + 1).await?;
        if read
            .as_ref()
            .is_some_and(|bytes| bytes.len() > MAX_OBJECT_BYTES)
        {
            let reason = format!("it has more than {MAX_OBJECT_BYTES} bytes");
            return Err(Error::corrupt(self.address(key), reason));
        }
        Ok(read)
    }
}

/// Counts looks into an unknown outcome and waits between them.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    done: u32,
}

impl Rounds {
    /// Waits for the next round, or gives up with `error`.
    pub(crate) async fn again(&mut self, error: Error) -> Result<()> {
        self.done += 1;
        if self.done >= SETTLE_ROUNDS {
            return Err(error);
        }
        tracing::debug!(%error, round = self.done, "outcome unknown, looking again");
        tokio::time::sleep(Duration::from_millis(50 << self.done)).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(variables: &[(&str, &str)]) -> S3Options {
        StorageOptions::from_variables(|name| {
            variables
                .iter()
                .find(|(variable, _)| *variable == name)
                .map(|(_, value)| (*value).to_owned())
        })
        .s3
    }

    #[test]
    fn an_endpoint_in_the_environment_means_path_style() {
        assert_eq!(options(&[]), S3Options::default());
        let minio = options(&[
            ("AWS_ENDPOINT_URL", "http://other"),
            ("MILLSTREAM_S3_ENDPOINT", "http://127.0.0.1:9000"),
            ("AWS_REGION", "eu-central-1"),
        ]);
        assert_eq!(minio.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(minio.region.as_deref(), Some("eu-central-1"));
        assert!(minio.path_style);
        let virtual_host = options(&[
            ("AWS_ENDPOINT_URL_S3", "https://s3.example.com"),
            ("MILLSTREAM_S3_PATH_STYLE", "false"),
        ]);
        assert!(!virtual_host.path_style);
    }

    #[tokio::test]
    async fn a_slow_store_can_be_asked_for() {
        let variable = |name: &str| (name == WRITE_DELAY_VARIABLE).then(|| "60ms".to_owned());
        let slow = StorageOptions::from_variables(variable);
        assert_eq!(slow.write_delay, Duration::from_millis(60));
        assert!(
            StorageOptions::from_variables(|_| None)
                .write_delay
                .is_zero()
        );
        let folder = tempfile::tempdir().unwrap();
        let uri = format!("file://{}", folder.path().display());
        let storage = Storage::open(&uri, &slow).await.unwrap();
        let began = std::time::Instant::now();
        let key = Key::new(&["one.json"]);
        let settled = storage
            .create_settled(&key, Bytes::from_static(b"{}"))
            .await;
        assert_eq!(settled.unwrap(), Settled::Mine);
        assert!(began.elapsed() >= slow.write_delay);
    }

    #[tokio::test]
    async fn an_object_that_is_too_large_is_corrupt_and_not_kept_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::directory(folder.path().to_owned());
        let file = std::fs::File::create(folder.path().join("large")).unwrap();
        file.set_len(u64::try_from(MAX_OBJECT_BYTES).unwrap() * 8)
            .unwrap();
        let error = storage.read(&Key::new(&["large"])).await.unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        let door = storage.door();
        let some = door.read(&Key::new(&["large"]), 100).await.unwrap();
        assert_eq!(some.unwrap().len(), 100);
    }

    #[tokio::test]
    async fn a_probe_of_a_directory_passes_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::directory(folder.path().join("store"));
        storage.probe().await.unwrap();
        assert!(
            storage
                .door()
                .list(&Key::root(), None)
                .await
                .unwrap()
                .is_empty()
        );
    }
}
