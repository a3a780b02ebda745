//! What each route does.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use millstream_types::api::{
    AuditReport, CheckpointDetail, CheckpointList, FailureList, FailureReport, JobConfiguration,
    JobGraphReport, JobState, JobStatus, SavepointRequest, SavepointStatus, StopRequest,
};

use super::answer::{Body, Path, Refusal};
use crate::Handle;

pub(super) async fn job(State(handle): State<Handle>) -> Json<JobStatus> {
    Json(handle.snapshot().job.clone())
}

pub(super) async fn graph(State(handle): State<Handle>) -> Json<JobGraphReport> {
    Json(handle.graph().clone())
}

pub(super) async fn configuration(State(handle): State<Handle>) -> Json<JobConfiguration> {
    Json(handle.configuration().clone())
}

pub(super) async fn failures(State(handle): State<Handle>) -> Json<FailureList> {
    let snapshot = handle.snapshot();
    let failures = snapshot.failures.iter();
    Json(FailureList {
        failures: failures.map(|one| FailureReport::clone(one)).collect(),
    })
}

pub(super) async fn checkpoints(State(handle): State<Handle>) -> Json<CheckpointList> {
    let snapshot = handle.snapshot();
    let checkpoints = snapshot.checkpoints.iter();
    Json(CheckpointList {
        counts: snapshot.counts,
        checkpoints: checkpoints.map(|detail| detail.summary.clone()).collect(),
    })
}

pub(super) async fn checkpoint(
    State(handle): State<Handle>,
    Path(id): Path<u64>,
) -> Result<Json<CheckpointDetail>, Refusal> {
    // The newest of a number that was taken again comes first.
    let snapshot = handle.snapshot();
    let mut checkpoints = snapshot.checkpoints.iter();
    match checkpoints.find(|detail| detail.summary.id.0 == id) {
        Some(detail) => Ok(Json(CheckpointDetail::clone(detail))),
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!(
                "this coordinator knows no checkpoint {id}; `millstream checkpoints list` shows \
                 what lies in the storage"
            ),
        )),
    }
}

pub(super) async fn take_savepoint(
    State(handle): State<Handle>,
    Body(request): Body<SavepointRequest>,
) -> Result<impl IntoResponse, Refusal> {
    let status = handle.savepoint(&request.name).await?;
    Ok((StatusCode::ACCEPTED, Json(status)))
}

pub(super) async fn savepoint(
    State(handle): State<Handle>,
    Path(name): Path<String>,
) -> Result<Json<SavepointStatus>, Refusal> {
    match handle.savepoint_status(&name).await? {
        Some(status) => Ok(Json(status)),
        None => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("nobody has asked for a savepoint `{name}`"),
        )),
    }
}

pub(super) async fn stop(
    State(handle): State<Handle>,
    Body(request): Body<StopRequest>,
) -> Result<impl IntoResponse, Refusal> {
    handle.stop(request).await?;
    Ok((StatusCode::ACCEPTED, Json(handle.snapshot().job.clone())))
}

pub(super) async fn cancel(State(handle): State<Handle>) -> Result<impl IntoResponse, Refusal> {
    handle.cancel().await?;
    Ok((StatusCode::ACCEPTED, Json(handle.snapshot().job.clone())))
}

pub(super) async fn audit(State(handle): State<Handle>) -> Json<AuditReport> {
    Json(handle.snapshot().audit.clone())
}

pub(super) async fn openapi() -> Json<serde_json::Value> {
    Json(super::openapi())
}

pub(super) async fn metrics(State(handle): State<Handle>) -> impl IntoResponse {
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, open_metrics)],
        handle.metrics().encode(),
    )
}

/// The process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// All tasks run.
pub(super) async fn readyz(State(handle): State<Handle>) -> Result<&'static str, Refusal> {
    let snapshot = handle.snapshot();
    let job = &snapshot.job;
    if job.state == JobState::Running {
        return Ok("ok\n");
    }
    let message = format!("the job is {:?}: {}", job.state, job.message);
    Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, message))
}
