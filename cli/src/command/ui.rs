//! `ui`: the console of a job's coordinator, at an address of this machine.
//!
//! Each request goes through the API server's proxy to the coordinator's pod, with the rights of whoever
//! has started the command. So nothing breaks when the coordinator is replaced, and what a page may do is
//! what its reader may do: it is refused a savepoint where Kubernetes refuses `create` on `pods/proxy`.

use std::io::IsTerminal as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use millstream_crds::contract::PORT_COORDINATOR;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use super::gather::coordinator_pod;
use crate::arguments::UiOptions;
use crate::cluster::Cluster;
use crate::exit::{Exit, note, print};
use crate::problem::Problem;

/// Longest request: that of a savepoint has a name in it.
const REQUEST_MAX: usize = 4_096;
/// Of an answer of the coordinator, what the browser is told.
const PASSED_ON: [header::HeaderName; 5] = [
    header::CACHE_CONTROL,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::DATE,
    header::X_CONTENT_TYPE_OPTIONS,
];

/// A job whose console is served.
struct Served {
    cluster: Cluster,
    job: String,
    /// Where it is served: `127.0.0.1:PORT`.
    address: String,
    /// The pod that has answered last.
    pod: Mutex<Option<String>>,
}

/// Serves the console of a job until it is interrupted.
///
/// # Errors
/// There is no such job, no coordinator of it, or the port is taken.
pub async fn run(cluster: Cluster, options: &UiOptions) -> Result<Exit, Problem> {
    let job = options.name.job.clone();
    cluster.job(&job).await?;
    let pod = newest_pod(&cluster, &job).await?;
    let listener = listen(options.port).await?;
    let address = listener.local_addr().map_err(|error| not_served(&error))?;
    let served = Served {
        cluster,
        job,
        address: address.to_string(),
        pod: Mutex::new(Some(pod)),
    };
    let url = format!("http://{address}/");
    print(&format!("{url}\n"))?;
    note("Ctrl-C ends it.\n");
    if !options.no_open && std::io::stdout().is_terminal() {
        open(&url);
    }
    let routes = Router::new().fallback(forward).with_state(Arc::new(served));
    axum::serve(listener, routes)
        .await
        .map_err(|error| not_served(&error))?;
    Ok(Exit::Done)
}

async fn listen(port: u16) -> Result<TcpListener, Problem> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await;
    listener.map_err(|error| not_served(&error))
}

fn not_served(error: &std::io::Error) -> Problem {
    Problem::System {
        what: "the console cannot be served on this machine; try another `--port`".to_owned(),
        reason: error.to_string(),
    }
}

async fn newest_pod(cluster: &Cluster, job: &str) -> Result<String, Problem> {
    let pods = cluster.pods(job).await?;
    coordinator_pod(&pods).ok_or_else(|| Problem::System {
        what: format!("no coordinator of `{job}` runs"),
        reason: format!("`kubectl streamjob status {job}` says what it waits for"),
    })
}

/// Opens an address in the reader's browser, where there is one. The address is printed anyway.
fn open(url: &str) {
    let program = if cfg!(target_os = "macos") {
        "open"
    } else {
        "xdg-open"
    };
    let mut command = Command::new(program);
    let command = command.arg(url).stdin(Stdio::null());
    drop(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn());
}

async fn forward(State(served): State<Arc<Served>>, request: Request) -> Response {
    if let Err(refusal) = may_pass(&served.address, &request) {
        return answer(StatusCode::FORBIDDEN, refusal);
    }
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let Ok(body) = axum::body::to_bytes(body, REQUEST_MAX).await else {
        return answer(StatusCode::PAYLOAD_TOO_LARGE, "the request is too long");
    };
    match served.ask(head.method, &path, body).await {
        Ok(response) => response,
        Err(problem) => answer(StatusCode::BAD_GATEWAY, &problem.to_string()),
    }
}

impl Served {
    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Response, Problem> {
        let mut known = self.pod.lock().await;
        let pod = match known.take() {
            Some(pod) => pod,
            None => newest_pod(&self.cluster, &self.job).await?,
        };
        *known = Some(pod.clone());
        drop(known);
        let answered = self
            .cluster
            .pass_on(&pod, PORT_COORDINATOR, method, path, body.to_vec())
            .await;
        let is_gone = match &answered {
            Ok(response) => {
                response.status().is_server_error() || response.status() == StatusCode::NOT_FOUND
            }
            Err(_) => true,
        };
        if is_gone {
            // The pod may have been replaced: the next request looks for it.
            self.pod.lock().await.take();
        }
        let (mut head, body) = answered?.into_parts();
        let mut headers = HeaderMap::new();
        for name in PASSED_ON {
            if let Some(value) = head.headers.remove(&name) {
                headers.insert(name, value);
            }
        }
        Ok((head.status, headers, Body::new(body)).into_response())
    }
}

fn answer(status: StatusCode, message: &str) -> Response {
    (
        status,
        axum::Json(json!({"code": null, "message": message})),
    )
        .into_response()
}

/// Lets only the console through, and only for its own page: a name of another site that leads here, or a
/// page of another site, would act with the rights of the reader.
fn may_pass(address: &str, request: &Request) -> Result<(), &'static str> {
    let port = address.rsplit(':').next().unwrap_or_default();
    let own = [address.to_owned(), format!("localhost:{port}")];
    let text = |name| {
        let value = request.headers().get(name);
        value.map(|value| value.to_str().unwrap_or_default())
    };
    let is_own = |authority: &str| own.iter().any(|one| one == authority);
    if !text(header::HOST).is_some_and(is_own) {
        return Err("the console is at 127.0.0.1 and localhost only");
    }
    let origin =
        text(header::ORIGIN).map(|origin| origin.strip_prefix("http://").unwrap_or_default());
    if !origin.is_none_or(is_own) {
        return Err("a page of another site may not use the console");
    }
    let path = request.uri().path();
    let is_console = path == "/" || path.starts_with("/console/") || path.starts_with("/v1/");
    match *request.method() {
        Method::GET if is_console && !path.contains("..") => Ok(()),
        Method::POST if path == "/v1/savepoints" => Ok(()),
        _ => Err("the console does not use this"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, host: &str, origin: Option<&str>) -> Request {
        let mut request = http::Request::builder().method(method).uri(path);
        request = request.header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn only_what_the_console_does_passes() {
        let here = "127.0.0.1:7000";
        let passes = |method, path| may_pass(here, &request(method, path, here, None)).is_ok();
        for path in ["/", "/console/app.js", "/v1/job", "/v1/checkpoints/7"] {
            assert!(passes("GET", path), "{path}");
        }
        assert!(passes("POST", "/v1/savepoints"));
        for (method, path) in [
            ("POST", "/v1/cancel"),
            ("POST", "/v1/stop"),
            ("GET", "/metrics"),
            ("GET", "/console/../../secrets"),
            ("DELETE", "/v1/job"),
        ] {
            assert!(!passes(method, path), "{method} {path}");
        }
    }

    #[test]
    fn only_pages_of_this_machine_pass() {
        let here = "127.0.0.1:7000";
        let passes =
            |host, origin| may_pass(here, &request("GET", "/v1/job", host, origin)).is_ok();
        assert!(passes(here, None));
        assert!(passes("localhost:7000", Some("http://localhost:7000")));
        assert!(!passes("rebound.example:7000", None));
        assert!(!passes(here, Some("http://rebound.example:7000")));
        assert!(!passes(here, Some("null")));
    }
}
