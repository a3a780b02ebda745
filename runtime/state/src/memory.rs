//! How much memory the tables of a process may take together, and where they keep what needs more.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use millstream_types::text::bytes;
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::cold::{HAS_COLD_TIER, Store};
use crate::{LocalDirectory, Result};

/// Of the memory, in percent: what tables may have before they move a part of it out.
const HOT: u64 = 60;
/// Of the memory, in percent: what the cold tier has for itself. The rest is for a batch on its way.
const COLD: u64 = 20;
/// More than this does not make the cold tier quicker.
const MOST_COLD: u64 = 1 << 30;

/// Memory that tables share. Without a limit, none is refused.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: u64,
    /// What tables may have before they move a part of it out.
    hot: u64,
    used: AtomicU64,
    /// Where what needs more is kept, if anywhere.
    parent: Option<PathBuf>,
    /// Made there when something is.
    directory: Mutex<Option<LocalDirectory>>,
    store: Mutex<Option<Arc<Store>>>,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            limit: u64::MAX,
            hot: u64::MAX,
            used: AtomicU64::new(0),
            parent: None,
            directory: Mutex::new(None),
            store: Mutex::new(None),
        }
    }
}

impl Memory {
    /// Memory of at most so many bytes.
    pub fn limited(limit: u64) -> Self {
        Self::with_directory(limit, None)
    }

    /// Memory of at most so many bytes; what needs more is kept below a directory, if this build
    /// [can](HAS_COLD_TIER).
    pub fn with_directory(limit: u64, parent: Option<PathBuf>) -> Self {
        let pool = Pool {
            limit,
            hot: limit / 100 * HOT,
            parent: parent.filter(|_| HAS_COLD_TIER && limit < u64::MAX),
            ..Pool::default()
        };
        Self(Arc::new(pool))
    }

    /// As [`with_directory`](Self::with_directory), but with so many bytes for tables as are said, not by a
    /// rule. With none, all that can leave memory does.
    pub fn divided(limit: u64, hot: u64, parent: PathBuf) -> Self {
        let pool = Pool {
            limit,
            hot,
            parent: Some(parent).filter(|_| HAS_COLD_TIER),
            ..Pool::default()
        };
        Self(Arc::new(pool))
    }

    /// Bytes that tables have.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
    }

    /// Where what needs more is kept, if anywhere.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn directory(&self) -> Result<Option<LocalDirectory>> {
        let Some(parent) = &self.0.parent else {
            return Ok(None);
        };
        let mut directory = self
            .0
            .directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if directory.is_none() {
            *directory = Some(LocalDirectory::claim(parent)?);
        }
        Ok(directory.clone())
    }

    /// Whether files of so many bytes hold more than belongs into memory.
    pub fn is_much(&self, bytes: u64) -> bool {
        // They are compressed, and tables have indices.
        self.hot().is_some_and(|hot| bytes > hot / 8)
    }

    /// Bytes that tables may have before they move a part of it out; none where they cannot.
    pub(crate) fn hot(&self) -> Option<u64> {
        let pool = &self.0;
        let is_limited = pool.parent.is_some();
        is_limited.then_some(pool.hot)
    }

    /// What is not in memory.
    pub(crate) fn store(&self) -> Result<Option<Arc<Store>>> {
        let Some(directory) = self.directory()? else {
            return Ok(None);
        };
        let mut store = self.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        if store.is_none() {
            let memory = (self.0.limit / 100 * COLD).min(MOST_COLD);
            *store = Some(Arc::new(Store::open(&directory, memory)?));
        }
        Ok(store.clone())
    }

    /// Bytes that are not for tables, because the cold tier has them.
    fn taken(&self) -> u64 {
        let store = self.0.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map_or(0, |store| store.memory())
    }
}

/// What a table has of the memory. It is given back when the table is gone.
#[derive(Debug, Default)]
pub(crate) struct Share {
    memory: Memory,
    bytes: u64,
}

impl Share {
    /// A share of other memory, as large as before.
    pub(crate) fn move_to(&mut self, memory: &Memory) {
        self.memory.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.memory = memory.clone();
        self.memory.0.used.fetch_add(self.bytes, Ordering::Relaxed);
    }

    /// What it is a share of.
    pub(crate) const fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Takes so many bytes; whether all tables together do not have too many now.
    pub(crate) fn reserve(&mut self, now: u64) -> bool {
        let pool = &self.memory.0;
        pool.used.fetch_add(now, Ordering::Relaxed);
        let used = pool.used.fetch_sub(self.bytes, Ordering::Relaxed) - self.bytes;
        self.bytes = now;
        self.memory.hot().is_none_or(|hot| used <= hot)
    }

    /// The table has so many bytes now, and so many keys.
    pub(crate) fn set(&mut self, now: u64, state: &str, keys: usize) -> Result<()> {
        if now == self.bytes {
            return Ok(());
        }
        let has_grown = now > self.bytes;
        self.reserve(now);
        let limit = self.memory.0.limit;
        let used = self.memory.used() + self.memory.taken();
        if !has_grown || used <= limit {
            return Ok(());
        }
        let message = format!(
            "the keyed state of this worker needs {} of memory and may have {}; in this task, state \
             `{state}` has {keys} keys and {}{}: give the workers more memory, use more of them with a \
             higher parallelism, or set a time to live",
            bytes(used),
            bytes(limit),
            bytes(now),
            if HAS_COLD_TIER {
                ""
            } else {
                ", and this build keeps state only in memory"
            },
        );
        Err(Failure::new(
            ErrorCode::StateTooLarge,
            ErrorKind::Retryable,
            message,
        ))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
