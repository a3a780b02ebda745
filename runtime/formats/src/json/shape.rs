//! The shape cache: what the last records looked like between their values.
//!
//! Records of one producer mostly repeat the same keys in the same order with the same
//! whitespace. A [`Shape`] remembers those bytes. A record is decoded by comparing them at their
//! predicted places and reading values in between; at the first difference the shape does not
//! apply, and the record is decoded with care and may become a new shape.
//!
//! A shape never accepts what the careful decoder would refuse: every byte of the record is either
//! compared with a byte of a record that was well formed, or walked over as a value.

use super::scan::Scanner;
use super::value::push_here;
use crate::column::Column;

/// Most fields of a record that is worth remembering.
const MAX_FIELDS: usize = 1_024;
/// Most bytes between the values of a record that is worth remembering.
const MAX_LITERAL_BYTES: usize = 64 * 1_024;

/// What to do with a field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Nobody asked for it.
    Skip,
    /// It goes into this column.
    Column(usize),
}

/// One field of a record that was just decoded with care.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Where its value begins.
    pub(super) start: usize,
    /// Where its value ends.
    pub(super) end: usize,
    pub(super) target: Target,
}

/// The bytes between the values of a record.
#[derive(Debug, Default)]
pub(super) struct Shape {
    fields: Vec<(Literal, Target)>,
    tail: Literal,
    /// Columns that the record does not have.
    absent: Vec<usize>,
    /// The bytes of all literals.
    words: Vec<Word>,
}

/// Bytes that must stand at a place.
#[derive(Debug, Clone, Copy, Default)]
struct Literal {
    /// Its words in [`Shape::words`].
    first: usize,
    last: usize,
    /// Its length in bytes.
    length: usize,
}

/// Up to eight bytes of a literal.
#[derive(Debug, Clone, Copy)]
struct Word {
    value: u64,
    /// Ones where `value` has bytes.
    mask: u64,
}

impl Shape {
    /// Remembers a record, instead of whatever was remembered here; false if it is too large.
    ///
    /// `fields` are in the order of the record, and no column appears twice.
    pub(super) fn learn(&mut self, record: &[u8], fields: &[Seen], columns: usize) -> bool {
        self.fields.clear();
        self.words.clear();
        self.absent.clear();
        let value_bytes: usize = fields.iter().map(|field| field.end - field.start).sum();
        let literal_bytes = record.len().saturating_sub(value_bytes);
        if fields.len() > MAX_FIELDS || literal_bytes > MAX_LITERAL_BYTES {
            return false;
        }
        let mut end = 0;
        for field in fields {
            let literal = self.literal(record.get(end..field.start).unwrap_or_default());
            self.fields.push((literal, field.target));
            end = field.end;
        }
        self.tail = self.literal(record.get(end..).unwrap_or_default());
        let present = |column| {
            fields
                .iter()
                .any(|field| field.target == Target::Column(column))
        };
        self.absent
            .extend((0..columns).filter(|column| !present(*column)));
        true
    }

    fn literal(&mut self, bytes: &[u8]) -> Literal {
        let first = self.words.len();
        for part in bytes.chunks(8) {
            let (mut value, mut mask) = ([0; 8], [0; 8]);
            for ((value, mask), byte) in value.iter_mut().zip(&mut mask).zip(part) {
                (*value, *mask) = (*byte, 0xff);
            }
            self.words.push(Word {
                value: u64::from_le_bytes(value),
                mask: u64::from_le_bytes(mask),
            });
        }
        Literal {
            first,
            last: self.words.len(),
            length: bytes.len(),
        }
    }

    /// Appends the record's values to the columns. `None` if it has another shape, or a value that
    /// does not fit its column; then some columns may have got their value already.
    pub(super) fn decode(&self, record: &[u8], columns: &mut [Column]) -> Option<()> {
        let mut position = 0;
        for (literal, target) in &self.fields {
            position = self.compare(*literal, record, position)?;
            position = match *target {
                Target::Column(column) => push_here(columns.get_mut(column)?, record, position)?,
                Target::Skip => {
                    let mut scanner = Scanner::new(record, position);
                    scanner.value(1).ok()?;
                    scanner.position
                }
            };
        }
        if self.compare(self.tail, record, position)? != record.len() {
            return None;
        }
        for column in &self.absent {
            if !columns.get_mut(*column)?.push_null() {
                return None;
            }
        }
        Some(())
    }

    /// Where a literal that stands at `position` ends.
    #[inline]
    fn compare(&self, literal: Literal, record: &[u8], position: usize) -> Option<usize> {
        let rest = record.get(position..)?;
        let words = self.words.get(literal.first..literal.last)?;
        let mut at = 0;
        for word in words {
            let bytes = match rest.get(at..)?.first_chunk::<8>() {
                Some(bytes) => *bytes,
                None => last_bytes(rest.get(at..)?),
            };
            if u64::from_le_bytes(bytes) & word.mask != word.value {
                return None;
            }
            at += 8;
        }
        Some(position + literal.length)
    }
}

/// Fewer than eight bytes, and zeros, which no literal has.
fn last_bytes(bytes: &[u8]) -> [u8; 8] {
    let mut padded = [0; 8];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    padded
}
