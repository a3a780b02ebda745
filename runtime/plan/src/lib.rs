//! From a valid job to its job graph.
//!
//! Synchronous, deterministic, and ignorant of workers and addresses: the coordinator and every
//! worker plan the same job file and compare fingerprints.
//!
//! Invariants:
//! - The same job gives the same graph, expressions and fingerprint in every process.
//! - Expressions are immutable functions of one record: what is processed again after a failure
//!   gives the same output.
//! - What is planned has types: only values can make an expression fail at run time.
//!
//! Reading order: [`graph`] is what comes out; `planning` is how; `sql` binds one transform,
//! `semantics` decides what its expressions mean, and `functions` is what they may call; `changes` says
//! which streams update, and `sink` checks what a sink is given; `nodes` makes the nodes and edges,
//! `chaining` and `fingerprint` finish the graph; [`explain`] shows it and [`mod@compatibility`] compares it with a checkpoint; [`error`] is what is wrong with a job, [`advice`] what is not
//! wrong and seldom meant.

pub mod advice;
mod chaining;
mod changes;
pub mod compatibility;
pub mod error;
pub mod explain;
mod fingerprint;
mod functions;
pub mod graph;
mod nodes;
mod partition;
mod planning;
mod semantics;
mod sink;
mod sql;

pub use compatibility::{Incompatibility, OperatorState, StateFate, compatibility, state_fates};
pub use error::{Fault, PlanError};
pub use graph::{
    Computed, Edge, JobGraph, Node, NodeIndex, NodeKind, Output, Partitioning, SqlSelect,
    SqlTransform, Vertex,
};
pub use planning::plan;
