//! The check of a new revision: its image, its job file, and whether it can read the job's state,
//! while the old revision runs on.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use kube::api::ObjectMeta;

use super::names::{LABEL_REVISION, Role};
use super::{Blueprint, owner, pod};

/// Seconds after which a check that has not ended has failed: time to pull an image.
const DEADLINE_SECONDS: i64 = 300;

/// The Kubernetes job that checks a revision.
pub fn job(blueprint: &Blueprint<'_>) -> Job {
    let names = blueprint.names();
    let options = &blueprint.spec.coordinator;
    let arguments = [
        "validate",
        &format!("{}/{}", pod::CONFIG_DIRECTORY, crate::controller::revision::JOB_FILE),
        "--restore",
        blueprint.restore,
    ]
    .map(str::to_owned)
    .into();
    let mut container = pod::container(blueprint, Role::Preflight, options, arguments);
    // The last lines of the log are the reason that the user is shown.
    container.termination_message_policy = Some("FallbackToLogsOnError".to_owned());
    let mut template = pod::template(blueprint, Role::Preflight, options, container);
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Never".to_owned());
    }
    let mut labels = names.labels(Role::Preflight);
    labels.insert(LABEL_REVISION.to_owned(), blueprint.revision.to_owned());
    Job {
        metadata: ObjectMeta {
            name: Some(names.preflight(blueprint.revision)),
            namespace: blueprint.job.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(owner(blueprint.job)),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            ttl_seconds_after_finished: Some(3_600),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}
