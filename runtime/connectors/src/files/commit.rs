//! Makes one prepared file visible, whatever has happened to it before.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use millstream_connect::{CommitOutcome, Standing};
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

/// What has become of a prepared file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Visible,
    /// And why.
    Lost(&'static str),
}

/// Gives the prepared file its visible name, and keeps it under a hidden one until a checkpoint says
/// that it is committed: whoever reads the directory may take the visible one away at any time. The
/// same again is harmless. Both directories must be synced before anybody is told.
pub(super) fn commit(sink: &str, layout: &Layout, prepared: &Prepared) -> CommitOutcome {
    let visible = layout.directory().join(&prepared.visible);
    match make_visible(layout, prepared, &visible) {
        Ok(Verdict::Visible) => CommitOutcome::Committed,
        Ok(Verdict::Lost(reason)) => lost(sink, &visible, reason),
        Err(error) => CommitOutcome::Retry(access(sink, "commit", &visible, &error)),
    }
}

/// How a prepared file stands. Changes nothing.
pub(super) fn standing(sink: &str, layout: &Layout, prepared: &Prepared) -> Standing {
    let visible = layout.directory().join(&prepared.visible);
    match look_both(layout, prepared, &visible) {
        Ok(Some(standing)) => standing,
        Ok(None) => Standing::Unknown(lost_file(sink, &visible, "it is gone")),
        Err(error) => Standing::Unknown(access(sink, "look for", &visible, &error)),
    }
}

/// Under both names; `None` if it is under neither.
fn look_both(layout: &Layout, prepared: &Prepared, visible: &Path) -> io::Result<Option<Standing>> {
    // Without the sink's own directory nothing is known.
    fs::metadata(layout.hidden())?;
    if fs::exists(layout.committed(prepared))? || look(visible, prepared)? == Found::Same {
        return Ok(Some(Standing::Committed));
    }
    let hidden = look(&layout.hidden().join(&prepared.temporary), prepared)?;
    Ok((hidden == Found::Same).then_some(Standing::Open))
}

fn make_visible(layout: &Layout, prepared: &Prepared, visible: &Path) -> io::Result<Verdict> {
    // Without the sink's own directory nothing is known: its file system may not be mounted.
    fs::metadata(layout.hidden())?;
    let temporary = layout.hidden().join(&prepared.temporary);
    let committed = layout.committed(prepared);
    if fs::exists(&committed)? {
        return Ok(Verdict::Visible);
    }
    match fs::symlink_metadata(&temporary) {
        Ok(metadata) if metadata.len() != prepared.length => {
            return Ok(Verdict::Lost(
                "the prepared file has another length than it had",
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // An older build has committed it, or it was put back.
            return Ok(match look(visible, prepared)? {
                Found::Same => Verdict::Visible,
                Found::Other => Verdict::Lost("another file has its name"),
                Found::Nothing => Verdict::Lost("it is gone"),
            });
        }
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    fail::fail_point!("files-sink::before-rename", |_| std::process::abort());
    match fs::hard_link(&temporary, visible) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if look(visible, prepared)? == Found::Other {
                return Ok(Verdict::Lost("another file has its name"));
            }
        }
        Err(error) if has_no_links(&error) => rename(&temporary, visible, &committed)?,
        linked => linked?,
    }
    fail::fail_point!("files-sink::linked", |_| std::process::abort());
    match fs::rename(&temporary, &committed) {
        // Renamed already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        renamed => renamed?,
    }
    fail::fail_point!("files-sink::after-rename", |_| std::process::abort());
    Ok(Verdict::Visible)
}

fn has_no_links(error: &io::Error) -> bool {
    let number = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        number,
        Some(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK)
    )
}

/// Where the file system has no hard links: what is kept under the hidden name is empty.
fn rename(temporary: &Path, visible: &Path, committed: &Path) -> io::Result<()> {
    rustix::fs::renameat_with(CWD, temporary, CWD, visible, RenameFlags::NOREPLACE)?;
    File::create(committed).map(drop)
}

fn lost(sink: &str, visible: &Path, reason: &str) -> CommitOutcome {
    CommitOutcome::Lost(lost_file(sink, visible, reason))
}

fn lost_file(sink: &str, visible: &Path, reason: &str) -> Failure {
    let message = format!(
        "`{sink}`: {} was prepared and cannot be committed: {reason}. Its records are lost unless \
         the file is put back",
        visible.display()
    );
    Failure::new(ErrorCode::FileOutputLost, ErrorKind::DataLoss, message)
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
    fn where_there_are_no_links_a_rename_serves_and_leaves_a_mark() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to, mark] = ["from", "to", "mark"].map(|name| directory.path().join(name));
        fs::write(&from, "new").unwrap();
        rename(&from, &to, &mark).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
        assert!(!from.try_exists().unwrap() && mark.try_exists().unwrap());
        fs::write(&from, "newer").unwrap();
        assert!(rename(&from, &to, &mark).is_err(), "nothing is replaced");
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
    }
}
