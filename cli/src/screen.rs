//! What `status` shows: everything about a job that a person looks for first. Pure.
//!
//! [`views`] are its parts, [`waits`] says what is waited for, [`load`] how busy its tasks are,
//! [`text`] how it looks.

mod load;
pub mod text;
pub mod views;
pub mod waits;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use millstream_crds::{ConditionType, StreamSavepoint};
use millstream_types::CheckpointKind;
use millstream_types::api::{CheckpointSummary, TaskStatus};
use millstream_types::told::{Told, Word};
use serde::Serialize;

use crate::coordinator::Coordinator;
use crate::job::Job;
use crate::pod::PodView;
use crate::text::{from_millis, parse_time};
use views::{
    AttemptView, CheckpointView, ConditionView, DeploymentView, EventView, OperatorView,
    SavepointView,
};
use waits::Wait;

/// Events that are shown.
const EVENTS_MAX: usize = 6;
/// Checkpoints and savepoints that are shown.
const CHECKPOINTS_MAX: usize = 3;

/// Everything that was read.
#[derive(Debug, Clone)]
pub struct Gathered {
    /// The job.
    pub job: Job,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Events of its namespace.
    pub events: Vec<Event>,
    /// Its savepoints.
    pub savepoints: Vec<StreamSavepoint>,
    /// Its coordinator.
    pub coordinator: Coordinator,
    /// What could not be read, and why.
    pub gaps: Vec<String>,
}

/// What is shown. As JSON it is the answer of `status -o json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Screen {
    /// Name of the job.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// What it is doing, in one word.
    pub state: String,
    /// Since when.
    pub since: Option<Timestamp>,
    /// What the operator says of it.
    pub message: Option<String>,
    /// What it waits for.
    pub waits_for: Vec<Wait>,
    /// What is asked for, and what runs.
    pub deployment: DeploymentView,
    /// How often it was restarted, and from what.
    pub attempt: AttemptView,
    /// The newest completed checkpoint.
    pub checkpoint: Option<CheckpointView>,
    /// Checkpoints that its coordinator remembers, the newest first.
    pub checkpoints: Vec<CheckpointView>,
    /// Its savepoints, the newest first.
    pub savepoints: Vec<SavepointView>,
    /// Its tasks: where each runs and how busy it is.
    pub tasks: Vec<TaskStatus>,
    /// Totals per operator of the dataflow.
    pub operators: Vec<OperatorView>,
    /// Its conditions.
    pub conditions: Vec<ConditionView>,
    /// Its pods.
    pub pods: Vec<PodView>,
    /// Its newest events, the newest first.
    pub events: Vec<EventView>,
    /// What could not be read, and why.
    pub gaps: Vec<String>,
}

impl Screen {
    /// What is shown of what was read.
    pub fn of(gathered: &Gathered) -> Self {
        let job = &gathered.job;
        let status = &job.status;
        let pods: Vec<PodView> = gathered
            .pods
            .iter()
            .map(PodView::of)
            .filter(|pod| !pod.is_done())
            .collect();
        let checkpoints = gathered.coordinator.checkpoints();
        Self {
            name: job.name().to_owned(),
            namespace: job.namespace().to_owned(),
            state: state(job),
            since: since(gathered),
            message: status.message.clone().filter(|text| !text.is_empty()),
            waits_for: waits::of(gathered, &pods),
            deployment: deployment(job),
            attempt: attempt(gathered, &pods),
            checkpoint: newest_checkpoint(gathered),
            checkpoints: checkpoints
                .iter()
                .take(CHECKPOINTS_MAX)
                .map(checkpoint)
                .collect(),
            savepoints: savepoints(&gathered.savepoints),
            tasks: tasks(&gathered.coordinator),
            operators: operators(&gathered.coordinator),
            conditions: conditions(job),
            pods,
            events: events(job.name(), &gathered.events),
            gaps: gathered.gaps.clone(),
        }
    }
}

fn state(job: &Job) -> String {
    let state = job.status.state.map(|state| format!("{state:?}"));
    state.unwrap_or_else(|| "Unknown".to_owned())
}

/// Since when the job does what it does. What is nearest to it knows it best.
fn since(gathered: &Gathered) -> Option<Timestamp> {
    let job = &gathered.job;
    let told = gathered.coordinator.job();
    let told = told.filter(|told| format!("{:?}", told.state) == state(job));
    if let Some(told) = told {
        return from_millis(told.since.0);
    }
    if let Some(upgrade) = &job.status.upgrade {
        return parse_time(&upgrade.since);
    }
    let last = [
        ConditionType::Completed,
        ConditionType::Suspended,
        ConditionType::Stalled,
        ConditionType::Reconciling,
    ];
    let holds = last.into_iter().find(|one| job.has(*one, "True"));
    let condition = job.condition(holds.unwrap_or(ConditionType::Ready))?;
    Some(condition.last_transition_time.0)
}

fn deployment(job: &Job) -> DeploymentView {
    let status = &job.status;
    let revision = status.revision.as_ref();
    let known = status.revisions.iter();
    let workers = status.workers.as_ref();
    let coming = status
        .upgrade
        .as_ref()
        .and_then(|upgrade| upgrade.to.as_ref());
    let rejected = status.rejected.as_ref().map(|rejected| &rejected.revision);
    DeploymentView {
        is_current: coming
            .or(rejected)
            .is_none_or(|other| Some(other) == revision),
        wanted: job.text("/state").unwrap_or("Running").to_owned(),
        image: job.text("/image").map(str::to_owned),
        revision: revision.cloned(),
        is_good: known
            .into_iter()
            .any(|one| Some(&one.name) == revision && one.good),
        parallelism_wanted: job.number("/parallelism"),
        parallelism: status.parallelism,
        workers: workers.map(|workers| (workers.ready, workers.desired)),
        restore_point: status.restore_point.clone(),
        rolled_back_from: status.rolled_back_from.clone(),
    }
}

fn attempt(gathered: &Gathered, pods: &[PodView]) -> AttemptView {
    let status = &gathered.job.status;
    let told = gathered.coordinator.job();
    let told_attempt = told.and_then(|told| i64::try_from(told.attempt.0).ok());
    let restored = told.and_then(|told| told.restored_from.clone());
    AttemptView {
        number: told_attempt.or(status.attempt),
        restarts: told.map(|told| told.restarts),
        container_restarts: pods.iter().map(|pod| pod.restarts).sum(),
        restored_from: restored.or_else(|| status.restored_from.clone()),
        last_failure: told
            .and_then(|told| told.last_failure.as_ref())
            .map(ToString::to_string),
    }
}

/// The coordinator's word is newer than the status, which is written now and then.
fn newest_checkpoint(gathered: &Gathered) -> Option<CheckpointView> {
    let told = gathered.coordinator.job();
    if let Some(last) = told.and_then(|told| told.last_checkpoint.as_ref()) {
        return Some(checkpoint(last));
    }
    let known = gathered.job.status.checkpoint.as_ref()?;
    Some(CheckpointView {
        id: known.id,
        kind: CheckpointKind::Checkpoint.name().to_owned(),
        state: "Completed".to_owned(),
        at: parse_time(&known.completed_at),
        duration_ms: u64::try_from(known.duration_ms).ok(),
        size_bytes: u64::try_from(known.size_bytes).ok(),
        checkpointed_size: None,
        path: Some(known.path.clone()),
        failure: None,
    })
}

fn checkpoint(told: &CheckpointSummary) -> CheckpointView {
    let failure = told.failure.as_ref();
    CheckpointView {
        id: i64::try_from(told.id.0).unwrap_or(i64::MAX),
        kind: match &told.kind {
            Told::Known(kind) => kind.name().to_owned(),
            Told::Other(Word(name)) => name.clone(),
        },
        state: format!("{:?}", told.state),
        at: from_millis(told.ended_at().0),
        duration_ms: told.duration_ms,
        size_bytes: told.size_bytes,
        checkpointed_size: told.checkpointed_size,
        path: told.path.clone(),
        failure: failure.map(ToString::to_string),
    }
}

fn savepoints(savepoints: &[StreamSavepoint]) -> Vec<SavepointView> {
    let mut views: Vec<SavepointView> = savepoints.iter().map(savepoint).collect();
    views.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.name.cmp(&b.name)));
    views.truncate(CHECKPOINTS_MAX);
    views
}

fn savepoint(savepoint: &StreamSavepoint) -> SavepointView {
    let status = savepoint.status.clone().unwrap_or_default();
    let created = savepoint.metadata.creation_timestamp.as_ref();
    SavepointView {
        name: savepoint.metadata.name.clone().unwrap_or_default(),
        state: status
            .state
            .map_or_else(|| "New".to_owned(), |state| format!("{state:?}")),
        created: created.map(|time| time.0),
        size_bytes: status.size_bytes,
        path: status.path,
        message: status.message.filter(|text| !text.is_empty()),
    }
}

fn tasks(coordinator: &Coordinator) -> Vec<TaskStatus> {
    let told = coordinator.job();
    told.map(|told| told.tasks.clone()).unwrap_or_default()
}

fn operators(coordinator: &Coordinator) -> Vec<OperatorView> {
    let told = coordinator
        .job()
        .into_iter()
        .flat_map(|told| &told.operators);
    told.map(|(name, totals)| OperatorView {
        name: name.to_string(),
        records_in: totals.records_in,
        records_out: totals.records_out,
        skipped: totals.skipped,
        dead_letters: totals.dead_letters,
    })
    .collect()
}

fn conditions(job: &Job) -> Vec<ConditionView> {
    let view = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
        let observed = condition
            .observed_generation
            .unwrap_or_else(|| job.generation());
        ConditionView {
            condition_type: condition.type_.clone(),
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            since: condition.last_transition_time.0,
            message: condition.message.clone(),
            is_outdated: observed < job.generation(),
        }
    };
    job.status.conditions.iter().map(view).collect()
}

/// Whether an event is about a job or an object that was made for it.
pub fn is_about(job: &str, event: &Event) -> bool {
    let object = event.involved_object.name.as_deref().unwrap_or_default();
    let Some(rest) = object.strip_prefix(job) else {
        return false;
    };
    let parts = [
        "-coordinator",
        "-workers",
        "-preflight",
        "-disposal",
        "-pods",
    ];
    rest.is_empty()
        || parts.iter().any(|part| {
            rest.strip_prefix(part)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
}

fn events(job: &str, events: &[Event]) -> Vec<EventView> {
    let is_worth = |event: &&Event| {
        // Pods come and go in many events; of those only what went wrong is worth a line.
        let kind = event.involved_object.kind.as_deref();
        match kind {
            Some("StreamJob") => true,
            Some("PodDisruptionBudget") => false,
            _ => event.type_.as_deref() == Some("Warning"),
        }
    };
    let about = events
        .iter()
        .filter(|event| is_about(job, event))
        .filter(is_worth);
    let mut views: Vec<EventView> = about.map(event).collect();
    views.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.object.cmp(&b.object)));
    views.truncate(EVENTS_MAX);
    views
}

fn event(event: &Event) -> EventView {
    let object = &event.involved_object;
    let kind = object.kind.as_deref().unwrap_or_default().to_lowercase();
    let name = object.name.as_deref().unwrap_or_default();
    let series = event.series.as_ref();
    let seen = series.and_then(|series| series.last_observed_time.as_ref());
    let times = [
        seen.map(|time| time.0),
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0),
    ];
    EventView {
        at: times.into_iter().flatten().next(),
        event_type: event.type_.clone().unwrap_or_default(),
        object: format!("{kind}/{name}"),
        reason: event.reason.clone().unwrap_or_default(),
        message: event.message.clone().unwrap_or_default(),
        count: series
            .and_then(|series| series.count)
            .or(event.count)
            .unwrap_or(1),
    }
}
