//! Rows that replace those of their key.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array as _, RecordBatch};
use arrow_schema::DataType;
use bytes::Bytes;
use millstream_connect::Result;
use millstream_sinks::{Idempotent, SinkContext, block_on};
use millstream_types::change::{Change, changes};
use millstream_types::{Batch, ErrorCode, ErrorKind, Failure};

use crate::Plan;
use crate::connection::Connection;
use crate::rows::{Rows, Unwritable, Written};
use crate::table::{quoted, quoted_list};

/// Where a batch's rows lie on their way, in this session only.
const ROWS: &str = "pg_temp.millstream_rows";
/// Where the keys of rows that are gone do.
const GONE: &str = "pg_temp.millstream_gone";
const PAUSE: Duration = Duration::from_millis(100);

/// The sink in mode `Upsert`.
pub(crate) struct Upsert {
    plan: Arc<Plan>,
    connection: Connection,
    statements: Statements,
    /// Positions of the key's columns and of the version's in a batch.
    key: Vec<usize>,
    version: Option<usize>,
    /// How columns are written; known once the table was looked at.
    columns: Option<Columns>,
    /// The session that has its tables.
    has_tables: Option<u64>,
}

/// How columns are written.
#[derive(Debug, Clone)]
struct Columns {
    all: Vec<Written>,
    /// Those that a row that is gone is found by.
    identity: Vec<Written>,
}

/// SQL that does not change.
struct Statements {
    make: String,
    copy_rows: String,
    copy_gone: String,
    insert: String,
    delete: String,
}

/// What a batch does to the table.
struct Effect {
    rows: Option<Bytes>,
    gone: Option<Bytes>,
}

impl Upsert {
    pub(crate) fn new(plan: Arc<Plan>, cx: &SinkContext) -> Self {
        let place = |name: &String| plan.columns.index_of(name).ok();
        Self {
            connection: Connection::new(plan.server(cx)),
            statements: Statements::of(&plan),
            key: plan.options.key_fields.iter().filter_map(place).collect(),
            version: plan.options.version_field.as_ref().and_then(place),
            plan,
            columns: None,
            has_tables: None,
        }
    }

    async fn try_check(&mut self) -> Result<()> {
        let fails = self.connection.fails().clone();
        let client = self.connection.client().await?;
        let target = self.plan.target();
        target.compare(client, &fails).await?;
        target.check_key(client, &fails).await
    }

    async fn columns(&mut self) -> Result<Columns> {
        if let Some(columns) = &self.columns {
            return Ok(columns.clone());
        }
        let fails = self.connection.fails().clone();
        let client = self.connection.client().await?;
        let all = self.plan.target().compare(client, &fails).await?;
        let is_identity = |written: &&Written| {
            self.key.contains(&written.index) || self.version == Some(written.index)
        };
        let columns = Columns {
            identity: all.iter().filter(is_identity).copied().collect(),
            all,
        };
        Ok(self.columns.insert(columns).clone())
    }

    /// The newest row of each key, and the keys of those that are gone.
    fn effect(
        &self,
        records: &RecordBatch,
        columns: &Columns,
    ) -> std::result::Result<(Effect, u64), Unwritable> {
        let changes = changes(records);
        let change = |row: usize| match changes {
            None => Some(Change::Insert),
            Some(changes) => Change::of(changes.value(row)),
        };
        let keys: Vec<Written> = columns
            .all
            .iter()
            .filter(|written| self.key.contains(&written.index))
            .copied()
            .collect();
        let mut newest: BTreeMap<Bytes, usize> = BTreeMap::new();
        let mut key = Rows::default();
        for row in 0..records.num_rows() {
            // The row that replaces it follows.
            if change(row) == Some(Change::UpdateBefore) {
                continue;
            }
            if let Some(null) = keys
                .iter()
                .find(|key| records.column(key.index).is_null(row))
            {
                return Err(Unwritable {
                    column: records.schema_ref().field(null.index).name().clone(),
                    reason: "it is null, and a row without a key replaces none",
                });
            }
            key.push(records, &keys, std::iter::once(row))?;
            let Some(name) = key.take() else { continue };
            let place = newest.entry(name).or_insert(row);
            if self.version_of(records, row) >= self.version_of(records, *place) {
                *place = row;
            }
        }
        let mut rows: Vec<usize> = newest.into_values().collect();
        rows.sort_unstable();
        let is_there = |row: &usize| change(*row).is_some_and(Change::adds);
        let (there, gone): (Vec<usize>, Vec<usize>) = rows.into_iter().partition(is_there);
        let (mut written, mut removed) = (Rows::default(), Rows::default());
        let mut bytes = written.push(records, &columns.all, there.into_iter())?;
        bytes += removed.push(records, &columns.identity, gone.into_iter())?;
        let effect = Effect {
            rows: written.take(),
            gone: removed.take(),
        };
        Ok((effect, bytes))
    }

    /// By what a row is newer than another; none is the oldest.
    fn version_of(&self, records: &RecordBatch, row: usize) -> Option<i64> {
        let column = records.column(self.version?);
        if column.is_null(row) {
            return None;
        }
        match column.data_type() {
            DataType::Int64 => Some(column.as_primitive::<Int64Type>().value(row)),
            DataType::Int32 => Some(column.as_primitive::<Int32Type>().value(row).into()),
            DataType::Date32 => Some(column.as_primitive::<Date32Type>().value(row).into()),
            DataType::Timestamp(_, _) => {
                Some(column.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            _ => None,
        }
    }

    /// Changes the table, trying again while the server is away: that makes no difference.
    async fn apply(&mut self, effect: &Effect) -> Result<()> {
        let deadline = Instant::now() + self.plan.options.connect_timeout.0;
        loop {
            let Err(failure) = self.apply_once(effect).await else {
                return Ok(());
            };
            self.connection.close();
            if failure.kind != ErrorKind::Retryable || Instant::now() > deadline {
                return Err(failure);
            }
            tracing::info!(%failure, "writes rows again");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn apply_once(&mut self, effect: &Effect) -> Result<()> {
        let session = self.connection.session().await?;
        self.connection.begin().await?;
        if self.has_tables != Some(session) {
            let doing = "makes its tables of this session";
            self.connection.run(doing, &self.statements.make).await?;
        }
        let parts = [
            (
                &effect.gone,
                &self.statements.copy_gone,
                &self.statements.delete,
            ),
            (
                &effect.rows,
                &self.statements.copy_rows,
                &self.statements.insert,
            ),
        ];
        for (rows, copy, change) in parts {
            if let Some(rows) = rows {
                self.connection.copy(copy, rows.clone()).await?;
                self.connection.run("writes rows", change).await?;
            }
        }
        self.connection.end("commits rows", "COMMIT").await?;
        self.has_tables = Some(session);
        Ok(())
    }

    async fn try_write(&mut self, batch: &Batch) -> Result<u64> {
        let columns = self.columns().await?;
        let effect = self.effect(batch.records(), &columns);
        let fails = self.connection.fails();
        let (effect, bytes) = effect.map_err(|fault| fails.unwritable(&fault))?;
        if self.key.len() != self.plan.options.key_fields.len() {
            let message = "a column of `keyFields` is not in the input; the plan should have refused this job";
            return Err(Failure::new(
                ErrorCode::PlanMismatch,
                ErrorKind::Internal,
                message,
            ));
        }
        if effect.rows.is_some() || effect.gone.is_some() {
            self.apply(&effect).await?;
        }
        Ok(bytes)
    }
}

impl Statements {
    fn of(plan: &Plan) -> Self {
        let target = plan.target();
        let (table, columns) = (target.table(), target.columns());
        let names = || {
            plan.columns
                .fields()
                .iter()
                .map(|field| field.name().as_str())
        };
        let options = &plan.options;
        let is_key = |name: &str| options.key_fields.iter().any(|key| key == name);
        let is_version = |name: &str| options.version_field.as_deref() == Some(name);
        let identity = quoted_list(names().filter(|name| is_key(name) || is_version(name)));
        let key = quoted_list(names().filter(|name| is_key(name)));
        let set = names().filter(|name| !is_key(name));
        let set: Vec<String> = set
            .map(|name| format!("{0} = excluded.{0}", quoted(name)))
            .collect();
        let guard = |newer: &str| match options.version_field.as_deref().map(quoted) {
            Some(version) => format!("(t.{version} IS NULL OR {newer}.{version} >= t.{version})"),
            None => "true".to_owned(),
        };
        let action = if set.is_empty() {
            "NOTHING".to_owned()
        } else {
            format!("UPDATE SET {} WHERE {}", set.join(", "), guard("excluded"))
        };
        let same = names().filter(|name| is_key(name));
        let same: Vec<String> = same
            .map(|name| format!("t.{0} = d.{0}", quoted(name)))
            .collect();
        let make = |name: &str, columns: &str| {
            format!(
                "CREATE TEMP TABLE {} ON COMMIT DELETE ROWS AS SELECT {columns} FROM {table} WITH NO DATA;",
                name.trim_start_matches("pg_temp.")
            )
        };
        Self {
            make: format!("{}{}", make(ROWS, &columns), make(GONE, &identity)),
            copy_rows: format!("COPY {ROWS} ({columns}) FROM STDIN (FORMAT binary)"),
            copy_gone: format!("COPY {GONE} ({identity}) FROM STDIN (FORMAT binary)"),
            // In one order everywhere, so that two writers never wait for each other.
            insert: format!(
                "INSERT INTO {table} AS t ({columns}) SELECT {columns} FROM {ROWS} ORDER BY {key} \
                 ON CONFLICT ({key}) DO {action}"
            ),
            delete: format!(
                "DELETE FROM {table} AS t USING {GONE} AS d WHERE {} AND {}",
                same.join(" AND "),
                guard("d")
            ),
        }
    }
}

impl Idempotent for Upsert {
    fn check(&mut self) -> Result<()> {
        block_on(self.try_check())
    }

    fn write(&mut self, batch: &Batch) -> Result<u64> {
        block_on(self.try_write(batch))
    }

    fn flush(&mut self) -> Result<()> {
        // Written rows are committed.
        Ok(())
    }
}
