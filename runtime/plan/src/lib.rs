//! From a valid job to its job graph.
//!
//! Synchronous, deterministic, and ignorant of workers and addresses: the coordinator and every
//! worker plan the same job file and compare fingerprints.

pub mod graph;

pub use graph::{JobGraph, Node, NodeIndex, NodeInput, NodeKind, SqlTransform, Vertex};
