//! Rows as `COPY … (FORMAT binary)` reads them.
//!
//! Source: "Binary Format" of `COPY` in PostgreSQL's manual, and the `*_recv` functions of its types.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array as _, ArrayRef, RecordBatch};
use arrow_schema::DataType;
use bytes::{BufMut as _, Bytes, BytesMut};

use crate::column::Kind;

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// From 1970-01-01 to 2000-01-01.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 10_957 * 86_400_000_000;
/// Digits of one digit of a `numeric`.
const GROUP: u32 = 4;

/// Rows on their way to the server.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    buffer: BytesMut,
    count: u64,
}

/// Which column of a batch is written, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) index: usize,
    pub(crate) kind: Kind,
}

/// Why a row cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unwritable {
    pub(crate) column: String,
    pub(crate) reason: &'static str,
}

impl Rows {
    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Adds rows of a batch, in the order of their numbers. Returns how many bytes they are.
    ///
    /// # Errors
    /// A value has no place in its column.
    pub(crate) fn push(
        &mut self,
        records: &RecordBatch,
        columns: &[Written],
        rows: impl Iterator<Item = usize>,
    ) -> Result<u64, Unwritable> {
        if self.buffer.is_empty() {
            self.buffer.put_slice(SIGNATURE);
        }
        let before = self.buffer.len();
        let fields = i16::try_from(columns.len()).unwrap_or(i16::MAX);
        for row in rows {
            self.buffer.put_i16(fields);
            for column in columns {
                let array = records.column(column.index);
                put(&mut self.buffer, array, column.kind, row).map_err(|reason| Unwritable {
                    column: records.schema_ref().field(column.index).name().clone(),
                    reason,
                })?;
            }
            self.count += 1;
        }
        Ok(u64::try_from(self.buffer.len() - before).unwrap_or(u64::MAX))
    }

    /// Takes what waits as one whole text for `COPY`; none if nothing waits.
    pub(crate) fn take(&mut self) -> Option<Bytes> {
        if self.count == 0 {
            return None;
        }
        self.count = 0;
        self.buffer.put_i16(-1);
        Some(self.buffer.split().freeze())
    }
}

/// Writes one value behind its length.
fn put(
    buffer: &mut BytesMut,
    array: &ArrayRef,
    kind: Kind,
    row: usize,
) -> Result<(), &'static str> {
    if array.is_null(row) {
        buffer.put_i32(-1);
        return Ok(());
    }
    match kind {
        Kind::Bool => {
            buffer.put_i32(1);
            buffer.put_u8(u8::from(array.as_boolean().value(row)));
        }
        Kind::Int4 => {
            buffer.put_i32(4);
            buffer.put_i32(array.as_primitive::<Int32Type>().value(row));
        }
        Kind::Int8 => {
            buffer.put_i32(8);
            buffer.put_i64(array.as_primitive::<Int64Type>().value(row));
        }
        Kind::Int8OfInt32 => {
            buffer.put_i32(8);
            buffer.put_i64(i64::from(array.as_primitive::<Int32Type>().value(row)));
        }
        Kind::Float8 => {
            buffer.put_i32(8);
            buffer.put_f64(array.as_primitive::<Float64Type>().value(row));
        }
        Kind::Text => put_text(buffer, array.as_string::<i32>().value(row), None)?,
        Kind::Jsonb => put_text(buffer, array.as_string::<i32>().value(row), Some(1))?,
        Kind::Uuid => {
            let value = uuid(array.as_string::<i32>().value(row)).ok_or("it is not a UUID")?;
            buffer.put_i32(16);
            buffer.put_u128(value);
        }
        Kind::Bytea => put_bytes(buffer, array.as_binary::<i32>().value(row))?,
        Kind::Numeric => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            let scale = match array.data_type() {
                DataType::Decimal128(_, scale) => u16::try_from(*scale).unwrap_or_default(),
                _ => 0,
            };
            put_numeric(buffer, value, scale);
        }
        Kind::Timestamp => {
            let value = array.as_primitive::<TimestampMicrosecondType>().value(row);
            let value = value.checked_sub(EPOCH_MICROS).ok_or("it is too early")?;
            buffer.put_i32(8);
            buffer.put_i64(value);
        }
        Kind::Date => {
            let value = array.as_primitive::<Date32Type>().value(row);
            let value = value.checked_sub(EPOCH_DAYS).ok_or("it is too early")?;
            buffer.put_i32(4);
            buffer.put_i32(value);
        }
    }
    Ok(())
}

fn put_text(buffer: &mut BytesMut, text: &str, version: Option<u8>) -> Result<(), &'static str> {
    if text.as_bytes().contains(&0) {
        return Err("it has a character with the code 0, which PostgreSQL does not keep");
    }
    let length = text.len() + usize::from(version.is_some());
    buffer.put_i32(i32::try_from(length).map_err(|_| "it is longer than 2 GiB")?);
    if let Some(version) = version {
        buffer.put_u8(version);
    }
    buffer.put_slice(text.as_bytes());
    Ok(())
}

fn put_bytes(buffer: &mut BytesMut, bytes: &[u8]) -> Result<(), &'static str> {
    buffer.put_i32(i32::try_from(bytes.len()).map_err(|_| "it is longer than 2 GiB")?);
    buffer.put_slice(bytes);
    Ok(())
}

/// Writes `value` / 10^`scale` in digits of base 10,000.
fn put_numeric(buffer: &mut BytesMut, value: i128, scale: u16) {
    let mut rest = value.unsigned_abs();
    let mut groups: [i16; 24] = [0; 24];
    let mut used: usize = 0;
    let mut push = |group: u128| {
        if let (Some(place), Ok(group)) = (groups.get_mut(used), i16::try_from(group)) {
            *place = group;
            used += 1;
        }
    };
    // From the last digit on. The last group behind the point is filled up with zeros.
    let part = u32::from(scale) % GROUP;
    if part > 0 {
        push(rest % 10_u128.pow(part) * 10_u128.pow(GROUP - part));
        rest /= 10_u128.pow(part);
    }
    let mut behind = u32::from(scale) / GROUP;
    while behind > 0 {
        push(rest % 10_000);
        rest /= 10_000;
        behind -= 1;
    }
    let mut before: i16 = 0;
    while rest > 0 {
        push(rest % 10_000);
        rest /= 10_000;
        before += 1;
    }
    let digits = groups.get(..used).unwrap_or_default();
    // Zeros at both ends are left out.
    let last = digits.iter().take_while(|group| **group == 0).count();
    let digits = digits.get(last..).unwrap_or_default();
    let first = digits.iter().rev().take_while(|group| **group == 0).count();
    let digits = digits.get(..digits.len() - first).unwrap_or_default();
    let weight = if digits.is_empty() {
        0
    } else {
        before - 1 - i16::try_from(first).unwrap_or_default()
    };
    let count = i16::try_from(digits.len()).unwrap_or_default();
    buffer.put_i32(8 + 2 * i32::from(count));
    buffer.put_i16(count);
    buffer.put_i16(weight);
    buffer.put_u16(if value < 0 { 0x4000 } else { 0 });
    buffer.put_u16(scale);
    for group in digits.iter().rev() {
        buffer.put_i16(*group);
    }
}

/// The 128 bits of a UUID: 32 hexadecimal digits, with `-` between them or not.
fn uuid(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let is_hex = digits.len() == 32 && digits.chars().all(|c| c.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(&digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(value: i128, scale: u16) -> (i16, i16, u16, u16, Vec<i16>) {
        let mut buffer = BytesMut::new();
        put_numeric(&mut buffer, value, scale);
        let word = |at: usize| i16::from_be_bytes([buffer[at], buffer[at + 1]]);
        let count = word(4);
        let digits = (0..count).map(|digit| word(12 + 2 * usize::try_from(digit).unwrap()));
        let unsigned = |at| u16::try_from(word(at)).unwrap();
        let length = i32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
        assert_eq!(usize::try_from(length).unwrap(), buffer.len() - 4);
        (count, word(6), unsigned(8), unsigned(10), digits.collect())
    }

    #[test]
    fn numbers_are_written_as_digits_of_base_10_000() {
        assert_eq!(numeric(0, 2), (0, 0, 0, 2, vec![]));
        assert_eq!(numeric(1_234_567, 2), (3, 1, 0, 2, vec![1, 2345, 6700]));
        assert_eq!(numeric(-5, 2), (1, -1, 0x4000, 2, vec![500]));
        assert_eq!(numeric(5, 6), (1, -2, 0, 6, vec![500]));
        assert_eq!(numeric(100_000_000, 0), (1, 2, 0, 0, vec![1]));
        let most = 10_i128.pow(38) - 1;
        assert_eq!(numeric(most, 38).4.len(), 10);
        assert_eq!(numeric(most, 0).4.len(), 10);
    }

    #[test]
    fn uuids_are_read_with_and_without_dashes() {
        let dashed = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(
            uuid(dashed),
            Some(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff)
        );
        assert_eq!(uuid(&dashed.replace('-', "")), uuid(dashed));
        assert_eq!(uuid("0011"), None);
        assert_eq!(uuid("zz112233445566778899aabbccddeeff"), None);
    }
}
