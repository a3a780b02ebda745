//! What all pods of a job have in common: the restricted security profile, a read-only root,
//! mounted files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar, HTTPGetAction,
    LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Toleration, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use millstream_crds::StreamJobSpec;
use millstream_crds::pods::{EnvironmentVariable, PodOptions, PullPolicy, SecretMount};

use super::Blueprint;
use super::names::{LABEL_DEPLOYMENT, LABEL_REVISION, Role};

/// Directory of the job file in every pod of a job.
pub const CONFIG_DIRECTORY: &str = "/etc/millstream/job";
/// Directory of the files for TLS with the other pods of the job.
const TLS_DIRECTORY: &str = "/etc/millstream/tls";
/// User that the runtime's image runs as.
const USER: i64 = 65_532;
/// Seconds that a pod may take to stop. A worker that is told to leave waits up to 15 s for a
/// checkpoint.
const GRACE_SECONDS: i64 = 30;
/// Taints by which Kubernetes marks a node that it has lost.
const NODE_TAINTS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
/// Seconds that a pod stays on such a node. The job itself has given the pod up long before.
const NODE_SECONDS: i64 = 20;

/// What every container of the runtime needs, whatever it does.
#[derive(Debug, Clone, Copy)]
pub struct Runtime<'a> {
    /// Its image.
    pub image: &'a str,
    /// Secrets that are mounted as files.
    pub secrets: &'a [SecretMount],
    /// Service account of the pod.
    pub service_account_name: Option<&'a str>,
}

impl<'a> Runtime<'a> {
    /// As a job's spec says.
    pub fn of(spec: &'a StreamJobSpec) -> Self {
        Self {
            image: &spec.image,
            secrets: &spec.secrets,
            service_account_name: spec.service_account_name.as_deref(),
        }
    }

    /// The container, without ports and probes.
    pub fn container(&self, role: Role, options: &PodOptions, arguments: Vec<String>) -> Container {
        let env: Vec<EnvVar> = options
            .env
            .iter()
            .map(|variable| EnvVar {
                name: variable.name.clone(),
                value: Some(variable.value.clone()),
                ..EnvVar::default()
            })
            .collect();
        Container {
            name: role.as_str().to_owned(),
            image: Some(self.image.to_owned()),
            image_pull_policy: options
                .image_pull_policy
                .map(|policy| pull(policy).to_owned()),
            args: Some(arguments),
            env: (!env.is_empty()).then_some(env),
            resources: Some(options.resources.clone().unwrap_or_else(default_resources)),
            volume_mounts: Some(self.mounts()),
            security_context: Some(container_security()),
            termination_message_path: Some("/dev/termination-log".to_owned()),
            // The last lines of the log are the reason that the user is shown.
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            ..Container::default()
        }
    }

    /// A pod around a container.
    pub fn pod(&self, options: &PodOptions, container: Container) -> PodSpec {
        let grace = options
            .termination_grace_period
            .map_or(GRACE_SECONDS, |grace| {
                i64::try_from(grace.millis().div_ceil(1_000)).unwrap_or(GRACE_SECONDS)
            });
        let pull_secrets: Vec<LocalObjectReference> = options
            .image_pull_secrets
            .iter()
            .map(|name| LocalObjectReference { name: name.clone() })
            .collect();
        let selector = &options.node_selector;
        PodSpec {
            containers: vec![container],
            service_account_name: self.service_account_name.map(str::to_owned),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            node_selector: (!selector.is_empty()).then(|| selector.clone()),
            tolerations: Some(tolerations(&options.tolerations)),
            affinity: options.affinity.clone(),
            priority_class_name: options.priority_class_name.clone(),
            image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
            // Zero would kill at once, without a checkpoint and without a released connection.
            termination_grace_period_seconds: Some(grace.max(1)),
            security_context: Some(pod_security()),
            volumes: Some(self.volumes()),
            ..PodSpec::default()
        }
    }

    fn volumes(&self) -> Vec<Volume> {
        let tmp = Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity("256Mi".to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        };
        let secrets = self
            .secrets
            .iter()
            .enumerate()
            .map(|(index, mounted)| secret(format!("secret-{index}"), &mounted.name));
        std::iter::once(tmp).chain(secrets).collect()
    }

    fn mounts(&self) -> Vec<VolumeMount> {
        let secrets = self.secrets.iter().enumerate();
        let secrets = secrets
            .map(|(index, secret)| mount(format!("secret-{index}"), secret_path(secret), true));
        std::iter::once(mount("tmp".to_owned(), "/tmp".to_owned(), false))
            .chain(secrets)
            .collect()
    }
}

/// What of the coordinator's environment says how the checkpoint storage is reached, for workers whose
/// own does not say it otherwise: tasks read and write keyed state there.
pub fn storage_variables(
    coordinator: &[EnvironmentVariable],
    own: &[EnvironmentVariable],
) -> Vec<EnvVar> {
    let is_storage = |name: &str| {
        let prefixes = [
            "AWS_",
            "MILLSTREAM_S3_",
            "SSL_CERT_",
            "HADOOP_",
            "MILLSTREAM_HDFS_",
            "KRB5",
        ];
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let own_names: Vec<&str> = own.iter().map(|variable| variable.name.as_str()).collect();
    let missing = coordinator.iter().filter(|variable| {
        is_storage(&variable.name) && !own_names.contains(&variable.name.as_str())
    });
    missing
        .map(|variable| EnvVar {
            name: variable.name.clone(),
            value: Some(variable.value.clone()),
            ..EnvVar::default()
        })
        .collect()
}

/// A pod of a job, with its job file.
pub fn of_job(
    blueprint: &Blueprint<'_>,
    role: Role,
    options: &PodOptions,
    container: Container,
) -> PodTemplateSpec {
    let mut spec = blueprint.runtime().pod(options, container);
    mount_job_file(&mut spec, blueprint.config_map);
    let mut labels = pod_labels(options, blueprint.names().labels(role));
    labels.insert(LABEL_REVISION.to_owned(), blueprint.revision.to_owned());
    if matches!(role, Role::Coordinator | Role::Worker) {
        let number = blueprint.deployment.to_string();
        labels.insert(LABEL_DEPLOYMENT.to_owned(), number);
    }
    template(options, labels, spec)
}

/// Has a pod talk to the others of the job by TLS, if the job asks for it.
pub(super) fn secure(blueprint: &Blueprint<'_>, template: &mut PodTemplateSpec) {
    let (Some(tls), Some(spec)) = (&blueprint.spec.internal_tls, &mut template.spec) else {
        return;
    };
    for container in &mut spec.containers {
        let mounts = container.volume_mounts.get_or_insert_default();
        mounts.push(mount("tls".to_owned(), TLS_DIRECTORY.to_owned(), true));
        // An argument, and not a variable that an older runtime would leave aside.
        let arguments = container.args.get_or_insert_default();
        arguments.extend(["--tls".to_owned(), TLS_DIRECTORY.to_owned()]);
    }
    spec.volumes
        .get_or_insert_default()
        .push(secret("tls".to_owned(), &tls.secret_name));
}

/// A secret as a volume.
fn secret(volume: String, name: &str) -> Volume {
    Volume {
        name: volume,
        secret: Some(SecretVolumeSource {
            secret_name: Some(name.to_owned()),
            // The group is that of the runtime's user; nobody else reads them.
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Mounts the job file of a revision into a pod.
pub(super) fn mount_job_file(spec: &mut PodSpec, config_map: &str) {
    for container in &mut spec.containers {
        container.volume_mounts.get_or_insert_default().push(mount(
            "job".to_owned(),
            CONFIG_DIRECTORY.to_owned(),
            true,
        ));
    }
    spec.volumes.get_or_insert_default().push(Volume {
        name: "job".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.to_owned(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    });
}

/// Gives the containers of a pod a directory on the node's disk, for as long as the pod is there. How much
/// they may write is the container's limit of `ephemeral-storage`.
pub(super) fn mount_scratch(spec: &mut PodSpec, name: &str, path: &str) {
    for container in &mut spec.containers {
        let mounts = container.volume_mounts.get_or_insert_default();
        mounts.push(mount(name.to_owned(), path.to_owned(), false));
    }
    spec.volumes.get_or_insert_default().push(Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
}

/// A template of a pod with the user's annotations.
pub(super) fn template(
    options: &PodOptions,
    labels: BTreeMap<String, String>,
    spec: PodSpec,
) -> PodTemplateSpec {
    let annotations = &options.annotations;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: (!annotations.is_empty()).then(|| annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(spec),
    }
}

/// The user's labels and ours; ours win.
pub(super) fn pod_labels(
    options: &PodOptions,
    ours: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let is_ours =
        |key: &str| key.starts_with("millstream.dev/") || key.starts_with("app.kubernetes.io/");
    let theirs = options.labels.iter().filter(|(key, _)| !is_ours(key));
    let mut labels: BTreeMap<String, String> = theirs
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    labels.extend(ours);
    labels
}

/// The user's tolerations, and how long a pod stays on a node that has gone quiet. Kubernetes' own
/// default would have a job wait for five minutes.
fn tolerations(own: &[Toleration]) -> Vec<Toleration> {
    let mut all = own.to_vec();
    for taint in NODE_TAINTS {
        if !own.iter().any(|toleration| tolerates(toleration, taint)) {
            all.push(Toleration {
                key: Some(taint.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(NODE_SECONDS),
                value: None,
            });
        }
    }
    all
}

/// Whether a toleration is about a taint that evicts pods.
fn tolerates(toleration: &Toleration, taint: &str) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}

/// Adds a label to an object.
pub(super) fn label(metadata: &mut ObjectMeta, key: &str, value: &str) {
    metadata
        .labels
        .get_or_insert_default()
        .insert(key.to_owned(), value.to_owned());
}

/// Gives a container its probes on the port `rest`: time to start, restarted when it no longer
/// answers, ready by `ready`.
pub(super) fn probe(container: &mut Container, ready: &str) {
    container.startup_probe = Some(http_probe("/healthz", 1, 60));
    container.liveness_probe = Some(http_probe("/healthz", 10, 6));
    container.readiness_probe = Some(http_probe(ready, 2, 3));
}

fn http_probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("rest".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..PodSecurityContext::default()
    }
}

fn container_security() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: None,
        }),
        ..SecurityContext::default()
    }
}

const fn pull(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

fn mount(name: String, path: String, read_only: bool) -> VolumeMount {
    VolumeMount {
        name,
        mount_path: path,
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    }
}

fn secret_path(secret: &SecretMount) -> String {
    let default = || format!("/etc/millstream/secrets/{}", secret.name);
    secret.mount_path.clone().unwrap_or_else(default)
}

/// What a container gets if the user says nothing: small enough for a laptop.
fn default_resources() -> ResourceRequirements {
    let quantities = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(name, amount)| ((*name).to_owned(), Quantity((*amount).to_owned())))
            .collect::<BTreeMap<_, _>>()
    };
    ResourceRequirements {
        requests: Some(quantities(&[("cpu", "100m"), ("memory", "128Mi")])),
        limits: Some(quantities(&[("memory", "512Mi")])),
        claims: None,
    }
}
