//! From a revision to Kubernetes objects. Pure.

pub mod coordinator;
pub mod names;
pub mod network;
pub mod pod;
pub mod preflight;
pub mod workers;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use millstream_crds::{StreamJob, StreamJobSpec};

use names::Names;

/// Port of the coordinator's gRPC interface.
pub const PORT_GRPC: i32 = 6123;
/// Port of the coordinator's REST interface, metrics and health.
pub const PORT_REST: i32 = 8081;
/// Port of a worker's metrics and health.
pub const PORT_WORKER: i32 = 8082;

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
    /// Where state comes from: the value of `--restore`.
    pub restore: &'a str,
    /// Names one deployment of the job: a coordinator that finds its chain released under the
    /// same one stays stopped.
    pub deployment: &'a str,
}

impl Blueprint<'_> {
    /// Names of the job's objects.
    pub fn names(&self) -> Names {
        Names::of(self.job)
    }

    /// Number of worker pods: parallelism over slots, rounded up.
    pub fn worker_count(&self) -> i32 {
        let workers = self.spec.parallelism.div_ceil(self.spec.workers.slots.max(1));
        i32::try_from(workers).unwrap_or(i32::MAX)
    }
}

/// The reference by which an object goes when its job goes.
pub fn owner(job: &StreamJob) -> Vec<OwnerReference> {
    job.controller_owner_ref(&()).into_iter().collect()
}
