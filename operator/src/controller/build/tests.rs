mod options;
mod storage;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::*;

fn job(pods: &Value) -> StreamJob {
    let mut manifest = json!({
        "apiVersion": "millstream.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": {"name": "orders", "namespace": "shop", "uid": "u-1"},
        "spec": {
            "image": "localhost/millstream:dev",
            "parallelism": 5,
            "checkpoint": {"storage": "s3://state/jobs"},
            "dataflow": {
                "sources": [{"name": "numbers", "generator": {"rows": 10}}],
                "sinks": [{"name": "out", "input": "numbers", "blackhole": {}}]
            },
            "workers": {"slots": 2},
            "secrets": [{"name": "s3"}, {"name": "ca", "mountPath": "/etc/ssl/kafka"}],
            "serviceAccountName": "orders"
        }
    });
    if let (Value::Object(spec), Value::Object(more)) = (&mut manifest["spec"], pods) {
        spec.extend(more.clone());
    }
    serde_json::from_value(manifest).unwrap()
}

fn blueprint(job: &StreamJob) -> Blueprint<'_> {
    Blueprint {
        job,
        spec: &job.spec,
        revision: "0123456789",
        config_map: "orders-0123456789",
        restore: "latest",
        unless_advanced: false,
        expect_state: false,
        allow_dropped_state: false,
        accept_lost_output: None,
        deployment: 1_780_000_000_000,
    }
}

const DEADLINE: std::time::Duration = std::time::Duration::from_mins(10);

fn disposal(job: &StreamJob) -> k8s_openapi::api::batch::v1::Job {
    let config_map = Some("orders-0123456789");
    disposal::of_job(job, "uid-of-shop", Some(1_780_000_000_000), config_map)
}

/// Every pod that is ever made for a job.
fn pods(job: &StreamJob) -> Vec<(Role, PodSpec)> {
    let blueprint = blueprint(job);
    let templates = [
        (
            Role::Coordinator,
            coordinator::deployment(&blueprint).spec.unwrap().template,
        ),
        (
            Role::Worker,
            workers::deployment(&blueprint).spec.unwrap().template,
        ),
        (
            Role::Preflight,
            preflight::job(&blueprint, DEADLINE).spec.unwrap().template,
        ),
        (Role::Disposal, disposal(job).spec.unwrap().template),
    ];
    templates
        .map(|(role, template)| (role, template.spec.unwrap()))
        .into()
}

/// The rules of the restricted Pod Security Standard that a pod breaks.
/// Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
fn broken_rules(spec: &PodSpec) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rule = |holds: bool, name: &str| {
        if !holds {
            broken.push(name.to_owned());
        }
    };
    let pod = spec.security_context.clone().unwrap_or_default();
    rule(pod.run_as_non_root == Some(true), "runAsNonRoot");
    rule(pod.run_as_user.is_some_and(|user| user != 0), "runAsUser");
    let seccomp = pod.seccomp_profile.map(|profile| profile.type_);
    rule(
        matches!(seccomp.as_deref(), Some("RuntimeDefault" | "Localhost")),
        "seccompProfile",
    );
    for shared in [spec.host_network, spec.host_pid, spec.host_ipc] {
        rule(shared != Some(true), "host namespaces");
    }
    let allowed = BTreeSet::from([
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]);
    for volume in spec.volumes.iter().flatten() {
        let value = serde_json::to_value(volume).unwrap();
        let kinds = value
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| *key != "name");
        rule(kinds.clone().count() == 1, "a volume has one kind");
        rule(
            kinds.clone().all(|kind| allowed.contains(kind.as_str())),
            "volume kinds",
        );
    }
    for container in spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
    {
        let security = container.security_context.clone().unwrap_or_default();
        rule(
            security.allow_privilege_escalation == Some(false),
            "allowPrivilegeEscalation",
        );
        rule(security.privileged != Some(true), "privileged");
        let capabilities = security.capabilities.unwrap_or_default();
        rule(
            capabilities.drop == Some(vec!["ALL".to_owned()]),
            "capabilities.drop",
        );
        rule(capabilities.add.is_none(), "capabilities.add");
        let ports = container.ports.iter().flatten();
        rule(
            ports.clone().all(|port| port.host_port.is_none()),
            "host ports",
        );
    }
    broken
}

#[test]
fn every_pod_keeps_the_restricted_profile_and_our_stricter_rules() {
    for (role, spec) in pods(&job(&json!({}))) {
        assert_eq!(broken_rules(&spec), Vec::<String>::new(), "{role:?}");
        assert_eq!(
            spec.automount_service_account_token,
            Some(false),
            "{role:?}"
        );
        assert_eq!(spec.enable_service_links, Some(false), "{role:?}");
        let container = &spec.containers[0];
        let security = container.security_context.clone().unwrap();
        assert_eq!(security.read_only_root_filesystem, Some(true), "{role:?}");
        let policy = container.termination_message_policy.as_deref();
        assert_eq!(policy, Some("FallbackToLogsOnError"), "{role:?}");
        assert_eq!(container.image.as_deref(), Some("localhost/millstream:dev"));
        assert_eq!(
            spec.service_account_name.as_deref(),
            Some("orders"),
            "{role:?}"
        );
        assert!(
            spec.termination_grace_period_seconds.unwrap() >= 20,
            "{role:?}"
        );
    }
}

#[test]
fn secrets_are_files_and_never_in_the_environment() {
    let job = job(&json!({
        "coordinator": {"env": [{"name": "AWS_REGION", "value": "eu-central-1"}]}
    }));
    for (role, spec) in pods(&job) {
        let container = &spec.containers[0];
        assert!(container.env_from.is_none(), "{role:?}");
        for variable in container.env.iter().flatten() {
            let source = variable.value_from.as_ref();
            let of_map = source.and_then(|source| source.config_map_key_ref.as_ref());
            assert!(
                source.is_none_or(|source| source.secret_key_ref.is_none()),
                "{role:?}"
            );
            let given = ["AWS_REGION", "MILLSTREAM_"].map(|name| variable.name.starts_with(name));
            assert!(given.contains(&true) || of_map.is_some(), "{variable:?}");
        }
        let mounts = container.volume_mounts.clone().unwrap();
        for path in ["/etc/millstream/secrets/s3", "/etc/ssl/kafka"] {
            let mount = mounts.iter().find(|mount| mount.mount_path == path);
            let mount = mount.unwrap_or_else(|| panic!("{role:?} lacks {path}"));
            assert_eq!(mount.read_only, Some(true), "{path}");
            let volume = spec
                .volumes
                .iter()
                .flatten()
                .find(|one| one.name == mount.name);
            assert_eq!(
                volume.unwrap().secret.clone().unwrap().default_mode,
                Some(0o440)
            );
        }
    }
}

#[test]
fn a_user_may_not_take_our_labels_and_gets_the_rest() {
    let labels = json!({"team": "shop", "millstream.dev/job": "other",
        "app.kubernetes.io/component": "database"});
    let job = job(&json!({"workers": {"slots": 2, "pod": {"labels": labels,
        "annotations": {"note": "yes"}, "nodeSelector": {"disk": "ssd"},
        "terminationGracePeriod": "1m", "imagePullPolicy": "Never"}}}));
    let template = workers::deployment(&blueprint(&job)).spec.unwrap().template;
    let metadata = template.metadata.unwrap();
    let labels = metadata.labels.unwrap();
    assert_eq!(labels["team"], "shop");
    assert_eq!(labels["millstream.dev/job"], "orders");
    assert_eq!(labels["app.kubernetes.io/component"], "worker");
    assert_eq!(metadata.annotations.unwrap()["note"], "yes");
    let spec = template.spec.unwrap();
    assert_eq!(spec.node_selector.unwrap()["disk"], "ssd");
    assert_eq!(spec.termination_grace_period_seconds, Some(60));
    assert_eq!(
        spec.containers[0].image_pull_policy.as_deref(),
        Some("Never")
    );
}

#[test]
fn there_are_as_many_workers_as_the_parallelism_needs_spread_over_nodes() {
    let job = job(&json!({}));
    let spec = workers::deployment(&blueprint(&job)).spec.unwrap();
    assert_eq!(spec.replicas, Some(3));
    let pod = spec.template.spec.unwrap();
    let spread = &pod.topology_spread_constraints.unwrap()[0];
    assert_eq!(spread.topology_key, "kubernetes.io/hostname");
    assert_eq!(spread.when_unsatisfiable, "ScheduleAnyway");
    let budget = workers::disruption_budget(&blueprint(&job)).spec.unwrap();
    assert_eq!(budget.max_unavailable, Some(IntOrString::Int(1)));
    assert_eq!(budget.selector, Some(spec.selector));
}

#[test]
fn a_rescale_leaves_the_workers_template_alone() {
    let job = job(&json!({}));
    let mut larger = job.clone();
    larger.spec.parallelism = 9;
    let one = workers::deployment(&blueprint(&job));
    let other = workers::deployment(&blueprint(&larger));
    assert_eq!(one.metadata, other.metadata);
    let (one, other) = (one.spec.unwrap(), other.spec.unwrap());
    assert_eq!(one.template, other.template);
    assert_eq!(other.replicas, Some(5));
}

#[test]
fn deployments_share_neither_names_nor_pods_nor_the_service_of_their_workers() {
    let job = job(&json!({}));
    let plan = |deployment| Blueprint {
        deployment,
        ..blueprint(&job)
    };
    let (old, new) = (plan(7), plan(8));
    let deployments =
        |plan: &Blueprint<'_>| [coordinator::deployment(plan), workers::deployment(plan)];
    for (old, new) in deployments(&old).into_iter().zip(deployments(&new)) {
        assert_ne!(old.metadata.name, new.metadata.name);
        let selector = new.spec.unwrap().selector.match_labels.unwrap();
        let pod = old.spec.unwrap().template.metadata.unwrap().labels.unwrap();
        let selects = selector
            .iter()
            .all(|(key, value)| pod.get(key) == Some(value));
        assert!(!selects, "{selector:?}");
    }
    let name = |plan: &Blueprint<'_>| coordinator::service_of_workers(plan).metadata.name;
    assert_ne!(name(&old), name(&new));
    // What is one for the job follows the newest.
    let clients = coordinator::service_of_clients(&new);
    assert_eq!(clients.metadata.name.as_deref(), Some("orders-coordinator"));
    let selector = clients.spec.unwrap().selector.unwrap();
    assert_eq!(selector["millstream.dev/deployment"], "8");
    let budget = workers::disruption_budget(&new).spec.unwrap().selector;
    let labels = budget.unwrap().match_labels.unwrap();
    assert_eq!(labels["millstream.dev/deployment"], "8");
    let names = Names::of_name("orders");
    assert!(
        names
            .worker_selector_text(Some(8))
            .contains("millstream.dev/deployment=8")
    );
}

#[test]
fn pods_leave_a_lost_node_after_20_seconds_unless_the_user_says_otherwise() {
    let seconds = |job: &StreamJob| -> Vec<Option<i64>> {
        let pods = pods(job);
        let tolerations = pods[1].1.tolerations.clone().unwrap();
        let evicting = tolerations
            .iter()
            .filter(|one| one.effect.as_deref() != Some("NoSchedule"));
        evicting.map(|one| one.toleration_seconds).collect()
    };
    for (role, spec) in pods(&job(&json!({}))) {
        let tolerations = spec.tolerations.unwrap();
        let taints: Vec<&str> = tolerations
            .iter()
            .filter_map(|it| it.key.as_deref())
            .collect();
        let both = [
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
        ];
        assert_eq!(taints, both, "{role:?}");
        assert!(
            tolerations
                .iter()
                .all(|it| it.toleration_seconds == Some(20))
        );
    }
    let with = |own: Value| job(&json!({"workers": {"pod": {"tolerations": [own]}}}));
    let patient = json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 600});
    assert_eq!(seconds(&with(patient)), [Some(600), Some(20)]);
    assert_eq!(seconds(&with(json!({"operator": "Exists"}))), [None]);
    let other = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    assert_eq!(seconds(&with(other)), [Some(20), Some(20)]);
}

#[test]
fn the_coordinator_is_told_what_it_is_and_is_reached_before_it_is_ready() {
    let job = job(&json!({}));
    let plan = Blueprint {
        restore: "s3://state/savepoints/a",
        allow_dropped_state: true,
        accept_lost_output: Some(42),
        ..blueprint(&job)
    };
    let spec = coordinator::deployment(&plan).spec.unwrap();
    assert_eq!(spec.replicas, Some(1));
    assert_eq!(spec.strategy.unwrap().type_.as_deref(), Some("Recreate"));
    let container = &spec.template.spec.unwrap().containers[0];
    assert_eq!(
        container.args.as_ref().unwrap().join(" "),
        "coordinator --job /etc/millstream/job/job.yaml --listen 0.0.0.0:6123 \
         --rest 0.0.0.0:8081 --restore s3://state/savepoints/a --parallelism 5 \
         --deployment 1780000000000 --resource-uid u-1 --allow-dropped-state --accept-lost-output 42"
    );
    for (probe, path) in [
        (&container.startup_probe, "/healthz"),
        (&container.liveness_probe, "/healthz"),
        // The kubelet's second opinion on whether the job runs.
        (&container.readiness_probe, "/readyz"),
    ] {
        let probe = probe.clone().unwrap().http_get.unwrap();
        assert_eq!(probe.path.as_deref(), Some(path));
    }
    for service in [
        coordinator::service_of_workers(&plan),
        coordinator::service_of_clients(&plan),
    ] {
        let service = service.spec.unwrap();
        assert_eq!(service.publish_not_ready_addresses, Some(true));
        assert_eq!(service.cluster_ip, None, "Kubernetes gives it an address");
        assert_eq!(service.selector, spec.selector.match_labels);
    }
}

#[test]
fn a_worker_knows_its_coordinator_and_is_ready_once_connected() {
    let job = job(&json!({}));
    let spec = workers::deployment(&blueprint(&job))
        .spec
        .unwrap()
        .template
        .spec
        .unwrap();
    let container = &spec.containers[0];
    assert_eq!(
        container.args.as_ref().unwrap().join(" "),
        "worker --coordinator orders-coordinator-1780000000000.shop.svc:6123 --slots 2 --rest 0.0.0.0:8082"
    );
    let mut variables = container.env.iter().flatten();
    let exchange = variables.find(|it| it.name == "MILLSTREAM_EXCHANGE");
    assert_eq!(exchange.unwrap().value.as_deref(), Some("0.0.0.0:6124"));
    let ready = container.readiness_probe.clone().unwrap().http_get.unwrap();
    assert_eq!(ready.path.as_deref(), Some("/readyz"));
    let alive = container.liveness_probe.clone().unwrap().http_get.unwrap();
    assert_eq!(alive.path.as_deref(), Some("/healthz"));
}

#[test]
fn a_preflight_judges_once_and_leaves_its_verdict() {
    let job = job(&json!({}));
    let check = preflight::job(&blueprint(&job), DEADLINE);
    assert_eq!(
        check.metadata.name.as_deref(),
        Some("orders-preflight-0123456789")
    );
    let spec = check.spec.unwrap();
    assert_eq!(spec.backoff_limit, Some(2));
    assert_eq!(spec.active_deadline_seconds, Some(600));
    assert!(spec.ttl_seconds_after_finished.is_some());
    let rules = spec.pod_failure_policy.unwrap().rules;
    assert_eq!(rules[0].action, "FailJob");
    // A pod that was evicted has not failed.
    assert_eq!(rules[1].action, "Ignore");
    let conditions = rules[1].on_pod_conditions.clone().unwrap();
    assert_eq!(conditions[0].type_, "DisruptionTarget");
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    assert_eq!(
        pod.containers[0].args.as_ref().unwrap().join(" "),
        "validate /etc/millstream/job/job.yaml --restore latest --parallelism 5 --output json \
         --summary /dev/termination-log"
    );
}

#[test]
fn a_preflight_of_a_fresh_start_reads_no_state() {
    let job = job(&json!({}));
    let plan = Blueprint {
        restore: "fresh",
        ..blueprint(&job)
    };
    let check = preflight::job(&plan, DEADLINE);
    let pod = check.spec.unwrap().template.spec.unwrap();
    assert!(
        !pod.containers[0]
            .args
            .as_ref()
            .unwrap()
            .contains(&"--restore".to_owned())
    );
}

#[test]
fn checkpoints_are_deleted_with_the_job_and_savepoints_stay() {
    let pod = disposal(&job(&json!({})))
        .spec
        .unwrap()
        .template
        .spec
        .unwrap();
    assert_eq!(
        pod.containers[0].args.as_ref().unwrap().join(" "),
        "checkpoints delete --job s3://state/jobs shop orders --keep-savepoints \
         --identity uid-of-shop --deployment 1780000000000 --job-file /etc/millstream/job/job.yaml"
    );
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    assert!(
        mounts
            .iter()
            .any(|one| one.mount_path == "/etc/millstream/job")
    );
    let volumes = pod.volumes.unwrap();
    let of_job = volumes.iter().find_map(|one| one.config_map.as_ref());
    assert_eq!(of_job.unwrap().name, "orders-0123456789");
}

#[test]
fn a_disposal_without_the_job_file_still_deletes_the_checkpoints() {
    let job = job(&json!({}));
    let disposal = disposal::of_job(&job, "uid-of-shop", None, None);
    let pod = disposal.spec.unwrap().template.spec.unwrap();
    let arguments = pod.containers[0].args.as_ref().unwrap().join(" ");
    assert!(!arguments.contains("--job-file"), "{arguments}");
    let volumes = pod.volumes.unwrap();
    assert!(volumes.iter().all(|one| one.config_map.is_none()));
}

/// The config map is not there before a deployment has run; its pods start all the same.
#[test]
fn a_coordinator_learns_whether_its_deployment_has_had_a_checkpoint() {
    let job = job(&json!({}));
    let blueprint = blueprint(&job);
    let map = coordinator::ran(&blueprint);
    let template = coordinator::deployment(&blueprint).spec.unwrap().template;
    let container = &template.spec.unwrap().containers[0];
    let env = container.env.as_ref().unwrap();
    let told = env.iter().find(|one| one.name == "MILLSTREAM_RAN").unwrap();
    let source = told.value_from.as_ref().unwrap();
    let source = source.config_map_key_ref.as_ref().unwrap();
    assert_eq!(Some(&source.name), map.metadata.name.as_ref());
    assert_eq!(source.optional, Some(true));
    assert_eq!(map.data.unwrap()[&source.key], "1780000000000");
}

#[test]
fn only_workers_reach_grpc_and_each_other_and_only_known_clients_reach_rest() {
    let job = job(&json!({}));
    let policy = network::policy(&blueprint(&job)).spec.unwrap();
    assert_eq!(policy.policy_types, Some(vec!["Ingress".to_owned()]));
    let rules = policy.ingress.unwrap();
    let ports = |rule: usize| -> Vec<IntOrString> {
        rules[rule]
            .ports
            .iter()
            .flatten()
            .filter_map(|port| port.port.clone())
            .collect()
    };
    assert_eq!(ports(0), [PORT_GRPC, PORT_EXCHANGE].map(IntOrString::Int));
    assert_eq!(
        ports(1),
        [IntOrString::Int(PORT_REST), IntOrString::Int(PORT_WORKER)]
    );
    for rule in &rules {
        let from = rule.from.as_ref().unwrap();
        assert!(!from.is_empty());
        assert!(
            from.iter()
                .all(|peer| peer.pod_selector.is_some() && peer.ip_block.is_none())
        );
    }
    // The policy covers every pod of the job, and what it lets in are pods that we really make.
    let labels = workers::deployment(&blueprint(&job))
        .spec
        .unwrap()
        .template
        .metadata
        .unwrap();
    let labels = labels.labels.unwrap();
    let worker = rules[0].from.as_ref().unwrap()[0]
        .pod_selector
        .clone()
        .unwrap();
    for selector in [policy.pod_selector.unwrap(), worker] {
        let wanted = selector.match_labels.unwrap();
        assert!(!wanted.is_empty());
        assert!(
            wanted
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        );
    }
}

#[test]
fn everything_goes_with_its_job_and_says_whose_it_is() {
    let job = job(&json!({}));
    let blueprint = blueprint(&job);
    let all = [
        coordinator::deployment(&blueprint).metadata,
        coordinator::service_of_workers(&blueprint).metadata,
        coordinator::service_of_clients(&blueprint).metadata,
        workers::deployment(&blueprint).metadata,
        workers::disruption_budget(&blueprint).metadata,
        network::policy(&blueprint).metadata,
        preflight::job(&blueprint, DEADLINE).metadata,
        disposal(&job).metadata,
    ];
    for metadata in all {
        assert_eq!(metadata.namespace.as_deref(), Some("shop"));
        let owner = &metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!(
            (owner.kind.as_str(), owner.uid.as_str()),
            ("StreamJob", "u-1")
        );
        assert_eq!(owner.controller, Some(true));
        assert_eq!(
            metadata.labels.as_ref().unwrap()["millstream.dev/job"],
            "orders"
        );
    }
}

#[test]
fn names_stay_within_a_label_and_apart() {
    let short = Names::of_name("orders");
    assert_eq!(short.coordinator(), "orders-coordinator");
    assert_eq!(short.coordinator_of(17), "orders-coordinator-17");
    assert_eq!(short.preflight("0123456789"), "orders-preflight-0123456789");
    let long = format!("{}a", "x".repeat(60));
    let other = format!("{}b", "x".repeat(60));
    let mut seen = BTreeSet::new();
    for job in [long, other] {
        let names = Names::of_name(&job);
        for name in [
            names.coordinator(),
            names.coordinator_of(1_780_000_000_000),
            names.workers(),
            names.workers_of(1_780_000_000_000),
            names.network_policy(),
            names.preflight("0123456789"),
            names.revision("0123456789"),
            names.disposal(),
        ] {
            assert!(name.len() <= 63, "{name}");
            assert!(seen.insert(name.clone()), "{name} twice");
        }
    }
}
