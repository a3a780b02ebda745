use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use hyper::{Request, Response};
use kube::client::Body;
use millstream_crds::StreamSavepoint;
use millstream_types::clock::SystemClock;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tower::Service;

use super::*;
use crate::metrics::Metrics;

/// An API server that allows nothing and says what it was asked for.
struct Forbidding {
    asked: mpsc::Sender<String>,
}

impl Service<Request<Body>> for Forbidding {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.asked
            .try_send(request.uri().path().to_owned())
            .unwrap();
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
    let (asked, mut requests) = mpsc::channel(100);
    let metrics = Arc::new(Metrics::new());
    let clock = Arc::new(SystemClock::default());
    let client = Client::new(Forbidding { asked }, "default");
    let context = Context::new(client, Arc::clone(&metrics), clock, "me");
    let stop = CancellationToken::new();
    let scope = Scope::Namespace("closed".to_owned());
    let controller = control::<StreamSavepoint>(scope, context, Limits::new(1), stop.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(controller);

    // A third request means that two refusals have been dealt with.
    let mut savepoints = 0;
    while savepoints < 3 {
        let path = timeout(Duration::from_secs(30), requests.recv()).await;
        let path = path.expect("it is tried again").unwrap();
        savepoints += i32::from(path.ends_with("/streamsavepoints"));
    }
    let text = metrics.encode();
    let errors =
        r#"watch_errors_total{namespace="closed",kind="StreamSavepoint",reason="forbidden"} "#;
    let (_, after) = text.split_once(errors).expect("refusals are counted");
    let (count, _) = after.split_once('\n').unwrap();
    assert!(count.parse::<u32>().unwrap() >= 2, "{text}");
    let watched = r#"controller_watched{namespace="closed",kind="StreamSavepoint"} 0"#;
    assert!(text.contains(watched), "{text}");
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
