//! The hash itself, a column at a time. Specified in `docs/keys.md`.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, ByteArrayType, Date32Type, Decimal128Type, Float64Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use arrow_array::{Array, GenericByteArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, TimeUnit};

/// What tells types apart: a multiple of 2^64 divided by the golden ratio.
#[derive(Debug, Clone, Copy)]
struct Tag(u64);

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Tag {
    const NULL: Self = Self::new(1);
    const BOOLEAN: Self = Self::new(2);
    const INTEGER: Self = Self::new(3);
    const FLOAT: Self = Self::new(4);
    const DECIMAL: Self = Self::new(5);
    const STRING: Self = Self::new(6);
    const BYTES: Self = Self::new(7);
    const TIMESTAMP: Self = Self::new(8);
    const DATE: Self = Self::new(9);

    const fn new(number: u64) -> Self {
        Self(GOLDEN.wrapping_mul(number))
    }
}

const STEP: u64 = 0xd6e8_feb8_6659_fd93;
const BYTES_FIRST: u64 = 0xa076_1d64_78bd_642f;
const BYTES_SECOND: u64 = 0xe703_7ed1_a0b4_28db;

/// Takes a column into the hashes of all rows; false if its type cannot be hashed.
pub(super) fn absorb(states: &mut [u64], array: &dyn Array) -> bool {
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean().values().iter();
            rows(states, array.nulls(), Tag::BOOLEAN, values.map(u64::from));
        }
        DataType::Int32 => {
            primitive::<Int32Type>(states, array, Tag::INTEGER, |value| integer(value.into()));
        }
        DataType::Int64 => primitive::<Int64Type>(states, array, Tag::INTEGER, integer),
        DataType::Float64 => primitive::<Float64Type>(states, array, Tag::FLOAT, float),
        DataType::Decimal128(_, scale) => {
            let Ok(scale) = u8::try_from(*scale) else {
                return false;
            };
            let values = array.as_primitive::<Decimal128Type>().values().iter();
            tagged(
                states,
                array.nulls(),
                values.map(|value| decimal(*value, scale)),
            );
        }
        DataType::Utf8 => bytes(states, array.as_string::<i32>(), Tag::STRING),
        DataType::Binary => bytes(states, array.as_binary::<i32>(), Tag::BYTES),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            primitive::<TimestampMicrosecondType>(states, array, Tag::TIMESTAMP, integer);
        }
        DataType::Date32 => {
            primitive::<Date32Type>(states, array, Tag::DATE, |value| integer(value.into()));
        }
        _ => return false,
    }
    true
}

/// Takes one value into a hash. A bijection of `word`, so that two numbers never meet.
const fn step(state: u64, tag: Tag, word: u64) -> u64 {
    mix(state
        .wrapping_add(tag.0)
        .wrapping_mul(STEP)
        .wrapping_add(word))
}

/// The finaliser of `SplitMix64`: each bit of the input changes half of the bits of the output.
///
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators"; constants of
/// Stafford's variant 13.
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn tagged(
    states: &mut [u64],
    nulls: Option<&NullBuffer>,
    values: impl Iterator<Item = (Tag, u64)>,
) {
    let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else {
        for (state, (tag, word)) in states.iter_mut().zip(values) {
            *state = step(*state, tag, word);
        }
        return;
    };
    for ((state, valid), (tag, word)) in states.iter_mut().zip(nulls.iter()).zip(values) {
        let (tag, word) = if valid { (tag, word) } else { (Tag::NULL, 0) };
        *state = step(*state, tag, word);
    }
}

fn rows(
    states: &mut [u64],
    nulls: Option<&NullBuffer>,
    tag: Tag,
    words: impl Iterator<Item = u64>,
) {
    tagged(states, nulls, words.map(|word| (tag, word)));
}

fn primitive<T: ArrowPrimitiveType>(
    states: &mut [u64],
    array: &dyn Array,
    tag: Tag,
    word: impl Fn(T::Native) -> u64,
) {
    let values = array.as_primitive::<T>().values().iter();
    rows(states, array.nulls(), tag, values.map(|value| word(*value)));
}

fn bytes<T: ByteArrayType<Offset = i32>>(
    states: &mut [u64],
    array: &GenericByteArray<T>,
    tag: Tag,
) {
    let data = array.value_data();
    let bounds = array.value_offsets().windows(2);
    let words = bounds.map(|bounds| {
        let (start, end) = (index(bounds[0]), index(bounds[1]));
        digest(&data[start..end])
    });
    rows(states, array.nulls(), tag, words);
}

/// An offset of an Arrow array, which is never negative.
#[expect(
    clippy::cast_sign_loss,
    reason = "Arrow checks offsets when an array is made"
)]
const fn index(offset: i32) -> usize {
    offset as usize
}

const fn integer(value: i64) -> u64 {
    value.cast_unsigned()
}

fn float(value: f64) -> u64 {
    if value.is_nan() {
        0x7ff8_0000_0000_0000
    } else {
        // Of -0.0 and 0.0 the sum is 0.0.
        (value + 0.0).to_bits()
    }
}

/// A decimal without the zeros at its end; an integer, if it is one.
fn decimal(unscaled: i128, scale: u8) -> (Tag, u64) {
    let (unscaled, scale) = match i64::try_from(unscaled) {
        Ok(unscaled) => {
            let (unscaled, scale) = shortest(unscaled, scale, |value| {
                (value % 10 == 0).then_some(value / 10)
            });
            (i128::from(unscaled), scale)
        }
        Err(_) => shortest(unscaled, scale, |value| {
            (value % 10 == 0).then_some(value / 10)
        }),
    };
    match i64::try_from(unscaled) {
        Ok(value) if scale == 0 => (Tag::INTEGER, integer(value)),
        _ => {
            let (low, high) = halves(unscaled.cast_unsigned());
            let high = high.wrapping_add(GOLDEN.wrapping_mul(scale.into()));
            (Tag::DECIMAL, low.wrapping_add(mix(high)))
        }
    }
}

fn shortest<T: Copy>(mut value: T, mut scale: u8, tenth: impl Fn(T) -> Option<T>) -> (T, u8) {
    while scale > 0
        && let Some(shorter) = tenth(value)
    {
        value = shorter;
        scale -= 1;
    }
    (value, scale)
}

/// 16 bytes at a time, the last ones filled up with zeros.
fn digest(bytes: &[u8]) -> u64 {
    let mut digest = BYTES_FIRST;
    let (chunks, rest) = bytes.as_chunks::<16>();
    for chunk in chunks {
        let (low, high) = halves(u128::from_le_bytes(*chunk));
        digest = fold(digest ^ low, BYTES_SECOND ^ high);
    }
    if !rest.is_empty() {
        let (low, high) = filled_up(rest);
        digest = fold(digest ^ low, BYTES_SECOND ^ high);
    }
    digest.wrapping_add(bytes.len() as u64)
}

/// Up to 15 bytes as if zeros followed, without copying them.
fn filled_up(bytes: &[u8]) -> (u64, u64) {
    let Some((first, last)) = bytes.first_chunk::<8>().zip(bytes.last_chunk::<8>()) else {
        return (word(bytes), 0);
    };
    let overlap = 8 * (16 - bytes.len());
    let high = u64::from_le_bytes(*last) >> (overlap / 2) >> (overlap - overlap / 2);
    (u64::from_le_bytes(*first), high)
}

/// Up to 7 bytes as if zeros followed. Reads that overlap read the same bits.
fn word(bytes: &[u8]) -> u64 {
    if let Some((first, last)) = bytes.first_chunk::<4>().zip(bytes.last_chunk::<4>()) {
        let last = u64::from(u32::from_le_bytes(*last)) << (8 * (bytes.len() - 4));
        return u64::from(u32::from_le_bytes(*first)) | last;
    }
    let at = |position: usize| {
        let byte = bytes.get(position).copied().unwrap_or_default();
        u64::from(byte) << (8 * position)
    };
    at(0) | at(1) | at(2)
}

const fn fold(left: u64, right: u64) -> u64 {
    let (low, high) = halves(left as u128 * right as u128);
    low ^ high
}

#[expect(clippy::cast_possible_truncation, reason = "both halves are wanted")]
const fn halves(wide: u128) -> (u64, u64) {
    (wide as u64, (wide >> 64) as u64)
}
