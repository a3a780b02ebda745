//! The shell: owns the channels, reads facts, asks the job's state machine, carries out its
//! commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::Attempt;
use millstream_types::api::{CheckpointCounts, JobState, JobStatus};
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::handle::Request;
use crate::{Audit, Handle, Options, Outcome, Snapshot, WorkerConnection};

/// Requests that may wait for the coordinator: it answers each within one turn of its loop.
const REQUESTS_CAPACITY: usize = 64;
/// News that a slow progress display may lag behind before it misses some.
const PROGRESS_CAPACITY: usize = 256;

/// A coordinator that is ready to run.
#[derive(Debug)]
pub struct Coordinator {
    options: Options,
    workers: mpsc::Receiver<WorkerConnection>,
    requests: mpsc::Receiver<Request>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    progress: broadcast::Sender<crate::Progress>,
}

impl Coordinator {
    /// Makes a coordinator and the handle to it. Workers arrive over `workers`; nothing happens
    /// before [`run`](Self::run).
    pub fn new(options: Options, workers: mpsc::Receiver<WorkerConnection>) -> (Self, Handle) {
        let (request_sender, requests) = mpsc::channel(REQUESTS_CAPACITY);
        let (snapshot, snapshot_receiver) = watch::channel(Arc::new(first_snapshot(&options)));
        let (progress, _) = broadcast::channel(PROGRESS_CAPACITY);
        let handle = Handle {
            requests: request_sender,
            snapshot: snapshot_receiver,
            progress: progress.clone(),
        };
        let coordinator = Self {
            options,
            workers,
            requests,
            snapshot,
            progress,
        };
        (coordinator, handle)
    }

    /// Runs the job until it ends, is given up, is taken over by a newer coordinator, or
    /// `shutdown` is cancelled.
    pub async fn run(self, shutdown: CancellationToken) -> Outcome {
        shutdown.cancelled().await;
        Outcome::Interrupted
    }
}

fn first_snapshot(options: &Options) -> Snapshot {
    Snapshot {
        job: JobStatus {
            job: options.job.id.clone(),
            state: JobState::Restoring,
            since: options.clock.now(),
            attempt: Attempt(0),
            restarts: 0,
            parallelism: options.job.parallelism,
            workers: Vec::new(),
            restored_from: None,
            last_checkpoint: None,
            operators: BTreeMap::new(),
            last_failure: None,
            message: "starts".to_owned(),
        },
        counts: CheckpointCounts::default(),
        checkpoints: Vec::new(),
        savepoints: BTreeMap::new(),
        audit: Audit::default(),
    }
}
