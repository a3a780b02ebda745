//! Which records belong together: the hash of a key, its key group, and the subtask of a group.
//!
//! Everything here is frozen: state is found by it in checkpoints of older builds. `docs/keys.md`
//! specifies it, so that others can compute the same, and holds vectors that the tests check.
//!
//! Values that SQL calls equal have equal hashes: -0.0 and 0.0, all NaNs, decimals of any scale and
//! the integers that they equal, nulls. A `float64` is the exception: it has its own hashes, also where
//! it equals an integer or a decimal. Both ends of an edge have columns of one type.

mod hash;

use std::ops::Range;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::DataType;

/// Number of key groups of a job that does not say otherwise.
pub const DEFAULT_MAX_PARALLELISM: u32 = 1_024;

/// Most key groups that a job may have.
pub const LARGEST_MAX_PARALLELISM: u32 = 32_768;

/// Why a batch has no key hashes. A plan lets neither happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The batch is another one than the key was planned for.
    #[error("the key is column {column}, and the batch has {columns}")]
    NoSuchColumn {
        /// Position of the missing column.
        column: usize,
        /// How many columns there are.
        columns: usize,
    },
    /// Nothing says how values of this type are hashed.
    #[error("column `{column}` cannot be part of a key: its type is {data_type}")]
    UnsupportedType {
        /// Name of the column.
        column: String,
        /// Its Arrow type.
        data_type: DataType,
    },
}

/// Hashes the keys of a batch: of each row the values of these columns, in this order.
///
/// `hashes` is overwritten, and holds one hash per row afterwards.
///
/// # Errors
/// The batch lacks a column, or a column has a type that no stream has. What `hashes` holds then
/// means nothing.
pub fn hash(
    records: &RecordBatch,
    columns: &[usize],
    hashes: &mut Vec<u64>,
) -> Result<(), KeyError> {
    hashes.clear();
    hashes.resize(records.num_rows(), 0);
    for &column in columns {
        let array = records
            .columns()
            .get(column)
            .ok_or_else(|| KeyError::NoSuchColumn {
                column,
                columns: records.num_columns(),
            })?;
        if !hash::absorb(hashes, array.as_ref()) {
            return Err(KeyError::UnsupportedType {
                column: records.schema_ref().field(column).name().clone(),
                data_type: array.data_type().clone(),
            });
        }
    }
    Ok(())
}

/// Turns the hashes of keys into those of entries: of what a key has several of, told apart by further
/// columns, such as its distinct values. `hashes` holds those of the keys, and those of the entries
/// afterwards.
///
/// An entry is in the key group of its key: of its hash, the upper half is the key's and the lower half
/// that of key and columns together; where that would be another group, it is the key's hash.
///
/// # Errors
/// As [`hash`].
pub fn entries(
    hashes: &mut [u64],
    columns: &[ArrayRef],
    max_parallelism: u32,
) -> Result<(), KeyError> {
    let mut both = hashes.to_vec();
    for array in columns {
        if !hash::absorb(&mut both, array.as_ref()) {
            return Err(KeyError::UnsupportedType {
                column: String::new(),
                data_type: array.data_type().clone(),
            });
        }
    }
    for (hash, both) in hashes.iter_mut().zip(both) {
        let entry = *hash & UPPER_HALF | both & !UPPER_HALF;
        if key_group(entry, max_parallelism) == key_group(*hash, max_parallelism) {
            *hash = entry;
        }
    }
    Ok(())
}

const UPPER_HALF: u64 = 0xffff_ffff_0000_0000;

/// The group of a key: below `max_parallelism`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half of the product is less than `max_parallelism`"
)]
pub const fn key_group(hash: u64, max_parallelism: u32) -> u32 {
    ((hash as u128 * max_parallelism as u128) >> 64) as u32
}

/// The groups of a subtask: `[⌈i·G/P⌉, ⌈(i+1)·G/P⌉)`. Each has some as long as the parallelism is at
/// most `max_parallelism`.
pub const fn range(subtask: u32, parallelism: u32, max_parallelism: u32) -> Range<u32> {
    first_group(subtask, parallelism, max_parallelism)
        ..first_group(subtask + 1, parallelism, max_parallelism)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a subtask is at most the parallelism, so this is at most `max_parallelism`"
)]
const fn first_group(subtask: u32, parallelism: u32, max_parallelism: u32) -> u32 {
    (subtask as u64 * max_parallelism as u64).div_ceil(parallelism as u64) as u32
}

/// The subtask whose [`range`] holds a group.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a group is less than `max_parallelism`, so this is less than the parallelism"
)]
pub const fn subtask(key_group: u32, parallelism: u32, max_parallelism: u32) -> u32 {
    (key_group as u64 * parallelism as u64 / max_parallelism as u64) as u32
}

#[cfg(test)]
mod tests;
