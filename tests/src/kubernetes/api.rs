//! The Kubernetes API as JSON over HTTP, by the paths of its documentation.

use std::time::Duration;

use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(30);

/// How a patch is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch<'a> {
    /// JSON merge patch.
    Merge,
    /// Server-side apply by this manager.
    Apply(&'a str),
}

/// What the API said to a request that it did not carry out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Status of HTTP.
    pub status: u16,
    /// Its words.
    pub message: String,
}

/// The API behind `kubectl proxy`.
#[derive(Debug, Clone)]
pub struct Api {
    agent: ureq::Agent,
    base: String,
}

impl Api {
    pub(super) fn new(address: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.new_agent(),
            base: format!("http://{address}"),
        }
    }

    /// One object, if it is there.
    #[track_caller]
    pub fn get(&self, path: &str) -> Option<Value> {
        match answer(self.agent.get(self.url(path)).call()) {
            Ok(object) => Some(object),
            Err(Refused { status: 404, .. }) => None,
            Err(refused) => panic!("GET {path}: {refused:?}"),
        }
    }

    /// The objects of a collection.
    #[track_caller]
    pub fn list(&self, path: &str) -> Vec<Value> {
        let mut list = self.get(path).unwrap_or_default();
        match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }

    /// Creates an object in a collection.
    ///
    /// # Errors
    /// The API refused it.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value, Refused> {
        let request = self.agent.post(self.url(path));
        answer(
            request
                .content_type("application/json")
                .send(object.to_string()),
        )
    }

    /// Changes an object.
    ///
    /// # Errors
    /// The API refused it.
    pub fn patch(&self, path: &str, kind: Patch<'_>, change: &Value) -> Result<Value, Refused> {
        let (content_type, query) = match kind {
            Patch::Merge => ("application/merge-patch+json", String::new()),
            Patch::Apply(manager) => (
                "application/apply-patch+yaml",
                format!("?fieldManager={manager}&force=true"),
            ),
        };
        let request = self.agent.patch(self.url(&format!("{path}{query}")));
        answer(request.content_type(content_type).send(change.to_string()))
    }

    /// Deletes an object; whether it was there.
    #[track_caller]
    pub fn delete(&self, path: &str) -> bool {
        match answer(self.agent.delete(self.url(path)).call()) {
            Ok(_) => true,
            Err(Refused { status: 404, .. }) => false,
            Err(refused) => panic!("DELETE {path}: {refused:?}"),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

fn answer(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Refused> {
    let failed = |error: ureq::Error| Refused {
        status: 0,
        message: error.to_string(),
    };
    let mut answer = answer.map_err(failed)?;
    let status = answer.status();
    let body = answer
        .body_mut()
        .with_config()
        .limit(256 << 20)
        .read_to_string()
        .map_err(failed)?;
    let body: Value = serde_json::from_str(&body).unwrap_or(Value::String(body));
    if status.is_success() {
        Ok(body)
    } else {
        let message = body["message"]
            .as_str()
            .map_or_else(|| body.to_string(), str::to_owned);
        Err(Refused {
            status: status.as_u16(),
            message,
        })
    }
}
