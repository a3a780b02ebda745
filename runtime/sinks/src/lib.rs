//! Sinks of anybody, by one of three traits.
//!
//! | trait | a record after failures | what the sink must be able to do |
//! |---|---|---|
//! | [`TwoPhaseCommit`] | once, with its checkpoint | keep a prepared transaction beyond its process, and end it by its name |
//! | [`Idempotent`] | once, at once | write the same again without a difference |
//! | [`AtLeastOnce`] | at least once, at once | write |
//!
//! Their methods are synchronous and get whole batches. A client that is asynchronous is called by
//! [`block_on`]. [`two_phase_commit`], [`idempotent`] and [`at_least_once`] make the connector of a job
//! of such a sink: a writer for every subtask, and a committer in the coordinator.
//!
//! Invariants:
//! - A transaction of a [`TwoPhaseCommit`] sink is a name. Nothing else of it is needed to end it, so
//!   that anybody may: the process that has prepared it, its successor, or the coordinator.
//! - Names carry their attempt, so that those of older attempts are told from those of the newest.
//!
//! Reading order: [`id`] names transactions, [`context`] is what a sink is told, [`transactional`] and
//! [`plain`] are the traits; `writer` and `committer` make the two halves of a sink of the former.
//! [`conformance`] is for those who write a sink.

pub mod client;
mod committer;
pub mod conformance;
pub mod context;
pub mod failure;
pub mod id;
pub mod plain;
pub mod transactional;
mod writer;

pub use client::block_on;
pub use context::SinkContext;
pub use failure::{refused, retryable};
pub use id::TransactionId;
pub use plain::{AtLeastOnce, Idempotent, at_least_once, idempotent};
pub use transactional::{TwoPhaseCommit, two_phase_commit};

pub use millstream_connect::{CommitOutcome, Result, SinkConnector, Standing};
