//! Every read that a reconcile of a savepoint needs. No judgement.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ApiResource, ListParams};
use kube::core::DynamicObject;
use millstream_crds::{StreamJob, StreamSavepoint};
use serde::Deserialize as _;

use super::decide::{DisposalSeen, JobSeen, RuntimeSeen, Seen, needs_disposal, needs_runtime};
use super::template::Template;
use super::{SavepointError, runtime_name};
use crate::context::Context;
use crate::controller::build::names::{Names, Role, bounded};
use crate::controller::digest;
use crate::controller::observe::coordinator_ip;
use crate::runtime_client::{RuntimeError, SavepointProgress};

/// Name of the Kubernetes job that deletes the data of a savepoint: its own, not that of a job or of
/// an earlier savepoint of the same name.
pub(super) fn disposal_name(savepoint: &StreamSavepoint) -> String {
    let uid = savepoint.metadata.uid.as_deref().unwrap_or_default();
    bounded(
        savepoint.metadata.name.as_deref().unwrap_or_default(),
        &format!("disposal-{}", digest::of(uid, 5)),
    )
}

/// Whether a Kubernetes job is the disposal of this very savepoint.
fn is_disposal_of(job: &Job, savepoint: &StreamSavepoint) -> bool {
    let mut owners = job.metadata.owner_references.iter().flatten();
    owners.any(|owner| Some(&owner.uid) == savepoint.metadata.uid.as_ref())
}

/// Namespace of a savepoint.
pub(super) fn namespace(savepoint: &StreamSavepoint) -> &str {
    savepoint.metadata.namespace.as_deref().unwrap_or_default()
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Dereferenced {
    /// What a decision looks at.
    pub(super) seen: Seen,
    /// Address of the coordinator, if one runs.
    pub(super) coordinator: Option<String>,
}

/// Reads what a decision needs, and nothing for a savepoint that has ended.
pub(super) async fn read(
    savepoint: &StreamSavepoint,
    context: &Context,
) -> Result<Dereferenced, SavepointError> {
    let (runtime, disposal) = (needs_runtime(savepoint), needs_disposal(savepoint));
    let mut read = Dereferenced::default();
    let seen = &mut read.seen;
    if runtime || disposal {
        seen.job = job(savepoint, context).await?;
    }
    if let Some(job) = seen.job.as_ref().filter(|_| runtime) {
        read.coordinator = coordinator(savepoint, job.deployment, context).await?;
        if let Some(ip) = &read.coordinator {
            seen.runtime = ask(savepoint, ip, context).await;
        }
    }
    if disposal {
        let jobs: Api<Job> = Api::namespaced(context.client.clone(), namespace(savepoint));
        let job = jobs.get_opt(&disposal_name(savepoint)).await;
        let job = job.map_err(SavepointError::api("reading the disposal"))?;
        let job = job.filter(|job| is_disposal_of(job, savepoint));
        seen.disposal = job.as_ref().map_or(DisposalSeen::Absent, disposal_seen);
    }
    Ok(read)
}

async fn job(
    savepoint: &StreamSavepoint,
    context: &Context,
) -> Result<Option<JobSeen>, SavepointError> {
    let kind = ApiResource::erase::<StreamJob>(&());
    let client = context.client.clone();
    let jobs: Api<DynamicObject> = Api::namespaced_with(client, namespace(savepoint), &kind);
    let job = jobs.get_opt(&savepoint.spec.job_ref.name).await;
    let job = job.map_err(SavepointError::api("reading the StreamJob"))?;
    Ok(job.map(|job| JobSeen {
        phase: job
            .data
            .pointer("/status/state")
            .and_then(|state| millstream_crds::JobPhase::deserialize(state).ok()),
        deployment: job
            .data
            .pointer("/status/deployment")
            .and_then(serde_json::Value::as_i64),
        template: job.data.get("spec").and_then(Template::of_spec),
    }))
}

/// Address of the coordinator's pod, if one runs.
async fn coordinator(
    savepoint: &StreamSavepoint,
    deployment: Option<i64>,
    context: &Context,
) -> Result<Option<String>, SavepointError> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace(savepoint));
    let selector = Names::of_name(&savepoint.spec.job_ref.name).selector(Role::Coordinator);
    let selector: Vec<String> = selector
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let list = pods
        .list(&ListParams::default().labels(&selector.join(",")))
        .await;
    let list = list.map_err(SavepointError::api("listing the coordinator's pods"))?;
    let runs = |pod: &Pod| {
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        phase == Some("Running")
    };
    let running: Vec<Pod> = list.items.into_iter().filter(runs).collect();
    Ok(coordinator_ip(&running, deployment))
}

async fn ask(savepoint: &StreamSavepoint, ip: &str, context: &Context) -> RuntimeSeen {
    let name = runtime_name(savepoint);
    let status = match context.runtime.savepoint_status(ip, &name).await {
        Ok(status) => status,
        Err(RuntimeError::NotFound { .. }) => return RuntimeSeen::NotAsked,
        Err(error) => return RuntimeSeen::Silent(error.to_string()),
    };
    match status.state {
        SavepointProgress::InProgress | SavepointProgress::Unknown => RuntimeSeen::InProgress,
        SavepointProgress::Failed => RuntimeSeen::Failed(
            status
                .failure
                .map_or_else(|| "no reason given".to_owned(), |one| one.message),
        ),
        SavepointProgress::Completed => {
            let size = match status.size_bytes {
                Some(size) => Some(size),
                // Only the coordinator that took it remembers; the size is not worth an error.
                None => context
                    .runtime
                    .savepoint_size(ip, &name)
                    .await
                    .ok()
                    .flatten(),
            };
            RuntimeSeen::Completed {
                path: status.path.unwrap_or_default(),
                id: status.id.and_then(|id| i64::try_from(id.0).ok()),
                size_bytes: size.and_then(|size| i64::try_from(size).ok()),
            }
        }
    }
}

fn disposal_seen(job: &Job) -> DisposalSeen {
    let conditions = job
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    for condition in conditions.filter(|condition| condition.status == "True") {
        match condition.type_.as_str() {
            "Complete" | "SuccessCriteriaMet" => return DisposalSeen::Succeeded,
            "Failed" => {
                let name = job.metadata.name.as_deref().unwrap_or_default();
                let why = condition.message.as_deref().unwrap_or("no reason given");
                return DisposalSeen::Failed {
                    message: format!("{why} (kubectl logs job/{name} says more)"),
                    at: condition.last_transition_time.as_ref().map(|time| time.0),
                };
            }
            _ => {}
        }
    }
    DisposalSeen::Running
}
