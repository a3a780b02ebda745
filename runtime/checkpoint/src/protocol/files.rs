//! Which files a checkpoint may name, and which may go.
//!
//! A file is written once, by one subtask of one attempt, for one checkpoint; its path says so.
//! Checkpoints share files: each names what it needs, and an upload that is not named by a decided
//! checkpoint does not count. A coordinator deletes files although others may be writing, deciding and
//! deleting at the same time, because of these rules:
//!
//! a. A file that the newest decided checkpoint does not name is never named again ([`may_name`]).
//!    So what is deleted because nothing names it stays unneeded, also for checkpoints that the one
//!    who deletes has never heard of.
//! b. An attempt reuses only files that the checkpoint names which it was restored from. What its
//!    predecessor has uploaded for a checkpoint that was not decided is nobody's, and goes.
//! c. While a savepoint is not complete, no file goes: its tasks may name what an older checkpoint
//!    names, because they have not heard of a newer one yet, and what they have written for it.
//! d. Files of another chain or of a savepoint are copied before the first own checkpoint names
//!    them. So they are never deleted here, and may be deleted there.
//! e. While a slot cannot be read, no file goes: it may name any of them.

use std::collections::BTreeSet;

use millstream_types::{Attempt, CheckpointId};

use crate::key::Key;
use crate::protocol::view::last_wipe;
use crate::protocol::{Record, Records};
use crate::slot::SlotNumber;

/// The folder of all files of a job.
pub(crate) const DATA: &str = "data";

/// A file of a chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct File {
    /// The attempt that wrote it.
    pub(crate) attempt: Attempt,
    /// The checkpoint that it was written for.
    pub(crate) checkpoint: CheckpointId,
    /// Its path below the job's folder.
    pub(crate) path: String,
}

/// Files of a chain.
pub(crate) type Files = BTreeSet<File>;

impl File {
    /// The file at a path below the job's folder; `None` if no file of a chain has such a path.
    pub(crate) fn at(path: &str) -> Option<Self> {
        Key::root().descendant(path)?;
        let mut segments = path.splitn(4, '/');
        let mut next = || segments.next();
        let (data, attempt, checkpoint, rest) = (next()?, next()?, next()?, next()?);
        if data != DATA || rest.is_empty() {
            return None;
        }
        Some(Self {
            attempt: Attempt(number(attempt)?),
            checkpoint: CheckpointId(number(checkpoint)?),
            path: path.to_owned(),
        })
    }
}

/// A number as it is written in paths: one text for each.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// The newest decided checkpoint, as far as it matters for files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Newest<'a> {
    /// Its number.
    pub(crate) id: CheckpointId,
    /// What it names.
    pub(crate) files: &'a Files,
}

/// Whether the next checkpoint of an attempt may name a file: one that the newest decided checkpoint
/// names, or one that the attempt has written since.
pub(crate) fn may_name(attempt: Attempt, newest: Option<Newest<'_>>, file: &File) -> bool {
    let is_named = newest.is_some_and(|newest| newest.files.contains(file));
    let is_since = newest.is_none_or(|newest| file.checkpoint > newest.id);
    is_named || (file.attempt == attempt && is_since)
}

/// Every file that one of these slots names.
pub(crate) fn named<'a>(records: impl IntoIterator<Item = &'a Record>) -> Files {
    let checkpoints = records.into_iter().filter_map(Record::checkpoint);
    checkpoints
        .flat_map(|checkpoint| checkpoint.files.iter().cloned())
        .collect()
}

/// What the holder of a chain knows when it deletes files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keeping<'a> {
    /// The holder's attempt.
    pub(crate) attempt: Attempt,
    /// Slots that stay.
    pub(crate) records: &'a Records,
    /// Slots that are there and cannot be read.
    pub(crate) unreadable: &'a [SlotNumber],
    /// Whether a savepoint was triggered that is not complete.
    pub(crate) is_savepoint_pending: bool,
}

/// Which of these files may be deleted, once the slots are gone that do not stay.
///
/// Never one of a newer attempt, and of the own one only what was written for a checkpoint up to the
/// newest decided one: anything newer may still be named.
pub(crate) fn deletable<'a>(
    there: impl IntoIterator<Item = &'a File>,
    keeping: Keeping<'_>,
) -> Vec<File> {
    let wiped = last_wipe(keeping.records);
    // What lies below a deletion of everything counts no more, whatever it names.
    let is_unsure = keeping.unreadable.iter().any(|slot| *slot > wiped);
    if is_unsure || keeping.is_savepoint_pending {
        return Vec::new();
    }
    let alive = || {
        keeping
            .records
            .range(wiped.next()..)
            .map(|(_, record)| record)
    };
    let newest = alive()
        .rev()
        .find_map(|record| Some(record.checkpoint()?.id));
    let through = match newest {
        Some(newest) => newest,
        // The holder has deleted everything, and has ended with that.
        None if is_end(keeping.records, wiped) => CheckpointId(u64::MAX),
        None => CheckpointId(0),
    };
    let kept = named(alive());
    let may_go = |file: &&File| {
        (file.attempt, file.checkpoint) <= (keeping.attempt, through) && !kept.contains(file)
    };
    there.into_iter().filter(may_go).cloned().collect()
}

/// Whether a deletion of everything is the last slot.
fn is_end(records: &Records, wiped: SlotNumber) -> bool {
    let last = records.keys().next_back().copied();
    wiped != SlotNumber::default() && last == Some(wiped)
}

#[cfg(test)]
mod tests;
