//! Sentences: what is waited for, since when, until when, and what a person can do.

use jiff::Timestamp;
use millstream_crds::contract::PORT_COORDINATOR;
use millstream_crds::status::UpgradeStatus;
use millstream_crds::{ConditionType, Reason};

use super::View;
use super::situation::{Said, at};
use crate::controller::build::names::ANNOTATION_APPROVE;
use crate::controller::memory::Trouble;
use crate::controller::observe::pods::{Problem, ProblemKind};
use crate::controller::observe::{Runtime, TaskSeen};
use crate::runtime_client::{RuntimeState, RuntimeStatus};
use crate::text;

/// Longest message of `Valid`, which lists faults, bytes.
const FAULTS_BYTES_MAX: usize = 4_000;
/// Longest message of the other conditions, bytes; keeps the status small.
const MESSAGE_BYTES_MAX: usize = 1_000;
/// Longest headline, bytes.
const HEADLINE_BYTES_MAX: usize = 300;

pub(super) fn cut(text: String, condition: ConditionType) -> String {
    let most = match condition {
        ConditionType::Valid => FAULTS_BYTES_MAX,
        _ => MESSAGE_BYTES_MAX,
    };
    text::cut(text, most)
}

pub(super) fn headline(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    text::cut(first.to_owned(), HEADLINE_BYTES_MAX)
}

/// What else runs, for sentences about something that does not.
pub(super) fn runs_on(view: &View<'_>) -> String {
    match (&view.status.revision, &view.status.deployed) {
        (Some(revision), Some(_)) => format!("\n{revision} runs on"),
        _ => String::new(),
    }
}

pub(super) fn deleting(view: &View<'_>) -> String {
    let began = view.inputs.meta.deletion_timestamp.as_ref();
    let deadline = view.inputs.deletion.deadline.0;
    let until = began.and_then(|time| time.0.checked_add(deadline).ok());
    let until = until.map_or_else(String::new, |until| {
        format!(", until {until:.0} at the latest")
    });
    let asked = view.inputs.deletion;
    let mut text = format!("The job is being deleted ({asked}){until}");
    if let TaskSeen::Failed(reason) = &view.inputs.observed.disposal {
        text.push_str(": its checkpoints cannot be deleted: ");
        text.push_str(reason);
    }
    text
}

pub(super) fn suspended(view: &View<'_>) -> String {
    match (&view.status.restore_point, &view.status.revision) {
        (_, None) => "Created suspended: nothing has run yet".to_owned(),
        (Some(path), _) => {
            format!("Suspended with its state in {path}. Set `spec.state: Running` to resume it")
        }
        (None, _) => "Suspended; its newest checkpoint is what it will go on from. Set \
                      `spec.state: Running` to resume it"
            .to_owned(),
    }
}

pub(super) fn rescaling(view: &View<'_>, since: &str) -> String {
    let parallelism = view.status.parallelism.unwrap_or_default();
    format!("Waits since {since} for a checkpoint with a parallelism of {parallelism}")
}

/// Nobody answers for the newest deployment.
pub(super) fn no_coordinator(view: &View<'_>) -> Said {
    let since = view.status.deployed.as_ref();
    let since = since.map_or("", |deployed| deployed.at.as_str());
    let observed = view.inputs.observed;
    if let Some(problem) = &observed.coordinator.problem {
        return (Reason::PodsFailing, about(problem));
    }
    match &observed.runtime {
        Runtime::Silent(reason) if observed.kubelet_finds_it_running => (
            Reason::CoordinatorUnreachable,
            format!(
                "The kubelet finds that all tasks run, but the operator cannot ask the \
                 coordinator: {reason}. Something stands between them, such as a service mesh that \
                 wants mutual TLS, or a network policy: pods with the label \
                 app.kubernetes.io/component=operator must reach port {PORT_COORDINATOR}"
            ),
        ),
        Runtime::Silent(reason) => (
            Reason::CoordinatorUnreachable,
            format!("The coordinator does not answer: {reason}"),
        ),
        Runtime::Outdated(_) => (
            Reason::Deploying,
            format!("Waits since {since} for the old coordinator to go"),
        ),
        Runtime::NoPod | Runtime::Answers(_) => (
            Reason::WaitingForPods,
            format!("Waits since {since} for the coordinator's pod to start"),
        ),
    }
}

/// Why the job is not ready though its coordinator answers.
pub(super) fn runtime(view: &View<'_>, runtime: &RuntimeStatus) -> Said {
    let since = at(runtime.since.0);
    let observed = view.inputs.observed;
    match runtime.state {
        RuntimeState::Running => (
            Reason::WaitingForCheckpoint,
            format!("All tasks run since {since}; the next checkpoint makes the job ready"),
        ),
        RuntimeState::Failed => (Reason::JobFailed, failed(runtime)),
        RuntimeState::WaitingForWorkers => match &observed.workers.problem {
            Some(problem) => (Reason::PodsFailing, about(problem)),
            None => (
                Reason::WaitingForPods,
                said(runtime, "Waits for workers", &since),
            ),
        },
        RuntimeState::Restarting => {
            let cause = runtime.last_failure.as_ref();
            let cause = cause.map_or_else(String::new, |failure| format!(": {failure}"));
            let message = format!("The runtime restarts the job since {since}{cause}");
            (Reason::Restarting, message)
        }
        RuntimeState::Stopping | RuntimeState::Stopped => (
            Reason::TakingSavepoint,
            said(runtime, "The job is being stopped", &since),
        ),
        RuntimeState::Restoring | RuntimeState::Deploying | RuntimeState::Unknown => (
            Reason::Deploying,
            said(
                runtime,
                &format!("The runtime is {:?}", runtime.state),
                &since,
            ),
        ),
        RuntimeState::Completed => (Reason::Completed, "The job is complete".to_owned()),
    }
}

fn said(runtime: &RuntimeStatus, otherwise: &str, since: &str) -> String {
    if runtime.message.is_empty() {
        format!("{otherwise} since {since}")
    } else {
        runtime.message.clone()
    }
}

pub(super) fn failed(runtime: &RuntimeStatus) -> String {
    let why = runtime
        .last_failure
        .as_ref()
        .map_or_else(|| runtime.message.clone(), ToString::to_string);
    format!(
        "The job has failed and is not restarted: {why}. Correct the cause, then change \
         `spec.restartAt` to run it again from its newest checkpoint"
    )
}

fn about(problem: &Problem) -> String {
    let help = match problem.kind {
        ProblemKind::ImageUnusable | ProblemKind::ImagePull => {
            ". Correct `spec.image`, or make the image available"
        }
        ProblemKind::InvalidJob => ". Correct the spec",
        ProblemKind::Crash => ". Look at the pod's log",
        ProblemKind::Container => ". Make what is missing, or correct the spec",
        ProblemKind::NotCreated => {
            ". Raise the quota, or make what is missing, and the pods are created"
        }
        ProblemKind::Fenced => ". A newer deployment has the job's checkpoints",
        ProblemKind::NotScheduled => ". Add nodes, or ask for less",
    };
    format!("{}{help}", problem.message.trim_end_matches('.'))
}

pub(super) fn trouble(trouble: &Trouble) -> String {
    format!(
        "Kubernetes refuses since {:.0}: {}. It is tried again with growing delays",
        trouble.since, trouble.message
    )
}

pub(super) fn preflight(view: &View<'_>, upgrade: &UpgradeStatus) -> String {
    let to = upgrade.to.as_deref().unwrap_or_default();
    let from = upgrade.from.as_deref().unwrap_or_default();
    let since = &upgrade.since;
    let waits = match &view.inputs.observed.preflight {
        TaskSeen::Waiting(Some(problem)) => format!(": {}", about(problem)),
        TaskSeen::Broken { message, .. } => {
            format!(": the check ended without a verdict and is tried again: {message}")
        }
        _ => String::new(),
    };
    format!("Checks {to} since {since}; {from} runs on{waits}")
}

pub(super) fn approval(upgrade: &UpgradeStatus) -> String {
    let to = upgrade.to.as_deref().unwrap_or_default();
    let changes = upgrade.changes.as_deref();
    let changes = changes.map_or_else(String::new, |changes| format!(". It changes: {changes}"));
    let value = upgrade.approval.as_deref().unwrap_or(to);
    format!(
        "The upgrade to {to} waits for approval: annotate the job with \
         {ANNOTATION_APPROVE}={value}{changes}"
    )
}

pub(super) fn stopping(view: &View<'_>, upgrade: &UpgradeStatus) -> String {
    let since = &upgrade.since;
    let savepoint = upgrade.savepoint.as_deref();
    let with = savepoint.map_or_else(String::new, |name| format!(" with savepoint {name}"));
    let deadline = view
        .inputs
        .wish
        .ok()
        .map(|wish| wish.spec.upgrade.progress_deadline.0.0);
    let until =
        deadline.and_then(|deadline| since.parse::<Timestamp>().ok()?.checked_add(deadline).ok());
    let instead = if moves(view, upgrade) {
        "it runs on where it is"
    } else {
        "its newest checkpoint is used instead"
    };
    let until = until.map_or_else(String::new, |until| {
        format!("; from {until:.0} on {instead}")
    });
    format!("Stops the job{with} since {since}{until}")
}

/// Whether an upgrade is to carry state over to another storage.
fn moves(view: &View<'_>, upgrade: &UpgradeStatus) -> bool {
    let to = view.inputs.wish.ok();
    let to = to.filter(|wish| upgrade.to.as_ref() == Some(&wish.revision.name));
    let held = view
        .status
        .storage
        .as_deref()
        .map(|held| held.trim_end_matches('/'));
    held.is_some_and(|held| {
        to.is_some_and(|wish| wish.spec.checkpoint.storage.trim_end_matches('/') != held)
    })
}
