//! Fills the cold tier from runs: all of them at once, in the order of their hashes, a batch of each in
//! memory.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{BooleanArray, RecordBatch, UInt64Array};

use super::Tier;
use super::keys::{Codec, Encoded, Head, columns, row_key};
use super::store::{Store, Writes};
use super::tier::Counts;
use crate::coverage::Sequence;
use crate::restore::Read;
use crate::run::{CHANGED_AT, corrupt};
use crate::{Result, bug};

/// Rows that are handed over together, in bytes.
const FILE_BYTES: usize = 16 << 20;
const WRITTEN_BYTES: usize = 1 << 20;

/// A run that is read row by row.
struct Cursor<'a> {
    read: &'a Read,
    tier: &'a Tier,
    codecs: &'a [Codec; 2],
    batches: Box<dyn Iterator<Item = Result<RecordBatch>> + 'a>,
    block: Option<Block>,
    at: usize,
    now: u64,
}

struct Block {
    hashes: Vec<u64>,
    keys: Encoded,
    deleted: BooleanArray,
    values: Encoded,
    times: Option<UInt64Array>,
}

/// What one run says of a key.
struct Said {
    key: Vec<u8>,
    head: Head,
    row: Vec<u8>,
}

/// What is on its way into the store.
struct Filling<'a> {
    store: &'a Store,
    writes: Writes<'a>,
    /// In the order of their keys.
    rows: Vec<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    /// What has changed with this number or later is listed.
    floor: Sequence,
    counts: Counts,
    kept: (u64, usize),
}

impl Filling<'_> {
    fn keep(&mut self, said: Said) -> Result<()> {
        let Said { key, head, row } = said;
        self.counts.add(head);
        if head.is_deleted {
            self.writes.put_deletion(&key);
        }
        if head.changed >= self.floor {
            self.writes.put_change(&key, head.changed);
        }
        let bytes = key.len() + row.len();
        self.kept = (self.kept.0 + 1, self.kept.1 + bytes);
        self.bytes += bytes;
        self.rows.push((key, row));
        if self.bytes >= FILE_BYTES {
            self.hand_over()?;
        }
        if self.writes.bytes() >= WRITTEN_BYTES {
            let writes = std::mem::replace(&mut self.writes, self.store.writes()?);
            writes.commit()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<()> {
        self.store.ingest(&self.rows)?;
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }
}

impl Tier {
    /// Takes what runs hold of the groups for which they are needed; of what has changed with `floor` or
    /// later it keeps the list. Afterwards nothing is in memory.
    pub(crate) fn fill(&mut self, reads: &[Read], now: u64, floor: Sequence) -> Result<()> {
        let store = Arc::clone(&self.store);
        let _alone = store.alone();
        self.forget_changes(floor)?;
        let failed = |error| bug(&self.layout.state, error);
        let codecs = [
            Codec::new(&self.layout.key).map_err(failed)?,
            Codec::new(&self.layout.values).map_err(failed)?,
        ];
        let mut filling = Filling {
            store: &store,
            writes: store.writes()?,
            rows: Vec::new(),
            bytes: 0,
            floor,
            counts: Counts::default(),
            kept: (0, 0),
        };
        let cursors = self.cursors(reads, &codecs, now)?;
        merge(cursors, |said| {
            // Whose time is over is not there.
            if said.head.is_expired(now) {
                return Ok(());
            }
            filling.keep(said)
        })?;
        filling.hand_over()?;
        let Filling {
            writes,
            counts,
            kept,
            ..
        } = filling;
        writes.commit()?;
        self.counts = counts;
        self.has_written(kept.0, kept.1);
        Ok(())
    }

    fn cursors<'a>(
        &'a self,
        reads: &'a [Read],
        codecs: &'a [Codec; 2],
        now: u64,
    ) -> Result<Vec<Cursor<'a>>> {
        let cursors = reads.iter().map(|read| {
            let mut cursor = Cursor {
                read,
                tier: self,
                codecs,
                batches: Box::new(read.opened.batches(&read.held.run.file)),
                block: None,
                at: 0,
                now,
            };
            cursor.settle()?;
            Ok(cursor)
        });
        cursors.collect()
    }
}

/// Calls a function with what the newest run says of each key, in the order of their hashes.
fn merge(mut cursors: Vec<Cursor<'_>>, mut keep: impl FnMut(Said) -> Result<()>) -> Result<()> {
    let heads = cursors.iter().enumerate();
    let heads = heads.filter_map(|(at, cursor)| Some(Reverse((cursor.hash()?, at))));
    let mut heads: BinaryHeap<_> = heads.collect();
    let mut said = Vec::new();
    while let Some(Reverse((hash, _))) = heads.peek().copied() {
        while let Some(Reverse((next, at))) = heads.peek().copied() {
            if next != hash {
                break;
            }
            heads.pop();
            let cursor = &mut cursors[at];
            while cursor.hash() == Some(hash) {
                said.push(cursor.take()?);
            }
            heads.extend(cursor.hash().map(|hash| Reverse((hash, at))));
        }
        said.sort_unstable_by(|one: &Said, other| {
            let newest = other.head.changed.cmp(&one.head.changed);
            one.key.cmp(&other.key).then(newest)
        });
        // What an older run says of a key does not count.
        said.dedup_by(|next, first| next.key == first.key);
        said.drain(..).try_for_each(&mut keep)?;
    }
    Ok(())
}

impl Cursor<'_> {
    /// The hash of the row at hand; none at the end.
    fn hash(&self) -> Option<u64> {
        self.block.as_ref()?.hashes.get(self.at).copied()
    }

    /// Goes on to a row of a group for which the run is needed.
    fn settle(&mut self) -> Result<()> {
        let shape = self.tier.layout.shape;
        loop {
            if let Some(block) = &self.block {
                let rest = block.hashes.get(self.at..).unwrap_or_default();
                let is_wanted = |hash: &u64| self.read.held.needed.contains(shape.group(*hash));
                if let Some(wanted) = rest.iter().position(is_wanted) {
                    self.at += wanted;
                    return Ok(());
                }
            }
            self.at = 0;
            self.block = None;
            let Some(rows) = self.batches.next().transpose()? else {
                return Ok(());
            };
            self.block = Some(self.open(&rows)?);
        }
    }

    fn open(&self, rows: &RecordBatch) -> Result<Block> {
        let file = &self.read.held.run.file;
        let layout = &self.tier.layout;
        let (key, values) = (layout.key.len(), layout.values.len());
        let [keys, value] = self.codecs;
        let encode = || {
            let keys = keys.encode_keys(columns(rows, 0..key))?;
            Ok((
                keys,
                value.encode(columns(rows, key + 1..key + 1 + values))?,
            ))
        };
        let encoded: std::result::Result<_, arrow_schema::ArrowError> = encode();
        let (keys, values) = encoded.map_err(|error| corrupt(file, error))?;
        let hashes = layout.shape.hashes(rows);
        let deleted = rows.columns().get(key);
        let deleted = deleted.and_then(|column| column.as_boolean_opt());
        let times = rows.column_by_name(CHANGED_AT);
        let times = times.and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let missing = || corrupt(file, "it does not say what is deleted");
        let block = Block {
            hashes: hashes.map_err(|error| corrupt(file, error))?,
            keys,
            deleted: deleted.ok_or_else(missing)?.clone(),
            values,
            times: times.cloned(),
        };
        if block.hashes.is_sorted() && block.deleted.len() == block.hashes.len() {
            Ok(block)
        } else {
            Err(corrupt(file, "its rows are not in order"))
        }
    }

    /// The row at hand, and goes on to the next.
    fn take(&mut self) -> Result<Said> {
        let layout = &self.tier.layout;
        let over = || bug(&layout.state, "a run is read behind its end");
        let block = self.block.as_ref().ok_or_else(over)?;
        let row = self.at;
        let times = block.times.as_ref();
        let time = times.map_or(self.now, |times| times.value(row));
        let head = Head {
            changed: self.read.held.sequence,
            is_deleted: block.deleted.value(row),
            times: layout.expires(time),
        };
        let mut bytes = Vec::new();
        head.write(&mut bytes);
        if !head.is_deleted {
            bytes.extend_from_slice(block.values.get(row));
        }
        let said = Said {
            key: row_key(self.tier.table, block.hashes[row], block.keys.get(row)),
            head,
            row: bytes,
        };
        self.at += 1;
        self.settle()?;
        Ok(said)
    }
}
