//! Owns a job's truth.

pub mod audit;
pub mod connection;
pub mod handle;
pub mod job;
pub mod metrics;
pub mod options;
pub mod outcome;
pub mod pending;
pub mod placement;
mod random;
pub mod rest;
pub mod restart;
pub mod service;
pub mod topology;
pub mod trigger;

pub use audit::Audit;
pub use connection::{CONNECTIONS_CAPACITY, OUTGOING_CAPACITY, WorkerConnection};
pub use handle::{Handle, Progress, RequestError, Snapshot};
pub use metrics::Metrics;
pub use options::{DEFAULT_CANCEL_TIMEOUT, DEFAULT_HEARTBEAT, Options, Restore};
pub use outcome::Outcome;
pub use service::Coordinator;
