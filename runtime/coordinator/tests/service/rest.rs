use std::collections::BTreeSet;

use millstream_coordinator::{Restore, rest};
use millstream_types::ErrorCode;
use millstream_types::api::{
    ApiError, CheckpointDetail, CheckpointList, CheckpointState, FailureList, JobConfiguration,
    JobGraphReport, JobState, JobStatus, SavepointStatus,
};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::scenario::{DEADLINE, Running, Scenario};
use crate::worker::TestWorker;

/// A served interface of a running job.
struct Served {
    address: String,
    running: Running,
    worker: Option<TestWorker>,
    server: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the handle owns the task and aborts it"
)]
async fn serve(scenario: &Scenario, with_worker: bool) -> Served {
    let running = scenario.start(Restore::Latest);
    let worker = if with_worker {
        let worker = scenario.worker("a", 2, &running).await;
        running.wait_for_checkpoints(2).await;
        Some(worker)
    } else {
        running.wait_for_state(JobState::WaitingForWorkers).await;
        None
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = rest::router(&running.handle);
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Served {
        address,
        running,
        worker,
        server,
    }
}

impl Served {
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.ask_as(method, path, body, "application/json").await
    }

    async fn ask_as(&self, method: &str, path: &str, body: &str, kind: &str) -> (u16, String) {
        let header = format!("content-type: {kind}");
        let (status, _, body) = self.exchange(method, path, body, &header).await;
        (status, body)
    }

    /// Sends a request with one more header. Status, headers and body of the answer.
    async fn exchange(
        &self,
        method: &str,
        path: &str,
        body: &str,
        header: &str,
    ) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             {header}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(DEADLINE, stream.read_to_string(&mut answer))
            .await
            .unwrap()
            .unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        let (status, body) = self.ask("GET", path, "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn refused(&self, method: &str, path: &str, body: &str) -> (u16, ApiError) {
        let (status, body) = self.ask(method, path, body).await;
        (
            status,
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")),
        )
    }
}

#[tokio::test]
async fn a_running_job_can_be_looked_at() {
    let scenario = Scenario::default();
    let served = serve(&scenario, true).await;
    let job: JobStatus = served.get("/v1/job").await;
    assert_eq!((job.state, job.workers.len()), (JobState::Running, 1));
    let list: CheckpointList = served.get("/v1/checkpoints").await;
    assert!(list.counts.completed >= 2);
    let newest = list
        .checkpoints
        .iter()
        .find(|summary| summary.state == CheckpointState::Completed)
        .unwrap();
    let detail: CheckpointDetail = served.get(&format!("/v1/checkpoints/{}", newest.id)).await;
    assert_eq!((detail.acknowledged, detail.tasks), (2, 2));
    let parts: BTreeSet<_> = detail.subtasks.iter().map(|it| it.subtask.0).collect();
    assert_eq!(parts, BTreeSet::from([0, 1]));
    let parts = || detail.subtasks.iter();
    assert!(parts().all(|part| Some(part.acknowledged_after_ms) <= newest.duration_ms));
    assert!(parts().all(|part| part.state_size.is_none()), "no state");
    assert!(detail.operators.len() >= 2);
    let audit: millstream_types::api::AuditReport = served.get("/v1/audit").await;
    assert!(audit.checkpoint.is_some());
    let document: serde_json::Value = served.get("/v1/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(
        served.ask("GET", "/healthz", "").await,
        (200, "ok\n".to_owned())
    );
    assert_eq!(
        served.ask("GET", "/readyz", "").await,
        (200, "ok\n".to_owned())
    );
    let (status, metrics) = served.ask("GET", "/metrics", "").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("millstream_job_state"));
}

#[tokio::test]
async fn how_busy_every_task_is_can_be_seen() {
    let scenario = Scenario::default();
    let served = serve(&scenario, true).await;
    let running = &served.running;
    running
        .wait_for("measured tasks", |snapshot| {
            let tasks = &snapshot.job.tasks;
            !tasks.is_empty() && tasks.iter().all(|task| task.load.is_some())
        })
        .await;
    let job: JobStatus = served.get("/v1/job").await;
    assert_eq!(job.tasks.len(), 2);
    let task = &job.tasks[1];
    assert_eq!((task.vertex.0, task.subtask.0), (0, 1));
    assert_eq!(task.worker, "a");
    let load = task.load.as_ref().unwrap();
    assert_eq!((load.busy, load.backpressured, load.idle), (700, 250, 50));
    let (_, metrics) = served.ask("GET", "/metrics", "").await;
    let value = |name: &str| {
        let mut lines = metrics.lines();
        let is_it = |line: &&str| {
            let labels = [&task.operators[0].0, "1"].map(|label| format!("=\"{label}\""));
            line.starts_with(&format!("{name}{{")) && labels.iter().all(|one| line.contains(one))
        };
        lines.find(is_it).and_then(|line| line.rsplit(' ').next())
    };
    assert_eq!(value("millstream_task_busy_ratio"), Some("0.7"));
    assert_eq!(value("millstream_task_backpressured_ratio"), Some("0.25"));
    assert_eq!(value("millstream_task_idle_ratio"), Some("0.05"));
    assert_eq!(
        value("millstream_task_watermark_timestamp_seconds"),
        Some("1.5")
    );
    assert_eq!(value("millstream_channel_queue_ratio"), Some("0.5"));
    assert_eq!(value("millstream_channel_alignment_seconds"), Some("0.04"));
}

#[tokio::test]
async fn how_long_tasks_waited_for_barriers_is_told_of_the_checkpoint_that_it_was() {
    let scenario = Scenario::default();
    let served = serve(&scenario, true).await;
    let running = &served.running;
    let aligned = |detail: &CheckpointDetail| {
        let parts = detail.subtasks.iter();
        parts.filter(|part| part.alignment_ms == Some(40)).count()
    };
    running
        .wait_for("a checkpoint whose tasks have told", |snapshot| {
            snapshot.checkpoints.iter().any(|one| aligned(one) == 2)
        })
        .await;
}

#[tokio::test]
async fn what_a_job_was_started_with_can_be_read() {
    let scenario = Scenario::default();
    let served = serve(&scenario, false).await;
    let configuration: JobConfiguration = served.get("/v1/job/config").await;
    assert_eq!(configuration.parallelism, 2);
    assert!(configuration.job.contains("kind: StreamJob"));
    assert_eq!(configuration.checkpoint["retained"], 3, "a default");
    assert!(!configuration.restart.is_empty());
    let graph: JobGraphReport = served.get("/v1/job/graph").await;
    let kinds: Vec<_> = graph.nodes.iter().map(|node| node.kind.as_str()).collect();
    assert_eq!(kinds, ["source", "sink"]);
    assert!(graph.nodes.iter().all(|node| node.connector.is_some()));
}

#[tokio::test]
async fn failures_are_told_with_their_page_and_what_followed() {
    let scenario = Scenario::default();
    let mut served = serve(&scenario, true).await;
    let none: FailureList = served.get("/v1/job/failures").await;
    assert_eq!(none.failures, []);
    served.worker = None;
    served
        .running
        .wait_for("a restart", |snapshot| !snapshot.failures.is_empty())
        .await;
    let list: FailureList = served.get("/v1/job/failures").await;
    let failure = &list.failures[0];
    assert_eq!((failure.page.as_str(), failure.attempt.0), ("MS0501", 1));
    assert_eq!(failure.failure.code, ErrorCode::WorkerLost);
    assert!(failure.restart_delay_ms.is_some());
}

#[tokio::test]
async fn the_console_is_served_with_a_strict_policy_and_has_all_it_names() {
    let scenario = Scenario::default();
    let served = serve(&scenario, false).await;
    let (status, head, page) = served.exchange("GET", "/", "", "accept: text/html").await;
    assert_eq!(status, 200);
    assert!(head.contains("content-type: text/html"), "{head}");
    let policy =
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self';";
    assert!(head.contains(policy), "{head}");
    let named: BTreeSet<_> = page
        .split('"')
        .filter(|it| it.starts_with("console/"))
        .collect();
    assert!(named.len() > 10, "{named:?}");
    for file in named {
        let (status, head, body) = served
            .exchange("GET", &format!("/{file}"), "", "accept: */*")
            .await;
        assert_eq!(status, 200, "{file}");
        assert!(head.contains("x-content-type-options: nosniff"), "{head}");
        // Modules name each other.
        for other in body.split("from './").skip(1) {
            let other = other.split('\'').next().unwrap();
            let (status, _) = served.ask("GET", &format!("/console/{other}"), "").await;
            assert_eq!(status, 200, "{file} names {other}");
        }
    }
    assert_eq!(served.refused("GET", "/console/x.js", "").await.0, 404);
    for named in ["MS0501", "WorkerLost"] {
        let (status, page) = served
            .ask("GET", &format!("/console/errors/{named}"), "")
            .await;
        assert_eq!(status, 200);
        assert!(page.starts_with("# MS0501 WorkerLost\n"), "{page}");
    }
    assert_eq!(
        served.refused("GET", "/console/errors/MS9", "").await.0,
        404
    );
}

#[tokio::test]
async fn pages_of_other_sites_may_not_change_anything() {
    let scenario = Scenario::default();
    let served = serve(&scenario, false).await;
    for path in ["/v1/cancel", "/v1/stop", "/v1/savepoints"] {
        let other = "origin: http://example.com";
        let (status, _, body) = served.exchange("POST", path, "{}", other).await;
        assert_eq!(status, 403, "{path}: {body}");
        assert!(body.contains("another site"), "{body}");
    }
    let own = "content-type: application/json\r\norigin: http://test";
    let (status, _, body) = served
        .exchange("POST", "/v1/savepoints", r#"{"name":"own"}"#, own)
        .await;
    assert_eq!(status, 202, "{body}");
    let job: JobStatus = served.get("/v1/job").await;
    assert_eq!(job.state, JobState::WaitingForWorkers);
}

#[tokio::test]
async fn the_graph_has_vertices_and_edges_with_their_partitioning() {
    let scenario = Scenario::default();
    let served = serve(&scenario, false).await;
    let graph: JobGraphReport = served.get("/v1/job/graph").await;
    let nodes: Vec<_> = graph.vertices.iter().map(|it| it.operators.len()).collect();
    assert_eq!(nodes, [2], "source and sink are one chain");
    assert_eq!(graph.vertices[0].parallelism, 2);
    let edges: Vec<_> = graph
        .edges
        .iter()
        .map(|it| it.partitioning.as_str())
        .collect();
    assert_eq!(edges, ["forward"]);

    let text = "
apiVersion: millstream.dev/v1alpha1
kind: StreamJob
metadata: {name: keyed}
spec:
  checkpoint: {storage: 'file:///tmp/keyed'}
  dataflow:
    sources: [{name: orders, generator: {}}]
    sinks:
    - {name: out, input: orders, partitionBy: [customer_id], blackhole: {}}
    - {name: wide, input: orders, parallelism: 4, blackhole: {}}
";
    let job = millstream_spec::read(text, "keyed.yaml").unwrap();
    let graph = millstream_plan::plan(&job).unwrap();
    let report = millstream_coordinator::topology::report(&graph, 3);
    let parallelism: Vec<_> = report.vertices.iter().map(|it| it.parallelism).collect();
    assert_eq!(parallelism, [3, 3, 4]);
    let edges: Vec<_> = report
        .edges
        .iter()
        .map(|it| (it.partitioning.as_str(), it.partition_by.join(",")))
        .collect();
    let expected = [("hash", "customer_id"), ("rebalance", "")];
    assert_eq!(edges, expected.map(|(of, by)| (of, by.to_owned())));
}

#[tokio::test]
async fn a_waiting_job_is_alive_and_not_ready() {
    let scenario = Scenario::default();
    let served = serve(&scenario, false).await;
    assert_eq!(served.ask("GET", "/healthz", "").await.0, 200);
    let (status, error) = served.refused("GET", "/readyz", "").await;
    assert_eq!(status, 503);
    assert!(
        error.message.contains("WaitingForWorkers"),
        "{}",
        error.message
    );
}

#[tokio::test]
async fn a_savepoint_is_taken_and_the_job_stopped() {
    let scenario = Scenario::default();
    let mut served = serve(&scenario, true).await;
    let (status, body) = served
        .ask("POST", "/v1/savepoints", r#"{"name":"s1"}"#)
        .await;
    assert_eq!(status, 202, "{body}");
    served
        .running
        .wait_for("the savepoint", |snapshot| {
            snapshot.savepoints["s1"].state == CheckpointState::Completed
        })
        .await;
    let savepoint: SavepointStatus = served.get("/v1/savepoints/s1").await;
    assert!(savepoint.path.is_some());
    let (status, body) = served
        .ask("POST", "/v1/stop", r#"{"savepoint":"s2"}"#)
        .await;
    assert_eq!(status, 202, "{body}");
    served.running.wait_for_state(JobState::Stopped).await;
    let job: JobStatus = served.get("/v1/job").await;
    assert!(job.message.contains("savepoints/s2"), "{}", job.message);
    let (status, error) = served.refused("POST", "/v1/stop", "{}").await;
    assert_eq!(status, 410, "{}", error.message);
    served.worker = None;
}

#[tokio::test]
async fn wrong_requests_are_answered_with_what_is_wrong() {
    let scenario = Scenario::default();
    let served = serve(&scenario, false).await;
    for (method, path, body, expected, says) in [
        ("GET", "/v1/nothing", "", 404, "/v1/nothing"),
        ("DELETE", "/v1/job", "", 405, "DELETE"),
        ("GET", "/v1/stop", "", 405, "GET"),
        ("GET", "/v1/checkpoints/x", "", 400, "x"),
        ("GET", "/v1/checkpoints/999", "", 404, "999"),
        ("GET", "/v1/savepoints/never", "", 404, "never"),
        ("GET", "/v1/savepoints/A", "", 400, "lower-case"),
        ("POST", "/v1/savepoints", "{", 400, "EOF"),
        ("POST", "/v1/savepoints", "{}", 422, "name"),
        ("POST", "/v1/savepoints", r#"{"name":"a/b"}"#, 400, "a/b"),
        (
            "POST",
            "/v1/savepoints",
            r#"{"name":"a","x":1}"#,
            422,
            "unknown field `x`",
        ),
        (
            "POST",
            "/v1/stop",
            r#"{"savepoint":"A"}"#,
            400,
            "lower-case",
        ),
        ("POST", "/v1/stop", r#"{"drian":true}"#, 422, "drian"),
    ] {
        let (status, error) = served.refused(method, path, body).await;
        assert_eq!(
            status, expected,
            "{method} {path} {body}: {}",
            error.message
        );
        assert!(
            error.message.contains(says),
            "{method} {path} {body}: {}",
            error.message
        );
    }
    let (status, body) = served.ask_as("POST", "/v1/stop", "{}", "text/plain").await;
    assert_eq!(status, 415, "{body}");
    let error: ApiError = serde_json::from_str(&body).unwrap();
    for part in [
        "-H 'Content-Type: application/json' -d '{}'",
        "takes the defaults",
        "GET /v1/openapi.json",
    ] {
        assert!(error.message.contains(part), "{}", error.message);
    }
}
