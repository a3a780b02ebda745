//! A directory of this process on a local disk, for state that does not fit into memory.
//!
//! What is in it is a cache: checkpoints have all of it. So it is gone when the process is, and what a
//! process has left that was killed is removed by the next one that uses the same directory.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::Result;

/// In front of the names of what this makes in a directory that may have other things in it.
const PREFIX: &str = "millstream-state-";
const LOCK: &str = "lock";

/// A directory that nobody else has. It is removed with everything in it when the last clone is gone.
#[derive(Debug, Clone)]
pub struct LocalDirectory(Arc<Claim>);

#[derive(Debug)]
struct Claim {
    path: PathBuf,
    lock: PathBuf,
    /// Locked as long as the directory is in use.
    _held: File,
    next: AtomicU64,
}

impl LocalDirectory {
    /// Makes a directory in `parent`, and removes those of processes that are gone.
    ///
    /// # Errors
    /// It cannot be made, as in a file system that is full or read-only.
    pub fn claim(parent: &Path) -> Result<Self> {
        let claimed = Self::claimed(parent);
        claimed.map_err(|error| unusable(parent, &error))
    }

    fn claimed(parent: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        fs::create_dir_all(parent)?;
        sweep(parent);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("{PREFIX}{}-{number}", std::process::id());
            let lock = parent.join(format!("{name}.{LOCK}"));
            let held = File::create(&lock)?;
            // Somebody who sweeps may have been quicker with the lock, and has removed the file then.
            if held.try_lock().is_err() || !is_same(&held, &lock) {
                continue;
            }
            let path = parent.join(name);
            remove(&path)?;
            fs::create_dir(&path)?;
            return Ok(Self(Arc::new(Claim {
                path,
                lock,
                _held: held,
                next: AtomicU64::new(0),
            })));
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A path in it that nobody has been given before.
    pub(crate) fn fresh(&self, name: &str) -> PathBuf {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.path().join(format!("{number}-{name}"))
    }

    /// Begins a file in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(&self) -> io::Result<(LocalFile, File)> {
        let path = self.fresh("run");
        let file = File::create(&path)?;
        let kept = Kept {
            path,
            _directory: self.clone(),
        };
        Ok((LocalFile(Arc::new(kept)), file))
    }

    /// Writes a file into it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, content: &[u8]) -> Result<LocalFile> {
        let path = self.fresh("run");
        let written = fs::write(&path, content);
        written.map_err(|error| unusable(&path, &error))?;
        Ok(LocalFile(Arc::new(Kept {
            path,
            _directory: self.clone(),
        })))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let removed = remove(&self.path).and_then(|()| fs::remove_file(&self.lock));
        // The next process that uses the directory removes it.
        drop(removed);
    }
}

/// A file in a [`LocalDirectory`]. It is removed when the last clone is gone.
#[derive(Debug, Clone)]
pub struct LocalFile(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    _directory: LocalDirectory,
}

impl LocalFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // With the directory it is gone in any case.
        drop(fs::remove_file(&self.path));
    }
}

/// What a file of state holds: in memory, or on the local disk.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// On the local disk.
    Local(LocalFile),
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Memory(bytes)
    }
}

/// Removes what processes have left that are gone. Another one may do the same at the same time.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let lock = entry.path();
        let name = entry.file_name();
        let is_lock = name.to_str().is_some_and(|name| name.starts_with(PREFIX))
            && lock.extension().is_some_and(|extension| extension == LOCK);
        if !is_lock {
            continue;
        }
        let Ok(held) = File::open(&lock) else {
            continue;
        };
        if matches!(held.try_lock(), Err(TryLockError::WouldBlock)) || !is_same(&held, &lock) {
            continue;
        }
        let removed = remove(&lock.with_extension("")).and_then(|()| fs::remove_file(&lock));
        // It takes room, and nothing reads it.
        drop(removed);
    }
}

/// Whether an open file is the one that a path names.
fn is_same(file: &File, path: &Path) -> bool {
    let ids = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let open = file.metadata().map(ids);
    let named = fs::metadata(path).map(ids);
    matches!((open, named), (Ok(open), Ok(named)) if open == named)
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The local disk does not do what it should.
pub(crate) fn unusable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let message = format!(
        "state that does not fit into memory cannot be kept in {}: {error}; give the directory room and \
         let the worker write there, set `spec.stateBackend.directory` to another one, or give the workers \
         more memory",
        path.display()
    );
    Failure::new(ErrorCode::LocalStateFailed, ErrorKind::Retryable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(parent: &Path) -> Vec<String> {
        let entries = fs::read_dir(parent).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_lives_as_long_as_somebody_uses_it() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join("other"), "of somebody else").unwrap();
        let one = LocalDirectory::claim(parent.path()).unwrap();
        let other = LocalDirectory::claim(parent.path()).unwrap();
        assert_ne!(one.path(), other.path());
        let file = one.write(b"content").unwrap();
        let path = file.path().to_owned();
        drop(one);
        assert_eq!(fs::read(&path).unwrap(), b"content");
        drop(file);
        assert!(!path.try_exists().unwrap());
        drop(other);
        assert_eq!(names(parent.path()), ["other"]);
    }

    #[test]
    fn what_a_killed_process_has_left_is_removed_and_what_is_in_use_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join(format!("{PREFIX}0-0"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("1-run"), "left").unwrap();
        fs::write(parent.path().join(format!("{PREFIX}0-0.lock")), "").unwrap();
        let used = LocalDirectory::claim(parent.path()).unwrap();
        assert!(!left.try_exists().unwrap());
        let _next = LocalDirectory::claim(parent.path()).unwrap();
        assert!(used.path().is_dir());
        assert_eq!(names(parent.path()).len(), 4);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named_with_what_to_do() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        fs::write(&file, "").unwrap();
        let failure = LocalDirectory::claim(&file.join("state")).unwrap_err();
        assert_eq!(failure.code, ErrorCode::LocalStateFailed);
        assert_eq!(failure.kind, ErrorKind::Retryable);
        let path = file.display().to_string();
        assert!(failure.message.contains(&path), "{failure}");
        assert!(
            failure.message.contains("spec.stateBackend.directory"),
            "{failure}"
        );
    }
}
