//! Reads what a snapshot needs of the cold tier, beside the task, in the order of runs.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::{ArrayRef, BooleanArray, RecordBatch, UInt64Array, new_null_array};
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave;

use super::Store;
use super::keys::{Bounds, Codec, Head, parts};
use super::store::View;
use super::tier::Layout;
use crate::coverage::Sequence;
use crate::run::schema;
use crate::{Result, bug};

/// Rows of a chunk, and about how many bytes it has at most.
const CHUNK_ROWS: usize = 8_192;
const CHUNK_BYTES: usize = 4 << 20;
/// Chunks that wait to be taken.
const WAITING: usize = 1;

/// What is read.
#[derive(Debug, Clone)]
pub(crate) struct Scanned {
    pub(crate) table: u32,
    pub(crate) layout: Layout,
    /// The key groups of the table.
    pub(crate) groups: Range<u32>,
    /// Of these everything.
    pub(crate) complete: Range<u32>,
    /// Of the others what has changed since.
    pub(crate) since: Sequence,
    /// What has changed since is listed.
    pub(crate) listed: bool,
    /// Numbers with which rows have changed since.
    pub(crate) sequences: Vec<Sequence>,
    /// What has expired by now is left out.
    pub(crate) now: u64,
}

/// Rows in the order of their hashes.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) rows: RecordBatch,
    pub(crate) hashes: Vec<u64>,
    /// The keys as bytes.
    pub(crate) keys: Vec<Box<[u8]>>,
}

/// Rows as they were when it began, in chunks.
#[derive(Debug)]
pub(crate) struct Scan(Mutex<Receiver<Result<Chunk>>>);

impl Scan {
    /// Begins to read.
    pub(crate) fn begin(store: &Arc<Store>, scanned: Scanned) -> Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        store.view(move |view| {
            let failed = Reader::new(&scanned, &sender).and_then(|mut reader| reader.read(view));
            if let Err(failure) = failed {
                // Nobody wants to know who has stopped to read.
                drop(sender.send(Err(failure)));
            }
        })?;
        Ok(Self(Mutex::new(receiver)))
    }

    /// The next rows; none at the end.
    pub(crate) fn next(&self) -> Result<Option<Chunk>> {
        let receiver = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        receiver.recv().ok().transpose()
    }
}

struct Reader<'a> {
    scanned: &'a Scanned,
    sender: &'a SyncSender<Result<Chunk>>,
    codecs: [Codec; 2],
    hashes: Vec<u64>,
    keys: Vec<Box<[u8]>>,
    heads: Vec<Head>,
    /// Values of those that are not deleted.
    values: Vec<Box<[u8]>>,
    bytes: usize,
}

impl<'a> Reader<'a> {
    fn new(scanned: &'a Scanned, sender: &'a SyncSender<Result<Chunk>>) -> Result<Self> {
        let layout = &scanned.layout;
        let codec = |fields| Codec::new(fields).map_err(|error| bug(&layout.state, error));
        Ok(Self {
            codecs: [codec(&layout.key)?, codec(&layout.values)?],
            scanned,
            sender,
            hashes: Vec::new(),
            keys: Vec::new(),
            heads: Vec::new(),
            values: Vec::new(),
            bytes: 0,
        })
    }

    fn read(&mut self, view: &View<'_>) -> Result<()> {
        let (groups, complete) = (&self.scanned.groups, &self.scanned.complete);
        let parts = if complete.is_empty() {
            [(groups.clone(), false), (0..0, false), (0..0, false)]
        } else {
            [
                (groups.start..complete.start, false),
                (complete.clone(), true),
                (complete.end..groups.end, false),
            ]
        };
        for (groups, is_complete) in parts {
            if groups.is_empty() {
                continue;
            }
            let max = self.scanned.layout.shape.max_parallelism;
            let bounds = Bounds::groups(self.scanned.table, &groups, max);
            let goes_on = if is_complete || !self.scanned.listed {
                self.read_all(view, &bounds, is_complete)?
            } else {
                self.read_changed(view, &bounds)?
            };
            if !goes_on {
                return Ok(());
            }
        }
        self.send().map(drop)
    }

    fn read_all(&mut self, view: &View<'_>, bounds: &Bounds, is_complete: bool) -> Result<bool> {
        let since = if is_complete { 0 } else { self.scanned.since };
        let mut goes_on = true;
        view.rows(bounds, &mut |key, row| {
            let (head, value) = self.head(row)?;
            // Nothing older is left that a deletion would delete.
            if head.changed >= since && !(is_complete && head.is_deleted) {
                goes_on = self.push(key, head, value)?;
            }
            Ok(goes_on)
        })?;
        Ok(goes_on)
    }

    fn read_changed(&mut self, view: &View<'_>, bounds: &Bounds) -> Result<bool> {
        let mut wanted: Vec<Vec<u8>> = Vec::new();
        let mut goes_on = true;
        let sequences = self.scanned.sequences.clone();
        view.changes(self.scanned.table, &sequences, bounds, &mut |key| {
            wanted.push(key.to_vec());
            if wanted.len() >= CHUNK_ROWS {
                goes_on = self.look_up(view, &wanted)?;
                wanted.clear();
            }
            Ok(goes_on)
        })?;
        Ok(goes_on && self.look_up(view, &wanted)?)
    }

    fn look_up(&mut self, view: &View<'_>, keys: &[Vec<u8>]) -> Result<bool> {
        let mut goes_on = Ok(true);
        view.get(keys, &mut |at, row| {
            if matches!(goes_on, Ok(true)) {
                let read = self.head(row);
                goes_on = read.and_then(|(head, value)| {
                    // What is in memory is read there.
                    if head.changed >= self.scanned.since {
                        self.push(&keys[at], head, value)
                    } else {
                        Ok(true)
                    }
                });
            }
        })?;
        goes_on
    }

    fn head<'r>(&self, row: &'r [u8]) -> Result<(Head, &'r [u8])> {
        let read = Head::read(row);
        read.ok_or_else(|| {
            bug(
                &self.scanned.layout.state,
                "a row of the cold tier is cut off",
            )
        })
    }

    fn push(&mut self, row_key: &[u8], head: Head, value: &[u8]) -> Result<bool> {
        if head.is_expired(self.scanned.now) {
            return Ok(true);
        }
        let (hash, key) = parts(row_key).ok_or_else(|| {
            bug(
                &self.scanned.layout.state,
                "a key of the cold tier is cut off",
            )
        })?;
        self.hashes.push(hash);
        self.keys.push(key.into());
        self.heads.push(head);
        if !head.is_deleted {
            self.values.push(value.into());
        }
        self.bytes += row_key.len() + value.len();
        if self.heads.len() >= CHUNK_ROWS || self.bytes >= CHUNK_BYTES {
            return self.send();
        }
        Ok(true)
    }

    /// Sends what was read; whether somebody wants more.
    fn send(&mut self) -> Result<bool> {
        if self.heads.is_empty() {
            return Ok(true);
        }
        let rows = rows(
            &self.scanned.layout,
            &self.codecs,
            &self.heads,
            &self.keys,
            &self.values,
        );
        let chunk = Chunk {
            rows: rows.map_err(|error| bug(&self.scanned.layout.state, error))?,
            hashes: std::mem::take(&mut self.hashes),
            keys: std::mem::take(&mut self.keys),
        };
        self.heads.clear();
        self.values.clear();
        self.bytes = 0;
        Ok(self.sender.send(Ok(chunk)).is_ok())
    }
}

/// Rows as they are in a run.
fn rows(
    layout: &Layout,
    [keys, values]: &[Codec; 2],
    heads: &[Head],
    key_bytes: &[Box<[u8]>],
    value_bytes: &[Box<[u8]>],
) -> std::result::Result<RecordBatch, ArrowError> {
    let mut columns = keys.decode(key_bytes.iter().map(AsRef::as_ref))?;
    let deleted = heads.iter().map(|head| Some(head.is_deleted));
    columns.push(Arc::new(deleted.collect::<BooleanArray>()));
    let decoded = values.decode(value_bytes.iter().map(AsRef::as_ref))?;
    columns.extend(spread(layout, decoded, heads)?);
    if layout.ttl.is_some() {
        let times = heads
            .iter()
            .map(|head| head.times.map_or(0, |(time, _)| time));
        columns.push(Arc::new(UInt64Array::from_iter_values(times)));
    }
    let schema = schema(&layout.key, layout.values.clone(), layout.ttl.is_some());
    RecordBatch::try_new(schema, columns)
}

/// Puts any values where a row is deleted: they mean nothing.
fn spread(
    layout: &Layout,
    values: Vec<ArrayRef>,
    heads: &[Head],
) -> std::result::Result<Vec<ArrayRef>, ArrowError> {
    if heads.iter().all(|head| !head.is_deleted) {
        return Ok(values);
    }
    let mut next = 0;
    let places: Vec<(usize, usize)> = heads
        .iter()
        .map(|head| {
            if head.is_deleted {
                (1, 0)
            } else {
                next += 1;
                (0, next - 1)
            }
        })
        .collect();
    let columns = layout.values.iter().zip(values);
    columns
        .map(|(field, column)| {
            let nothing = nothing(field.as_ref());
            interleave(&[column.as_ref(), nothing.as_ref()], &places)
        })
        .collect()
}

/// One row of a column: null where it can be, else a zero.
fn nothing(field: &arrow_schema::Field) -> ArrayRef {
    let null = new_null_array(field.data_type(), 1);
    if field.is_nullable() {
        return null;
    }
    // The same without its nulls: what lies beneath them is zero.
    let data = null.to_data().into_builder().nulls(None).build();
    data.map_or(null, arrow_array::make_array)
}
