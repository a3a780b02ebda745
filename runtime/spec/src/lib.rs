//! What a user may ask for: the `spec` of a `StreamJob`.
//!
//! A job file is read once, checked completely, and becomes a [`ValidJob`]; only that goes on to
//! the planner. The structs here are also the source of the committed JSON Schema and of the
//! custom resource definition.

pub mod checkpoint;
pub mod connector;
pub mod dataflow;
pub mod fault;
pub mod job;
pub mod read;
pub mod restart;
pub mod valid;

pub use checkpoint::{CheckpointMode, CheckpointSpec, Retention, Unaligned};
pub use dataflow::{Dataflow, Format, OnError, Sink, Source, Transform, Watermark};
pub use fault::{Fault, JobFileError, Place};
pub use job::JobSpec;
pub use read::read;
pub use restart::RestartStrategy;
pub use valid::{ValidJob, ValidSink, ValidSource, ValidTransform};
