//! One reconcile: wait for a turn, read the object, reconcile it, say how it went.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt as _};
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::waiting::Waiting;
use super::{Meta, Reconciled};
use crate::context::{Context, Fault};

/// Delay after a first error.
const RETRY: Duration = Duration::from_millis(500);
/// Longest delay after errors.
const RETRY_MAX: Duration = Duration::from_mins(1);
/// Delay after somebody else has changed the object meanwhile: the next reconcile reads it anew.
const RETRY_CONFLICT: Duration = Duration::from_millis(100);

/// How long a reconcile may take. Its calls have no deadline of their own, except to coordinators.
const PATIENCE: Duration = Duration::from_mins(1);

/// Kind of the errors that say that somebody else was faster.
const CONFLICT: &str = "conflict";

/// Carries out the reconciles of a kind.
pub(super) struct Work<K> {
    context: Context,
    running: Arc<Semaphore>,
    pub(super) waiting: Waiting,
    /// Errors in a row, by namespace and name.
    failures: Mutex<BTreeMap<(String, String), u32>>,
    kind: std::marker::PhantomData<fn(K)>,
}

/// A reconcile came to no end.
#[derive(Debug, thiserror::Error)]
#[error("no end within {PATIENCE:?}: the Kubernetes API or a coordinator does not answer")]
struct Late;

impl Fault for Late {
    fn kind(&self) -> &'static str {
        "late"
    }
}

/// A reconcile failed. It has been logged and counted.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Failed(Box<dyn Fault>);

impl Failed {
    fn logged(fault: Box<dyn Fault>) -> Self {
        if fault.kind() == CONFLICT {
            tracing::debug!(error = %fault, "changed by somebody else meanwhile");
        } else {
            tracing::warn!(error = %fault, error_kind = fault.kind(), "reconcile failed");
        }
        Self(fault)
    }
}

impl<K: Reconciled> Work<K> {
    pub(super) fn new(context: Context, running: Arc<Semaphore>) -> Self {
        Self {
            waiting: Waiting::new(context.metrics.queue(K::KIND)),
            context,
            running,
            failures: Mutex::default(),
            kind: std::marker::PhantomData,
        }
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "the form that the applier wants"
    )]
    pub(super) fn reconcile(
        meta: Arc<Meta<K>>,
        work: Arc<Self>,
    ) -> BoxFuture<'static, Result<Action, Failed>> {
        let namespace = meta.namespace().unwrap_or_default();
        let name = meta.name_any();
        let span = tracing::info_span!("reconcile", kind = K::KIND.as_str(), namespace, name);
        async move { work.one(&namespace, &name).await }
            .instrument(span)
            .boxed()
    }

    async fn one(&self, namespace: &str, name: &str) -> Result<Action, Failed> {
        self.waiting.remove(Some(namespace), name);
        // The semaphore is never closed; without a permit the work is done all the same.
        let _turn = self.running.acquire().await.ok();
        let clock = &self.context.clock;
        let started = clock.monotonic();
        let reconcile = self.read_and_reconcile(namespace, name);
        // A connection that is half dead must not hold a turn for ever. What was done may be done
        // again, as after a crash.
        let result = tokio::time::timeout(PATIENCE, reconcile).await;
        let result = result.unwrap_or_else(|_| Err(Box::new(Late) as Box<dyn Fault>));
        let took = clock.monotonic().saturating_sub(started);
        match &result {
            Ok(_) => self.succeeded(namespace, name, took),
            Err(fault) => self.context.metrics.failed(K::KIND, fault.kind(), took),
        }
        result.map_err(Failed::logged)
    }

    async fn read_and_reconcile(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Action, Box<dyn Fault>> {
        let kind = ApiResource::erase::<K>(&());
        let client = self.context.client.clone();
        let api: Api<DynamicObject> = Api::namespaced_with(client, namespace, &kind);
        let object = api
            .get_opt(name)
            .await
            .map_err(|error| Box::new(error) as Box<dyn Fault>)?;
        let Some(object) = object else {
            return Ok(Action::await_change());
        };
        let next = K::reconcile(object, &self.context).await?;
        Ok(next.0.map_or_else(Action::await_change, Action::requeue))
    }

    fn succeeded(&self, namespace: &str, name: &str, took: Duration) {
        self.context.metrics.reconciled(K::KIND, took);
        tracing::debug!(?took, "reconciled");
        let key = (namespace.to_owned(), name.to_owned());
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&key);
    }

    /// When to try again after an error.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the form that the applier wants"
    )]
    pub(super) fn retry(meta: Arc<Meta<K>>, failed: &Failed, work: Arc<Self>) -> Action {
        if failed.0.kind() == CONFLICT {
            return Action::requeue(RETRY_CONFLICT);
        }
        let key = (meta.namespace().unwrap_or_default(), meta.name_any());
        let mut failures = work.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key).or_default();
        *count = count.saturating_add(1);
        Action::requeue(delay(*count))
    }
}

/// The delay after so many errors in a row.
fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    RETRY
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute() {
        assert_eq!(delay(1), Duration::from_millis(500));
        assert_eq!(delay(2), Duration::from_secs(1));
        assert_eq!(delay(5), Duration::from_secs(8));
        assert_eq!(delay(8), Duration::from_mins(1));
        assert_eq!(delay(u32::MAX), Duration::from_mins(1));
    }
}
