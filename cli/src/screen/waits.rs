//! What a job waits for, since when, and what a person can do. Pure.
//!
//! Said by whoever knows it best: the resource itself, the operator's conditions, Kubernetes about
//! pods, the coordinator. What two of them say in the same words is said once.

use jiff::Timestamp;
use millstream_crds::status::{UpgradeStatus, UpgradeStep};
use millstream_crds::{ConditionType, SavepointState};
use serde::Serialize;

use super::Gathered;
use crate::coordinator::Coordinator;
use crate::job::Job;
use crate::pod::PodView;
use crate::text::{from_millis, parse_time};

/// One thing that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// What.
    pub what: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What a person can do.
    pub hint: Option<String>,
}

impl Wait {
    fn new(what: impl Into<String>, since: Option<Timestamp>) -> Self {
        let what: String = what.into();
        Self {
            what: what.trim_end_matches('.').to_owned(),
            since,
            hint: None,
        }
    }

    fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }
}

/// What the job waits for, the most important first.
pub fn of(gathered: &Gathered, pods: &[PodView]) -> Vec<Wait> {
    let job = &gathered.job;
    let mut waits = Vec::new();
    waits.extend(deletion(job));
    waits.extend(operator(job));
    waits.extend(faults(job));

    waits.extend(progress(job));
    let is_told = |pod: &&PodView| {
        waits
            .iter()
            .any(|wait: &Wait| wait.what.contains(&pod.name))
    };
    let untold: Vec<Wait> = pods
        .iter()
        .filter(|pod| !is_told(pod))
        .filter_map(pod)
        .collect();
    waits.extend(untold);
    if !is_over(job) {
        waits.extend(coordinator(&gathered.coordinator));
    }
    waits.extend(savepoints(gathered));
    once(waits)
}

fn once(waits: Vec<Wait>) -> Vec<Wait> {
    let mut kept: Vec<Wait> = Vec::new();
    for wait in waits {
        if !kept.iter().any(|other| other.what.contains(&wait.what)) {
            kept.push(wait);
        }
    }
    kept
}

fn deletion(job: &Job) -> Option<Wait> {
    let since = job.metadata.deletion_timestamp.as_ref()?.0;
    let finalizers = job.metadata.finalizers.clone().unwrap_or_default();
    if finalizers.is_empty() {
        return Some(Wait::new(
            "the deletion of everything that belongs to it",
            Some(since),
        ));
    }
    let what = format!("its deletion, which waits for {}", finalizers.join(", "));
    let hint = format!(
        "spec.deletion.deadline bounds it; `kubectl -n {} annotate sj {} \
         millstream.dev/skip-finalizer=true` gives up what it waits for",
        job.namespace(),
        job.name()
    );
    Some(Wait::new(what, Some(since)).hint(hint))
}

fn operator(job: &Job) -> Option<Wait> {
    let created = job.metadata.creation_timestamp.as_ref().map(|time| time.0);
    match job.status.observed_generation {
        None => Some(
            Wait::new("an operator: none has looked at this job yet", created).hint(format!(
                "is the operator running, and does it watch namespace `{}`? \
                 `kubectl get pods -A -l app.kubernetes.io/name=millstream-operator`",
                job.namespace()
            )),
        ),
        Some(seen) if seen < job.generation() => Some(Wait::new(
            format!(
                "the operator: it has not looked at the newest change yet (generation {}, seen \
                 {seen})",
                job.generation()
            ),
            None,
        )),
        Some(_) => None,
    }
}

/// What only a person can put right.
fn faults(job: &Job) -> Vec<Wait> {
    let mut waits = Vec::new();
    if job.is_set("/paused") {
        waits.push(
            Wait::new(
                "you: spec.paused is set, and the operator changes nothing",
                None,
            )
            .hint("set spec.paused to false"),
        );
    }
    let stalled = job.condition(ConditionType::Stalled);
    let stalled = stalled.filter(|one| one.status == "True");
    let invalid = job.condition(ConditionType::Valid);
    let invalid = invalid.filter(|one| one.status == "False").filter(|one| {
        // What stalls the job is often that.
        stalled.is_none_or(|stalled| !stalled.message.contains(&one.message))
    });
    for (condition, who) in [(stalled, "you"), (invalid, "a correct spec")] {
        if let Some(condition) = condition {
            let what = format!("{who}: {} ({})", condition.message, condition.reason);
            waits.push(Wait::new(what, Some(condition.last_transition_time.0)));
        }
    }
    waits
}

/// What the operator works on. Its own words say most; approval is the person's turn.
fn work(job: &Job) -> Option<Wait> {
    let upgrade = job.status.upgrade.as_ref();
    let needs_approval = |upgrade: &&UpgradeStatus| upgrade.step == UpgradeStep::WaitingForApproval;
    if let Some(upgrade) = upgrade.filter(needs_approval) {
        return Some(step(job, upgrade));
    }
    let working = job.condition(ConditionType::Reconciling);
    match working.filter(|one| one.status == "True" && !one.message.is_empty()) {
        Some(condition) => {
            let what = format!("{} ({})", condition.message, condition.reason);
            Some(Wait::new(what, Some(condition.last_transition_time.0)))
        }
        None => upgrade.map(|upgrade| step(job, upgrade)),
    }
}

fn step(job: &Job, upgrade: &UpgradeStatus) -> Wait {
    let since = parse_time(&upgrade.since);
    let (from, to) = (upgrade.from.as_deref(), upgrade.to.as_deref());
    let way = match (from, to) {
        (Some(from), Some(to)) => format!("from {from} to {to}"),
        (None, Some(to)) => format!("to {to}"),
        (Some(from), None) => format!("from {from} to a stop"),
        (None, None) => "to a stop".to_owned(),
    };
    let tries = if upgrade.tries > 1 {
        format!(", try {}", upgrade.tries)
    } else {
        String::new()
    };
    let doing = match upgrade.step {
        UpgradeStep::Preflight => "the check of the new revision",
        UpgradeStep::WaitingForApproval => "your approval",
        UpgradeStep::Stopping => "the job to stop",
        UpgradeStep::Deploying => "the new pods",
        UpgradeStep::Verifying => "the first checkpoints of the new revision",
        UpgradeStep::Unknown => "an upgrade that a newer version has begun",
    };
    let strategy = upgrade.strategy;
    let wait = Wait::new(
        format!("{doing} ({strategy:?} upgrade {way}{tries})"),
        since,
    );
    match upgrade.step {
        UpgradeStep::WaitingForApproval => {
            let changes = upgrade
                .changes
                .as_deref()
                .map(|text| format!("; it changes: {text}"));
            wait.hint(format!(
                "`kubectl streamjob upgrade approve {} -n {}` lets it go on{}",
                job.name(),
                job.namespace(),
                changes.unwrap_or_default()
            ))
        }
        UpgradeStep::Verifying => match job.text("/upgrade/progressDeadline") {
            Some(deadline) => wait.hint(format!("it has failed after {deadline}")),
            None => wait,
        },
        UpgradeStep::Preflight
        | UpgradeStep::Stopping
        | UpgradeStep::Deploying
        | UpgradeStep::Unknown => wait,
    }
}

/// Whether the job is suspended or complete, as it should be.
fn is_over(job: &Job) -> bool {
    let over = [ConditionType::Suspended, ConditionType::Completed];
    job.is_observed() && over.into_iter().any(|over| job.has(over, "True"))
}

/// What goes on by itself.
fn progress(job: &Job) -> Vec<Wait> {
    let going = [
        (ConditionType::CheckpointHealthy, "False"),
        (ConditionType::SavepointInProgress, "True"),
        (ConditionType::Audit, "False"),
    ];
    let mut waits: Vec<Wait> = work(job).into_iter().collect();
    if is_over(job) {
        return waits;
    }
    for (condition, value) in going {
        if let Some(condition) = job.condition(condition).filter(|one| one.status == value) {
            let what = format!("{} ({})", condition.message, condition.reason);
            waits.push(Wait::new(what, Some(condition.last_transition_time.0)));
        }
    }
    waits
}

fn pod(pod: &PodView) -> Option<Wait> {
    let problem = pod.problem.as_ref()?;
    let what = format!("pod {}: {problem}", pod.name);
    Some(Wait::new(what, pod.created))
}

fn coordinator(coordinator: &Coordinator) -> Option<Wait> {
    match coordinator {
        Coordinator::None => None,
        Coordinator::Silent { reason } => Some(Wait::new(
            format!("the coordinator, which does not answer: {reason}"),
            None,
        )),
        Coordinator::Answers { job, .. } if job.message.is_empty() => None,
        Coordinator::Answers { job, .. } => {
            Some(Wait::new(job.message.clone(), from_millis(job.since.0)))
        }
    }
}

fn savepoints(gathered: &Gathered) -> Vec<Wait> {
    let mut waits = Vec::new();
    for savepoint in &gathered.savepoints {
        let status = savepoint.status.clone().unwrap_or_default();
        let is_open = matches!(
            status.state,
            None | Some(SavepointState::Pending | SavepointState::InProgress)
        );
        if is_open {
            let name = savepoint.metadata.name.as_deref().unwrap_or_default();
            let message = status.message.filter(|text| !text.is_empty());
            let message = message.map_or_else(String::new, |text| format!(": {text}"));
            let since = savepoint.metadata.creation_timestamp.as_ref();
            let what = format!("savepoint {name}{message}");
            waits.push(Wait::new(what, since.map(|time| time.0)));
        }
    }
    waits
}
