//! A table's part in snapshots and restores.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, UInt32Array, UInt64Array};
use arrow_schema::SchemaRef;
use arrow_select::take::take;
use millstream_types::{StateDeclaration, Timestamp};

use super::{Copied, Keyed, Slot, Table, TableStats, Use, space};
use crate::breakage::Breakage;
use crate::cold::Tier;
use crate::coverage::{EVERYTHING, Sequence};
use crate::memory::Memory;
use crate::run::{CHANGED_AT, Shape, batch_rows};
use crate::{Result, Values, bug};

impl<V: Values> Table for Keyed<V> {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn declaration(&self) -> StateDeclaration {
        StateDeclaration {
            name: self.options.name.clone(),
            data_type: self.state_type.clone(),
            schema: 1,
        }
    }

    fn stats(&self) -> TableStats {
        let hot = TableStats {
            keys: self.index.len() as u64,
            deletions: self.deleted.len() as u64,
            dirty: self.dirty as u64,
            bytes: self.bytes() as u64,
            hot_reads: self.reads.saturating_sub(self.cold_reads),
            cold_reads: self.cold_reads,
            evictions: self.evictions,
            ..TableStats::default()
        };
        let Some(tier) = &self.tier else {
            return hot;
        };
        let cold = tier.counts();
        let dirty = cold.changed.get(&self.sequence).copied();
        TableStats {
            keys: hot.keys + cold.keys,
            deletions: hot.deletions + cold.deletions,
            dirty: hot.dirty + dirty.unwrap_or_default(),
            cold_keys: cold.keys,
            cold_bytes: tier.bytes(),
            ..hot
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }

    fn set_now(&mut self, now: Timestamp) {
        self.now = now.0;
        if let Some(tier) = &mut self.tier {
            tier.set_now(now.0);
        }
    }

    fn set_memory(&mut self, memory: &Memory) {
        self.share.move_to(memory);
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn shape(&self) -> Shape {
        self.shape
    }

    fn begin(&mut self, sequence: Sequence) {
        self.sequence = sequence;
        self.dirty = 0;
    }

    fn changed_since(&self, since: Sequence) -> u64 {
        // Of free slots it is 0.
        let since = since.max(1);
        let changed = self.changed[..self.used].iter();
        let hot: u64 = changed.map(|changed| u64::from(*changed >= since)).sum();
        let cold = self
            .tier
            .iter()
            .flat_map(|tier| tier.counts().changed.range(since..));
        hot + cold.map(|(_, count)| count).sum::<u64>()
    }

    fn copy(&mut self, since: Sequence, complete: Range<u32>) -> Result<Copied> {
        let (slots, masks) = self.slots_to_copy(since, complete.clone());
        let groups = self.options.key_groups.clone();
        let cold = self.tier.as_ref();
        let cold = cold.map(|tier| tier.scan((&groups, &complete), since, self.now));
        let cold = cold.transpose()?.flatten();
        let bytes = self.keys.bytes() + self.values.variable_bytes();
        let rows = batch_rows(bytes, self.used);
        let batches = slots.chunks(rows).map(|slots| self.rows(slots));
        let batches = batches.collect::<Result<Vec<_>>>()?;
        let masks = if cold.is_some() { masks } else { Vec::new() };
        let masks = masks.chunks(rows).map(|slots| self.rows(slots));
        let masks = masks.collect::<Result<Vec<_>>>()?;
        for slot in slots {
            let slot_use = &mut self.uses[slot as usize];
            if *slot_use == Use::New {
                *slot_use = Use::Kept;
            }
        }
        Ok(Copied {
            rows: batches,
            masks,
            cold,
        })
    }

    fn forget_deletions(&mut self, until: Sequence, complete: Range<u32>) -> Result<()> {
        let mut forgotten = Vec::new();
        let used = if self.deleted.len() == 0 {
            0
        } else {
            self.used
        };
        for at in 0..used {
            let is_gone = self.uses[at] == Use::Deleted && self.changed[at] <= until;
            if is_gone
                && complete.contains(&self.shape.group(self.hashes[at]))
                && let Ok(slot) = Slot::try_from(at)
            {
                forgotten.push(slot);
            }
        }
        self.delete_cold(&forgotten)?;
        for slot in forgotten {
            self.deleted.remove(slot, &self.hashes);
            self.release(slot);
        }
        match &mut self.tier {
            Some(tier) => tier.forget_deletions(until, &complete),
            None => Ok(()),
        }
    }

    fn forget_changes(&mut self, floor: Sequence) -> Result<()> {
        match &mut self.tier {
            Some(tier) => tier.forget_changes(floor),
            None => Ok(()),
        }
    }

    fn tier_for(&mut self, rows: u64, bytes: u64) -> Result<Option<&mut Tier>> {
        self.begin_tier_for(rows, bytes)
    }

    fn load(&mut self, rows: &RecordBatch, hashes: &[u64], sequence: Sequence) -> Result<()> {
        let columns = self.columns(rows)?;
        let probe = self.keys.probe(columns.keys, hashes.len())?;
        self.make_room(hashes.len());
        self.index.reserve(hashes.len(), &self.hashes);
        let (mut taken, mut slots) = (Vec::new(), Vec::new());
        for (row, hash) in hashes.iter().enumerate() {
            let time = columns.times.map_or(self.now, |times| times.value(row));
            let is_key = |slot| self.keys.is_key(&probe, row, slot);
            let is_known = self.index.find(*hash, is_key).is_some()
                || self.deleted.find(*hash, is_key).is_some();
            let is_renewed = Breakage::RestoreRenews.is_seeded();
            let time = if is_renewed { self.now } else { time };
            if is_known || self.is_past(time) {
                continue;
            }
            let is_deleted = columns.deleted.value(row);
            let slot_use = if is_deleted { Use::Deleted } else { Use::Kept };
            let slot = self.make(&probe, row, *hash, slot_use)?;
            self.changed[slot as usize] = sequence;
            if let Some(kept) = self.times.get_mut(slot as usize) {
                *kept = time;
            }
            if is_deleted {
                self.deleted.insert(slot, &self.hashes);
            } else {
                self.index.insert(slot, &self.hashes);
                taken.push(row);
                slots.push(slot);
            }
        }
        self.scatter(&taken, &slots, columns.values)?;
        self.count_memory()
    }
}

/// The columns of a run.
struct Columns<'a> {
    keys: &'a [ArrayRef],
    deleted: &'a BooleanArray,
    values: &'a [ArrayRef],
    times: Option<&'a UInt64Array>,
}

impl<V: Values> Keyed<V> {
    /// Of keys that are forgotten nothing is found any more.
    fn delete_cold(&self, slots: &[Slot]) -> Result<()> {
        let Some(tier) = &self.tier else {
            return Ok(());
        };
        let is_known = |slot: &Slot| self.marks[*slot as usize] & space::KNOWN != 0;
        let slots: Vec<Slot> = slots.iter().copied().filter(is_known).collect();
        if slots.is_empty() {
            return Ok(());
        }
        let hashes = slots.iter().map(|slot| self.hashes[*slot as usize]);
        let hashes: Vec<u64> = hashes.collect();
        tier.delete(&self.keys.arrays(&slots)?, &hashes)
    }

    /// What is copied, and deletions that are not and hide what is not in memory. Keys that have expired are
    /// deleted on the way, so that they are not copied as if they lived.
    fn slots_to_copy(&mut self, since: Sequence, complete: Range<u32>) -> (Vec<Slot>, Vec<Slot>) {
        let all = self.options.key_groups.clone();
        let is_everything = since == EVERYTHING || complete == all;
        let is_left_out = |group: u32| {
            Breakage::LastGroupLeftOut.is_seeded() && !is_everything && group + 1 == complete.end
        };
        let (mut slots, mut masks) = (Vec::new(), Vec::new());
        for at in 0..self.used {
            let Ok(slot) = Slot::try_from(at) else { break };
            let is_wanted = self.changed[at] >= since.max(1);
            let is_complete = is_everything
                || !complete.is_empty() && complete.contains(&self.shape.group(self.hashes[at]));
            let is_complete = is_complete && !is_left_out(self.shape.group(self.hashes[at]));
            if !(is_wanted || is_complete) || self.uses[at] == Use::Free {
                continue;
            }
            if self.is_expired(slot) {
                self.remove(slot);
            }
            let is_copied = match self.uses[at] {
                Use::Free => false,
                // Nothing older is left that it would delete.
                Use::Deleted => !is_complete && !Breakage::DeletionLost.is_seeded(),
                Use::New | Use::Kept => true,
            };
            if is_copied {
                slots.push(slot);
            } else if self.uses[at] == Use::Deleted {
                masks.push(slot);
            }
        }
        (slots, masks)
    }

    fn rows(&self, slots: &[Slot]) -> Result<RecordBatch> {
        let mut columns = self.keys.arrays(slots)?;
        let deleted = slots.iter().map(|slot| self.uses[*slot as usize]);
        let deleted = deleted.map(|slot_use| Some(slot_use == Use::Deleted));
        columns.push(Arc::new(deleted.collect::<BooleanArray>()));
        columns.extend(self.values.gather(slots)?);
        if self.options.ttl.is_some() {
            let times = slots.iter().map(|slot| self.times[*slot as usize]);
            columns.push(Arc::new(UInt64Array::from_iter_values(times)));
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        rows.map_err(|error| bug(&self.options.name, error))
    }

    /// The columns of a run by what they are. Those of a table that got or lost its time to live since
    /// are welcome.
    fn columns<'a>(&self, rows: &'a RecordBatch) -> Result<Columns<'a>> {
        let other = || bug(&self.options.name, "a run has other columns");
        let keys = self.options.key.len();
        let values = self.schema.fields().len() - keys - 1;
        let values = values - usize::from(self.options.ttl.is_some());
        let columns = rows.columns();
        let (keys, rest) = columns.split_at_checked(keys).ok_or_else(other)?;
        let (deleted, rest) = rest.split_first().ok_or_else(other)?;
        let (values, times) = rest.split_at_checked(values).ok_or_else(other)?;
        let is_time = rows.schema_ref().column_with_name(CHANGED_AT).is_some();
        let times = times.first().filter(|_| is_time);
        Ok(Columns {
            keys,
            deleted: deleted.as_boolean_opt().ok_or_else(other)?,
            values,
            times: times.and_then(|times| times.as_primitive_opt::<UInt64Type>()),
        })
    }

    fn scatter(&mut self, taken: &[usize], slots: &[Slot], columns: &[ArrayRef]) -> Result<()> {
        let rows = columns.first().map_or(taken.len(), Array::len);
        if taken.len() == rows {
            return self.values.scatter(slots, columns);
        }
        let taken = taken
            .iter()
            .map(|row| u32::try_from(*row).unwrap_or_default());
        let taken = UInt32Array::from_iter_values(taken);
        let columns = columns.iter().map(|column| take(column, &taken, None));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>();
        let columns = columns.map_err(|error| bug(&self.options.name, error))?;
        self.values.scatter(slots, &columns)
    }
}
