//! Two-phase commit without prepared transactions: rows wait in a table of the sink's own until their
//! checkpoint is decided, and move to where they belong in one local transaction.

use std::sync::Arc;

use bytes::Bytes;
use millstream_connect::{CommitOutcome, Result, Standing};
use millstream_sinks::{SinkContext, TransactionId, TwoPhaseCommit, block_on};
use millstream_types::{Batch, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Plan;
use crate::connection::Connection;
use crate::markers::{self, Gone, Markers};
use crate::prepared::{CHUNK_BYTES, not_committed};
use crate::rows::{Rows, Written};

/// The table in which rows wait.
const TABLE: &str = "millstream_staged";
const COLUMNS: &str = "transaction text NOT NULL, part integer NOT NULL, rows bytea NOT NULL, \
    PRIMARY KEY (transaction, part)";

/// Rows that wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StagedName {
    id: String,
    /// How many rows of [`TABLE`] they are in.
    parts: i32,
    prepared_at: Timestamp,
}

/// The sink in mode `Buffered`.
pub(crate) struct Buffered {
    plan: Arc<Plan>,
    connection: Connection,
    markers: Markers,
    /// [`TABLE`] in SQL.
    staged: String,
    /// How columns are written; known once the table was looked at.
    columns: Option<Vec<Written>>,
    rows: Rows,
    open: Option<Open>,
}

/// The transaction that is written.
struct Open {
    id: String,
    parts: i32,
}

impl Buffered {
    pub(crate) fn new(plan: Arc<Plan>, cx: &SinkContext) -> Self {
        Self {
            connection: Connection::new(plan.server(cx)),
            markers: Markers::new(&plan.target(), cx),
            staged: plan.target().beside(TABLE),
            plan,
            columns: None,
            rows: Rows::default(),
            open: None,
        }
    }

    async fn try_begin(&mut self, id: &TransactionId) -> Result<()> {
        let fails = self.connection.fails().clone();
        let client = self.connection.client().await?;
        if self.columns.is_none() {
            self.columns = Some(self.plan.target().compare(client, &fails).await?);
        }
        self.connection.begin().await?;
        self.open = Some(Open {
            id: id.to_string(),
            parts: 0,
        });
        Ok(())
    }

    async fn flush(&mut self) -> Result<()> {
        let (Some(rows), Some(open)) = (self.rows.take(), &mut self.open) else {
            return Ok(());
        };
        let fails = self.connection.fails().clone();
        let statement = format!(
            "INSERT INTO {} (transaction, part, rows) VALUES ($1, $2, $3)",
            self.staged
        );
        let client = self.connection.client().await?;
        let written = client
            .execute(&statement, &[&open.id, &open.parts, &rows.as_ref()])
            .await;
        written.map_err(|error| fails.of("writes rows that wait", &error))?;
        open.parts += 1;
        Ok(())
    }

    async fn try_prepare(&mut self) -> Result<Option<StagedName>> {
        self.flush().await?;
        let Some(open) = self.open.take() else {
            return Ok(None);
        };
        let committed = self.connection.end("writes rows that wait", "COMMIT");
        committed.await?;
        Ok(Some(StagedName {
            id: open.id,
            parts: open.parts,
            prepared_at: markers::now(),
        }))
    }

    /// Moves the rows, in one transaction. `None` if they are not there.
    async fn try_move(&mut self, transaction: &StagedName) -> Result<Option<()>> {
        self.connection.begin().await?;
        // Waits for anybody else who is at it.
        if !self
            .markers
            .add(&mut self.connection, &transaction.id)
            .await?
        {
            self.connection
                .end("ends a transaction", "ROLLBACK")
                .await?;
            return Ok(Some(()));
        }
        for part in 0..transaction.parts {
            let Some(rows) = self.part(&transaction.id, part).await? else {
                self.connection
                    .end("ends a transaction", "ROLLBACK")
                    .await?;
                return Ok(None);
            };
            let target = self.plan.target();
            let statement = target.copy_into(&target.table());
            self.connection.copy(&statement, rows).await?;
        }
        self.remove(&transaction.id).await?;
        self.connection.end("commits rows", "COMMIT").await?;
        Ok(Some(()))
    }

    async fn part(&mut self, id: &str, part: i32) -> Result<Option<Bytes>> {
        let fails = self.connection.fails().clone();
        let statement = format!(
            "SELECT rows FROM {} WHERE transaction = $1 AND part = $2",
            self.staged
        );
        let client = self.connection.client().await?;
        let row = client.query_opt(&statement, &[&id, &part]).await;
        let rows = row.and_then(|row| row.map(|row| row.try_get::<_, Vec<u8>>(0)).transpose());
        let rows = rows.map_err(|error| fails.of("reads rows that wait", &error))?;
        Ok(rows.map(Bytes::from))
    }

    async fn remove(&mut self, id: &str) -> Result<()> {
        let fails = self.connection.fails().clone();
        let statement = format!("DELETE FROM {} WHERE transaction = $1", self.staged);
        let client = self.connection.client().await?;
        let removed = client.execute(&statement, &[&id]).await;
        removed.map_err(|error| fails.of("removes rows that waited", &error))?;
        Ok(())
    }

    async fn try_commit(&mut self, transaction: &StagedName) -> Result<CommitOutcome> {
        let moved = self.try_move(transaction).await;
        if moved.is_err() {
            // The server undoes what was begun.
            self.connection.close();
        }
        self.markers.trim(&mut self.connection).await;
        if moved?.is_some() {
            return Ok(CommitOutcome::Committed);
        }
        let fails = self.connection.fails();
        Ok(
            match markers::gone(fails, &transaction.id, transaction.prepared_at) {
                Gone::Undone(failure) => CommitOutcome::Aborted(failure),
                Gone::Unknown(failure) => CommitOutcome::Lost(failure),
            },
        )
    }

    async fn try_check(&mut self) -> Result<()> {
        let fails = self.connection.fails().clone();
        let client = self.connection.client().await?;
        self.plan.target().compare(client, &fails).await?;
        Ok(())
    }

    async fn try_set_up(&mut self, has_run: bool) -> Result<()> {
        let plan = Arc::clone(&self.plan);
        for table in [(markers::TABLE, markers::COLUMNS), (TABLE, COLUMNS)] {
            markers::make(&mut self.connection, &plan.target(), table, has_run).await?;
        }
        Ok(())
    }

    async fn try_orphans(&mut self, prefix: &str) -> Result<Vec<StagedName>> {
        let fails = self.connection.fails().clone();
        let statement = format!(
            "SELECT transaction, count(*)::integer FROM {} WHERE starts_with(transaction, $1) GROUP BY 1",
            self.staged
        );
        let client = self.connection.client().await?;
        let rows = client.query(&statement, &[&prefix]).await;
        let read = |row: &tokio_postgres::Row| {
            Ok(StagedName {
                id: row.try_get(0)?,
                parts: row.try_get(1)?,
                prepared_at: Timestamp(0),
            })
        };
        let found = rows.and_then(|rows| rows.iter().map(read).collect());
        found.map_err(|error| fails.of("lists rows that wait", &error))
    }

    async fn try_standing(&mut self, transaction: &StagedName) -> Result<Standing> {
        let id = &transaction.id;
        if self.markers.has(&mut self.connection, id).await? {
            return Ok(Standing::Committed);
        }
        if self.try_orphans(id).await?.iter().any(|one| one.id == *id) {
            return Ok(Standing::Open);
        }
        let gone = markers::gone(self.connection.fails(), id, transaction.prepared_at);
        Ok(match gone {
            Gone::Undone(failure) => Standing::Aborted(failure),
            Gone::Unknown(failure) => Standing::Unknown(failure),
        })
    }
}

impl TwoPhaseCommit for Buffered {
    type Transaction = StagedName;

    fn name(transaction: &StagedName) -> &str {
        &transaction.id
    }

    fn check(&mut self) -> Result<()> {
        block_on(self.try_check())
    }

    fn set_up(&mut self, has_run: bool) -> Result<()> {
        block_on(self.try_set_up(has_run))
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

    fn prepare(&mut self) -> Result<Option<StagedName>> {
        block_on(self.try_prepare())
    }

    fn commit(&mut self, transaction: &StagedName) -> CommitOutcome {
        block_on(self.try_commit(transaction)).unwrap_or_else(not_committed)
    }

    fn abort(&mut self, transaction: &StagedName) -> Result<()> {
        block_on(self.remove(&transaction.id))
    }

    fn orphans(&mut self, prefix: &str) -> Result<Vec<StagedName>> {
        block_on(self.try_orphans(prefix))
    }

    fn fence(&mut self, prefix: &str, is_over: &dyn Fn(&TransactionId) -> bool) -> Result<()> {
        block_on(self.connection.end_writers(prefix, is_over))
    }

    fn standing(&mut self, transaction: &StagedName) -> Standing {
        block_on(self.try_standing(transaction)).unwrap_or_else(Standing::Unknown)
    }

    fn place(&mut self) -> Result<Option<String>> {
        let place = block_on(self.connection.place())?;
        Ok(place.map(|place| format!("{} at {place}", self.staged)))
    }
}
