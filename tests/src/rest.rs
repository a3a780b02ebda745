//! Asks a coordinator's REST interface.

use std::time::Duration;

use millstream_types::api::{CheckpointList, JobStatus, StopRequest};
use serde::de::DeserializeOwned;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub enum RestError {
    /// Nobody answers, or not in time.
    Unreachable(String),
    /// The answer has this status; its body.
    Refused(u16, String),
}

/// A coordinator's REST interface.
#[derive(Debug, Clone)]
pub struct Rest {
    agent: ureq::Agent,
    base: String,
}

impl Rest {
    /// The interface at `host:port`.
    pub fn new(address: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.new_agent(),
            base: format!("http://{address}"),
        }
    }

    /// `GET /v1/job`
    ///
    /// # Errors
    /// Nobody answers, or the answer is not one of success.
    pub fn job(&self) -> Result<JobStatus, RestError> {
        self.get("/v1/job").map(|text| parse(&text))
    }

    /// `GET /v1/checkpoints`
    ///
    /// # Errors
    /// As [`job`](Self::job).
    pub fn checkpoints(&self) -> Result<CheckpointList, RestError> {
        self.get("/v1/checkpoints").map(|text| parse(&text))
    }

    /// `POST /v1/stop`
    ///
    /// # Errors
    /// As [`job`](Self::job).
    pub fn stop(&self, request: &StopRequest) -> Result<(), RestError> {
        let body = serde_json::to_string(request).expect("a request is JSON");
        self.post("/v1/stop", &body).map(drop)
    }

    /// The body of any `GET`.
    ///
    /// # Errors
    /// As [`job`](Self::job).
    pub fn get(&self, path: &str) -> Result<String, RestError> {
        answer(self.agent.get(format!("{}{path}", self.base)).call())
    }

    /// The body of the answer to any `POST` of JSON.
    ///
    /// # Errors
    /// As [`job`](Self::job).
    pub fn post(&self, path: &str, body: &str) -> Result<String, RestError> {
        let request = self.agent.post(format!("{}{path}", self.base));
        answer(request.content_type("application/json").send(body))
    }
}

fn answer(
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<String, RestError> {
    let unreachable = |error: ureq::Error| RestError::Unreachable(error.to_string());
    let mut answer = answer.map_err(unreachable)?;
    let body = answer.body_mut().read_to_string().map_err(unreachable)?;
    if answer.status().is_success() {
        Ok(body)
    } else {
        Err(RestError::Refused(answer.status().as_u16(), body))
    }
}

#[track_caller]
fn parse<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text)
        .unwrap_or_else(|error| panic!("not the documented answer ({error}): {text}"))
}
