//! Makes the cluster look like the status says: server-side apply in order, then prune.
//!
//! The pods' templates are only written when the status names another deployment or parallelism,
//! or somebody else has changed them: a new version of the operator that renders them differently
//! restarts nothing.

mod objects;
mod prune;
mod put;

pub(super) use put::key;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams};
use millstream_crds::{StreamJob, StreamJobStatus};
use serde_json::json;

use super::ReconcileError;
use super::build::names::FIELD_MANAGER;
use super::dereference::Dereferenced;
use super::memory::{JobMemory, Trouble};
use super::revision::Revision;
use crate::context::Context;

/// Annotation with the step of an upgrade that a Kubernetes job was made for.
pub(super) const ANNOTATION_STEP: &str = "millstream.dev/step";
/// Annotation with the deployment that an object was rendered for.
const ANNOTATION_DEPLOYMENT: &str = "millstream.dev/deployment";
/// Annotation with the parallelism that an object was rendered for.
const ANNOTATION_PARALLELISM: &str = "millstream.dev/parallelism";
/// Annotation with a digest of what was written, to tell what this version would write alike.
const ANNOTATION_RENDERED: &str = "millstream.dev/rendered";
/// Finalizer of a job whose state something must be done about.
pub(super) const FINALIZER: &str = "millstream.dev/state";
/// Longest pause after Kubernetes refused an object.
const TROUBLE_PAUSE_MAX: Duration = Duration::from_mins(1);

/// Writes to the API server for one reconcile.
pub(super) struct Applier<'a> {
    context: &'a Context,
    facts: &'a Dereferenced,
    now: Timestamp,
    /// What is remembered, and will be kept.
    pub(super) memory: JobMemory,
    /// What Kubernetes refused this time, by kind and name.
    refusals: BTreeMap<String, String>,
}

impl<'a> Applier<'a> {
    pub(super) const fn new(
        context: &'a Context,
        facts: &'a Dereferenced,
        memory: JobMemory,
        now: Timestamp,
    ) -> Self {
        Self {
            context,
            facts,
            now,
            memory,
            refusals: BTreeMap::new(),
        }
    }

    pub(super) const fn context(&self) -> &Context {
        self.context
    }

    /// Keeps a revision, so that the status may name it. False if Kubernetes refuses.
    pub(super) async fn keep_revision(
        &mut self,
        revision: &Revision,
    ) -> Result<bool, ReconcileError> {
        let job = self.owner_of(revision)?;
        let map = revision
            .config_map(&job, &self.facts.owner)
            .map_err(ReconcileError::Yaml)?;
        Ok(self.put(map, None).await?)
    }

    /// The resource as the owner of objects, with the spec of a revision.
    fn owner_of(&self, revision: &Revision) -> Result<StreamJob, ReconcileError> {
        Ok(StreamJob {
            metadata: self.facts.meta.clone(),
            spec: revision.spec(1).map_err(ReconcileError::Revision)?,
            status: None,
        })
    }

    /// Writes the status, unless somebody has written the resource since it was read.
    pub(super) async fn status(&self, status: &StreamJobStatus) -> Result<(), ReconcileError> {
        let patch = json!({
            "apiVersion": "millstream.dev/v1alpha1",
            "kind": "StreamJob",
            "metadata": {
                "name": self.facts.meta.name,
                "resourceVersion": self.facts.meta.resource_version,
            },
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.jobs()
            .patch_status(self.facts.name(), &parameters, &Patch::Apply(&patch))
            .await?;
        Ok(())
    }

    /// Sets or removes our finalizer.
    pub(super) async fn finalizer(&self, wanted: bool) -> Result<(), ReconcileError> {
        let before = self.facts.meta.finalizers.clone().unwrap_or_default();
        let mut after: Vec<String> = before
            .iter()
            .filter(|one| *one != FINALIZER)
            .cloned()
            .collect();
        if wanted {
            after.push(FINALIZER.to_owned());
        }
        let patch = json!({ "metadata": {
            "resourceVersion": self.facts.meta.resource_version,
            "finalizers": after,
        }});
        let parameters = PatchParams::default();
        self.jobs()
            .patch_metadata(self.facts.name(), &parameters, &Patch::Merge(&patch))
            .await?;
        Ok(())
    }

    /// Untyped: a spec that the types refuse must not make a write fail that has succeeded.
    fn jobs(&self) -> Api<DynamicObject> {
        let kind = ApiResource::erase::<StreamJob>(&());
        Api::namespaced_with(self.context.client.clone(), self.facts.namespace(), &kind)
    }

    /// Whether a refused object is to be left alone for a while.
    fn is_pausing(&self, key: &str) -> bool {
        let trouble = self.memory.troubles.get(key);
        trouble.is_some_and(|trouble| {
            self.now < trouble.next && Some(trouble.generation) == self.facts.meta.generation
        })
    }

    /// Takes note of a refusal.
    fn refused(&mut self, key: String, message: String) {
        self.memory.applied.remove(&key);
        self.refusals.insert(key, message);
    }

    /// Remembers what was refused, and what still is. True if that is news.
    pub(super) fn settle(&mut self) -> bool {
        let before = std::mem::take(&mut self.memory.troubles);
        let messages = |troubles: &BTreeMap<String, Trouble>| -> Vec<String> {
            troubles.values().map(|it| it.message.clone()).collect()
        };
        let told = messages(&before);
        let mut troubles: BTreeMap<String, Trouble> = before
            .iter()
            .filter(|(key, trouble)| {
                let pausing = self.now < trouble.next
                    && Some(trouble.generation) == self.facts.meta.generation;
                // What is there by now is not refused any more.
                pausing && !self.memory.applied.contains_key(*key)
            })
            .map(|(key, trouble)| (key.clone(), trouble.clone()))
            .collect();
        for (key, message) in std::mem::take(&mut self.refusals) {
            let before = before.get(&key);
            let tries = before.map_or(0, |before| before.tries).saturating_add(1);
            let pause = Duration::from_secs(1 << tries.min(6)).min(TROUBLE_PAUSE_MAX);
            let trouble = Trouble {
                message,
                since: before.map_or(self.now, |before| before.since),
                next: self.now.checked_add(pause).unwrap_or(self.now),
                generation: self.facts.meta.generation.unwrap_or_default(),
                tries,
            };
            troubles.insert(key, trouble);
        }
        let news = messages(&troubles) != told;
        self.memory.troubles = troubles;
        news
    }
}
