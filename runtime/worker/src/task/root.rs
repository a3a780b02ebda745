//! Where a task's elements come from: a source's reader, or the channels from the tasks before it.

use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, PrimitiveArray};
use millstream_connect::{Polled, SourceOutput, SourceReader, SplitRun};
use millstream_operators::InputIndex;
use millstream_types::snapshot::Counters;
use millstream_types::{
    Batch, Clock, ErrorCode, ErrorKind, EventTime, Failure, OperatorSnapshot, OperatorUid,
    SplitState,
};

use crate::chain::{Chain, Stop};
use crate::gate::Gate;
use crate::plan::SourceRoot;
use crate::watermark::{Progress, Watermarks};

/// Longest wait for a source's records before its commands are looked at again. Bounds how late a
/// barrier starts in a stream without records.
pub(super) const WAIT: Duration = Duration::from_millis(20);

/// How often those behind a source are told of its event time at most: each time they send what they
/// hold back.
const TELL: Duration = Duration::from_millis(100);

/// How often to look for splits that are read to their end, or idle.
const LOOK: Duration = Duration::from_millis(200);

pub(super) enum Root {
    Source(Source),
    Gate(Gate),
}

pub(super) struct Source {
    uid: OperatorUid,
    reader: Box<dyn SourceReader>,
    watermark: Option<SourceWatermark>,
    restored: Counters,
    /// Whether it has all splits that it will ever get.
    is_bounded: bool,
}

/// What a step of a source has come to.
pub(super) struct Step {
    /// How long it has waited for records.
    pub(super) waited: Duration,
    pub(super) has_ended: bool,
}

struct SourceWatermark {
    column: usize,
    watermarks: Watermarks,
    looked_at: Duration,
    told_at: Option<Duration>,
}

impl Source {
    pub(super) fn new(
        root: SourceRoot,
        restore: Option<&OperatorSnapshot>,
        is_bounded: bool,
    ) -> Result<Self, Failure> {
        let watermark = root.watermark.map(|plan| SourceWatermark {
            column: plan.column,
            watermarks: Watermarks::new(plan.max_out_of_orderness, plan.idle_timeout),
            looked_at: Duration::ZERO,
            told_at: None,
        });
        let mut source = Self {
            uid: root.uid,
            reader: root.reader,
            watermark,
            restored: Counters::default(),
            is_bounded,
        };
        if let Some(snapshot) = restore {
            source.restored = snapshot.counters;
            if !snapshot.splits.is_empty() {
                source.reader.add_splits(snapshot.splits.clone())?;
            }
        }
        Ok(source)
    }

    pub(super) const fn uid(&self) -> &OperatorUid {
        &self.uid
    }

    pub(super) fn reader(&mut self) -> &mut dyn SourceReader {
        self.reader.as_mut()
    }

    pub(super) fn add_splits(&mut self, splits: Vec<SplitState>) -> Result<(), Failure> {
        self.reader.add_splits(splits)
    }

    pub(super) fn snapshot(&mut self) -> OperatorSnapshot {
        let mut counters = self.restored;
        counters.add(self.reader.counters());
        OperatorSnapshot {
            splits: self.reader.snapshot(),
            counters,
            ..OperatorSnapshot::default()
        }
    }

    /// Polls once and pushes what came.
    pub(super) fn step(
        &mut self,
        chain: &mut Chain,
        clock: &dyn Clock,
        patience: Duration,
    ) -> Result<Step, Stop> {
        // What nodes hold back is sent before it waits.
        let wait = if chain.holds() {
            Duration::ZERO
        } else {
            patience.min(WAIT)
        };
        let (before, waited) = (clock.monotonic(), self.reader.waited());
        let step = match self.reader.poll(wait)? {
            Polled::Records(output) => {
                let waited = self.reader.waited().saturating_sub(waited);
                fail::fail_point!("worker::after-poll", |_| std::process::abort());
                self.push(&output, chain, clock)?;
                Step {
                    waited,
                    has_ended: false,
                }
            }
            Polled::Nothing => {
                let waited = clock.monotonic().saturating_sub(before);
                chain.flush()?;
                // A reader without splits has no end that it could see.
                let has_ended = self.is_bounded && self.reader.snapshot().is_empty();
                Step { waited, has_ended }
            }
            Polled::End => Step {
                waited: Duration::ZERO,
                has_ended: true,
            },
        };
        self.advance(chain, clock)?;
        Ok(step)
    }

    /// The watermark that it has come to; `None` before the first.
    pub(super) fn watermark(&self) -> Option<EventTime> {
        self.watermark.as_ref()?.watermarks.told()
    }

    fn push(
        &mut self,
        output: &SourceOutput,
        chain: &mut Chain,
        clock: &dyn Clock,
    ) -> Result<(), Stop> {
        if let Some(dead_letters) = &output.dead_letters {
            chain.push_dead_letters(dead_letters)?;
        }
        let Some(batch) = &output.batch else {
            return Ok(());
        };
        if let Some(watermark) = &mut self.watermark {
            watermark.observe(batch, &output.runs, clock.monotonic())?;
        }
        chain.push(InputIndex(0), batch)
    }

    fn advance(&mut self, chain: &mut Chain, clock: &dyn Clock) -> Result<(), Stop> {
        let Some(watermark) = &mut self.watermark else {
            return Ok(());
        };
        let now = clock.monotonic();
        if now.saturating_sub(watermark.looked_at) >= LOOK {
            watermark.looked_at = now;
            watermark.look(&self.reader.snapshot(), now);
        }
        let is_early = |told: Duration| now.saturating_sub(told) < TELL;
        if watermark.told_at.is_some_and(is_early) {
            return Ok(());
        }
        let news = watermark.watermarks.advance(now);
        if news.is_some() {
            watermark.told_at = Some(now);
        }
        match news {
            Some(Progress::Watermark(time)) => chain.watermark(time),
            Some(Progress::Idle) => chain.idle(),
            None => Ok(()),
        }
    }
}

impl SourceWatermark {
    fn look(&mut self, splits: &[SplitState], now: Duration) {
        self.watermarks.set_splits(splits.len(), now);
        for (index, split) in splits.iter().enumerate() {
            if split.finished {
                self.watermarks.finish(index);
            }
        }
    }

    fn observe(&mut self, batch: &Batch, runs: &[SplitRun], now: Duration) -> Result<(), Failure> {
        let column = batch.records().columns().get(self.column);
        let times = column.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let times = times.ok_or_else(|| {
            Failure::new(
                ErrorCode::PlanMismatch,
                ErrorKind::Internal,
                format!("column {} of a source's batch is no timestamp", self.column),
            )
        })?;
        let mut start = 0;
        for run in runs {
            let rows = run.rows.min(times.len().saturating_sub(start));
            self.watermarks
                .observe(run.split, newest(times, start, rows), now);
            start += rows;
        }
        Ok(())
    }
}

fn newest(
    times: &PrimitiveArray<TimestampMicrosecondType>,
    start: usize,
    rows: usize,
) -> Option<EventTime> {
    let slice = times.slice(start, rows);
    let newest = if slice.null_count() == 0 {
        slice.values().iter().copied().max()
    } else {
        slice.iter().flatten().max()
    };
    newest.map(EventTime)
}
