//! Which namespaces are looked after, and what drives reconciles in each.
//!
//! Every namespace has watches of its own, each with its own delay after errors. A namespace that
//! is forbidden is logged once, shown in a metric, tried again, and never stops the others.
//! Reconciles of all namespaces share one limit on how many run at once.
//!
//! [`watches`] turn what happens in the cluster into requests, [`waiting`] counts those that have
//! not begun, [`work`] carries one out.

mod waiting;
mod watches;
mod work;

use std::fmt::Debug;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use kube::api::ObjectMeta;
use kube::core::{DynamicObject, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::controller::{Config, Error, ReconcileRequest};
use kube::runtime::reflector::Store;
use kube::runtime::{applier, reflector, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::context::{Context, Fault, Next};
use crate::metrics::Kind;
use work::Work;

pub use watches::{owned, pods_of_jobs};

/// One namespace, or all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The whole cluster, with one watch per kind.
    Cluster,
    /// One namespace.
    Namespace(String),
}

impl Scope {
    /// The scopes of a list of namespaces; an empty list is the whole cluster.
    pub fn of(namespaces: &[String]) -> Vec<Self> {
        if namespaces.is_empty() {
            return vec![Self::Cluster];
        }
        let mut names = namespaces.to_vec();
        names.sort();
        names.dedup();
        names.into_iter().map(Self::Namespace).collect()
    }

    /// The namespace as it stands in metrics and logs: empty for the whole cluster.
    pub fn label(&self) -> &str {
        match self {
            Self::Cluster => "",
            Self::Namespace(name) => name,
        }
    }

    /// Whether a namespace belongs to it.
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespace(name) => name == namespace,
        }
    }

    fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::Cluster => Api::all(client),
            Self::Namespace(name) => Api::namespaced(client, name),
        }
    }
}

/// Metadata of an object: all that is kept of it between reconciles.
pub type Meta<K> = PartialObjectMeta<K>;

/// Objects to reconcile.
pub type Requests<K> = BoxStream<'static, Result<ReconcileRequest<Meta<K>>, watcher::Error>>;

/// A kind whose objects are reconciled.
pub trait Reconciled:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// Its name in metrics and logs.
    const KIND: Kind;

    /// Requests because of what happens to other objects.
    fn related(scope: &Scope, context: &Context) -> Vec<Requests<Self>>;

    /// An object is gone: nothing about it needs to be kept.
    fn forget(context: &Context, gone: &ObjectMeta);

    /// Forgets all objects but those that are to be kept, by namespace and name.
    fn retain(context: &Context, keep: &dyn Fn(&str, &str) -> bool);

    /// One reconcile of the object as it is now: untyped, because an object that the types refuse
    /// must be told so in its status.
    fn reconcile(
        object: DynamicObject,
        context: &Context,
    ) -> BoxFuture<'_, Result<Next, Box<dyn Fault>>>;
}

/// How much is done at once, by all controllers of an operator together.
#[derive(Debug, Clone)]
pub struct Limits {
    running: Arc<Semaphore>,
    reconciles_max: u16,
}

impl Limits {
    /// At most so many reconciles at once.
    pub fn new(reconciles_max: u16) -> Self {
        Self {
            running: Arc::new(Semaphore::new(usize::from(reconciles_max))),
            reconciles_max,
        }
    }
}

/// Reconciles the objects of a kind in a scope until `stop` is cancelled, and finishes the
/// reconciles that run then. Dropping the future ends them where they wait.
pub async fn control<K: Reconciled>(
    scope: Scope,
    context: Context,
    limits: Limits,
    stop: CancellationToken,
) {
    let (store, writer) = reflector::store::<Meta<K>>();
    let mut requests = K::related(&scope, &context);
    requests.push(watches::own::<K>(&scope, &context, writer, store.clone()));
    let work = Arc::new(Work::<K>::new(context, limits.running));
    let noted = Arc::clone(&work);
    let requests = stream::select_all(requests)
        .inspect_ok(move |request| noted.waiting.add(&request.obj_ref))
        .take_until(stop.clone().cancelled_owned());
    let config = Config::default().concurrency(limits.reconciles_max);
    let results = applier(
        Work::reconcile,
        Work::retry,
        Arc::clone(&work),
        store.clone(),
        requests,
        config,
    );
    let worked = results.for_each(|result| {
        // Errors of reconciles and watches are dealt with where they happen.
        if let Err(Error::ObjectNotFound(gone)) = result {
            work.waiting.remove(gone.namespace.as_deref(), &gone.name);
        }
        futures::future::ready(())
    });
    tokio::select! {
        () = worked => {}
        // The applier of a namespace that cannot be watched never begins, and so never ends.
        () = stopped_before_begun(&stop, &store) => {}
    }
}

/// Ends when it is time to stop, if the store was never filled until then.
async fn stopped_before_begun<K: Reconciled>(stop: &CancellationToken, store: &Store<Meta<K>>) {
    stop.cancelled().await;
    if store.wait_until_ready().now_or_never().is_some() {
        futures::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
