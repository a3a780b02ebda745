//! Every read of the API server that a reconcile needs. No judgement.

mod reference;
mod warnings;

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DynamicObject, ListParams};
use kube::{Resource, ResourceExt as _};
use millstream_crds::StreamJobStatus;
use millstream_crds::stream_job::DeletionSpec;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ReconcileError;
use super::build::names::{LABEL_JOB, Names};
use super::revision::Revision;
use crate::context::Context;

/// What the API server says.
#[derive(Debug, Clone)]
pub struct Dereferenced {
    /// The resource's metadata.
    pub meta: ObjectMeta,
    /// Its spec, as it is stored.
    pub spec: Value,
    /// Its status.
    pub status: StreamJobStatus,
    /// Uid of its namespace: the identity under which it owns its storage path, so that a job that
    /// is created again goes on from its checkpoints, and one in another cluster does not.
    pub owner: String,
    /// The namespace is being deleted.
    pub namespace_terminating: bool,
    /// The kept revisions.
    pub revisions: Vec<Revision>,
    /// Deployments of Kubernetes, by name.
    pub deployments: BTreeMap<String, Deployment>,
    /// All pods.
    pub pods: Vec<Pod>,
    /// Jobs of Kubernetes: preflights and disposals.
    pub tasks: Vec<Job>,
    /// The newest warning about a pod or job that has not come to life, by the object's name.
    pub warnings: BTreeMap<String, String>,
    /// What `spec.restore.from` refers to, or why that is not known yet.
    pub source: Result<String, String>,
}

impl Dereferenced {
    /// Name of the resource.
    pub fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    /// Namespace of the resource.
    pub fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or("default")
    }

    /// Names of its objects.
    pub fn names(&self) -> Names {
        Names::of_name(self.name())
    }

    /// `spec.paused`, also of a spec with faults.
    pub fn paused(&self) -> bool {
        self.spec.get("paused").and_then(Value::as_bool) == Some(true)
    }

    /// `spec.deletion`, also of a spec with faults elsewhere.
    pub fn deletion(&self) -> DeletionSpec {
        let deletion = self.spec.get("deletion").cloned();
        deletion
            .and_then(|deletion| serde_json::from_value(deletion).ok())
            .unwrap_or_default()
    }

    /// A kept revision.
    pub fn revision(&self, name: &str) -> Option<&Revision> {
        self.revisions.iter().find(|kept| kept.name == name)
    }
}

/// Reads everything about a resource.
pub(super) async fn dereference(
    object: DynamicObject,
    context: &Context,
) -> Result<Dereferenced, ReconcileError> {
    let DynamicObject {
        metadata, mut data, ..
    } = object;
    let status = match data.get_mut("status").map(Value::take) {
        None | Some(Value::Null) => StreamJobStatus::default(),
        Some(status) => serde_json::from_value(status).map_err(ReconcileError::Status)?,
    };
    let spec = data.get_mut("spec").map(Value::take).unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let client = &context.client;
    let remembered = context
        .memory
        .of(metadata.uid.as_deref().unwrap_or_default());
    let deleting = metadata.deletion_timestamp.is_some();
    let (owner, namespace_terminating) = match remembered.owner {
        Some(owner) if !deleting => (owner, false),
        _ => {
            let owning = Api::<Namespace>::all(client.clone()).get(namespace).await?;
            let terminating = owning.metadata.deletion_timestamp.is_some();
            (owning.uid().unwrap_or_default(), terminating)
        }
    };
    let name = metadata.name.as_deref().unwrap_or_default();
    let selector = format!("{LABEL_JOB}={name}");
    let under_way = status.upgrade.is_some() || status.rejected.is_some() || deleting;
    let (maps, deployments, pods, tasks) = futures::try_join!(
        list::<ConfigMap>(context, namespace, &selector),
        list::<Deployment>(context, namespace, &selector),
        list::<Pod>(context, namespace, &selector),
        async {
            if under_way || !remembered.without_tasks {
                list::<Job>(context, namespace, &selector).await
            } else {
                Ok(Vec::new())
            }
        },
    )?;
    let source = reference::source(&spec, namespace, client).await?;
    let warnings = warnings::about(&pods, &tasks, namespace, context).await?;
    Ok(Dereferenced {
        owner,
        namespace_terminating,
        revisions: revisions(name, &maps),
        deployments: deployments
            .into_iter()
            .map(|one| (one.name_any(), one))
            .collect(),
        pods,
        tasks,
        warnings,
        source,
        spec,
        status,
        meta: metadata,
    })
}

async fn list<K>(context: &Context, namespace: &str, selector: &str) -> Result<Vec<K>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let api = Api::<K>::namespaced(context.client.clone(), namespace);
    Ok(api
        .list(&ListParams::default().labels(selector))
        .await?
        .items)
}

/// The revisions among config maps. One that was tampered with cannot be deployed any more; it is
/// left alone, for a person to look at.
fn revisions(job: &str, maps: &[ConfigMap]) -> Vec<Revision> {
    let names = Names::of_name(job);
    maps.iter()
        .filter_map(|map| match Revision::read(&names, map) {
            Ok(revision) => Some(revision),
            Err(error) => {
                tracing::warn!(job, %error, "a revision cannot be read");
                None
            }
        })
        .collect()
}
