//! What the status no longer asks for goes.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::ResourceExt as _;
use millstream_crds::StreamJobStatus;

use super::put::key;
use super::{ANNOTATION_STEP, Applier};
use crate::controller::ReconcileError;
use crate::controller::build::names::{LABEL_REVISION, LABEL_ROLE, Role};
use crate::controller::decide::Decision;

impl Applier<'_> {
    /// Deployments that the status does not name go, with their pods and with the service of their
    /// workers. They go before others come, so that they leave room for them.
    pub(super) async fn prune_deployments(
        &mut self,
        status: &StreamJobStatus,
    ) -> Result<(), ReconcileError> {
        let facts = self.facts;
        let names = facts.names();
        let number = status.deployed.as_ref().and(status.deployment);
        let number = number.and_then(|number| u64::try_from(number).ok());
        let wanted = number.map(|number| [names.coordinator_of(number), names.workers_of(number)]);
        for (name, live) in &facts.deployments {
            let is_wanted = wanted.as_ref().is_some_and(|wanted| wanted.contains(name));
            if is_wanted || live.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let role = live.labels().get(LABEL_ROLE).map(String::as_str);
            if role == Some(Role::Coordinator.as_str()) && *name != names.coordinator() {
                self.delete::<Service>(name, None).await?;
            }
            self.delete::<Deployment>(name, live.uid()).await?;
        }
        Ok(())
    }

    pub(super) async fn prune(&mut self, decision: &Decision) -> Result<(), ReconcileError> {
        let facts = self.facts;
        for task in &facts.tasks {
            let role = task.labels().get(LABEL_ROLE).map(String::as_str);
            let checks = role == Some(Role::Preflight.as_str());
            let gone = task.metadata.deletion_timestamp.is_some();
            if checks && !gone && !is_needed(decision, task) {
                self.delete::<Job>(&task.name_any(), task.uid()).await?;
            }
        }
        let kept = kept(&decision.status);
        for revision in &facts.revisions {
            if !kept.contains(revision.name.as_str()) {
                let uid = facts.uids.get(&key::<ConfigMap>(&revision.name)).cloned();
                self.delete::<ConfigMap>(&revision.name, uid).await?;
            }
        }
        Ok(())
    }
}

/// A check is needed while it is asked for, and its log as long as what it found stands.
fn is_needed(decision: &Decision, task: &Job) -> bool {
    let step = task.annotations().get(ANNOTATION_STEP);
    let asked = decision.preflight.as_ref().map(|check| &check.step);
    let hash = task.labels().get(LABEL_REVISION);
    let rejected = decision.status.rejected.as_ref();
    let stands = rejected.zip(hash).is_some_and(|(rejected, hash)| {
        decision.preflight.is_none() && rejected.revision.ends_with(hash.as_str())
    });
    asked.is_some() && step == asked || stands
}

/// Names of the revisions that a status refers to.
fn kept(status: &StreamJobStatus) -> BTreeSet<&str> {
    let upgrade = status.upgrade.as_ref();
    let from = upgrade.and_then(|upgrade| upgrade.from.as_deref());
    let to = upgrade.and_then(|upgrade| upgrade.to.as_deref());
    let rejected = status
        .rejected
        .as_ref()
        .map(|rejected| rejected.revision.as_str());
    let listed = status
        .revisions
        .iter()
        .map(|revision| revision.name.as_str());
    listed
        .chain(status.revision.as_deref())
        .chain(from)
        .chain(to)
        .chain(rejected)
        .collect()
}
