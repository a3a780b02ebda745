//! What the chart's roles and pods may do, and who the images run as.

use millstream_tests::tools::root;
use serde_json::{Value, json};

use super::chart::{CLUSTER, NAMESPACES, described, objects};
use super::{check, text};

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// What is wrong with a role: wildcards, secrets, and ways to become somebody else.
fn role_faults(role: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for field in ["apiGroups", "resources", "verbs"] {
            if strings(&rule[field])
                .iter()
                .any(|value| value.contains('*'))
            {
                faults.push(format!("{field} has a wildcard"));
            }
        }
        for resource in strings(&rule["resources"]) {
            let what = resource.split('/').next().unwrap_or(resource);
            if [
                "secrets",
                "serviceaccounts",
                "roles",
                "rolebindings",
                "clusterroles",
            ]
            .contains(&what)
                || resource == "pods/exec"
                || resource == "pods/log"
            {
                faults.push(format!("it names {resource}"));
            }
        }
        for verb in ["escalate", "bind", "impersonate"] {
            if strings(&rule["verbs"]).contains(&verb) {
                faults.push(format!("it may {verb}"));
            }
        }
    }
    faults
}

#[test]
fn no_role_has_a_wildcard_or_reads_secrets() {
    let mut faults = Vec::new();
    for options in [CLUSTER, NAMESPACES] {
        let objects = objects(options);
        let roles = objects
            .iter()
            .filter(|object| object["kind"] == "Role" || object["kind"] == "ClusterRole");
        for role in roles {
            let name = described(role);
            faults.extend(
                role_faults(role)
                    .into_iter()
                    .map(|fault| format!("{name}: {fault}")),
            );
        }
    }
    check("roles", &faults);
}

#[test]
fn a_role_that_may_too_much_is_seen() {
    let role = |group: &str, resource: &str, verb: &str| json!({"rules": [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]});
    assert_eq!(role_faults(&role("", "pods", "get")).len(), 0);
    for bad in [
        role("*", "pods", "get"),
        role("", "*", "get"),
        role("", "pods", "*"),
        role("", "secrets", "get"),
        role("", "pods/log", "get"),
        role("", "pods", "impersonate"),
    ] {
        assert_eq!(role_faults(&bad).len(), 1, "{bad}");
    }
}

#[test]
fn an_installation_for_namespaces_reaches_nothing_else() {
    let mut faults = Vec::new();
    let objects = objects(NAMESPACES);
    let mut watched = Vec::new();
    for object in &objects {
        let namespace = object["metadata"]["namespace"].as_str();
        match (object["kind"].as_str(), namespace) {
            (Some("CustomResourceDefinition"), None) => {}
            (_, None) => faults.push(format!("{} belongs to the cluster", described(object))),
            (Some("Role"), Some(namespace)) => watched.push(namespace),
            (Some("RoleBinding"), _) if object["roleRef"]["kind"] != "Role" => {
                faults.push(format!("{} refers to a ClusterRole", described(object)));
            }
            (_, Some("millstream")) | (Some("RoleBinding"), Some("shop" | "bank")) => {}
            (_, Some(other)) => faults.push(format!("{} lies in {other}", described(object))),
        }
    }
    check("scope", &faults);
    watched.sort_unstable();
    assert_eq!(watched, ["bank", "millstream", "shop"]);
}

/// What keeps a pod from the restricted Pod Security Standard.
///
/// Source: kubernetes.io, Pod Security Standards, Restricted.
fn pod_faults(pod: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let security = &pod["securityContext"];
    let mut require = |holds: bool, what: &str| {
        if !holds {
            faults.push(what.to_owned());
        }
    };
    require(security["runAsNonRoot"] == true, "runs as root");
    require(
        security["runAsUser"].as_i64().is_none_or(|user| user > 0),
        "has the user 0",
    );
    require(
        security["seccompProfile"]["type"] == "RuntimeDefault",
        "has no seccomp profile",
    );
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        require(pod[field] != true, field);
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        require(volume["hostPath"].is_null(), "mounts a path of the node");
    }
    let containers = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|field| pod[field].as_array().into_iter().flatten());
    for container in containers {
        let security = &container["securityContext"];
        require(
            security["allowPrivilegeEscalation"] == false,
            "may gain privileges",
        );
        require(security["privileged"] != true, "is privileged");
        require(
            security["capabilities"]["drop"] == json!(["ALL"]),
            "keeps capabilities",
        );
        require(
            security["capabilities"]["add"].is_null(),
            "adds capabilities",
        );
        require(
            security["readOnlyRootFilesystem"] == true,
            "may write to its root",
        );
        require(
            container["resources"]["requests"].is_object(),
            "requests no resources",
        );
        require(
            container["resources"]["limits"]["memory"].is_string(),
            "has no memory limit",
        );
    }
    faults
}

fn pod(object: &Value) -> Option<&Value> {
    match object["kind"].as_str() {
        Some("Pod") => Some(&object["spec"]),
        Some("Deployment" | "Job") => Some(&object["spec"]["template"]["spec"]),
        _ => None,
    }
}

#[test]
fn every_pod_is_restricted() {
    let mut faults = Vec::new();
    let objects = objects(CLUSTER);
    let mut pods = 0;
    for object in &objects {
        if let Some(spec) = pod(object) {
            pods += 1;
            let name = described(object);
            faults.extend(
                pod_faults(spec)
                    .into_iter()
                    .map(|fault| format!("{name} {fault}")),
            );
        }
    }
    check("pods", &faults);
    assert_eq!(pods, 2, "the operator's pod and the test's");
}

#[test]
fn a_pod_that_is_not_restricted_is_seen() {
    let objects = objects(CLUSTER);
    let good = objects.iter().find_map(pod).expect("a pod");
    for (path, value) in [
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/securityContext/seccompProfile/type", json!("Unconfined")),
        ("/containers/0/securityContext/capabilities/drop", json!([])),
        (
            "/containers/0/securityContext/readOnlyRootFilesystem",
            json!(false),
        ),
        ("/containers/0/resources/limits/memory", Value::Null),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap_or_else(|| panic!("no {path}")) = value;
        assert_eq!(pod_faults(&bad).len(), 1, "{path}");
    }
}

#[test]
fn no_selector_of_the_chart_finds_the_pod_of_its_test() {
    let objects = objects(CLUSTER);
    let test = objects
        .iter()
        .find(|object| object["kind"] == "Pod")
        .expect("the test's pod");
    let labels = &test["metadata"]["labels"];
    for object in &objects {
        let spec = &object["spec"];
        let selectors = [
            &spec["selector"],
            &spec["selector"]["matchLabels"],
            &spec["podSelector"]["matchLabels"],
        ];
        for selector in selectors {
            let Some(wanted) = selector
                .as_object()
                .filter(|wanted| !wanted.is_empty() && wanted.values().all(Value::is_string))
            else {
                continue;
            };
            let finds = wanted.iter().all(|(key, value)| labels[key] == *value);
            assert!(!finds, "{} selects the test's pod", described(object));
        }
    }
}

#[test]
fn images_hold_no_shell_and_run_as_nobody_in_particular() {
    for part in ["runtime", "operator"] {
        let file = text(&root().join(format!("images/{part}/Dockerfile")));
        let (_, last) = file.rsplit_once("\nFROM ").expect("a last stage");
        assert!(last.starts_with("scratch\n"), "{part}: {last}");
        assert!(last.contains("\nUSER 65532:65532\n"), "{part}: {last}");
        assert!(!last.contains("RUN"), "{part}: {last}");
    }
}
