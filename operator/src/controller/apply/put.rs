//! One object: server-side apply, or not if nothing would change.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
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
    /// it what was applied a moment ago is trusted.
    pub(super) async fn put<K>(&mut self, object: K, live: Option<&str>) -> Result<(), kube::Error>
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
                return Ok(());
            }
        }
        let api = Api::<K>::namespaced(self.context.client.clone(), self.facts.namespace());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let name = object.name_any();
        match api.patch(&name, &parameters, &Patch::Apply(&object)).await {
            Ok(stored) => {
                let version = version(&stored);
                let applied = Applied {
                    digest,
                    version,
                    at: self.now,
                };
                self.memory.applied.insert(key, applied);
                Ok(())
            }
            Err(error) => self.refused(&format!("{} {name}", K::kind(&())), error),
        }
    }

    /// An answer that will be the same for a while is a refusal, anything else an error.
    fn refused(&mut self, what: &str, error: kube::Error) -> Result<(), kube::Error> {
        match error {
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 409 | 422) => {
                tracing::warn!(
                    what,
                    message = status.message,
                    "Kubernetes refuses an object"
                );
                self.refusals.push(format!("{what}: {}", status.message));
                Ok(())
            }
            other => Err(other),
        }
    }

    /// Deletes an object and what belongs to it.
    pub(super) async fn delete<K>(&mut self, name: &str) -> Result<(), kube::Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        self.memory.applied.remove(&key::<K>(name));
        let api = Api::<K>::namespaced(self.context.client.clone(), self.facts.namespace());
        match api.delete(name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes this very pod, none that has its name meanwhile.
    pub(super) async fn delete_pod(
        &self,
        name: &str,
        uid: Option<String>,
    ) -> Result<(), kube::Error> {
        let api = Api::<Pod>::namespaced(self.context.client.clone(), self.facts.namespace());
        let this = Preconditions {
            uid,
            resource_version: None,
        };
        match api
            .delete(name, &DeleteParams::default().preconditions(this))
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn key<K: Resource<DynamicType = ()>>(name: &str) -> String {
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

fn digest<K: Serialize>(object: &K) -> String {
    digest::of(&serde_json::to_string(object).unwrap_or_default(), 32)
}
