//! Our rules, and broken ones that must be found out.

use crate::protocol::garbage::garbage;
use crate::protocol::{Mark, Record, Records};
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
}

impl Rules {
    /// What is deleted, but for one checkpoint.
    pub(super) fn garbage(self, records: &Records) -> Vec<SlotNumber> {
        let newest = |wanted: fn(&Record) -> bool| {
            let found = records.iter().rev().find(|(_, record)| wanted(record));
            found.map(|(slot, _)| *slot)
        };
        let mut slots = garbage(records, 1);
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
