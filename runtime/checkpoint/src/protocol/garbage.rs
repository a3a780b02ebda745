//! Which slots may go.

use std::collections::BTreeSet;

use crate::protocol::view::last_wipe;
use crate::protocol::{Mark, Records};
use crate::slot::SlotNumber;

/// Slots that nothing needs any more, oldest first, when the `retained` newest checkpoints stay.
///
/// Claims and releases stay, and so does everything that is not below the newest checkpoint or a
/// wipe: the end of the chain must not become free again.
pub(crate) fn garbage(records: &Records, retained: u32) -> Vec<SlotNumber> {
    let wiped = last_wipe(records);
    let checkpoints: Vec<SlotNumber> = records
        .range(wiped.next()..)
        .filter(|(_, record)| record.checkpoint().is_some())
        .map(|(slot, _)| *slot)
        .collect();
    let retained = usize::try_from(retained.max(1)).unwrap_or(usize::MAX);
    let kept: BTreeSet<SlotNumber> = checkpoints.iter().rev().take(retained).copied().collect();
    let end = kept.last().copied().unwrap_or(wiped);
    records
        .range(..end)
        .filter(|(slot, record)| match &record.mark {
            Mark::Claim(_) | Mark::Released(_) => false,
            Mark::Checkpoint(_) => !kept.contains(slot),
            Mark::Committed(committed) => committed
                .checkpoint
                .is_none_or(|checkpoint| !kept.contains(&checkpoint.slot)),
        })
        .map(|(slot, _)| *slot)
        .collect()
}

/// Below which slot the holder must say that it deletes, before it deletes these. Whoever claims a
/// slot below a mark of the attempt before it has claimed a hole.
pub(crate) fn mark(garbage: &[SlotNumber]) -> Option<SlotNumber> {
    garbage.iter().max().map(|slot| slot.next())
}

/// Where a listing of the chain may begin once `records` is all that is left of it: at the claim
/// under which the oldest checkpoint was written. A claim is never deleted, so the place stays;
/// and the first checkpoint of an attempt says that everything older is swept, so that no earlier
/// claim matters any more.
pub(crate) fn listing_start(records: &Records) -> Option<SlotNumber> {
    let (oldest, checkpoint) = records
        .range(last_wipe(records).next()..)
        .find_map(|(slot, record)| Some((*slot, record.checkpoint()?)))?;
    records
        .range(..oldest)
        .rev()
        .filter(|(_, record)| record.claim().is_some())
        .find(|(_, record)| record.attempt <= checkpoint.swept_through.next())
        .map(|(slot, _)| *slot)
}
