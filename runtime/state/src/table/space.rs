//! What does not fit into memory leaves it, and comes back when it is looked for.

use arrow_array::{Array, ArrayRef};

use super::{Keyed, Slot, Use};
use crate::Result;
use crate::Values;
use crate::cold::Tier;
use crate::cold::keys::Head;
use crate::cold::tier::{Found, Layout, Leaving};
use crate::coverage::Sequence;
use crate::key::Probe;

/// The key was looked for since the slot was last considered.
const USED: u8 = 1;
/// What is in the cold tier is as new.
pub(super) const SAME: u8 = 2;
/// There may be something older in the cold tier.
pub(super) const KNOWN: u8 = 4;

/// Keys that leave memory together.
const EVICTED: usize = 8_192;
/// Slots that are free after room was made: this part of all, and at least so many.
const FREE_PART: usize = 8;
const LEAST_FREE: usize = 64;
const MOST_FREE: usize = 128 << 10;
/// Memory grows by this part, and not by as much again, once it is limited.
const GROWTH_PART: usize = 16;

impl<V: Values> Keyed<V> {
    /// Moves keys out of memory that were not used for a while, if the tables together have more than they
    /// may. Slots that anybody holds may be others' afterwards.
    ///
    /// # Errors
    /// What leaves memory cannot be kept.
    pub fn make_space(&mut self) -> Result<()> {
        match self.excess() {
            Some(count) => self.move_out(count),
            None => Ok(()),
        }
    }

    /// Moves so many keys out of memory, if they can leave it.
    pub(crate) fn move_out(&mut self, count: usize) -> Result<()> {
        if self.tier.is_none() && !self.begin_tier()? {
            return Ok(());
        }
        let mut rest = count;
        while rest > 0 {
            let mut slots = self.least_used(rest.min(EVICTED));
            if slots.is_empty() {
                break;
            }
            // In the order in which rows are kept, so that they are written near each other.
            slots.sort_unstable_by_key(|slot| self.hashes[*slot as usize]);
            rest = rest.saturating_sub(slots.len());
            self.evict(&slots)?;
        }
        self.keys.compact();
        self.count_memory()
    }

    /// Whether a batch should not wait any longer before [`make_space`](Self::make_space) is called.
    pub fn is_tight(&self, rows: usize) -> bool {
        self.is_movable() && self.free.len() < rows && self.is_above(self.growth(rows))
    }

    fn is_movable(&self) -> bool {
        self.share.memory().hot().is_some() && self.values.is_movable()
    }

    /// Whether the tables together have more than they may with so many more bytes.
    fn is_above(&self, more: usize) -> bool {
        let memory = self.share.memory();
        memory
            .hot()
            .is_some_and(|hot| memory.used() + more as u64 > hot)
    }

    /// How many slots should be free.
    fn reserve_slots(&self) -> usize {
        (self.used / FREE_PART).clamp(LEAST_FREE, MOST_FREE)
    }

    /// Bytes of a slot, without what keys and values have of any length.
    fn fixed_bytes(&self) -> usize {
        let own = size_of::<u64>() + size_of::<Sequence>() + size_of::<Use>();
        let marks = usize::from(self.tier.is_some());
        let times = if self.options.ttl.is_some() {
            size_of::<u64>()
        } else {
            0
        };
        own + marks + times + self.slot_bytes + self.keys.fixed_bytes()
    }

    /// Bytes that so many more keys need.
    fn growth(&self, more: usize) -> usize {
        let more = more.saturating_sub(self.free.len());
        let index = if self.index.is_grown_by(more) {
            self.index.bytes()
        } else {
            0
        };
        more * (self.fixed_bytes() + self.keys.variable_bytes() / self.used.max(1)) + index
    }

    /// How many keys should leave memory, if any.
    fn excess(&self) -> Option<usize> {
        let reserve = self.reserve_slots();
        let free = self.free.len() + (self.hashes.len() - self.used);
        if !self.is_movable() || !self.is_above(self.growth(reserve)) {
            return None;
        }
        // Arrays do not shrink: memory that is free within them is not used.
        let hot = usize::try_from(self.share.memory().hot()?).unwrap_or(usize::MAX);
        let used = usize::try_from(self.share.memory().used()).unwrap_or(usize::MAX);
        let own = self.bytes();
        let share = if used > hot {
            own / 1_024 * (hot / (used / 1_024).max(1)).min(1_024)
        } else {
            own
        };
        let live = self.used - self.free.len();
        let bytes = own.saturating_sub(free * self.fixed_bytes() + self.keys.unused_bytes());
        let key = bytes / live.max(1);
        let over = bytes.saturating_sub(share) / key.max(1);
        let count = over.max(reserve.saturating_sub(free)).min(live);
        (count > 0).then_some(count)
    }

    fn begin_tier(&mut self) -> Result<bool> {
        let Some(store) = self.share.memory().store()? else {
            return Ok(false);
        };
        let ttl = self.options.ttl;
        let ttl = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let layout = Layout {
            state: self.options.name.clone(),
            key: self.options.key.clone(),
            values: self.values.fields(),
            shape: self.shape,
            ttl,
        };
        let mut tier = Tier::new(store, layout)?;
        tier.set_now(self.now);
        self.tier = Some(tier);
        self.marks.resize(self.hashes.len(), 0);
        Ok(true)
    }

    /// Keys for which there is no room in memory are kept elsewhere from the beginning.
    pub(super) fn begin_tier_for(&mut self, rows: u64, bytes: u64) -> Result<Option<&mut Tier>> {
        if !self.is_movable() {
            return Ok(None);
        }
        // An index has up to three times the buckets that it needs; files are compressed.
        let row = self.fixed_bytes() + 3 * size_of::<u64>();
        let row = u64::try_from(row).unwrap_or(u64::MAX);
        let variable = if self.keys.is_variable() {
            bytes.saturating_mul(3)
        } else {
            0
        };
        let fits = self
            .share
            .reserve(rows.saturating_mul(row).saturating_add(variable));
        if fits {
            return Ok(None);
        }
        self.share.reserve(0);
        self.begin_tier()?;
        Ok(self.tier.as_mut())
    }

    /// Slots grow by a part of themselves where memory is limited.
    pub(super) fn reserve(&mut self, needed: usize) {
        if self.share.memory().hot().is_none() || needed <= self.hashes.capacity() {
            return;
        }
        let more = needed - self.hashes.len() + self.hashes.len() / GROWTH_PART;
        self.hashes.reserve_exact(more);
        self.changed.reserve_exact(more);
        self.uses.reserve_exact(more);
    }

    /// Keys were looked for.
    pub(super) fn mark_used(&mut self, slots: &[Slot]) {
        self.reads += slots.len() as u64;
        if self.tier.is_some() {
            for slot in slots {
                self.marks[*slot as usize] |= USED;
            }
        }
    }

    /// So many slots whose keys were not looked for lately.
    fn least_used(&mut self, count: usize) -> Vec<Slot> {
        let mut slots = Vec::with_capacity(count);
        // Once around takes the mark from those that have it, and a second time they are there.
        for _ in 0..2 * self.used {
            if slots.len() >= count {
                break;
            }
            if self.hand >= self.used {
                self.hand = 0;
            }
            let at = self.hand;
            self.hand += 1;
            if self.uses[at] == Use::Free {
                continue;
            }
            if self.marks[at] & USED != 0 {
                self.marks[at] &= !USED;
                continue;
            }
            if let Ok(slot) = Slot::try_from(at) {
                slots.push(slot);
            }
        }
        // Around twice it may have come to one twice.
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    fn head(&self, slot: Slot) -> Head {
        let at = slot as usize;
        let time = self.times.get(at);
        let ttl = self.tier.as_ref().map(Tier::layout);
        let times = time
            .zip(ttl)
            .and_then(|(time, layout)| layout.expires(*time));
        Head {
            changed: self.changed[at],
            is_deleted: self.uses[at] == Use::Deleted,
            times,
        }
    }

    /// Moves keys out of memory.
    fn evict(&mut self, slots: &[Slot]) -> Result<()> {
        let heads: Vec<Head> = slots.iter().map(|slot| self.head(*slot)).collect();
        let is_new = |slot: &Slot| self.marks[*slot as usize] & SAME == 0;
        let written: Vec<Slot> = slots.iter().copied().filter(is_new).collect();
        if !written.is_empty() {
            let keys = self.keys.arrays(&written)?;
            let values = self.values.gather(&written)?;
            let hashes: Vec<u64> = written
                .iter()
                .map(|slot| self.hashes[*slot as usize])
                .collect();
            let heads: Vec<Head> = written.iter().map(|slot| self.head(*slot)).collect();
            if let Some(tier) = &mut self.tier {
                tier.write(&Leaving {
                    keys: &keys,
                    values: &values,
                    hashes: &hashes,
                    heads: &heads,
                })?;
            }
        }
        if let Some(tier) = &mut self.tier {
            tier.left(&heads);
        }
        for slot in slots {
            if self.uses[*slot as usize] == Use::Deleted {
                self.deleted.remove(*slot, &self.hashes);
            } else {
                self.index.remove(*slot, &self.hashes);
                self.values.clear(*slot);
            }
            self.release(*slot);
        }
        self.evictions += slots.len() as u64;
        Ok(())
    }

    /// Brings keys of rows back into memory that have left it.
    pub(super) fn bring_back(
        &mut self,
        probe: &Probe<'_>,
        (keys, hashes): (&[ArrayRef], &[u64]),
        wrong: &[usize],
    ) -> Result<()> {
        if wrong.is_empty() || self.tier.as_ref().is_none_or(Tier::is_empty) {
            return Ok(());
        }
        let is_away = |row: &usize| {
            let is_key = |slot| self.keys.is_key(probe, *row, slot);
            self.index.find(hashes[*row], is_key).is_none()
                && self.deleted.find(hashes[*row], is_key).is_none()
        };
        let away: Vec<usize> = wrong.iter().copied().filter(is_away).collect();
        let Some(tier) = self.tier.as_mut().filter(|_| !away.is_empty()) else {
            return Ok(());
        };
        let Found {
            rows,
            heads,
            values,
        } = tier.take(keys, hashes, &away)?;
        self.make_room(rows.len());
        let mut slots = Vec::with_capacity(rows.len());
        for (row, head) in rows.iter().zip(&heads) {
            let slot_use = if head.is_deleted {
                Use::Deleted
            } else {
                Use::Kept
            };
            let slot = self.make(probe, *row, hashes[*row], slot_use)?;
            let at = slot as usize;
            self.changed[at] = head.changed;
            self.dirty += usize::from(head.changed == self.sequence);
            self.marks[at] = SAME | KNOWN;
            if let (Some(kept), Some((time, _))) = (self.times.get_mut(at), head.times) {
                *kept = time;
            }
            if head.is_deleted {
                self.deleted.insert(slot, &self.hashes);
            } else {
                self.index.insert(slot, &self.hashes);
                slots.push(slot);
            }
        }
        self.cold_reads += slots.len() as u64;
        if values
            .first()
            .is_some_and(|column| column.len() != slots.len())
        {
            return Err(crate::bug(
                &self.options.name,
                "rows came back without values",
            ));
        }
        self.values.scatter(&slots, &values)
    }
}
