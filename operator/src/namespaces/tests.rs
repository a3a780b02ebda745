use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use hyper::{Request, Response};
use kube::client::Body;
use millstream_crds::StreamSavepoint;
use millstream_types::clock::SystemClock;
use tokio::time::timeout;
use tower::Service;

use super::*;
use crate::metrics::Metrics;

/// An API server that allows nothing.
#[derive(Clone)]
struct Forbidding;

impl Service<Request<Body>> for Forbidding {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let status = serde_json::json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": 403, "reason": "Forbidden", "message": "not yours",
        });
        let answer = Response::builder()
            .status(403)
            .body(Body::from(status.to_string().into_bytes()));
        ready(Ok(answer.unwrap()))
    }
}

#[tokio::test]
async fn a_forbidden_namespace_shows_is_tried_again_and_does_not_keep_the_operator() {
    let metrics = Arc::new(Metrics::new());
    let clock = Arc::new(SystemClock::default());
    let client = Client::new(Forbidding, "default");
    let context = Context::new(client, Arc::clone(&metrics), clock, "me");
    let stop = CancellationToken::new();
    let scope = Scope::Namespace("closed".to_owned());
    let controller = control::<StreamSavepoint>(scope, context, Limits::new(1), stop.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(controller);

    let line =
        r#"watch_errors_total{namespace="closed",kind="StreamSavepoint",reason="forbidden"}"#;
    let again = async {
        while !metrics.encode().contains(&format!("{line} 2")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(30), again)
        .await
        .expect("it is tried again");
    let watched = r#"controller_watched{namespace="closed",kind="StreamSavepoint"} 0"#;
    assert!(metrics.encode().contains(watched));
    stop.cancel();
    let ended = timeout(Duration::from_secs(5), tasks.join_next()).await;
    assert!(matches!(ended, Ok(Some(Ok(())))), "{ended:?}");
}

#[test]
fn scopes_follow_the_list_of_namespaces() {
    assert_eq!(Scope::of(&[]), [Scope::Cluster]);
    let two = ["b", "a", "b"].map(str::to_owned);
    let expected = ["a", "b"].map(|name| Scope::Namespace(name.to_owned()));
    assert_eq!(Scope::of(&two), expected);
    assert!(Scope::Cluster.covers("any") && expected[0].covers("a") && !expected[0].covers("b"));
}
