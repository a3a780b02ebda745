//! The nodes of the cluster: which pods they have, and what becomes of them when one goes away.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::Kubernetes;
use super::kubectl::Kubectl;
use super::stage::{Stage, condition, text};
use crate::tools;
use crate::wait::wait_until;

const DEADLINE: Duration = Duration::from_mins(2);

/// The other one of two nodes.
pub fn other(node: &str) -> &'static str {
    if node == "node-1" { "node-2" } else { "node-1" }
}

/// The nodes on which the pods of a role run, without repetition.
pub fn of(stage: &Stage, job: &str, role: &str) -> Vec<String> {
    let pods = stage.pods(job, role);
    let nodes = pods.iter().map(|pod| text(&pod["spec"]["nodeName"]));
    let mut nodes: Vec<String> = nodes.collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

/// Waits until all pods of a job's coordinator and workers are on this node.
#[track_caller]
pub fn wait_for_all_on(stage: &Stage, job: &str, node: &str) {
    wait_until(
        &format!("all pods of {job} are on {node}"),
        DEADLINE,
        || {
            ["coordinator", "worker"]
                .iter()
                .all(|role| of(stage, job, role) == [node])
        },
    );
}

/// Whether a node is ready, as the control plane says.
pub fn is_ready(cluster: &Kubernetes, node: &str) -> bool {
    let found = cluster.api().get(&format!("/api/v1/nodes/{node}"));
    let found: Value = found.unwrap_or_default();
    condition(&found, "Ready").is_some_and(|ready| ready["status"] == "True")
}

/// A node that is away; it comes back when this is dropped.
#[derive(Debug)]
pub struct Away<'a> {
    cluster: &'a Kubernetes,
    node: String,
}

impl<'a> Away<'a> {
    /// The power of a node is cut.
    #[track_caller]
    pub fn without_power(cluster: &'a Kubernetes, node: &str) -> Self {
        Self::begin(cluster, node, "stop-node")
    }

    /// The network of a node is cut; it lives on.
    #[track_caller]
    pub fn without_network(cluster: &'a Kubernetes, node: &str) -> Self {
        Self::begin(cluster, node, "cut-node")
    }

    #[track_caller]
    fn begin(cluster: &'a Kubernetes, node: &str, command: &str) -> Self {
        for node in ["node-1", "node-2"] {
            assert!(
                is_ready(cluster, node),
                "{node} is not ready; this test needs two nodes: tools/cluster.sh up 2"
            );
        }
        let away = Self {
            cluster,
            node: node.to_owned(),
        };
        tools::install("cluster.sh", &[command, number(node)]);
        away
    }

    /// Waits until the control plane has noticed.
    #[track_caller]
    pub fn wait_until_noticed(&self) {
        wait_until(&format!("{} is not ready", self.node), DEADLINE, || {
            !is_ready(self.cluster, &self.node)
        });
    }

    /// The node comes back.
    #[track_caller]
    pub fn back(self) {
        let (cluster, node) = (self.cluster, self.node.clone());
        drop(self);
        wait_until(&format!("{node} is ready again"), DEADLINE, || {
            is_ready(cluster, &node)
        });
    }
}

impl Drop for Away<'_> {
    fn drop(&mut self) {
        tools::install("cluster.sh", &["start-node", number(&self.node)]);
    }
}

fn number(node: &str) -> &str {
    node.trim_start_matches("node-")
}

/// A node that takes no more pods until this is dropped.
#[derive(Debug)]
pub struct Cordoned {
    node: String,
}

impl Cordoned {
    /// `kubectl cordon`.
    #[track_caller]
    pub fn node(node: &str) -> Self {
        let cordoned = Self {
            node: node.to_owned(),
        };
        Self::kubectl().run(&["cordon", node]).expect_success();
        cordoned
    }

    /// `kubectl drain`, to its end.
    #[track_caller]
    pub fn and_drained(stage: &Stage, node: &str) -> Self {
        let cordoned = Self::node(node);
        // Pods keep temporary files in an emptyDir.
        let drain = [
            "drain",
            node,
            "--ignore-daemonsets",
            "--delete-emptydir-data",
            "--timeout=120s",
        ];
        stage.kubectl().run(&drain).expect_success();
        cordoned
    }

    fn kubectl() -> Kubectl {
        Kubernetes::shared().kubectl("default")
    }
}

impl Drop for Cordoned {
    fn drop(&mut self) {
        drop(Self::kubectl().run(&["uncordon", &self.node]));
    }
}

/// An address that nobody on this machine reaches but its kubelets, until this is dropped.
#[derive(Debug)]
pub struct Unreachable {
    rule: Vec<String>,
}

impl Unreachable {
    /// What this machine's own processes ask at the REST interface of this address vanishes. Kubelets
    /// have groups of their own.
    #[track_caller]
    pub fn address(ip: &str) -> Self {
        let rule = [
            "OUTPUT",
            "-d",
            ip,
            "-p",
            "tcp",
            "--dport",
            "8081",
            "-m",
            "owner",
            "--gid-owner",
            "0",
            "-j",
            "DROP",
        ];
        let unreachable = Self {
            rule: rule.map(str::to_owned).to_vec(),
        };
        assert!(unreachable.iptables("-I"), "{unreachable:?}");
        unreachable
    }

    fn iptables(&self, action: &str) -> bool {
        let status = Command::new("iptables")
            .arg(action)
            .args(&self.rule)
            .status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Unreachable {
    fn drop(&mut self) {
        self.iptables("-D");
    }
}
