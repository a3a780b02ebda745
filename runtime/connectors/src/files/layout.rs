//! Where a sink's files lie and how they are called.
//!
//! ```text
//! <directory>/part-<uid>-<attempt>-<subtask>-<n>.jsonl               visible, complete, committed
//! <directory>/.millstream/<uid>/.inprogress-<attempt>-<subtask>-<n>  being written, or prepared
//! <directory>/.millstream/<uid>/.committed-<attempt>-<subtask>-<n>   was visible; no checkpoint says so yet
//! <directory>/.millstream/<uid>/owner.json                           the job that the sink is of
//! ```
//! An attempt, a subtask and a number make a name unique within a job; the owner file keeps two
//! jobs apart.

use std::path::{Path, PathBuf};

use millstream_types::{Attempt, OperatorUid, SubtaskIndex};
use serde::{Deserialize, Serialize};

/// Name of the hidden directory.
const HIDDEN: &str = ".millstream";
/// How the name of a file that is not committed begins.
const IN_PROGRESS: &str = ".inprogress-";
/// How the name of one begins that is committed, until a checkpoint says so. Whoever reads the
/// directory may have taken the visible file away by then.
const COMMITTED: &str = ".committed-";

/// Paths and names of one sink.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    directory: PathBuf,
    hidden: PathBuf,
    uid: OperatorUid,
    extension: &'static str,
}

/// One file of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) attempt: Attempt,
    pub(super) subtask: SubtaskIndex,
    /// Position among the files of its writer, from 0.
    pub(super) number: u64,
}

/// What a committer needs to make a file visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prepared {
    /// Its name in the hidden directory.
    pub(super) temporary: String,
    /// The name that it gets in the sink's directory.
    #[serde(rename = "final")]
    pub(super) visible: String,
    /// Its length, bytes.
    pub(super) length: u64,
    /// CRC-32C of its content.
    pub(super) crc32c: u32,
}

impl Layout {
    pub(super) fn new(directory: &Path, uid: &OperatorUid, extension: &'static str) -> Self {
        Self {
            directory: directory.to_owned(),
            hidden: directory.join(HIDDEN).join(uid.as_str()),
            uid: uid.clone(),
            extension,
        }
    }

    /// Where committed files appear.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where files are written.
    pub(super) fn hidden(&self) -> &Path {
        &self.hidden
    }

    /// Where a file is kept that is committed, until a checkpoint says so.
    pub(super) fn committed(&self, prepared: &Prepared) -> PathBuf {
        let name = committed_name(&prepared.temporary);
        self.hidden
            .join(name.unwrap_or_else(|| format!("{COMMITTED}{}", prepared.temporary)))
    }

    /// The file that says whose the hidden directory is.
    pub(super) fn owner(&self) -> PathBuf {
        self.hidden.join("owner.json")
    }

    /// Its name in the sink's directory, once it is committed.
    pub(super) fn visible_name(&self, file: FileId) -> String {
        let Self { uid, extension, .. } = self;
        let FileId {
            attempt,
            subtask,
            number,
        } = file;
        format!("part-{uid}-{attempt}-{subtask}-{number}.{extension}")
    }
}

impl FileId {
    /// Its name in the hidden directory.
    pub(super) fn temporary_name(self) -> String {
        let Self {
            attempt,
            subtask,
            number,
        } = self;
        format!("{IN_PROGRESS}{attempt}-{subtask}-{number}")
    }
}

/// The attempt that wrote a file in the hidden directory that is not committed; `None` if no writer
/// did.
pub(super) fn attempt_of(temporary_name: &str) -> Option<Attempt> {
    attempt_in(temporary_name.strip_prefix(IN_PROGRESS)?)
}

/// The name of a prepared file once it is committed; `None` as for [`attempt_of`].
pub(super) fn committed_name(temporary_name: &str) -> Option<String> {
    let rest = temporary_name.strip_prefix(IN_PROGRESS)?;
    attempt_in(rest).map(|_| format!("{COMMITTED}{rest}"))
}

/// The attempt and the name before it was committed, of a file in the hidden directory that is
/// committed.
pub(super) fn before_committed(name: &str) -> Option<(Attempt, String)> {
    let rest = name.strip_prefix(COMMITTED)?;
    attempt_in(rest).map(|attempt| (attempt, format!("{IN_PROGRESS}{rest}")))
}

fn attempt_in(numbers: &str) -> Option<Attempt> {
    let mut parts = numbers.split('-');
    let mut number = || parts.next()?.parse::<u64>().ok();
    let (attempt, _subtask, _number) = (number()?, number()?, number()?);
    parts.next().is_none().then_some(Attempt(attempt))
}
