//! Which transactions are committed: a row for each, written in the very transaction that it is about.

use std::time::{Duration, Instant};

use millstream_connect::Result;
use millstream_sinks::SinkContext;
use millstream_types::clock::SystemClock;
use millstream_types::{Clock as _, ErrorCode, ErrorKind, Failure, Timestamp};

use crate::connection::Connection;
use crate::failure::Fails;
use crate::table::Target;

/// The table with the rows.
pub(crate) const TABLE: &str = "millstream_commits";
/// How long they are kept.
const KEPT: &str = "7 days";
/// For how long a missing row tells that a transaction was undone: less than they are kept, as clocks
/// differ.
const TOLD: Duration = Duration::from_hours(6 * 24);
/// How often old ones are removed.
const TRIMS: Duration = Duration::from_hours(1);

/// Makes a table of the sink's own where it is missing.
///
/// # Errors
/// It cannot be made; or it is missing although the job has used it.
pub(crate) async fn make(
    connection: &mut Connection,
    target: &Target<'_>,
    (table, columns): (&str, &str),
    has_run: bool,
) -> Result<()> {
    let fails = connection.fails().clone();
    let name = target.beside(table);
    let there = "SELECT to_regclass($1) IS NOT NULL";
    let client = connection.client().await?;
    let found = client.query_one(there, &[&name]).await;
    let found = found.and_then(|row| row.try_get::<_, bool>(0));
    if found.map_err(|error| fails.of("looks for its tables", &error))? {
        return Ok(());
    }
    if has_run {
        let message = format!(
            "the table {name} is gone, which tells what is committed, and the job has a checkpoint with \
             output of this sink. Restore it, or begin with an empty checkpoint storage"
        );
        let code = ErrorCode::PostgresTable;
        return Err(fails.with(code, ErrorKind::InvalidJob, &message));
    }
    let statement = format!("CREATE TABLE IF NOT EXISTS {name} ({columns})");
    let doing = format!("creates the table {name}");
    match connection.run(&doing, &statement).await {
        // Somebody else has just made it.
        Err(failure) if failure.message.contains("23505") || failure.message.contains("42P07") => {
            Ok(())
        }
        made => made,
    }
}

/// The columns of [`TABLE`].
pub(crate) const COLUMNS: &str = "transaction text PRIMARY KEY, sink text NOT NULL, \
    committed_at timestamptz NOT NULL DEFAULT now()";

/// How the rows of one sink are written, read and removed.
#[derive(Debug)]
pub(crate) struct Markers {
    /// The table in SQL.
    table: String,
    /// Which sink of which job.
    sink: String,
    trimmed: Option<Instant>,
}

impl Markers {
    pub(crate) fn new(target: &Target<'_>, cx: &SinkContext) -> Self {
        Self {
            table: target.beside(TABLE),
            sink: format!("{}/{}", cx.job, cx.sink),
            trimmed: None,
        }
    }

    /// Writes the row of a transaction; whether there was none.
    ///
    /// # Errors
    /// The server refuses it.
    pub(crate) async fn add(&self, connection: &mut Connection, name: &str) -> Result<bool> {
        let fails = connection.fails().clone();
        let statement = format!(
            "INSERT INTO {} (transaction, sink) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            self.table
        );
        let client = connection.client().await?;
        let added = client.execute(&statement, &[&name, &self.sink]).await;
        let added = added.map_err(|error| fails.of("marks a transaction", &error))?;
        Ok(added == 1)
    }

    /// Whether a transaction has its row.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(crate) async fn has(&self, connection: &mut Connection, name: &str) -> Result<bool> {
        let fails = connection.fails().clone();
        let statement = format!("SELECT 1 FROM {} WHERE transaction = $1", self.table);
        let client = connection.client().await?;
        let found = client.query_opt(&statement, &[&name]).await;
        let found = found.map_err(|error| fails.of("looks for a transaction", &error))?;
        Ok(found.is_some())
    }

    /// Removes old rows, now and then.
    pub(crate) async fn trim(&mut self, connection: &mut Connection) {
        if self.trimmed.is_some_and(|last| last.elapsed() < TRIMS) {
            return;
        }
        self.trimmed = Some(Instant::now());
        let statement = format!(
            "DELETE FROM {} WHERE sink = $1 AND committed_at < now() - interval '{KEPT}'",
            self.table
        );
        let Ok(client) = connection.client().await else {
            return;
        };
        // They take room until the next time.
        if let Err(error) = client.execute(&statement, &[&self.sink]).await {
            tracing::warn!(sink = self.sink, %error, "old markers are not removed");
        }
    }
}

/// Now, as transactions carry it.
pub(crate) fn now() -> Timestamp {
    SystemClock::default().now()
}

/// What it means that a transaction is not there and has no row.
pub(crate) enum Gone {
    /// It was undone.
    Undone(Failure),
    /// Nobody can tell: its row may have been removed by now.
    Unknown(Failure),
}

/// Judges a transaction that was prepared at this time.
pub(crate) fn gone(fails: &Fails, name: &str, prepared_at: Timestamp) -> Gone {
    let code = ErrorCode::PostgresTransactionLost;
    let age = Duration::from_millis(now().millis_since(prepared_at));
    if age < TOLD {
        let message = format!(
            "the transaction {name} is gone, and was not committed: somebody has rolled it back, or the \
             server was restored from before it was prepared"
        );
        return Gone::Undone(fails.with(code, ErrorKind::DataLoss, &message));
    }
    let message = format!(
        "the transaction {name} is gone, and it was prepared so long ago that the server does not know any \
         more whether it was committed"
    );
    Gone::Unknown(fails.with(code, ErrorKind::DataLoss, &message))
}
