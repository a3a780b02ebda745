//! What an aggregation keeps for each key.

use arrow_array::cast::AsArray as _;
use arrow_array::types::{Int64Type, UInt64Type};
use arrow_array::{ArrayRef, Int64Array, UInt64Array};
use arrow_schema::{DataType, Field, FieldRef};
use millstream_state::{Result, Slot, Values};
use millstream_types::{ErrorCode, ErrorKind, Failure};
use std::sync::Arc;

use super::accumulator::Accumulator;
use super::calls::Call;

/// The key was there at the last flush.
const PRESENT: u8 = 1;
/// The key has changed since.
const DIRTY: u8 = 2;
/// How many rows a key has.
const ROWS: &str = "$rows";
/// Since when a key is there, in milliseconds since 1970: what is kept of it one by one and is older is of a
/// key that has expired. 0 if keys do not expire.
const SINCE: &str = "$since";

/// What is known of the time since when keys are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeysSince {
    /// Nobody asks.
    Unknown,
    /// For ever: keys do not expire, but they may in a job that goes on from a snapshot.
    Ever,
    /// It is kept.
    Kept,
}

#[derive(Debug)]
struct Since {
    of_keys: KeysSince,
    /// Empty unless kept.
    of_slots: Vec<u64>,
}

/// By slot: how many rows there are, and what the calls keep.
pub(super) struct Groups {
    marks: Vec<u8>,
    /// None if rows stay: then a key that is there has some.
    rows: Option<Vec<i64>>,
    since: Since,
    accumulators: Vec<Box<dyn Accumulator>>,
    /// Columns of a run beside the key.
    fields: Vec<FieldRef>,
}

impl Groups {
    /// What these calls keep, in the accumulators of the same order.
    pub(super) fn new(
        calls: &[Call],
        accumulators: Vec<Box<dyn Accumulator>>,
        retracts: bool,
        since: KeysSince,
    ) -> Self {
        let rows = retracts.then(|| Field::new(ROWS, DataType::Int64, false));
        let is_known = since != KeysSince::Unknown;
        let times = is_known.then(|| Field::new(SINCE, DataType::UInt64, false));
        let pairs = calls.iter().zip(&accumulators);
        let kept = pairs.flat_map(|(call, accumulator)| named(&call.text, accumulator.fields()));
        Self {
            fields: (rows.into_iter().chain(times).chain(kept).map(Arc::new)).collect(),
            since: Since {
                of_keys: since,
                of_slots: Vec::new(),
            },
            marks: Vec::new(),
            rows: if retracts { Some(Vec::new()) } else { None },
            accumulators,
        }
    }

    pub(super) fn accumulators(&self) -> &[Box<dyn Accumulator>] {
        &self.accumulators
    }

    pub(super) fn accumulators_mut(&mut self) -> &mut [Box<dyn Accumulator>] {
        &mut self.accumulators
    }

    /// These keys are there from now on.
    pub(super) fn begin(&mut self, slots: &[Slot], now: u64) {
        if self.since.of_keys == KeysSince::Kept {
            for slot in slots {
                self.since.of_slots[*slot as usize] = now;
            }
        }
    }

    /// Since when the key of a slot is there.
    pub(super) fn since(&self, slot: Slot) -> u64 {
        let since = self.since.of_slots.get(slot as usize);
        since.copied().unwrap_or_default()
    }

    /// Slots that are about to change for the first time since the last flush, each once, behind those in
    /// `dirty`; and whether they were there, behind those in `present`.
    pub(super) fn touch(&mut self, slots: &[Slot], dirty: &mut Vec<Slot>, present: &mut Vec<bool>) {
        let known = dirty.len();
        for slot in slots {
            let mark = &mut self.marks[*slot as usize];
            if *mark & DIRTY == 0 {
                dirty.push(*slot);
                present.push(*mark & PRESENT != 0);
                *mark |= DIRTY;
            }
        }
        if let Some(new) = dirty.get(known..).filter(|new| !new.is_empty()) {
            for accumulator in &mut self.accumulators {
                accumulator.remember(new);
            }
        }
    }

    /// The slot has been emitted.
    pub(super) fn settled(&mut self, slot: Slot) {
        self.marks[slot as usize] = PRESENT;
    }

    /// Whether the key of a slot has rows.
    pub(super) fn has_rows(&self, slot: Slot) -> bool {
        let rows = self.rows.as_ref();
        rows.is_none_or(|rows| rows[slot as usize] > 0)
    }

    /// Counts rows. A row that takes back what is not there does not count: its key has expired. `signs` has
    /// 1 or -1 for each row, and 0 for those afterwards.
    pub(super) fn count(&mut self, slots: &[Slot], signs: &mut [i8]) {
        let Some(rows) = &mut self.rows else {
            return;
        };
        for (slot, sign) in slots.iter().zip(signs) {
            let count = &mut rows[*slot as usize];
            if *count == 0 && *sign < 0 {
                *sign = 0;
            }
            *count += i64::from(*sign);
        }
    }
}

/// Names of a call's columns, for those who read a run: one that is alone has the name of its call.
fn named(call: &str, fields: Vec<Field>) -> Vec<Field> {
    let alone = fields.len() == 1;
    let named = |field: Field| {
        let name = if alone {
            call.to_owned()
        } else {
            format!("{call}: {}", field.name())
        };
        field.with_name(name)
    };
    fields.into_iter().map(named).collect()
}

impl Values for Groups {
    fn fields(&self) -> Vec<FieldRef> {
        self.fields.clone()
    }

    fn resize(&mut self, slots: usize) {
        self.marks.resize(slots, 0);
        if let Some(rows) = &mut self.rows {
            rows.resize(slots, 0);
        }
        if self.since.of_keys == KeysSince::Kept {
            self.since.of_slots.resize(slots, 0);
        }
        for accumulator in &mut self.accumulators {
            accumulator.resize(slots);
        }
    }

    fn clear(&mut self, slot: Slot) {
        self.marks[slot as usize] = 0;
        if let Some(rows) = &mut self.rows {
            rows[slot as usize] = 0;
        }
        if let Some(since) = self.since.of_slots.get_mut(slot as usize) {
            *since = 0;
        }
        for accumulator in &mut self.accumulators {
            accumulator.clear(slot);
        }
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let mut columns: Vec<ArrayRef> = Vec::new();
        if let Some(rows) = &self.rows {
            let rows = slots.iter().map(|slot| rows[*slot as usize]);
            columns.push(Arc::new(Int64Array::from_iter_values(rows)));
        }
        if self.since.of_keys != KeysSince::Unknown {
            let since = slots.iter().map(|slot| self.since(*slot));
            columns.push(Arc::new(UInt64Array::from_iter_values(since)));
        }
        for accumulator in &self.accumulators {
            columns.extend(accumulator.columns(slots));
        }
        Ok(columns)
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<()> {
        let mut columns = columns.iter();
        for slot in slots {
            self.marks[*slot as usize] = PRESENT;
        }
        if let Some(rows) = &mut self.rows {
            let column = columns.next();
            let column = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
            let counts = column.ok_or_else(|| mismatch("the number of rows is no int64"))?;
            for (slot, count) in slots.iter().zip(counts.values()) {
                rows[*slot as usize] = *count;
            }
        }
        if self.since.of_keys != KeysSince::Unknown {
            let column = columns.next();
            let column = column.and_then(|column| column.as_primitive_opt::<UInt64Type>());
            let times = column.ok_or_else(|| mismatch("the time of a key is no uint64"))?;
            for (slot, time) in slots.iter().zip(times.values()) {
                if let Some(since) = self.since.of_slots.get_mut(*slot as usize) {
                    *since = *time;
                }
            }
        }
        for accumulator in &mut self.accumulators {
            let count = accumulator.fields().len();
            let own: Vec<ArrayRef> = columns.by_ref().take(count).cloned().collect();
            let restored = accumulator.restore(slots, &own);
            restored.map_err(|fault| mismatch(&format!("{fault:?}")))?;
        }
        Ok(())
    }

    /// Values that are kept in order are not among the columns.
    fn is_movable(&self) -> bool {
        let mut accumulators = self.accumulators.iter();
        accumulators.all(|accumulator| !accumulator.fields().is_empty())
    }

    fn slot_bytes(&self) -> usize {
        let rows = self.rows.as_ref().map_or(0, |_| size_of::<i64>());
        let accumulators = self.accumulators.iter();
        let cells: usize = accumulators.map(|it| it.slot_bytes()).sum();
        let since = match self.since.of_keys {
            KeysSince::Kept => size_of::<u64>(),
            KeysSince::Unknown | KeysSince::Ever => 0,
        };
        size_of::<u8>() + rows + since + cells
    }

    fn variable_bytes(&self) -> usize {
        let accumulators = self.accumulators.iter();
        accumulators.map(|accumulator| accumulator.bytes()).sum()
    }
}

fn mismatch(why: &str) -> Failure {
    let message = format!("a run of an aggregation has other columns than were written: {why}");
    Failure::new(ErrorCode::CorruptObject, ErrorKind::CorruptData, message)
}

/// How often each entry is there.
#[derive(Default)]
pub(super) struct Counts {
    of_slots: Vec<i64>,
    /// Somebody keeps the entries in order, who needs to hear of those that a restore brings.
    is_ordered: bool,
    /// Slots that a restore has filled.
    restored: Vec<Slot>,
}

impl Counts {
    /// Of nothing. `is_ordered` if somebody keeps the entries in order.
    pub(super) fn new(is_ordered: bool) -> Self {
        Self {
            is_ordered,
            ..Self::default()
        }
    }

    /// Slots that a restore has filled, and that still count; only once.
    pub(super) fn take_restored(&mut self) -> Vec<Slot> {
        let mut slots = std::mem::take(&mut self.restored);
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|slot| self.of_slots[*slot as usize] > 0);
        slots
    }

    pub(super) const fn has_restored(&self) -> bool {
        !self.restored.is_empty()
    }

    pub(super) fn of(&self, slot: Slot) -> i64 {
        self.of_slots[slot as usize]
    }

    /// The entry is of a key that has expired since.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.of_slots[slot as usize] = 0;
    }

    /// Counts an entry once more or less: 1 if it is the first, -1 if it was the last, else 0.
    pub(super) fn count(&mut self, slot: Slot, sign: i8) -> i8 {
        let count = &mut self.of_slots[slot as usize];
        let before = *count;
        // Below zero is an entry of a key that has expired.
        *count = (before + i64::from(sign)).max(0);
        i8::from(*count > 0) - i8::from(before > 0)
    }
}

impl Values for Counts {
    fn fields(&self) -> Vec<FieldRef> {
        vec![Arc::new(Field::new("count", DataType::Int64, false))]
    }

    fn resize(&mut self, slots: usize) {
        self.of_slots.resize(slots, 0);
    }

    fn clear(&mut self, slot: Slot) {
        self.of_slots[slot as usize] = 0;
    }

    fn gather(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let counts = slots.iter().map(|slot| self.of_slots[*slot as usize]);
        Ok(vec![Arc::new(Int64Array::from_iter_values(counts))])
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) -> Result<()> {
        let column = columns.first();
        let column = column.and_then(|column| column.as_primitive_opt::<Int64Type>());
        let counts = column.ok_or_else(|| mismatch("a count is no int64"))?;
        for (slot, count) in slots.iter().zip(counts.values()) {
            self.of_slots[*slot as usize] = *count;
        }
        if self.is_ordered {
            self.restored.extend_from_slice(slots);
        }
        Ok(())
    }

    fn is_movable(&self) -> bool {
        !self.is_ordered
    }
}
