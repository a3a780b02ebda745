//! Aggregates: `GROUP BY`, `DISTINCT`.
//!
//! An aggregation runs as one operator ([`AggregateStage::Whole`]), or as two: [`PartialAggregate`] makes one
//! row of the rows that a task has of a key, before they are sent to the task that owns the key, and
//! [`AggregateOperator`] adds those up. What they guarantee:
//!
//! - **Results.** After a flush, what has been emitted stands for the results over all rows that came in: as
//!   if they were computed from nothing. A key is there as long as it has rows. Which rows share a batch, and
//!   when flushes come, decides only how many results in between are emitted.
//! - **Changes.** A row is emitted only for a key that is new, is gone, or has another result than at the last
//!   flush. The row before an update or deletion is the one that was emitted last for its key; an update's
//!   two rows stand side by side in one batch.
//! - **Order.** Keys are emitted in the order in which they first changed since the last flush.
//! - **Rows that are taken back** are subtracted. `min`, `max` and the distinct values of an argument keep all
//!   their values, each with how often it is there, in a table beside that of the keys. A row that takes back
//!   what is not there is ignored: its key has expired.
//! - **Overflow.** A sum that its type cannot hold at any moment fails, and so does an average at a flush. The
//!   message names the node, the call and the key. The partial sums of a task are such moments too.
//! - **Floats.** A sum of `float64` is rounded as rows come in, also where they are taken back; infinities and
//!   NaN are taken back exactly. `min` and `max` order NaN behind all numbers; -0.0 and 0.0 are one value, and
//!   one key.
//! - **Time to live.** A key that has not changed for that long is forgotten without a row. If it comes again
//!   it is new. An entry of a table of values is forgotten by itself: a distinct value that comes again then
//!   counts again.

mod accumulator;
mod calls;
mod entries;
mod exact;
mod failure;
mod float;
mod groups;
mod kind;
mod number;
mod partial;
mod rounds;
mod running;
mod value;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use millstream_types::aggregate::{AggregateStage, Aggregation};
use millstream_types::{Clock, OperatorUid};

pub use partial::PartialAggregate;
pub use running::AggregateOperator;

use crate::{Operator, Result};

/// Most keys that wait for a flush.
pub const MAX_DIRTY: usize = 64 * 1_024;
/// It pays to wait for more rows of the same keys if there are at most so many keys for 10 rows.
const WORTHWHILE_TENTHS: usize = 8;

/// Which part of the state an operator has.
#[derive(Clone)]
pub struct StateParameters {
    /// The key groups of the subtask.
    pub key_groups: Range<u32>,
    /// Into how many groups all keys are divided.
    pub max_parallelism: u32,
    /// Says when keys expire.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for StateParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StateParameters")
            .field("key_groups", &self.key_groups)
            .field("max_parallelism", &self.max_parallelism)
            .finish_non_exhaustive()
    }
}

/// The operator of an aggregation, of any stage. `input` and `output` are the schemas of its batches.
///
/// # Errors
/// The plan asks for what no operator does.
pub fn operator(
    uid: OperatorUid,
    aggregation: &Aggregation,
    input: &SchemaRef,
    output: SchemaRef,
    state: StateParameters,
) -> Result<Box<dyn Operator>> {
    Ok(match aggregation.stage {
        AggregateStage::Partial => Box::new(PartialAggregate::new(
            uid,
            aggregation,
            input,
            output,
            state.max_parallelism,
        )?),
        AggregateStage::Final | AggregateStage::Whole => Box::new(AggregateOperator::new(
            uid,
            aggregation,
            input,
            output,
            state,
        )?),
    })
}

#[cfg(test)]
mod tests;
