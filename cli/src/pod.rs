//! A pod as a person sees it: what part it plays, how it stands, and what is wrong with it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};
use millstream_crds::contract::LABEL_ROLE;
use serde::Serialize;

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodView {
    /// Its name.
    pub name: String,
    /// The part it plays.
    pub role: String,
    /// Containers that are ready, and all, as `1/1`.
    pub ready: String,
    /// How it stands, in the words of `kubectl get pods`.
    pub status: String,
    /// Restarts of its containers.
    pub restarts: i32,
    /// When and how a container ended last, if it runs again.
    pub last_end: Option<LastEnd>,
    /// Since when it is there.
    pub created: Option<Timestamp>,
    /// The node that it runs on.
    pub node: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// How a container ended that runs again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastEnd {
    /// When.
    pub at: Timestamp,
    /// Why, in the words of Kubernetes.
    pub reason: String,
}

/// Waiting for no other reason than that it begins.
const BEGINNING: [&str; 2] = ["ContainerCreating", "PodInitializing"];

impl PodView {
    /// Whether it was there for one task, and that is done.
    pub fn is_done(&self) -> bool {
        self.status == "Completed" && !matches!(self.role.as_str(), "coordinator" | "worker")
    }
    /// Looks at a pod.
    pub fn of(pod: &Pod) -> Self {
        let containers = containers(pod);
        let ready = containers.iter().filter(|status| status.ready).count();
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            role: role(pod).to_owned(),
            ready: format!("{ready}/{}", containers.len().max(1)),
            status: status(pod, containers),
            restarts: containers.iter().map(|one| one.restart_count).sum(),
            last_end: containers
                .iter()
                .filter_map(last_end)
                .max_by_key(|end| end.at),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
            problem: problem(pod, containers),
        }
    }
}

/// The part that a pod plays.
pub fn role(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    let role = labels.and_then(|labels| labels.get(LABEL_ROLE));
    role.map_or("", String::as_str)
}

/// Whether a pod runs and is not going.
pub fn is_running(pod: &Pod) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

fn containers(pod: &Pod) -> &[ContainerStatus] {
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref());
    containers.unwrap_or_default()
}

fn status(pod: &Pod, containers: &[ContainerStatus]) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "Terminating".to_owned();
    }
    let states = containers.iter().filter_map(|one| one.state.as_ref());
    for state in states {
        if let Some(waiting) = &state.waiting
            && let Some(reason) = &waiting.reason
        {
            return reason.clone();
        }
        if let Some(ended) = &state.terminated {
            let reason = ended.reason.clone();
            return reason.unwrap_or_else(|| format!("ExitCode:{}", ended.exit_code));
        }
    }
    let status = pod.status.as_ref();
    let reason = status.and_then(|status| status.reason.clone());
    let phase = status.and_then(|status| status.phase.clone());
    reason.or(phase).unwrap_or_else(|| "Unknown".to_owned())
}

fn problem(pod: &Pod, containers: &[ContainerStatus]) -> Option<String> {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let is_over = matches!(phase, Some("Failed" | "Succeeded"));
    if is_over && !matches!(role(pod), "coordinator" | "worker") {
        // What a check found is the operator's to tell.
        return None;
    }
    unschedulable(pod)
        .or_else(|| containers.iter().find_map(waits_badly))
        .or_else(|| containers.iter().find_map(ended))
        .or_else(|| not_ready(pod))
}

fn unschedulable(pod: &Pod) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    let message = condition.message.as_deref().unwrap_or("no node takes it");
    Some(format!("cannot be scheduled: {message}"))
}

fn waits_badly(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref().unwrap_or_default();
    if BEGINNING.contains(&reason) {
        return None;
    }
    let last = container.last_state.as_ref().and_then(end);
    let message = waiting.message.clone();
    let text = match (message, last) {
        (Some(message), Some(last)) => format!("{reason}: {message}; it last {last}"),
        (Some(message), None) => format!("{reason}: {message}"),
        (None, Some(last)) => format!("{reason}; it last {last}"),
        (None, None) => reason.to_owned(),
    };
    Some(text)
}

/// The end of a container that should run.
fn ended(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    let ended_well = state.terminated.as_ref()?.exit_code == 0;
    end(state).filter(|_| !ended_well)
}

fn last_end(container: &ContainerStatus) -> Option<LastEnd> {
    let last = container.last_state.as_ref()?.terminated.as_ref()?;
    Some(LastEnd {
        at: last.finished_at.as_ref()?.0,
        reason: last
            .reason
            .clone()
            .unwrap_or_else(|| format!("ExitCode:{}", last.exit_code)),
    })
}

fn end(state: &ContainerState) -> Option<String> {
    let ended = state.terminated.as_ref()?;
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let message = ended
        .message
        .as_deref()
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let message = message.map_or_else(String::new, |text| format!(": {text}"));
    let code = ended.exit_code;
    Some(format!("ended with {reason} (exit code {code}){message}"))
}

fn not_ready(pod: &Pod) -> Option<String> {
    if !is_running(pod) {
        return None;
    }
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions
        .iter()
        .find(|one| one.type_ == "Ready" && one.status == "False")?;
    let message = condition.message.as_deref().unwrap_or("no reason given");
    Some(format!("runs but is not ready: {message}"))
}
