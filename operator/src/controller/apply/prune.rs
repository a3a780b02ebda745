//! What the status no longer asks for goes.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use millstream_crds::StreamJobStatus;

use super::{ANNOTATION_STEP, Applier};
use crate::controller::ReconcileError;
use crate::controller::build::names::{LABEL_REVISION, LABEL_ROLE, Role};
use crate::controller::decide::Decision;

impl Applier<'_> {
    pub(super) async fn prune(&mut self, decision: &Decision) -> Result<(), ReconcileError> {
        let facts = self.facts;
        if decision.status.deployed.is_none() {
            for (name, live) in &facts.deployments {
                if live.metadata.deletion_timestamp.is_none() {
                    self.delete::<Deployment>(name).await?;
                }
            }
        }
        for task in &facts.tasks {
            let role = task.labels().get(LABEL_ROLE).map(String::as_str);
            let checks = role == Some(Role::Preflight.as_str());
            let gone = task.metadata.deletion_timestamp.is_some();
            if checks && !gone && !is_needed(decision, task) {
                self.delete::<Job>(&task.name_any()).await?;
            }
        }
        let kept = kept(&decision.status);
        for revision in &facts.revisions {
            if !kept.contains(revision.name.as_str()) {
                self.delete::<ConfigMap>(&revision.name).await?;
            }
        }
        Ok(())
    }
}

/// A check is needed while it is asked for, and its log as long as what it found stands.
fn is_needed(decision: &Decision, task: &Job) -> bool {
    let step = task.annotations().get(ANNOTATION_STEP);
    let asked = decision.preflight.as_ref().map(|check| &check.since);
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
