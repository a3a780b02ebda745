//! What a job consists of, without what is another one in every run: compared after every run.

use std::collections::BTreeMap;

use millstream_tests::kubernetes::stage::{Stage, text};
use serde_json::{Value, json};

const KINDS: [(&str, &str); 7] = [
    ("apis/apps/v1", "deployments"),
    ("api/v1", "services"),
    ("apis/policy/v1", "poddisruptionbudgets"),
    ("apis/networking.k8s.io/v1", "networkpolicies"),
    ("api/v1", "configmaps"),
    ("apis/batch/v1", "jobs"),
    ("apis/millstream.dev/v1alpha1", "streamsavepoints"),
];

/// Annotations, and a key of a config map, that are another one after every deployment.
const OF_A_RUN: [&str; 5] = [
    "deployment",
    "deployment.kubernetes.io/revision",
    "millstream.dev/deployment",
    "millstream.dev/rendered",
    "millstream.dev/step",
];

/// Conditions that depend on the moment.
const OF_A_MOMENT: [&str; 2] = ["CheckpointHealthy", "Audit"];

/// Every object of the job and everything that it asks for, and how its status stands.
pub(super) fn objects(stage: &Stage) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let job = stage.api().get(&stage.job_path("orders"));
    let run = Run::of(job.as_ref());
    for (group, kind) in KINDS {
        for object in stage.api().list(&stage.path(group, kind)) {
            // What Kubernetes puts into every namespace is nobody's.
            if object["metadata"]["ownerReferences"].is_null() && kind != "streamsavepoints" {
                continue;
            }
            let name = run.without_numbers(&text(&object["metadata"]["name"]));
            found.insert(format!("{kind}/{name}"), content(kind, &object, &run));
        }
    }
    if let Some(job) = job {
        found.insert("streamjob".to_owned(), standing(&job));
    }
    found
}

/// What is another one in every run.
struct Run {
    deployment: String,
    uid: String,
}

impl Run {
    fn of(job: Option<&Value>) -> Self {
        let job = job.unwrap_or(&Value::Null);
        let deployment = job["status"]["deployment"].as_i64();
        Self {
            deployment: deployment.map_or_else(String::new, |number| number.to_string()),
            uid: text(&job["metadata"]["uid"]),
        }
    }

    /// `-7` becomes `-N` where 7 is the deployment and no digit follows.
    fn without_numbers(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if !self.uid.is_empty() {
            text = text.replace(&self.uid, "UID");
        }
        if self.deployment.is_empty() {
            return text;
        }
        let number = format!("-{}", self.deployment);
        let mut parts = text.split(&number).peekable();
        let mut out = String::new();
        while let Some(part) = parts.next() {
            out.push_str(part);
            if let Some(next) = parts.peek() {
                let goes_on = next.starts_with(|c: char| c.is_ascii_alphanumeric());
                out.push_str(if goes_on { &number } else { "-N" });
            }
        }
        out
    }

    fn strip(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.without_numbers(text)),
            Value::Array(items) => {
                let items: Vec<Value> = items.iter().map(|item| self.strip(item)).collect();
                Value::Array(without_values(items))
            }
            Value::Object(fields) => fields
                .iter()
                .filter(|(key, _)| !OF_A_RUN.contains(&key.as_str()))
                .map(|(key, value)| (key.clone(), self.strip(value)))
                .collect(),
            other => other.clone(),
        }
    }
}

/// Arguments whose values are another one in every run keep only their kind.
fn without_values(mut items: Vec<Value>) -> Vec<Value> {
    for index in 1..items.len() {
        if items[index - 1] == json!("--deployment") {
            items[index] = json!("N");
        }
        if items[index - 1] == json!("--restore") {
            let from = text(&items[index]);
            let kind = ["/savepoints/", "/chain/"]
                .into_iter()
                .find(|kind| from.contains(kind));
            items[index] = json!(kind.unwrap_or(&from));
        }
    }
    items
}

fn content(kind: &str, object: &Value, run: &Run) -> Value {
    let metadata = &object["metadata"];
    let owners: Vec<Value> = metadata["ownerReferences"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|owner| json!([owner["kind"], owner["name"], owner["controller"]]))
        .collect();
    let mut spec = object["spec"].clone();
    if let Some(spec) = spec.as_object_mut() {
        for random in ["clusterIP", "clusterIPs"] {
            spec.remove(random);
        }
    }
    // Kubernetes writes uids into its jobs, and a check may end a moment later.
    if kind == "jobs" {
        spec = Value::Null;
    }
    run.strip(&json!({
        "labels": metadata["labels"],
        "annotations": metadata["annotations"],
        "finalizers": metadata["finalizers"],
        "owners": owners,
        "spec": spec,
        "data": object["data"],
        "state": object["status"]["state"],
    }))
}

/// What the status says for good.
fn standing(job: &Value) -> Value {
    let status = &job["status"];
    let conditions: BTreeMap<String, String> = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| (text(&one["type"]), text(&one["status"])))
        .filter(|(kind, _)| !OF_A_MOMENT.contains(&kind.as_str()))
        .collect();
    json!({
        "conditions": conditions,
        "finalizers": job["metadata"]["finalizers"],
        "state": status["state"],
        "revision": status["revision"],
        "parallelism": status["parallelism"],
        "replicas": status["replicas"],
        "upgrade": status["upgrade"],
        "rejected": status["rejected"]["revision"],
        "rolledBackFrom": status["rolledBackFrom"],
        "restorePoint": !status["restorePoint"].is_null(),
    })
}

/// The objects that differ, for a message.
pub(super) fn difference(
    expected: &BTreeMap<String, Value>,
    found: &BTreeMap<String, Value>,
) -> String {
    let keys: std::collections::BTreeSet<&String> = expected.keys().chain(found.keys()).collect();
    let mut lines = Vec::new();
    for key in keys {
        let (one, other) = (expected.get(key), found.get(key));
        if one != other {
            let shown = |value: Option<&Value>| {
                value.map_or_else(|| "not there".to_owned(), |value| format!("{value:#}"))
            };
            lines.push(format!(
                "{key}: expected {}\nfound {}\n",
                shown(one),
                shown(other)
            ));
        }
    }
    lines.concat()
}
