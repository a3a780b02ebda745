//! The coordinator: one pod, replaced only after the old one is gone, and its service.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    ContainerPort, HTTPGetAction, Probe, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::names::{LABEL_REVISION, Role};
use super::{Blueprint, PORT_GRPC, PORT_REST, owner, pod};

/// The deployment of the coordinator.
pub fn deployment(blueprint: &Blueprint<'_>) -> Deployment {
    let names = blueprint.names();
    let options = &blueprint.spec.coordinator;
    let mut container = pod::container(blueprint, Role::Coordinator, options, arguments(blueprint));
    container.ports = Some(vec![port("grpc", PORT_GRPC), port("rest", PORT_REST)]);
    container.liveness_probe = Some(probe("/healthz", 3));
    let mut labels = names.labels(Role::Coordinator);
    labels.insert(LABEL_REVISION.to_owned(), blueprint.revision.to_owned());
    Deployment {
        metadata: ObjectMeta {
            name: Some(names.coordinator()),
            namespace: blueprint.job.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(owner(blueprint.job)),
            ..ObjectMeta::default()
        },
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
            template: pod::template(blueprint, Role::Coordinator, options, container),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn arguments(blueprint: &Blueprint<'_>) -> Vec<String> {
    [
        "coordinator",
        "--job",
        &format!("{}/{}", pod::CONFIG_DIRECTORY, crate::controller::revision::JOB_FILE),
        "--listen",
        &format!("0.0.0.0:{PORT_GRPC}"),
        "--rest",
        &format!("0.0.0.0:{PORT_REST}"),
        "--restore",
        blueprint.restore,
        "--parallelism",
        &blueprint.spec.parallelism.to_string(),
        "--deployment",
        blueprint.deployment,
    ]
    .map(str::to_owned)
    .into()
}

/// The headless service by which workers find the coordinator, ready or not.
pub fn service(blueprint: &Blueprint<'_>) -> Service {
    let names = blueprint.names();
    let port = |name: &str, number: i32| ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    };
    Service {
        metadata: ObjectMeta {
            name: Some(names.coordinator()),
            namespace: blueprint.job.metadata.namespace.clone(),
            labels: Some(names.labels(Role::Coordinator)),
            owner_references: Some(owner(blueprint.job)),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
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

pub(super) fn probe(path: &str, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("rest".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(10),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}
