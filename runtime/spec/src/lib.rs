//! What a user may ask for: the `spec` of a `StreamJob`.
//!
//! A job file is read once, checked completely, and becomes a [`ValidJob`]; only that goes on to
//! the planner. The structs here are also the source of the committed JSON Schema and of the
//! custom resource definition.
//!
//! Invariants:
//! - [`read()`] is the only way to a [`ValidJob`].
//! - It reports everything that is wrong, each with its path, its line, and what to do.
//! - No text makes it panic, or take more than a bounded amount of time and memory.
//!
//! Reading order: [`job`] is the whole of `spec`; [`dataflow`], [`metadata`], [`connector`], [`checkpoint`],
//! [`restart`], [`metrics`] and [`state`] are its parts; [`schema`] makes the JSON Schema of them. [`mod@read`] goes from
//! text to job: `read::yaml`, `read::walk` (the schema), `check` (all other rules), [`valid`].
//! [`fault`] is what is said when something is wrong, [`later`] what a later version will take.
//! [`budget`] is the arithmetic of transaction timeouts.

pub mod budget;
mod check;
pub mod checkpoint;
pub mod connector;
pub mod dataflow;
pub mod fault;
pub mod job;
pub mod later;
pub mod metadata;
pub mod metrics;
mod path;
pub mod read;
pub mod restart;
pub mod schema;
pub mod state;
pub mod valid;
mod wording;

pub use budget::TransactionBudget;
pub use checkpoint::{CheckpointMode, CheckpointSpec, Retention};
pub use dataflow::{Dataflow, Format, OnError, Sink, Source, Transform, Watermark};
pub use fault::{Fault, JobFileError, Place};
pub use job::JobSpec;
pub use metadata::{Metadata, SinkMetadata, SourceMetadata, WritableMetadata};
pub use metrics::MetricsSpec;
pub use read::{read, read_bytes};
pub use restart::RestartStrategy;
pub use schema::json_schema;
pub use state::StateBackendSpec;
pub use valid::{ValidJob, ValidSink, ValidSource, ValidTransform};
