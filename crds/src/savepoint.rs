//! `StreamSavepoint`: a savepoint as a resource.

#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column names its type"
)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use millstream_types::duration::KubeDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A savepoint of a job: taken once, kept until it is deleted. Its spec does not change.
#[derive(CustomResource, Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "millstream.dev",
    version = "v1alpha1",
    kind = "StreamSavepoint",
    plural = "streamsavepoints",
    singular = "streamsavepoint",
    shortname = "ssp",
    category = "streaming",
    namespaced,
    status = "StreamSavepointStatus",
    derive = "PartialEq",
    printcolumn(name = "Job", type_ = "string", json_path = ".spec.jobRef.name"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.sizeBytes"),
    printcolumn(
        name = "Path",
        type_ = "string",
        json_path = ".status.path",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self == oldSelf",
    "message": "the spec of a StreamSavepoint cannot be changed: create another one"
}]))]
pub struct StreamSavepointSpec {
    /// The job to take a savepoint of.
    pub job_ref: JobReference,
    /// How long to try; after that the savepoint is abandoned. So long its data may take to be
    /// deleted, too, if it does not stay. Default: 10m.
    #[serde(default = "deadline")]
    pub deadline: KubeDuration,
    /// Whether the savepoint's data stays when the resource is deleted. Default: true.
    #[serde(default = "yes")]
    pub retain: bool,
}

/// A `StreamJob` of the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobReference {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// What became of a savepoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamSavepointStatus {
    /// Generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SavepointState>,
    /// Where it lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its checkpoint number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_id: Option<i64>,
    /// Bytes of everything it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// When it was asked for first, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggered_at: Option<String>,
    /// When it completed, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// How often it has been tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tries: Option<i32>,
    /// When the next try may begin, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_at: Option<String>,
    /// What is waited for or went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Details, by type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
}

/// How a savepoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SavepointState {
    /// It has not been asked for yet.
    Pending,
    /// It is being taken.
    InProgress,
    /// It is complete.
    Completed,
    /// It failed and will not be tried again.
    Failed,
    /// Its deadline passed.
    Abandoned,
    /// What another version of the operator has written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

const fn deadline() -> KubeDuration {
    KubeDuration::from_secs(600)
}

const fn yes() -> bool {
    true
}
