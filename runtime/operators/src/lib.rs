//! What runs on records: the trait of operators, and the operators that a SQL transform becomes: [`sql`]
//! filters and computes, [`aggregate`] keeps results of many records.
//!
//! Everything here is synchronous and is called by one task thread: an [`Operator`] gets batches
//! and emits batches.

pub mod aggregate;
pub mod harness;
pub mod operator;
mod shown;
pub mod sql;

pub use operator::{Context, InputIndex, Operator};

/// Result of every method of an operator.
pub type Result<T> = std::result::Result<T, millstream_types::Failure>;
