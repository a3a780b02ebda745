//! The commands: what is read, what is written, what is printed.

pub mod act;
pub mod complete;
pub mod diff;
pub mod drill;
pub mod gather;
pub mod history;
pub mod logs;
pub mod manual;
pub mod report;
pub mod rollback;
pub mod savepoint;
pub mod status;
pub mod ui;
pub mod waiting;

use jiff::Timestamp;
use millstream_types::clock::{Clock as _, SystemClock};
use serde::Serialize;

use crate::arguments::{Arguments, Command, Output, UpgradeCommand};
use crate::cluster::Cluster;
use crate::exit::{Exit, note};
use crate::job::Job;
use crate::problem::Problem;
use crate::text::from_millis;

/// Carries out a command.
pub async fn run(arguments: Arguments) -> Exit {
    match try_run(arguments).await {
        Ok(exit) => exit,
        Err(problem) => Exit::failed(&problem),
    }
}

/// Prints completions.
pub async fn complete(words: &[String]) -> Exit {
    match complete::run(words).await {
        Ok(exit) => exit,
        Err(problem) => Exit::failed(&problem),
    }
}

async fn try_run(arguments: Arguments) -> Result<Exit, Problem> {
    match &arguments.command {
        Command::Man => return manual::man(),
        Command::Completion(options) => return manual::completion(options),
        _ => {}
    }
    let cluster = Cluster::connect(&arguments.connection).await?;
    match &arguments.command {
        Command::Status(options) => status::run(&cluster, options).await,
        Command::Savepoint(options) => savepoint::run(&cluster, options).await,
        Command::Suspend(options) => act::suspend(&cluster, options).await,
        Command::Resume(options) => act::resume(&cluster, options).await,
        Command::Restart(options) => act::restart(&cluster, options).await,
        Command::Upgrade(UpgradeCommand::Approve(options)) => act::approve(&cluster, options).await,
        Command::History(options) => history::run(&cluster, options).await,
        Command::Rollback(options) => rollback::run(&cluster, options).await,
        Command::Logs(options) => logs::run(&cluster, options).await,
        Command::Report(options) => report::run(&cluster, options).await,
        Command::Ui(options) => ui::run(cluster, options).await,
        Command::Diff(options) => diff::run(cluster, options, &arguments.connection).await,
        Command::Drill(options) => drill::run(&cluster, options).await,
        Command::Man => manual::man(),
        Command::Completion(options) => manual::completion(options),
    }
}

/// The time now.
pub fn now() -> Timestamp {
    from_millis(SystemClock::default().now().0).unwrap_or_default()
}

/// An answer in the form that was asked for.
///
/// # Errors
/// It cannot be written as JSON.
pub fn answer<T: Serialize>(
    output: Output,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<String, Problem> {
    match output {
        Output::Text => Ok(text(value)),
        Output::Json => serde_json::to_string_pretty(value)
            .map(|json| json + "\n")
            .map_err(|error| Problem::System {
                what: "the answer cannot be written as JSON".to_owned(),
                reason: error.to_string(),
            }),
    }
}

/// Says that a change of the spec will not last where the spec comes from Git.
pub fn warn_of_git(job: &Job) {
    if let Some(tool) = job.git_tool() {
        note(&format!(
            "warning: {tool} manages `{}`: make the same change in Git, or it will be undone\n",
            job.name()
        ));
    }
}
