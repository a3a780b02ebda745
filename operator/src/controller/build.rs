//! From a revision to Kubernetes objects. Pure: the same [`Blueprint`] always gives the same
//! objects, so rendering again changes nothing.
//!
//! Every pod meets the restricted Pod Security Standard, has a read-only root, no token of the
//! API, and leaves its last words where the operator can read them.

pub mod coordinator;
pub mod disposal;
pub mod names;
pub mod network;
pub mod pod;
pub mod preflight;
pub mod workers;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use kube::api::ObjectMeta;
use millstream_crds::{StreamJob, StreamJobSpec, contract};

use names::{Names, Role};

/// Port of the coordinator's gRPC interface.
pub const PORT_GRPC: i32 = 6123;
/// Port of the coordinator's REST interface, metrics and health.
pub const PORT_REST: i32 = contract::PORT_COORDINATOR as i32;
/// Port of a worker's metrics and health. It has the coordinator's name, `rest`, so that one
/// `PodMonitor` finds both.
pub const PORT_WORKER: i32 = contract::PORT_WORKER as i32;
/// Where workers take each other's records.
pub const PORT_EXCHANGE: i32 = 6124;

/// Everything that objects are built from.
#[derive(Debug, Clone, Copy)]
pub struct Blueprint<'a> {
    /// The resource.
    pub job: &'a StreamJob,
    /// The spec of the revision to build.
    pub spec: &'a StreamJobSpec,
    /// Hash of the revision.
    pub revision: &'a str,
    /// Name of the revision's config map.
    pub config_map: &'a str,
    /// Where state comes from: `latest`, `fresh` or a path.
    pub restore: &'a str,
    /// Whether `restore` is left aside if the chain has gone on since.
    pub unless_advanced: bool,
    /// Whether an empty chain is an error.
    pub expect_state: bool,
    /// Whether state of operators that the dataflow no longer has may be dropped.
    pub allow_dropped_state: bool,
    /// The checkpoint whose prepared output may be lost.
    pub accept_lost_output: Option<i64>,
    /// Names one deployment of the job: a coordinator that finds its chain released under the
    /// same one stays stopped.
    pub deployment: u64,
}

impl<'a> Blueprint<'a> {
    /// Names of the job's objects.
    pub fn names(&self) -> Names {
        Names::of(self.job)
    }

    /// What a pod around a container of the runtime needs.
    pub fn runtime(&self) -> pod::Runtime<'a> {
        pod::Runtime::of(self.spec)
    }

    /// Path of the job file in every pod.
    fn job_file() -> String {
        format!("{}/{}", pod::CONFIG_DIRECTORY, super::revision::JOB_FILE)
    }

    /// Metadata of an object of a role. Objects that belong to one revision say so.
    fn metadata(&self, name: String, role: Role) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: self.job.metadata.namespace.clone(),
            labels: Some(self.names().labels(role)),
            owner_references: Some(owner(self.job)),
            ..ObjectMeta::default()
        }
    }

    /// Metadata of an object that belongs to one deployment of the job.
    fn metadata_of(&self, name: String, role: Role) -> ObjectMeta {
        let mut metadata = self.metadata(name, role);
        let number = self.deployment.to_string();
        pod::label(&mut metadata, names::LABEL_DEPLOYMENT, &number);
        metadata
    }

    /// Number of worker pods: the highest parallelism of a node over slots, rounded up.
    pub fn worker_count(&self) -> i32 {
        let slots = self.spec.dataflow.slots(self.spec.parallelism);
        let workers = slots.div_ceil(self.spec.workers.slots.max(1));
        i32::try_from(workers).unwrap_or(i32::MAX)
    }
}

/// The reference by which an object goes when its job goes.
pub fn owner(job: &StreamJob) -> Vec<OwnerReference> {
    job.controller_owner_ref(&()).into_iter().collect()
}

#[cfg(test)]
mod tests;
