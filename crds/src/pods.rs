//! Options of a job's pods: a curated list, so that what the operator renders stays safe.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use millstream_types::duration::KubeDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PodOptions {
    /// CPU and memory of the container. Default: 100m and 128Mi requested, 512Mi limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 20))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod tolerates. Unless given otherwise, a pod stays for 20s on a node that is
    /// not ready or unreachable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub tolerations: Vec<Toleration>,
    /// Rules of scheduling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// More labels of the pod. Labels below `millstream.dev/` and `app.kubernetes.io/` are the
    /// operator's.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 50))]
    pub labels: BTreeMap<String, String>,
    /// More annotations of the pod.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 50))]
    pub annotations: BTreeMap<String, String>,
    /// Environment variables, plain values only. Secrets belong into `secrets`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub env: Vec<EnvironmentVariable>,
    /// Name of a priority class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// When the image is pulled. Default: the cluster's rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Secrets of the same namespace for pulling the image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 253)))]
    pub image_pull_secrets: Vec<String>,
    /// How long the pod may take to stop. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub termination_grace_period: Option<KubeDuration>,
}

/// Options of the workers' pods.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkerOptions {
    /// Subtasks of each step that one worker runs; the number of workers is `parallelism`
    /// divided by it, rounded up. Default: 1.
    #[schemars(range(min = 1, max = 256))]
    pub slots: u32,
    /// The pod.
    pub pod: PodOptions,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            slots: 1,
            pod: PodOptions::default(),
        }
    }
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvironmentVariable {
    /// Its name.
    #[schemars(length(min = 1, max = 128), pattern(r"^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub name: String,
    /// Its value.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At every start of a pod.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never.
    Never,
}

/// TLS between the pods of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InternalTls {
    /// Name of a secret of the same namespace with `ca.crt`, `tls.crt` and `tls.key`, as cert-manager
    /// makes it. The certificate is for a DNS name, for servers and for clients: pods of the job take
    /// each other for such by the authority and this name.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// A secret of the same namespace, mounted as files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretMount {
    /// Name of the secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Directory that its keys appear in as files. Default: `/etc/millstream/secrets/<name>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), pattern(r"^/[A-Za-z0-9._/-]*$"))]
    pub mount_path: Option<String>,
}
