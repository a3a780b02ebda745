//! Makes the cluster look like the status says: server-side apply in order, then prune.
//!
//! The pods' templates are only written when the status names another deployment or parallelism,
//! or somebody else has changed them: a new version of the operator that renders them differently
//! restarts nothing.

mod objects;
mod prune;
mod put;

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams};
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
    /// What Kubernetes refused this time.
    refusals: Vec<String>,
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
            refusals: Vec::new(),
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
        self.put(map, None).await?;
        Ok(self.refusals.is_empty())
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

    fn jobs(&self) -> Api<StreamJob> {
        Api::namespaced(self.context.client.clone(), self.facts.namespace())
    }

    /// Whether refused objects are to be left alone for a while.
    pub(super) fn pausing(&self) -> bool {
        let trouble = self.memory.trouble.as_ref();
        trouble.is_some_and(|trouble| {
            self.now < trouble.next && Some(trouble.generation) == self.facts.meta.generation
        })
    }

    /// Takes note of what was refused, or that nothing was. True if that is news.
    pub(super) fn settle(&mut self) -> bool {
        let before = self.memory.trouble.take();
        if self.refusals.is_empty() {
            return before.is_some();
        }
        let message = self.refusals.join("; ");
        let news = before
            .as_ref()
            .is_none_or(|before| before.message != message);
        let tries = before
            .as_ref()
            .map_or(0, |before| before.tries)
            .saturating_add(1);
        let pause = Duration::from_secs(1 << tries.min(6)).min(TROUBLE_PAUSE_MAX);
        self.memory.trouble = Some(Trouble {
            message,
            since: before.map_or(self.now, |before| before.since),
            next: self.now.checked_add(pause).unwrap_or(self.now),
            generation: self.facts.meta.generation.unwrap_or_default(),
            tries,
        });
        news
    }
}
