//! The end of a run, in words: how it ended, and what became of every record.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_coordinator::{Outcome, Snapshot};
use millstream_types::OperatorUid;
use millstream_types::snapshot::Counters;
use millstream_types::text::number;

use super::balance::{Balance, Flow, Undecoded};
use crate::text::duration;

/// The summary, and whether every record is accounted for.
pub(super) fn text(
    snapshot: &Snapshot,
    flow: &Flow,
    outcome: &Outcome,
    elapsed: Duration,
) -> (String, bool) {
    let job = &snapshot.job;
    let mut parts = vec![format!(
        "{} {} after {}: attempt {}, {}, {}\n",
        job.job,
        ending(outcome),
        duration(elapsed),
        job.attempt,
        count(job.restarts, "restart"),
        count(snapshot.counts.completed, "checkpoint"),
    )];
    let Some(checkpoint) = snapshot.audit.checkpoint else {
        parts.push(without_checkpoint(outcome).to_owned());
        return (parts.concat(), true);
    };
    let balances = balances(snapshot, flow);
    let gaps = &snapshot.audit.gaps;
    // Not how many this run has completed: numbers count what failed, earlier runs, and the checkpoint
    // that says where a job begins.
    parts.push(format!(
        "audit of the newest checkpoint, number {checkpoint}:\n"
    ));
    parts.extend(
        balances
            .iter()
            .map(|(balance, note)| equation(balance, note)),
    );
    parts.extend(gaps.iter().map(|gap| format!("  GAP: {gap}\n")));
    let balanced = gaps.is_empty() && balances.iter().all(|(balance, _)| balance.holds());
    if !balanced {
        parts.push("  NOT every record is accounted for: please report this\n".to_owned());
    }
    if nothing_ran(snapshot, outcome) && goes_on(snapshot) {
        // A job that the chain calls completed is not restored, so there is no path.
        let number = || checkpoint.to_string();
        parts.push(over_before(
            &job.restored_from.clone().unwrap_or_else(number),
        ));
    }
    (parts.concat(), balanced)
}

/// A start that fails may not have come to look at the checkpoints that there are.
const fn without_checkpoint(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Failed(_) | Outcome::Fenced(_) => {
            "audit: this run has completed no checkpoint; what earlier runs have written stays\n"
        }
        Outcome::Completed | Outcome::Stopped { .. } | Outcome::Interrupted => {
            "audit: there is no checkpoint, nothing is committed\n"
        }
    }
}

/// Whether the job has come to its end without a checkpoint of this run: no task ran.
fn nothing_ran(snapshot: &Snapshot, outcome: &Outcome) -> bool {
    *outcome == Outcome::Completed && snapshot.counts.triggered == 0
}

/// Whether this run began with what an earlier one had read.
fn goes_on(snapshot: &Snapshot) -> bool {
    let mut since = snapshot.began_with.iter().flatten();
    snapshot.job.restored_from.is_some() || since.any(|(_, totals)| totals.records_in > 0)
}

fn over_before(restored_from: &str) -> String {
    format!(
        "nothing ran: an earlier run read every source to its end (checkpoint {restored_from}).\n\
         To run it again from the beginning, remove its checkpoints and its output, or start it \
         with --restore fresh, which writes every record a second time.\n"
    )
}

/// What became of the records on each way, and a note about it. A node that has another name than
/// before, or is new, counts from zero: such a way is counted from where this run has begun.
fn balances(snapshot: &Snapshot, flow: &Flow) -> Vec<(Balance, &'static str)> {
    let now = flow.balances(totals(snapshot));
    let Some(since) = &snapshot.began_with else {
        return now.into_iter().map(|balance| (balance, "")).collect();
    };
    let before = flow.balances(since);
    let counted = now.into_iter().zip(before).map(|(now, before)| {
        if now.holds() || before.holds() {
            return (now, "");
        }
        (
            now.since(&before),
            " (since this run began: a node of the way is new)",
        )
    });
    counted.collect()
}

/// Totals per operator of the newest manifest.
fn totals(snapshot: &Snapshot) -> &BTreeMap<OperatorUid, Counters> {
    let newest = snapshot.audit.checkpoint;
    let mut details = snapshot.checkpoints.iter();
    let detail = details.find(|detail| Some(detail.summary.id) == newest);
    detail.map_or(&snapshot.job.operators, |detail| &detail.operators)
}

fn equation(balance: &Balance, note: &str) -> String {
    let sign = if balance.holds() { "=" } else { "≠" };
    let verdict = if balance.holds() { "ok" } else { "WRONG" };
    let (from, sink) = (balance.from.join(" + "), &balance.sink);
    let came = match (number(balance.came), balance.copied) {
        (came, 0) => format!("{came} in"),
        (came, copied) => format!("{came} in + {} copied", number(copied)),
    };
    let mut parts = vec![
        format!("{} written", number(balance.written)),
        format!("{} filtered", number(balance.filtered)),
    ];
    if let Some(combined) = balance.combined {
        parts.push(format!("{} combined", number(combined)));
    }
    if balance.in_flight > 0 {
        parts.push(format!("{} in flight", number(balance.in_flight)));
    }
    if let Some(Undecoded {
        dead_letters,
        skipped,
    }) = balance.undecoded
    {
        parts.push(format!("{} dead letters", number(dead_letters)));
        parts.push(format!("{} skipped", number(skipped)));
    }
    format!(
        "  {from} → {sink}: {came} {sign} {}  {verdict}{note}\n",
        parts.join(" + ")
    )
}

fn ending(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed => "completed".to_owned(),
        Outcome::Stopped { savepoint: None } => "stopped".to_owned(),
        Outcome::Stopped {
            savepoint: Some(path),
        } => format!("stopped with savepoint {path}"),
        Outcome::Failed(_) => "failed".to_owned(),
        Outcome::Fenced(_) => "taken over by a newer attempt".to_owned(),
        Outcome::Interrupted => "interrupted".to_owned(),
    }
}

fn count(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", number(count))
}

#[cfg(test)]
mod tests;
