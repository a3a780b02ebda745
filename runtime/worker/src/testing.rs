//! A source, operators and a sink for tests: small, in memory, with real transactions.

#![expect(
    clippy::unwrap_in_result,
    reason = "a broken lock or a number out of range is the test's failure"
)]

mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use millstream_connect::{Polled, Result, SinkWriter, SourceOutput, SourceReader, SplitRun};
use millstream_operators::{Context, InputIndex, Operator};
use millstream_types::snapshot::Counters;
use millstream_types::{Batch, CheckpointId, Committable, EventTime, Opaque, SplitState};

pub(crate) use state::{KEYS, MemoryFiles, Tally};

/// Rows of one poll.
pub(crate) const ROWS: u64 = 10;

/// A batch with the columns `value` and `time`, equal to each other.
pub(crate) fn batch(values: std::ops::Range<u64>) -> Batch {
    let values: Vec<i64> = values.map(|value| i64::try_from(value).unwrap()).collect();
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(values.clone()));
    let values: ArrayRef = Arc::new(Int64Array::from(values));
    Batch::new(RecordBatch::try_from_iter([("value", values), ("time", times)]).unwrap())
}

/// A split that begins at 0.
pub(crate) fn split(name: &str) -> SplitState {
    SplitState {
        split: name.to_owned(),
        position: Opaque("0".to_owned()),
        records: 0,
        finished: false,
    }
}

/// Counts up in every split, in turn, to `end`.
pub(crate) struct Counting {
    pub(crate) end: u64,
    splits: Vec<(String, u64)>,
    turn: usize,
    read: u64,
}

impl Counting {
    pub(crate) const fn to(end: u64) -> Self {
        Self {
            end,
            splits: Vec::new(),
            turn: 0,
            read: 0,
        }
    }
}

impl SourceReader for Counting {
    fn add_splits(&mut self, splits: Vec<SplitState>) -> Result<()> {
        let read = |split: SplitState| (split.split, split.position.0.parse().unwrap());
        self.splits.extend(splits.into_iter().map(read));
        Ok(())
    }

    fn poll(&mut self, timeout: Duration) -> Result<Polled> {
        if self.splits.is_empty() {
            std::thread::park_timeout(timeout);
            return Ok(Polled::Nothing);
        }
        for _ in 0..self.splits.len() {
            self.turn = (self.turn + 1) % self.splits.len();
            let (_, position) = &mut self.splits[self.turn];
            let rows = ROWS.min(self.end - *position);
            if rows > 0 {
                let values = *position..*position + rows;
                *position += rows;
                self.read += rows;
                return Ok(Polled::Records(SourceOutput {
                    batch: Some(batch(values)),
                    runs: vec![SplitRun {
                        split: self.turn,
                        rows: usize::try_from(rows).unwrap(),
                    }],
                    dead_letters: None,
                }));
            }
        }
        Ok(Polled::End)
    }

    fn snapshot(&mut self) -> Vec<SplitState> {
        let state = |(split, position): &(String, u64)| SplitState {
            split: split.clone(),
            position: Opaque(position.to_string()),
            records: *position,
            finished: *position == self.end,
        };
        self.splits.iter().map(state).collect()
    }

    fn counters(&self) -> Counters {
        Counters {
            records_in: self.read,
            records_out: self.read,
            ..Counters::default()
        }
    }
}

/// Everything that tests want to see of a sink and of operators.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Rows by the checkpoint that prepared them.
    pub(crate) prepared: BTreeMap<CheckpointId, u64>,
    pub(crate) written: u64,
    pub(crate) committed: Vec<Committable>,
    pub(crate) watermarks: Vec<EventTime>,
    pub(crate) ended: bool,
    /// What operators with state have counted, by key.
    pub(crate) counts: BTreeMap<i64, i64>,
}

pub(crate) type Shared = Arc<Mutex<Seen>>;

/// A sink whose transactions are counts.
pub(crate) struct Memory {
    pub(crate) seen: Shared,
    pub(crate) open: u64,
}

impl Memory {
    pub(crate) fn new(seen: &Shared) -> Self {
        Self {
            seen: Arc::clone(seen),
            open: 0,
        }
    }
}

impl SinkWriter for Memory {
    fn write(&mut self, batch: &Batch) -> Result<u64> {
        let rows = u64::try_from(batch.rows()).unwrap();
        self.open += rows;
        self.seen.lock().unwrap().written += rows;
        Ok(rows)
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>> {
        let records = std::mem::take(&mut self.open);
        self.seen
            .lock()
            .unwrap()
            .prepared
            .insert(checkpoint, records);
        let committable = Committable {
            checkpoint,
            transaction: Opaque(format!("transaction of {checkpoint}")),
            records,
        };
        Ok((records > 0).then_some(committable).into_iter().collect())
    }

    fn committed(&mut self, committables: &[Committable]) {
        self.seen
            .lock()
            .unwrap()
            .committed
            .extend_from_slice(committables);
    }

    fn bytes(&self) -> u64 {
        0
    }
}

/// A sink that takes its time for every batch.
pub(crate) struct Slow(pub(crate) Memory);

impl SinkWriter for Slow {
    fn write(&mut self, batch: &Batch) -> Result<u64> {
        std::thread::park_timeout(Duration::from_millis(5));
        self.0.write(batch)
    }

    fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<Committable>> {
        self.0.prepare(checkpoint)
    }

    fn bytes(&self) -> u64 {
        0
    }
}

/// A sink that never comes back.
pub(crate) struct Stuck(pub(crate) Shared);

impl SinkWriter for Stuck {
    fn write(&mut self, _: &Batch) -> Result<u64> {
        self.0.lock().unwrap().written += 1;
        loop {
            std::thread::park();
        }
    }

    fn prepare(&mut self, _: CheckpointId) -> Result<Vec<Committable>> {
        Ok(Vec::new())
    }

    fn bytes(&self) -> u64 {
        0
    }
}

/// Passes records on, and notes watermarks and the end. May hold the newest batch back.
pub(crate) struct Watching {
    seen: Shared,
    holds: bool,
    held: Option<Batch>,
}

impl Watching {
    pub(crate) fn new(seen: &Shared) -> Self {
        Self {
            seen: Arc::clone(seen),
            holds: false,
            held: None,
        }
    }

    pub(crate) fn holding(seen: &Shared) -> Self {
        Self {
            holds: true,
            ..Self::new(seen)
        }
    }
}

impl Operator for Watching {
    fn on_batch(&mut self, _: InputIndex, batch: &Batch, cx: &mut Context) -> Result<()> {
        let next = if self.holds {
            self.held.replace(batch.clone())
        } else {
            Some(batch.clone())
        };
        if let Some(batch) = next {
            cx.emit(batch);
        }
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, _: &mut Context) -> Result<()> {
        self.seen.lock().unwrap().watermarks.push(watermark);
        Ok(())
    }

    fn on_end(&mut self, cx: &mut Context) -> Result<()> {
        self.seen.lock().unwrap().ended = true;
        if let Some(held) = self.held.take() {
            cx.emit(held);
        }
        Ok(())
    }
}

/// Panics at the record with this time.
pub(crate) struct PanicAt(pub(crate) i64);

impl Operator for PanicAt {
    fn on_batch(&mut self, _: InputIndex, batch: &Batch, cx: &mut Context) -> Result<()> {
        let times = batch
            .records()
            .column(1)
            .as_primitive::<TimestampMicrosecondType>();
        assert!(!times.values().contains(&self.0), "cannot bear {}", self.0);
        cx.emit(batch.clone());
        Ok(())
    }
}
