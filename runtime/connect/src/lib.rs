//! How records come into a job and leave it: the traits of sources and sinks.
//!
//! The parts that run in a task are synchronous and are called by its one thread: a
//! [`SourceReader`] is polled, a [`SinkWriter`] is written to. The parts that act once for a whole
//! job, in the coordinator, are asynchronous: a [`SplitEnumerator`] finds what there is to read, a
//! [`SinkCommitter`] makes prepared output visible.
//!
//! Invariants:
//! - A source's [`snapshot`](SourceReader::snapshot) is exactly the position behind the last
//!   record that `poll` returned.
//! - What [`prepare`](SinkWriter::prepare) returns is durable, survives the process and is not
//!   yet visible. Nobody but a [`SinkCommitter`] makes it visible, and only after the checkpoint
//!   that lists it is decided.

pub mod sink;
pub mod source;

pub use sink::{
    CommitOutcome, KnownTransaction, Lingering, SinkCommitter, SinkConnector, SinkWriter, Standing,
    WriterContext,
};
pub use source::{
    Discovery, Polled, ReaderContext, SourceConnector, SourceOutput, SourceReader, SplitEnumerator,
    SplitRun,
};

/// Result of every method of a source or sink.
pub type Result<T> = std::result::Result<T, millstream_types::Failure>;
