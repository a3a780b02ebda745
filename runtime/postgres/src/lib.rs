//! Sinks that write to tables of PostgreSQL.
//!
//! | mode | a row is visible | by |
//! |---|---|---|
//! | `TwoPhaseCommit` | once, with its checkpoint | transactions that the server keeps prepared |
//! | `Buffered` | once, with its checkpoint | rows that wait in a table beside |
//! | `Upsert` | at once, replacing the row with its key | `INSERT … ON CONFLICT` |
//!
//! All of them are sinks by the public traits of [`millstream_sinks`], and use nothing else of the engine.
//!
//! Invariants:
//! - Rows and the marker of their transaction are written in one local transaction of the server, so that
//!   a transaction that is not there any more was committed if its marker is, and undone otherwise.
//! - Names of tables and columns reach the server quoted, values only as values.
//!
//! Reading order: [`server`] is how to get in, `tls` by what, [`failure`] what its answers mean; [`column`] and
//! [`table`] compare columns with the table's, `rows` writes them as `COPY` reads them; `markers` is what
//! tells committed from undone; `prepared`, `buffered` and `upsert` are the three sinks.

mod buffered;
mod column;
mod connection;
mod failure;
mod markers;
mod prepared;
mod rows;
mod server;
mod table;
mod tls;
mod upsert;

use std::sync::Arc;

use arrow_schema::SchemaRef;
use millstream_sinks::{SinkConnector, SinkContext, idempotent, two_phase_commit};
use millstream_spec::ValidSink;
use millstream_spec::connector::{PostgresMode, PostgresSink};
use millstream_types::change::without_changes;

use buffered::Buffered;
use prepared::Prepared;
use server::Server;
use table::Target;
use upsert::Upsert;

/// What a sink is given to write.
#[derive(Debug, Clone)]
pub struct Input {
    /// Its columns; the last one is that of changes, if the stream updates.
    pub schema: SchemaRef,
    /// How many subtasks write it.
    pub parallelism: u32,
}

/// The connector of a `postgres` sink.
pub fn sink(spec: &ValidSink, options: &PostgresSink, input: &Input) -> Arc<dyn SinkConnector> {
    let plan = Arc::new(Plan {
        sink: spec.name.clone(),
        columns: without_changes(&input.schema),
        parallelism: input.parallelism,
        undecided: 1
            + u64::from(spec.checkpoint.max_concurrent)
            + u64::from(spec.checkpoint.tolerable_failures),
        options: options.clone(),
    });
    match options.mode {
        PostgresMode::TwoPhaseCommit => {
            two_phase_commit(move |cx| Ok(Prepared::new(Arc::clone(&plan), cx)))
        }
        PostgresMode::Buffered => {
            two_phase_commit(move |cx| Ok(Buffered::new(Arc::clone(&plan), cx)))
        }
        PostgresMode::Upsert => idempotent(move |cx| Ok(Upsert::new(Arc::clone(&plan), cx))),
    }
}

/// What all parts of a sink go by.
#[derive(Debug)]
struct Plan {
    sink: String,
    /// What is written.
    columns: SchemaRef,
    parallelism: u32,
    /// Transactions of one subtask that may wait for a decision at once.
    undecided: u64,
    options: PostgresSink,
}

impl Plan {
    fn server(&self, cx: &SinkContext) -> Server {
        Server::new(&self.sink, &self.options, cx)
    }

    fn target(&self) -> Target<'_> {
        Target {
            sink: &self.sink,
            options: &self.options,
            columns: &self.columns,
        }
    }
}
