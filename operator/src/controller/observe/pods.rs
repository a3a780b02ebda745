//! Pods: how many there are, why they do not start, and which are not worth waiting for.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodCondition};
use kube::ResourceExt as _;

use super::Pods;
use crate::controller::build::coordinator::READY;
use crate::controller::build::names::{LABEL_DEPLOYMENT, LABEL_ROLE, Role};
use crate::controller::dereference::Dereferenced;

/// Exit code of the runtime for faults of the job file.
const EXIT_INVALID: i32 = 2;
/// Exit code of the runtime where a newer deployment or attempt has the chain.
const EXIT_FENCED: i32 = 3;

/// A process that has worked for this long is able to start.
const WORKED: Duration = Duration::from_secs(10);

/// A pod whose process had worked before it ended, and whose restart the kubelet puts off: for up
/// to five minutes, where a new pod starts at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutOff {
    /// Name of the pod.
    pub pod: String,
    /// Its uid, so that no other pod is taken for it.
    pub uid: Option<String>,
    /// How its process ended.
    pub message: String,
}

/// A pod that may never end by itself, because its node says nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quiet {
    /// Name of the pod.
    pub pod: String,
    /// Its uid, so that no other pod is taken for it.
    pub uid: Option<String>,
    /// Whether Kubernetes has lost its node.
    pub node_lost: bool,
    /// When it should have ended, if it is to end.
    pub due: Option<Timestamp>,
}

/// Why a pod does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which kind.
    pub kind: ProblemKind,
    /// What Kubernetes or the container says, with the name of the pod.
    pub message: String,
}

/// Kinds of problems, by what can be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The image cannot be had and will not be tried again: its name is malformed, or it must be
    /// there and is not.
    ImageUnusable,
    /// The image cannot be pulled now; the kubelet tries again.
    ImagePull,
    /// The container ended with faults of the job file: exit code 2.
    InvalidJob,
    /// The container ended because a newer deployment has the job's chain: exit code 3.
    Fenced,
    /// The container ends again and again.
    Crash,
    /// The container cannot be made: a secret or config map is missing, a path cannot be mounted.
    Container,
    /// Pods cannot be created: quota, service account, admission.
    NotCreated,
    /// No node has room.
    NotScheduled,
}

impl ProblemKind {
    /// Whether waiting cannot help.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::ImageUnusable | Self::InvalidJob)
    }

    /// Whether the container has not even started.
    pub const fn is_before_start(self) -> bool {
        match self {
            Self::ImageUnusable
            | Self::ImagePull
            | Self::Container
            | Self::NotCreated
            | Self::NotScheduled => true,
            Self::InvalidJob | Self::Fenced | Self::Crash => false,
        }
    }
}

/// The pods of a role. Those of older deployments only count.
pub(super) fn of(facts: &Dereferenced, role: Role) -> Pods {
    let own: Vec<&Pod> = facts
        .pods
        .iter()
        .filter(|pod| is_of_role(pod, role))
        .collect();
    let number = facts
        .status
        .deployment
        .and_then(|it| u64::try_from(it).ok());
    let name = number.map(|number| match role {
        Role::Coordinator => facts.names().coordinator_of(number),
        _ => facts.names().workers_of(number),
    });
    let deployment = name.and_then(|name| facts.deployments.get(&name));
    let living = || {
        own.iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter(|pod| is_of_deployment(pod, facts.status.deployment))
    };
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    Pods {
        present: deployment.is_some(),
        count: count(own.len()),
        ready: count(living().filter(|pod| is_ready(pod)).count()),
        problem: living()
            .find_map(|pod| problem_of(pod, facts.warnings.get(&pod.name_any())))
            .or_else(|| deployment.and_then(not_created)),
        put_off: living().filter_map(|pod| put_off(pod)).collect(),
    }
}

/// Pods that may have to be removed by force.
pub(super) fn quiet(pods: &[Pod]) -> Vec<Quiet> {
    let quiet = pods.iter().map(|pod| Quiet {
        pod: pod.name_any(),
        uid: pod.uid(),
        node_lost: is_on_lost_node(pod),
        due: pod.metadata.deletion_timestamp.as_ref().map(|due| due.0),
    });
    quiet
        .filter(|pod| pod.node_lost || pod.due.is_some())
        .collect()
}

/// Whether Kubernetes has lost the node of a pod. Of one that ran the control plane takes back `Ready`
/// and nothing else, while a kubelet that finds a pod not ready gives a reason and says so of its
/// containers, too. One that the node has never begun is evicted.
///
/// Source: `MarkPodsNotReady` of kube-controller-manager, package `pkg/controller/util/node`.
fn is_on_lost_node(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|it| it.conditions.as_ref());
    let find = |name: &str| conditions?.iter().find(|one| one.type_ == name);
    let reason = |one: &PodCondition| one.reason.clone().unwrap_or_default();
    let holds = |name: &str| find(name).is_some_and(|one| one.status == "True");
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    match phase {
        Some("Running") => {
            find("Ready").is_some_and(|ready| ready.status == "False" && reason(ready).is_empty())
                && holds("ContainersReady")
        }
        Some("Pending") => {
            holds("DisruptionTarget")
                && find("DisruptionTarget")
                    .is_some_and(|target| reason(target) == "DeletionByTaintManager")
        }
        _ => false,
    }
}

pub(super) fn is_of_role(pod: &Pod, role: Role) -> bool {
    pod.labels().get(LABEL_ROLE).map(String::as_str) == Some(role.as_str())
}

/// Whether a pod belongs to a deployment of the job.
pub(super) fn is_of_deployment(pod: &Pod, deployment: Option<i64>) -> bool {
    let label = pod.labels().get(LABEL_DEPLOYMENT);
    let number = label.and_then(|number| number.parse::<i64>().ok());
    number.is_some() && number == deployment
}

/// How the one container of a pod stands.
fn container_of(pod: &Pod) -> Option<&ContainerStatus> {
    let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
    containers.first()
}

fn put_off(pod: &Pod) -> Option<PutOff> {
    let container = container_of(pod)?;
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let ended = container.last_state.as_ref()?.terminated.as_ref()?;
    let (from, to) = (ended.started_at.as_ref()?, ended.finished_at.as_ref()?);
    let worked = Duration::try_from(to.0.duration_since(from.0)).ok()?;
    // One that ended in peace has nothing to do until it is told.
    let is_put_off = waiting.reason.as_deref() == Some("CrashLoopBackOff")
        && worked >= WORKED
        && ended.exit_code != 0;
    is_put_off.then(|| PutOff {
        pod: pod.name_any(),
        uid: pod.uid(),
        message: format!("{} after {}s", last_words(ended).1, worked.as_secs()),
    })
}

/// Whether the kubelet finds that all tasks of a deployment run: its coordinator's pod is ready, and
/// asked for that and not for its health alone.
pub(super) fn is_running(pods: &[Pod], deployment: Option<i64>) -> bool {
    pods.iter()
        .filter(|pod| is_of_role(pod, Role::Coordinator) && is_of_deployment(pod, deployment))
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .any(|pod| is_ready(pod) && asks_for_tasks(pod))
}

fn asks_for_tasks(pod: &Pod) -> bool {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let probe = container.and_then(|container| container.readiness_probe.as_ref());
    let asked = probe.and_then(|probe| probe.http_get.as_ref());
    asked.is_some_and(|asked| asked.path.as_deref() == Some(READY))
}

fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

fn condition<'a>(pod: &'a Pod, name: &str) -> Option<(&'a str, Option<&'a str>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|one| one.type_ == name)?;
    Some((found.status.as_str(), found.message.as_deref()))
}

/// Why a pod does not start, if it does not.
pub(super) fn problem_of(pod: &Pod, warning: Option<&String>) -> Option<Problem> {
    let name = pod.name_any();
    let problem = |kind: ProblemKind, message: &str| Problem {
        kind,
        message: format!("pod {name}: {message}"),
    };
    // Nothing is known of a pod without a status.
    pod.status.as_ref()?;
    if let Some(("False", message)) = condition(pod, "PodScheduled") {
        return Some(problem(
            ProblemKind::NotScheduled,
            message.unwrap_or("no node takes it"),
        ));
    }
    if let Some((kind, message)) = container_of(pod).and_then(problem_of_container) {
        return Some(problem(kind, &message));
    }
    warning.map(|message| match image_of(pod) {
        // Between two pulls nothing else names it.
        Some(image) if message.contains("ImagePull") && !message.contains(image) => {
            problem(ProblemKind::ImagePull, &format!("{message}: {image}"))
        }
        _ => problem(ProblemKind::Container, message),
    })
}

fn image_of(pod: &Pod) -> Option<&str> {
    let container = pod.spec.as_ref()?.containers.first()?;
    container.image.as_deref()
}

fn problem_of_container(container: &ContainerStatus) -> Option<(ProblemKind, String)> {
    let state = container.state.as_ref()?;
    if let Some(ended) = &state.terminated {
        return (ended.exit_code != 0).then(|| last_words(ended));
    }
    let waiting = state.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    let message = waiting.message.as_deref().unwrap_or_default();
    let text = format!("{reason}: {message}");
    match reason {
        "ErrImageNeverPull" | "InvalidImageName" => Some((ProblemKind::ImageUnusable, text)),
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            Some((ProblemKind::ImagePull, text))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some((ProblemKind::Container, text))
        }
        "CrashLoopBackOff" => {
            let last = container.last_state.as_ref();
            match last.and_then(|last| last.terminated.as_ref()) {
                // It has ended because its job had, and starts again for the next one.
                Some(ended) if ended.exit_code == 0 => None,
                Some(ended) => Some(last_words(ended)),
                None => Some((ProblemKind::Crash, text)),
            }
        }
        _ => None,
    }
}

/// What a container said at its end.
fn last_words(ended: &ContainerStateTerminated) -> (ProblemKind, String) {
    let kind = match ended.exit_code {
        EXIT_INVALID => ProblemKind::InvalidJob,
        EXIT_FENCED => ProblemKind::Fenced,
        _ => ProblemKind::Crash,
    };
    let reason = ended.reason.as_deref().unwrap_or("ended");
    let words = ended.message.as_deref().unwrap_or_default().trim();
    let words = if words.is_empty() {
        String::new()
    } else {
        format!(": {words}")
    };
    (
        kind,
        format!("{reason} with exit code {}{words}", ended.exit_code),
    )
}

/// Why a deployment has no pods.
fn not_created(deployment: &Deployment) -> Option<Problem> {
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let failure = conditions
        .iter()
        .find(|one| one.type_ == "ReplicaFailure" && one.status == "True")?;
    let message = failure.message.clone().unwrap_or_default();
    Some(Problem {
        kind: ProblemKind::NotCreated,
        message: format!("deployment {}: {message}", deployment.name_any()),
    })
}

#[cfg(test)]
mod tests;
