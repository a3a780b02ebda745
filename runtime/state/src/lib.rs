//! Keyed state of operators.
//!
//! A [`Table`] is one named state of one operator in one subtask: what it keeps for each key. It lives in
//! memory, column by column: a key has a [`Slot`], and [`Values`] hold what the slots mean, so that an
//! operator updates a whole batch in loops over arrays. At a barrier what has changed is frozen and
//! becomes a *run*: a sorted file that is written once and uploaded beside the task. A checkpoint names
//! the runs that together are the whole state ([`Keeper`]). What does not fit into memory is moved into the
//! `cold` tier, on a local disk, and comes back when it is looked for.
//!
//! Reading order: [`values`] is what operators write, [`table`] is where keys have their slots, `index`
//! finds a slot by a hash and `key` holds the keys themselves, `run` is the file, `coverage` what a run
//! replaces, `policy` how much of the state the next run holds, [`keeper`] which runs a snapshot names,
//! `cold` what is not in memory, `restore` how a table is filled from them, [`reader`] how others read them, [`files`] where they lie.

mod breakage;
mod cold;
mod coverage;
pub mod files;
mod frozen;
mod index;
pub mod keeper;
mod key;
mod local;
pub mod memory;
mod policy;
pub mod reader;
mod restore;
mod run;
pub mod table;
pub mod values;

pub use cold::HAS_COLD_TIER;
pub use files::StateFiles;
pub use frozen::{Encoded, Frozen, Pieces, Written};
pub use keeper::{Keeper, KeeperStats};
pub use local::{Content, LocalDirectory, LocalFile};
pub use memory::Memory;
pub use table::{Aged, Copied, Keyed, Slot, Table, TableOptions, TableStats};
pub use values::Values;

use millstream_types::{ErrorCode, ErrorKind, Failure};

/// What state fails with.
pub type Result<T> = std::result::Result<T, Failure>;

/// A bug of ours, not of a file.
pub(crate) fn bug(state: &str, reason: impl std::fmt::Display) -> Failure {
    let message = format!("state `{state}`: {reason}; this is a bug, report it");
    Failure::new(ErrorCode::PlanMismatch, ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests;
