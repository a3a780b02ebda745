//! What a coordinator is made from.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_checkpoint::StorageOptions;
use millstream_connect::{SinkConnector, SourceConnector};
use millstream_plan::JobGraph;
use millstream_spec::ValidJob;
use millstream_types::api::JobConfiguration;
use millstream_types::protocol::Heartbeat;
use millstream_types::{CheckpointId, Clock, Deployment, OperatorUid};
use serde::Serialize;
use serde_json::{Map, Value};

/// What a coordinator is made from.
pub struct Options {
    /// The job.
    pub job: ValidJob,
    /// The job file as it was read; workers plan it again.
    pub job_text: String,
    /// The plan of `job`.
    pub graph: JobGraph,
    /// The connector of every source of the graph.
    pub sources: BTreeMap<OperatorUid, Arc<dyn SourceConnector>>,
    /// The connector of every sink of the graph.
    pub sinks: BTreeMap<OperatorUid, Arc<dyn SinkConnector>>,
    /// How the checkpoint storage that the job names is reached.
    pub storage: StorageOptions,
    /// Where the job starts from.
    pub restore: Restore,
    /// Whoever says so only believes that a path in `restore` is the job's newest state: it counts
    /// if the chain has not gone on from there, as the chain says after it was claimed. Otherwise
    /// the job goes on from the chain's newest checkpoint.
    pub unless_advanced: bool,
    /// The job is known to have had state: with [`Restore::Latest`] a chain without a checkpoint is
    /// an error, and not a start from nothing.
    pub expect_state: bool,
    /// What a person has made sure of.
    pub overrides: Overrides,
    /// Go on without the state of a checkpoint that the graph has no place for, instead of
    /// failing.
    pub allow_dropped_state: bool,
    /// The checkpoint whose prepared output may be lost: the job begins without what of it can
    /// never be committed, instead of failing. Counts for what the chain holds at the start, not
    /// for checkpoints that this coordinator takes.
    pub accept_lost_output: Option<CheckpointId>,
    /// Uid of the resource that orders this start; that of the job if not given.
    pub resource_uid: Option<String>,
    /// The deployment of the job that this coordinator is started for, where an operator starts
    /// it. `restore` then counts until a checkpoint was decided under the deployment, a deployment
    /// that has ended is not run on, and the coordinator goes on answering after the job's end,
    /// until it is told to end.
    pub deployment: Option<Deployment>,
    /// Heartbeats of workers.
    pub heartbeat: Heartbeat,
    /// How long the tasks of a failed attempt may take to stop before their worker is dropped.
    pub cancel_timeout: Duration,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Seed of the random part of restart delays; should differ between processes.
    pub seed: u64,
    /// Name of this process, written into the chain with every claim.
    pub holder: String,
    /// Where it runs, such as the name of its pod: the same when it is restarted there.
    pub host: Option<String>,
    /// Version of the build, written into the chain with every claim.
    pub build: String,
}

/// What a person has made sure of, where the chain alone would refuse.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The job may start from a checkpoint of a chain that another job still holds.
    pub fork: bool,
    /// The job's chain may be taken from a deployment, or from a job of another identity, that has
    /// not released it.
    pub take_over: bool,
}

/// Heartbeats every second; ten seconds of silence are a lost worker. A closed connection is
/// noticed at once and does not wait for this.
pub const DEFAULT_HEARTBEAT: Heartbeat = Heartbeat {
    interval_ms: 1_000,
    timeout_ms: 10_000,
};

/// Default of [`Options::cancel_timeout`].
pub const DEFAULT_CANCEL_TIMEOUT: Duration = Duration::from_secs(10);

impl Options {
    /// What the job is started with, as the REST interface shows it.
    pub(crate) fn configuration(&self) -> JobConfiguration {
        JobConfiguration {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            parallelism: self.job.parallelism,
            max_parallelism: self.job.max_parallelism,
            checkpoint: section(&self.job.checkpoint),
            restart: section(&self.job.restart),
            job: self.job_text.clone(),
        }
    }
}

/// A section of the job file with its defaults. What has no text form has no place in a file.
fn section(section: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(section) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("job", &self.job.id)
            .field("restore", &self.restore)
            .field("holder", &self.holder)
            .finish_non_exhaustive()
    }
}

/// Where the first attempt of a coordinator starts from. Later attempts always start from the
/// newest checkpoint of the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Restore {
    /// From the newest checkpoint of the chain; empty only if the chain has none.
    #[default]
    Latest,
    /// Empty, whatever the chain holds. What the chain's newest checkpoint has decided is still
    /// committed, and what older attempts have left open is still aborted; only the state is
    /// ignored: sources begin at their starting options again, and counters at zero. That
    /// beginning becomes a checkpoint of the chain before anything runs. Older checkpoints stay
    /// until `checkpoint.retained` newer ones have completed.
    ///
    /// Whoever restarts a coordinator by itself after a crash must do so with
    /// [`Latest`](Self::Latest): every start with this option starts empty.
    Fresh,
    /// From a savepoint or checkpoint at this address, of this job or another one. What it lists
    /// is committed, and its state becomes a checkpoint of the chain before anything runs. As with
    /// [`Fresh`](Self::Fresh), every start with this option starts from there. The job's own folder
    /// means the newest checkpoint of its chain, as it is found when the chain is claimed.
    Path(String),
}
