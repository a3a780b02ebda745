//! What a table has in the cold tier.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::{ArrowError, FieldRef};
use arrow_select::take::take;

use super::Store;
use super::keys::{Bounds, Codec, Head, changes_from, row_key};
use super::scan::{Scan, Scanned};
use crate::breakage::Breakage;
use crate::coverage::{EVERYTHING, Sequence};
use crate::run::Shape;
use crate::{Result, bug};

/// What the columns of a table are.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Name of the state, for messages.
    pub(crate) state: String,
    pub(crate) key: Vec<FieldRef>,
    pub(crate) values: Vec<FieldRef>,
    pub(crate) shape: Shape,
    /// Time to live in milliseconds.
    pub(crate) ttl: Option<u64>,
}

impl Layout {
    pub(crate) fn expires(&self, time: u64) -> Option<(u64, u64)> {
        self.ttl.map(|ttl| (time, time.saturating_add(ttl)))
    }
}

/// Rows that are not in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) keys: u64,
    pub(crate) deletions: u64,
    /// By the number with which they have changed; deletions included.
    pub(crate) changed: BTreeMap<Sequence, u64>,
}

impl Counts {
    pub(crate) fn add(&mut self, head: Head) {
        let count = if head.is_deleted {
            &mut self.deletions
        } else {
            &mut self.keys
        };
        *count += 1;
        *self.changed.entry(head.changed).or_default() += 1;
    }

    fn remove(&mut self, head: Head) {
        let count = if head.is_deleted {
            &mut self.deletions
        } else {
            &mut self.keys
        };
        *count = count.saturating_sub(1);
        if let Some(changed) = self.changed.get_mut(&head.changed) {
            *changed -= 1;
            if *changed == 0 {
                self.changed.remove(&head.changed);
            }
        }
    }
}

/// What a table has in the cold tier.
pub struct Tier {
    pub(super) store: Arc<Store>,
    pub(super) table: u32,
    pub(super) layout: Layout,
    keys: Codec,
    values: Codec,
    pub(super) counts: Counts,
    /// What has changed with a lower number is not listed.
    floor: Sequence,
    written_rows: u64,
    written_bytes: u64,
}

/// Rows that leave memory.
pub(crate) struct Leaving<'a> {
    pub(crate) keys: &'a [ArrayRef],
    pub(crate) values: &'a [ArrayRef],
    pub(crate) hashes: &'a [u64],
    pub(crate) heads: &'a [Head],
}

/// Rows that were found.
pub(crate) struct Found {
    /// The row of the batch that asks for it, the first if several do.
    pub(crate) rows: Vec<usize>,
    pub(crate) heads: Vec<Head>,
    /// Values of those that are not deleted, in this order.
    pub(crate) values: Vec<ArrayRef>,
}

impl Tier {
    pub(crate) fn new(store: Arc<Store>, layout: Layout) -> Result<Self> {
        let failed = |error: ArrowError| bug(&layout.state, error);
        Ok(Self {
            table: store.number(),
            store,
            keys: Codec::new(&layout.key).map_err(failed)?,
            values: Codec::new(&layout.values).map_err(failed)?,
            counts: Counts::default(),
            floor: 0,
            written_rows: 0,
            written_bytes: 0,
            layout,
        })
    }

    fn failed(&self, error: &ArrowError) -> crate::Failure {
        bug(&self.layout.state, error)
    }

    /// What the columns are.
    pub(crate) const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Rows that are not in memory.
    pub(crate) const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Whether all rows are in memory.
    pub(crate) const fn is_empty(&self) -> bool {
        self.counts.keys == 0 && self.counts.deletions == 0
    }

    /// Bytes of the rows that are not in memory, about, before they are compressed.
    pub(crate) fn bytes(&self) -> u64 {
        let rows = self.counts.keys + self.counts.deletions;
        rows * self
            .written_bytes
            .checked_div(self.written_rows)
            .unwrap_or_default()
    }

    pub(super) fn has_written(&mut self, rows: u64, bytes: usize) {
        self.written_rows += rows;
        self.written_bytes += bytes as u64;
    }

    /// What time it is.
    pub(crate) fn set_now(&mut self, now: u64) {
        if self.layout.ttl.is_some() {
            self.store.set_now(now);
            let expired = self.store.take_expired(self.table);
            self.counts.keys = self.counts.keys.saturating_sub(expired);
        }
    }

    /// Writes rows that leave memory, and of which it has none or those of the past.
    pub(crate) fn write(&mut self, leaving: &Leaving<'_>) -> Result<()> {
        let failed = |error| self.failed(&error);
        let keys = self.keys.encode_keys(leaving.keys).map_err(failed)?;
        let values = self.values.encode(leaving.values).map_err(failed)?;
        let store = Arc::clone(&self.store);
        let mut writes = store.writes()?;
        let mut bytes = Vec::new();
        for (row, (hash, head)) in leaving.hashes.iter().zip(leaving.heads).enumerate() {
            let key = row_key(self.table, *hash, keys.get(row));
            bytes.clear();
            head.write(&mut bytes);
            if head.is_deleted {
                writes.put_deletion(&key);
            } else {
                bytes.extend_from_slice(values.get(row));
            }
            writes.put_row(&key, &bytes);
            if head.changed >= self.floor && !Breakage::ChangeIsNotListed.is_seeded() {
                writes.put_change(&key, head.changed);
            }
        }
        self.has_written(leaving.heads.len() as u64, writes.bytes());
        writes.commit()
    }

    /// Rows have left memory.
    pub(crate) fn left(&mut self, heads: &[Head]) {
        for head in heads {
            self.counts.add(*head);
        }
    }

    /// Looks up some rows of a batch. What it finds counts as being in memory from now on.
    pub(crate) fn take(
        &mut self,
        keys: &[ArrayRef],
        hashes: &[u64],
        rows: &[usize],
    ) -> Result<Found> {
        let failed = |error| bug(&self.layout.state, error);
        let wanted = rows
            .iter()
            .map(|row| u32::try_from(*row).unwrap_or_default());
        let wanted = UInt32Array::from_iter_values(wanted);
        let columns = keys.iter().map(|column| take(column, &wanted, None));
        let columns = columns.collect::<std::result::Result<Vec<_>, _>>();
        let encoded = columns.and_then(|columns| self.keys.encode_keys(&columns));
        let encoded = encoded.map_err(failed)?;
        let keys = rows.iter().enumerate();
        let keys = keys.map(|(at, row)| (row_key(self.table, hashes[*row], encoded.get(at)), *row));
        let mut keys: Vec<(Vec<u8>, usize)> = keys.collect();
        keys.sort_unstable();
        keys.dedup_by(|next, first| next.0 == first.0);
        let (keys, rows): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        let (mut found, mut heads) = (Vec::new(), Vec::new());
        let mut values: Vec<Box<[u8]>> = Vec::new();
        let mut broken = None;
        self.store
            .get(&keys, &mut |at, row| match Head::read(row) {
                Some((head, value)) => {
                    found.push(rows[at]);
                    heads.push(head);
                    if !head.is_deleted {
                        values.push(value.into());
                    }
                }
                None => broken = Some(at),
            })?;
        if broken.is_some() {
            return Err(bug(&self.layout.state, "a row of the cold tier is cut off"));
        }
        for head in &heads {
            self.counts.remove(*head);
        }
        let values = self.values.decode(values.iter().map(AsRef::as_ref));
        Ok(Found {
            rows: found,
            heads,
            values: values.map_err(failed)?,
        })
    }

    /// Removes what it has of keys, which does not count, since they are in memory.
    pub(crate) fn delete(&self, keys: &[ArrayRef], hashes: &[u64]) -> Result<()> {
        let encoded = self.keys.encode_keys(keys);
        let encoded = encoded.map_err(|error| self.failed(&error))?;
        let mut writes = self.store.writes()?;
        for (row, hash) in hashes.iter().enumerate() {
            let key = row_key(self.table, *hash, encoded.get(row));
            writes.delete_row(&key);
            writes.delete_deletion(&key);
        }
        writes.commit()
    }

    /// As [`Table::forget_deletions`](crate::Table::forget_deletions).
    pub(crate) fn forget_deletions(
        &mut self,
        until: Sequence,
        complete: &Range<u32>,
    ) -> Result<()> {
        let bounds = Bounds::groups(self.table, complete, self.layout.shape.max_parallelism);
        let keys = self.store.deletions(&bounds)?;
        if keys.is_empty() {
            return Ok(());
        }
        let mut heads = vec![None; keys.len()];
        self.store.get(&keys, &mut |at, row| {
            heads[at] = Head::read(row).map(|(head, _)| head);
        })?;
        let mut writes = self.store.writes()?;
        for (key, head) in keys.iter().zip(heads) {
            match head {
                Some(head) if head.is_deleted && head.changed > until => {}
                Some(head) if head.is_deleted => {
                    writes.delete_row(key);
                    writes.delete_deletion(key);
                    self.counts.remove(head);
                }
                // The key has come back.
                Some(_) | None => writes.delete_deletion(key),
            }
        }
        writes.commit()
    }

    /// Nobody asks any more what has changed with lower numbers.
    pub(crate) fn forget_changes(&mut self, floor: Sequence) -> Result<()> {
        if floor <= self.floor {
            return Ok(());
        }
        let mut writes = self.store.writes()?;
        writes.delete_changes(&Bounds {
            from: changes_from(self.table, 0),
            to: changes_from(self.table, floor),
        });
        writes.commit()?;
        self.floor = floor;
        Ok(())
    }

    /// What has changed since a number, and all keys of these groups, as they are now; none if nothing has
    /// left memory that a snapshot could need.
    pub(crate) fn scan(
        &self,
        (groups, complete): (&Range<u32>, &Range<u32>),
        since: Sequence,
        now: u64,
    ) -> Result<Option<Scan>> {
        let is_all = since == EVERYTHING || complete == groups;
        let mut changed = self.counts.changed.range(since.max(1)..);
        if self.is_empty() || changed.next().is_none() && complete.is_empty() && !is_all {
            return Ok(None);
        }
        let complete = if is_all { groups } else { complete };
        let scanned = Scanned {
            table: self.table,
            layout: self.layout.clone(),
            groups: groups.clone(),
            complete: complete.clone(),
            since,
            listed: since >= self.floor,
            sequences: self
                .counts
                .changed
                .range(since.max(1)..)
                .map(|(at, _)| *at)
                .collect(),
            now,
        };
        Scan::begin(&self.store, scanned).map(Some)
    }
}

impl std::fmt::Debug for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tier")
            .field("table", &self.table)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
