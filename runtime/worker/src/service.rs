//! The conversation with the coordinator: registers, starts and stops tasks, passes messages on.
//!
//! One loop owns everything. It never waits for room in the outgoing channel while messages may
//! come in: what is to be said waits in an outbox, and while the outbox is long, events of tasks
//! are left where they are.

mod activity;
mod attempt;
mod fetching;
mod session;
mod wiring;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_exchange::Exchange;
use millstream_types::protocol::{ToCoordinator, ToWorker};
use millstream_types::{Clock, Failure, WorkerId};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::affinity::Pinning;
use crate::plan::TaskFactory;
use crate::threads::Threads;
pub use activity::Activity;
use session::Session;

/// Settings of a worker.
#[derive(Clone)]
pub struct Options {
    /// Name of this process, unique per process start.
    pub worker: WorkerId,
    /// How many subtasks of each vertex may run in it.
    pub slots: u32,
    /// Version of the build, for people.
    pub build: String,
    /// Makes tasks.
    pub factory: Arc<dyn TaskFactory>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// What runs tasks.
    pub threads: Threads,
    /// Most bytes of memory that all state may take, unless the job says otherwise.
    pub state_memory: u64,
    /// Where state is kept that does not fit into it, unless the job says otherwise.
    pub state_directory: PathBuf,
    /// Whether task threads are bound to cores.
    pub pinning: Pinning,
    /// Connects it with other workers; without one, all tasks of a job must run here.
    pub exchange: Option<Arc<Exchange>>,
    /// How long a cancelled task may take to stop before the process is given up.
    pub cancel_timeout: Duration,
}

/// Both directions of the connection to a coordinator. Either end closing means that the other
/// side is gone.
#[derive(Debug)]
pub struct CoordinatorConnection {
    /// To the coordinator.
    pub outgoing: mpsc::Sender<ToCoordinator>,
    /// From the coordinator.
    pub incoming: mpsc::Receiver<ToWorker>,
    /// Where other workers reach this one's exchange, as `host:port`.
    pub exchange: Option<String>,
}

/// How a worker is told to end.
#[derive(Debug, Clone, Default)]
pub struct Departure {
    /// Ask the coordinator for leave and go on until it is given, so that a checkpoint can be
    /// taken with the tasks that run here.
    pub leave: CancellationToken,
    /// End at once.
    pub end: CancellationToken,
}

impl From<CancellationToken> for Departure {
    /// Only the end at once.
    fn from(end: CancellationToken) -> Self {
        Self {
            leave: CancellationToken::new(),
            end,
        }
    }
}

/// Why a worker's run ended. All its tasks have stopped, except for [`Stuck`](Self::Stuck).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The coordinator says that the job is over, or has given leave.
    Shutdown,
    /// The caller asked.
    Stopped,
    /// The connection is gone; connect again.
    ConnectionLost,
    /// The coordinator does not want this worker.
    Refused(Failure),
    /// A task does not stop; only the end of the process stops it.
    Stuck(Failure),
}

/// A worker: slots in which tasks of one coordinator run.
pub struct Worker {
    options: Options,
    activity: watch::Sender<Activity>,
}

impl Worker {
    /// A worker that has no tasks yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            activity: watch::Sender::default(),
        }
    }

    /// Follows what it is doing.
    pub fn activity(&self) -> watch::Receiver<Activity> {
        self.activity.subscribe()
    }

    /// Serves one connection until it ends. Tasks do not outlive it.
    ///
    /// # Cancel safety
    /// Dropping the future asks all tasks to stop and does not wait for them.
    pub async fn run(
        &self,
        connection: CoordinatorConnection,
        departure: impl Into<Departure>,
    ) -> Ended {
        let departure = departure.into();
        let CoordinatorConnection {
            outgoing,
            incoming,
            exchange,
        } = connection;
        let mut session = Session::new(&self.options, exchange, &self.activity);
        let ended = session.serve(&outgoing, incoming, &departure).await;
        let stopped = session.stop().await;
        self.activity.send_replace(Activity::default());
        match stopped {
            Ok(()) => ended,
            Err(failure) => Ended::Stuck(failure),
        }
    }
}

#[cfg(test)]
mod tests;
