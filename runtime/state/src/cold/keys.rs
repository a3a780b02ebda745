//! How keys and rows are written in the cold tier.
//!
//! A row's key is the number of its table, the hash, and the bytes of the key: rows of a table are in the
//! order of their hashes, which is that of runs, and those of a key group stand together.

use std::ops::Range;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_row::{RowConverter, RowParser, Rows, SortField};
use arrow_schema::{ArrowError, FieldRef};

use crate::coverage::Sequence;
use crate::key::normalised;

const TABLE: usize = size_of::<u32>();
const HASH: usize = size_of::<u64>();

/// The key of a row.
pub(crate) fn row_key(table: u32, hash: u64, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TABLE + HASH + key.len());
    bytes.extend_from_slice(&table.to_be_bytes());
    bytes.extend_from_slice(&hash.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// The hash and the bytes of the key, of a row's key.
pub(crate) fn parts(row_key: &[u8]) -> Option<(u64, &[u8])> {
    let (hash, key) = row_key.get(TABLE..)?.split_first_chunk::<HASH>()?;
    Some((u64::from_be_bytes(*hash), key))
}

/// The entry of a row in the list of what has changed, from the row's key.
pub(crate) fn change(row_key: &[u8], sequence: Sequence) -> Vec<u8> {
    let (table, rest) = row_key.split_at(TABLE.min(row_key.len()));
    [table, &sequence.to_be_bytes(), rest].concat()
}

/// The row's key, from its entry in the list of what has changed.
pub(crate) fn changed_row(change: &[u8]) -> Vec<u8> {
    let (table, rest) = change.split_at(TABLE.min(change.len()));
    let rest = rest.get(size_of::<Sequence>()..).unwrap_or_default();
    [table, rest].concat()
}

/// Where the changes of a table from a number on begin.
pub(crate) fn changes_from(table: u32, sequence: Sequence) -> Vec<u8> {
    [table.to_be_bytes(), sequence.to_be_bytes()].concat()
}

/// From one key to before another.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

impl Bounds {
    /// The rows of some key groups of a table.
    pub(crate) fn groups(table: u32, groups: &Range<u32>, max_parallelism: u32) -> Self {
        // The first hash of a group: `(hash * groups) >> 64` is the group.
        let first = |group: u32| {
            let at = u128::from(group) << 64;
            u64::try_from(at.div_ceil(u128::from(max_parallelism.max(1)))).ok()
        };
        let bound = |group: u32| match first(group) {
            Some(hash) => row_key(table, hash, &[]),
            // Behind the last.
            None => table.saturating_add(1).to_be_bytes().to_vec(),
        };
        Self {
            from: bound(groups.start),
            to: bound(groups.end),
        }
    }

    /// The same rows, in the list of what has changed with a number.
    pub(crate) fn of_change(&self, table: u32, sequence: Sequence) -> Self {
        let at = |bound: &[u8]| {
            if bound.len() > TABLE {
                change(bound, sequence)
            } else {
                changes_from(table, sequence.saturating_add(1))
            }
        };
        Self {
            from: at(&self.from),
            to: at(&self.to),
        }
    }
}

const DELETED: u8 = 1;
const TIMED: u8 = 2;

/// What is said of a row before its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) changed: Sequence,
    pub(crate) is_deleted: bool,
    /// When it has changed last and when it expires.
    pub(crate) times: Option<(u64, u64)>,
}

impl Head {
    pub(crate) fn write(self, into: &mut Vec<u8>) {
        let deleted = if self.is_deleted { DELETED } else { 0 };
        let timed = if self.times.is_some() { TIMED } else { 0 };
        into.push(deleted | timed);
        into.extend_from_slice(&self.changed.to_le_bytes());
        if let Some((time, expires)) = self.times {
            into.extend_from_slice(&time.to_le_bytes());
            into.extend_from_slice(&expires.to_le_bytes());
        }
    }

    /// The head and the bytes of the values.
    pub(crate) fn read(row: &[u8]) -> Option<(Self, &[u8])> {
        let (flags, rest) = row.split_first()?;
        let (changed, rest) = rest.split_first_chunk()?;
        let (times, rest) = if flags & TIMED == 0 {
            (None, rest)
        } else {
            let (time, rest) = rest.split_first_chunk()?;
            let (expires, rest) = rest.split_first_chunk()?;
            let times = (u64::from_le_bytes(*time), u64::from_le_bytes(*expires));
            (Some(times), rest)
        };
        let head = Self {
            changed: Sequence::from_le_bytes(*changed),
            is_deleted: flags & DELETED != 0,
            times,
        };
        Some((head, rest))
    }

    /// Whether it is a key that has expired at a time. Who is deleted stays so.
    pub(crate) fn is_expired(self, now: u64) -> bool {
        !self.is_deleted && self.times.is_some_and(|(_, expires)| expires <= now)
    }
}

/// Columns as bytes, row by row.
#[derive(Debug)]
pub(crate) struct Codec {
    /// None without columns.
    converter: Option<(RowConverter, RowParser)>,
}

/// Rows as bytes.
#[derive(Debug)]
pub(crate) struct Encoded(Option<Rows>);

impl Encoded {
    pub(crate) fn get(&self, row: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |rows| rows.row(row).data())
    }
}

impl Codec {
    pub(crate) fn new(fields: &[FieldRef]) -> Result<Self, ArrowError> {
        if fields.is_empty() {
            return Ok(Self { converter: None });
        }
        let fields = fields.iter();
        let fields = fields.map(|field| SortField::new(field.data_type().clone()));
        let converter = RowConverter::new(fields.collect())?;
        let parser = converter.parser();
        Ok(Self {
            converter: Some((converter, parser)),
        })
    }

    /// Values as they are.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<Encoded, ArrowError> {
        let converter = self.converter.as_ref();
        let rows = converter.map(|(converter, _)| converter.convert_columns(columns));
        Ok(Encoded(rows.transpose()?))
    }

    /// Keys: those that SQL calls equal as one.
    pub(crate) fn encode_keys(&self, columns: &[ArrayRef]) -> Result<Encoded, ArrowError> {
        let columns: Vec<ArrayRef> = columns.iter().map(normalised).collect();
        self.encode(&columns)
    }

    pub(crate) fn decode<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>, ArrowError> {
        match &self.converter {
            Some((converter, parser)) => {
                let rows: Vec<&[u8]> = rows.collect();
                converter.convert_rows(rows.iter().map(|row| parser.parse(row)))
            }
            None => Ok(Vec::new()),
        }
    }
}

/// Columns of some rows of a batch.
pub(crate) fn columns(rows: &RecordBatch, range: Range<usize>) -> &[ArrayRef] {
    rows.columns().get(range).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use millstream_types::keys::key_group;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bounds_have_the_rows_of_their_groups(
            hash in any::<u64>(), groups in 1u32..5_000, start in any::<u32>(), count in any::<u32>(),
        ) {
            let start = start % groups;
            let range = start..(start + 1 + count % groups).min(groups);
            let bounds = Bounds::groups(7, &range, groups);
            let key = row_key(7, hash, b"key");
            let is_in = bounds.from <= key && key < bounds.to;
            prop_assert_eq!(is_in, range.contains(&key_group(hash, groups)));
            let change = change(&key, 9);
            let changes = bounds.of_change(7, 9);
            prop_assert_eq!(changes.from <= change && change < changes.to, is_in);
            prop_assert_eq!(changed_row(&change), key);
        }

        #[test]
        fn a_head_is_read_as_it_was_written(
            changed in any::<u32>(), is_deleted in any::<bool>(), times in any::<Option<(u64, u64)>>(),
        ) {
            let head = Head { changed, is_deleted, times };
            let mut row = Vec::new();
            head.write(&mut row);
            row.extend_from_slice(b"values");
            prop_assert_eq!(Head::read(&row), Some((head, b"values".as_slice())));
            prop_assert_eq!(Head::read(&row[..4]), None);
        }
    }
}
