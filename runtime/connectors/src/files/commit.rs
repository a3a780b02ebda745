//! Makes one prepared file visible, whatever has happened to it before.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use millstream_operators::CommitOutcome;
use millstream_types::{ErrorCode, ErrorKind, Failure};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

use super::failure::access;
use super::layout::{Layout, Prepared};

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// The prepared file.
    Same,
    /// Something else.
    Other,
}

/// How a rename that must not replace anything has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renamed {
    Done,
    /// The prepared file is not there.
    NoSource,
    /// The visible name is taken.
    Taken,
}

/// What has become of a prepared file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Visible,
    /// And why.
    Lost(&'static str),
}

/// Renames the prepared file to its visible name. The same again is harmless. The directory must
/// be synced before anybody is told.
pub(super) fn commit(sink: &str, layout: &Layout, prepared: &Prepared) -> CommitOutcome {
    let visible = layout.directory().join(&prepared.visible);
    match make_visible(layout, prepared, &visible) {
        Ok(Verdict::Visible) => CommitOutcome::Committed,
        Ok(Verdict::Lost(reason)) => lost(sink, &visible, reason),
        Err(error) => CommitOutcome::Retry(access(sink, "commit", &visible, &error)),
    }
}

fn make_visible(layout: &Layout, prepared: &Prepared, visible: &Path) -> io::Result<Verdict> {
    // Without the sink's own directory nothing is known: its file system may not be mounted.
    fs::metadata(layout.hidden())?;
    let temporary = layout.hidden().join(&prepared.temporary);
    match fs::symlink_metadata(&temporary) {
        Ok(metadata) if metadata.len() != prepared.length => {
            return Ok(Verdict::Lost(
                "the prepared file has another length than it had",
            ));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fail::fail_point!("files-sink::before-rename", |_| std::process::abort());
    let renamed = rename_without_replacing(&temporary, visible)?;
    fail::fail_point!("files-sink::after-rename", |_| std::process::abort());
    if renamed == Renamed::Done {
        return Ok(Verdict::Visible);
    }
    match (look(visible, prepared)?, renamed) {
        (Found::Same, _) => remove_if_there(&temporary).map(|()| Verdict::Visible),
        (Found::Other, _) => Ok(Verdict::Lost("another file has its name")),
        (Found::Nothing, Renamed::NoSource) => Ok(Verdict::Lost("it is gone")),
        // It was taken a moment ago.
        (Found::Nothing, _) => Err(io::ErrorKind::Interrupted.into()),
    }
}

fn lost(sink: &str, visible: &Path, reason: &str) -> CommitOutcome {
    let message = format!(
        "`{sink}`: {} was prepared and cannot be committed: {reason}. Its records are lost unless \
         the file is put back",
        visible.display()
    );
    let failure = Failure::new(ErrorCode::FileOutputLost, ErrorKind::DataLoss, message);
    CommitOutcome::Lost(failure)
}

/// `renameat2(RENAME_NOREPLACE)`, or a hard link and a removal where the file system lacks it.
fn rename_without_replacing(from: &Path, to: &Path) -> io::Result<Renamed> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Renamed::Done),
        Err(Errno::NOENT) => Ok(Renamed::NoSource),
        Err(Errno::EXIST) => Ok(Renamed::Taken),
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_and_remove(from, to),
        Err(error) => Err(error.into()),
    }
}

fn link_and_remove(from: &Path, to: &Path) -> io::Result<Renamed> {
    match fs::hard_link(from, to) {
        Ok(()) => {
            remove_if_there(from)?;
            Ok(Renamed::Done)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Renamed::NoSource),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Renamed::Taken),
        Err(error) => Err(error),
    }
}

/// Compares what stands under a name with the prepared file, by length and checksum.
fn look(path: &Path, prepared: &Prepared) -> io::Result<Found> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() != prepared.length {
        return Ok(Found::Other);
    }
    let mut crc32c = 0;
    let mut chunk = vec![0; 256 * 1_024];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        crc32c = crc32c::crc32c_append(crc32c, chunk.get(..read).unwrap_or_default());
    }
    Ok(if crc32c == prepared.crc32c {
        Found::Same
    } else {
        Found::Other
    })
}

/// Removes a file that may be gone already.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_rename_cannot_refuse_to_replace_a_link_does() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        assert_eq!(link_and_remove(&from, &to).unwrap(), Renamed::NoSource);
        fs::write(&from, "new").unwrap();
        assert_eq!(link_and_remove(&from, &to).unwrap(), Renamed::Done);
        assert!(!from.try_exists().unwrap());
        fs::write(&from, "newer").unwrap();
        assert_eq!(link_and_remove(&from, &to).unwrap(), Renamed::Taken);
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
    }
}
