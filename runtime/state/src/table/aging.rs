//! Keys by the time of their last change, for an operator that says itself what lives on.

use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::ArrowError;
use arrow_select::filter::filter;

use super::{Keyed, Slot, Use};
use crate::cold::Scan;
use crate::cold::scan::Chunk;
use crate::run::CHANGED_AT;
use crate::{Result, Values, bug};

/// Slots that are handed out together.
const PIECE: usize = 8_192;

/// Keys that have not changed since a time: those in memory, then the rest.
#[derive(Debug)]
pub struct Aged {
    before: u64,
    hot: Vec<Slot>,
    cold: Option<Scan>,
}

impl<V: Values> Keyed<V> {
    /// When the key of a slot has changed last, in milliseconds since 1970; if keys do not expire, never long
    /// ago.
    pub fn changed_at(&self, slot: Slot) -> u64 {
        self.times.get(slot as usize).copied().unwrap_or(u64::MAX)
    }

    /// The keys of these groups that have changed last before a time. [`next_aged`](Self::next_aged) hands them
    /// out.
    ///
    /// # Errors
    /// What is not in memory cannot be read.
    pub fn aged(&self, before: u64, groups: &Range<u32>) -> Result<Aged> {
        let is_aged = |slot: &Slot| {
            let group = self.shape.group(self.hashes[*slot as usize]);
            self.changed_at(*slot) < before && groups.contains(&group)
        };
        let slots = (0..).zip(&self.uses[..self.used]);
        let slots = slots.filter(|(_, slot_use)| matches!(slot_use, Use::New | Use::Kept));
        let hot = slots.map(|(slot, _)| slot).filter(is_aged).collect();
        let cold = self.tier.as_ref().filter(|tier| tier.counts().keys > 0);
        let cold = cold.map(|tier| tier.scan((groups, groups), 0, self.now));
        Ok(Aged {
            before,
            hot,
            cold: cold.transpose()?.flatten(),
        })
    }

    /// Some of them, and none at the end. Those that have left memory are brought back, after as many have
    /// been moved out of it as there is no room for: nobody else holds a slot.
    ///
    /// # Errors
    /// They cannot be read, or what leaves memory cannot be kept.
    pub fn next_aged(&mut self, aged: &mut Aged) -> Result<Option<Vec<Slot>>> {
        if !aged.hot.is_empty() {
            let rest = aged.hot.len().saturating_sub(PIECE);
            return Ok(Some(aged.hot.split_off(rest)));
        }
        let Some(chunk) = aged.cold.as_ref().map(Scan::next).transpose()?.flatten() else {
            aged.cold = None;
            return Ok(None);
        };
        let (keys, hashes) = self.aged_keys(&chunk, aged.before)?;
        self.make_space()?;
        let mut found = Vec::new();
        self.find(&keys, &hashes, &mut found)?;
        // Of a key that has been in memory meanwhile, the row that was read is of the past.
        let is_aged = |slot: &Slot| self.changed_at(*slot) < aged.before;
        Ok(Some(found.into_iter().flatten().filter(is_aged).collect()))
    }

    fn aged_keys(&self, chunk: &Chunk, before: u64) -> Result<(Vec<ArrayRef>, Vec<u64>)> {
        let times = times(&chunk.rows).ok_or_else(|| {
            let reason = "rows of the cold tier have no time of their last change";
            bug(&self.options.name, reason)
        })?;
        let is_aged: BooleanArray = times.iter().map(|time| Some(*time < before)).collect();
        let keys = chunk.rows.columns().iter().take(self.shape.key);
        let keys = keys.map(|column| filter(column, &is_aged));
        let keys = keys.collect::<std::result::Result<Vec<_>, ArrowError>>();
        let hashes = chunk.hashes.iter().zip(times);
        let hashes = hashes.filter(|(_, time)| **time < before);
        Ok((
            keys.map_err(|error| bug(&self.options.name, error))?,
            hashes.map(|(hash, _)| *hash).collect(),
        ))
    }
}

fn times(rows: &RecordBatch) -> Option<&[u64]> {
    let times = rows.column_by_name(CHANGED_AT)?;
    let times = times.as_primitive_opt::<UInt64Type>()?;
    Some(times.values())
}
