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
    assert_eq!(value("RUST_LOG"), None);
    assert_eq!(
        mounts,
        of(Role::Coordinator).1,
        "credentials and certificates"
    );
    for (role, spec) in &all {
        let account = spec.service_account_name.as_deref();
        assert_eq!(account, Some("orders"), "{role:?}");
    }
}
