//! What every reconcile is given, and what it answers.
//!
//! The shell (`namespaces`) watches metadata only, so a store never holds a spec, and no reconcile
//! ever acts on a status that is older than its own last write: before each reconcile the object
//! is read from the API. It then calls
//!
//! ```text
//! controller::reconcile(job: DynamicObject, context: &Context)      -> Result<Next, E>
//! savepoint::reconcile(savepoint: DynamicObject, context: &Context) -> Result<Next, E>
//! ```
//!
//! (untyped, because a spec that the types refuse must become a condition, not an error of the
//! watch),
//!
//! where the error `E` is a [`Fault`]: the shell logs it once, counts it by its kind and tries
//! again with a growing delay. An object that is gone is never passed on.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use millstream_types::Clock;

use crate::controller::build::names::FIELD_MANAGER;
use crate::controller::memory::Memory;
use crate::metrics::Metrics;
use crate::runtime_client::RuntimeClient;

/// What every reconcile is given.
#[derive(Clone)]
pub struct Context {
    /// The Kubernetes API. Its calls are counted.
    pub client: Client,
    /// The coordinators' REST interfaces.
    pub runtime: RuntimeClient,
    /// What Prometheus is told.
    pub metrics: Arc<Metrics>,
    /// What the controller of `StreamJob` remembers between reconciles. All of it may be lost.
    pub memory: Arc<Memory>,
    /// The only source of time.
    pub clock: Arc<dyn Clock>,
    /// Namespaces that are looked after; empty for the whole cluster.
    pub namespaces: Arc<[String]>,
    /// Writes events in the name of this operator.
    pub recorder: Recorder,
}

impl Context {
    /// A context around a client. `instance` is the name of this operator's pod, for events.
    pub fn new(
        client: Client,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        instance: &str,
    ) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            runtime: RuntimeClient::new(),
            client,
            metrics,
            clock,
            memory: Arc::default(),
            namespaces: Arc::default(),
        }
    }
}

/// When to look at an object again if nothing happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next(pub Option<Duration>);

impl Next {
    /// Only when something changes.
    pub const fn on_change() -> Self {
        Self(None)
    }

    /// After a delay at the latest.
    pub const fn after(delay: Duration) -> Self {
        Self(Some(delay))
    }

    /// The sooner of two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(match (self.0, other.0) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        })
    }
}

/// An error that ends a reconcile.
pub trait Fault: std::error::Error + Send + Sync + 'static {
    /// A short word for the metric `millstream_controller_errors_total`, such as `conflict`,
    /// `forbidden` or `unavailable`.
    fn kind(&self) -> &'static str;
}

/// The kind of an error of the Kubernetes API.
pub fn api_error_kind(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) => match status.code {
            401 => "unauthorized",
            403 if status.message.contains("exceeded quota") => "quota",
            403 => "forbidden",
            404 => "not-found",
            409 => "conflict",
            422 => "invalid",
            429 => "throttled",
            500.. => "server",
            _ => "refused",
        },
        kube::Error::SerdeError(_) => "malformed",
        _ => "unavailable",
    }
}

impl Fault for kube::Error {
    fn kind(&self) -> &'static str {
        api_error_kind(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sooner_of_two_wishes_wins() {
        let second = Next::after(Duration::from_secs(1));
        let minute = Next::after(Duration::from_mins(1));
        assert_eq!(second.or(minute), second);
        assert_eq!(minute.or(second), second);
        assert_eq!(Next::on_change().or(minute), minute);
        assert_eq!(minute.or(Next::on_change()), minute);
        assert_eq!(Next::on_change().or(Next::on_change()), Next::on_change());
    }
}
