//! A coordinator with a real chain in a directory, driven by workers that speak the protocol.

#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "what tests share fails as they do"
)]

mod deployments;
mod endings;
mod flink;
mod holders;
mod keyed;
mod liveness;
mod origins;
mod outside;
mod recovery;
mod rest;
mod running;
mod savepoints;
mod scenario;
mod sink;
mod source;
mod state;
mod worker;
