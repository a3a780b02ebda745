//! Results that follow their input, row by row: the stages [`Whole`](AggregateStage::Whole) and
//! [`Final`](AggregateStage::Final).

use std::sync::Arc;

use arrow_array::{Array as _, ArrayRef, RecordBatch, UInt8Array};
use arrow_schema::SchemaRef;
use millstream_state::{Keyed, Slot, Table, TableOptions};
use millstream_types::aggregate::{AggregateStage, Aggregation, GROUPS};
use millstream_types::batch::MAX_BATCH_ROWS;
use millstream_types::{Batch, Change, Changelog, Clock, OperatorUid, change};

use super::accumulator::{Fault, Input, Pick, Signs};
use super::calls::{self, Call};
use super::entries::{self, Entries, Several};
use super::failure::Names;
use super::groups::{Groups, KeysSince};
use super::rounds::Rounds;
use super::{MAX_DIRTY, StateParameters, WORTHWHILE_TENTHS};
use crate::{Context, InputIndex, Operator, Result};

/// With fewer keys that have changed it waits for a flush.
const FEW_DIRTY: usize = 8 * 1_024;

/// An aggregation with its results so far.
///
/// What changes is emitted at the next [`flush`](Operator::flush): of each key the difference between then and
/// now, and nothing if there is none. It is emitted by itself when more than [`MAX_DIRTY`] keys have changed, and
/// before that where waiting saves nothing, as nearly every row is of another key.
pub struct AggregateOperator {
    names: Names,
    stage: AggregateStage,
    calls: Vec<Call>,
    input: Changelog,
    output: Changelog,
    schema: SchemaRef,
    clock: Arc<dyn Clock>,
    table: Keyed<Groups>,
    entries: Vec<Entries>,
    /// When entries are looked through; none if there are none, or if keys do not expire.
    rounds: Option<Rounds>,
    /// Slots that have changed since the last flush, in the order of their first change.
    dirty: Vec<Slot>,
    /// Whether each of them was there at the last flush.
    present: Vec<bool>,
    /// Rows that have come since.
    rows: usize,
    hashes: Vec<u64>,
    slots: Vec<Slot>,
    changes: Vec<i8>,
    signs: Vec<i8>,
}

impl AggregateOperator {
    /// The operator of node `uid`. `schema` has the keys, the results and, unless it only appends, the column
    /// of changes.
    ///
    /// # Errors
    /// The plan asks for what no operator does.
    pub fn new(
        uid: OperatorUid,
        aggregation: &Aggregation,
        input: &SchemaRef,
        schema: SchemaRef,
        state: StateParameters,
    ) -> Result<Self> {
        let names = Names::new(uid, aggregation, input)?;
        let made = calls::make(aggregation, input, &schema);
        let made = made.map_err(|fault| names.internal(&fault))?;
        let retracts = aggregation.input.updates();
        let options = TableOptions {
            name: GROUPS.to_owned(),
            key: names.fields().to_vec(),
            key_groups: state.key_groups,
            max_parallelism: state.max_parallelism,
            ttl: aggregation.ttl,
        };
        let numbered = made.entries.into_iter().enumerate();
        let entries = numbered.map(|(number, of)| {
            let mut calls = made.calls.iter();
            let call = calls.find(|call| call.entries == Some(number));
            let text = call.map_or("", |call| call.text.as_str());
            let text = format!("{}, values of {text}", aggregation.state);
            let mut pairs = made.calls.iter().zip(&made.accumulators);
            let is_ordered = pairs.any(|(call, accumulator)| {
                call.entries == Some(number) && accumulator.fields().is_empty()
            });
            let kind = (retracts, is_ordered);
            Entries::new(number, of, options.clone(), text, input, kind)
        });
        let entries: Vec<Entries> = entries.collect();
        let ttl = aggregation.ttl.filter(|_| !entries.is_empty());
        let rounds = ttl.map(|ttl| Rounds::new(options.key_groups.clone(), ttl));
        let since = match (entries.is_empty(), ttl) {
            (true, _) => KeysSince::Unknown,
            (false, None) => KeysSince::Ever,
            (false, Some(_)) => KeysSince::Kept,
        };
        let groups = Groups::new(&made.calls, made.accumulators, retracts, since);
        let mut operator = Self {
            stage: aggregation.stage,
            calls: made.calls,
            input: aggregation.input,
            output: aggregation.output,
            schema,
            clock: state.clock,
            table: Keyed::new(options, groups).with_type(aggregation.state.clone()),
            entries,
            rounds,
            names,
            dirty: Vec::new(),
            present: Vec::new(),
            rows: 0,
            hashes: Vec::new(),
            slots: Vec::new(),
            changes: Vec::new(),
            signs: Vec::new(),
        };
        // Of what is restored without a time, the time begins now.
        operator.read_clock();
        Ok(operator)
    }

    fn read_clock(&mut self) {
        let now = self.clock.now();
        for table in self.tables() {
            table.set_now(now);
        }
    }

    /// Takes rows in: their keys have slots already.
    fn update(&mut self, records: &RecordBatch, keys: &[ArrayRef]) -> Result<()> {
        let changes = self.input.updates().then_some(self.changes.as_slice());
        let batch = entries::Batch {
            records,
            changes,
            keys,
            hashes: &self.hashes,
            slots: &self.slots,
        };
        let fail = |fault: Fault, call: Option<&Call>| self.names.failure(&fault, call, keys);
        for entries in &mut self.entries {
            let updated = entries.update(&batch, self.table.values());
            updated.map_err(|fault| fail(fault, None))?;
        }
        let accumulators = self.table.values_mut().accumulators_mut();
        for (call, accumulator) in self.calls.iter().zip(accumulators) {
            let done = if self.stage == AggregateStage::Final {
                let count = accumulator.fields().len();
                let parts = call.parts(records, count);
                parts.and_then(|parts| accumulator.merge(&self.slots, parts))
            } else {
                let input = call.input(records, changes, &mut self.signs);
                let input = input.map(|input| match call.entries {
                    Some(entries) => Input {
                        signs: self.entries[entries].signs(),
                        ..input
                    },
                    None => input,
                });
                input.and_then(|input| accumulator.update(&self.slots, input))
            };
            done.map_err(|fault| fail(fault, Some(call)))?;
        }
        Ok(())
    }

    /// What each row does, as 1 or -1.
    fn read_changes(&mut self, records: &RecordBatch) -> Result<()> {
        let column = change::changes(records);
        let missing = || Fault::Internal("a stream that updates has no changes".to_owned());
        let column = column.ok_or_else(|| self.names.internal(&missing()))?;
        self.changes.clear();
        for value in column.values() {
            let adds = Change::of(*value).map(Change::adds);
            let unknown = || Fault::Internal(format!("there is no change {value}"));
            let adds = adds.ok_or_else(|| self.names.internal(&unknown()))?;
            self.changes.push(if adds { 1 } else { -1 });
        }
        Ok(())
    }

    /// Puts the values that a restore has brought in order again.
    fn rebuild(&mut self) -> Result<()> {
        for number in 0..self.entries.len() {
            let restored = self.entries[number].take_restored();
            let restored = restored.map_err(|fault| self.names.internal(&fault))?;
            let Some(restored) = restored else {
                continue;
            };
            let found = self.keys_of(number, &restored)?;
            let slots: Vec<Slot> = found.iter().map(|slot| slot.unwrap_or_default()).collect();
            // Those whose key has expired do not count.
            let signs: Vec<i8> = found.iter().map(|slot| i8::from(slot.is_some())).collect();
            let input = Input {
                argument: Some(&restored.values),
                signs: Signs::Each(&signs),
            };
            let accumulators = self.table.values_mut().accumulators_mut();
            for (call, accumulator) in self.calls.iter().zip(accumulators) {
                // What has columns has been restored from those.
                if call.entries == Some(number) && accumulator.fields().is_empty() {
                    let done = accumulator.update(&slots, input);
                    done.map_err(|fault| self.names.failure(&fault, Some(call), &restored.keys))?;
                }
            }
        }
        Ok(())
    }

    /// The slots of keys of entries; none where the key has expired since.
    fn keys_of(&mut self, number: usize, entries: &Several) -> Result<Vec<Option<Slot>>> {
        let mut found = Vec::new();
        let Several {
            slots,
            keys,
            values,
        } = entries;
        self.names.hash(keys, values.len(), &mut self.hashes)?;
        self.table.find(keys, &self.hashes, &mut found)?;
        for (key, entry) in found.iter_mut().zip(slots) {
            let since = key.map(|key| self.table.values().since(key));
            let lives = since.is_some_and(|since| self.entries[number].is_of(*entry, since));
            *key = key.filter(|_| lives);
        }
        Ok(found)
    }

    /// Looks through entries that were not renewed for long: they live as long as their keys. Nobody holds
    /// a slot.
    fn renew(&mut self) -> Result<()> {
        let now = self.table.now().0;
        let Some(due) = self.rounds.as_mut().and_then(|rounds| rounds.due(now)) else {
            return Ok(());
        };
        for number in 0..self.entries.len() {
            let aged = self.entries[number].aged(&due);
            let mut aged = aged.map_err(|fault| self.names.internal(&fault))?;
            loop {
                let next = self.entries[number].next_aged(&mut aged);
                let next = next.map_err(|fault| self.names.internal(&fault))?;
                let Some(next) = next else { break };
                let keys = self.keys_of(number, &next)?;
                for (slot, key) in next.slots.iter().zip(keys) {
                    self.entries[number].renew(*slot, key.is_some());
                }
                self.table.make_space()?;
            }
        }
        Ok(())
    }

    /// Whether it is time to emit without being asked to. Keys that are emitted soon are still in the cache.
    const fn is_full(&self) -> bool {
        let dirty = self.dirty.len();
        dirty > MAX_DIRTY || dirty >= FEW_DIRTY && dirty * 10 > self.rows * WORTHWHILE_TENTHS
    }

    /// Whether memory is short, and what waits for a flush cannot leave it before.
    fn is_tight(&self) -> bool {
        self.table.is_tight(MAX_BATCH_ROWS) || self.entries.iter().any(Entries::is_tight)
    }

    /// Nobody holds a slot: moves out of memory what does not fit.
    fn make_space(&mut self) -> Result<()> {
        self.table.make_space()?;
        for entries in &mut self.entries {
            let made = entries.make_space();
            made.map_err(|fault| self.names.internal(&fault))?;
        }
        Ok(())
    }

    fn emit(&mut self, rows: &mut Rows, cx: &mut Context) -> Result<()> {
        if rows.slots.is_empty() {
            return Ok(());
        }
        let mut columns = self.table.keys(&rows.slots)?;
        let accumulators = self.table.values().accumulators();
        for (call, accumulator) in self.calls.iter().zip(accumulators) {
            let results = accumulator.results(&rows.picks);
            let results =
                results.map_err(|fault| self.names.failure(&fault, Some(call), &columns))?;
            columns.push(results);
        }
        if self.output.updates() {
            columns.push(Arc::new(UInt8Array::from(std::mem::take(
                &mut rows.changes,
            ))));
        }
        let records = RecordBatch::try_new(Arc::clone(&self.schema), columns);
        let records = records.map_err(|error| {
            let fault = Fault::Internal(error.to_string());
            self.names.internal(&fault)
        })?;
        cx.emit(Batch::new(records));
        rows.clear();
        Ok(())
    }

    /// Emits the differences of all keys that have changed.
    fn emit_changes(&mut self, dirty: &[Slot], cx: &mut Context) -> Result<()> {
        let mut changed = vec![false; dirty.len()];
        for accumulator in self.table.values_mut().accumulators_mut() {
            accumulator.settle(dirty, &mut changed);
        }
        let before = self.output == Changelog::Retract;
        let present = std::mem::take(&mut self.present);
        let mut rows = Rows::default();
        for (group, ((slot, was), changed)) in (0..).zip(dirty.iter().zip(&present).zip(changed)) {
            if rows.slots.len() + 2 > MAX_BATCH_ROWS {
                self.emit(&mut rows, cx)?;
            }
            match (*was, self.table.values().has_rows(*slot)) {
                (false, true) => rows.push(group, *slot, Change::Insert),
                (true, false) => rows.push(group, *slot, Change::Delete),
                (true, true) if changed => {
                    if before {
                        rows.push(group, *slot, Change::UpdateBefore);
                    }
                    rows.push(group, *slot, Change::UpdateAfter);
                }
                (false, false) | (true, true) => {}
            }
        }
        self.emit(&mut rows, cx)?;
        self.present = present;
        self.present.clear();
        Ok(())
    }
}

/// Rows that go out together.
#[derive(Default)]
struct Rows {
    slots: Vec<Slot>,
    picks: Vec<Pick>,
    changes: Vec<u8>,
}

impl Rows {
    fn push(&mut self, group: u32, slot: Slot, change: Change) {
        self.slots.push(slot);
        self.picks.push(Pick {
            group,
            before: !change.adds(),
        });
        self.changes.push(change as u8);
    }

    fn clear(&mut self) {
        self.slots.clear();
        self.picks.clear();
        self.changes.clear();
    }
}

impl Operator for AggregateOperator {
    fn on_batch(&mut self, _: InputIndex, batch: &Batch, cx: &mut Context) -> Result<()> {
        let records = batch.records();
        if self.dirty.is_empty() {
            // Nothing expires while something of it is still to be emitted.
            self.read_clock();
            self.rebuild()?;
            self.renew()?;
        }
        let keys = self.names.keys(records, &mut self.hashes)?;
        self.table.resolve(&keys, &self.hashes, &mut self.slots)?;
        if self.rounds.is_some() {
            let (now, made) = (self.table.now().0, self.table.made().to_vec());
            self.table.values_mut().begin(&made, now);
        }
        let groups = self.table.values_mut();
        groups.touch(&self.slots, &mut self.dirty, &mut self.present);
        if self.input.updates() {
            self.read_changes(records)?;
            let groups = self.table.values_mut();
            groups.count(&self.slots, &mut self.changes);
        }
        self.update(records, &keys)?;
        self.rows += records.num_rows();
        if self.is_full() || self.is_tight() {
            self.flush(cx)?;
        }
        Ok(())
    }

    fn flush(&mut self, cx: &mut Context) -> Result<()> {
        // A barrier may follow, at which what has expired is left out.
        if self.dirty.is_empty() {
            self.read_clock();
            self.rebuild()?;
            return self.renew();
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        self.emit_changes(&dirty, cx)?;
        for accumulator in self.table.values_mut().accumulators_mut() {
            accumulator.forget();
        }
        for slot in dirty.drain(..) {
            if self.table.values().has_rows(slot) {
                self.table.values_mut().settled(slot);
                self.table.touch(slot);
            } else {
                self.table.remove(slot);
            }
        }
        for entries in &mut self.entries {
            entries.settle();
        }
        self.dirty = dirty;
        self.rows = 0;
        self.read_clock();
        self.renew()?;
        self.make_space()
    }

    fn holds(&self) -> bool {
        !self.dirty.is_empty()
    }

    fn tables(&mut self) -> Vec<&mut dyn Table> {
        let mut tables: Vec<&mut dyn Table> = vec![&mut self.table];
        tables.extend(self.entries.iter_mut().map(Entries::table));
        tables
    }
}
