//! `StreamJob`: what a user asks for.

#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column names its type"
)]

use kube::CustomResource;
use millstream_spec::{CheckpointSpec, Dataflow, MetricsSpec, RestartStrategy, StateBackendSpec};
use millstream_types::duration::KubeDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pods::{InternalTls, PodOptions, SecretMount, WorkerOptions};
use crate::status::StreamJobStatus;

/// A stream job: a dataflow that runs until it is suspended, deleted or, if all its sources are
/// bounded, complete.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "millstream.dev",
    version = "v1alpha1",
    kind = "StreamJob",
    plural = "streamjobs",
    singular = "streamjob",
    shortname = "sj",
    category = "streaming",
    namespaced,
    status = "StreamJobStatus",
    derive = "PartialEq",
    scale(
        spec_replicas_path = ".spec.parallelism",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(
        name = "Parallelism",
        type_ = "integer",
        json_path = ".status.parallelism"
    ),
    printcolumn(
        name = "Workers",
        type_ = "string",
        json_path = ".status.workers.summary"
    ),
    printcolumn(
        name = "Last Checkpoint",
        type_ = "date",
        json_path = ".status.checkpoint.completedAt"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.checkpoint.retention) || !has(self.deletion) || !has(self.deletion.policy) \
        || (self.checkpoint.retention == 'DeleteOnCancellation') \
        == (self.deletion.policy == 'DeleteCheckpoints')",
    "message": "`deletion.policy` contradicts `checkpoint.retention`: DeleteOnCancellation goes \
        with DeleteCheckpoints, RetainOnCancellation with Retain or Savepoint; leave one of them out",
    "fieldPath": ".deletion.policy"
}]))]
pub struct StreamJobSpec {
    /// Image of the runtime that coordinator and workers run. A new image is an upgrade.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// How many subtasks run every node of the dataflow that does not say otherwise. Changing it
    /// rescales the job from its newest checkpoint. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 32_768))]
    pub parallelism: u32,
    /// Highest parallelism of a node with `partitionBy` or keyed state: into how many key groups its
    /// records are divided. Default: 1024.
    // Not filled in, so that the revisions of jobs that do not have it stay what they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32_768))]
    pub max_parallelism: Option<u32>,
    /// Whether neighbouring steps run in one task without a queue between them. Default: true.
    #[serde(default = "yes")]
    pub operator_chaining: bool,
    /// How the state of transforms that group records is kept.
    // Not filled in, as `max_parallelism`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_backend: Option<StateBackendSpec>,
    /// When and where checkpoints are taken.
    pub checkpoint: CheckpointSpec,
    /// What the runtime does after a failure. Default: exponential delay.
    #[serde(default)]
    #[schemars(transform = without_default)]
    pub restart: RestartStrategy,
    /// What is told about the running job besides its own metrics.
    // Not filled in, as `max_parallelism`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsSpec>,
    /// Sources, transforms and sinks.
    pub dataflow: Dataflow,
    /// Whether the job should run. `Suspended` stops it with a savepoint and removes its pods;
    /// `Running` resumes it from there. Default: `Running`.
    #[serde(default)]
    pub state: DesiredState,
    /// How a change of the spec is brought in.
    #[serde(default)]
    pub upgrade: UpgradeSpec,
    /// What state the job starts from when it is first deployed, or deployed again with another
    /// value here.
    #[serde(default)]
    pub restore: RestoreSpec,
    /// A time (RFC 3339); changing it restarts the job once, as an upgrade without a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 20, max = 40), extend("format" = "date-time"))]
    pub restart_at: Option<String>,
    /// Take savepoints periodically.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoints: Option<PeriodicSavepoints>,
    /// What happens to the job's state when the `StreamJob` is deleted: what
    /// `checkpoint.retention` says, unless it is said here. The two must not contradict each other.
    #[serde(default)]
    pub deletion: DeletionSpec,
    /// The coordinator's pod.
    #[serde(default)]
    pub coordinator: PodOptions,
    /// The workers' pods.
    #[serde(default)]
    pub workers: WorkerOptions,
    /// Secrets of the same namespace, mounted as files into all pods of the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub secrets: Vec<SecretMount>,
    /// TLS between the coordinator and the workers, and between workers. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_tls: Option<InternalTls>,
    /// Service account of all pods of the job. Default: the namespace's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
    /// Leave the job as it is: the operator observes it and changes nothing. Default: false.
    #[serde(default)]
    pub paused: bool,
}

/// Whether a job should run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// It should run.
    #[default]
    Running,
    /// It should be stopped with a savepoint, without pods.
    Suspended,
}

/// How a change of the spec is brought in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UpgradeSpec {
    /// What state the new revision starts from. Default: `Savepoint`.
    pub strategy: UpgradeStrategy,
    /// Whether an upgrade waits for a person after its preflight. Default: `Automatic`.
    pub approval: Approval,
    /// How long a new revision may take until its first checkpoint has completed; after that the
    /// upgrade has failed. Default: 10m.
    pub progress_deadline: ProgressDeadline,
    /// What happens to an upgrade that has failed.
    pub rollback: RollbackSpec,
}

/// A deadline that is 10 minutes if not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ProgressDeadline(pub KubeDuration);

impl Default for ProgressDeadline {
    fn default() -> Self {
        Self(KubeDuration::from_secs(600))
    }
}

/// What state a new revision starts from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeStrategy {
    /// Stop with a savepoint and start from it. If the job cannot take one because it is not
    /// healthy, start from its newest checkpoint; never from nothing.
    #[default]
    Savepoint,
    /// Start from the newest checkpoint; the old revision is not asked.
    LastState,
    /// Start without state. What the old revision knew is ignored; its checkpoints stay.
    Stateless,
}

/// Whether an upgrade waits for a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Approval {
    /// It goes on by itself.
    #[default]
    Automatic,
    /// It waits, after its preflight, for the annotation `millstream.dev/approve: <revision>`.
    Manual,
}

/// What happens to an upgrade that has failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RollbackSpec {
    /// Go back to the previous revision, from the state it was stopped with. Default: false.
    pub enabled: bool,
    /// Checkpoints that a revision must complete before it counts as good. Default: 1.
    #[schemars(range(min = 1, max = 100))]
    pub after_checkpoints: u32,
}

impl Default for RollbackSpec {
    fn default() -> Self {
        Self {
            enabled: false,
            after_checkpoints: 1,
        }
    }
}

/// What state a job starts from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.policy == 'From') == has(self.from)",
    "message": "`from` is given exactly when `policy` is From"
}]))]
pub struct RestoreSpec {
    /// Where state comes from. Default: `Latest`.
    pub policy: RestorePolicy,
    /// What to restore from, with `policy: From`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<RestoreFrom>,
    /// Start although the state holds operators that the dataflow no longer has; their state is
    /// dropped. Default: false.
    pub allow_dropped_state: bool,
    /// Number of the checkpoint whose prepared output is lost (failures MS0204, MS0602): go on
    /// without that output. Takes effect with the next deployment, see `restartAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub accept_lost_output: Option<i64>,
}

/// Where state comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RestorePolicy {
    /// The newest checkpoint below the job's storage path, if there is one: also that of a
    /// deleted job of the same name.
    #[default]
    Latest,
    /// Nothing, although there may be checkpoints.
    Fresh,
    /// What `from` names.
    From,
}

/// What to restore from: exactly one is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.savepoint) ? 1 : 0) + (has(self.job) ? 1 : 0) + (has(self.path) ? 1 : 0) == 1",
    "message": "exactly one of `savepoint`, `job` and `path` must be given"
}]))]
pub struct RestoreFrom {
    /// Name of a completed `StreamSavepoint` of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub savepoint: Option<String>,
    /// Name of another `StreamJob` of the same namespace: its newest checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub job: Option<String>,
    /// Path of a savepoint or checkpoint, such as `s3://bucket/path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
}

/// Periodic savepoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PeriodicSavepoints {
    /// From one savepoint to the next, at least 1m.
    pub interval: KubeDuration,
    /// How many are kept. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100))]
    pub keep: u32,
    /// Older ones are deleted, but never the newest; unlimited if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age: Option<KubeDuration>,
}

/// What happens to a job's state when the `StreamJob` is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DeletionSpec {
    /// What to do. Default: `DeleteCheckpoints` with `checkpoint.retention: DeleteOnCancellation`,
    /// `Retain` otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy")]
    pub policy: Option<DeletionPolicy>,
    /// How long to try before the `StreamJob` goes anyway, with its checkpoints kept. Default:
    /// 5m.
    pub deadline: KubeDuration,
}

impl Default for DeletionSpec {
    fn default() -> Self {
        Self {
            policy: None,
            deadline: KubeDuration::from_secs(300),
        }
    }
}

/// What to do with state at deletion.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Checkpoints stay; a job created again under the same name goes on from them.
    #[default]
    Retain,
    /// Stop with a savepoint first; checkpoints stay too.
    Savepoint,
    /// Checkpoints are deleted with the job; savepoints stay.
    DeleteCheckpoints,
}

/// The API server would write a default into the object, and a later manifest with another strategy
/// would then have two of them.
fn without_default(schema: &mut schemars::Schema) {
    schema.remove("default");
}

const fn one() -> u32 {
    1
}

const fn three() -> u32 {
    3
}

const fn yes() -> bool {
    true
}
