//! What happens in the cluster, as requests to reconcile. Only metadata is ever watched.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::controller::{trigger_owners, trigger_self, trigger_with};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::{Store, Writer};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt as _};
use millstream_crds::StreamJob;
use serde::de::DeserializeOwned;

use super::{Meta, Reconciled, Requests, Scope};
use crate::context::{Context, api_error_kind};
use crate::controller::build::names::{FIELD_MANAGER, LABEL_JOB};

/// Objects per page of a first list: what is held at once while many objects are read.
const PAGE: u32 = 100;

/// What happens to the objects themselves; `writer` keeps the store current.
pub(super) fn own<K: Reconciled>(
    scope: &Scope,
    context: &Context,
    writer: Writer<Meta<K>>,
    store: Store<Meta<K>>,
) -> Requests<K> {
    let api = scope.api::<Meta<K>>(context.client.clone());
    let mut watched = Watched::new(scope, context, K::KIND.as_str());
    let context = context.clone();
    let scope = scope.clone();
    let events = watcher(api, watcher::Config::default().page_size(PAGE))
        .inspect(move |event| watched.note(event))
        .default_backoff()
        .modify(|meta| trim(&mut meta.metadata))
        .reflect(writer)
        .inspect_ok(move |event| match event {
            Event::Delete(gone) => K::forget(&context, &gone.metadata),
            Event::InitDone => forget_missing::<K>(&context, &scope, &store),
            Event::Apply(_) | Event::Init | Event::InitApply(_) => {}
        })
        .applied_objects();
    trigger_self(events, ()).boxed()
}

/// After a new list: what was known and is not in it has gone while nobody watched.
fn forget_missing<K: Reconciled>(context: &Context, scope: &Scope, store: &Store<Meta<K>>) {
    let there = |namespace: &str, name: &str| {
        store
            .get(&ObjectRef::<Meta<K>>::new(name).within(namespace))
            .is_some()
    };
    K::retain(context, &|namespace, name| {
        !scope.covers(namespace) || there(namespace, name)
    });
}

/// What happens to objects of kind `C` that objects of kind `K` own. Only objects that carry our
/// labels are watched, and those that `labels` select if given.
pub fn owned<K, C>(scope: &Scope, context: &Context, labels: Option<&str>) -> Requests<K>
where
    K: Reconciled,
    C: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api = scope.api::<Meta<C>>(context.client.clone());
    let mut watched = Watched::new(scope, context, &C::kind(&()));
    let events = watcher(api, ours(labels))
        .inspect(move |event| watched.note(event))
        .default_backoff()
        .touched_objects();
    trigger_owners::<Meta<K>, _>(events, (), ()).boxed()
}

/// What happens to the pods of jobs. They belong to jobs by a label: their owners are replica
/// sets.
pub fn pods_of_jobs(scope: &Scope, context: &Context) -> Requests<StreamJob> {
    let api = scope.api::<Meta<Pod>>(context.client.clone());
    let mut watched = Watched::new(scope, context, "Pod");
    let events = watcher(api, ours(None))
        .inspect(move |event| watched.note(event))
        .default_backoff()
        .touched_objects();
    trigger_with(events, |pod: Meta<Pod>| {
        let job = pod.labels().get(LABEL_JOB)?;
        Some(ObjectRef::<Meta<StreamJob>>::new(job).within(pod.metadata.namespace.as_deref()?))
    })
    .boxed()
}

fn ours(labels: Option<&str>) -> watcher::Config {
    let ours = format!("app.kubernetes.io/managed-by={FIELD_MANAGER}");
    let selector = labels.map_or_else(|| ours.clone(), |more| format!("{ours},{more}"));
    watcher::Config::default().page_size(PAGE).labels(&selector)
}

/// Drops what nobody reads.
fn trim(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.annotations = None;
    meta.self_link = None;
}

/// Whether a kind can be watched in a scope: said in the log when it changes, and in the metrics.
struct Watched {
    scope: String,
    kind: String,
    metrics: Arc<crate::metrics::Metrics>,
    broken: bool,
}

impl Watched {
    fn new(scope: &Scope, context: &Context, kind: &str) -> Self {
        Self {
            scope: scope.label().to_owned(),
            kind: kind.to_owned(),
            metrics: Arc::clone(&context.metrics),
            broken: false,
        }
    }

    fn note<K>(&mut self, event: &watcher::Result<Event<K>>) {
        match event {
            Ok(Event::Init) => {}
            Ok(_) => {
                if self.broken {
                    tracing::info!(namespace = self.scope, kind = self.kind, "watched again");
                }
                self.broken = false;
                self.metrics.set_watched(&self.scope, &self.kind, true);
            }
            Err(error) => {
                let reason = reason(error);
                self.metrics.watch_failed(&self.scope, &self.kind, reason);
                if !self.broken {
                    tracing::warn!(
                        namespace = self.scope, kind = self.kind, reason, %error,
                        "cannot be watched; trying again"
                    );
                }
                self.broken = true;
            }
        }
    }
}

fn reason(error: &watcher::Error) -> &'static str {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => api_error_kind(error),
        watcher::Error::WatchError(status) => match status.code {
            403 => "forbidden",
            410 => "expired",
            _ => "refused",
        },
        watcher::Error::NoResourceVersion => "malformed",
    }
}
