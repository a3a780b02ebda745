//! What is there: pods, Kubernetes jobs, and what the coordinator says. No judgement.

pub mod pods;
pub mod tasks;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use millstream_crds::status::UpgradeStep;

use super::build::names::Role;
use super::dereference::Dereferenced;
use super::memory::JobMemory;
use crate::context::Context;
use crate::runtime_client::{
    AuditReport, RuntimeClient, RuntimeError, RuntimeState, RuntimeStatus, SavepointProgress,
};
use pods::{Problem, PutOff, Quiet};

/// Everything that a decision looks at, besides the resource itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The coordinator's pods.
    pub coordinator: Pods,
    /// The workers' pods.
    pub workers: Pods,
    /// What the coordinator of the newest deployment says.
    pub runtime: Runtime,
    /// What that coordinator has said at one of the last looks, while its silence is too short to
    /// mean anything. For telling people, not for deciding.
    pub heard_before: Option<RuntimeStatus>,
    /// All tasks of the newest deployment run, as the kubelet finds.
    pub kubelet_finds_it_running: bool,
    /// Pods that may have to be removed by force.
    pub quiet: Vec<Quiet>,
    /// The savepoint that `status.upgrade.savepoint` names.
    pub savepoint: SavepointSeen,
    /// The check of `status.upgrade.to`, of the current step only.
    pub preflight: TaskSeen,
    /// The deletion of the job's checkpoints.
    pub disposal: TaskSeen,
    /// The revisions whose config maps exist, by name, with their checkpoint storage.
    pub revisions: BTreeMap<String, String>,
    /// The runtime's own account of the records.
    pub audit: Option<AuditReport>,
    /// The namespace is being deleted: nothing can be created in it any more.
    pub namespace_terminating: bool,
}

/// The pods of one deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pods {
    /// Whether the Kubernetes deployment exists.
    pub present: bool,
    /// How many pods exist, also those that are being deleted.
    pub count: i32,
    /// How many pods are ready.
    pub ready: i32,
    /// Why pods do not start.
    pub problem: Option<Problem>,
    /// Pods that would start sooner if they were new.
    pub put_off: Vec<PutOff>,
}

/// What the coordinator says.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Runtime {
    /// There is no pod that could be asked.
    #[default]
    NoPod,
    /// There is a pod, but nobody answers there.
    Silent(String),
    /// A coordinator of an older deployment still answers.
    Outdated(RuntimeStatus),
    /// The coordinator of the newest deployment.
    Answers(RuntimeStatus),
}

/// How a savepoint stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SavepointSeen {
    /// Nobody was asked, or nobody answered.
    #[default]
    Unknown,
    /// The coordinator has not heard of it.
    NotAsked,
    /// It is being taken.
    InProgress,
    /// It lies at this path.
    Completed(String),
    /// It failed for this reason.
    Failed(String),
}

/// How a Kubernetes job that does one thing stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TaskSeen {
    /// It does not exist.
    #[default]
    Absent,
    /// It has not ended; perhaps its pod does not start.
    Waiting(Option<Problem>),
    /// It has succeeded, with what it wrote at its end.
    Succeeded(String),
    /// It has failed, with what it wrote at its end: trying again gives the same.
    Failed(String),
    /// It has ended without a verdict: the image could not be pulled, the store did not answer, its
    /// pod was evicted.
    Broken {
        /// What is known of it.
        message: String,
        /// When it ended.
        at: Option<Timestamp>,
    },
}

/// Looks at everything there is.
pub(super) async fn observe(
    facts: &Dereferenced,
    memory: &JobMemory,
    context: &Context,
) -> Observed {
    let ip = coordinator_ip(&facts.pods, facts.status.deployment);
    let runtime = match &ip {
        None => Runtime::NoPod,
        Some(ip) => ask(&context.runtime, ip, facts.status.deployment).await,
    };
    let mut observed = Observed {
        coordinator: pods::of(facts, Role::Coordinator),
        workers: pods::of(facts, Role::Worker),
        preflight: tasks::preflight(facts),
        disposal: tasks::disposal(facts),
        revisions: facts
            .revisions
            .iter()
            .map(|kept| (kept.name.clone(), kept.storage().to_owned()))
            .collect(),
        namespace_terminating: facts.namespace_terminating,
        runtime,
        heard_before: None,
        kubelet_finds_it_running: pods::is_running(&facts.pods, facts.status.deployment),
        quiet: pods::quiet(&facts.pods),
        savepoint: SavepointSeen::Unknown,
        audit: None,
    };
    if let (Some(ip), Some(status)) = (&ip, observed.runtime.current()) {
        let running = status.state == RuntimeState::Running;
        observed.savepoint = savepoint(facts, &context.runtime, ip).await;
        if running {
            // Without an answer the last one is kept.
            observed.audit = context.runtime.audit(ip).await.ok();
        }
    }
    let silent = matches!(observed.runtime, Runtime::Silent(_));
    if silent && observed.kubelet_finds_it_running {
        observed.heard_before = memory.heard_of(facts.status.deployment).cloned();
    }
    observed
}

/// Asks the coordinator what the job is doing.
async fn ask(client: &RuntimeClient, ip: &str, deployment: Option<i64>) -> Runtime {
    match client.status(ip).await {
        Ok(status) if status.deployment.and_then(|it| i64::try_from(it.0).ok()) == deployment => {
            Runtime::Answers(status)
        }
        Ok(status) => Runtime::Outdated(status),
        Err(error) => Runtime::Silent(error.to_string()),
    }
}

/// The savepoint that the job is being stopped with.
async fn savepoint(facts: &Dereferenced, client: &RuntimeClient, ip: &str) -> SavepointSeen {
    let upgrade = facts.status.upgrade.as_ref();
    let stopping = upgrade.filter(|upgrade| upgrade.step == UpgradeStep::Stopping);
    let Some(name) = stopping.and_then(|upgrade| upgrade.savepoint.as_ref()) else {
        return SavepointSeen::Unknown;
    };
    match client.savepoint_status(ip, name).await {
        Err(RuntimeError::NotFound { .. }) => SavepointSeen::NotAsked,
        Err(_) => SavepointSeen::Unknown,
        Ok(savepoint) => match (savepoint.state, savepoint.path) {
            (SavepointProgress::InProgress | SavepointProgress::Unknown, _) => {
                SavepointSeen::InProgress
            }
            (SavepointProgress::Completed, Some(path)) => SavepointSeen::Completed(path),
            (SavepointProgress::Completed, None) => {
                SavepointSeen::Failed("the coordinator does not say where it lies".to_owned())
            }
            (SavepointProgress::Failed, _) => SavepointSeen::Failed(
                savepoint
                    .failure
                    .map_or_else(|| "for no reason given".to_owned(), |one| one.message),
            ),
        },
    }
}

/// Where the coordinator of a deployment, or else the newest one, can be asked. One that is being
/// deleted is not.
pub(crate) fn coordinator_ip(pods: &[Pod], deployment: Option<i64>) -> Option<String> {
    pods.iter()
        .filter(|pod| pods::is_of_role(pod, Role::Coordinator))
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .max_by_key(|pod| {
            let current = pods::is_of_deployment(pod, deployment);
            (current, pod.creation_timestamp())
        })
        .and_then(|pod| pod.status.as_ref()?.pod_ip.clone())
}

impl Runtime {
    /// The status, if it is that of the newest deployment.
    pub fn current(&self) -> Option<&RuntimeStatus> {
        match self {
            Self::Answers(status) => Some(status),
            _ => None,
        }
    }
}
