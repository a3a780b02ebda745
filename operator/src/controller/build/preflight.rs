//! The check of a new revision: its image, its job file, and whether it can read the job's state,
//! while the old revision runs on.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{
    Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
};

use super::names::{LABEL_REVISION, Role};
use super::{Blueprint, pod};

/// Seconds for which an ended check can be looked at.
const KEPT_SECONDS: i32 = 3_600;
/// Exit code of `millstream validate` for a verdict: trying again gives the same one. However else
/// it ends, nothing is known of the revision.
pub const EXIT_INVALID: i32 = 2;

/// The Kubernetes job that checks a revision; it ends after `deadline` at the latest. Its verdict is
/// the termination message of its pod.
pub fn job(blueprint: &Blueprint<'_>, deadline: Duration) -> Job {
    let options = &blueprint.spec.coordinator;
    let runtime = blueprint.runtime();
    let container = runtime.container(Role::Preflight, options, arguments(blueprint));
    let mut template = pod::of_job(blueprint, Role::Preflight, options, container);
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Never".to_owned());
    }
    let name = blueprint.names().preflight(blueprint.revision);
    let mut metadata = blueprint.metadata(name, Role::Preflight);
    pod::label(&mut metadata, LABEL_REVISION, blueprint.revision);
    Job {
        metadata,
        spec: Some(JobSpec {
            backoff_limit: Some(2),
            active_deadline_seconds: Some(
                i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX).max(1),
            ),
            ttl_seconds_after_finished: Some(KEPT_SECONDS),
            pod_failure_policy: Some(final_on(Role::Preflight, EXIT_INVALID)),
            template,
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn arguments(blueprint: &Blueprint<'_>) -> Vec<String> {
    let mut arguments = vec!["validate".to_owned(), Blueprint::job_file()];
    if blueprint.restore != "fresh" {
        arguments.extend(["--restore".to_owned(), blueprint.restore.to_owned()]);
    }
    if blueprint.allow_dropped_state {
        arguments.push("--allow-dropped-state".to_owned());
    }
    let parallelism = blueprint.spec.parallelism.to_string();
    let rest = [
        "--parallelism",
        &parallelism,
        "--output",
        "json",
        "--summary",
        "/dev/termination-log",
    ];
    arguments.extend(rest.map(str::to_owned));
    arguments
}

/// An exit code that ends the job at once. Pods that were evicted, or whose node went away, do not
/// count as failures.
pub(super) fn final_on(role: Role, exit_code: i32) -> PodFailurePolicy {
    let verdict = PodFailurePolicyRule {
        action: "FailJob".to_owned(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: Some(role.as_str().to_owned()),
            operator: "In".to_owned(),
            values: vec![exit_code],
        }),
        on_pod_conditions: None,
    };
    let disruption = PodFailurePolicyRule {
        action: "Ignore".to_owned(),
        on_exit_codes: None,
        on_pod_conditions: Some(vec![PodFailurePolicyOnPodConditionsPattern {
            type_: "DisruptionTarget".to_owned(),
            status: "True".to_owned(),
        }]),
    };
    PodFailurePolicy {
        rules: vec![verdict, disruption],
    }
}
