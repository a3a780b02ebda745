//! Who may talk to a job's pods: workers to the coordinator's gRPC port, anybody in the cluster
//! who is let through to REST and metrics, nobody to anything else.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::names::{LABEL_JOB, Role};
use super::{Blueprint, PORT_GRPC, PORT_REST, owner};

/// The network policy of a job's pods.
pub fn policy(blueprint: &Blueprint<'_>) -> NetworkPolicy {
    let names = blueprint.names();
    let all = LabelSelector {
        match_labels: names.selector(Role::Worker).remove(LABEL_JOB).map(|job| {
            std::iter::once((LABEL_JOB.to_owned(), job)).collect()
        }),
        match_expressions: None,
    };
    let workers = NetworkPolicyPeer {
        pod_selector: Some(LabelSelector {
            match_labels: Some(names.selector(Role::Worker)),
            match_expressions: None,
        }),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(names.network_policy()),
            namespace: blueprint.job.metadata.namespace.clone(),
            labels: Some(names.labels(Role::Worker)),
            owner_references: Some(owner(blueprint.job)),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(all),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule {
                    from: Some(vec![workers]),
                    ports: Some(vec![tcp(PORT_GRPC)]),
                },
                NetworkPolicyIngressRule { from: None, ports: Some(vec![tcp(PORT_REST)]) },
            ]),
            egress: None,
        }),
    }
}

fn tcp(port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
