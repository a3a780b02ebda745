use axum::Router;
use axum::http::StatusCode;
use axum::routing::{any, get};
use millstream_types::CheckpointId;
use tokio::net::TcpListener;

use super::*;

/// A server on a port of its own that answers what the routes say.
struct Server {
    port: u16,
    task: tokio::task::JoinSet<()>,
}

impl Server {
    async fn start(routes: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { port, task }
    }

    fn client(&self) -> RuntimeClient {
        RuntimeClient::with_port(self.port)
    }
}

/// What a coordinator sent that had run for a while.
const STATUS: &str = r#"{
    "job": {"namespace": "default", "name": "orders"}, "state": "Running",
    "since": 1780000000000, "attempt": 3, "restarts": 1, "parallelism": 2, "deployment": 17,
    "workers": [{"worker": "w-1", "slots": 2, "tasks": 4}],
    "restoredFrom": "file:///state/default/orders/checkpoints/7",
    "lastCheckpoint": {"id": 9, "kind": "checkpoint", "state": "Completed", "attempt": 3,
        "triggeredAt": 1780000005000, "durationMs": 120, "sizeBytes": 4096,
        "path": "file:///state/default/orders/checkpoints/9", "failure": null},
    "operators": {"out": {"recordsIn": 7}}, "message": "",
    "lastFailure": {"code": "WorkerLost", "kind": "Retryable", "message": "w-2 is gone"}
}"#;

#[tokio::test]
async fn a_running_coordinator_is_asked_over_http() {
    let server = Server::start(Router::new().route("/v1/job", get(|| async { STATUS }))).await;
    let status = server.client().status("127.0.0.1").await.unwrap();
    assert_eq!(status.state, RuntimeState::Running);
    assert_eq!(status.deployment.map(|one| one.0), Some(17));
    assert_eq!(status.last_checkpoint.map(|one| one.id.0), Some(9));
    assert!(status.operators.is_empty(), "kept only where it is used");
}

#[tokio::test]
async fn refusals_keep_their_kind_and_text() {
    let refuse =
        |status: StatusCode, body: &'static str| any(move || async move { (status, body) });
    let server = Server::start(
        Router::new()
            .route(
                "/v1/savepoints",
                refuse(
                    StatusCode::CONFLICT,
                    r#"{"code": "MS0307", "message": "exists"}"#,
                ),
            )
            .route(
                "/v1/savepoints/{name}",
                refuse(
                    StatusCode::NOT_FOUND,
                    r#"{"code": null, "message": "nobody asked"}"#,
                ),
            )
            .route(
                "/v1/stop",
                refuse(StatusCode::GONE, r#"{"code": null, "message": "over"}"#),
            )
            .route(
                "/v1/audit",
                refuse(StatusCode::BAD_GATEWAY, "upstream is down"),
            ),
    )
    .await;
    let client = server.client();
    assert_eq!(
        client.savepoint("127.0.0.1", "a").await,
        Err(RuntimeError::Conflict {
            code: Some("MS0307".into()),
            message: "exists".into()
        })
    );
    assert_eq!(
        client.savepoint_status("127.0.0.1", "a").await,
        Err(RuntimeError::NotFound {
            message: "nobody asked".into()
        })
    );
    assert_eq!(
        client.stop("127.0.0.1", None).await,
        Err(RuntimeError::Gone {
            message: "over".into()
        })
    );
    assert_eq!(
        client.audit("127.0.0.1").await,
        Err(RuntimeError::Refused {
            status: 502,
            code: None,
            message: "upstream is down".into()
        })
    );
}

#[tokio::test]
async fn what_is_no_status_is_malformed() {
    let server = Server::start(Router::new().route("/v1/job", get(|| async { "<html>" }))).await;
    let error = server.client().status("127.0.0.1").await.unwrap_err();
    assert!(matches!(error, RuntimeError::Malformed { .. }), "{error}");
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let endless = get(|| async { "x".repeat(ANSWER_BYTES_MAX + 1) });
    let server = Server::start(Router::new().route("/v1/job", endless)).await;
    let error = server.client().status("127.0.0.1").await.unwrap_err();
    assert!(matches!(error, RuntimeError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn nobody_there_is_unreachable_with_the_reason() {
    let mut server = Server::start(Router::new()).await;
    let client = server.client();
    server.task.abort_all();
    while server.task.join_next().await.is_some() {}
    let error = client.status("127.0.0.1").await.unwrap_err();
    let RuntimeError::Unreachable { reason, .. } = error else {
        panic!("not unreachable: {error}")
    };
    assert!(reason.contains("refused"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_frozen_is_unreachable_after_the_deadline() {
    let never = get(futures::future::pending::<&str>);
    let server = Server::start(Router::new().route("/v1/job", never)).await;
    let error = server.client().status("127.0.0.1").await.unwrap_err();
    assert!(error.to_string().contains("no answer within 3s"), "{error}");
}

#[tokio::test]
async fn requests_carry_the_names_that_the_caller_chose() {
    let echo = any(|body: String| async move {
        let asked: serde_json::Value = serde_json::from_str(&body).unwrap();
        let name = asked["name"].as_str().unwrap().to_owned();
        format!(r#"{{"name": "{name}", "state": "InProgress", "id": 4, "path": null}}"#)
    });
    let server = Server::start(Router::new().route("/v1/savepoints", echo)).await;
    let savepoint = server
        .client()
        .savepoint("127.0.0.1", "ssp-1")
        .await
        .unwrap();
    assert_eq!(savepoint.name, "ssp-1");
    assert_eq!(
        (savepoint.state, savepoint.id),
        (SavepointProgress::InProgress, Some(CheckpointId(4)))
    );
}

#[test]
fn an_ipv6_address_is_written_in_brackets() {
    let client = RuntimeClient::new();
    assert_eq!(client.address("fd00::7"), "[fd00::7]:8081");
    assert_eq!(client.address("10.0.0.7"), "10.0.0.7:8081");
}

#[tokio::test]
async fn an_answer_of_any_length_fits_into_a_status() {
    let long = "ä".repeat(100_000);
    let mut status: serde_json::Value = serde_json::from_str(STATUS).unwrap();
    for text in ["/message", "/lastFailure/message", "/lastFailure/code"] {
        *status.pointer_mut(text).unwrap() = json!(long);
    }
    let gaps: Vec<&str> = std::iter::repeat_n(long.as_str(), 5).collect();
    let audit = json!({"checkpoint": 1, "gaps": gaps});
    let routes = Router::new()
        .route("/v1/job", get(move || async move { status.to_string() }))
        .route("/v1/audit", get(move || async move { audit.to_string() }))
        .fallback(
            move || async move { (StatusCode::CONFLICT, json!({"message": long}).to_string()) },
        );
    let server = Server::start(routes).await;
    let client = server.client();
    let status = client.status("127.0.0.1").await.unwrap();
    assert!(status.message.len() <= answers::TEXT_BYTES_MAX + 3);
    let failure = status.last_failure.unwrap();
    assert!(failure.to_string().len() < 3_000);
    let audit = client.audit("127.0.0.1").await.unwrap();
    assert!(audit.gaps.iter().all(|gap| gap.len() < 3_000), "{audit:?}");
    let refused = client.stop("127.0.0.1", None).await.unwrap_err();
    assert!(refused.to_string().len() < 3_000);
}

#[tokio::test]
async fn a_path_that_is_too_long_is_no_answer() {
    let mut status: serde_json::Value = serde_json::from_str(STATUS).unwrap();
    *status.pointer_mut("/lastCheckpoint/path").unwrap() = json!("x".repeat(2_000));
    let savepoint = json!({"name": "a", "state": "Completed", "path": "x".repeat(2_000)});
    let routes = Router::new()
        .route("/v1/job", get(move || async move { status.to_string() }))
        .fallback(move || async move { savepoint.to_string() });
    let server = Server::start(routes).await;
    let client = server.client();
    let refused = client.status("127.0.0.1").await.unwrap_err();
    assert!(
        matches!(refused, RuntimeError::Malformed { .. }),
        "{refused}"
    );
    let refused = client.savepoint_status("127.0.0.1", "a").await.unwrap_err();
    assert!(refused.to_string().contains("2000 bytes"), "{refused}");
}
