//! One object: server-side apply, or not if nothing would change.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Applier;
use crate::controller::build::names::FIELD_MANAGER;
use crate::controller::digest;
use crate::controller::memory::Applied;

/// How long an object that is not read is trusted to be as it was applied.
const TRUST: Duration = Duration::from_mins(1);

impl Applier<'_> {
    /// Applies an object. `live` is what is known of it by the API server's own account; without
    /// it what was applied a moment ago is trusted. False if Kubernetes refuses it, or has refused
    /// it a moment ago.
    pub(super) async fn put<K>(
        &mut self,
        object: K,
        live: Option<&str>,
    ) -> Result<bool, kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let key = key::<K>(&object.name_any());
        let digest = digest(&object);
        if let Some(before) = self.memory.applied.get(&key)
            && before.digest == digest
        {
            let age = self.now.duration_since(before.at);
            let trusted = Duration::try_from(age).unwrap_or_default() < TRUST;
            let same = live.map_or(trusted, |live| live == before.version);
            if same {
                return Ok(true);
            }
        }
        if self.is_pausing(&key) {
            return Ok(false);
        }
        let api = Api::<K>::namespaced(self.context.client.clone(), self.facts.namespace());
        let name = object.name_any();
        if !self.memory.applied.contains_key(&key)
            && let Some(whose) = self.owner_of_another(&api, &name).await?
        {
            let message = format!(
                "{} {name} belongs to {whose}: delete it, or give the job another name",
                K::kind(&())
            );
            self.refused(key, message);
            return Ok(false);
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch(&name, &parameters, &Patch::Apply(&object)).await {
            Ok(stored) => {
                let version = version(&stored);
                let applied = Applied {
                    digest,
                    version,
                    at: self.now,
                };
                self.memory.applied.insert(key, applied);
                Ok(true)
            }
            // An answer that will be the same for a while is a refusal, anything else an error.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 404 | 409 | 422) => {
                let message = format!("{} {name}: {}", K::kind(&()), status.message);
                tracing::warn!(message, "Kubernetes refuses an object");
                self.refused(key, message);
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// To whom an object belongs that is there and not ours. What has our label is known to be ours
    /// if we are its owner.
    async fn owner_of_another<K>(
        &self,
        api: &Api<K>,
        name: &str,
    ) -> Result<Option<String>, kube::Error>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        if self.facts.uids.contains_key(&key::<K>(name)) {
            return Ok(None);
        }
        let Some(found) = api.get_metadata_opt(name).await? else {
            return Ok(None);
        };
        let uid = self.facts.meta.uid.as_deref();
        Ok(owner_other_than(&found.metadata, uid))
    }

    /// Deletes an object and what belongs to it, unless another one has its name meanwhile.
    pub(super) async fn delete<K>(
        &mut self,
        name: &str,
        uid: Option<String>,
    ) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.memory.applied.remove(&key::<K>(name));
        let api = Api::<K>::namespaced(self.context.client.clone(), self.facts.namespace());
        let parameters = DeleteParams::background().preconditions(this_very(uid));
        gone(api.delete(name, &parameters).await)
    }

    /// Deletes exactly this pod, and not another one that has taken its name meanwhile. With a grace
    /// of 0 seconds nobody waits for its kubelet.
    pub(super) async fn delete_pod(
        &self,
        name: &str,
        uid: Option<String>,
        grace_seconds: Option<u32>,
    ) -> Result<(), kube::Error> {
        let api = Api::<Pod>::namespaced(self.context.client.clone(), self.facts.namespace());
        let parameters = DeleteParams {
            grace_period_seconds: grace_seconds,
            ..DeleteParams::default()
        };
        gone(
            api.delete(name, &parameters.preconditions(this_very(uid)))
                .await,
        )
    }
}

const fn this_very(uid: Option<String>) -> Preconditions {
    Preconditions {
        uid,
        resource_version: None,
    }
}

/// What is not there any more, or is another one by now, is gone.
fn gone<T>(deleted: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match deleted {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Who owns an object, if it is not the resource with this uid.
fn owner_other_than(found: &ObjectMeta, uid: Option<&str>) -> Option<String> {
    let owners = found.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| Some(owner.uid.as_str()) == uid) {
        return None;
    }
    let owner = owners.iter().find(|owner| owner.controller == Some(true));
    Some(owner.or_else(|| owners.first()).map_or_else(
        || "somebody else".to_owned(),
        |owner| format!("{} {} (uid {})", owner.kind, owner.name, owner.uid),
    ))
}

pub(in crate::controller) fn key<K: Resource<DynamicType = ()>>(name: &str) -> String {
    format!("{}/{name}", K::kind(&()))
}

/// What changes whenever the wanted state of an object does: its generation, or its resource
/// version where it has none.
pub(super) fn version<K: Resource>(object: &K) -> String {
    let meta = object.meta();
    meta.generation.map_or_else(
        || meta.resource_version.clone().unwrap_or_default(),
        |generation| generation.to_string(),
    )
}

pub(super) fn digest<K: Serialize>(object: &K) -> String {
    digest::of(&serde_json::to_string(object).unwrap_or_default(), 32)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    use super::*;

    #[test]
    fn an_object_is_ours_only_if_this_very_job_owns_it() {
        let owned_by = |uid: &str| ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                kind: "StreamJob".to_owned(),
                name: "orders".to_owned(),
                uid: uid.to_owned(),
                controller: Some(true),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        };
        assert_eq!(owner_other_than(&owned_by("u-1"), Some("u-1")), None);
        assert_eq!(
            owner_other_than(&owned_by("u-0"), Some("u-1")).unwrap(),
            "StreamJob orders (uid u-0)"
        );
        let nobodys = ObjectMeta::default();
        assert_eq!(
            owner_other_than(&nobodys, Some("u-1")).unwrap(),
            "somebody else"
        );
    }
}
