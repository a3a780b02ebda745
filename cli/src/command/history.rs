//! `history`

use crate::arguments::{HistoryOptions, Output};
use crate::cluster::Cluster;
use crate::command::{answer, now};
use crate::exit::{Exit, print};
use crate::problem::Problem;
use crate::revision::{Entry, Revision, history};
use crate::text::{since, table};
use jiff::Timestamp;

/// Shows a job's revisions.
///
/// # Errors
/// They cannot be read.
pub async fn run(cluster: &Cluster, options: &HistoryOptions) -> Result<Exit, Problem> {
    let job = cluster.job(&options.name.job).await?;
    let mut entries = history(&job, &read(cluster, job.name()).await?);
    if options.short {
        for entry in &mut entries {
            entry.difference.clear();
        }
    }
    let now = now();
    let output = options.answer.output;
    if entries.is_empty() && output == Output::Text {
        let name = job.name();
        print(&format!(
            "streamjob/{name} has no revision yet: the operator makes the first one\n"
        ))?;
        return Ok(Exit::Done);
    }
    print(&answer(output, &entries, |entries| text(entries, now))?)?;
    Ok(Exit::Done)
}

/// The revisions of a job.
///
/// # Errors
/// They cannot be read.
pub async fn read(cluster: &Cluster, job: &str) -> Result<Vec<Revision>, Problem> {
    let maps = cluster.revisions(job).await?;
    maps.iter().map(Revision::read).collect()
}

/// Places that are named in the list.
const PLACES_MAX: usize = 3;

/// A history as text.
pub fn text(entries: &[Entry], now: Timestamp) -> String {
    let rows = entries.iter().map(|entry| {
        let age = entry.deployed.map(|time| since(time, now));
        let generation = entry.generation.map(|generation| generation.to_string());
        vec![
            entry.name.clone(),
            generation.unwrap_or_else(|| "-".to_owned()),
            age.unwrap_or_else(|| "-".to_owned()),
            entry.marks.join(", "),
            changed(entry),
            entry
                .restore_point
                .clone()
                .unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let head = [
        "REVISION",
        "GENERATION",
        "AGE",
        "STATE",
        "CHANGED",
        "STOPPED WITH",
    ];
    let mut text = table(&head, rows);
    for entry in entries {
        if let Some(reason) = &entry.rejected {
            text.extend(["\n", &entry.name, " was rejected: ", reason, "\n"]);
        }
        if !entry.difference.is_empty() {
            text.push('\n');
            text.push_str(&entry.difference);
        }
    }
    text
}

fn changed(entry: &Entry) -> String {
    let Some(paths) = &entry.changed else {
        return "(oldest)".to_owned();
    };
    let shown = paths.iter().take(PLACES_MAX).cloned().collect::<Vec<_>>();
    let more = paths.len().saturating_sub(PLACES_MAX);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    shown.join(", ") + &more
}
