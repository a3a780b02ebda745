//! What can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use millstream_types::duration::{KubeDuration, ParseDurationError};

/// Look at stream jobs and act on them.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-streamjob",
    bin_name = "kubectl streamjob",
    version,
    after_help = AFTER_HELP
)]
pub struct Arguments {
    /// Which cluster, which namespace.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 what was waited for did not happen,
4 `diff` found differences, 130 interrupted.
`kubectl get streamjobs` lists jobs, `kubectl explain streamjob.spec` explains their fields.";

/// Which cluster, which namespace.
#[derive(Debug, Clone, Default, Args)]
pub struct Connection {
    /// Namespace of the job; the context's if not given.
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Context of the kubeconfig; its current one if not given.
    #[arg(long, global = true, value_name = "CONTEXT")]
    pub context: Option<String>,
    /// The kubeconfig; $KUBECONFIG or ~/.kube/config if not given.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// User to act as.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub act_as: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show on one screen what a job does, what it waits for, and since when
    Status(StatusOptions),
    /// Open the console of a job: its graph, checkpoints, failures and more, live in a browser
    ///
    /// Serves it at an address of this machine, through the API server and with your rights, until
    /// interrupted.
    Ui(UiOptions),
    /// Take a savepoint of a running job
    ///
    /// Creates a `StreamSavepoint`, which belongs to you: it stays until you delete it.
    Savepoint(SavepointOptions),
    /// Stop a job with a savepoint and remove its pods
    Suspend(ActOptions),
    /// Go on with a suspended job from where it stopped
    Resume(ActOptions),
    /// Restart a job once, through a savepoint, without changing it
    Restart(ActOptions),
    /// Act on an upgrade that is under way
    #[command(subcommand)]
    Upgrade(UpgradeCommand),
    /// Show a job's revisions and what changed from each to the next
    History(HistoryOptions),
    /// Write an earlier revision back into the spec
    ///
    /// The operator then brings it in like any other change: after a preflight, from a
    /// savepoint. Parallelism and the options of upgrades stay as they are.
    Rollback(RollbackOptions),
    /// Show the logs of a job's coordinator and workers, each line with its pod
    Logs(LogsOptions),
    /// Collect what is needed to find out what is wrong with a job, without secrets
    ///
    /// Writes a zip file with the resource, its revisions, events, pods, logs, metrics and what
    /// the coordinator says. Passwords, tokens and keys are replaced; `redacted.txt` in it lists
    /// where. Nothing is sent anywhere.
    Report(ReportOptions),
    /// Show what a changed manifest would change, and what the operator would do about it
    Diff(DiffOptions),
    /// Delete pods of a running job, and say how long it needed each time
    ///
    /// Asks for the name of the job first. After each fault it waits until the job runs again and
    /// has completed a checkpoint.
    Drill(DrillOptions),
    /// Print a completion script for a shell
    Completion(CompletionOptions),
    /// Print the manual page (`kubectl streamjob man | man -l -`)
    Man,
}

/// A job.
#[derive(Debug, Clone, Args)]
pub struct JobName {
    /// Name of the `StreamJob`.
    #[arg(value_name = "JOB")]
    pub job: String,
}

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How to answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct Answer {
    /// How the answer is written.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// How to answer.
    #[command(flatten)]
    pub answer: Answer,
    /// Show it again whenever it changes, until interrupted.
    #[arg(short, long)]
    pub watch: bool,
    /// From one look to the next, with --watch.
    #[arg(long, value_parser = duration, default_value = "2s", value_name = "DURATION")]
    pub interval: Duration,
}

/// Options of `ui`.
#[derive(Debug, Args)]
pub struct UiOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// Port of 127.0.0.1; a free one if not given.
    #[arg(
        long,
        default_value_t = 0,
        hide_default_value = true,
        value_name = "PORT"
    )]
    pub port: u16,
    /// Only print the address, and do not open a browser.
    #[arg(long)]
    pub no_open: bool,
}

/// Options of `savepoint`.
#[derive(Debug, Args)]
pub struct SavepointOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// Name of the savepoint: lower-case letters, digits and `-`, at most 63; the job's name and
    /// the time if not given.
    #[arg(long = "name", value_parser = savepoint_name, value_name = "NAME")]
    pub savepoint: Option<String>,
    /// How long the operator tries.
    #[arg(long, value_parser = duration, default_value = "10m", value_name = "DURATION")]
    pub deadline: Duration,
    /// Delete the savepoint's data when the `StreamSavepoint` is deleted.
    #[arg(long)]
    pub delete_with_resource: bool,
    /// Wait until it is complete.
    #[arg(long)]
    pub wait: bool,
    /// How to answer.
    #[command(flatten)]
    pub answer: Answer,
}

/// Options of `suspend`, `resume` and `restart`.
#[derive(Debug, Args)]
pub struct ActOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// Wait until it has happened.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Whether to wait, and how long.
#[derive(Debug, Clone, Copy, Args)]
pub struct Waiting {
    /// Wait until it has happened.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait.
    #[arg(long, value_parser = duration, default_value = "10m", value_name = "DURATION")]
    pub timeout: Duration,
}

/// Commands on an upgrade.
#[derive(Debug, Subcommand)]
pub enum UpgradeCommand {
    /// Let an upgrade go on that waits for approval
    Approve(ApproveOptions),
}

/// Options of `upgrade approve`.
#[derive(Debug, Args)]
pub struct ApproveOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// Approve only this revision; whatever waits if not given.
    #[arg(long, value_name = "REVISION")]
    pub revision: Option<String>,
    /// Waiting.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Options of `history`.
#[derive(Debug, Args)]
pub struct HistoryOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// Only the list, without differences.
    #[arg(long)]
    pub short: bool,
    /// How to answer.
    #[command(flatten)]
    pub answer: Answer,
}

/// Options of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// Revision to go back to, by its name or hash; the newest good one that differs from the
    /// spec if not given.
    #[arg(long, value_name = "REVISION")]
    pub to: Option<String>,
    /// Show what would change; change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Waiting.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// Which pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The coordinator.
    Coordinator,
    /// The workers.
    Worker,
    /// The check of a new revision.
    Preflight,
}

/// Options of `logs`.
#[derive(Debug, Args)]
pub struct LogsOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// Go on with new lines, also of pods that come later, until interrupted.
    #[arg(short, long)]
    pub follow: bool,
    /// Only pods of this role; coordinator and workers if not given.
    #[arg(long, value_name = "ROLE")]
    pub role: Option<Role>,
    /// Lines of each pod to begin with; all if not given.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(i64).range(0..))]
    pub tail: Option<i64>,
    /// Only lines that are not older.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    pub since: Option<Duration>,
    /// The time that Kubernetes received each line, too.
    #[arg(long)]
    pub timestamps: bool,
    /// Logs of each container's previous run.
    #[arg(short, long, conflicts_with = "follow")]
    pub previous: bool,
}

/// Options of `report`.
#[derive(Debug, Args)]
pub struct ReportOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// The file to write, which must not exist; named after the job and the time if not given.
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Lines of each log.
    #[arg(
        long,
        default_value_t = 5_000,
        value_name = "LINES",
        value_parser = clap::value_parser!(i64).range(0..=1_000_000)
    )]
    pub tail: i64,
    /// No logs at all.
    #[arg(long)]
    pub no_logs: bool,
    /// Another text to replace wherever it stands, such as the name of a host; may be repeated.
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub redact: Vec<String>,
}

/// Options of `diff`.
#[derive(Debug, Args)]
pub struct DiffOptions {
    /// The manifest, with one `StreamJob`; `-` is standard input.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub file: PathBuf,
    /// How to answer.
    #[command(flatten)]
    pub answer: Answer,
}

/// Options of `drill`.
#[derive(Debug, Args)]
pub struct DrillOptions {
    /// The job.
    #[command(flatten)]
    pub name: JobName,
    /// Pods of the job may be deleted: do not ask for its name.
    #[arg(long)]
    pub yes: bool,
    /// What is done to it; may be repeated. Everything, one after the other, if not given.
    #[arg(long = "fault", value_name = "FAULT")]
    pub fault: Vec<Fault>,
    /// How often all of it is done.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// How long the job may take to recover from a fault.
    #[arg(long, value_parser = duration, default_value = "5m", value_name = "DURATION")]
    pub deadline: Duration,
    /// How to answer.
    #[command(flatten)]
    pub answer: Answer,
}

impl DrillOptions {
    /// What is done, in this order.
    pub fn faults(&self) -> Vec<Fault> {
        if self.fault.is_empty() {
            Fault::value_variants().to_vec()
        } else {
            self.fault.clone()
        }
    }
}

/// What is done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The pod of a worker is deleted at once.
    DeleteWorker,
    /// The pod of the coordinator is deleted at once.
    DeleteCoordinator,
}

impl Fault {
    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DeleteWorker => "delete-worker",
            Self::DeleteCoordinator => "delete-coordinator",
        }
    }
}

/// Options of `completion`.
#[derive(Debug, Args)]
pub struct CompletionOptions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

fn duration(text: &str) -> Result<Duration, ParseDurationError> {
    text.parse::<KubeDuration>().map(|duration| duration.0)
}

/// Longest name of a savepoint, as the runtime takes it.
pub const SAVEPOINT_NAME_MAX: usize = 63;

fn savepoint_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..=SAVEPOINT_NAME_MAX).contains(&text.len())
        && text.chars().all(allowed)
        && !text.starts_with('-')
        && !text.ends_with('-');
    good.then(|| text.to_owned()).ok_or_else(|| {
        format!(
            "1 to {SAVEPOINT_NAME_MAX} lower-case letters, digits and `-`, which begin and end \
             with a letter or digit"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_of_the_connection_are_taken_before_and_after_the_command() {
        for line in [
            ["x", "-n", "prod", "status", "orders"],
            ["x", "status", "orders", "-n", "prod"],
        ] {
            let arguments = Arguments::try_parse_from(line).unwrap();
            assert_eq!(arguments.connection.namespace.as_deref(), Some("prod"));
        }
    }

    #[test]
    fn names_of_savepoints_are_those_that_the_runtime_takes() {
        assert!(savepoint_name("before-upgrade-2").is_ok());
        for wrong in ["", "-a", "a-", "A", "a_b", "a.b", &"a".repeat(64)] {
            assert!(savepoint_name(wrong).is_err(), "{wrong}");
        }
    }
}
