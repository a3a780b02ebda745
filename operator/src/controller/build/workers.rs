//! The workers: a deployment, and the budget that keeps voluntary evictions to one at a time.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{EnvVar, TopologySpreadConstraint};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::coordinator::port;
use super::names::{LABEL_REVISION, Role};
use super::{Blueprint, PORT_EXCHANGE, PORT_GRPC, PORT_WORKER, pod};

/// Where workers keep state that does not fit into memory.
fn state_directory(blueprint: &Blueprint<'_>) -> String {
    let backend = blueprint.spec.state_backend.as_ref();
    let directory = backend.and_then(|backend| backend.directory.as_ref());
    directory.map_or_else(
        || "/var/lib/millstream".to_owned(),
        |directory| directory.display().to_string(),
    )
}

/// The workers' Deployment of one deployment of the job: a job cannot run half on one revision and
/// half on another. The parallelism does not stand in the template, so that a rescale leaves the
/// pods that stay alone.
pub fn deployment(blueprint: &Blueprint<'_>) -> Deployment {
    let names = blueprint.names();
    let options = &blueprint.spec.workers.pod;
    let runtime = blueprint.runtime();
    let mut container = runtime.container(Role::Worker, options, arguments(blueprint));
    container.ports = Some(vec![
        port("rest", PORT_WORKER),
        port("exchange", PORT_EXCHANGE),
    ]);
    let ours = &blueprint.spec.coordinator.env;
    let env = container.env.get_or_insert_default();
    env.extend(pod::storage_variables(ours, &options.env));
    // Not an argument: a runtime that is older than the operator would refuse it.
    container.env.get_or_insert_default().push(EnvVar {
        name: "MILLSTREAM_EXCHANGE".to_owned(),
        value: Some(format!("0.0.0.0:{PORT_EXCHANGE}")),
        ..EnvVar::default()
    });
    let directory = state_directory(blueprint);
    container.env.get_or_insert_default().push(EnvVar {
        name: "MILLSTREAM_STATE_DIRECTORY".to_owned(),
        value: Some(directory.clone()),
        ..EnvVar::default()
    });
    pod::probe(&mut container, "/readyz");
    let mut template = pod::of_job(blueprint, Role::Worker, options, container);
    pod::secure(blueprint, &mut template);
    if let Some(spec) = &mut template.spec {
        spec.topology_spread_constraints = Some(vec![spread(blueprint)]);
        pod::mount_scratch(spec, "state", &directory);
    }
    let mut metadata = blueprint.metadata_of(names.workers_of(blueprint.deployment), Role::Worker);
    pod::label(&mut metadata, LABEL_REVISION, blueprint.revision);
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(blueprint.worker_count()),
            revision_history_limit: Some(0),
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(selector(blueprint)),
                match_expressions: None,
            },
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn arguments(blueprint: &Blueprint<'_>) -> Vec<String> {
    let namespace = blueprint
        .job
        .metadata
        .namespace
        .as_deref()
        .unwrap_or("default");
    let coordinator = format!(
        "{}.{namespace}.svc:{PORT_GRPC}",
        blueprint.names().coordinator_of(blueprint.deployment)
    );
    [
        "worker",
        "--coordinator",
        &coordinator,
        "--slots",
        &blueprint.spec.workers.slots.to_string(),
        "--rest",
        &format!("0.0.0.0:{PORT_WORKER}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn selector(blueprint: &Blueprint<'_>) -> BTreeMap<String, String> {
    blueprint
        .names()
        .selector_of(Role::Worker, blueprint.deployment)
}

/// Over nodes as evenly as they have room.
fn spread(blueprint: &Blueprint<'_>) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(selector(blueprint)),
            match_expressions: None,
        }),
        ..TopologySpreadConstraint::default()
    }
}

/// Voluntary evictions take one worker of the newest deployment at a time.
pub fn disruption_budget(blueprint: &Blueprint<'_>) -> PodDisruptionBudget {
    let names = blueprint.names();
    PodDisruptionBudget {
        metadata: blueprint.metadata(names.workers(), Role::Worker),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(LabelSelector {
                match_labels: Some(selector(blueprint)),
                match_expressions: None,
            }),
            // A worker that never gets ready must not keep its node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
