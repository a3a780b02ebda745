//! The cold tier: state that does not fit into memory, on a local disk.
//!
//! A table moves what was not used for a while into a [`Tier`] and looks there for keys that it does not
//! find in memory. What is found is brought back, and its row stays where it is until another one is
//! written over it: as long as a key is in memory, its row here is of the past and does not count. So what
//! has not changed since leaves memory without being written.
//!
//! A row has the number of the snapshot before which it changed last, as a slot has. What has changed is
//! listed by that number besides, so that a snapshot finds what has changed since another one without
//! looking at the rest; and since rows are in the order of runs, key groups are read in one go. Both are
//! read beside the task, from a view of the moment of the barrier ([`scan`]).

#[cfg_attr(feature = "cold", path = "cold/rocks.rs")]
#[cfg_attr(not(feature = "cold"), path = "cold/absent.rs")]
mod store;

pub(crate) mod fill;
#[cfg_attr(
    not(feature = "cold"),
    expect(dead_code, reason = "only a store looks into them")
)]
pub(crate) mod keys;
pub(crate) mod scan;
pub(crate) mod tier;

pub(crate) use scan::Scan;
pub(crate) use store::Store;
pub(crate) use tier::Tier;

/// Whether this build can keep state outside of memory.
pub const HAS_COLD_TIER: bool = cfg!(feature = "cold");
