//! A layer around the Kubernetes client that counts calls by verb, resource and status.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use hyper::{Method, Request, Response};
use kube::client::Body;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tower::{Layer, Service};

/// What is known of a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    verb: &'static str,
    resource: String,
    code: String,
}

/// Counts the calls of the clients that it is laid around.
#[derive(Debug, Clone, Default)]
pub struct CountCalls {
    calls: Family<CallLabels, Counter>,
}

impl CountCalls {
    pub(super) fn family(&self) -> impl prometheus_client::registry::Metric {
        self.calls.clone()
    }

    pub(super) fn count(&self, verb: &'static str, resource: String, code: String) {
        self.calls
            .get_or_create(&CallLabels {
                verb,
                resource,
                code,
            })
            .inc();
    }
}

impl<S> Layer<S> for CountCalls {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted {
            inner,
            calls: self.clone(),
        }
    }
}

/// A client whose calls are counted.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    calls: CountCalls,
}

impl<S, B> Service<Request<Body>> for Counted<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<B>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let target = Target::of(request.uri().path());
        let verb = verb(&request, &target);
        let calls = self.calls.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or_else(
                |_| "none".to_owned(),
                |response| response.status().as_u16().to_string(),
            );
            calls.count(verb, target.resource, code);
            answer
        })
    }
}

/// What the path of a call names.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// Plural of the kind, with the subresource if there is one: `streamjobs/status`; `other` for
    /// calls that are about no resource.
    resource: String,
    /// Whether one object is named.
    named: bool,
}

impl Target {
    fn of(path: &str) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let in_group = match parts.next() {
            Some("api") => parts.next().is_some(),
            Some("apis") => parts.next().is_some() && parts.next().is_some(),
            _ => false,
        };
        let rest: Vec<&str> = if in_group {
            parts.collect()
        } else {
            Vec::new()
        };
        let rest = match rest.as_slice() {
            // The namespace itself is asked for, not something in it.
            ["namespaces"] | ["namespaces", _] => rest.as_slice(),
            ["namespaces", _, inner @ ..] => inner,
            _ => rest.as_slice(),
        };
        match rest {
            [] => Self {
                resource: "other".to_owned(),
                named: false,
            },
            [plural] => Self {
                resource: (*plural).to_owned(),
                named: false,
            },
            [plural, _] => Self {
                resource: (*plural).to_owned(),
                named: true,
            },
            [plural, _, subresource, ..] => Self {
                resource: format!("{plural}/{subresource}"),
                named: true,
            },
        }
    }
}

fn verb(request: &Request<Body>, target: &Target) -> &'static str {
    let query = request.uri().query().unwrap_or_default();
    let content = request
        .headers()
        .get("content-type")
        .map(hyper::header::HeaderValue::as_bytes);
    match *request.method() {
        Method::GET if query.split('&').any(|pair| pair == "watch=true") => "watch",
        Method::GET if target.named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH
            if content.is_some_and(|kind| kind.starts_with(b"application/apply-patch")) =>
        {
            "apply"
        }
        Method::PATCH => "patch",
        Method::DELETE if target.named => "delete",
        Method::DELETE => "deletecollection",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_resource() {
        for (path, resource, named) in [
            ("/api/v1/namespaces/shop/pods", "pods", false),
            ("/api/v1/namespaces/shop/pods/orders-1", "pods", true),
            ("/api/v1/namespaces/shop", "namespaces", true),
            ("/api/v1/namespaces", "namespaces", false),
            ("/apis/apps/v1/deployments", "deployments", false),
            (
                "/apis/millstream.dev/v1alpha1/namespaces/shop/streamjobs/orders",
                "streamjobs",
                true,
            ),
            (
                "/apis/millstream.dev/v1alpha1/namespaces/shop/streamjobs/orders/status",
                "streamjobs/status",
                true,
            ),
            ("/version", "other", false),
            ("/apis", "other", false),
            ("/apis/apps/v1", "other", false),
        ] {
            let expected = Target {
                resource: resource.to_owned(),
                named,
            };
            assert_eq!(Target::of(path), expected, "{path}");
        }
    }

    #[test]
    fn a_request_has_a_verb() {
        let verb_of = |method: Method, uri: &str, content: &str| {
            let request = Request::builder()
                .method(method)
                .uri(uri)
                .header("content-type", content)
                .body(Body::empty())
                .unwrap();
            verb(&request, &Target::of(request.uri().path()))
        };
        let pods = "/api/v1/namespaces/a/pods";
        assert_eq!(verb_of(Method::GET, pods, ""), "list");
        assert_eq!(
            verb_of(Method::GET, &format!("{pods}?limit=5&watch=true"), ""),
            "watch"
        );
        assert_eq!(verb_of(Method::GET, &format!("{pods}/x"), ""), "get");
        assert_eq!(
            verb_of(
                Method::PATCH,
                &format!("{pods}/x"),
                "application/apply-patch+yaml"
            ),
            "apply"
        );
        assert_eq!(
            verb_of(
                Method::PATCH,
                &format!("{pods}/x"),
                "application/merge-patch+json"
            ),
            "patch"
        );
        assert_eq!(verb_of(Method::DELETE, &format!("{pods}/x"), ""), "delete");
        assert_eq!(verb_of(Method::DELETE, pods, ""), "deletecollection");
        assert_eq!(verb_of(Method::POST, pods, ""), "create");
    }
}
