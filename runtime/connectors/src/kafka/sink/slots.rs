//! Which transactional ids a writer may use next. Pure.
//!
//! An id may be initialised again only when no checkpoint can still want to commit its last
//! transaction: after a *later completed* checkpoint whose snapshot no longer lists it. A snapshot
//! lists a transaction until the writer has been told that it is committed; so the first snapshot
//! after that news lists it no more, and when a transaction prepared with or after that snapshot
//! is committed in turn, the id is free.

use std::collections::{BTreeMap, BTreeSet};

/// The ids of one writer, by their number.
#[derive(Debug)]
pub(super) struct Slots {
    bound: u32,
    never_used: u32,
    free: BTreeSet<u32>,
    prepared: BTreeMap<u32, u64>,
    confirmed: BTreeMap<u32, u64>,
    snapshots: u64,
}

impl Slots {
    /// Slots 0 to `bound` − 1, all free.
    pub(super) const fn new(bound: u32) -> Self {
        Self {
            bound,
            never_used: 0,
            free: BTreeSet::new(),
            prepared: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            snapshots: 0,
        }
    }

    /// Takes a free slot; `None` if there is none.
    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.free.pop_first() {
            return Some(slot);
        }
        (self.never_used < self.bound).then(|| {
            let slot = self.never_used;
            self.never_used += 1;
            slot
        })
    }

    /// A snapshot is taken; `slot` is prepared in it, if anything was written.
    pub(super) fn snapshot(&mut self, slot: Option<u32>) {
        self.snapshots += 1;
        if let Some(slot) = slot {
            self.prepared.insert(slot, self.snapshots);
        }
    }

    /// The transactions of these slots are committed, and a completed checkpoint has said so.
    pub(super) fn committed(&mut self, slots: &[u32]) {
        let newest = slots
            .iter()
            .filter_map(|slot| self.prepared.get(slot))
            .max()
            .copied();
        if let Some(newest) = newest {
            // Told before the snapshot `newest` was taken, so not listed in it.
            let freed: Vec<u32> = self
                .confirmed
                .iter()
                .filter(|(_, told_at)| **told_at < newest)
                .map(|(slot, _)| *slot)
                .collect();
            for slot in freed {
                self.confirmed.remove(&slot);
                self.free.insert(slot);
            }
        }
        for slot in slots {
            if self.prepared.remove(slot).is_some() {
                self.confirmed.insert(*slot, self.snapshots);
            }
        }
    }

    /// How many slots are not free.
    pub(super) fn in_use(&self) -> usize {
        let taken = usize::try_from(self.never_used).unwrap_or(usize::MAX);
        taken.saturating_sub(self.free.len())
    }
}

/// [`Slots`] for a writer that a simulator makes.
#[cfg(feature = "simulation")]
#[derive(Debug)]
pub struct SimulatedSlots(Slots);

#[cfg(feature = "simulation")]
impl SimulatedSlots {
    /// As [`Slots::new`].
    pub const fn new(bound: u32) -> Self {
        Self(Slots::new(bound))
    }

    /// As [`Slots::take`].
    pub fn take(&mut self) -> Option<u32> {
        self.0.take()
    }

    /// As [`Slots::snapshot`].
    pub fn snapshot(&mut self, slot: Option<u32>) {
        self.0.snapshot(slot);
    }

    /// As [`Slots::committed`].
    pub fn committed(&mut self, slots: &[u32]) {
        self.0.committed(slots);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_is_not_free_when_it_is_committed_but_after_the_next_commit() {
        let mut slots = Slots::new(8);
        assert_eq!(slots.take(), Some(0));
        slots.snapshot(Some(0));
        assert_eq!(slots.take(), Some(1));
        slots.committed(&[0]);
        assert_eq!(slots.take(), Some(2), "slot 0 is still listed");
        slots.snapshot(Some(1));
        slots.committed(&[1]);
        assert_eq!(slots.take(), Some(0));
    }

    #[test]
    fn a_checkpoint_that_overlaps_the_news_does_not_free_the_id() {
        let mut slots = Slots::new(8);
        for slot in 0..2 {
            assert_eq!(slots.take(), Some(slot));
            slots.snapshot(Some(slot));
        }
        // Snapshot 2 was taken before the news of 1: it lists slot 0.
        slots.committed(&[0]);
        slots.committed(&[1]);
        assert_eq!(slots.take(), Some(2));
        slots.snapshot(Some(2));
        slots.committed(&[2]);
        assert_eq!((slots.take(), slots.take()), (Some(0), Some(1)));
    }

    #[test]
    fn slots_are_bounded() {
        let mut slots = Slots::new(2);
        assert_eq!(
            (slots.take(), slots.take(), slots.take()),
            (Some(0), Some(1), None)
        );
        assert_eq!(slots.in_use(), 2);
    }

    #[test]
    fn steady_work_needs_four_ids() {
        let mut slots = Slots::new(64);
        let mut standby = slots.take();
        let mut highest = 0;
        for _ in 0..100 {
            let open = standby.unwrap();
            standby = slots.take();
            slots.snapshot(Some(open));
            slots.committed(&[open]);
            highest = highest.max(standby.unwrap());
        }
        assert!(highest < 4, "{highest}");
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Write,
        Snapshot,
        Complete(usize),
        Tell,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Write),
            Just(Step::Snapshot),
            (0_usize..4).prop_map(Step::Complete),
            Just(Step::Tell),
        ]
    }

    /// What the task and the chain around the writer do: a snapshot lists everything prepared and
    /// not told; a completed one commits all it lists; news comes later, or never.
    #[derive(Default)]
    struct Surroundings {
        open: Option<u32>,
        listed: BTreeSet<u32>,
        snapshots: Vec<BTreeSet<u32>>,
        newest_completed: Option<usize>,
        untold: Vec<BTreeSet<u32>>,
    }

    proptest! {
        #[test]
        fn no_id_is_taken_that_the_newest_completed_snapshot_or_a_later_one_lists(
            steps in proptest::collection::vec(step(), 0..200),
        ) {
            let mut slots = Slots::new(1_000);
            let mut world = Surroundings::default();
            for step in steps {
                match step {
                    Step::Write if world.open.is_none() => {
                        let taken = slots.take().unwrap();
                        let from = world.newest_completed.unwrap_or(0);
                        let wanted = world.snapshots[from..].iter().any(|one| one.contains(&taken));
                        prop_assert!(!wanted, "slot {} may still be committed", taken);
                        world.open = Some(taken);
                    }
                    Step::Write => {}
                    Step::Snapshot => {
                        let prepared = world.open.take();
                        slots.snapshot(prepared);
                        world.listed.extend(prepared);
                        world.snapshots.push(world.listed.clone());
                    }
                    Step::Complete(back) => {
                        let Some(index) = world.snapshots.len().checked_sub(back + 1) else { continue };
                        if world.newest_completed.is_none_or(|newest| newest < index) {
                            world.newest_completed = Some(index);
                            world.untold.push(world.snapshots[index].clone());
                        }
                    }
                    Step::Tell => {
                        for told in std::mem::take(&mut world.untold) {
                            let told: Vec<u32> = told.intersection(&world.listed).copied().collect();
                            for slot in &told {
                                world.listed.remove(slot);
                            }
                            slots.committed(&told);
                        }
                    }
                }
            }
        }
    }
}
