//! Keys and their slots.

mod aging;
mod snapshot;
mod space;

use std::ops::Range;
use std::time::Duration;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{FieldRef, SchemaRef};
use millstream_types::{StateDeclaration, Timestamp};

use crate::breakage::Breakage;
use crate::cold::{Scan, Tier};
use crate::coverage::Sequence;
use crate::index::{Index, NONE};
use crate::key::{KeyStore, Probe};
use crate::memory::{Memory, Share};
use crate::run::{self, Shape};
use crate::{Result, Values, bug};

pub use aging::Aged;

/// Where a table keeps what belongs to a key. It is the key's until the key is removed, or expires, which
/// may happen at every barrier, or [makes room](Keyed::make_space).
pub type Slot = u32;

/// What a table is made with.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// Name of the state, unique within the operator.
    pub name: String,
    /// The key's columns.
    pub key: Vec<FieldRef>,
    /// The key groups of the subtask.
    pub key_groups: Range<u32>,
    /// Into how many groups all keys are divided.
    pub max_parallelism: u32,
    /// How long a key is kept after its last change; for ever if none.
    pub ttl: Option<Duration>,
}

/// How large a table is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableStats {
    /// Keys.
    pub keys: u64,
    /// Keys that are gone and whose deletion the next runs have to say.
    pub deletions: u64,
    /// Keys that have changed since the last barrier, deletions included.
    pub dirty: u64,
    /// Bytes in memory.
    pub bytes: u64,
    /// Of the keys, those that are not in memory.
    pub cold_keys: u64,
    /// Bytes of these on the local disk, as this table's part of what all tables have there.
    pub cold_bytes: u64,
    /// Keys that were looked for and are in memory.
    pub hot_reads: u64,
    /// Keys that were looked for and were brought back into memory.
    pub cold_reads: u64,
    /// Keys that have left memory.
    pub evictions: u64,
}

/// What a snapshot has to write of a table.
#[derive(Debug, Default)]
pub struct Copied {
    /// Rows that are in memory.
    pub(crate) rows: Vec<RecordBatch>,
    /// Rows that are not written, and of which nothing that is not in memory counts.
    pub(crate) masks: Vec<RecordBatch>,
    /// Rows that are not in memory, in order. One whose key is among the others does not count.
    pub(crate) cold: Option<Scan>,
}

/// A table, whatever its values are: what snapshots need of it. Everything but its name, its type, its
/// size and the time is for the [`Keeper`](crate::Keeper) alone.
pub trait Table: Send {
    /// Its name.
    fn name(&self) -> &str;

    /// Its name and types.
    fn declaration(&self) -> StateDeclaration;

    /// How large it is.
    fn stats(&self) -> TableStats;

    /// What time it is, for keys that expire.
    fn set_now(&mut self, now: Timestamp);

    /// Memory that it shares with other tables.
    fn set_memory(&mut self, memory: &Memory);

    /// The columns of its runs.
    fn schema(&self) -> SchemaRef;

    /// How its runs are sorted.
    fn shape(&self) -> Shape;

    /// Everything that changes from now on has this number.
    fn begin(&mut self, sequence: Sequence);

    /// How many keys have changed since a number, deletions included.
    fn changed_since(&self, since: Sequence) -> u64;

    /// Copies what has changed since a number, and all keys of these groups.
    ///
    /// # Errors
    /// The values do not make arrays: a bug. What is not in memory cannot be read.
    fn copy(&mut self, since: Sequence, complete: Range<u32>) -> Result<Copied>;

    /// No older run is needed for these groups: deletions with numbers up to this are forgotten.
    ///
    /// # Errors
    /// What is not in memory cannot be changed.
    fn forget_deletions(&mut self, until: Sequence, complete: Range<u32>) -> Result<()>;

    /// Nobody will ask what has changed since a lower number, but for everything.
    ///
    /// # Errors
    /// What is not in memory cannot be changed.
    fn forget_changes(&mut self, floor: Sequence) -> Result<()>;

    /// Where so many rows, which have so many bytes in files, are kept if they are too many for memory. None
    /// of them is in memory yet.
    ///
    /// # Errors
    /// There is no such place.
    fn tier_for(&mut self, rows: u64, bytes: u64) -> Result<Option<&mut Tier>>;

    /// What time it is.
    fn now(&self) -> Timestamp;

    /// Takes rows of a run; keys that are there, or are known as deleted, are newer and stay.
    ///
    /// # Errors
    /// The rows have other columns.
    fn load(&mut self, rows: &RecordBatch, hashes: &[u64], sequence: Sequence) -> Result<()>;
}

/// What a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
enum Use {
    /// Nobody's.
    #[default]
    Free,
    /// Of a key that no run holds yet.
    New,
    /// Of a key.
    Kept,
    /// Of a key that is gone and that older runs may hold.
    Deleted,
}

/// A table of keys with values.
#[derive(Debug)]
pub struct Keyed<V> {
    options: TableOptions,
    /// Its type, for checkpoints.
    state_type: String,
    shape: Shape,
    schema: SchemaRef,
    slot_bytes: usize,
    values: V,
    keys: KeyStore,
    index: Index,
    /// Slots of keys that are gone.
    deleted: Index,
    /// By slot, as everything down to `times`.
    hashes: Vec<u64>,
    changed: Vec<Sequence>,
    uses: Vec<Use>,
    /// Time of the last change in milliseconds, with a time to live only.
    times: Vec<u64>,
    /// Slots below this were used.
    used: usize,
    free: Vec<Slot>,
    now: u64,
    sequence: Sequence,
    dirty: usize,
    /// Slots that the last [`resolve`](Self::resolve) has made.
    made: Vec<Slot>,
    heads: Vec<u64>,
    wrong: Vec<usize>,
    share: Share,
    /// What is not in memory, once something has left it.
    tier: Option<Tier>,
    /// By slot, with a tier only.
    marks: Vec<u8>,
    /// The slot that is looked at first when room is needed.
    hand: usize,
    reads: u64,
    cold_reads: u64,
    evictions: u64,
}

impl<V: Values> Keyed<V> {
    /// An empty table.
    pub fn new(options: TableOptions, values: V) -> Self {
        let fields = values.fields();
        let describe = |fields: &[FieldRef]| {
            let texts = fields.iter();
            let texts = texts.map(|field| format!("{} {}", field.name(), field.data_type()));
            texts.collect::<Vec<_>>().join(", ")
        };
        Self {
            state_type: format!("{} -> {}", describe(&options.key), describe(&fields)),
            shape: Shape {
                key: options.key.len(),
                entry: 0,
                max_parallelism: options.max_parallelism,
            },
            schema: run::schema(&options.key, fields, options.ttl.is_some()),
            slot_bytes: values.slot_bytes(),
            values,
            keys: KeyStore::new(&options.name, options.key.clone()),
            options,
            index: Index::new(),
            deleted: Index::new(),
            hashes: Vec::new(),
            changed: Vec::new(),
            uses: Vec::new(),
            times: Vec::new(),
            used: 0,
            free: Vec::new(),
            now: 0,
            sequence: 1,
            dirty: 0,
            made: Vec::new(),
            heads: Vec::new(),
            wrong: Vec::new(),
            share: Share::default(),
            tier: None,
            marks: Vec::new(),
            hand: 0,
            reads: 0,
            cold_reads: 0,
            evictions: 0,
        }
    }

    /// What its declaration says as its type, instead of names and types of its columns.
    #[must_use]
    pub fn with_type(mut self, state_type: impl Into<String>) -> Self {
        self.state_type = state_type.into();
        self
    }

    /// A table of what keys have several of: the last `columns` columns of the key only tell a key's
    /// entries apart, and the hashes are those of [`entries`](millstream_types::keys::entries).
    #[must_use]
    pub fn with_entries(mut self, columns: usize) -> Self {
        self.shape.entry = columns.min(self.shape.key);
        self
    }

    /// Finds the slots of keys, one for each row, and makes those that are missing. `hashes` are those
    /// that [`keys::hash`](millstream_types::keys::hash) computes of the same columns. New keys count as
    /// changed, and [`made`](Self::made) are their slots.
    ///
    /// Keys that have left memory are brought back.
    ///
    /// # Errors
    /// The arrays are not those of the key, or the tables together have more than their
    /// [`Memory`].
    pub fn resolve(
        &mut self,
        keys: &[ArrayRef],
        hashes: &[u64],
        slots: &mut Vec<Slot>,
    ) -> Result<()> {
        slots.clear();
        self.made.clear();
        let probe = self.keys.probe(keys, hashes.len())?;
        let mut wrong = self.look_up(&probe, hashes, slots);
        self.bring_back(&probe, (keys, hashes), &wrong)?;
        self.make_room(wrong.len());
        for row in &wrong {
            slots[*row] = self.find_or_make(&probe, *row, hashes[*row])?;
        }
        wrong.clear();
        self.wrong = wrong;
        self.renew_expired(slots);
        self.mark_used(slots);
        debug_assert!(
            self.made.is_empty() || self.has_hashes(keys, hashes),
            "hashes are those of the keys"
        );
        self.count_memory()
    }

    /// Finds the slots of keys; none for a key that is not there.
    ///
    /// # Errors
    /// The arrays are not those of the key.
    pub fn find(
        &mut self,
        keys: &[ArrayRef],
        hashes: &[u64],
        slots: &mut Vec<Option<Slot>>,
    ) -> Result<()> {
        slots.clear();
        let probe = self.keys.probe(keys, hashes.len())?;
        let mut found = Vec::with_capacity(hashes.len());
        let mut wrong = self.look_up(&probe, hashes, &mut found);
        self.bring_back(&probe, (keys, hashes), &wrong)?;
        for row in &wrong {
            let is_key = |slot| self.keys.is_key(&probe, *row, slot);
            found[*row] = self.index.find(hashes[*row], is_key).unwrap_or(NONE);
        }
        wrong.clear();
        self.wrong = wrong;
        let is_there = |slot: &Slot| *slot != NONE && !self.is_expired(*slot);
        let found = found.into_iter().map(|slot| Some(slot).filter(is_there));
        slots.extend(found);
        Ok(())
    }

    /// The slots that the last [`resolve`](Self::resolve) has made, in the order of their first rows. Each
    /// holds what a new key begins with.
    pub fn made(&self) -> &[Slot] {
        &self.made
    }

    /// A slot was changed: the next run holds it.
    pub fn touch(&mut self, slot: Slot) {
        let at = slot as usize;
        if self.changed[at] != self.sequence {
            self.changed[at] = self.sequence;
            self.dirty += 1;
        }
        if let Some(time) = self.times.get_mut(at) {
            *time = self.now;
        }
        if let Some(mark) = self.marks.get_mut(at)
            && !Breakage::ChangeIsTheSame.is_seeded()
        {
            *mark &= !space::SAME;
        }
    }

    /// As [`touch`](Self::touch), for many; a slot may be among them several times.
    pub fn touch_all(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.touch(*slot);
        }
    }

    /// Removes the key of a slot, which holds what a new key begins with afterwards.
    pub fn remove(&mut self, slot: Slot) {
        let was = self.uses[slot as usize];
        if !matches!(was, Use::New | Use::Kept) {
            return;
        }
        self.index.remove(slot, &self.hashes);
        self.values.clear(slot);
        if was == Use::New {
            self.release(slot);
        } else {
            self.touch(slot);
            self.uses[slot as usize] = Use::Deleted;
            self.deleted.insert(slot, &self.hashes);
        }
    }

    /// Forgets all keys, and that they were there: for a table that no snapshot knows.
    pub fn clear(&mut self) {
        for at in 0..self.used {
            if let Ok(slot) = Slot::try_from(at) {
                self.values.clear(slot);
            }
        }
        self.uses[..self.used].fill(Use::Free);
        self.changed[..self.used].fill(0);
        self.keys.clear_all();
        self.index.clear();
        self.deleted.clear();
        self.free.clear();
        self.marks.fill(0);
        self.used = 0;
        self.dirty = 0;
    }

    /// The keys of slots, in columns.
    ///
    /// # Errors
    /// They do not make arrays.
    pub fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        self.keys.arrays(slots)
    }

    /// The slots of all keys that are in memory.
    pub fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let uses = (0..).zip(&self.uses[..self.used]);
        let is_key = |slot_use: &Use| matches!(slot_use, Use::New | Use::Kept);
        let slots = uses.filter(move |(_, slot_use)| is_key(slot_use));
        slots
            .map(|(slot, _)| slot)
            .filter(|slot| !self.is_expired(*slot))
    }

    /// How many keys are in memory; those count that have expired and were not looked at since.
    pub const fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no key in memory.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values.
    pub const fn values(&self) -> &V {
        &self.values
    }

    /// The values, to be changed; who changes a slot [touches](Self::touch) it.
    pub const fn values_mut(&mut self) -> &mut V {
        &mut self.values
    }

    /// What it was made with.
    pub const fn options(&self) -> &TableOptions {
        &self.options
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        let own = size_of::<u64>() + size_of::<Sequence>() + size_of::<Use>();
        let fixed = self.hashes.capacity() * (own + self.slot_bytes);
        let times = self.times.capacity() * size_of::<u64>() + self.marks.capacity();
        let indices = self.index.bytes() + self.deleted.bytes();
        let free = self.free.capacity() * size_of::<Slot>();
        fixed + times + indices + free + self.keys.bytes() + self.values.variable_bytes()
    }

    fn count_memory(&mut self) -> Result<()> {
        let (now, keys) = (self.bytes() as u64, self.len());
        self.share.set(now, &self.options.name, keys)
    }

    /// Puts the slots of rows into `slots`, and returns the rows for which they are not right.
    fn look_up(&mut self, probe: &Probe<'_>, hashes: &[u64], slots: &mut Vec<Slot>) -> Vec<usize> {
        let mut wrong = std::mem::take(&mut self.wrong);
        self.index.candidates(hashes, &mut self.heads, slots);
        self.keys.mismatches(probe, slots, &mut wrong);
        wrong
    }

    /// Makes room for this many more keys.
    fn make_room(&mut self, more: usize) {
        let needed = self.used + more.saturating_sub(self.free.len());
        if needed <= self.hashes.len() {
            return;
        }
        self.reserve(needed);
        self.hashes.resize(needed, 0);
        self.changed.resize(needed, 0);
        self.uses.resize(needed, Use::Free);
        if self.options.ttl.is_some() {
            self.times.resize(needed, 0);
        }
        if self.tier.is_some() {
            self.marks.resize(needed, 0);
        }
        self.keys.resize(needed);
        self.values.resize(needed);
    }

    fn find_or_make(&mut self, probe: &Probe<'_>, row: usize, hash: u64) -> Result<Slot> {
        let is_key = |slot| self.keys.is_key(probe, row, slot);
        if let Some(slot) = self.index.find(hash, is_key) {
            return Ok(slot);
        }
        let slot = match self.deleted.find(hash, is_key) {
            Some(slot) => {
                self.deleted.remove(slot, &self.hashes);
                self.uses[slot as usize] = Use::Kept;
                slot
            }
            None => self.make(probe, row, hash, Use::New)?,
        };
        self.index.insert(slot, &self.hashes);
        self.touch(slot);
        self.made.push(slot);
        Ok(slot)
    }

    /// A slot for a key. There is room.
    fn make(&mut self, probe: &Probe<'_>, row: usize, hash: u64, slot_use: Use) -> Result<Slot> {
        let slot = match self.free.last() {
            Some(slot) => *slot,
            None => Slot::try_from(self.used)
                .ok()
                .filter(|slot| *slot != NONE)
                .ok_or_else(|| bug(&self.options.name, "it has more keys than there are slots"))?,
        };
        self.keys.set(probe, row, slot)?;
        if self.free.pop().is_none() {
            self.used += 1;
        }
        self.hashes[slot as usize] = hash;
        self.uses[slot as usize] = slot_use;
        if let Some(mark) = self.marks.get_mut(slot as usize) {
            *mark = 0;
        }
        Ok(slot)
    }

    /// A slot is nobody's. It is in no index and its values are cleared.
    fn release(&mut self, slot: Slot) {
        let at = slot as usize;
        if self.changed[at] == self.sequence {
            self.dirty -= 1;
        }
        self.changed[at] = 0;
        self.uses[at] = Use::Free;
        self.keys.clear(slot);
        self.free.push(slot);
    }

    fn is_expired(&self, slot: Slot) -> bool {
        let time = self.times.get(slot as usize);
        time.is_some_and(|time| self.is_past(*time))
    }

    /// Whether a key that has changed last at this time has expired.
    fn is_past(&self, time: u64) -> bool {
        let millis = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let ttl = self.options.ttl.map(millis);
        ttl.is_some_and(|ttl| time.saturating_add(ttl) <= self.now)
    }

    /// Keys that have expired are new keys when they come again.
    fn renew_expired(&mut self, slots: &[Slot]) {
        if self.options.ttl.is_none() {
            return;
        }
        for slot in slots {
            if self.is_expired(*slot) {
                self.values.clear(*slot);
                self.touch(*slot);
                self.made.push(*slot);
            }
        }
    }

    fn has_hashes(&self, keys: &[ArrayRef], hashes: &[u64]) -> bool {
        let fields: Vec<FieldRef> = self.options.key.clone();
        let nullable = fields.iter().map(|field| field.as_ref().clone());
        let nullable = nullable.map(|field| field.with_nullable(true));
        let schema = arrow_schema::Schema::new(nullable.collect::<Vec<_>>());
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(hashes.len()));
        let rows = RecordBatch::try_new_with_options(schema.into(), keys.to_vec(), &options);
        rows.is_ok_and(|rows| self.shape.hashes(&rows).is_ok_and(|own| own == hashes))
    }
}
