//! The objects of what the status says.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;
use millstream_crds::{StreamJob, StreamJobSpec};

use super::put::{digest, key, version};
use super::{
    ANNOTATION_DEPLOYMENT, ANNOTATION_PARALLELISM, ANNOTATION_RENDERED, ANNOTATION_STEP, Applier,
};
use crate::controller::ReconcileError;
use crate::controller::build::{Blueprint, coordinator, disposal, network, preflight, workers};
use crate::controller::decide::{Decision, PreflightWanted};
use crate::controller::memory::Applied;
use crate::controller::revision::Revision;

impl Applier<'_> {
    /// Applies everything that a decision asks for, and deletes what it no longer asks for.
    /// `wanted` is the revision that the spec asks for.
    pub(in crate::controller) async fn objects(
        &mut self,
        decision: &Decision,
        wanted: Option<&Revision>,
    ) -> Result<(), ReconcileError> {
        let deleting = self.facts.meta.deletion_timestamp.is_some();
        self.prune_deployments(&decision.status).await?;
        if !deleting {
            Box::pin(self.running(decision, wanted)).await?;
            if let Some(check) = &decision.preflight {
                Box::pin(self.preflight(check, wanted)).await?;
            }
        }
        if decision.disposal {
            Box::pin(self.disposal(decision, wanted)).await?;
        }
        self.prune(decision).await?;
        for (role, pod) in &decision.replace {
            self.delete_pod(&pod.pod, pod.uid.clone(), None).await?;
            self.memory.replaced.note(*role, 1, self.now);
        }
        for pod in &decision.remove {
            self.delete_pod(&pod.pod, pod.uid.clone(), Some(0)).await?;
        }
        Ok(())
    }

    fn known<'b>(&'b self, name: &str, wanted: Option<&'b Revision>) -> Option<&'b Revision> {
        let wanted = wanted.filter(|wanted| wanted.name == name);
        self.facts.revision(name).or(wanted)
    }

    /// The pods and what they need, if something is to run.
    async fn running(
        &mut self,
        decision: &Decision,
        wanted: Option<&Revision>,
    ) -> Result<(), ReconcileError> {
        let status = &decision.status;
        let (Some(deployed), Some(name)) = (&status.deployed, &status.revision) else {
            return Ok(());
        };
        let Some(revision) = self.known(name, wanted).cloned() else {
            let message = format!(
                "the config map {name} of the running revision is missing or was changed; change \
                 the spec to deploy another one"
            );
            self.refused(key::<ConfigMap>(name), message);
            return Ok(());
        };
        let parallelism = status.parallelism.and_then(|all| u32::try_from(all).ok());
        let spec = revision
            .spec(parallelism.unwrap_or(1))
            .map_err(ReconcileError::Revision)?;
        let job = self.job(&spec);
        let deployment = status
            .deployment
            .and_then(|number| u64::try_from(number).ok());
        let blueprint = Blueprint {
            job: &job,
            spec: &spec,
            revision: &revision.hash,
            config_map: &revision.name,
            restore: &deployed.restore,
            unless_advanced: deployed.unless_advanced,
            expect_state: deployed.expect_state,
            allow_dropped_state: deployed.allow_dropped_state,
            accept_lost_output: deployed.accept_lost_output,
            deployment: deployment.unwrap_or_default(),
        };
        if deployed.claimed {
            self.put(coordinator::ran(&blueprint), None).await?;
        }
        self.put(coordinator::service_of_workers(&blueprint), None)
            .await?;
        self.put(coordinator::service_of_clients(&blueprint), None)
            .await?;
        self.put(network::policy(&blueprint), None).await?;
        self.put(workers::disruption_budget(&blueprint), None)
            .await?;
        self.pods(coordinator::deployment(&blueprint), &blueprint)
            .await?;
        self.pods(workers::deployment(&blueprint), &blueprint)
            .await?;
        Ok(())
    }

    fn job(&self, spec: &StreamJobSpec) -> StreamJob {
        StreamJob {
            metadata: self.facts.meta.clone(),
            spec: spec.clone(),
            status: None,
        }
    }

    /// A deployment of pods, unless it stands there for what the status says. After a restart of
    /// the operator one that this version would write alike is written again, which puts right what
    /// somebody has changed meanwhile and otherwise changes nothing. One that another version has
    /// written is left alone, so that no job is restarted by an upgrade of the operator.
    async fn pods(
        &mut self,
        mut object: Deployment,
        blueprint: &Blueprint<'_>,
    ) -> Result<(), ReconcileError> {
        let marks = [
            (ANNOTATION_DEPLOYMENT, blueprint.deployment.to_string()),
            (
                ANNOTATION_PARALLELISM,
                blueprint.spec.parallelism.to_string(),
            ),
        ];
        for (name, value) in &marks {
            annotate(&mut object.metadata, name, value);
        }
        let rendered = digest(&object);
        annotate(&mut object.metadata, ANNOTATION_RENDERED, &rendered);
        let name = object.name_any();
        let key = key::<Deployment>(&name);
        let live = self.facts.deployments.get(&name);
        if let Some(live) = live {
            let version = version(live);
            let meant = marks
                .iter()
                .all(|(name, value)| live.annotations().get(*name) == Some(value));
            let applied = self.memory.applied.get(&key);
            if applied.is_none() && live.annotations().get(ANNOTATION_RENDERED) != Some(&rendered) {
                // Another version has written it: from here on changes of it are seen.
                let applied = Applied {
                    digest: String::new(),
                    version: version.clone(),
                    at: self.now,
                };
                self.memory.applied.insert(key.clone(), applied);
            }
            let applied = self.memory.applied.get(&key);
            if meant && applied.is_some_and(|applied| applied.version == version) {
                return Ok(());
            }
        }
        // Whatever it was, it is not there or not as it should be.
        self.memory.applied.remove(&key);
        self.put(object, None).await?;
        Ok(())
    }

    /// The check of a revision. A job is never taken for another one of the same name.
    async fn preflight(
        &mut self,
        check: &PreflightWanted,
        wanted: Option<&Revision>,
    ) -> Result<(), ReconcileError> {
        let Some(revision) = self.known(&check.revision, wanted).cloned() else {
            return Ok(());
        };
        let parallelism = self.facts.status.parallelism;
        let parallelism = parallelism.and_then(|all| u32::try_from(all).ok());
        let spec = revision
            .spec(parallelism.unwrap_or(1))
            .map_err(ReconcileError::Revision)?;
        let job = self.job(&spec);
        let blueprint = Blueprint {
            job: &job,
            spec: &spec,
            revision: &revision.hash,
            config_map: &revision.name,
            restore: &check.restore,
            unless_advanced: false,
            expect_state: false,
            allow_dropped_state: check.allow_dropped_state,
            accept_lost_output: None,
            deployment: 0,
        };
        let mut object = preflight::job(&blueprint, check.deadline);
        annotate(&mut object.metadata, ANNOTATION_STEP, &check.step);
        self.task(object).await
    }

    /// Makes a Kubernetes job if there is none of its name; they cannot be changed.
    async fn task(&mut self, object: Job) -> Result<(), ReconcileError> {
        let name = object.name_any();
        if self.facts.tasks.iter().any(|task| task.name_any() == name) {
            return Ok(());
        }
        self.memory.applied.remove(&key::<Job>(&name));
        self.put(object, None).await?;
        Ok(())
    }

    async fn disposal(
        &mut self,
        decision: &Decision,
        wanted: Option<&Revision>,
    ) -> Result<(), ReconcileError> {
        let current = decision.status.revision.as_deref();
        let current = current.and_then(|name| self.known(name, wanted));
        let Some(revision) = current.or(wanted).cloned() else {
            return Ok(());
        };
        let spec = revision.spec(1).map_err(ReconcileError::Revision)?;
        let deployment = decision.status.deployment;
        let config_map = self.facts.revision(&revision.name);
        let config_map = config_map.map(|revision| revision.name.as_str());
        let job = self.job(&spec);
        let object = disposal::of_job(&job, &self.facts.owner, deployment, config_map);
        self.task(object).await
    }
}

fn annotate(meta: &mut ObjectMeta, name: &str, value: &str) {
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(name.to_owned(), value.to_owned());
}
