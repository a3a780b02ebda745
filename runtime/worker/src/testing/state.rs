//! An operator that counts by key, and files in memory that can be held up and broken.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use arrow_schema::{DataType, Field, FieldRef};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use millstream_connect::Result;
use millstream_operators::{Context, InputIndex, Operator};
use millstream_state::{Keeper, Keyed, Slot, StateFiles, Table, TableOptions, Values};
use millstream_types::{
    Batch, CheckpointId, ErrorCode, ErrorKind, Failure, FileRef, OperatorUid, keys,
};
use tokio::sync::watch;

use super::Shared;

/// Keys that [`Tally`] counts.
pub(crate) const KEYS: i64 = 100;
const GROUPS: Range<u32> = 0..128;

/// Passes records on, and counts them by the remainder of their value by [`KEYS`]. Shows the counts in
/// [`Seen::counts`](super::Seen::counts).
pub(crate) struct Tally {
    seen: Shared,
    table: Keyed<Counts>,
}

#[derive(Default)]
struct Counts(Vec<i64>);

impl Tally {
    /// The operator, and the keeper of its state.
    pub(crate) fn new(uid: &str, seen: &Shared) -> (Self, Keeper) {
        let options = TableOptions {
            name: "counts".to_owned(),
            key: vec![Arc::new(Field::new("key", DataType::Int64, false))],
            key_groups: GROUPS,
            max_parallelism: GROUPS.end,
            ttl: None,
        };
        let tally = Self {
            seen: Arc::clone(seen),
            table: Keyed::new(options, Counts::default()),
        };
        (tally, Keeper::new(uid.into(), GROUPS, GROUPS.end))
    }
}

impl Values for Counts {
    fn fields(&self) -> Vec<FieldRef> {
        vec![Arc::new(Field::new("count", DataType::Int64, false))]
    }

    fn resize(&mut self, slots: usize) {
        self.0.resize(slots, 0);
    }

    fn clear(&mut self, slot: Slot) {
        self.0[slot as usize] = 0;
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let counts = slots.iter().map(|slot| self.0[*slot as usize]);
        Ok(vec![Arc::new(Int64Array::from_iter_values(counts))])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<()> {
        let counts = columns[0].as_primitive::<Int64Type>();
        for (slot, count) in slots.iter().zip(counts.values()) {
            self.0[*slot as usize] = *count;
        }
        Ok(())
    }
}

impl Operator for Tally {
    fn on_batch(&mut self, _: InputIndex, batch: &Batch, cx: &mut Context) -> Result<()> {
        let values = batch.records().column(0).as_primitive::<Int64Type>();
        let of = values.values().iter().map(|value| value % KEYS);
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(of));
        let keyed =
            arrow_array::RecordBatch::try_from_iter([("key", Arc::clone(&column))]).unwrap();
        let (mut hashes, mut slots) = (Vec::new(), Vec::new());
        keys::hash(&keyed, &[0], &mut hashes).unwrap();
        self.table.resolve(&[column], &hashes, &mut slots)?;
        let mut seen = self.seen.lock().unwrap();
        for (slot, value) in slots.into_iter().zip(values.values()) {
            let count = &mut self.table.values_mut().0[slot as usize];
            *count += 1;
            seen.counts.insert(value % KEYS, *count);
            self.table.touch(slot);
        }
        drop(seen);
        cx.emit(batch.clone());
        Ok(())
    }

    fn tables(&mut self) -> Vec<&mut dyn Table> {
        vec![&mut self.table]
    }
}

/// Files in memory.
pub(crate) struct MemoryFiles {
    files: Mutex<BTreeMap<String, Bytes>>,
    /// Checkpoints for which nothing can be written.
    refused: Mutex<BTreeSet<CheckpointId>>,
    /// Writes wait until this is true.
    open: watch::Sender<bool>,
}

impl Default for MemoryFiles {
    fn default() -> Self {
        Self {
            files: Mutex::default(),
            refused: Mutex::default(),
            open: watch::Sender::new(true),
        }
    }
}

impl MemoryFiles {
    pub(crate) fn files(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.files.lock().unwrap()
    }

    pub(crate) fn refuse(&self, checkpoint: u64) {
        self.refused
            .lock()
            .unwrap()
            .insert(CheckpointId(checkpoint));
    }

    pub(crate) fn set_open(&self, is_open: bool) {
        self.open.send_replace(is_open);
    }
}

fn failure(code: ErrorCode, message: String) -> Failure {
    Failure::new(code, ErrorKind::Retryable, message)
}

impl StateFiles for MemoryFiles {
    fn put<'a>(
        &'a self,
        checkpoint: CheckpointId,
        operator: &'a OperatorUid,
        name: &'a str,
        bytes: Bytes,
    ) -> BoxFuture<'a, Result<FileRef>> {
        async move {
            let mut open = self.open.subscribe();
            open.wait_for(|open| *open).await.unwrap();
            if self.refused.lock().unwrap().contains(&checkpoint) {
                let message = format!("no room for {checkpoint}");
                return Err(failure(ErrorCode::StoreUnavailable, message));
            }
            let path = format!("{checkpoint}/{operator}/{name}");
            let file = FileRef {
                path: path.clone(),
                bytes: bytes.len() as u64,
                crc32c: crc32c::crc32c(&bytes),
            };
            let before = self.files().insert(path, bytes);
            assert!(before.is_none(), "a name is used once");
            Ok(file)
        }
        .boxed()
    }

    fn get<'a>(&'a self, file: &'a FileRef) -> BoxFuture<'a, Result<Bytes>> {
        async move {
            let found = self.files().get(&file.path).cloned();
            found.ok_or_else(|| failure(ErrorCode::CorruptObject, format!("no {}", file.path)))
        }
        .boxed()
    }
}
