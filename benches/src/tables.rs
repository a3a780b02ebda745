//! The order job into a table of PostgreSQL.

use std::time::{Duration, Instant};

use millstream_tests::Postgres;

use crate::Result;
use crate::contender::{Contender, Job, Run};
use crate::orders::valid_rows;

/// Longest time between the commit of the input's end and that of the last rows.
const COMMIT: Duration = Duration::from_secs(30);

/// Drops invalid orders, adds the total of the others, inserts them. The same job as
/// `flink/TablesJob.java`.
pub struct Tables<'a> {
    /// The database.
    pub server: &'a Postgres,
    /// How rows are written: `TwoPhaseCommit`, `Buffered` or `Upsert`.
    pub mode: &'a str,
}

fn table(run: &Run<'_>) -> String {
    run.output.replace('-', "_")
}

impl Tables<'_> {
    /// The URL for Flink, which inserts many rows with one statement.
    pub fn url(&self) -> String {
        let address = self.server.address();
        format!("jdbc:postgresql://{address}/postgres?reWriteBatchedInserts=true")
    }
}

impl Job for Tables<'_> {
    fn file(&self, run: &Run<'_>) -> String {
        let checkpoints = run.field.directory.join("checkpoints");
        let (key, partition) = if self.mode == "Upsert" {
            (", keyFields: [order_id]", "partitionBy: [order_id]")
        } else {
            ("", "")
        };
        format!(
            r#"apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {{name: {name}}}
spec:
  parallelism: 2
  checkpoint: {{storage: "file://{checkpoints}", interval: {interval}ms, mode: {guarantee}, timeout: 60s}}
  dataflow:
    sources:
    - name: orders
      kafka: {{bootstrapServers: "{bootstrap}", topics: [{input}], groupId: {name}}}
      format: {{json: {{}}}}
      schema: [{{name: order_id, type: string}}, {{name: customer_id, type: string}}, {{name: quantity, type: int64}}, {{name: price, type: "decimal(12,2)"}}, {{name: ts, type: int64}}]
    transforms:
    - {{name: enriched, input: orders, sql: "SELECT *, quantity * price AS total FROM orders WHERE quantity > 0 AND price > 0"}}
    sinks:
    - name: table
      input: enriched
      {partition}
      postgres: {{servers: "{address}", database: postgres, username: postgres, table: {table}, mode: {mode}{key}}}
"#,
            name = run.name,
            checkpoints = checkpoints.display(),
            interval = run.settings.interval_ms,
            guarantee = run.settings.guarantee(),
            bootstrap = run.field.bootstrap,
            input = run.field.input,
            address = self.server.address(),
            table = table(run),
            mode = self.mode,
        )
    }

    fn class(&self) -> &'static str {
        "TablesJob"
    }

    fn make_output(&self, run: &Run<'_>) -> Result<()> {
        let key = if self.mode == "Upsert" {
            " PRIMARY KEY"
        } else {
            ""
        };
        let columns = format!(
            "order_id text{key}, customer_id text, quantity bigint, price numeric(12,2), ts bigint, \
             total numeric"
        );
        let script = format!("CREATE TABLE {} ({columns})", table(run));
        self.server.try_query(&script)?;
        Ok(())
    }

    fn remove_output(&self, run: &Run<'_>) -> Result<()> {
        self.server
            .try_query(&format!("DROP TABLE {}", table(run)))?;
        Ok(())
    }

    fn check(&self, run: &Run<'_>, contender: &Contender) -> Result<u64> {
        let wanted = valid_rows(run.field.rows);
        let script = format!(
            "SELECT count(*), count(DISTINCT order_id) FROM {}",
            table(run)
        );
        let began = Instant::now();
        loop {
            let found = self.server.try_query(&script)?;
            if found == format!("{wanted}|{wanted}") {
                return Ok(wanted);
            }
            if began.elapsed() > COMMIT {
                let name = contender.name();
                let table = table(run);
                return Err(format!(
                    "{name}: {table} has {found} rows and orders, {wanted} of both expected"
                )
                .into());
            }
            std::thread::park_timeout(Duration::from_millis(250));
        }
    }
}
