//! Every option of a pod makes another pod: of its own role, and of no other that it is not about.

use kube::CustomResourceExt as _;

use super::*;

/// For each option of a pod, values that differ from each other and from none.
fn samples() -> Vec<(&'static str, Value)> {
    let node = json!({"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "zone", "operator": "In", "values": ["a"]}
    ]}]});
    vec![
        ("resources", json!({"requests": {"cpu": "7m"}})),
        ("resources", json!({"limits": {"memory": "77Mi"}})),
        ("nodeSelector", json!({"disk": "fast"})),
        ("tolerations", json!([{"key": "gpu", "operator": "Exists"}])),
        (
            "affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": node}}),
        ),
        ("labels", json!({"team": "orders"})),
        ("annotations", json!({"note": "x"})),
        ("env", json!([{"name": "A", "value": "1"}])),
        ("env", json!([{"name": "A", "value": "2"}])),
        ("env", json!([{"name": "B", "value": "1"}])),
        ("priorityClassName", json!("high")),
        ("imagePullPolicy", json!("Always")),
        ("imagePullPolicy", json!("IfNotPresent")),
        ("imagePullPolicy", json!("Never")),
        ("imagePullSecrets", json!(["registry"])),
        ("terminationGracePeriod", json!("77s")),
    ]
}

/// Keys that a part of the spec has in the definition.
fn keys(path: &str) -> BTreeSet<String> {
    let definition = json!(StreamJob::crd());
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let path = format!(
        "/properties/spec/properties/{}/properties",
        path.replace('.', "/properties/")
    );
    let properties = schema.pointer(&path).unwrap().as_object().unwrap();
    properties.keys().cloned().collect()
}

/// The templates of coordinator and workers, and the number of workers.
fn made(more: &Value) -> [Value; 3] {
    let job = job(more);
    let blueprint = blueprint(&job);
    let coordinator = coordinator::deployment(&blueprint).spec.unwrap();
    let workers = workers::deployment(&blueprint).spec.unwrap();
    [
        json!(coordinator.template),
        json!(workers.template),
        json!(workers.replicas),
    ]
}

#[test]
fn every_option_of_a_pod_makes_another_pod() {
    let sampled: BTreeSet<String> = samples().iter().map(|(key, _)| (*key).to_owned()).collect();
    for path in ["coordinator", "workers.pod"] {
        assert_eq!(sampled, keys(path), "an option of {path} without a sample");
    }
    let known = BTreeSet::from(["pod".to_owned(), "slots".to_owned()]);
    assert_eq!(keys("workers"), known);
    let [coordinator, workers, replicas] = made(&json!({}));
    let (mut coordinators, mut worker_pods) = (vec![coordinator.clone()], vec![workers.clone()]);
    for (key, value) in samples() {
        let [own, other, _] = made(&json!({"coordinator": {key: value}}));
        assert!(!coordinators.contains(&own), "coordinator.{key}: {value}");
        assert_eq!(other, workers, "coordinator.{key} is not about workers");
        coordinators.push(own);
        let [other, own, _] = made(&json!({"workers": {"slots": 2, "pod": {key: value}}}));
        assert!(!worker_pods.contains(&own), "workers.pod.{key}: {value}");
        assert_eq!(
            other, coordinator,
            "workers.pod.{key} is about workers only"
        );
        worker_pods.push(own);
    }
    let [_, own, fewer] = made(&json!({"workers": {"slots": 5}}));
    assert!(fewer != replicas && own != workers, "workers.slots");
    for more in [
        json!({"image": "localhost/other:dev"}),
        json!({"serviceAccountName": "other"}),
        json!({"internalTls": {"secretName": "orders-tls"}}),
        json!({"internalTls": {"secretName": "other-tls"}}),
        json!({"secrets": [{"name": "s3"}]}),
        json!({"secrets": [{"name": "s4"}, {"name": "ca", "mountPath": "/etc/ssl/kafka"}]}),
        json!({"secrets": [{"name": "s3"}, {"name": "ca", "mountPath": "/etc/ssl/other"}]}),
    ] {
        let [one, other, _] = made(&more);
        assert!(one != coordinator && other != workers, "{more}");
    }
}
