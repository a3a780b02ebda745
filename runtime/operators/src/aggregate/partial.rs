//! Rows of a task into fewer: the stage [`Partial`](millstream_types::aggregate::AggregateStage::Partial).

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use millstream_state::{Keyed, Slot, TableOptions};
use millstream_types::aggregate::Aggregation;
use millstream_types::batch::MAX_BATCH_ROWS;
use millstream_types::{Batch, OperatorUid};

use super::accumulator::{Accumulator, Fault};
use super::calls::{self, Call};
use super::failure::Names;
use super::groups::{Groups, KeysSince};
use super::{MAX_DIRTY, WORTHWHILE_TENTHS};
use crate::{Context, InputIndex, Operator, Result};

/// Rows after which it is decided whether combining pays.
const PROBED_ROWS: usize = 16 * 1_024;
/// Rows that pass one by one before it is tried again.
const PASSED_ROWS: usize = 1_024 * 1_024;

/// Combines the rows of each key until the next flush, and at most [`MAX_DIRTY`] keys.
///
/// Where that makes few rows of many it saves the work behind it; where keys hardly repeat it is itself the
/// work. So it measures, and where it does not pay, each row becomes a row for a while, without its key being
/// looked up.
pub struct PartialAggregate {
    names: Names,
    calls: Vec<Call>,
    schema: SchemaRef,
    table: Keyed<Groups>,
    /// Rows of a batch as groups of their own.
    single: Vec<Box<dyn Accumulator>>,
    pace: Pace,
    /// Rows in the table.
    rows: usize,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
    signs: Vec<i8>,
}

/// What is done with rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// They are combined: so many rows into so many groups, since it was last decided.
    Combine { rows: usize, groups: usize },
    /// So many more pass.
    Pass { rows: usize },
}

impl Pace {
    const TRY: Self = Self::Combine { rows: 0, groups: 0 };

    /// So many rows have become so many groups.
    const fn combined(self, rows: usize, groups: usize) -> Self {
        let Self::Combine {
            rows: before,
            groups: made,
        } = self
        else {
            return self;
        };
        let (rows, groups) = (before + rows, made + groups);
        if rows < PROBED_ROWS {
            return Self::Combine { rows, groups };
        }
        if groups * 10 > rows * WORTHWHILE_TENTHS {
            return Self::Pass { rows: PASSED_ROWS };
        }
        Self::TRY
    }

    /// So many rows have passed.
    const fn passed(self, rows: usize) -> Self {
        match self {
            Self::Pass { rows: left } if left > rows => Self::Pass { rows: left - rows },
            _ => Self::TRY,
        }
    }
}

impl PartialAggregate {
    /// The operator of node `uid`. `schema` has the keys and the partial columns of the calls.
    ///
    /// # Errors
    /// The plan asks for what cannot be computed in parts.
    pub fn new(
        uid: OperatorUid,
        aggregation: &Aggregation,
        input: &SchemaRef,
        schema: SchemaRef,
        max_parallelism: u32,
    ) -> Result<Self> {
        let names = Names::new(uid, aggregation, input)?;
        let make = || {
            let made = calls::make(aggregation, input, &schema);
            made.map_err(|fault| names.internal(&fault))
        };
        let options = TableOptions {
            name: "rows".to_owned(),
            key: names.fields().to_vec(),
            key_groups: 0..max_parallelism,
            max_parallelism,
            ttl: None,
        };
        let (made, single) = (make()?, make()?.accumulators);
        let groups = Groups::new(&made.calls, made.accumulators, false, KeysSince::Unknown);
        Ok(Self {
            calls: made.calls,
            table: Keyed::new(options, groups),
            single,
            schema,
            names,
            pace: Pace::TRY,
            rows: 0,
            hashes: Vec::new(),
            slots: Vec::new(),
            signs: Vec::new(),
        })
    }

    fn combine(&mut self, records: &RecordBatch) -> Result<()> {
        let keys = self.names.keys(records, &mut self.hashes)?;
        self.table.resolve(&keys, &self.hashes, &mut self.slots)?;
        self.rows += records.num_rows();
        let accumulators = self.table.values_mut().accumulators_mut();
        for (call, accumulator) in self.calls.iter().zip(accumulators) {
            let input = call.input(records, None, &mut self.signs);
            let done = input.and_then(|input| accumulator.update(&self.slots, input));
            done.map_err(|fault| self.names.failure(&fault, Some(call), &keys))?;
        }
        Ok(())
    }

    /// Each row as if it were alone.
    fn pass(&mut self, records: &RecordBatch, cx: &mut Context) -> Result<()> {
        let mut columns = self.names.columns(records);
        let rows = records.num_rows();
        self.slots.clear();
        self.slots.extend((0..).take(rows));
        for (call, accumulator) in self.calls.iter().zip(&mut self.single) {
            accumulator.resize(0);
            accumulator.resize(rows);
            let input = call.input(records, None, &mut self.signs);
            let done = input.and_then(|input| accumulator.update(&self.slots, input));
            done.map_err(|fault| self.names.failure(&fault, Some(call), &columns))?;
        }
        let single = self.single.iter();
        columns.extend(single.flat_map(|accumulator| accumulator.columns(&self.slots)));
        self.emit(columns, cx)
    }

    fn emit(&self, columns: Vec<ArrayRef>, cx: &mut Context) -> Result<()> {
        let records = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        let records =
            records.map_err(|error| self.names.internal(&Fault::Internal(error.to_string())))?;
        cx.emit(Batch::new(records));
        Ok(())
    }
}

impl Operator for PartialAggregate {
    fn on_batch(&mut self, _: InputIndex, batch: &Batch, cx: &mut Context) -> Result<()> {
        if let Pace::Pass { .. } = self.pace {
            self.pass(batch.records(), cx)?;
            self.pace = self.pace.passed(batch.rows());
            return Ok(());
        }
        self.combine(batch.records())?;
        if self.table.len() > MAX_DIRTY {
            self.flush(cx)?;
        }
        Ok(())
    }

    fn flush(&mut self, cx: &mut Context) -> Result<()> {
        let slots: Vec<Slot> = self.table.slots().collect();
        for slots in slots.chunks(MAX_BATCH_ROWS) {
            let mut columns = self.table.keys(slots)?;
            let accumulators = self.table.values().accumulators().iter();
            columns.extend(accumulators.flat_map(|accumulator| accumulator.columns(slots)));
            self.emit(columns, cx)?;
        }
        self.table.clear();
        self.pace = self.pace.combined(self.rows, slots.len());
        self.rows = 0;
        Ok(())
    }

    fn holds(&self) -> bool {
        !self.table.is_empty()
    }
}
