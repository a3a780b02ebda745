//! The store of the cold tier: RocksDB in a local directory, one for all tables of an attempt.
//!
//! Without a write-ahead log: nothing is read again after the process has ended. Every block has a
//! checksum that is verified when it is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor,
    CompactionDecision as Decision, DB, DBCompactionStyle, DBCompressionType, DataBlockIndexType,
    IngestExternalFileOptions, LogLevel, Options, ReadOptions, Snapshot, SstFileWriter, WriteBatch,
    WriteBufferManager, WriteOptions,
};

use super::keys::{Bounds, Head, change, changed_row};
use crate::coverage::Sequence;
use crate::local::unusable;
use crate::{LocalDirectory, Result};

/// What looks at rows says whether it wants more.
type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool>;

/// By table, hash and key: the row.
const ROWS: &str = "rows";
/// By table, sequence, hash and key: what has changed.
const CHANGES: &str = "changes";
/// By table, hash and key: which rows are deletions.
const DELETIONS: &str = "deletions";

/// RocksDB needs so much, however little it may have.
const LEAST_BUFFER: u64 = 256 << 10;
/// More than this is better used by what is hot.
const LARGEST_BUFFER: u64 = 64 << 20;
const BLOCK: usize = 4 << 10;
/// Keys that are looked up at once.
const LOOKED_UP: usize = 1_024;

/// State that is not in memory.
pub(crate) struct Store {
    db: DB,
    unlogged: WriteOptions,
    tables: AtomicU32,
    path: PathBuf,
    memory: u64,
    now: Arc<AtomicU64>,
    expired: Expired,
    filling: Mutex<()>,
    directory: LocalDirectory,
}

/// By table, how many rows were dropped because they had expired.
type Expired = Arc<Mutex<BTreeMap<u32, u64>>>;

/// Changes that are made together.
pub(crate) struct Writes<'a> {
    store: &'a Store,
    families: Families<'a>,
    batch: WriteBatch,
}

#[derive(Clone, Copy)]
struct Families<'a> {
    rows: &'a ColumnFamily,
    changes: &'a ColumnFamily,
    deletions: &'a ColumnFamily,
}

impl Writes<'_> {
    pub(crate) fn put_row(&mut self, key: &[u8], row: &[u8]) {
        self.batch.put_cf(self.families.rows, key, row);
    }

    pub(crate) fn put_change(&mut self, key: &[u8], sequence: Sequence) {
        let key = change(key, sequence);
        self.batch.put_cf(self.families.changes, key, []);
    }

    pub(crate) fn put_deletion(&mut self, key: &[u8]) {
        self.batch.put_cf(self.families.deletions, key, []);
    }

    pub(crate) fn delete_row(&mut self, key: &[u8]) {
        self.batch.delete_cf(self.families.rows, key);
    }

    pub(crate) fn delete_deletion(&mut self, key: &[u8]) {
        self.batch.delete_cf(self.families.deletions, key);
    }

    pub(crate) fn delete_changes(&mut self, bounds: &Bounds) {
        let (from, to) = (&bounds.from, &bounds.to);
        self.batch.delete_range_cf(self.families.changes, from, to);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.batch.size_in_bytes()
    }

    /// Makes them.
    pub(crate) fn commit(self) -> Result<()> {
        let written = self.store.db.write_opt(self.batch, &self.store.unlogged);
        written.map_err(|error| unusable(&self.store.path, &error))
    }
}

impl Store {
    /// A store without anything in it, that takes about so much memory.
    pub(crate) fn open(directory: &LocalDirectory, memory: u64) -> Result<Self> {
        let path = directory.fresh("cold");
        let (now, expired) = (Arc::new(AtomicU64::new(0)), Expired::default());
        let buffer = (memory / 2).clamp(LEAST_BUFFER, LARGEST_BUFFER);
        let cache = Cache::new_lru_cache(size(memory.max(2 * LEAST_BUFFER)));
        // Write buffers are counted as a part of the cache, which gives its blocks up for them.
        let manager = WriteBufferManager::new_write_buffer_manager_with_cache(
            size(buffer),
            // Who writes to a disk that is full is not to wait for a flush that fails.
            false,
            cache.clone(),
        );
        let mut rows = family(&cache, buffer / 2, true);
        rows.set_compaction_filter("expired", filter(Arc::clone(&now), Arc::clone(&expired)));
        let families = [
            ColumnFamilyDescriptor::new(ROWS, rows),
            ColumnFamilyDescriptor::new(CHANGES, family(&cache, buffer / 4, false)),
            ColumnFamilyDescriptor::new(DELETIONS, family(&cache, buffer / 8, false)),
        ];
        let opened = DB::open_cf_descriptors(&database(&manager), &path, families);
        let db = opened.map_err(|error| unusable(&path, &error))?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(Self {
            db,
            unlogged,
            tables: AtomicU32::new(0),
            path,
            memory,
            now,
            expired,
            filling: Mutex::new(()),
            directory: directory.clone(),
        })
    }

    /// A number for a table.
    pub(crate) fn number(&self) -> u32 {
        self.tables.fetch_add(1, Ordering::Relaxed)
    }

    /// Bytes of memory that it takes at most.
    pub(crate) const fn memory(&self) -> u64 {
        self.memory
    }

    /// How many rows of a table were dropped because they had expired, since this was asked.
    pub(crate) fn take_expired(&self, table: u32) -> u64 {
        let mut expired = self.expired.lock().unwrap_or_else(PoisonError::into_inner);
        expired.remove(&table).unwrap_or_default()
    }

    /// What time it is, for rows that expire.
    pub(crate) fn set_now(&self, now: u64) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// One table at a time is filled: it takes memory.
    pub(crate) fn alone(&self) -> MutexGuard<'_, ()> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn families(&self) -> Result<Families<'_>> {
        let family = |name: &str| {
            let family = self.db.cf_handle(name);
            family.ok_or_else(|| unusable(&self.path, &format!("it has no {name}")))
        };
        Ok(Families {
            rows: family(ROWS)?,
            changes: family(CHANGES)?,
            deletions: family(DELETIONS)?,
        })
    }

    /// For changes.
    pub(crate) fn writes(&self) -> Result<Writes<'_>> {
        Ok(Writes {
            store: self,
            families: self.families()?,
            batch: WriteBatch::default(),
        })
    }

    /// The rows of these keys, which are sorted, by their positions.
    pub(crate) fn get(&self, keys: &[Vec<u8>], found: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        self.read(keys, &ReadOptions::default(), found)
    }

    fn read(
        &self,
        keys: &[Vec<u8>],
        options: &ReadOptions,
        found: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<()> {
        let rows = self.families()?.rows;
        for (block, keys) in keys.chunks(LOOKED_UP).enumerate() {
            let read = self.db.batched_multi_get_cf_opt(rows, keys, true, options);
            for (at, row) in read.into_iter().enumerate() {
                let row = row.map_err(|error| unusable(&self.path, &error))?;
                if let Some(row) = row {
                    found(block * LOOKED_UP + at, &row);
                }
            }
        }
        Ok(())
    }

    /// The keys of deletions.
    pub(crate) fn deletions(&self, bounds: &Bounds) -> Result<Vec<Vec<u8>>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(bounds.to.clone());
        let deletions = self.families()?.deletions;
        let mut entries = self.db.raw_iterator_cf_opt(deletions, options);
        let mut keys = Vec::new();
        entries.seek(&bounds.from);
        while let Some(key) = entries.key() {
            keys.push(key.to_vec());
            entries.next();
        }
        let ended = entries.status();
        ended.map_err(|error| unusable(&self.path, &error))?;
        Ok(keys)
    }

    /// Takes rows, in the order of their keys, of which it has none: quicker than by writing them.
    pub(crate) fn ingest(&self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let path = self.directory.fresh("rows.sst");
        let ingested = write_file(&path, rows);
        ingested.map_err(|error| unusable(&path, &error))?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let ingested =
            self.db
                .ingest_external_file_cf_opts(self.families()?.rows, &options, vec![&path]);
        ingested.map_err(|error| unusable(&self.path, &error))
    }

    /// Has a thread look at what is there now, whatever is changed later.
    pub(crate) fn view(
        self: &Arc<Self>,
        work: impl FnOnce(&View<'_>) + Send + 'static,
    ) -> Result<()> {
        let store = Arc::clone(self);
        let (taken, is_taken) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("state-scan".to_owned());
        let started = thread.spawn(move || {
            let view = View {
                store: &store,
                snapshot: store.db.snapshot(),
            };
            if taken.send(()).is_ok() {
                work(&view);
            }
        });
        started.map_err(|error| unusable(&self.path, &error))?;
        let taken = is_taken.recv();
        taken.map_err(|_| unusable(&self.path, &"its state at a checkpoint cannot be held"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.db.cancel_all_background_work(true);
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// What the store has held at one moment.
pub(crate) struct View<'a> {
    store: &'a Store,
    snapshot: Snapshot<'a>,
}

impl View<'_> {
    fn options(&self, bounds: &Bounds) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        options.set_iterate_upper_bound(bounds.to.clone());
        // What is read once does not push out what is read often.
        options.fill_cache(false);
        options.set_readahead_size(1 << 20);
        options
    }

    /// Calls a function with keys and rows in order until it says no.
    pub(crate) fn rows(&self, bounds: &Bounds, found: Visit<'_>) -> Result<()> {
        let rows = self.store.families()?.rows;
        let mut entries = self
            .store
            .db
            .raw_iterator_cf_opt(rows, self.options(bounds));
        entries.seek(&bounds.from);
        while let Some((key, row)) = entries.item() {
            if !found(key, row)? {
                return Ok(());
            }
            entries.next();
        }
        let ended = entries.status();
        ended.map_err(|error| unusable(&self.store.path, &error))
    }

    /// Calls a function with the keys, in their order and each once, of rows that have changed with one of
    /// these numbers, until it says no.
    pub(crate) fn changes(
        &self,
        table: u32,
        sequences: &[Sequence],
        bounds: &Bounds,
        found: &mut dyn FnMut(&[u8]) -> Result<bool>,
    ) -> Result<()> {
        let family = self.store.families()?.changes;
        let mut lists = Vec::with_capacity(sequences.len());
        for sequence in sequences {
            let bounds = bounds.of_change(table, *sequence);
            let mut entries = self
                .store
                .db
                .raw_iterator_cf_opt(family, self.options(&bounds));
            entries.seek(&bounds.from);
            lists.push(entries);
        }
        loop {
            let heads = lists.iter().filter_map(|list| list.key());
            let Some(next) = heads.map(changed_row).min() else {
                break;
            };
            for list in &mut lists {
                while list.key().is_some_and(|key| changed_row(key) == next) {
                    list.next();
                }
            }
            if !found(&next)? {
                return Ok(());
            }
        }
        let ended = lists
            .iter()
            .try_for_each(rocksdb::DBRawIteratorWithThreadMode::status);
        ended.map_err(|error| unusable(&self.store.path, &error))
    }

    /// As [`Store::get`].
    pub(crate) fn get(&self, keys: &[Vec<u8>], found: &mut dyn FnMut(usize, &[u8])) -> Result<()> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        self.store.read(keys, &options, found)
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn database(manager: &WriteBufferManager) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_write_buffer_manager(manager);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_bytes_per_sync(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(1);
    options.set_stats_dump_period_sec(0);
    options
}

fn family(cache: &Cache, buffer: u64, is_looked_up: bool) -> Options {
    let mut options = Options::default();
    options.set_block_based_table_factory(&table_options(Some(cache), is_looked_up));
    options.set_write_buffer_size(size(buffer.max(64 << 10)));
    // Rewrites a row a few times, where levels would do it tens of times; filters keep reads from looking
    // into every file.
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_compression_per_level(&[
        DBCompressionType::None,
        DBCompressionType::None,
        DBCompressionType::Lz4,
    ]);
    options
}

fn table_options(cache: Option<&Cache>, is_looked_up: bool) -> BlockBasedOptions {
    let mut options = BlockBasedOptions::default();
    options.set_block_size(BLOCK);
    if let Some(cache) = cache {
        options.set_block_cache(cache);
    }
    options.set_cache_index_and_filter_blocks(true);
    options.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if is_looked_up {
        // In parts, of which those that are used are in the cache.
        options.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        options.set_partition_filters(true);
        options.set_bloom_filter(10.0, false);
        options.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    }
    options
}

/// Drops rows that have expired.
fn filter(
    now: Arc<AtomicU64>,
    expired: Expired,
) -> impl FnMut(u32, &[u8], &[u8]) -> Decision + Send + 'static {
    move |_, key, row| {
        let head = Head::read(row).map(|(head, _)| head);
        let now = now.load(Ordering::Relaxed);
        let table = key.first_chunk().map(|table| u32::from_be_bytes(*table));
        match (head, table) {
            (Some(head), Some(table)) if head.is_expired(now) => {
                let mut expired = expired.lock().unwrap_or_else(PoisonError::into_inner);
                *expired.entry(table).or_default() += 1;
                Decision::Remove
            }
            _ => Decision::Keep,
        }
    }
}

fn write_file(path: &Path, rows: &[(Vec<u8>, Vec<u8>)]) -> std::result::Result<(), rocksdb::Error> {
    let mut options = Options::default();
    options.set_block_based_table_factory(&table_options(None, true));
    options.set_compression_type(DBCompressionType::Lz4);
    let mut file = SstFileWriter::create(&options);
    file.open(path)?;
    for (key, row) in rows {
        file.put(key, row)?;
    }
    file.finish()
}
