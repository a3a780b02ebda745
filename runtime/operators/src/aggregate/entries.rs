//! The values of an argument, each with how often it is there for its key: what `DISTINCT` needs, and `min`
//! and `max` over rows that may be taken back.

use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::Schema;
use arrow_select::filter::filter;
use millstream_state::{Aged, Keyed, Slot, Table, TableOptions};
use millstream_types::batch::MAX_BATCH_ROWS;
use millstream_types::keys;

use super::accumulator::{Fault, Signs};
use super::calls::{EntriesOf, column};
use super::groups::{Counts, Groups};
use super::rounds::{Due, Rounds};

/// One table of values.
///
/// An entry lives as long as it counts and its key lives. Where keys expire, it has a time of its own, and is
/// of the key if it is no older than that: entries are looked through in [rounds](super::rounds), which give
/// those of a key that lives a new time, and remove those of keys that have expired.
pub(super) struct Entries {
    of: EntriesOf,
    table: Keyed<Counts>,
    max_parallelism: u32,
    /// Rows may take others back, so that it matters how often an entry is there.
    retracts: bool,
    expires: bool,
    /// Since when the keys of the batch's rows are there.
    since: Vec<u64>,
    /// Entries whose count has fallen to 0 since the last flush.
    emptied: Vec<Slot>,
    /// Of the batch at hand: 1 where a value is the first of its kind, -1 where it was the last.
    signs: Vec<i8>,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
}

/// What the batch at hand is to a table of entries.
pub(super) struct Batch<'a> {
    pub(super) records: &'a RecordBatch,
    /// 1, 0 or -1 for each row; none if all are insertions.
    pub(super) changes: Option<&'a [i8]>,
    pub(super) keys: &'a [ArrayRef],
    /// Of the keys.
    pub(super) hashes: &'a [u64],
    /// Their slots.
    pub(super) slots: &'a [Slot],
}

/// Entries, by column.
pub(super) struct Several {
    pub(super) slots: Vec<Slot>,
    pub(super) keys: Vec<ArrayRef>,
    pub(super) values: ArrayRef,
}

/// Name of the column of values beside those of the key. No column of a user has it.
const VALUE: &str = "$value";

impl Entries {
    /// The table with this number, beside one of keys. `options` are those of keys, `state_type` is what it
    /// keeps, as people read it. Rows may take others back, and somebody may keep the values in order.
    pub(super) fn new(
        number: usize,
        of: EntriesOf,
        mut options: TableOptions,
        state_type: String,
        input: &Schema,
        (retracts, is_ordered): (bool, bool),
    ) -> Self {
        options.name = format!("values-{number}");
        options.ttl = options.ttl.map(Rounds::ttl_of_values);
        let value = input.field(of.argument).clone().with_name(VALUE);
        options.key.push(Arc::new(value));
        Self {
            of,
            max_parallelism: options.max_parallelism,
            retracts,
            expires: options.ttl.is_some(),
            since: Vec::new(),
            table: Keyed::new(options, Counts::new(is_ordered))
                .with_entries(1)
                .with_type(state_type),
            emptied: Vec::new(),
            signs: Vec::new(),
            hashes: Vec::new(),
            slots: Vec::new(),
        }
    }

    /// Nobody holds a slot: moves out of memory what does not fit.
    pub(super) fn make_space(&mut self) -> Result<(), Fault> {
        Ok(self.table.make_space()?)
    }

    /// Whether the next batch should find more room.
    pub(super) fn is_tight(&self) -> bool {
        self.table.is_tight(MAX_BATCH_ROWS)
    }

    pub(super) fn table(&mut self) -> &mut dyn Table {
        &mut self.table
    }

    /// As the last [`update`](Self::update) has left them.
    pub(super) fn signs(&self) -> Signs<'_> {
        Signs::Each(&self.signs)
    }

    /// Takes a batch in, and finds out which of its rows bring a value that was not there, or take the last
    /// of its kind away.
    pub(super) fn update(&mut self, batch: &Batch<'_>, groups: &Groups) -> Result<(), Fault> {
        let mut signs = std::mem::take(&mut self.signs);
        let counted: Option<BooleanArray> =
            match self.of.signs(batch.records, batch.changes, &mut signs)? {
                Signs::All => {
                    signs.clear();
                    signs.resize(batch.records.num_rows(), 1);
                    None
                }
                Signs::Each(signs) => signs
                    .contains(&0)
                    .then(|| signs.iter().map(|sign| Some(*sign != 0)).collect()),
            };
        if self.expires {
            let counting = batch.slots.iter().zip(&signs);
            let counting = counting.filter(|(_, sign)| **sign != 0);
            self.since.clear();
            let since = counting.map(|(slot, _)| groups.since(*slot));
            self.since.extend(since);
        }
        self.resolve(batch, counted.as_ref())?;
        self.count(&mut signs);
        self.signs = signs;
        Ok(())
    }

    /// Finds the slots of the rows that count.
    fn resolve(&mut self, batch: &Batch<'_>, counted: Option<&BooleanArray>) -> Result<(), Fault> {
        let mut columns = batch.keys.to_vec();
        columns.push(Arc::clone(column(batch.records, self.of.argument)?));
        self.hashes.clear();
        if let Some(counted) = counted {
            for column in &mut columns {
                let kept = filter(column.as_ref(), counted);
                *column = kept.map_err(|error| Fault::Internal(error.to_string()))?;
            }
            let hashes = batch.hashes.iter().zip(counted.values().iter());
            let kept = hashes.filter(|(_, counts)| *counts).map(|(hash, _)| *hash);
            self.hashes.extend(kept);
        } else {
            self.hashes.extend_from_slice(batch.hashes);
        }
        let entry = columns.get(batch.keys.len()..).unwrap_or_default();
        keys::entries(&mut self.hashes, entry, self.max_parallelism)
            .map_err(|error| Fault::Internal(error.to_string()))?;
        self.table
            .resolve(&columns, &self.hashes, &mut self.slots)?;
        Ok(())
    }

    /// Counts the rows whose sign is not 0, and leaves 0 where that makes no difference.
    fn count(&mut self, signs: &mut [i8]) {
        let counting = signs.iter_mut().filter(|sign| **sign != 0);
        for (row, (sign, slot)) in counting.zip(&self.slots).enumerate() {
            let since = self.since.get(row).copied().unwrap_or_default();
            if self.table.changed_at(*slot) < since {
                self.table.values_mut().forget(*slot);
            }
            let known = self.table.values().of(*slot) > 0;
            if known && !self.retracts {
                // It stays, however often it comes again.
                *sign = 0;
                continue;
            }
            let step = self.table.values_mut().count(*slot, *sign);
            if *sign < 0 && (step < 0 || !known) {
                self.emptied.push(*slot);
            }
            *sign = step;
            self.table.touch(*slot);
        }
    }

    /// Removes what has gone since the last flush and has not come back.
    pub(super) fn settle(&mut self) {
        self.emptied.sort_unstable();
        self.emptied.dedup();
        for slot in self.emptied.drain(..) {
            if self.table.values().of(slot) == 0 {
                self.table.remove(slot);
            }
        }
    }

    /// What a restore has brought; none from the second time on.
    pub(super) fn take_restored(&mut self) -> Result<Option<Several>, Fault> {
        if !self.table.values().has_restored() {
            return Ok(None);
        }
        let slots = self.table.values_mut().take_restored();
        self.several(slots).map(Some)
    }

    /// What has not been renewed for long.
    pub(super) fn aged(&self, due: &Due) -> Result<Aged, Fault> {
        Ok(self.table.aged(due.before, &due.groups)?)
    }

    /// Some of it; none at the end. Nobody holds a slot.
    pub(super) fn next_aged(&mut self, aged: &mut Aged) -> Result<Option<Several>, Fault> {
        let slots = self.table.next_aged(aged)?;
        slots.map(|slots| self.several(slots)).transpose()
    }

    fn several(&self, slots: Vec<Slot>) -> Result<Several, Fault> {
        let mut keys = self.table.keys(&slots)?;
        let missing = || Fault::Internal("an entry has no value".to_owned());
        Ok(Several {
            values: keys.pop().ok_or_else(missing)?,
            keys,
            slots,
        })
    }

    /// Whether an entry is of a key that is there since a time.
    pub(super) fn is_of(&self, slot: Slot, since: u64) -> bool {
        self.table.changed_at(slot) >= since
    }

    /// Gives an entry a new time, or removes it.
    pub(super) fn renew(&mut self, slot: Slot, lives: bool) {
        if lives {
            self.table.touch(slot);
        } else {
            self.table.remove(slot);
        }
    }
}
