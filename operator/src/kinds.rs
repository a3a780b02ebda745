//! The kinds that are reconciled, and what else concerns them.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ObjectMeta;
use kube::core::DynamicObject;
use millstream_crds::{StreamJob, StreamSavepoint};

use crate::context::{Context, Fault, Next};
use crate::controller::build::names::{LABEL_ROLE, Role};
use crate::metrics::Kind;
use crate::namespaces::{Reconciled, Requests, Scope, owned, pods_of_jobs};
use crate::{controller, savepoint};

impl Reconciled for StreamJob {
    const KIND: Kind = Kind::StreamJob;

    fn related(scope: &Scope, context: &Context) -> Vec<Requests<Self>> {
        vec![
            owned::<Self, Deployment>(scope, context, None),
            owned::<Self, Job>(scope, context, None),
            owned::<Self, ConfigMap>(scope, context, None),
            owned::<Self, Service>(scope, context, None),
            owned::<Self, PodDisruptionBudget>(scope, context, None),
            owned::<Self, NetworkPolicy>(scope, context, None),
            pods_of_jobs(scope, context),
        ]
    }

    fn forget(context: &Context, gone: &ObjectMeta) {
        let namespace = gone.namespace.as_deref().unwrap_or_default();
        context
            .metrics
            .forget_job(namespace, gone.name.as_deref().unwrap_or_default());
        context
            .memory
            .forget(gone.uid.as_deref().unwrap_or_default());
    }

    fn retain(context: &Context, keep: &dyn Fn(&str, &str) -> bool) {
        context.metrics.retain_jobs(keep);
    }

    fn reconcile(
        object: DynamicObject,
        context: &Context,
    ) -> BoxFuture<'_, Result<Next, Box<dyn Fault>>> {
        async move {
            let periodic = savepoint::periodic::Schedule::of(&object);
            let next = Box::pin(controller::reconcile(object, context))
                .await
                .map_err(boxed)?;
            let Some(periodic) = periodic else {
                return Ok(next);
            };
            Ok(next.or(savepoint::periodic::tend(periodic, context)
                .await
                .map_err(boxed)?))
        }
        .boxed()
    }
}

impl Reconciled for StreamSavepoint {
    const KIND: Kind = Kind::StreamSavepoint;

    fn related(scope: &Scope, context: &Context) -> Vec<Requests<Self>> {
        let disposals = format!("{LABEL_ROLE}={}", Role::Disposal.as_str());
        vec![owned::<Self, Job>(scope, context, Some(&disposals))]
    }

    fn forget(_context: &Context, _gone: &ObjectMeta) {}

    fn retain(_context: &Context, _keep: &dyn Fn(&str, &str) -> bool) {}

    fn reconcile(
        object: DynamicObject,
        context: &Context,
    ) -> BoxFuture<'_, Result<Next, Box<dyn Fault>>> {
        async move { savepoint::reconcile(object, context).await.map_err(boxed) }.boxed()
    }
}

fn boxed(fault: impl Fault) -> Box<dyn Fault> {
    Box::new(fault)
}
