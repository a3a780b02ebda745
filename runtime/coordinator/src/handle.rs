//! How others observe a running coordinator and ask it for things.

use std::sync::Arc;

use millstream_types::api::{JobConfiguration, JobGraphReport, SavepointStatus, StopRequest};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::metrics::Metrics;
use crate::{Progress, RequestError, Snapshot};

/// A request with the place for its answer.
#[derive(Debug)]
pub(crate) enum Request {
    /// Take a savepoint.
    Savepoint {
        name: String,
        answer: oneshot::Sender<Result<SavepointStatus, RequestError>>,
    },
    /// How a savepoint stands, also one of an earlier coordinator.
    SavepointStatus {
        name: String,
        answer: oneshot::Sender<Result<Option<SavepointStatus>, RequestError>>,
    },
    /// End the job.
    Stop {
        request: StopRequest,
        answer: oneshot::Sender<Result<(), RequestError>>,
    },
    /// End the job at once.
    Cancel {
        answer: oneshot::Sender<Result<(), RequestError>>,
    },
}

/// Observes a coordinator and asks it for things. Cheap to clone; usable after the coordinator
/// has ended.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(crate) progress: broadcast::Sender<Progress>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) graph: Arc<JobGraphReport>,
    pub(crate) configuration: Arc<JobConfiguration>,
}

impl Handle {
    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// The job's graph, which stays as long as the coordinator.
    pub fn graph(&self) -> &JobGraphReport {
        &self.graph
    }

    /// What the job was started with.
    pub fn configuration(&self) -> &JobConfiguration {
        &self.configuration
    }

    /// Follows what is known. Closed when the coordinator has ended; the last value stays.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// Follows the news from now on.
    pub fn progress(&self) -> broadcast::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Asks for a savepoint and returns how it stands at once: in progress, or the final state of
    /// an earlier request of the same name.
    ///
    /// # Errors
    /// The name is not allowed, the job is ending, the store cannot be asked, or the coordinator
    /// has ended.
    pub async fn savepoint(&self, name: &str) -> Result<SavepointStatus, RequestError> {
        let name = name.to_owned();
        self.ask(|answer| Request::Savepoint { name, answer }).await
    }

    /// How a savepoint stands; `None` if nobody ever asked for it.
    ///
    /// # Errors
    /// The name is not allowed, the store cannot be asked, or the coordinator has ended.
    pub async fn savepoint_status(
        &self,
        name: &str,
    ) -> Result<Option<SavepointStatus>, RequestError> {
        let name = name.to_owned();
        self.ask(|answer| Request::SavepointStatus { name, answer })
            .await
    }

    /// Asks the job to end, with a savepoint or after a last checkpoint. Returns when the request
    /// is taken; [`watch`](Self::watch) shows when it is done.
    ///
    /// # Errors
    /// The savepoint's name is not allowed or taken, another stop is under way, or the
    /// coordinator has ended.
    pub async fn stop(&self, request: StopRequest) -> Result<(), RequestError> {
        self.ask(|answer| Request::Stop { request, answer }).await
    }

    /// Asks the job to end at once, without a checkpoint. Returns when the request is taken.
    ///
    /// # Errors
    /// The job is ending otherwise, or the coordinator has ended.
    pub async fn cancel(&self) -> Result<(), RequestError> {
        self.ask(|answer| Request::Cancel { answer }).await
    }

    /// The coordinator's metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, RequestError>>) -> Request,
    ) -> Result<T, RequestError> {
        let (answer, reply) = oneshot::channel();
        self.requests
            .send(request(answer))
            .await
            .map_err(|_| RequestError::Ended)?;
        reply.await.map_err(|_| RequestError::Ended)?
    }
}
