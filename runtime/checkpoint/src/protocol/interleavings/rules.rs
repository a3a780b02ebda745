//! Our rules, and broken ones that must be found out.

use millstream_types::Attempt;

use crate::protocol::files::{File, Files, Keeping, Newest, deletable, may_name, named};
use crate::protocol::garbage::garbage;
use crate::protocol::{CheckpointMark, Mark, Record, Records};
use crate::slot::SlotNumber;

/// Our rules, or one of them broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    Ours,
    ClaimsAreCollected,
    TheEndIsCollected,
    UnsettledIsReplaced,
    UnknownIsBelieved,
    NothingIsReadAfterTheClaim,
    NothingIsMarked,
    DeploymentsAreIgnored,
    EndsAreIgnored,
    ClaimsCountAsStarts,
    EndsOfOthersCount,
    BeliefsAreOrders,
    /// Rule a of files.
    DroppedFilesAreNamedAgain,
    /// Rule b.
    UndecidedUploadsAreReused,
    /// Rule c.
    SavepointsAreIgnored,
    /// Rule d.
    ForeignIsNamed,
    /// Rule d.
    ForeignIsCollected,
    /// Rule e.
    UnreadableIsIgnored,
    FilesGoFirst,
    UnknownUploadsAreNamed,
    OwnUploadsAreCollected,
}

impl Rules {
    /// Whether the next checkpoint of an attempt may name a file.
    pub(super) fn may_name(
        self,
        attempt: Attempt,
        newest: Option<&CheckpointMark>,
        file: &File,
    ) -> bool {
        let newest = newest.map(|mark| Newest {
            id: mark.id,
            files: &mark.files,
        });
        let is_foreign = file.attempt == Attempt(0);
        let broken = match self {
            Self::DroppedFilesAreNamedAgain => file.attempt == attempt,
            Self::UndecidedUploadsAreReused => !is_foreign && file.attempt < attempt,
            Self::ForeignIsNamed => is_foreign,
            _ => false,
        };
        broken || may_name(attempt, newest, file)
    }

    /// Which files are deleted.
    pub(super) fn deletable(self, there: &Files, mut keeping: Keeping<'_>) -> Vec<File> {
        if self == Self::UnreadableIsIgnored {
            keeping.unreadable = &[];
        }
        if self == Self::SavepointsAreIgnored {
            keeping.is_savepoint_pending = false;
        }
        let mut files = deletable(there, keeping);
        if self == Self::OwnUploadsAreCollected {
            let kept = named(keeping.records.values());
            let own = there.iter().filter(|file| file.attempt == keeping.attempt);
            files.extend(own.filter(|file| !kept.contains(file)).cloned());
        }
        files
    }

    /// What is deleted, but for so many checkpoints.
    pub(super) fn garbage(self, records: &Records, retained: u32) -> Vec<SlotNumber> {
        let newest = |wanted: fn(&Record) -> bool| {
            let found = records.iter().rev().find(|(_, record)| wanted(record));
            found.map(|(slot, _)| *slot)
        };
        let mut slots = garbage(records, retained);
        let all = records.iter();
        if self == Self::ClaimsAreCollected {
            let keep = newest(|record| record.claim().is_some());
            let claims =
                all.filter(|(slot, record)| record.claim().is_some() && Some(**slot) != keep);
            slots.extend(claims.map(|(slot, _)| *slot));
        } else if self == Self::TheEndIsCollected {
            let keep = newest(|record| record.checkpoint().is_some());
            let confirmed = |record: &Record| match &record.mark {
                Mark::Committed(committed) => {
                    committed.checkpoint.map(|checkpoint| checkpoint.slot)
                }
                _ => None,
            };
            let old =
                all.filter(|(_, record)| confirmed(record).is_some_and(|slot| Some(slot) < keep));
            slots.extend(old.map(|(slot, _)| *slot));
        }
        slots
    }
}
