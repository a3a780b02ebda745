//! Owns a job's truth.

pub mod audit;
pub mod connection;
pub mod handle;
pub mod options;
pub mod outcome;
pub mod rest;
pub mod service;

pub use audit::Audit;
pub use connection::{CONNECTIONS_CAPACITY, OUTGOING_CAPACITY, WorkerConnection};
pub use handle::{Handle, Progress, RequestError, Snapshot};
pub use options::{DEFAULT_CANCEL_TIMEOUT, DEFAULT_HEARTBEAT, Options, Restore};
pub use outcome::Outcome;
pub use service::Coordinator;
