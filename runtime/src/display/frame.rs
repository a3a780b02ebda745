//! One look at a job, in words.

use std::time::Duration;

use millstream_coordinator::Snapshot;
use millstream_types::OperatorUid;
use millstream_types::api::CheckpointSummary;
use millstream_types::snapshot::Counters;
use millstream_types::text::{bytes, number};

use super::balance::Flow;
use super::rate::Rates;
use crate::text;

/// What is shown of a job at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// The job and what it does.
    pub(super) head: String,
    /// One row per source and sink.
    pub(super) rows: Vec<Row>,
    /// The newest checkpoint.
    pub(super) checkpoint: String,
    elapsed: Duration,
    state: String,
    restarts: u64,
}

/// A source or sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    name: String,
    direction: &'static str,
    records: u64,
    /// Nothing before there are two looks.
    per_second: Option<u64>,
}

impl Row {
    /// In columns.
    pub(super) fn text(&self) -> String {
        format!(
            "{:<24} {:<3} {:>17} rows {:>13}/s",
            self.name,
            self.direction,
            number(self.records),
            self.per_second.map_or_else(|| "-".to_owned(), number)
        )
    }
}

impl Frame {
    /// Reads a snapshot; `elapsed` is the time since the process began.
    pub(super) fn of(snapshot: &Snapshot, flow: &Flow, rates: &Rates, elapsed: Duration) -> Self {
        let job = &snapshot.job;
        let row = |uid: &OperatorUid, direction, total: fn(&Counters) -> u64| Row {
            name: uid.to_string(),
            direction,
            records: job.operators.get(uid).map_or(0, total),
            per_second: rates.per_second(uid, total),
        };
        let sources = flow
            .sources()
            .map(|uid| row(uid, "in", |counters| counters.records_in));
        let sinks = flow
            .sinks()
            .map(|uid| row(uid, "out", |counters| counters.records_out));
        let state = if job.message.is_empty() {
            format!("{:?}", job.state)
        } else {
            format!("{:?}: {}", job.state, job.message)
        };
        Self {
            head: format!(
                "{}  {state}  {}  attempt {}  restarts {}",
                job.job,
                text::duration(elapsed),
                job.attempt,
                job.restarts
            ),
            rows: sources.chain(sinks).collect(),
            checkpoint: checkpoint(job.last_checkpoint.as_ref()),
            elapsed,
            state,
            restarts: job.restarts,
        }
    }

    /// All of it in one line.
    pub(super) fn line(&self) -> String {
        let rows: Vec<String> = self
            .rows
            .iter()
            .map(|row| {
                let records = number(row.records);
                let rate = row.per_second.map(|rate| format!(" ({}/s)", number(rate)));
                let rate = rate.unwrap_or_default();
                format!("{} {} {records}{rate}", row.name, row.direction)
            })
            .collect();
        format!(
            "{:>9}  {}  {}  {}  restarts {}",
            text::duration(self.elapsed),
            self.state,
            rows.join("  "),
            self.checkpoint,
            self.restarts
        )
    }
}

fn checkpoint(summary: Option<&CheckpointSummary>) -> String {
    let Some(summary) = summary else {
        return "no checkpoint yet".to_owned();
    };
    let took = summary.duration_ms.map(|millis| {
        let took = Duration::from_millis(millis);
        format!(" in {}", text::duration(took))
    });
    let size = summary.size_bytes.map(|size| format!(", {}", bytes(size)));
    let new = summary.checkpointed_size;
    let new = new.map(|new| format!(" ({} new)", bytes(new)));
    format!(
        "checkpoint {}{}{}{}",
        summary.id,
        took.unwrap_or_default(),
        size.unwrap_or_default(),
        new.unwrap_or_default()
    )
}
