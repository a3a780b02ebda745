//! The coordinator: one pod, replaced only after the old one is gone, and its service.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{ContainerPort, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{LABEL_REVISION, Role};
use super::{Blueprint, PORT_GRPC, PORT_REST, pod};

/// The deployment of the coordinator.
pub fn deployment(blueprint: &Blueprint<'_>) -> Deployment {
    let names = blueprint.names();
    let options = &blueprint.spec.coordinator;
    let runtime = blueprint.runtime();
    let mut container = runtime.container(Role::Coordinator, options, arguments(blueprint));
    container.ports = Some(vec![port("grpc", PORT_GRPC), port("rest", PORT_REST)]);
    // Ready once it answers, whatever the job does: a job that waits or has failed is no reason
    // to hide its coordinator, and `kubectl get pods` is not where a job's state is read.
    pod::probe(&mut container, "/healthz");
    let mut metadata = blueprint.metadata(names.coordinator(), Role::Coordinator);
    pod::label(&mut metadata, LABEL_REVISION, blueprint.revision);
    Deployment {
        metadata,
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            revision_history_limit: Some(0),
            strategy: Some(DeploymentStrategy {
                type_: Some("Recreate".to_owned()),
                rolling_update: None,
            }),
            selector: LabelSelector {
                match_labels: Some(names.selector(Role::Coordinator)),
                match_expressions: None,
            },
            template: pod::of_job(blueprint, Role::Coordinator, options, container),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn arguments(blueprint: &Blueprint<'_>) -> Vec<String> {
    let mut arguments = [
        "coordinator",
        "--job",
        &Blueprint::job_file(),
        "--listen",
        &format!("0.0.0.0:{PORT_GRPC}"),
        "--rest",
        &format!("0.0.0.0:{PORT_REST}"),
        "--restore",
        blueprint.restore,
        "--parallelism",
        &blueprint.spec.parallelism.to_string(),
        "--deployment",
        &blueprint.deployment.to_string(),
    ]
    .map(str::to_owned)
    .to_vec();
    if blueprint.allow_dropped_state {
        arguments.push("--allow-dropped-state".to_owned());
    }
    if let Some(checkpoint) = blueprint.accept_lost_output {
        arguments.extend(["--accept-lost-output".to_owned(), checkpoint.to_string()]);
    }
    arguments
}

/// The service by which workers find the coordinator, ready or not. It has an address of its own:
/// names of pods that come and go stay in DNS caches for up to a minute.
pub fn service(blueprint: &Blueprint<'_>) -> Service {
    let names = blueprint.names();
    let port = |name: &str, number: i32| ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    };
    Service {
        metadata: blueprint.metadata(names.coordinator(), Role::Coordinator),
        spec: Some(ServiceSpec {
            publish_not_ready_addresses: Some(true),
            selector: Some(names.selector(Role::Coordinator)),
            ports: Some(vec![port("grpc", PORT_GRPC), port("rest", PORT_REST)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

pub(super) fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: number,
        ..ContainerPort::default()
    }
}
