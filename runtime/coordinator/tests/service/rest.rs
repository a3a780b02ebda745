use millstream_coordinator::{Restore, rest};
use millstream_types::api::{
    ApiError, CheckpointDetail, CheckpointList, CheckpointState, JobGraphReport, JobState,
    JobStatus, SavepointStatus,
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
        let mut stream = TcpStream::connect(&self.address).await.unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\
             content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
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
        (status, body.to_owned())
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
