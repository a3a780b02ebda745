//! What can be typed.

mod drill;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use millstream_coordinator::Restore;
use millstream_types::duration::{KubeDuration, ParseDurationError};
use millstream_types::{CheckpointId, Deployment};

pub use drill::{DrillOptions, Fault};

/// Stream jobs with exactly-once state and output.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, about, after_help = AFTER_HELP, propagate_version = true)]
pub struct Arguments {
    /// Logs, the same for every command.
    #[command(flatten)]
    pub logging: Logging,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done (completed or stopped), 1 failed, 2 wrong usage or invalid job,
3 a newer attempt of the job has taken over, 130 interrupted (run again to go on).
Errors carry a code such as MS0102; its page is docs/errors/MS0102.md.";

/// How logs are written. They go to standard error.
#[derive(Debug, Clone, Args)]
pub struct Logging {
    /// Which logs: a level or a list such as `info,millstream_worker=debug`.
    #[arg(long, global = true, env = "MILLSTREAM_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How logs look.
    #[arg(
        long,
        global = true,
        env = "MILLSTREAM_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,
}

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a job in this process: a coordinator and its workers
    ///
    /// Ctrl-C (or SIGTERM) stops the job after a last checkpoint; running it again goes on from
    /// there. A second Ctrl-C ends the process at once; running again then goes on from the
    /// newest completed checkpoint.
    Run(RunOptions),
    /// Run the coordinator of a job; workers connect to it
    ///
    /// Prints `listening grpc=ADDRESS rest=ADDRESS` on standard output once it can be reached.
    /// SIGTERM ends the process and not the job: the next coordinator goes on from the newest
    /// checkpoint. To stop the job, `POST /v1/stop`.
    Coordinator(CoordinatorOptions),
    /// Run a worker: slots in which a coordinator runs tasks
    ///
    /// Connects again when the connection is lost, and exits with 0 when the job is over.
    ///
    /// SIGTERM (or Ctrl-C) asks the coordinator for leave: it takes a checkpoint at once and goes
    /// on from it without this worker, which then exits with 0. After 15 seconds, or at a second
    /// signal, it exits in any case.
    Worker(WorkerOptions),
    /// Check a job file completely, without running anything
    ///
    /// With `--restore` also whether the job can go on from there: the checkpoint or savepoint is
    /// read and compared with the plan. Nothing is claimed and nothing is changed.
    Validate(ValidateOptions),
    /// Show the plan of a job file
    Explain(ExplainOptions),
    /// Run a job, kill, freeze and slow down what it runs on, and say whether that cost anything
    ///
    /// Runs the job for real, in processes of its own: it reads and writes what the file names.
    /// Asks for the name of the job first. Says how long the job needed after each fault, and
    /// whether a record is missing from its sinks or there twice.
    Drill(DrillOptions),
    /// Look at the checkpoints of a storage, or delete them
    #[command(subcommand)]
    Checkpoints(CheckpointsCommand),
    /// Look at the transactions of a job's sinks, or end those that are left open
    #[command(subcommand)]
    Transactions(TransactionsCommand),
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// The job file.
    pub file: PathBuf,
    /// What the job starts from.
    #[command(flatten)]
    pub start: StartOptions,
    /// Address of the REST interface and metrics; not served if not given.
    #[arg(long, value_parser = address, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// How many workers.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: u32,
    /// Slots of each worker; as many as the job needs if not given.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub slots: Option<u32>,
    /// How progress is shown.
    #[arg(long, default_value = "auto")]
    pub progress: ProgressMode,
}

/// What a job starts from, the same for `run` and `coordinator`.
#[derive(Debug, Clone, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one flag of the command line"
)]
pub struct StartOptions {
    /// What the job starts from: `latest` (its newest checkpoint, empty if there is none),
    /// `fresh` (empty, whatever there is), or the path of a savepoint or checkpoint.
    #[arg(long, default_value = "latest", value_parser = restore, value_name = "FROM")]
    pub restore: Restore,
    /// The path given with `--restore` is only believed to be the job's newest state: go on from
    /// the newest checkpoint if the chain has gone on from there.
    #[arg(long)]
    pub unless_advanced: bool,
    /// The job is known to have had state: fail if there is no checkpoint, instead of starting
    /// empty.
    #[arg(long)]
    pub expect_state: bool,
    /// Start from a checkpoint of another job that still holds its chain, or was killed: both may
    /// run on from there.
    #[arg(long)]
    pub fork: bool,
    /// Claim the chain although an operator's deployment, or a job of another identity, holds it:
    /// it is gone for good.
    #[arg(long)]
    pub take_over: bool,
    /// Go on without the state that the job has no place for any more, instead of failing.
    #[arg(long)]
    pub allow_dropped_state: bool,
    /// Go on although prepared output of this checkpoint can never be committed any more (MS0204,
    /// MS0602), without that output. The failure names the checkpoint.
    #[arg(long, value_parser = checkpoint, value_name = "CHECKPOINT")]
    pub accept_lost_output: Option<CheckpointId>,
    /// The uid of the resource that orders this start, for operators whose resources may be made
    /// anew while the job's `metadata.uid` stays: an order to `--restore PATH` from a new one is
    /// refused if the chain was started from there before, and has gone on.
    #[arg(long, value_name = "UID")]
    pub resource_uid: Option<String>,
}

/// TLS between the processes of a job, the same for `coordinator` and `worker`.
#[derive(Debug, Clone, Args)]
pub struct TlsOptions {
    /// Talk to the other processes of the job by TLS, with `ca.crt`, `tls.crt` and `tls.key` of this
    /// directory. Both ends of a connection show their certificates, which must be signed by one
    /// authority and be for the same DNS name. Files that change are read again.
    #[arg(long, env = "MILLSTREAM_TLS", value_name = "DIRECTORY")]
    pub tls: Option<PathBuf>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProgressMode {
    /// Live on a terminal, as lines elsewhere.
    Auto,
    /// A display that is redrawn.
    Live,
    /// A line every few seconds.
    Lines,
    /// Nothing but the summary.
    None,
}

/// Options of `coordinator`.
#[derive(Debug, Args)]
pub struct CoordinatorOptions {
    /// The job file.
    #[arg(long, value_name = "FILE")]
    pub job: PathBuf,
    /// Address for workers (gRPC). Port 0 takes a free one.
    #[arg(long, value_parser = address, value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Address of the REST interface and metrics; not served if not given.
    #[arg(long, value_parser = address, value_name = "ADDRESS")]
    pub rest: Option<SocketAddr>,
    /// TLS with the workers.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// What the job starts from.
    #[command(flatten)]
    pub start: StartOptions,
    /// How many subtasks run every step, instead of the job file's `parallelism`.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=32_768), value_name = "NUMBER")]
    pub parallelism: Option<u32>,
    /// Which deployment of the job this is, for whoever restarts coordinators by itself: a number
    /// that grows with each. A restart with the same number goes on from the newest checkpoint
    /// and ignores `--restore`; an older number never takes over from a newer one; and the
    /// process goes on answering after the job's end, until SIGTERM.
    #[arg(long, value_parser = deployment, value_name = "NUMBER")]
    pub deployment: Option<Deployment>,
    /// A deployment that is known to have had a checkpoint. If it is this one, a chain without a
    /// checkpoint is an error, whatever `--restore` says.
    #[arg(long, env = "MILLSTREAM_RAN", value_parser = deployment, value_name = "NUMBER")]
    pub ran: Option<Deployment>,
    /// How often workers say that they are alive.
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "DURATION")]
    pub heartbeat_interval: Duration,
    /// Silence after which a worker counts as gone. A closed connection is noticed at once.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub heartbeat_timeout: Duration,
    /// Write the bound addresses to this file as well, once they can be reached.
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// Options of `worker`.
#[derive(Debug, Args)]
pub struct WorkerOptions {
    /// Address of the coordinator: `host:port`.
    #[arg(long, env = "MILLSTREAM_COORDINATOR", value_name = "ADDRESS")]
    pub coordinator: String,
    /// How many subtasks of each step may run in this worker.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32_768))]
    pub slots: u32,
    /// Name of the worker; the host's name if not given. A suffix makes it unique per start.
    #[arg(long, value_name = "NAME")]
    pub id: Option<String>,
    /// Address of health checks (`/healthz`, `/readyz`) and metrics; not served if not given.
    #[arg(long, value_parser = address, value_name = "ADDRESS")]
    pub rest: Option<SocketAddr>,
    /// Where to listen for the other workers of the job, which send records directly.
    #[arg(
        long,
        env = "MILLSTREAM_EXCHANGE",
        default_value = "0.0.0.0:0",
        value_name = "ADDRESS"
    )]
    pub exchange: SocketAddr,
    /// Where other workers reach this one, if not at the address at which it listens. An address of all
    /// interfaces stands for the one by which the coordinator is reached.
    #[arg(long, value_name = "HOST:PORT")]
    pub exchange_address: Option<String>,
    /// TLS with the coordinator and the other workers.
    #[command(flatten)]
    pub tls: TlsOptions,
    /// How long to try to reach the coordinator, at the start and after a lost connection.
    #[arg(long, default_value = "5m", value_parser = duration, value_name = "DURATION")]
    pub connect_timeout: Duration,
}

/// Options of `validate`.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one flag of the command line"
)]
pub struct ValidateOptions {
    /// The job files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Check whether the job can go on from here: `latest`, `fresh`, or the path of a savepoint or
    /// checkpoint.
    #[arg(long, value_parser = restore, value_name = "FROM")]
    pub restore: Option<Restore>,
    /// The path given with `--restore` is only believed to be the job's newest state: check what
    /// the job would go on from.
    #[arg(long, requires = "restore")]
    pub unless_advanced: bool,
    /// The job is known to have had state: it is a fault if there is no checkpoint.
    #[arg(long, requires = "restore")]
    pub expect_state: bool,
    /// Ask brokers, file systems and the checkpoint storage what a start would ask, and change
    /// nothing. Without `--restore`, as a start from `latest`.
    #[arg(long)]
    pub live: bool,
    /// As a start with `--fork`, for `--live`.
    #[arg(long, requires = "live")]
    pub fork: bool,
    /// As a start with `--take-over`, for `--live`.
    #[arg(long, requires = "live")]
    pub take_over: bool,
    /// State that the job has no place for any more may be dropped.
    #[arg(long)]
    pub allow_dropped_state: bool,
    /// As a start with `--accept-lost-output`, for `--live`.
    #[arg(long, requires = "live", value_parser = checkpoint, value_name = "CHECKPOINT")]
    pub accept_lost_output: Option<CheckpointId>,
    /// As a start with `--resource-uid`.
    #[arg(long, value_name = "UID")]
    pub resource_uid: Option<String>,
    /// As a start of this deployment; by hand if not given.
    #[arg(long, requires = "live", value_parser = deployment, value_name = "NUMBER")]
    pub deployment: Option<Deployment>,
    /// How many subtasks run every step, instead of the job file's `parallelism`.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=32_768), value_name = "NUMBER")]
    pub parallelism: Option<u32>,
    /// Take what is seldom meant (`warning:`, docs/pitfalls.md) for a fault.
    #[arg(long)]
    pub strict: bool,
    /// How the answer looks; as JSON it is one line for each file.
    #[arg(long, default_value = "text")]
    pub output: Output,
    /// Write the answer to this file as well, as JSON of at most 4 KiB; for one job file.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct ExplainOptions {
    /// The job file.
    pub file: PathBuf,
    /// Write the graph in Graphviz' language instead of text.
    #[arg(long)]
    pub dot: bool,
}

/// Commands of `transactions`.
#[derive(Debug, Subcommand)]
pub enum TransactionsCommand {
    /// List what the attempts of a job have open in its sinks
    ///
    /// The job file says where its sinks and its chain are. Nothing is changed.
    List(TransactionListOptions),
    /// Abort what a job has left open
    ///
    /// Readers of the same partitions see nothing that was written behind an open transaction
    /// until it is ended. What a decided checkpoint lists is never aborted: it is committed when
    /// the job is started.
    Abort(AbortOptions),
}

/// Options of `transactions list`.
#[derive(Debug, Args)]
pub struct TransactionListOptions {
    /// The job file; where a sink was changed or removed, the former one.
    pub file: PathBuf,
    /// Show ids whose transaction has ended as well.
    #[arg(long)]
    pub all: bool,
    /// How the answer looks.
    #[arg(long, default_value = "text")]
    pub output: Output,
}

/// Options of `transactions abort`.
#[derive(Debug, Args)]
pub struct AbortOptions {
    /// The job file; where a sink was changed or removed, the former one.
    pub file: PathBuf,
    /// Transactional ids; everything that is open and that no decided checkpoint lists if none is
    /// given.
    pub ids: Vec<String>,
    /// The job has not been stopped: fence a coordinator that may still run, by claiming the
    /// chain. The next start goes on from the newest checkpoint.
    #[arg(long)]
    pub fence: bool,
}

/// Commands of `checkpoints`.
#[derive(Debug, Subcommand)]
pub enum CheckpointsCommand {
    /// List the chain of every job below a storage
    List(ListOptions),
    /// Show one checkpoint: positions, totals, transactions
    Show(ShowOptions),
    /// Read the keyed state that a checkpoint or savepoint holds
    ///
    /// Without `--operator` it lists the operators that have state. With it, it writes the rows of the
    /// operator's state, in order of their key groups and keys.
    State(StateOptions),
    /// Read everything that a chain holds and check it
    Verify(ListOptions),
    /// Delete a savepoint, or all of a job
    ///
    /// What is already gone is no error, so that the command can be repeated.
    Delete(DeleteOptions),
}

/// Options of `checkpoints delete`.
#[derive(Debug, Args)]
pub struct DeleteOptions {
    /// The path of a savepoint. Anything else is refused.
    #[arg(required_unless_present = "job")]
    pub path: Option<String>,
    /// Delete all of this job: its checkpoints, its savepoints and its reservations. A coordinator
    /// that still runs is fenced. About 400 bytes for each start of the job stay, which keep
    /// older coordinators out.
    #[arg(
        long,
        num_args = 3,
        value_names = ["STORAGE", "NAMESPACE", "NAME"],
        conflicts_with = "path"
    )]
    pub job: Option<Vec<String>>,
    /// Leave the savepoints of the job.
    #[arg(long, requires = "job")]
    pub keep_savepoints: bool,
    /// Refuse if the chain has a newer deployment of the job than this one.
    #[arg(long, requires = "job", value_parser = deployment, value_name = "NUMBER")]
    pub deployment: Option<Deployment>,
    /// Refuse if a job of another identity (`metadata.uid`) holds the chain.
    #[arg(long, requires = "job", value_name = "UID")]
    pub identity: Option<String>,
    /// The file of the job: aborts what it has open in its sinks as well, so that no reader waits
    /// for it. Without it a transaction stays open until its `transactionTimeout`.
    #[arg(long, requires = "job", value_name = "FILE")]
    pub job_file: Option<PathBuf>,
}

/// Options of `checkpoints list` and `checkpoints verify`.
#[derive(Debug, Args)]
pub struct ListOptions {
    /// The storage as in the job file (`file:///…`, `s3://…`, `hdfs://…`), or the path of one job's chain
    /// below it.
    pub storage: String,
    /// How the answer looks.
    #[arg(long, default_value = "text")]
    pub output: Output,
}

/// Options of `checkpoints show`.
#[derive(Debug, Args)]
pub struct ShowOptions {
    /// The path of one job's chain: `<storage>/<namespace>/<name>`, or of a savepoint.
    pub storage: String,
    /// Number of the checkpoint; the newest if not given.
    pub checkpoint: Option<u64>,
    /// How the answer looks.
    #[arg(long, default_value = "text")]
    pub output: Output,
}

/// Options of `checkpoints state`.
#[derive(Debug, Args)]
pub struct StateOptions {
    /// The path of one job's chain: `<storage>/<namespace>/<name>`, of one checkpoint in it, or of a
    /// savepoint.
    pub storage: String,
    /// Number of the checkpoint; the newest if not given.
    pub checkpoint: Option<u64>,
    /// The operator whose state is read: its uid, such as `per_customer/aggregate`.
    #[arg(long, value_name = "UID")]
    pub operator: Option<String>,
    /// One of its states; all of them if not given.
    #[arg(long, value_name = "NAME", requires = "operator")]
    pub state: Option<String>,
    /// Only what belongs to this key: the text of its only column, or a JSON array with a value for
    /// each column. Exit code 1 if there is none.
    #[arg(long, requires = "operator")]
    pub key: Option<String>,
    /// How rows are written to standard output.
    #[arg(long, default_value = "json", requires = "operator")]
    pub format: StateFormat,
    /// How the list of operators looks.
    #[arg(long, default_value = "text", conflicts_with = "operator")]
    pub output: Output,
}

/// How rows of state are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StateFormat {
    /// A line of JSON for each row.
    Json,
    /// An Arrow IPC file.
    Arrow,
}

/// How an answer looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table.
    Text,
    /// JSON.
    Json,
}

/// An address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let port = text.strip_prefix(':').unwrap_or(text);
    let port = port.rsplit(':').next().unwrap_or(port);
    let port = if port.parse::<u16>().is_ok() {
        port
    } else {
        "8081"
    };
    Err(format!(
        "write an IP address and a port: `127.0.0.1:{port}` for this machine only, `0.0.0.0:{port}` for \
         all that reach it"
    ))
}

fn deployment(text: &str) -> Result<Deployment, std::num::ParseIntError> {
    text.parse().map(Deployment)
}

fn checkpoint(text: &str) -> Result<CheckpointId, std::num::ParseIntError> {
    text.parse().map(CheckpointId)
}

fn duration(text: &str) -> Result<Duration, ParseDurationError> {
    text.parse::<KubeDuration>().map(|duration| duration.0)
}

fn restore(text: &str) -> Result<Restore, String> {
    match text {
        "latest" => Ok(Restore::Latest),
        "fresh" => Ok(Restore::Fresh),
        path if path.contains("://") => Ok(Restore::Path(path.to_owned())),
        path if path.starts_with('/') => Err(format!(
            "a path is an address with its scheme: `file://{path}`"
        )),
        path if path.contains('/') => Err(format!(
            "a path is an address with its scheme: `s3://bucket/path`, \
             `hdfs://namenode:port/path` or `file:///path`; for a path from this directory `file://./{}`",
            path.trim_start_matches("./")
        )),
        _ => Err(
            "write `latest`, `fresh`, or the address of a savepoint, checkpoint or job \
                  (`s3://bucket/path`, `hdfs://namenode:port/path`, `file:///path`)"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
