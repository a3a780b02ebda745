//! A MinIO server: the S3 of the tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ports::free_port;
use crate::scratch::Scratch;
use crate::server::{Janitor, Launch, Server};
use crate::tools;
use crate::wait::poll_until;

const STARTS: u32 = 3;
const READY: Duration = Duration::from_secs(30);

/// A running server with one bucket.
#[derive(Debug)]
pub struct Minio {
    scratch: Scratch,
    host: &'static str,
    port: u16,
    server: Server,
}

impl Minio {
    /// Access key of the server's only user.
    pub const ACCESS_KEY: &'static str = "millstream";
    /// Secret key of the server's only user.
    pub const SECRET_KEY: &'static str = "millstream-secret";
    /// The bucket that is there from the start.
    pub const BUCKET: &'static str = "checkpoints";
    /// The region to name; the server does not care.
    pub const REGION: &'static str = "us-east-1";

    /// Starts a server on a free port of the loopback interface and waits until it is ready.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_on("127.0.0.1")
    }

    /// As [`start`](Self::start), on another address of this machine.
    #[track_caller]
    pub fn start_on(host: &'static str) -> Self {
        tools::install("minio.sh", &[]);
        let scratch = Scratch::new("minio");
        // A directory of the drive is a bucket.
        std::fs::create_dir_all(scratch.join("data").join(Self::BUCKET))
            .expect("a directory in the scratch directory");
        for _ in 0..STARTS {
            let port = free_port();
            let mut server = launch(&scratch, host, port);
            if is_ready(&mut server, host, port) {
                return Self {
                    scratch,
                    host,
                    port,
                    server,
                };
            }
        }
        let log = std::fs::read_to_string(scratch.join("log")).unwrap_or_default();
        panic!("the MinIO server does not start:\n{log}");
    }

    /// `http://<host>:<port>`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `<host>:<port>`
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Environment variables that point the AWS SDK at this server.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", Self::SECRET_KEY.to_owned()),
            ("AWS_REGION", Self::REGION.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    /// The process: to kill, pause or resume.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// Starts it again on the same port with the same data.
    #[track_caller]
    pub fn restart(&mut self) {
        self.server.kill();
        self.server = launch(&self.scratch, self.host, self.port);
        assert!(
            is_ready(&mut self.server, self.host, self.port),
            "the MinIO server does not start again:\n{}",
            self.server.output()
        );
    }

    /// Removes its data after the end of this process, where it is never dropped.
    pub(crate) fn janitor(&self) -> Janitor {
        Janitor::of(&self.server, self.scratch.path())
    }

    /// What an object of [`BUCKET`](Self::BUCKET) says, as it lies on the drive with what MinIO keeps
    /// beside it. Small objects only: the parts of large ones lie elsewhere.
    #[track_caller]
    pub fn stored_text(&self, key: &str) -> String {
        let bucket = self.scratch.join("data").join(Self::BUCKET);
        let bytes = std::fs::read(bucket.join(key).join("xl.meta")).expect("the object is there");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Removes everything of [`BUCKET`](Self::BUCKET) below a prefix, as somebody does who empties a
    /// bucket.
    #[track_caller]
    pub fn remove(&self, prefix: &str) {
        let bucket = self.scratch.join("data").join(Self::BUCKET);
        std::fs::remove_dir_all(bucket.join(prefix)).expect("there is something");
    }

    /// Keys of all objects of [`BUCKET`](Self::BUCKET) below `prefix`, as they lie on the drive.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let bucket = self.scratch.join("data").join(Self::BUCKET);
        let mut keys = Vec::new();
        collect_keys(&bucket, &bucket, &mut keys);
        keys.retain(|key| key.starts_with(prefix));
        keys.sort();
        keys
    }

    /// How many multipart uploads are neither completed nor aborted, as they lie on the drive: MinIO
    /// lists them only by the whole name of their object.
    pub fn uploads(&self) -> usize {
        let uploads = self.scratch.join("data/.minio.sys/multipart");
        let mut found = Vec::new();
        collect_keys(&uploads, &uploads, &mut found);
        found.len()
    }
}

/// An object is a directory that holds `xl.meta`.
fn collect_keys(bucket: &Path, directory: &Path, keys: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    let paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    if paths.iter().any(|path| path.ends_with("xl.meta")) {
        let key = directory
            .strip_prefix(bucket)
            .expect("directories are walked from the bucket");
        keys.push(key.to_string_lossy().into_owned());
        return;
    }
    for path in paths {
        collect_keys(bucket, &path, keys);
    }
}

fn launch(scratch: &Scratch, host: &str, port: u16) -> Server {
    Launch::new(tools::cache().join("minio/minio"))
        .arg("server")
        .arg(scratch.join("data"))
        .args(["--address", &format!("{host}:{port}"), "--quiet"])
        .env("MINIO_ROOT_USER", Minio::ACCESS_KEY)
        .env("MINIO_ROOT_PASSWORD", Minio::SECRET_KEY)
        .env("MINIO_BROWSER", "off")
        .env("MINIO_UPDATE", "off")
        .start(&scratch.join("log"))
}

/// Whether the server answers for its bucket before its process ends. Its own readiness check
/// says yes before its users are loaded; a stranger is then sent away with 503 instead of 403.
fn is_ready(server: &mut Server, host: &str, port: u16) -> bool {
    let url = format!("http://{host}:{port}/{}/", Minio::BUCKET);
    poll_until(READY, || match ureq::get(&url).call() {
        Err(ureq::Error::StatusCode(403)) => Some(true),
        _ => (!server.is_running()).then_some(false),
    })
    .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_server_has_an_empty_bucket() {
        let mut minio = Minio::start();
        assert!(minio.keys("").is_empty());
        minio.restart();
        let missing = format!("{}/no-such-bucket/", minio.endpoint());
        assert!(
            matches!(
                ureq::get(&missing).call(),
                Err(ureq::Error::StatusCode(404 | 403))
            ),
            "the server answers"
        );
    }
}
