//! `millstream checkpoints`.

mod delete;
mod state;

use millstream_checkpoint::inspect::{self, JobListing, Verified};
use millstream_checkpoint::{CheckpointEntry, Manifest, StorageOptions};
use millstream_types::snapshot::{Counters, OperatorSnapshot};
use millstream_types::text::{bytes, number};
use millstream_types::{CheckpointId, CheckpointKind, Failure, OperatorUid};

use super::answer;
use crate::cli::{CheckpointsCommand, ListOptions, Logging, ShowOptions};
use crate::exit::Exit;
use crate::text::{instant, table};

/// Carries out one of the commands.
pub(crate) fn main(command: &CheckpointsCommand, logging: &Logging) -> Exit {
    try_main(command, logging).unwrap_or_else(|failure| Exit::failed(&failure))
}

fn try_main(command: &CheckpointsCommand, logging: &Logging) -> Result<Exit, Failure> {
    crate::telemetry::start(logging, "warn", std::io::stderr)?;
    let runtime = super::runtime()?;
    runtime.block_on(async {
        match command {
            CheckpointsCommand::List(options) => list(options).await,
            CheckpointsCommand::Show(options) => show(options).await,
            CheckpointsCommand::State(options) => state::main(options).await,
            CheckpointsCommand::Verify(options) => verify(options).await,
            CheckpointsCommand::Delete(options) => delete::main(options).await,
        }
    })
}

async fn list(options: &ListOptions) -> Result<Exit, Failure> {
    let listings = inspect::list(&options.storage, &StorageOptions::from_env()).await;
    let listings = listings.map_err(Failure::from)?;
    answer(options.output, &listings, |listings| {
        listings.iter().map(listing).collect::<Vec<_>>().join("\n")
    })?;
    Ok(Exit::Done)
}

async fn show(options: &ShowOptions) -> Result<Exit, Failure> {
    let id = options.checkpoint.map(CheckpointId);
    let manifest = inspect::show(&options.storage, id, &StorageOptions::from_env()).await;
    answer(
        options.output,
        &manifest.map_err(Failure::from)?,
        manifest_text,
    )?;
    Ok(Exit::Done)
}

async fn verify(options: &ListOptions) -> Result<Exit, Failure> {
    let verified = inspect::verify(&options.storage, &StorageOptions::from_env()).await;
    let verified = verified.map_err(Failure::from)?;
    answer(options.output, &verified, verdict)?;
    let sound = verified.faults.is_empty();
    Ok(if sound { Exit::Done } else { Exit::Failed })
}

fn listing(listing: &JobListing) -> String {
    let mut parts = vec![format!("{}\n", listing.path)];
    if let Some(claim) = &listing.claim {
        let state = listing.released.map_or_else(
            || "not released: it runs, or was killed".to_owned(),
            |reason| format!("released: {reason:?}"),
        );
        parts.push(format!(
            "  attempt {} of {} since {}, {state}\n",
            claim.attempt,
            claim.holder.name,
            instant(claim.time)
        ));
    }
    if listing.checkpoints.is_empty() {
        parts.push("  no checkpoints\n".to_owned());
    } else {
        let rows: Vec<Vec<String>> = listing.checkpoints.iter().rev().map(row).collect();
        parts.push(table(&CHECKPOINT_COLUMNS, &rows));
    }
    let savepoints = listing.savepoints.iter();
    parts.extend(savepoints.map(|path| format!("  savepoint {path}\n")));
    let fault = listing.fault.iter();
    parts.extend(fault.map(|fault| format!("  FAULT: {fault}\n")));
    parts.concat()
}

const CHECKPOINT_COLUMNS: [&str; 7] = [
    "CHECKPOINT",
    "ATTEMPT",
    "KIND",
    "DECIDED (UTC)",
    "SIZE",
    "COMMITTED",
    "PATH",
];

fn row(entry: &CheckpointEntry) -> Vec<String> {
    vec![
        entry.id.to_string(),
        entry.attempt.to_string(),
        kind(entry.kind).to_owned(),
        instant(entry.decided_at),
        bytes(entry.size_bytes),
        match entry {
            CheckpointEntry { given_up: true, .. } => "given up",
            CheckpointEntry {
                committed: true, ..
            } => "yes",
            _ => "no",
        }
        .to_owned(),
        entry.path.clone(),
    ]
}

const fn kind(kind: CheckpointKind) -> &'static str {
    match kind {
        CheckpointKind::Checkpoint => "checkpoint",
        CheckpointKind::Savepoint => "savepoint",
        CheckpointKind::StopWithSavepoint { drain: false } => "stop",
        CheckpointKind::StopWithSavepoint { drain: true } => "drain",
    }
}

fn manifest_text(manifest: &Manifest) -> String {
    let mut parts = vec![format!(
        "{} {} of {}, attempt {}\n  decided {} UTC, parallelism {}, plan {}\n",
        kind(manifest.kind),
        manifest.checkpoint,
        manifest.job,
        manifest.attempt,
        instant(manifest.decided_at),
        manifest.parallelism,
        manifest.fingerprint,
    )];
    let origin = manifest.imported_from.iter();
    parts.extend(origin.map(|origin| format!("  imported from {origin}\n")));
    if manifest.ended {
        parts.push("  the job has completed: nothing is left to run\n".to_owned());
    }
    let head = ["OPERATOR", "IN", "OUT", "DEAD LETTERS", "SKIPPED", "BYTES"];
    parts.push(section("totals", &head, &totals(manifest)));
    let head = ["OPERATOR", "SUBTASK", "SPLIT", "RECORDS", "POSITION"];
    parts.push(section("positions", &head, &each(manifest, positions)));
    let head = [
        "OPERATOR",
        "SUBTASK",
        "CHECKPOINT",
        "RECORDS",
        "TRANSACTION",
    ];
    parts.push(section(
        "transactions",
        &head,
        &each(manifest, transactions),
    ));
    let head = ["OPERATOR", "SUBTASK", "KEY GROUPS", "RUNS", "BYTES"];
    parts.push(section("state", &head, &each(manifest, states)));
    let head = ["OPERATOR", "SUBTASK", "FILE", "BYTES"];
    parts.push(section(
        "records in flight",
        &head,
        &each(manifest, in_flight),
    ));
    parts.concat()
}

fn totals(manifest: &Manifest) -> Vec<Vec<String>> {
    let totals = manifest.totals();
    let row = |(uid, counters): (&OperatorUid, &Counters)| {
        vec![
            uid.to_string(),
            number(counters.records_in),
            number(counters.records_out),
            number(counters.dead_letters),
            number(counters.skipped),
            bytes(counters.bytes),
        ]
    };
    totals.iter().map(row).collect()
}

fn section(title: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("{title}\n{}", table(head, rows))
}

/// Rows of every operator and subtask, with those two in front.
fn each(manifest: &Manifest, cells: fn(&OperatorSnapshot) -> Vec<Vec<String>>) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (uid, subtasks) in &manifest.operators {
        for (subtask, snapshot) in subtasks {
            for cells in cells(snapshot) {
                let mut row = vec![uid.to_string(), subtask.to_string()];
                row.extend(cells);
                rows.push(row);
            }
        }
    }
    rows
}

fn positions(snapshot: &OperatorSnapshot) -> Vec<Vec<String>> {
    let splits = snapshot.splits.iter();
    splits
        .map(|split| {
            let end = if split.finished { " (end)" } else { "" };
            vec![
                split.split.clone(),
                number(split.records),
                format!("{}{end}", split.position.0),
            ]
        })
        .collect()
}

fn states(snapshot: &OperatorSnapshot) -> Vec<Vec<String>> {
    let states = snapshot.state.iter();
    states
        .map(|state| {
            let groups = state.key_groups;
            vec![
                format!("{} to {}", groups.first, groups.end.saturating_sub(1)),
                state.runs.len().to_string(),
                bytes(state.files().map(|file| file.bytes).sum()),
            ]
        })
        .collect()
}

fn in_flight(snapshot: &OperatorSnapshot) -> Vec<Vec<String>> {
    let files = snapshot.in_flight.iter();
    files
        .map(|file| vec![file.path.clone(), bytes(file.bytes)])
        .collect()
}

fn transactions(snapshot: &OperatorSnapshot) -> Vec<Vec<String>> {
    let committables = snapshot.committables.iter();
    committables
        .map(|one| {
            vec![
                one.checkpoint.to_string(),
                number(one.records),
                one.transaction.0.clone(),
            ]
        })
        .collect()
}

fn verdict(verified: &Verified) -> String {
    let mut parts = vec![format!(
        "read {} objects ({}) of {} jobs: {} checkpoints and {} savepoints can be started from\n",
        number(verified.objects),
        bytes(verified.bytes),
        number(verified.jobs),
        number(verified.checkpoints),
        number(verified.savepoints),
    )];
    let faults = verified.faults.iter();
    parts.extend(faults.map(|fault| format!("FAULT {}: {}\n", fault.object, fault.reason)));
    let leftovers = verified.leftovers.iter();
    parts.extend(leftovers.map(|leftover| format!("left over {leftover}\n")));
    if verified.faults.is_empty() {
        parts.push("no faults\n".to_owned());
    }
    parts.concat()
}
