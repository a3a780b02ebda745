//! `StreamJob.status`: what the operator answers. Always under 32 KiB.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stream_job::UpgradeStrategy;

/// What the operator knows of a job and is doing about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct StreamJobStatus {
    /// Generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the job is doing, in one word, derived from the conditions. For printing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobPhase>,
    /// What is waited for and what a person can do. For printing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Details, by type.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["type"]
    ))]
    pub conditions: Vec<Condition>,
    /// Name of the revision that runs, or ran last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The newest revisions, the newest first, at most 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revisions: Vec<RevisionStatus>,
    /// The current attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<i64>,
    /// What the current attempt was restored from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
    /// The newest completed checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<CheckpointStatus>,
    /// The savepoint that the job was suspended or upgraded with; none if there was none, and its
    /// newest checkpoint is what it goes on from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_point: Option<String>,
    /// Checkpoint storage in which the job has been seen to have state. From then on an empty
    /// chain there is an error, and another `spec.checkpoint.storage` has to carry it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// The upgrade that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<UpgradeStatus>,
    /// Parallelism that is deployed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i64>,
    /// The workers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<WorkersStatus>,
    /// Parallelism that runs, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Selector of the workers' pods, for the scale subresource.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Number of the newest deployment: it grows with every one, also over re-creation of the
    /// resource, and stands here before any object carries it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment: Option<i64>,
    /// How the newest deployment is started; none while nothing is to run (before the first
    /// one, suspended, completed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployed: Option<DeployedStatus>,
    /// The revision that was found not to work. It is not tried again until the spec changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejected: Option<RejectedStatus>,
    /// Value of the annotation `millstream.dev/approve` that an upgrade has used up. It approves
    /// nothing more, until it is another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_used: Option<String>,
    /// Hash of the `spec.restore` that was applied last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_applied: Option<String>,
    /// Revision that was rolled back from, until another one is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back_from: Option<String>,
    /// When the parallelism was changed, RFC 3339, until the job runs with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescaled_at: Option<String>,
    /// When the job was complete, RFC 3339, until it is deployed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Time of the last periodic savepoint, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_savepoint_at: Option<String>,
}

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JobPhase {
    /// The spec has faults and nothing runs.
    Invalid,
    /// Pods are being created.
    Deploying,
    /// The runtime restores the job.
    Restoring,
    /// All tasks run.
    Running,
    /// The runtime restarts the job after a failure.
    Restarting,
    /// A new revision is being brought in.
    Upgrading,
    /// The parallelism is being changed.
    Rescaling,
    /// The job is being stopped with a savepoint.
    Suspending,
    /// The job is suspended.
    Suspended,
    /// The job is complete.
    Completed,
    /// The job cannot go on without a person.
    Failed,
    /// The job is being deleted.
    Deleting,
    /// What another version of the operator has written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

/// How a deployment is started. Written before any object is made from it, and not changed
/// afterwards, so that objects rendered again are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they stand for flags of the runtime"
)]
pub struct DeployedStatus {
    /// Where state comes from: `latest`, `fresh` or a path.
    pub restore: String,
    /// Whether `restore` is what the operator believes to be the newest state, and not what a
    /// person has asked for: it is left aside if the chain has gone on since.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unless_advanced: bool,
    /// Whether the job has had state in this storage, so that an empty chain is an error.
    #[serde(default, skip_serializing_if = "is_false")]
    pub expect_state: bool,
    /// Whether state of operators that the dataflow no longer has may be dropped.
    #[serde(default)]
    pub allow_dropped_state: bool,
    /// The checkpoint whose prepared output may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_lost_output: Option<i64>,
    /// When it was decided, RFC 3339.
    pub at: String,
    /// Whether the runtime has taken over with it, so that `restore` has had its effect.
    #[serde(default)]
    pub claimed: bool,
    /// Checkpoints of it that have been seen to complete, up to what makes a revision good.
    #[serde(default)]
    pub checkpoints: i32,
}

/// A revision that does not work.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RejectedStatus {
    /// Its name.
    pub revision: String,
    /// Generation of the spec that asked for it.
    pub generation: i64,
    /// Why, as a reason of conditions.
    pub reason: String,
    /// Why, in full.
    pub message: String,
    /// When, RFC 3339.
    pub at: String,
}

/// One revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionStatus {
    /// Name of its immutable `ConfigMap`.
    pub name: String,
    /// Generation of the spec that it was made from.
    pub generation: i64,
    /// When it was deployed first, RFC 3339.
    pub deployed_at: String,
    /// Savepoint that it was stopped with, if it has been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_point: Option<String>,
    /// Newest checkpoint that was seen of it when it was replaced without a savepoint. For
    /// information: newer ones may have completed, and this one may have been deleted since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<String>,
    /// Whether it has completed the checkpoints that make it good.
    #[serde(default)]
    pub good: bool,
}

/// The newest completed checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Its number.
    pub id: i64,
    /// Where its manifest lies.
    pub path: String,
    /// When it completed, RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    pub completed_at: String,
    /// From trigger to completion, milliseconds.
    pub duration_ms: i64,
    /// Bytes of everything it names.
    pub size_bytes: i64,
}

/// An upgrade that is under way. Written before each step is taken, so that a crash at any point
/// is gone on from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpgradeStatus {
    /// Revision that runs before it; none for the first deployment and after a suspension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Revision that it brings in; none for a suspension.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// How state is carried over.
    pub strategy: UpgradeStrategy,
    /// The step that is being taken.
    pub step: UpgradeStep,
    /// Since when, RFC 3339.
    pub since: String,
    /// Name of the savepoint, chosen before it is asked for; none any more once the upgrade goes
    /// on without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<String>,
    /// State that the new revision starts from, once known: `latest`, `fresh` or a path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<String>,
    /// Hash of the `spec.restore` that it applies, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_hash: Option<String>,
    /// Value of the annotation `millstream.dev/approve` that it waits for, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// What changes, as the preflight found it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<String>,
    /// How often the current step has been tried.
    #[serde(default)]
    pub tries: i32,
}

/// Steps of an upgrade, in order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum UpgradeStep {
    /// The new revision is checked; the old one runs on.
    Preflight,
    /// A person must approve.
    WaitingForApproval,
    /// The old revision is stopped, with a savepoint if the strategy says so.
    Stopping,
    /// The new revision's pods are created.
    Deploying,
    /// The new revision must complete its first checkpoints.
    Verifying,
    /// What another version of the operator has written.
    #[serde(other)]
    #[schemars(skip)]
    Unknown,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// The workers of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkersStatus {
    /// How many there should be.
    pub desired: i32,
    /// How many are ready.
    pub ready: i32,
    /// `ready/desired`, for printing.
    pub summary: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_of_a_newer_version_are_read() {
        let status: StreamJobStatus = serde_json::from_value(json!({
            "state": "Dreaming",
            "upgrade": {"strategy": "Savepoint", "step": "Rehearsing", "since": "", "more": true},
            "deployment": 7,
            "more": {"of": "it"},
        }))
        .unwrap();
        assert_eq!(status.state, Some(JobPhase::Unknown));
        assert_eq!(status.upgrade.unwrap().step, UpgradeStep::Unknown);
        assert_eq!(status.deployment, Some(7));
    }

    #[test]
    fn nobody_is_told_to_write_them() {
        for schema in [
            schemars::schema_for!(JobPhase),
            schemars::schema_for!(UpgradeStep),
        ] {
            let schema = serde_json::to_string(&schema).unwrap();
            assert!(!schema.contains("\"Unknown\""), "{schema}");
        }
    }
}
