//! Finds the files of a source. Runs in the coordinator.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use millstream_connect::{Discovery, Result, SplitEnumerator};
use millstream_types::{ErrorCode, ErrorKind, Failure, Opaque, SplitState};
use serde::{Deserialize, Serialize};

use super::failure::{access, is_plain_name, not_understood, unusable};
use super::identity::Identity;

/// Where a split stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// Offset of the byte that is read next.
    pub(super) offset: u64,
    /// What the file looks like.
    pub(super) file: Identity,
}

impl Position {
    pub(super) fn read(node: &str, text: &Opaque) -> Result<Self> {
        serde_json::from_str(&text.0).map_err(|_| not_understood(node, &text.0))
    }

    /// The same text as its JSON, written by hand because that cannot fail.
    pub(super) fn to_opaque(self) -> Opaque {
        let Self { offset, file } = self;
        Opaque(format!(
            "{{\"offset\":{offset},\"file\":{}}}",
            file.to_json()
        ))
    }
}

/// The file of a split, by the source's path and the split's name.
pub(super) fn file_of(node: &str, path: &Path, split: &str) -> Result<PathBuf> {
    if !is_plain_name(split) {
        return Err(not_understood(node, &format!("a split `{split}`")));
    }
    // A path that is one file has that file as its only split.
    if path.is_file() {
        return if path.file_name().is_some_and(|name| name == split) {
            Ok(path.to_owned())
        } else {
            let reason = format!("is one file, and the checkpoint was taken of `{split}`");
            Err(unusable(node, path, &reason))
        };
    }
    Ok(path.join(split))
}

/// Finds what there is to read when the job first starts.
#[derive(Debug)]
pub(super) struct Enumerator {
    node: String,
    path: PathBuf,
}

impl Enumerator {
    pub(super) fn new(node: &str, path: &Path) -> Self {
        Self {
            node: node.to_owned(),
            path: path.to_owned(),
        }
    }
}

impl SplitEnumerator for Enumerator {
    fn discover<'a>(
        &'a mut self,
        _known: &'a BTreeSet<String>,
        first: bool,
    ) -> BoxFuture<'a, Result<Discovery>> {
        if !first {
            // Bounded: what came later is not read.
            return std::future::ready(Ok(Discovery::default())).boxed();
        }
        let (node, path) = (self.node.clone(), self.path.clone());
        let found = tokio::task::spawn_blocking(move || discover(&node, &path));
        let node = self.node.clone();
        async move {
            let joined = found.await.map_err(|error| {
                let message = format!("`{node}`: listing its files has panicked: {error}");
                Failure::new(ErrorCode::FileAccess, ErrorKind::Internal, message)
            });
            joined?
        }
        .boxed()
    }

    fn verify<'a>(&'a mut self, _identity: &'a Opaque) -> BoxFuture<'a, Result<()>> {
        // Every split's position has its file's identity, which the reader checks.
        std::future::ready(Ok(())).boxed()
    }

    fn interval(&self) -> Option<Duration> {
        None
    }
}

fn discover(node: &str, path: &Path) -> Result<Discovery> {
    let names = if path.is_file() {
        let name = path.file_name().and_then(|name| name.to_str());
        vec![name.ok_or_else(|| not_utf8(node, path))?.to_owned()]
    } else {
        list(node, path)?
    };
    if names.is_empty() {
        let reason = "there is no file to read: put files there whose names do not begin with \
            `.` or `_`";
        return Err(unusable(node, path, reason));
    }
    let splits = names.into_iter().map(|split| {
        let path = file_of(node, path, &split)?;
        let identity = File::open(&path).and_then(|mut file| Identity::of(&mut file));
        let file = identity.map_err(|error| access(node, "read", &path, &error))?;
        Ok(SplitState {
            split,
            position: Position { offset: 0, file }.to_opaque(),
            records: 0,
            finished: file.length == 0,
        })
    });
    Ok(Discovery {
        splits: splits.collect::<Result<_>>()?,
        identity: None,
    })
}

/// Names of the visible files of a directory, in order.
fn list(node: &str, directory: &Path) -> Result<Vec<String>> {
    // Where the job begins: whoever misspells the path hears of it at once.
    if matches!(directory.try_exists(), Ok(false)) {
        let reason = "it is not there: check `files.path`, and that the volume is mounted";
        return Err(unusable(node, directory, reason));
    }
    let failed = |error| access(node, "list", directory, &error);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| not_utf8(node, &path))?;
        // Follows symbolic links; directories are not descended into.
        if !name.starts_with(['.', '_']) && path.is_file() {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn not_utf8(node: &str, path: &Path) -> Failure {
    unusable(node, path, "the name is not UTF-8: rename the file")
}
