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
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::ReconcileError;
use super::apply::key;
use super::build::names::{LABEL_DEPLOYMENT, LABEL_JOB, Names};
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
    /// Uids of config maps, deployments and jobs that this very resource owns, by kind and name.
    pub uids: BTreeMap<String, String>,
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
    let deleting = metadata.deletion_timestamp.is_some();
    let status = data.get_mut("status").map(Value::take).unwrap_or_default();
    let status = read_status(status, deleting)?;
    let spec = data.get_mut("spec").map(Value::take).unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    let client = &context.client;
    let remembered = context
        .memory
        .of(metadata.uid.as_deref().unwrap_or_default());
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
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let mut uids = BTreeMap::new();
    let maps = owned(maps, uid, &mut uids);
    let deployments = owned(deployments, uid, &mut uids);
    let tasks = owned(tasks, uid, &mut uids);
    let names = Names::of_name(name);
    let pods: Vec<Pod> = pods
        .into_iter()
        .filter(|pod| is_pod_of(pod, &names))
        .collect();
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
        uids,
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

/// The status. What a newer version has written into it must not keep a resource from being deleted:
/// then what is not understood is left out, field by field.
fn read_status(status: Value, deleting: bool) -> Result<StreamJobStatus, ReconcileError> {
    if status.is_null() {
        return Ok(StreamJobStatus::default());
    }
    match serde_json::from_value(status.clone()) {
        Ok(status) => Ok(status),
        Err(error) if deleting => {
            tracing::warn!(%error, "the status is read as far as it is understood");
            Ok(as_far_as_understood(status))
        }
        Err(error) => Err(ReconcileError::Status(error)),
    }
}

fn as_far_as_understood(status: Value) -> StreamJobStatus {
    let Value::Object(fields) = status else {
        return StreamJobStatus::default();
    };
    let understood = |key: &str, value: &Value| {
        let alone = json!({ key: value });
        serde_json::from_value::<StreamJobStatus>(alone).is_ok()
    };
    let fields: Map<String, Value> = fields
        .into_iter()
        .filter(|(key, value)| understood(key, value))
        .collect();
    serde_json::from_value(Value::Object(fields)).unwrap_or_default()
}

/// Those that the resource with this uid owns. A label alone says nothing: anybody may write it.
fn owned<K: Resource<DynamicType = ()>>(
    all: Vec<K>,
    uid: &str,
    uids: &mut BTreeMap<String, String>,
) -> Vec<K> {
    let own = all.into_iter().filter(|object| {
        let owners = object.meta().owner_references.iter().flatten();
        owners.into_iter().any(|owner| owner.uid == uid)
    });
    own.inspect(|object| {
        let uid = object.meta().uid.clone().unwrap_or_default();
        uids.insert(key::<K>(&object.name_any()), uid);
    })
    .collect()
}

/// Whether a pod was made for one of our deployments, also one that is gone, or for one of our
/// jobs: by the name of what made it.
fn is_pod_of(pod: &Pod, names: &Names) -> bool {
    let owners = pod.metadata.owner_references.iter().flatten();
    let Some(maker) = owners
        .into_iter()
        .find(|owner| owner.controller == Some(true))
    else {
        return false;
    };
    let number = pod.labels().get(LABEL_DEPLOYMENT);
    let number = number.and_then(|number| number.parse().ok());
    let made_by = |deployment: String| {
        let rest = maker.name.strip_prefix(&deployment);
        rest.is_some_and(|rest| rest.starts_with('-'))
    };
    match maker.kind.as_str() {
        "Job" => true,
        "ReplicaSet" => match number {
            Some(number) => {
                made_by(names.coordinator_of(number)) || made_by(names.workers_of(number))
            }
            // Of a version that gave deployments no number.
            None => made_by(names.coordinator()) || made_by(names.workers()),
        },
        _ => false,
    }
}

/// The revisions among config maps. One that was tampered with cannot be deployed any more; it is
/// left alone, for a person to look at.
fn revisions(job: &str, maps: &[ConfigMap]) -> Vec<Revision> {
    let names = Names::of_name(job);
    maps.iter()
        .filter(|map| map.name_any() != names.ran())
        .filter_map(|map| match Revision::read(&names, map) {
            Ok(revision) => Some(revision),
            Err(error) => {
                tracing::warn!(job, %error, "a revision cannot be read");
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_is_not_understood_holds_up_everything_but_a_deletion() {
        let status = json!({
            "deployment": 7, "attempt": "many", "upgrade": {"step": 5},
            "deployed": {"restore": "latest", "at": ""},
        });
        assert!(read_status(status.clone(), false).is_err());
        let read = read_status(status, true).unwrap();
        assert_eq!(read.deployment, Some(7));
        assert!(read.deployed.is_some() && read.upgrade.is_none() && read.attempt.is_none());
        assert_eq!(
            read_status(Value::Null, false).unwrap(),
            StreamJobStatus::default()
        );
    }

    fn with_owner(kind: &str, name: &str, uid: &str) -> Value {
        json!({"kind": kind, "name": name, "uid": uid, "controller": true, "apiVersion": "v1"})
    }

    #[test]
    fn what_only_has_our_label_is_not_ours() {
        let deployment = |name: &str, uid: &str| -> Deployment {
            let owner = with_owner("StreamJob", "orders", uid);
            serde_json::from_value(
                json!({"metadata": {"name": name, "uid": format!("of-{name}"),
                "labels": {"millstream.dev/job": "orders"}, "ownerReferences": [owner]}}),
            )
            .unwrap()
        };
        let all = vec![deployment("ours", "u-1"), deployment("of-another", "u-0")];
        let mut uids = BTreeMap::new();
        let own = owned(all, "u-1", &mut uids);
        assert_eq!(own.len(), 1);
        assert_eq!(
            uids.into_iter().next().unwrap(),
            ("Deployment/ours".into(), "of-ours".into())
        );
    }

    #[test]
    fn pods_are_ours_by_what_made_them() {
        let pod = |maker: &Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "p", "ownerReferences": [maker],
                "labels": {"millstream.dev/deployment": "7"}}}))
            .unwrap()
        };
        let names = Names::of_name("orders");
        let is_ours =
            |kind: &str, name: &str| is_pod_of(&pod(&with_owner(kind, name, "u")), &names);
        assert!(is_ours("ReplicaSet", "orders-coordinator-7-6c5d8f7b9"));
        assert!(is_ours("ReplicaSet", "orders-workers-7-58d4c9c6b4"));
        assert!(is_ours("Job", "orders-preflight-0123456789"));
        assert!(
            !is_ours("ReplicaSet", "orders-coordinator-8-6c5d8f7b9"),
            "it says 7"
        );
        assert!(!is_ours("ReplicaSet", "shop-58d4c9c6b4"));
        assert!(!is_ours("StatefulSet", "orders-workers-7"));
    }
}
