//! The careful decoder: finds the fields of any record, in any order, and says what is wrong.

use std::collections::BTreeMap;

use super::scan::{Scanner, Value, key_fault};
use super::shape::{Seen, Target};
use super::text::unescape;
use super::value::push;
use crate::column::{Column, Columns};
use crate::error::{DecodeError, DecodeReason, Fault};

/// Where the columns' values lie in one record.
#[derive(Debug)]
pub(super) struct Fields {
    /// Columns by name.
    index: BTreeMap<Box<[u8]>, usize>,
    /// By column: its last value in the record.
    values: Vec<Option<Value>>,
    /// All fields in order.
    seen: Vec<Seen>,
    /// Whether a column has appeared twice.
    repeated: bool,
    /// Where the record's object ends.
    end: usize,
    /// Room for a key with escapes.
    key: Vec<u8>,
}

impl Fields {
    pub(super) fn new(columns: &Columns) -> Self {
        let named = columns.iter().enumerate();
        Self {
            index: named
                .map(|(index, column)| (column.name.clone(), index))
                .collect(),
            values: vec![None; columns.len()],
            seen: Vec::new(),
            repeated: false,
            end: 0,
            key: Vec::new(),
        }
    }

    /// Walks over the whole record and notes where the columns' values lie.
    pub(super) fn find(&mut self, record: &[u8], columns: &Columns) -> Result<(), DecodeError> {
        self.values.fill(None);
        self.seen.clear();
        self.repeated = false;
        let mut scanner = Scanner::new(record, 0);
        let mut field = None;
        let found = self.object(&mut scanner, columns, &mut field);
        self.end = scanner.position;
        found
            .and_then(|()| at_end(scanner))
            .map_err(|fault| fault.in_field(field))
    }

    /// Walks over the object. `field` is the key of the value that is being walked over.
    fn object<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        columns: &Columns,
        field: &mut Option<&'a [u8]>,
    ) -> Result<(), Fault> {
        scanner.skip_whitespace();
        match scanner.peek() {
            Some(b'{') => scanner.position += 1,
            Some(_) => return Err(scanner.fault(DecodeReason::NotAnObject)),
            None => return Err(Fault::new(0, DecodeReason::Empty)),
        }
        scanner.skip_whitespace();
        if scanner.peek() == Some(b'}') {
            scanner.position += 1;
            return Ok(());
        }
        let mut likely = 0;
        loop {
            let target = self.key(scanner, columns, likely, field)?;
            scanner.skip_whitespace();
            scanner.byte(b':', "`:`")?;
            scanner.skip_whitespace();
            let value = scanner.value(1)?;
            *field = None;
            self.note(target, value);
            if let Target::Column(column) = target {
                likely = column + 1;
            }
            scanner.skip_whitespace();
            match scanner.peek() {
                Some(b',') => scanner.position += 1,
                Some(b'}') => {
                    scanner.position += 1;
                    return Ok(());
                }
                _ => return Err(scanner.expected("`,` or `}`")),
            }
            scanner.skip_whitespace();
        }
    }

    /// Walks over a key and finds its column; probably it is `likely`.
    fn key<'a>(
        &mut self,
        scanner: &mut Scanner<'a>,
        columns: &Columns,
        likely: usize,
        field: &mut Option<&'a [u8]>,
    ) -> Result<Target, Fault> {
        let start = scanner.position + 1;
        let escaped = scanner.string().map_err(key_fault)?;
        let inside = start..scanner.position - 1;
        let raw = scanner.bytes.get(inside).unwrap_or_default();
        *field = Some(raw);
        let name = if escaped {
            self.key.clear();
            unescape(raw, start, &mut self.key)?;
            &self.key
        } else {
            raw
        };
        if columns
            .get(likely)
            .is_some_and(|column| *column.name == *name)
        {
            return Ok(Target::Column(likely));
        }
        let column = self.index.get(name).copied();
        Ok(column.map_or(Target::Skip, Target::Column))
    }

    fn note(&mut self, target: Target, value: Value) {
        let (start, end) = (value.start, value.end);
        self.seen.push(Seen { start, end, target });
        let Target::Column(column) = target else {
            return;
        };
        if let Some(slot) = self.values.get_mut(column) {
            self.repeated |= slot.is_some();
            *slot = Some(value);
        }
    }

    /// Appends the values that [`find`](Self::find) has found in this record.
    pub(super) fn push(&self, record: &[u8], columns: &mut [Column]) -> Result<(), DecodeError> {
        for (column, value) in columns.iter_mut().zip(&self.values) {
            let pushed = match value {
                Some(value) => push(column, record, *value),
                None if column.push_null() => Ok(()),
                None => Err(Fault::new(self.end, DecodeReason::Missing)),
            };
            pushed.map_err(|fault| fault.in_field(Some(&column.name)))?;
        }
        Ok(())
    }

    /// The fields of the record, if records like it can be recognised by them.
    pub(super) fn learnable(&self) -> Option<&[Seen]> {
        (!self.repeated).then_some(&self.seen)
    }
}

/// Nothing but whitespace may follow.
fn at_end(mut scanner: Scanner<'_>) -> Result<(), Fault> {
    scanner.skip_whitespace();
    match scanner.peek() {
        None => Ok(()),
        Some(_) => Err(scanner.fault(DecodeReason::TrailingBytes)),
    }
}
