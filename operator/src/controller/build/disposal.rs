//! Kubernetes jobs that delete stored state. They run the runtime's image with the job's secrets,
//! because the operator has neither, and they do so while the job is down.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use millstream_crds::StreamJob;
use millstream_crds::pods::PodOptions;

use super::Blueprint;
use super::names::{Names, Role};
use super::pod::{self, Runtime};
use super::preflight::final_on;

/// Seconds after which a disposal that has not ended has failed.
const DEADLINE_SECONDS: i64 = 600;
/// Seconds for which an ended disposal can be looked at.
const KEPT_SECONDS: i32 = 3_600;
/// Exit code of `millstream checkpoints delete` when it refuses.
const EXIT_REFUSED: i32 = 2;

/// What a disposal is made from.
#[derive(Debug, Clone, Copy)]
pub struct Disposal<'a> {
    /// Name of the Kubernetes job.
    pub name: &'a str,
    /// Its namespace.
    pub namespace: Option<&'a str>,
    /// Name of the `StreamJob` whose state it is.
    pub job: &'a str,
    /// The resource that waits for it.
    pub owner: &'a [OwnerReference],
    /// Image, secrets and service account.
    pub runtime: Runtime<'a>,
    /// Options of the pod: the coordinator's.
    pub options: &'a PodOptions,
}

impl Disposal<'_> {
    /// The job that deletes a savepoint.
    pub fn of_savepoint(&self, path: &str) -> Job {
        let arguments = ["checkpoints", "delete", path];
        self.job(arguments.map(str::to_owned).to_vec(), None)
    }

    /// `config_map` is that of the job's revision, if the job file is needed.
    fn job(&self, arguments: Vec<String>, config_map: Option<&str>) -> Job {
        let labels = Names::of_name(self.job).labels(Role::Disposal);
        let container = self
            .runtime
            .container(Role::Disposal, self.options, arguments);
        let mut spec = self.runtime.pod(self.options, container);
        spec.restart_policy = Some("Never".to_owned());
        if let Some(name) = config_map {
            pod::mount_job_file(&mut spec, name);
        }
        let template = pod::template(
            self.options,
            pod::pod_labels(self.options, labels.clone()),
            spec,
        );
        Job {
            metadata: ObjectMeta {
                name: Some(self.name.to_owned()),
                namespace: self.namespace.map(str::to_owned),
                labels: Some(labels),
                owner_references: Some(self.owner.to_vec()),
                ..ObjectMeta::default()
            },
            spec: Some(JobSpec {
                backoff_limit: Some(4),
                active_deadline_seconds: Some(DEADLINE_SECONDS),
                ttl_seconds_after_finished: Some(KEPT_SECONDS),
                pod_failure_policy: Some(final_on(Role::Disposal, EXIT_REFUSED)),
                template,
                ..JobSpec::default()
            }),
            status: None,
        }
    }
}

/// The job that deletes the checkpoints of a `StreamJob` that is being deleted; its savepoints
/// stay. It refuses if the chain belongs to another `owner` or to a newer deployment, such as
/// that of a job that was created again meanwhile.
///
/// `config_map` is that of the last revision, if it is still there: its job file says where the sinks
/// are in which transactions may be open, that readers would wait for until they time out.
pub fn of_job(
    job: &StreamJob,
    owner: &str,
    deployment: Option<i64>,
    config_map: Option<&str>,
) -> Job {
    let names = Names::of(job);
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let namespace = job.metadata.namespace.as_deref();
    let disposal = Disposal {
        name: &names.disposal(),
        namespace,
        job: name,
        owner: &super::owner(job),
        runtime: Runtime::of(&job.spec),
        options: &job.spec.coordinator,
    };
    let mut arguments = [
        "checkpoints",
        "delete",
        "--job",
        &job.spec.checkpoint.storage,
        namespace.unwrap_or("default"),
        name,
        "--keep-savepoints",
        "--identity",
        owner,
    ]
    .map(str::to_owned)
    .to_vec();
    if let Some(deployment) = deployment {
        arguments.extend(["--deployment".to_owned(), deployment.to_string()]);
    }
    if config_map.is_some() {
        arguments.extend(["--job-file".to_owned(), Blueprint::job_file()]);
    }
    disposal.job(arguments, config_map)
}
