//! Periodic savepoints of a job: created when the interval has passed, deleted when there are
//! enough newer ones, but never one that anything still refers to.
//!
//! They belong to no job, so they outlive it, and their data goes with them (`retain: false`).
//! [`schedule`] and [`retention`] decide, without I/O.

pub mod retention;
pub mod schedule;

use kube::api::{
    ApiResource, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::DynamicObject;
use kube::{Api, Resource as _};
use millstream_crds::{StreamJob, StreamSavepoint};
use serde_json::json;

pub use schedule::Schedule;

use super::{SavepointError, now};
use crate::context::{Context, Next};
use crate::controller::build::names::{FIELD_MANAGER, LABEL_JOB, LABEL_PERIODIC};
use retention::{Kept, References};
use schedule::Step;

/// Field manager of `status.lastSavepointAt`: it is written apart from the rest of the status.
const STATUS_MANAGER: &str = "millstream-operator-savepoints";

/// Creates a savepoint if it is time, and says when it will be.
///
/// # Errors
/// See [`SavepointError`].
pub async fn tend(schedule: Schedule, context: &Context) -> Result<Next, SavepointError> {
    let now = now(context.clock.as_ref());
    if let Step::Wait(next) = schedule.step(now) {
        return Ok(next);
    }
    // What the status says may be old: what is there counts.
    let existing = existing(&schedule.namespace, &schedule.job, context).await?;
    match schedule.step_among(&existing, now) {
        Step::Wait(next) => Ok(next),
        Step::Note { last, next } => {
            note(&schedule, last, context).await?;
            Ok(next)
        }
        Step::Create { name, next } => {
            create(&schedule, &name, context).await?;
            note(&schedule, now, context).await?;
            retire_among(&schedule.namespace, existing, schedule.limits, context).await?;
            Ok(next)
        }
    }
}

/// Deletes periodic savepoints that are too many now that one more is complete.
pub(super) async fn retire(
    completed: &StreamSavepoint,
    context: &Context,
) -> Result<(), SavepointError> {
    let labels = completed.metadata.labels.as_ref();
    if labels
        .and_then(|labels| labels.get(LABEL_PERIODIC))
        .is_none()
    {
        return Ok(());
    }
    let namespace = completed.metadata.namespace.as_deref().unwrap_or_default();
    let job = &completed.spec.job_ref.name;
    let kind = ApiResource::erase::<StreamJob>(&());
    let jobs: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), namespace, &kind);
    let found = jobs
        .get_opt(job)
        .await
        .map_err(SavepointError::api("reading the StreamJob"))?;
    let Some(schedule) = found.as_ref().and_then(Schedule::of) else {
        return Ok(());
    };
    let existing = existing(namespace, job, context).await?;
    retire_among(namespace, existing, schedule.limits, context).await
}

async fn existing(
    namespace: &str,
    job: &str,
    context: &Context,
) -> Result<Vec<Kept>, SavepointError> {
    let api: Api<StreamSavepoint> = Api::namespaced(context.client.clone(), namespace);
    let selector = format!("{LABEL_JOB}={job},{LABEL_PERIODIC}=true");
    let list = api.list(&ListParams::default().labels(&selector)).await;
    let list = list.map_err(SavepointError::api("listing the periodic savepoints"))?;
    Ok(list.items.iter().filter_map(Kept::of).collect())
}

async fn create(schedule: &Schedule, name: &str, context: &Context) -> Result<(), SavepointError> {
    let savepoint: StreamSavepoint = serde_json::from_value(json!({
        "apiVersion": StreamSavepoint::api_version(&()),
        "kind": StreamSavepoint::kind(&()),
        "metadata": {
            "name": name,
            "namespace": schedule.namespace,
            "labels": {
                LABEL_JOB: schedule.job,
                LABEL_PERIODIC: "true",
                "app.kubernetes.io/managed-by": FIELD_MANAGER,
            },
        },
        "spec": {
            "jobRef": { "name": schedule.job },
            "deadline": schedule.deadline(),
            "retain": false,
        },
    }))?;
    let api: Api<StreamSavepoint> = Api::namespaced(context.client.clone(), &schedule.namespace);
    let post = PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    match api.create(&post, &savepoint).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(SavepointError::api("creating a periodic savepoint")(error)),
    }
}

async fn note(
    schedule: &Schedule,
    at: jiff::Timestamp,
    context: &Context,
) -> Result<(), SavepointError> {
    let kind = ApiResource::erase::<StreamJob>(&());
    let jobs: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), &schedule.namespace, &kind);
    let patch = Patch::Apply(json!({
        "apiVersion": StreamJob::api_version(&()),
        "kind": StreamJob::kind(&()),
        "status": { "lastSavepointAt": at.to_string() },
    }));
    let parameters = PatchParams::apply(STATUS_MANAGER).force();
    let written = jobs.patch_status(&schedule.job, &parameters, &patch).await;
    written
        .map(drop)
        .map_err(SavepointError::api("writing lastSavepointAt"))
}

async fn retire_among(
    namespace: &str,
    existing: Vec<Kept>,
    limits: retention::Limits,
    context: &Context,
) -> Result<(), SavepointError> {
    let now = now(context.clock.as_ref());
    let expired = retention::expired(existing, limits, now);
    if expired.is_empty() {
        return Ok(());
    }
    let references = references(context).await?;
    for old in expired {
        if references.name(namespace, &old) {
            tracing::debug!(savepoint = old.name, "stays: a StreamJob refers to it");
        } else {
            delete(namespace, old, context).await?;
        }
    }
    Ok(())
}

async fn delete(namespace: &str, old: Kept, context: &Context) -> Result<(), SavepointError> {
    let api: Api<StreamSavepoint> = Api::namespaced(context.client.clone(), namespace);
    let parameters = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some(old.uid),
            resource_version: None,
        }),
        ..DeleteParams::background()
    };
    match api.delete(&old.name, &parameters).await {
        Ok(_) => tracing::info!(savepoint = old.name, job = old.job, "an old one is deleted"),
        // Somebody else was faster.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => return Err(SavepointError::api("deleting an old savepoint")(error)),
    }
    Ok(())
}

/// What the jobs of all namespaces that are looked after refer to.
async fn references(context: &Context) -> Result<References, SavepointError> {
    let kind = ApiResource::erase::<StreamJob>(&());
    let client = || context.client.clone();
    let apis: Vec<Api<DynamicObject>> = if context.namespaces.is_empty() {
        vec![Api::all_with(client(), &kind)]
    } else {
        let namespaces = context.namespaces.iter();
        namespaces
            .map(|name| Api::namespaced_with(client(), name, &kind))
            .collect()
    };
    let mut references = References::default();
    for api in apis {
        let mut page = ListParams::default().limit(100);
        loop {
            let list = match api.list(&page).await {
                Ok(list) => list,
                // Nobody looks after jobs there.
                Err(kube::Error::Api(status)) if status.code == 403 => break,
                Err(error) => return Err(SavepointError::api("listing the StreamJobs")(error)),
            };
            list.items.iter().for_each(|job| references.add(job));
            let Some(token) = list.metadata.continue_.filter(|token| !token.is_empty()) else {
                break;
            };
            page = page.continue_token(&token);
        }
    }
    Ok(references)
}
