//! One connection that is made again where it is lost.

use bytes::Bytes;
use futures::{SinkExt as _, pin_mut};
use millstream_connect::Result;
use millstream_sinks::TransactionId;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::failure::Fails;
use crate::server::Server;

/// A connection of one part of a sink.
#[derive(Debug)]
pub(crate) struct Connection {
    server: Server,
    client: Option<Client>,
    /// How many were made so far.
    sessions: u64,
    /// Whether a transaction is open: what follows belongs to it, and to nothing else.
    is_in_transaction: bool,
}

impl Connection {
    /// One that is made when it is first needed.
    pub(crate) const fn new(server: Server) -> Self {
        Self {
            server,
            client: None,
            sessions: 0,
            is_in_transaction: false,
        }
    }

    pub(crate) const fn fails(&self) -> &Fails {
        &self.server.fails
    }

    /// The client; a new one if there is none or the last one is cut off, unless that was in a
    /// transaction: what it had written is gone, and what would follow must not be written without it.
    ///
    /// # Errors
    /// The server cannot be reached, or a transaction is cut off.
    pub(crate) async fn client(&mut self) -> Result<&mut Client> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None if self.is_in_transaction => {
                let message = "the connection was cut off in the middle of a transaction";
                return Err(self.fails().unreachable(message));
            }
            None => {
                self.sessions += 1;
                self.server.connect().await?
            }
        };
        Ok(self.client.insert(client))
    }

    /// Number of the session that the next statement runs in.
    ///
    /// # Errors
    /// As [`client`](Self::client).
    pub(crate) async fn session(&mut self) -> Result<u64> {
        self.client().await?;
        Ok(self.sessions)
    }

    /// Begins a transaction. What ran in an unfinished one is undone.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub(crate) async fn begin(&mut self) -> Result<()> {
        if self.is_in_transaction {
            self.close();
        }
        self.run("begins a transaction", "BEGIN").await?;
        self.is_in_transaction = true;
        Ok(())
    }

    /// Ends a transaction, by a statement that does so.
    ///
    /// # Errors
    /// The server refuses it, or it is not known whether it has ended.
    pub(crate) async fn end(&mut self, doing: &str, statement: &str) -> Result<()> {
        self.run(doing, statement).await?;
        self.is_in_transaction = false;
        Ok(())
    }

    /// Gives the connection up, and with it what the server has not finished.
    pub(crate) fn close(&mut self) {
        self.client = None;
        self.is_in_transaction = false;
    }

    /// Runs statements of this sink's own, one after the other.
    ///
    /// # Errors
    /// One fails.
    pub(crate) async fn run(&mut self, doing: &str, statements: &str) -> Result<()> {
        let fails = self.fails().clone();
        let ran = self.client().await?.batch_execute(statements).await;
        ran.map_err(|error| fails.of(doing, &error))
    }

    /// Ends the connections of writers whose attempt is over: one that is frozen would keep what it has
    /// locked.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(crate) async fn end_writers(
        &mut self,
        prefix: &str,
        is_over: &dyn Fn(&TransactionId) -> bool,
    ) -> Result<()> {
        let fails = self.fails().clone();
        let statement = "SELECT pid, application_name FROM pg_stat_activity WHERE \
            starts_with(application_name, $1) AND usename = current_user AND pid <> pg_backend_pid()";
        let client = self.client().await?;
        let found = client.query(statement, &[&prefix]).await;
        let found = found.map_err(|error| fails.of("looks for older writers", &error))?;
        for row in found {
            let (Ok(pid), Ok(name)) = (row.try_get::<_, i32>(0), row.try_get::<_, String>(1))
            else {
                continue;
            };
            // As if it were the name of its first transaction.
            if !TransactionId::parse(&format!("{name}-0")).is_some_and(|id| is_over(&id)) {
                continue;
            }
            let ended = client
                .execute("SELECT pg_terminate_backend($1)", &[&pid])
                .await;
            ended.map_err(|error| fails.of("ends an older writer's connection", &error))?;
            tracing::info!(
                writer = name,
                "connection of an older attempt's writer ended"
            );
        }
        Ok(())
    }

    /// Which database of which cluster of servers it is; none where the user may not know.
    ///
    /// # Errors
    /// The server cannot be asked.
    pub(crate) async fn place(&mut self) -> Result<Option<String>> {
        let fails = self.fails().clone();
        let statement = "SELECT system_identifier::text || '/' || current_database() \
            FROM pg_control_system()";
        let row = self.client().await?.query_one(statement, &[]).await;
        match row.and_then(|row| row.try_get(0)) {
            Ok(place) => Ok(Some(place)),
            Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(None),
            Err(error) => Err(fails.of("asks which server it is", &error)),
        }
    }

    /// Copies rows in the binary format.
    ///
    /// # Errors
    /// The server refuses one.
    pub(crate) async fn copy(&mut self, statement: &str, rows: Bytes) -> Result<()> {
        let fails = self.fails().clone();
        let client = self.client().await?;
        let copied = copy(client, statement, rows).await;
        copied.map_err(|error| fails.of("writes rows", &error))
    }
}

/// Copies rows in the binary format.
///
/// # Errors
/// The server refuses one.
pub(crate) async fn copy(
    client: &Client,
    statement: &str,
    rows: Bytes,
) -> std::result::Result<(), tokio_postgres::Error> {
    let sink = client.copy_in(statement).await?;
    pin_mut!(sink);
    // Where the server refuses a row, it is the end that says why.
    let sent = sink.send(rows).await;
    let finished = sink.finish().await;
    finished.and(sent)
}
