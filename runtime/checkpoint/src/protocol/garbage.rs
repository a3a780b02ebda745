//! Which slots may go.

use std::collections::BTreeSet;

use crate::protocol::view::last_wipe;
use crate::protocol::{Mark, Records};
use crate::slot::{CommittedEntry, SlotNumber};

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
            Mark::Committed(committed) => !named(committed).any(|slot| kept.contains(&slot)),
        })
        .map(|(slot, _)| *slot)
        .collect()
}

/// Checkpoints that a confirmation says something about.
fn named(committed: &CommittedEntry) -> impl Iterator<Item = SlotNumber> {
    let named = [committed.checkpoint, committed.given_up];
    named
        .into_iter()
        .flatten()
        .map(|checkpoint| checkpoint.slot)
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use millstream_types::{Attempt, CheckpointId, CheckpointKind, Timestamp};
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{CheckpointMark, Record};
    use crate::release::ReleaseReason;
    use crate::slot::{ClaimEntry, DecidedCheckpoint, Holder};

    /// What a slot says; a confirmation points this many checkpoints back.
    #[derive(Debug, Clone)]
    enum Said {
        Claim,
        Checkpoint,
        Committed { back: usize },
        GaveUp { back: usize },
        Recovered,
        Released(ReleaseReason),
    }

    fn said() -> impl Strategy<Value = Said> {
        prop_oneof![
            2 => Just(Said::Claim),
            6 => Just(Said::Checkpoint),
            4 => (0_usize..3).prop_map(|back| Said::Committed { back }),
            1 => (0_usize..3).prop_map(|back| Said::GaveUp { back }),
            1 => Just(Said::Recovered),
            1 => Just(Said::Released(ReleaseReason::Stopped)),
            1 => Just(Said::Released(ReleaseReason::Deleted)),
        ]
    }

    /// A chain that says this, slot by slot.
    fn records(all: &[Said]) -> Records {
        let mut records = Records::new();
        let mut checkpoints: Vec<SlotNumber> = Vec::new();
        for (number, said) in (1_u64..).zip(all) {
            let slot = SlotNumber(number);
            let decided = |slot: SlotNumber| DecidedCheckpoint {
                id: CheckpointId(slot.0),
                attempt: Attempt(1),
                slot,
            };
            let confirmed = |checkpoint: Option<SlotNumber>, given_up: Option<SlotNumber>| {
                Mark::Committed(CommittedEntry {
                    checkpoint: checkpoint.map(decided),
                    given_up: given_up.map(decided),
                    swept_through: Attempt(0),
                })
            };
            let nth = |back: usize| checkpoints.iter().rev().nth(back).copied();
            let mark = match said {
                Said::Claim => claim(),
                Said::Checkpoint => checkpoint(slot),
                Said::Committed { back } => confirmed(nth(*back), None),
                Said::GaveUp { back } => confirmed(None, nth(*back)),
                Said::Recovered => confirmed(None, None),
                Said::Released(reason) => Mark::Released((*reason).into()),
            };
            if matches!(mark, Mark::Checkpoint(_)) {
                checkpoints.push(slot);
            }
            let record = Record {
                attempt: Attempt(1),
                newest: None,
                next_checkpoint: CheckpointId(1),
                deployment: None,
                lineage: None,
                mark,
            };
            records.insert(slot, record);
        }
        records
    }

    fn claim() -> Mark {
        Mark::Claim(ClaimEntry {
            nonce: String::new(),
            holder: Holder {
                name: String::new(),
                build: String::new(),
                identity: None,
                parallelism: 1,
                deployment: None,
                host: None,
                sinks: BTreeMap::new(),
            },
            time: Timestamp(0),
            replaced: Vec::new(),
            earlier: Vec::new(),
            ended: None,
        })
    }

    fn checkpoint(slot: SlotNumber) -> Mark {
        Mark::Checkpoint(CheckpointMark {
            id: CheckpointId(slot.0),
            kind: CheckpointKind::Checkpoint,
            decided_at: Timestamp(0),
            swept_through: Attempt(0),
            sha256: String::new(),
            bytes: 0,
            state_bytes: 0,
            files: Arc::default(),
        })
    }

    /// The same in the simplest way: what stays, one reason after the other.
    fn stays(records: &Records, retained: usize) -> BTreeSet<SlotNumber> {
        let deleted = Mark::Released(ReleaseReason::Deleted.into());
        let wipes = records.iter().filter(|(_, record)| record.mark == deleted);
        let wiped = wipes.map(|(slot, _)| *slot).max().unwrap_or_default();
        let mut checkpoints: Vec<SlotNumber> = Vec::new();
        for (slot, record) in records {
            if record.checkpoint().is_some() && *slot > wiped {
                checkpoints.push(*slot);
            }
        }
        let newest = checkpoints.last().copied().unwrap_or(wiped);
        let surplus = checkpoints.len().saturating_sub(retained);
        let retained: BTreeSet<SlotNumber> = checkpoints.drain(surplus..).collect();
        let mut stays = BTreeSet::new();
        for (slot, record) in records {
            let needed = match &record.mark {
                Mark::Claim(_) | Mark::Released(_) => true,
                Mark::Checkpoint(_) => retained.contains(slot),
                Mark::Committed(entry) => {
                    let mut of = [entry.checkpoint, entry.given_up].into_iter().flatten();
                    of.any(|of| retained.contains(&of.slot))
                }
            };
            if needed || *slot >= newest {
                stays.insert(*slot);
            }
        }
        stays
    }

    proptest! {
        #[test]
        fn garbage_is_what_does_not_stay(
            all in prop::collection::vec(said(), 0..40),
            retained in 1_u32..5,
        ) {
            let records = records(&all);
            let garbage = garbage(&records, retained);
            prop_assert!(garbage.is_sorted());
            let left: BTreeSet<SlotNumber> = records
                .keys()
                .filter(|slot| !garbage.contains(slot))
                .copied()
                .collect();
            prop_assert_eq!(&left, &stays(&records, usize::try_from(retained).unwrap()));
            prop_assert_eq!(left.last(), records.keys().next_back(), "the end stays");
            prop_assert!(mark(&garbage).is_none_or(|mark| Some(&mark) <= left.last()));
        }
    }
}
