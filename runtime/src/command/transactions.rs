//! `millstream transactions`.

mod leftovers;

use std::time::Duration;

use millstream_connect::KnownTransaction;
use millstream_types::clock::SystemClock;
use millstream_types::{CheckpointId, Clock, ErrorCode, ErrorKind, Failure, Timestamp};
use serde::Serialize;

use super::{answer, print};
use crate::cli::{AbortOptions, Logging, TransactionListOptions, TransactionsCommand};
use crate::exit::Exit;
use crate::text::{duration, table};
pub(crate) use leftovers::Leftovers;
use leftovers::{Decided, Found};

/// Carries out one of the commands.
pub(crate) fn main(command: &TransactionsCommand, logging: &Logging) -> Exit {
    try_main(command, logging).unwrap_or_else(|failure| Exit::failed(&failure))
}

fn try_main(command: &TransactionsCommand, logging: &Logging) -> Result<Exit, Failure> {
    crate::telemetry::start(logging, "warn", std::io::stderr)?;
    let runtime = super::runtime()?;
    runtime.block_on(async {
        match command {
            TransactionsCommand::List(options) => list(options).await,
            TransactionsCommand::Abort(options) => abort(options).await,
        }
    })
}

async fn list(options: &TransactionListOptions) -> Result<Exit, Failure> {
    let leftovers = Leftovers::of(&options.file).await?;
    leftovers.ensure_known()?;
    let mut found = leftovers.find().await?;
    found.retain(|found| options.all || found.transaction.is_open);
    let rows: Vec<Row> = found.iter().map(Row::from).collect();
    let now = SystemClock::default().now();
    answer(options.output, &rows, |rows| text(rows, now))?;
    Ok(Exit::Done)
}

/// A transaction as the list shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    id: String,
    producer_id: i64,
    epoch: i16,
    state: String,
    began_at: Option<Timestamp>,
    timeout_ms: u64,
    partitions: Vec<String>,
    /// The decided checkpoint that lists it.
    checkpoint: Option<CheckpointId>,
    /// Whether that checkpoint is known to be committed.
    committed: Option<bool>,
}

impl From<&Found> for Row {
    fn from(found: &Found) -> Self {
        let KnownTransaction {
            id,
            producer_id,
            epoch,
            state,
            began_at,
            timeout_ms,
            partitions,
            ..
        } = found.transaction.clone();
        Self {
            id,
            producer_id,
            epoch,
            state,
            began_at,
            timeout_ms,
            partitions,
            checkpoint: found.decided.map(|decided| decided.checkpoint),
            committed: found.decided.map(|decided| decided.is_committed),
        }
    }
}

fn text(rows: &[Row], now: Timestamp) -> String {
    if rows.is_empty() {
        return "nothing is open\n".to_owned();
    }
    let head = [
        "ID",
        "PRODUCER",
        "EPOCH",
        "STATE",
        "AGE",
        "CHECKPOINT",
        "PARTITIONS",
    ];
    let none = || "-".to_owned();
    let cells = |row: &Row| {
        let age = row.began_at.map(|began| now.0.saturating_sub(began.0));
        let checkpoint = match (row.checkpoint, row.committed) {
            (Some(checkpoint), Some(false)) => format!("{checkpoint}, to be committed"),
            (Some(checkpoint), _) => format!("{checkpoint}, committed"),
            (None, _) => none(),
        };
        vec![
            row.id.clone(),
            row.producer_id.to_string(),
            row.epoch.to_string(),
            row.state.clone(),
            age.map_or_else(none, |millis| duration(Duration::from_millis(millis))),
            checkpoint,
            row.partitions.join(" "),
        ]
    };
    let rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    table(&head, &rows)
}

async fn abort(options: &AbortOptions) -> Result<Exit, Failure> {
    let mut leftovers = Leftovers::of(&options.file).await?;
    leftovers.ensure_known()?;
    if options.fence {
        leftovers.fence().await?;
    }
    leftovers.ensure_over()?;
    let mut found = leftovers.find().await?;
    found.retain(|found| found.transaction.is_open);
    let mut exit = Exit::Done;
    if !options.ids.is_empty() {
        for id in &options.ids {
            if !found.iter().any(|found| found.transaction.id == *id) {
                print(&format!("{id}: nothing is open under this id\n"));
            }
        }
        found.retain(|found| options.ids.contains(&found.transaction.id));
    }
    for found in &found {
        let id = &found.transaction.id;
        if let Some(decided) = found.decided {
            Exit::failed(&refusal(id, decided));
            if !options.ids.is_empty() {
                exit = Exit::Final;
            }
        } else if found.committer.abort(&found.transaction).await? {
            print(&format!("{id}: aborted\n"));
        } else {
            print(&format!("{id}: it had ended meanwhile\n"));
        }
    }
    if found.is_empty() && options.ids.is_empty() {
        print("nothing is open\n");
    }
    Ok(exit)
}

fn refusal(id: &str, decided: Decided) -> Failure {
    let checkpoint = decided.checkpoint;
    Failure::new(
        ErrorCode::InvalidJob,
        ErrorKind::InvalidJob,
        format!(
            "{id} is not aborted: checkpoint {checkpoint} is decided and lists it, so that its \
             records would be missing in the output. Start the job, which commits it"
        ),
    )
}
