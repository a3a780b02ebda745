//! Two-phase commit by transactions that the server keeps prepared.

use std::sync::Arc;

use millstream_connect::{CommitOutcome, Result, Standing};
use millstream_sinks::{SinkContext, TransactionId, TwoPhaseCommit, block_on};
use millstream_types::{Batch, ErrorCode, ErrorKind, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Plan;
use crate::connection::Connection;
use crate::failure::is_missing;
use crate::markers::{self, Gone, Markers};
use crate::rows::{Rows, Written};

/// Bytes of rows that are sent at once.
pub(crate) const CHUNK_BYTES: usize = 1_024 * 1_024;

/// A prepared transaction.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PreparedName {
    /// What `PREPARE TRANSACTION` was given.
    id: String,
    prepared_at: Timestamp,
}

/// The sink in mode `TwoPhaseCommit`.
pub(crate) struct Prepared {
    plan: Arc<Plan>,
    connection: Connection,
    markers: Markers,
    /// How columns are written; known once the table was looked at.
    columns: Option<Vec<Written>>,
    rows: Rows,
    /// Name of the open transaction.
    open: Option<String>,
}

impl Prepared {
    pub(crate) fn new(plan: Arc<Plan>, cx: &SinkContext) -> Self {
        Self {
            connection: Connection::new(plan.server(cx)),
            markers: Markers::new(&plan.target(), cx),
            plan,
            columns: None,
            rows: Rows::default(),
            open: None,
        }
    }

    async fn flush(&mut self) -> Result<()> {
        if let Some(rows) = self.rows.take() {
            let target = self.plan.target();
            let statement = target.copy_into(&target.table());
            self.connection.copy(&statement, rows).await?;
        }
        Ok(())
    }

    async fn try_begin(&mut self, id: &TransactionId) -> Result<()> {
        let fails = self.connection.fails().clone();
        let client = self.connection.client().await?;
        if self.columns.is_none() {
            self.columns = Some(self.plan.target().compare(client, &fails).await?);
        }
        self.connection.begin().await?;
        self.open = Some(id.to_string());
        Ok(())
    }

    async fn try_prepare(&mut self) -> Result<Option<PreparedName>> {
        let Some(id) = self.open.take() else {
            return Ok(None);
        };
        self.flush().await?;
        self.markers.add(&mut self.connection, &id).await?;
        let statement = format!("PREPARE TRANSACTION '{id}'");
        let prepared = self.connection.end("prepares a transaction", &statement);
        prepared.await?;
        Ok(Some(PreparedName {
            id,
            prepared_at: markers::now(),
        }))
    }

    async fn try_commit(&mut self, transaction: &PreparedName) -> Result<CommitOutcome> {
        let fails = self.connection.fails().clone();
        let client = self.connection.client().await?;
        let statement = format!("COMMIT PREPARED '{}'", literal(&transaction.id));
        let committed = client.batch_execute(&statement).await;
        let outcome = match committed {
            Ok(()) => CommitOutcome::Committed,
            Err(error) if is_missing(&error) => self.missing(transaction).await?,
            Err(error) => return Err(fails.of("commits a transaction", &error)),
        };
        self.markers.trim(&mut self.connection).await;
        Ok(outcome)
    }

    async fn missing(&mut self, transaction: &PreparedName) -> Result<CommitOutcome> {
        let fails = self.connection.fails().clone();
        if self
            .markers
            .has(&mut self.connection, &transaction.id)
            .await?
        {
            return Ok(CommitOutcome::Committed);
        }
        Ok(
            match markers::gone(&fails, &transaction.id, transaction.prepared_at) {
                Gone::Undone(failure) => CommitOutcome::Aborted(failure),
                Gone::Unknown(failure) => CommitOutcome::Lost(failure),
            },
        )
    }

    async fn try_check(&mut self) -> Result<()> {
        let fails = self.connection.fails().clone();
        let client = self.connection.client().await?;
        self.plan.target().compare(client, &fails).await?;
        let row = client
            .query_one(
                "SELECT current_setting('max_prepared_transactions')::bigint",
                &[],
            )
            .await;
        let most = row.and_then(|row| row.try_get::<_, i64>(0));
        let most = most.map_err(|error| fails.of("reads a setting", &error))?;
        let (subtasks, each) = (u64::from(self.plan.parallelism), self.plan.undecided);
        let needed = subtasks.saturating_mul(each);
        if u64::try_from(most).unwrap_or_default() >= needed {
            return Ok(());
        }
        let message = format!(
            "max_prepared_transactions is {most}, and this sink may have {needed} transactions prepared at \
             once: {subtasks} subtasks, each with {each} (checkpoint.maxConcurrent + \
             checkpoint.tolerableFailures + 1). Set it to {needed} or more for each such sink on this \
             server, which takes a restart of the server, or use `mode: Buffered`"
        );
        let code = ErrorCode::PostgresPreparedTransactions;
        Err(fails.with(code, ErrorKind::InvalidJob, &message))
    }

    async fn try_orphans(&mut self, prefix: &str) -> Result<Vec<PreparedName>> {
        let fails = self.connection.fails().clone();
        let statement = "SELECT gid, (extract(epoch FROM prepared) * 1000)::bigint FROM \
            pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, $1)";
        let client = self.connection.client().await?;
        let rows = client.query(statement, &[&prefix]).await;
        let read = |row: &tokio_postgres::Row| {
            let at: i64 = row.try_get(1)?;
            Ok(PreparedName {
                id: row.try_get(0)?,
                prepared_at: Timestamp(u64::try_from(at).unwrap_or_default()),
            })
        };
        let found = rows.and_then(|rows| rows.iter().map(read).collect());
        found.map_err(|error| fails.of("lists prepared transactions", &error))
    }

    async fn try_abort(&mut self, transaction: &PreparedName) -> Result<()> {
        let fails = self.connection.fails().clone();
        let statement = format!("ROLLBACK PREPARED '{}'", literal(&transaction.id));
        let client = self.connection.client().await?;
        match client.batch_execute(&statement).await {
            Err(error) if !is_missing(&error) => Err(fails.of("rolls a transaction back", &error)),
            _ => Ok(()),
        }
    }

    async fn try_standing(&mut self, transaction: &PreparedName) -> Result<Standing> {
        let open = self.try_orphans(&transaction.id).await?;
        if open.iter().any(|one| one.id == transaction.id) {
            return Ok(Standing::Open);
        }
        Ok(match self.missing(transaction).await? {
            CommitOutcome::Committed => Standing::Committed,
            CommitOutcome::Aborted(failure) => Standing::Aborted(failure),
            CommitOutcome::Retry(failure)
            | CommitOutcome::Refused(failure)
            | CommitOutcome::Lost(failure) => Standing::Unknown(failure),
        })
    }
}

/// The inside of a text in quotes.
fn literal(text: &str) -> String {
    text.replace('\'', "''")
}

/// What it means that a commit fails.
pub(crate) fn not_committed(failure: millstream_types::Failure) -> CommitOutcome {
    if failure.kind.is_restartable() {
        CommitOutcome::Retry(failure)
    } else {
        CommitOutcome::Refused(failure)
    }
}

impl TwoPhaseCommit for Prepared {
    type Transaction = PreparedName;

    fn name(transaction: &PreparedName) -> &str {
        &transaction.id
    }

    fn check(&mut self) -> Result<()> {
        block_on(self.try_check())
    }

    fn set_up(&mut self, has_run: bool) -> Result<()> {
        let table = (markers::TABLE, markers::COLUMNS);
        let plan = Arc::clone(&self.plan);
        let (connection, target) = (&mut self.connection, plan.target());
        block_on(markers::make(connection, &target, table, has_run))
    }

    fn begin(&mut self, id: &TransactionId) -> Result<()> {
        block_on(self.try_begin(id))
    }

    fn write(&mut self, batch: &Batch) -> Result<u64> {
        let columns = self.columns.as_deref().unwrap_or_default();
        let (records, rows) = (batch.records(), 0..batch.rows());
        let fails = self.connection.fails();
        let pushed = self.rows.push(records, columns, rows);
        let bytes = pushed.map_err(|fault| fails.unwritable(&fault))?;
        if self.rows.bytes() >= CHUNK_BYTES {
            block_on(self.flush())?;
        }
        Ok(bytes)
    }

    fn prepare(&mut self) -> Result<Option<PreparedName>> {
        block_on(self.try_prepare())
    }

    fn commit(&mut self, transaction: &PreparedName) -> CommitOutcome {
        block_on(self.try_commit(transaction)).unwrap_or_else(not_committed)
    }

    fn abort(&mut self, transaction: &PreparedName) -> Result<()> {
        block_on(self.try_abort(transaction))
    }

    fn orphans(&mut self, prefix: &str) -> Result<Vec<PreparedName>> {
        block_on(self.try_orphans(prefix))
    }

    fn fence(&mut self, prefix: &str, is_over: &dyn Fn(&TransactionId) -> bool) -> Result<()> {
        block_on(self.connection.end_writers(prefix, is_over))
    }

    fn standing(&mut self, transaction: &PreparedName) -> Standing {
        block_on(self.try_standing(transaction)).unwrap_or_else(Standing::Unknown)
    }

    fn place(&mut self) -> Result<Option<String>> {
        let place = block_on(self.connection.place())?;
        Ok(place.map(|place| format!("prepared at {place}")))
    }
}
