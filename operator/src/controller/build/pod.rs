//! What all pods of a job have in common: the restricted security profile, a read-only root,
//! mounted files.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, EmptyDirVolumeSource, EnvVar,
    LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;
use millstream_crds::pods::{PodOptions, PullPolicy, SecretMount};

use super::Blueprint;
use super::names::{LABEL_REVISION, Role};

/// Directory of the job file in every pod.
pub const CONFIG_DIRECTORY: &str = "/etc/millstream/job";
/// User that the runtime's image runs as.
const USER: i64 = 65_532;
/// Seconds that a pod may take to stop.
const GRACE_SECONDS: i64 = 30;

/// A pod of a role around its container.
pub fn template(
    blueprint: &Blueprint<'_>,
    role: Role,
    options: &PodOptions,
    container: Container,
) -> PodTemplateSpec {
    let mut labels: BTreeMap<String, String> = options
        .labels
        .iter()
        .filter(|(key, _)| !is_ours(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    labels.extend(blueprint.names().labels(role));
    labels.insert(LABEL_REVISION.to_owned(), blueprint.revision.to_owned());
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: (!options.annotations.is_empty()).then(|| options.annotations.clone()),
            ..ObjectMeta::default()
        }),
        spec: Some(pod_spec(blueprint, options, container)),
    }
}

fn is_ours(label: &str) -> bool {
    label.starts_with("millstream.dev/") || label.starts_with("app.kubernetes.io/")
}

fn pod_spec(blueprint: &Blueprint<'_>, options: &PodOptions, container: Container) -> PodSpec {
    let grace = options.termination_grace_period.map_or(GRACE_SECONDS, |grace| {
        i64::try_from(grace.millis().div_ceil(1_000)).unwrap_or(GRACE_SECONDS)
    });
    let pull_secrets: Vec<LocalObjectReference> = options
        .image_pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    PodSpec {
        containers: vec![container],
        service_account_name: blueprint.spec.service_account_name.clone(),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        node_selector: (!options.node_selector.is_empty()).then(|| options.node_selector.clone()),
        tolerations: (!options.tolerations.is_empty()).then(|| options.tolerations.clone()),
        affinity: options.affinity.clone(),
        priority_class_name: options.priority_class_name.clone(),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        termination_grace_period_seconds: Some(grace),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        volumes: Some(volumes(blueprint)),
        ..PodSpec::default()
    }
}

fn volumes(blueprint: &Blueprint<'_>) -> Vec<Volume> {
    let mut volumes = vec![
        Volume {
            name: "job".to_owned(),
            config_map: Some(ConfigMapVolumeSource {
                name: blueprint.config_map.to_owned(),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource {
                size_limit: Some(Quantity("256Mi".to_owned())),
                ..EmptyDirVolumeSource::default()
            }),
            ..Volume::default()
        },
    ];
    volumes.extend(blueprint.spec.secrets.iter().enumerate().map(|(index, secret)| Volume {
        name: format!("secret-{index}"),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.name.clone()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }));
    volumes
}

fn mounts(blueprint: &Blueprint<'_>) -> Vec<VolumeMount> {
    let mount = |name: String, path: String, read_only: bool| VolumeMount {
        name,
        mount_path: path,
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        mount("job".to_owned(), CONFIG_DIRECTORY.to_owned(), true),
        mount("tmp".to_owned(), "/tmp".to_owned(), false),
    ];
    mounts.extend(blueprint.spec.secrets.iter().enumerate().map(|(index, secret)| {
        mount(format!("secret-{index}"), secret_path(secret), true)
    }));
    mounts
}

fn secret_path(secret: &SecretMount) -> String {
    secret
        .mount_path
        .clone()
        .unwrap_or_else(|| format!("/etc/millstream/secrets/{}", secret.name))
}

/// The container of a pod, without ports and probes.
pub fn container(
    blueprint: &Blueprint<'_>,
    role: Role,
    options: &PodOptions,
    arguments: Vec<String>,
) -> Container {
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
        image: Some(blueprint.spec.image.clone()),
        image_pull_policy: options.image_pull_policy.map(|policy| {
            match policy {
                PullPolicy::Always => "Always",
                PullPolicy::IfNotPresent => "IfNotPresent",
                PullPolicy::Never => "Never",
            }
            .to_owned()
        }),
        args: Some(arguments),
        env: (!env.is_empty()).then_some(env),
        resources: Some(options.resources.clone().unwrap_or_else(default_resources)),
        volume_mounts: Some(mounts(blueprint)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
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
