//! What runs on records, and the doors through which records come and go.
//!
//! Everything here is synchronous and is called by one task thread: an [`Operator`] gets batches
//! and emits batches, a [`SourceReader`] is polled, a [`SinkWriter`] is written to. The parts that
//! act once for a whole job, in the coordinator, are asynchronous: a [`SplitEnumerator`] finds
//! what there is to read, a [`SinkCommitter`] makes prepared output visible.
//!
//! Invariants:
//! - A source's [`snapshot`](SourceReader::snapshot) is exactly the position behind the last
//!   record that `poll` returned.
//! - What [`prepare`](SinkWriter::prepare) returns is durable, survives the process and is not
//!   yet visible. Nobody but a [`SinkCommitter`] makes it visible, and only after the checkpoint
//!   that lists it is decided.

pub mod harness;
pub mod operator;
pub mod sink;
pub mod source;
pub mod sql;

pub use operator::{Context, InputIndex, Operator};
pub use sink::{
    CommitOutcome, KnownTransaction, Lingering, SinkCommitter, SinkConnector, SinkWriter, Standing,
    WriterContext,
};
pub use source::{
    Discovery, Polled, ReaderContext, SourceConnector, SourceOutput, SourceReader, SplitEnumerator,
    SplitRun,
};

/// Result of everything that crosses these doors.
pub type Result<T> = std::result::Result<T, millstream_types::Failure>;
