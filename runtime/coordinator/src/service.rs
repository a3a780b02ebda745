//! Drives the job: owns the channels, reads facts, asks the job's state machine, carries out its
//! commands.
//!
//! Everything that waits runs beside the loop and comes back as an event: the reading of each
//! worker's connection, the one operation on the chain that is under way, the looking for splits.
//! The loop itself waits for nothing but the next event.

mod alive;
mod commit;
mod discovery;
mod ending;
mod fleet;
mod keeper;
mod prepare;
pub(crate) mod rehearsal;
mod revisit;
mod rewind;
mod run;
mod savepoints;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::handle::Request;
use crate::job::{Job, Settings};
use crate::metrics::Metrics;
use crate::restart::RestartPolicy;
use crate::topology;
use crate::{Handle, Options, Outcome, Snapshot, WorkerConnection};
use run::Loop;

/// Requests that may wait for the coordinator: it answers each within one turn of its loop.
const REQUESTS_CAPACITY: usize = 64;
/// News that a slow progress display may lag behind before it misses some.
const PROGRESS_CAPACITY: usize = 256;
/// Heartbeats between two looks of a coordinator that waits for workers at its claim.
const LOOK_HEARTBEATS: u32 = 5;

/// A coordinator that is ready to run.
#[derive(Debug)]
pub struct Coordinator {
    options: Options,
    job: Job,
    workers: mpsc::Receiver<WorkerConnection>,
    requests: mpsc::Receiver<Request>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    progress: broadcast::Sender<crate::Progress>,
    metrics: Arc<Metrics>,
}

impl Coordinator {
    /// Makes a coordinator and the handle to it. Workers arrive over `workers`; nothing happens
    /// before [`run`](Self::run).
    pub fn new(options: Options, workers: mpsc::Receiver<WorkerConnection>) -> (Self, Handle) {
        let settings = Settings::new(
            &options.job,
            options.deployment,
            options.job_text.clone(),
            &options.graph,
            options.cancel_timeout,
            Duration::from_millis(options.heartbeat.interval_ms).saturating_mul(LOOK_HEARTBEATS),
        );
        let restart = RestartPolicy::new(options.job.restart.clone());
        let job = Job::new(settings, restart, options.clock.now());
        let (request_sender, requests) = mpsc::channel(REQUESTS_CAPACITY);
        let (snapshot, snapshot_receiver) = watch::channel(Arc::new(job.snapshot()));
        let (progress, _) = broadcast::channel(PROGRESS_CAPACITY);
        let graph = Arc::new(topology::report(&options.graph, options.job.parallelism));
        let metrics = Arc::new(Metrics::new(
            &options.job,
            &graph,
            snapshot_receiver.clone(),
            Arc::clone(&options.clock),
        ));
        let handle = Handle {
            requests: request_sender,
            snapshot: snapshot_receiver,
            progress: progress.clone(),
            metrics: Arc::clone(&metrics),
            graph,
            configuration: Arc::new(options.configuration()),
        };
        let coordinator = Self {
            options,
            job,
            workers,
            requests,
            snapshot,
            progress,
            metrics,
        };
        (coordinator, handle)
    }

    /// Runs the job until it ends, is given up, is taken over by a newer coordinator, or
    /// `shutdown` is cancelled. The latter takes no checkpoint: it is as a crash, and the next
    /// coordinator goes on from the newest checkpoint. To end with one, ask for a
    /// [`stop`](Handle::stop).
    ///
    /// # Cancel safety
    /// Dropping the future is as a crash of the coordinator.
    pub async fn run(self, shutdown: CancellationToken) -> Outcome {
        match Loop::new(self) {
            Ok(run) => Box::pin(run.run(shutdown)).await,
            Err((coordinator, failure)) => {
                // Wrong options: nothing was begun, and nothing is.
                let mut snapshot = coordinator.job.snapshot();
                snapshot.job.state = millstream_types::api::JobState::Failed;
                snapshot.job.message = failure.to_string();
                snapshot.job.last_failure = Some(failure.clone().into());
                coordinator.snapshot.send_replace(Arc::new(snapshot));
                Outcome::Failed(failure)
            }
        }
    }
}
