//! Where the keys of slots are kept.

use std::sync::Arc;

use arrow_array::types::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType, Utf8Type};
use arrow_array::{
    ArrayRef, ArrowPrimitiveType, BinaryArray, GenericByteArray, PrimitiveArray, types::BinaryType,
    types::ByteArrayType,
};
use arrow_buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_row::{RowConverter, RowParser, SortField};
use arrow_schema::{DataType, FieldRef};

use super::{Form, Probe, bytes_of, integers, normalised, text};
use crate::index::NONE;
use crate::{Result, Slot, bug};

/// The keys of all slots.
#[derive(Debug)]
pub(crate) struct KeyStore {
    /// Name of the state, for messages.
    state: String,
    fields: Vec<FieldRef>,
    form: Form,
    integers: Vec<i64>,
    arena: Arena,
    rows: Option<(RowConverter, RowParser)>,
    /// The slot of the null key, for forms that have no other place for it.
    null: Slot,
}

impl KeyStore {
    pub(crate) fn new(state: &str, fields: Vec<FieldRef>) -> Self {
        let types: Vec<&DataType> = fields.iter().map(|field| field.data_type()).collect();
        let form = Form::of(&types);
        Self {
            state: state.to_owned(),
            form,
            fields,
            integers: Vec::new(),
            arena: Arena::default(),
            rows: None,
            null: NONE,
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.integers.capacity() * size_of::<i64>() + self.arena.memory()
    }

    /// Bytes of a slot, whatever its key is.
    pub(crate) const fn fixed_bytes(&self) -> usize {
        match self.form {
            Form::Single => 0,
            Form::Integers => size_of::<i64>(),
            Form::Bytes | Form::Rows => size_of::<Span>(),
        }
    }

    /// Whether keys have bytes beside these.
    pub(crate) const fn is_variable(&self) -> bool {
        matches!(self.form, Form::Bytes | Form::Rows)
    }

    /// Bytes of all keys beside these.
    pub(crate) const fn variable_bytes(&self) -> usize {
        self.arena.data.len()
    }

    /// Those of keys that are gone.
    pub(crate) const fn unused_bytes(&self) -> usize {
        self.arena.unused
    }

    /// Gives up the bytes of keys that are gone, if they are many.
    pub(crate) fn compact(&mut self) {
        if self.arena.unused > Arena::WORTHWHILE && self.arena.unused * 4 > self.arena.data.len() {
            self.arena.compact();
        }
    }

    /// Makes room for slots below this.
    pub(crate) fn resize(&mut self, slots: usize) {
        match self.form {
            Form::Single => {}
            Form::Integers => self.integers.resize(slots, 0),
            Form::Bytes | Form::Rows => self.arena.spans.resize(slots, Span::default()),
        }
    }

    /// The keys of a batch as this store keeps keys.
    pub(crate) fn probe<'a>(&mut self, keys: &'a [ArrayRef], rows: usize) -> Result<Probe<'a>> {
        let is_key = keys.len() == self.fields.len()
            && keys.iter().zip(&self.fields).all(|(array, field)| {
                array.data_type() == field.data_type() && array.len() == rows
            });
        if !is_key {
            let types: Vec<_> = keys.iter().map(|key| key.data_type().to_string()).collect();
            let reason = format!("{rows} keys of other columns: {}", types.join(", "));
            return Err(bug(&self.state, reason));
        }
        let probe = match (self.form, keys) {
            (Form::Integers, [array]) => integers(array),
            (Form::Bytes, [array]) => bytes_of(array),
            (Form::Single, _) => Some(Probe::Single),
            _ => Some(Probe::Rows(self.converted(keys)?)),
        };
        probe.ok_or_else(|| bug(&self.state, "the key's column cannot be read"))
    }

    fn converted(&mut self, keys: &[ArrayRef]) -> Result<arrow_row::Rows> {
        let columns: Vec<ArrayRef> = keys.iter().map(normalised).collect();
        let (converter, _) = self.converter()?;
        let rows = converter.convert_columns(&columns);
        rows.map_err(|error| bug(&self.state, error))
    }

    fn converter(&mut self) -> Result<&(RowConverter, RowParser)> {
        if self.rows.is_none() {
            let fields = self.fields.iter();
            let fields = fields.map(|field| SortField::new(field.data_type().clone()));
            let converter = RowConverter::new(fields.collect());
            let converter = converter.map_err(|error| bug(&self.state, error))?;
            let parser = converter.parser();
            self.rows = Some((converter, parser));
        }
        let missing = || bug(&self.state, "keys cannot be read row by row");
        self.rows.as_ref().ok_or_else(missing)
    }

    /// Rows whose slot of `slots` is not that of their key.
    pub(crate) fn mismatches(&self, probe: &Probe<'_>, slots: &[Slot], wrong: &mut Vec<usize>) {
        match probe {
            Probe::Borrowed(values, None) => self.other_integers(values, slots, wrong),
            Probe::Owned(values, None) => self.other_integers(values, slots, wrong),
            Probe::Bytes {
                offsets,
                data,
                nulls: None,
            } => {
                self.other_texts(offsets, data, slots, wrong);
            }
            _ => {
                let rows = slots.iter().enumerate();
                let is_wrong =
                    |row: usize, slot: Slot| slot == NONE || !self.is_key(probe, row, slot);
                let rows = rows.filter(|(row, slot)| is_wrong(*row, **slot));
                wrong.extend(rows.map(|(row, _)| row));
            }
        }
    }

    fn other_integers(&self, values: &[i64], slots: &[Slot], wrong: &mut Vec<usize>) {
        let integers = self.integers.as_slice();
        for (row, (slot, value)) in slots.iter().zip(values).enumerate() {
            // A slot that is none is behind all others.
            let found = integers.get(*slot as usize);
            if found != Some(value) || *slot == self.null {
                wrong.push(row);
            }
        }
    }

    /// In loops of which each only loads what the next needs, so that loads do not wait for each other.
    fn other_texts(&self, offsets: &[i32], data: &[u8], slots: &[Slot], wrong: &mut Vec<usize>) {
        const BLOCK: usize = 256;
        let (spans, kept) = (self.arena.spans.as_slice(), self.arena.data.as_slice());
        let mut places = [(0, 0); BLOCK];
        for (block, slots) in slots.chunks(BLOCK).enumerate() {
            for (place, slot) in places.iter_mut().zip(slots) {
                // A slot that is none is behind all others.
                *place = spans
                    .get(*slot as usize)
                    .map_or((0, 0), |span| span.range());
            }
            let first = |(start, _): &(usize, usize)| kept.get(*start).copied().unwrap_or_default();
            let loaded = places.iter().map(first).fold(0, |all, byte| all | byte);
            std::hint::black_box(loaded);
            for (at, (slot, (start, length))) in slots.iter().zip(&places).enumerate() {
                let row = block * BLOCK + at;
                let is_there = *slot != NONE && *slot != self.null;
                let key = text(offsets, data, row);
                if !(is_there && *length == key.len() && kept[*start..*start + *length] == *key) {
                    wrong.push(row);
                }
            }
        }
    }

    /// Whether a slot has the key of a row.
    pub(crate) fn is_key(&self, probe: &Probe<'_>, row: usize, slot: Slot) -> bool {
        let is_null = |nulls: Option<&NullBuffer>| nulls.is_some_and(|nulls| nulls.is_null(row));
        match probe {
            Probe::Single => true,
            Probe::Borrowed(_, nulls) if is_null(*nulls) => slot == self.null,
            Probe::Owned(_, nulls) if is_null(nulls.as_ref()) => slot == self.null,
            Probe::Bytes { nulls, .. } if is_null(*nulls) => slot == self.null,
            Probe::Borrowed(values, _) => {
                slot != self.null && self.integers[slot as usize] == values[row]
            }
            Probe::Owned(values, _) => {
                slot != self.null && self.integers[slot as usize] == values[row]
            }
            Probe::Bytes { offsets, data, .. } => {
                slot != self.null && self.arena.get(slot) == text(offsets, data, row)
            }
            Probe::Rows(rows) => self.arena.get(slot) == rows.row(row).data(),
        }
    }

    /// Gives a slot, below the size, the key of a row.
    pub(crate) fn set(&mut self, probe: &Probe<'_>, row: usize, slot: Slot) -> Result<()> {
        let is_null = |nulls: Option<&NullBuffer>| nulls.is_some_and(|nulls| nulls.is_null(row));
        let fits = match probe {
            Probe::Single => true,
            Probe::Borrowed(_, nulls) if is_null(*nulls) => self.set_null(slot),
            Probe::Owned(_, nulls) if is_null(nulls.as_ref()) => self.set_null(slot),
            Probe::Bytes { nulls, .. } if is_null(*nulls) => self.set_null(slot),
            Probe::Borrowed(values, _) => self.set_integer(slot, values[row]),
            Probe::Owned(values, _) => self.set_integer(slot, values[row]),
            Probe::Bytes { offsets, data, .. } => self.arena.set(slot, text(offsets, data, row)),
            Probe::Rows(rows) => self.arena.set(slot, rows.row(row).data()),
        };
        if fits {
            return Ok(());
        }
        let message = format!("a key has more than {LONGEST} bytes, or all keys together too many");
        Err(bug(&self.state, message))
    }

    fn set_integer(&mut self, slot: Slot, value: i64) -> bool {
        self.integers[slot as usize] = value;
        true
    }

    const fn set_null(&mut self, slot: Slot) -> bool {
        self.null = slot;
        true
    }

    /// No slot has a key any more.
    pub(crate) fn clear_all(&mut self) {
        self.null = NONE;
        self.arena.spans.fill(Span::default());
        self.arena.data.clear();
        self.arena.unused = 0;
    }

    /// A slot has no key any more.
    pub(crate) fn clear(&mut self, slot: Slot) {
        if self.null == slot {
            self.null = NONE;
        }
        if matches!(self.form, Form::Bytes | Form::Rows) {
            self.arena.clear(slot);
        }
    }

    /// The keys of slots, in columns.
    pub(crate) fn arrays(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let Some(field) = self.fields.first() else {
            return Ok(Vec::new());
        };
        let array = match (self.form, field.data_type()) {
            (Form::Single, _) => return Ok(Vec::new()),
            (Form::Rows, _) => return self.parsed(slots),
            (Form::Bytes, DataType::Binary) => self.texts::<BinaryType>(slots)?,
            (Form::Bytes, _) => self.texts::<Utf8Type>(slots)?,
            (Form::Integers, DataType::Int32) => self.narrow::<Int32Type>(slots),
            (Form::Integers, DataType::Date32) => self.narrow::<Date32Type>(slots),
            (Form::Integers, DataType::Timestamp(_, zone)) => {
                let times = self.numbers::<TimestampMicrosecondType>(slots);
                Arc::new(times.with_timezone_opt(zone.clone()))
            }
            (Form::Integers, _) => Arc::new(self.numbers::<Int64Type>(slots)),
        };
        Ok(vec![array])
    }

    fn parsed(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let Some((converter, parser)) = &self.rows else {
            // Nothing was ever resolved.
            let empty = |field: &FieldRef| arrow_array::new_empty_array(field.data_type());
            return Ok(self.fields.iter().map(empty).collect());
        };
        let rows = slots.iter().map(|slot| parser.parse(self.arena.get(*slot)));
        let columns = converter.convert_rows(rows);
        columns.map_err(|error| bug(&self.state, error))
    }

    fn nulls(&self, slots: &[Slot]) -> Option<NullBuffer> {
        let has_null = self.null != NONE && slots.contains(&self.null);
        has_null.then(|| slots.iter().map(|slot| *slot != self.null).collect())
    }

    fn numbers<T: ArrowPrimitiveType<Native = i64>>(&self, slots: &[Slot]) -> PrimitiveArray<T> {
        let values = slots.iter().map(|slot| self.integers[*slot as usize]);
        PrimitiveArray::new(values.collect(), self.nulls(slots))
    }

    fn narrow<T: ArrowPrimitiveType<Native = i32>>(&self, slots: &[Slot]) -> ArrayRef {
        let values = slots.iter().map(|slot| self.integers[*slot as usize]);
        // They were as narrow when they came.
        let values = values.map(|value| i32::try_from(value).unwrap_or_default());
        Arc::new(PrimitiveArray::<T>::new(
            values.collect(),
            self.nulls(slots),
        ))
    }

    fn texts<T: ByteArrayType<Offset = i32>>(&self, slots: &[Slot]) -> Result<ArrayRef> {
        let mut offsets = Vec::with_capacity(slots.len() + 1);
        let bytes: usize = slots.iter().map(|slot| self.arena.get(*slot).len()).sum();
        let mut data = Vec::with_capacity(bytes);
        offsets.push(0);
        for slot in slots {
            if *slot != self.null {
                data.extend_from_slice(self.arena.get(*slot));
            }
            let end = i32::try_from(data.len());
            offsets.push(end.map_err(|_| bug(&self.state, "the keys of a block pass 2 GiB"))?);
        }
        let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
        let array = BinaryArray::try_new(offsets, Buffer::from_vec(data), self.nulls(slots));
        let array = array.map_err(|error| bug(&self.state, error))?;
        let (offsets, data, nulls) = array.into_parts();
        let array = GenericByteArray::<T>::try_new(offsets, data, nulls);
        Ok(Arc::new(array.map_err(|error| bug(&self.state, error))?))
    }
}

/// Longest key in bytes, and how far the arena reaches: what fits into a [`Span`].
const LENGTH_BITS: u32 = 28;
const LONGEST: usize = (1 << LENGTH_BITS) - 1;
const FURTHEST: u64 = 1 << (64 - LENGTH_BITS);

/// Where a key's bytes are: the start above [`LENGTH_BITS`], the length below.
#[derive(Debug, Clone, Copy, Default)]
struct Span(u64);

impl Span {
    fn new(start: usize, length: usize) -> Option<Self> {
        let (start, length) = (u64::try_from(start).ok()?, u64::try_from(length).ok()?);
        let fits = start < FURTHEST && length < 1 << LENGTH_BITS;
        fits.then_some(Self(start << LENGTH_BITS | length))
    }

    const fn range(self) -> (usize, usize) {
        let length = self.0 & ((1 << LENGTH_BITS) - 1);
        ((self.0 >> LENGTH_BITS) as usize, length as usize)
    }
}

/// Keys of any length.
#[derive(Debug, Default)]
struct Arena {
    spans: Vec<Span>,
    data: Vec<u8>,
    /// Bytes of keys that are gone.
    unused: usize,
}

impl Arena {
    /// Below this, what is gone does not matter.
    const WORTHWHILE: usize = 1 << 20;

    const fn memory(&self) -> usize {
        // What was reserved for more and never used takes no memory.
        self.spans.capacity() * size_of::<Span>() + self.data.len()
    }

    fn get(&self, slot: Slot) -> &[u8] {
        let (start, length) = self.spans[slot as usize].range();
        &self.data[start..start + length]
    }

    fn set(&mut self, slot: Slot, key: &[u8]) -> bool {
        if self.unused > Self::WORTHWHILE && self.unused * 2 > self.data.len() {
            self.compact();
        }
        let Some(span) = Span::new(self.data.len(), key.len()) else {
            return false;
        };
        self.spans[slot as usize] = span;
        self.data.extend_from_slice(key);
        true
    }

    fn clear(&mut self, slot: Slot) {
        let span = std::mem::take(&mut self.spans[slot as usize]);
        self.unused += span.range().1;
    }

    fn compact(&mut self) {
        let mut data = Vec::with_capacity(self.data.len() - self.unused);
        for span in &mut self.spans {
            let (start, length) = span.range();
            // What fitted before fits now: it only moves to the front.
            *span = Span::new(data.len(), length).unwrap_or_default();
            data.extend_from_slice(&self.data[start..start + length]);
        }
        self.data = data;
        self.unused = 0;
    }
}
