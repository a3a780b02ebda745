//! Slots by the hashes of keys.
//!
//! Open addressing with linear probing. A bucket is one number: the lower half is the slot, plus one, the
//! upper half bits of the hash, so that a bucket of another key is seen without a look at its key. A
//! whole batch is looked up in two loops: the first only loads the bucket where each hash begins, and
//! none of its loads waits for another.

use crate::Slot;

/// No slot.
pub(crate) const NONE: Slot = Slot::MAX;

const EMPTY: u64 = 0;
const SLOT: u64 = 0xffff_ffff;
const FEWEST_BUCKETS: usize = 16;

/// Slots by hash. It does not know keys: who looks up compares them.
#[derive(Debug)]
pub(crate) struct Index {
    /// A power of two of them, at most five eighths used.
    buckets: Vec<u64>,
    used: usize,
}

/// The lower bits say where a hash begins and the upper ones which key group it is in; so both make the
/// tag.
const fn tag(hash: u64) -> u64 {
    (hash ^ (hash >> 32)) << 32
}

const fn bucket(hash: u64, slot: Slot) -> u64 {
    tag(hash) | (slot as u64 + 1)
}

/// A bucket that is not empty holds a slot plus one in its lower half.
const fn slot(bucket: u64) -> Slot {
    ((bucket & SLOT) as Slot).wrapping_sub(1)
}

const fn has_tag(bucket: u64, hash: u64) -> bool {
    (bucket ^ tag(hash)) & !SLOT == 0
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "only the lower bits of a hash say where it begins"
)]
const fn home(hash: u64, mask: usize) -> usize {
    hash as usize & mask
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            buckets: vec![EMPTY; FEWEST_BUCKETS],
            used: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.used
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<u64>()
    }

    /// Of each hash a slot whose key may be the one, or [`NONE`] if there is certainly none.
    /// `heads` is memory to work with.
    pub(crate) fn candidates(&self, hashes: &[u64], heads: &mut Vec<u64>, slots: &mut Vec<Slot>) {
        /// So that what the first loop has loaded is still in the cache for the second.
        const BLOCK: usize = 512;
        let buckets = self.buckets.as_slice();
        let mask = buckets.len() - 1;
        for block in hashes.chunks(BLOCK) {
            heads.clear();
            heads.extend(block.iter().map(|hash| buckets[home(*hash, mask)]));
            slots.extend(block.iter().zip(heads.iter()).map(|(hash, head)| {
                let (mut at, mut found) = (home(*hash, mask), *head);
                while found != EMPTY && !has_tag(found, *hash) {
                    at = (at + 1) & mask;
                    found = buckets[at];
                }
                slot(found)
            }));
        }
    }

    /// The slot of a hash whose key is the one that is looked for.
    pub(crate) fn find(&self, hash: u64, mut is_key: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let mask = self.buckets.len() - 1;
        let mut at = home(hash, mask);
        loop {
            let found = self.buckets[at];
            if found == EMPTY {
                return None;
            }
            if has_tag(found, hash) && is_key(slot(found)) {
                return Some(slot(found));
            }
            at = (at + 1) & mask;
        }
    }

    /// Adds a slot that is not there. `hashes` are those of all slots.
    pub(crate) fn insert(&mut self, slot: Slot, hashes: &[u64]) {
        if (self.used + 1) * 8 > self.buckets.len() * 5 {
            self.grow(self.buckets.len() * 2, hashes);
        }
        self.used += 1;
        self.put(slot, hashes[slot as usize]);
    }

    /// Whether so many more need more memory.
    pub(crate) const fn is_grown_by(&self, more: usize) -> bool {
        (self.used + more) * 8 > self.buckets.len() * 5
    }

    /// Makes room for this many more.
    pub(crate) fn reserve(&mut self, more: usize, hashes: &[u64]) {
        let needed = ((self.used + more) * 8).div_ceil(5).next_power_of_two();
        if needed > self.buckets.len() {
            self.grow(needed, hashes);
        }
    }

    /// Takes a slot out.
    pub(crate) fn remove(&mut self, slot: Slot, hashes: &[u64]) {
        let mask = self.buckets.len() - 1;
        let wanted = bucket(hashes[slot as usize], slot);
        let mut hole = home(hashes[slot as usize], mask);
        while self.buckets[hole] != wanted {
            if self.buckets[hole] == EMPTY {
                return;
            }
            hole = (hole + 1) & mask;
        }
        self.used -= 1;
        // Closes the gap: what was put further along because of it moves up.
        let mut next = (hole + 1) & mask;
        while self.buckets[next] != EMPTY {
            let begins = home(hashes[self::slot(self.buckets[next]) as usize], mask);
            let is_behind = next.wrapping_sub(begins) & mask >= next.wrapping_sub(hole) & mask;
            if is_behind {
                self.buckets[hole] = self.buckets[next];
                hole = next;
            }
            next = (next + 1) & mask;
        }
        self.buckets[hole] = EMPTY;
    }

    /// Takes all slots out. It keeps its memory where much of that was used.
    pub(crate) fn clear(&mut self) {
        if self.used * 16 < self.buckets.len() {
            *self = Self::new();
        } else {
            self.buckets.fill(EMPTY);
            self.used = 0;
        }
    }

    fn put(&mut self, slot: Slot, hash: u64) {
        let mask = self.buckets.len() - 1;
        let mut at = home(hash, mask);
        while self.buckets[at] != EMPTY {
            at = (at + 1) & mask;
        }
        self.buckets[at] = bucket(hash, slot);
    }

    fn grow(&mut self, buckets: usize, hashes: &[u64]) {
        let old = std::mem::replace(&mut self.buckets, vec![EMPTY; buckets]);
        for found in old.into_iter().filter(|bucket| *bucket != EMPTY) {
            let slot = slot(found);
            self.put(slot, hashes[slot as usize]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_in_and_not_taken_out(
            // Few different hashes: long probes, and slots of one hash.
            hashes in prop::collection::vec(0u64..40, 1..60),
            moves in prop::collection::vec((any::<bool>(), 0usize..60), 0..200),
        ) {
            let mut index = Index::new();
            let mut model = BTreeSet::new();
            for (is_in, at) in moves {
                let slot = Slot::try_from(at % hashes.len()).unwrap();
                if is_in && model.insert(slot) {
                    index.insert(slot, &hashes);
                } else if !is_in {
                    model.remove(&slot);
                    index.remove(slot, &hashes);
                }
                prop_assert_eq!(index.len(), model.len());
            }
            let (mut heads, mut candidates) = (Vec::new(), Vec::new());
            index.candidates(&hashes, &mut heads, &mut candidates);
            for (slot, hash) in hashes.iter().enumerate() {
                let slot = Slot::try_from(slot).unwrap();
                let found = index.find(*hash, |found| found == slot);
                prop_assert_eq!(found, model.get(&slot).copied());
                let any = model.iter().any(|slot| hashes[*slot as usize] == *hash);
                prop_assert_eq!(candidates[slot as usize] != NONE, any);
            }
        }
    }
}
