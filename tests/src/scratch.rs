//! Directories of a test: removed when it passes, kept when it fails.

use std::path::{Path, PathBuf};

/// A fresh directory for one test. It goes with this value, unless the thread is panicking: then
/// it stays and its path is printed.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a directory whose name begins with `name`.
    pub fn new(name: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("millstream-{name}-"))
            .tempdir()
            .expect("a directory below the system's temporary directory");
        Self {
            path: directory.keep(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("kept for inspection: {}", self.path.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}", self.path.display());
        }
    }
}
