//! The coordinator: one pod, and its services.
//!
//! Its Deployment carries the number of the job's deployment in its name: the next one never waits
//! for a pod on a node that has died. That two coordinators may live for a while is what the chain
//! is for: the older one finds a newer number in it and stops.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapKeySelector, ContainerPort, EnvVar, EnvVarSource, Service, ServicePort,
    ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::names::{LABEL_REVISION, Names, Role};
use super::{Blueprint, PORT_GRPC, PORT_REST, pod};

/// Key of the config map that says which deployment has had a checkpoint.
const RAN: &str = "deployment";
/// Path that answers with success while all tasks run.
pub const READY: &str = "/readyz";

/// The deployment of the coordinator.
pub fn deployment(blueprint: &Blueprint<'_>) -> Deployment {
    let names = blueprint.names();
    let options = &blueprint.spec.coordinator;
    let runtime = blueprint.runtime();
    let mut container = runtime.container(Role::Coordinator, options, arguments(blueprint));
    container.ports = Some(vec![port("grpc", PORT_GRPC), port("rest", PORT_REST)]);
    // Ready while all tasks of the job run. The kubelet asks past every network policy and mesh:
    // what it finds is a second opinion where the operator cannot reach the pod.
    pod::probe(&mut container, READY);
    let had_state = had_state(&names);
    let env = container.env.get_or_insert_default();
    env.retain(|one| one.name != had_state.name);
    env.push(had_state);
    let mut template = pod::of_job(blueprint, Role::Coordinator, options, container);
    pod::secure(blueprint, &mut template);
    let mut metadata = blueprint.metadata_of(
        names.coordinator_of(blueprint.deployment),
        Role::Coordinator,
    );
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
                match_labels: Some(names.selector_of(Role::Coordinator, blueprint.deployment)),
                match_expressions: None,
            },
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// What a coordinator cannot learn from its arguments, which were written before: that this very
/// deployment has had a checkpoint. Read whenever the container starts.
fn had_state(names: &Names) -> EnvVar {
    EnvVar {
        name: "MILLSTREAM_RAN".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            config_map_key_ref: Some(ConfigMapKeySelector {
                name: names.ran(),
                key: RAN.to_owned(),
                optional: Some(true),
            }),
            ..EnvVarSource::default()
        }),
    }
}

/// The config map that says so.
pub fn ran(blueprint: &Blueprint<'_>) -> ConfigMap {
    let data = [(RAN.to_owned(), blueprint.deployment.to_string())];
    ConfigMap {
        metadata: blueprint.metadata(blueprint.names().ran(), Role::Coordinator),
        data: Some(data.into()),
        ..ConfigMap::default()
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
    // The job's identity is its namespace's, so that one that is created again finds its state.
    if let Some(uid) = &blueprint.job.metadata.uid {
        arguments.extend(["--resource-uid".to_owned(), uid.clone()]);
    }
    if blueprint.unless_advanced {
        arguments.push("--unless-advanced".to_owned());
    }
    if blueprint.expect_state {
        arguments.push("--expect-state".to_owned());
    }
    if blueprint.allow_dropped_state {
        arguments.push("--allow-dropped-state".to_owned());
    }
    if let Some(checkpoint) = blueprint.accept_lost_output {
        arguments.extend(["--accept-lost-output".to_owned(), checkpoint.to_string()]);
    }
    arguments
}

/// The service by which workers find the coordinator of their own deployment, ready or not. It has
/// an address of its own: names of pods that come and go stay in DNS caches for up to a minute.
/// Workers of an older deployment never meet a newer coordinator.
pub fn service_of_workers(blueprint: &Blueprint<'_>) -> Service {
    let name = blueprint.names().coordinator_of(blueprint.deployment);
    service(blueprint, blueprint.metadata_of(name, Role::Coordinator))
}

/// The service by which clients of the REST interface find the newest coordinator, ready or not.
pub fn service_of_clients(blueprint: &Blueprint<'_>) -> Service {
    let name = blueprint.names().coordinator();
    service(blueprint, blueprint.metadata(name, Role::Coordinator))
}

fn service(blueprint: &Blueprint<'_>, metadata: ObjectMeta) -> Service {
    let selector = blueprint
        .names()
        .selector_of(Role::Coordinator, blueprint.deployment);
    let port = |name: &str, number: i32| ServicePort {
        name: Some(name.to_owned()),
        port: number,
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            publish_not_ready_addresses: Some(true),
            selector: Some(selector),
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
