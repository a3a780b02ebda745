//! What pods are given of the checkpoint storage.

use super::*;

#[test]
fn workers_reach_the_checkpoint_storage_as_the_coordinator_does() {
    let job = job(&json!({
        "coordinator": {"env": [
            {"name": "AWS_REGION", "value": "eu-central-1"},
            {"name": "AWS_ENDPOINT_URL", "value": "https://s3"},
            {"name": "SSL_CERT_FILE", "value": "/etc/ssl/s3/ca.crt"},
            {"name": "MILLSTREAM_S3_PATH_STYLE", "value": "true"},
            {"name": "HADOOP_CONF_DIR", "value": "/etc/millstream/secrets/hadoop"},
            {"name": "RUST_LOG", "value": "debug"},
        ]},
        "workers": {"slots": 2, "pod": {"env": [{"name": "AWS_REGION", "value": "us-east-1"}]}},
    }));
    let all = pods(&job);
    let of = |wanted: Role| {
        let (_, spec) = all.iter().find(|(role, _)| *role == wanted).unwrap();
        let container = spec.containers[0].clone();
        let variables = container.env.into_iter().flatten();
        let variables = variables.filter_map(|it| Some((it.name, it.value?)));
        let variables: Vec<(String, String)> = variables.collect();
        (variables, container.volume_mounts.unwrap())
    };
    let (variables, mounts) = of(Role::Worker);
    let value = |name: &str| {
        let found: Vec<&str> = variables
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect();
        assert!(found.len() <= 1, "{name} twice");
        found.first().copied()
    };
    assert_eq!(
        value("AWS_REGION"),
        Some("us-east-1"),
        "what is said of workers counts"
    );
    assert_eq!(value("AWS_ENDPOINT_URL"), Some("https://s3"));
    assert_eq!(value("SSL_CERT_FILE"), Some("/etc/ssl/s3/ca.crt"));
    assert_eq!(value("MILLSTREAM_S3_PATH_STYLE"), Some("true"));
    assert_eq!(
        value("HADOOP_CONF_DIR"),
        Some("/etc/millstream/secrets/hadoop")
    );
    assert_eq!(value("RUST_LOG"), None);
    let shared = mounts.iter();
    let shared = shared.filter(|mount| mount.mount_path != "/var/lib/millstream");
    assert!(
        shared.eq(&of(Role::Coordinator).1),
        "credentials and certificates"
    );
    for (role, spec) in &all {
        let account = spec.service_account_name.as_deref();
        assert_eq!(account, Some("orders"), "{role:?}");
    }
}

#[test]
fn state_that_does_not_fit_into_memory_has_a_directory_of_its_own_on_the_nodes_disk() {
    for (backend, path) in [
        (json!({}), "/var/lib/millstream"),
        (
            json!({"stateBackend": {"directory": "/mnt/state"}}),
            "/mnt/state",
        ),
    ] {
        let job = job(&backend);
        let deployment = workers::deployment(&blueprint(&job));
        let spec = deployment.spec.unwrap().template.spec.unwrap();
        let container = &spec.containers[0];
        let mut variables = container.env.iter().flatten();
        let variable = variables.find(|it| it.name == "MILLSTREAM_STATE_DIRECTORY");
        assert_eq!(variable.unwrap().value.as_deref(), Some(path));
        let mut mounts = container.volume_mounts.iter().flatten();
        let mount = mounts.find(|mount| mount.mount_path == path).unwrap();
        assert_eq!(mount.read_only, None);
        let mut volumes = spec.volumes.iter().flatten();
        let volume = volumes.find(|volume| volume.name == mount.name).unwrap();
        assert!(volume.empty_dir.is_some(), "{volume:?}");
    }
}
