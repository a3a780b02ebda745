//! The REST interface of a job's coordinator, asked by the IP of its pod.
//!
//! Every question has a deadline, and every answer a bound on its size. What is read is only what
//! the operator needs: a coordinator of another version may say more. [`RuntimeError`] keeps
//! apart what a caller acts on differently: nobody answered ([`RuntimeError::Unreachable`]: whether
//! the request was taken is *unknown*), the coordinator said no, or what it said is no answer.
//!
//! All requests may be repeated: savepoints and stops carry a name that the caller has chosen.

mod answers;

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::text;
use answers::Bounded as _;
use millstream_types::api::{ApiError, CheckpointList};
pub use millstream_types::api::{
    AuditReport, CheckpointFailures, CheckpointState as SavepointProgress,
    CheckpointSummary as CompletedCheckpoint, JobState as RuntimeState, JobStatus as RuntimeStatus,
    ReportedFailure as RuntimeFailure, SavepointStatus as RuntimeSavepoint,
};

/// How long a coordinator may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// Longest answer that is read, bytes. A status of a job with 1,000 operators has about 200 KiB.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Longest path that is taken for one, bytes.
const PATH_BYTES_MAX: usize = 1_024;
/// How long an unused connection stays open: longer than the interval between two looks at a job
/// that something is awaited of, shorter than the one between two looks at a job that just runs.
const IDLE: Duration = Duration::from_secs(3);
/// Port of a coordinator's REST interface.
const PORT: u16 = millstream_crds::contract::PORT_COORDINATOR;

/// Why a coordinator could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// Nobody answered in time. A request that should change something may have been taken.
    #[error("the coordinator at {address} does not answer: {reason}")]
    Unreachable {
        /// Who was asked.
        address: String,
        /// What the network said.
        reason: String,
    },
    /// 409: the request does not fit what the job is doing, or the savepoint exists already.
    #[error("the coordinator refuses: {message}")]
    Conflict {
        /// Code with a page in `docs/errors/`, where there is one.
        code: Option<String>,
        /// Why.
        message: String,
    },
    /// 410: this coordinator has ended; its successor must be asked.
    #[error("the coordinator has ended: {message}")]
    Gone {
        /// What it said.
        message: String,
    },
    /// 404: there is no such savepoint or checkpoint.
    #[error("the coordinator knows nothing of it: {message}")]
    NotFound {
        /// What it said.
        message: String,
    },
    /// Any other answer that is not a success.
    #[error("the coordinator answers {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Code with a page in `docs/errors/`, where there is one.
        code: Option<String>,
        /// What it said.
        message: String,
    },
    /// What came is no answer to the question: something else listens there, or a coordinator of
    /// a version that this operator does not know.
    #[error("the coordinator at {address} answers what is not understood: {reason}")]
    Malformed {
        /// Who was asked.
        address: String,
        /// What is wrong with the answer.
        reason: String,
    },
}

/// Asks coordinators. Cheap to clone; all clones share their connections.
#[derive(Debug, Clone)]
pub struct RuntimeClient {
    http: Client<HttpConnector, Full<Bytes>>,
    port: u16,
}

impl Default for RuntimeClient {
    fn default() -> Self {
        Self::new()
    }
}

impl RuntimeClient {
    /// A client for coordinators that listen where the operator's pods do.
    pub fn new() -> Self {
        Self::with_port(PORT)
    }

    /// A client for coordinators that listen on another port.
    pub fn with_port(port: u16) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(DEADLINE));
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(1)
            .build(connector);
        Self { http, port }
    }

    /// What the job is doing.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn status(&self, ip: &str) -> Result<RuntimeStatus, RuntimeError> {
        let status: RuntimeStatus = self.get(ip, "/v1/job").await?;
        let newest = status.last_checkpoint.as_ref();
        let newest = newest.and_then(|one| one.path.as_ref());
        self.check_paths(ip, [status.restored_from.as_ref(), newest])?;
        Ok(status.bounded())
    }

    /// Stops the job: with a savepoint of that name, or after a last checkpoint. The answer means
    /// that the request was taken, not that the job has stopped.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn stop(&self, ip: &str, savepoint: Option<&str>) -> Result<(), RuntimeError> {
        let body = savepoint.map_or_else(|| json!({}), |name| json!({ "savepoint": name }));
        self.post(ip, "/v1/stop", &body).await.map(drop)
    }

    /// Asks for a savepoint of that name, and says how it stands now.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn savepoint(&self, ip: &str, name: &str) -> Result<RuntimeSavepoint, RuntimeError> {
        let answer = self
            .post(ip, "/v1/savepoints", &json!({ "name": name }))
            .await?;
        self.savepoint_of(ip, self.parse(ip, &answer)?)
    }

    fn savepoint_of(
        &self,
        ip: &str,
        savepoint: RuntimeSavepoint,
    ) -> Result<RuntimeSavepoint, RuntimeError> {
        self.check_paths(ip, [savepoint.path.as_ref(), None])?;
        Ok(savepoint.bounded())
    }

    /// Paths go into statuses, which are bounded; a path cannot be cut.
    fn check_paths(&self, ip: &str, paths: [Option<&String>; 2]) -> Result<(), RuntimeError> {
        let longest = paths.into_iter().flatten().map(String::len).max();
        match longest {
            Some(length) if length > PATH_BYTES_MAX => Err(RuntimeError::Malformed {
                address: self.address(ip),
                reason: format!("a path of {length} bytes, where {PATH_BYTES_MAX} are the most"),
            }),
            _ => Ok(()),
        }
    }

    /// How a savepoint stands, also one of an earlier coordinator of the job.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] if nobody has asked for it; others as in [`RuntimeError`].
    pub async fn savepoint_status(
        &self,
        ip: &str,
        name: &str,
    ) -> Result<RuntimeSavepoint, RuntimeError> {
        let savepoint = self.get(ip, &format!("/v1/savepoints/{name}")).await?;
        self.savepoint_of(ip, savepoint)
    }

    /// Bytes of everything that a savepoint names; `None` once the coordinator has forgotten it
    /// or if it does not say.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn savepoint_size(&self, ip: &str, name: &str) -> Result<Option<u64>, RuntimeError> {
        let list: CheckpointList = self.get(ip, "/v1/checkpoints").await?;
        let path_end = format!("/{name}");
        let of_name = |path: &str| path.trim_end_matches('/').ends_with(&path_end);
        Ok(list
            .checkpoints
            .into_iter()
            .find(|one| one.path.as_deref().is_some_and(of_name))
            .and_then(|one| one.size_bytes))
    }

    /// What became of the records.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn audit(&self, ip: &str) -> Result<AuditReport, RuntimeError> {
        let report: AuditReport = self.get(ip, "/v1/audit").await?;
        Ok(report.bounded())
    }

    async fn get<T: DeserializeOwned>(&self, ip: &str, path: &str) -> Result<T, RuntimeError> {
        let answer = self.ask(ip, Method::GET, path, Bytes::new()).await?;
        self.parse(ip, &answer)
    }

    async fn post(
        &self,
        ip: &str,
        path: &str,
        body: &serde_json::Value,
    ) -> Result<Bytes, RuntimeError> {
        self.ask(ip, Method::POST, path, Bytes::from(body.to_string()))
            .await
    }

    fn parse<T: DeserializeOwned>(&self, ip: &str, answer: &[u8]) -> Result<T, RuntimeError> {
        serde_json::from_slice(answer).map_err(|error| RuntimeError::Malformed {
            address: self.address(ip),
            reason: error.to_string(),
        })
    }

    fn address(&self, ip: &str) -> String {
        match ip.parse() {
            Ok(IpAddr::V6(six)) => format!("[{six}]:{}", self.port),
            _ => format!("{ip}:{}", self.port),
        }
    }

    async fn ask(
        &self,
        ip: &str,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, RuntimeError> {
        let unreachable = |reason: String| RuntimeError::Unreachable {
            address: self.address(ip),
            reason,
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address(ip)))
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| unreachable(error.to_string()))?;
        match tokio::time::timeout(DEADLINE, self.exchange(request)).await {
            Err(_) => Err(unreachable(format!("no answer within {DEADLINE:?}"))),
            Ok(Err(reason)) => Err(unreachable(reason)),
            Ok(Ok((status, answer))) if status.is_success() => Ok(answer),
            Ok(Ok((status, answer))) => Err(refusal(status, &answer)),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String> {
        let response = self
            .http
            .request(request)
            .await
            .map_err(|error| chain(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let collected = body.collect().await.map_err(|error| error.to_string())?;
        Ok((status, collected.to_bytes()))
    }
}

/// An error with its causes: the first one alone says only "client error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Longest text of an answer without a JSON body that is passed on, characters.
const RAW_MESSAGE_MAX: usize = 200;

fn refusal(status: StatusCode, answer: &[u8]) -> RuntimeError {
    let refusal = serde_json::from_slice(answer).unwrap_or_else(|_| ApiError {
        code: None,
        message: String::from_utf8_lossy(answer)
            .chars()
            .take(RAW_MESSAGE_MAX)
            .collect(),
    });
    let ApiError { code, message } = refusal;
    let message = text::cut(message, answers::TEXT_BYTES_MAX);
    match status {
        StatusCode::CONFLICT => RuntimeError::Conflict { code, message },
        StatusCode::GONE => RuntimeError::Gone { message },
        StatusCode::NOT_FOUND => RuntimeError::NotFound { message },
        other => RuntimeError::Refused {
            status: other.as_u16(),
            code,
            message,
        },
    }
}

#[cfg(test)]
mod tests;
