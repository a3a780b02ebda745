//! Who may talk to a job's pods: its workers to the coordinator's gRPC port and to each other; the operator,
//! Prometheus, and pods that are labelled for it to REST and metrics; nobody to anything else.
//! The kubelet's probes and `kubectl port-forward` come from the node, which no policy stops.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{LABEL_CLIENT, Role};
use super::{Blueprint, PORT_EXCHANGE, PORT_GRPC, PORT_REST, PORT_WORKER};

/// The network policy of a job's pods.
pub fn policy(blueprint: &Blueprint<'_>) -> NetworkPolicy {
    let names = blueprint.names();
    let workers = NetworkPolicyPeer {
        pod_selector: Some(selector(names.selector(Role::Worker))),
        ..NetworkPolicyPeer::default()
    };
    let readers = vec![
        anywhere(&[
            ("app.kubernetes.io/part-of", "millstream"),
            ("app.kubernetes.io/component", "operator"),
        ]),
        anywhere(&[("app.kubernetes.io/name", "prometheus")]),
        anywhere(&[(LABEL_CLIENT, "true")]),
    ];
    let mut metadata = blueprint.metadata(names.network_policy(), Role::Coordinator);
    metadata.labels = metadata.labels.map(|mut labels| {
        labels.remove(super::names::LABEL_ROLE);
        labels.remove("app.kubernetes.io/component");
        labels
    });
    NetworkPolicy {
        metadata,
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(selector(names.all())),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![
                NetworkPolicyIngressRule {
                    from: Some(vec![workers]),
                    ports: Some(vec![tcp(PORT_GRPC), tcp(PORT_EXCHANGE)]),
                },
                NetworkPolicyIngressRule {
                    from: Some(readers),
                    ports: Some(vec![tcp(PORT_REST), tcp(PORT_WORKER)]),
                },
            ]),
            egress: None,
        }),
    }
}

/// Pods with these labels, in every namespace.
fn anywhere(labels: &[(&str, &str)]) -> NetworkPolicyPeer {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(selector(labels)),
        ip_block: None,
    }
}

fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        match_expressions: None,
    }
}

fn tcp(port: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}
