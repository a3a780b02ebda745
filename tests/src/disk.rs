//! A small file system that a test fills up: the disk is full, and has room again.
//!
//! Only root may mount one. A test of somebody else goes on as the root of a user namespace of its
//! own ([`as_root`]).

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scratch::Scratch;

/// Runs a test that mounts a disk; `name` is its full name. Where this user may not mount, the test
/// is run again, alone, in a namespace where it may.
#[track_caller]
pub fn as_root(name: &str, test: impl FnOnce()) {
    if rustix::process::geteuid().is_root() {
        return test();
    }
    let program = std::env::current_exe().expect("a test has a path");
    let again = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount"])
        .arg(program)
        .args(["--exact", name, "--nocapture"])
        .output()
        .expect("unshare starts");
    let printed = String::from_utf8_lossy(&again.stdout);
    let errors = String::from_utf8_lossy(&again.stderr);
    assert!(
        again.status.success() && printed.contains("1 passed"),
        "in a user namespace:\n{printed}{errors}"
    );
}

/// What fills it up.
const BALLAST: &str = ".ballast";

/// A file system in memory. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    // Unmounted before its directory goes.
    mount: Mount,
    _scratch: Scratch,
}

#[derive(Debug)]
struct Mount(PathBuf);

impl SmallDisk {
    /// Makes one of so many MiB.
    ///
    /// # Panics
    /// This user may not mount; see [`as_root`].
    #[track_caller]
    pub fn of_mebibytes(size: u32) -> Self {
        let scratch = Scratch::new("disk");
        let path = scratch.join("disk");
        std::fs::create_dir(&path).expect("a directory in the scratch directory");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs"])
            .arg(&path)
            .status()
            .expect("mount starts");
        assert!(mounted.success(), "a disk can be mounted");
        Self {
            mount: Mount(path),
            _scratch: scratch,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.mount.0
    }

    /// Takes all the room that is left.
    #[track_caller]
    pub fn fill(&self) {
        let mut ballast = File::options()
            .create(true)
            .append(true)
            .open(self.path().join(BALLAST))
            .expect("a file can be opened");
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![1; size];
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    /// Gives it back.
    #[track_caller]
    pub fn make_room(&self) {
        std::fs::remove_file(self.path().join(BALLAST)).expect("the disk was filled");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Processes that are about to end may still hold files open.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("cannot unmount {}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_until_there_is_room() {
        as_root(
            "disk::tests::a_full_disk_takes_nothing_until_there_is_room",
            fill_and_make_room,
        );
    }

    fn fill_and_make_room() {
        let disk = SmallDisk::of_mebibytes(2);
        let file = disk.path().join("file");
        std::fs::write(&file, vec![1; 4_096]).unwrap();
        disk.fill();
        let error = std::fs::write(disk.path().join("other"), vec![1; 4_096]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        disk.make_room();
        std::fs::write(disk.path().join("other"), vec![1; 4_096]).unwrap();
        assert_eq!(std::fs::read(&file).unwrap().len(), 4_096);
    }
}
