//! How much memory the tables of a process may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_types::text::bytes;
use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::Result;

/// Memory that tables share. Without a limit, none is refused.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    limit: u64,
    used: AtomicU64,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            limit: u64::MAX,
            used: AtomicU64::new(0),
        }
    }
}

impl Memory {
    /// Memory of at most so many bytes.
    pub fn limited(limit: u64) -> Self {
        Self(Arc::new(Pool {
            limit,
            used: AtomicU64::new(0),
        }))
    }

    /// Bytes that tables have.
    pub fn used(&self) -> u64 {
        self.0.used.load(Ordering::Relaxed)
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

    /// The table has so many bytes now, and so many keys.
    pub(crate) fn set(&mut self, now: u64, state: &str, keys: usize) -> Result<()> {
        if now == self.bytes {
            return Ok(());
        }
        let pool = &self.memory.0;
        pool.used.fetch_add(now, Ordering::Relaxed);
        let used = pool.used.fetch_sub(self.bytes, Ordering::Relaxed) - self.bytes;
        let has_grown = now > self.bytes;
        self.bytes = now;
        if !has_grown || used <= pool.limit {
            return Ok(());
        }
        let message = format!(
            "the keyed state of this worker needs {} of memory and may have {}; in this task, state \
             `{state}` has {keys} keys and {}: give the workers more memory, use more of them with a \
             higher parallelism, or set a time to live",
            bytes(used),
            bytes(pool.limit),
            bytes(now)
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
