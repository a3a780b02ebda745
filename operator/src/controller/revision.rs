//! A revision: what a user asked for, frozen.
//!
//! It covers what the user wrote, not what the operator renders of it: a new operator version
//! restarts no job. Parallelism, `state`, `paused` and the options that say how to get from one
//! revision to the next are not part of it.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use millstream_crds::contract::{NOT_IN_REVISION, REVISION_SPEC};
use millstream_crds::{StreamJob, StreamJobSpec};
use serde_json::{Map, Value, json};

use super::build::names::{LABEL_REVISION, Names, Role};
use super::digest;

/// Keys of the spec that the runtime reads.
const RUNTIME_KEYS: [&str; 7] = [
    "operatorChaining",
    "maxParallelism",
    "stateBackend",
    "checkpoint",
    "restart",
    "metrics",
    "dataflow",
];

/// Key of the job file in a revision's config map.
pub const JOB_FILE: &str = "job.yaml";

/// What a user asked for, frozen.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Hash over everything that it covers, 10 hexadecimal digits.
    pub hash: String,
    /// Name of its config map, which is its name in the status too.
    pub name: String,
    /// The covered part of the spec, canonical.
    covered: Value,
}

/// A config map is not a revision.
#[derive(Debug, thiserror::Error)]
#[error("config map {name} is not a revision of a StreamJob: {reason}")]
pub struct NotARevision {
    name: String,
    reason: String,
}

impl Revision {
    /// The revision that a spec asks for.
    ///
    /// # Errors
    /// The spec cannot be written as JSON, which would be a fault of the types.
    pub fn wanted(names: &Names, spec: &StreamJobSpec) -> Result<Self, serde_json::Error> {
        Ok(Self::new(names, covered(spec)?))
    }

    fn new(names: &Names, mut covered: Value) -> Self {
        // In the order of their keys, so that equal specs have equal texts.
        covered.sort_all_objects();
        let hash = digest::of(&covered.to_string(), 5);
        Self {
            name: names.revision(&hash),
            hash,
            covered,
        }
    }

    /// Reads a revision back from its config map.
    ///
    /// # Errors
    /// The map lacks the frozen spec, or holds another one than its name says.
    pub fn read(names: &Names, map: &ConfigMap) -> Result<Self, NotARevision> {
        let name = map.metadata.name.clone().unwrap_or_default();
        let wrong = |reason: String| NotARevision {
            name: name.clone(),
            reason,
        };
        let text = map.data.as_ref().and_then(|data| data.get(REVISION_SPEC));
        let text = text.ok_or_else(|| wrong(format!("it has no key {REVISION_SPEC}")))?;
        let covered = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        let revision = Self::new(names, covered);
        if revision.name == name {
            Ok(revision)
        } else {
            Err(wrong(format!("its content belongs to {}", revision.name)))
        }
    }

    /// Whether a spec asks for nothing else than this revision. Both are read by today's types,
    /// so that a field which is new in them does not make a difference.
    pub fn is_asked_by(&self, spec: &StreamJobSpec) -> bool {
        let Ok(own) = self.spec(spec.parallelism) else {
            return false;
        };
        matches!((covered(&own), covered(spec)), (Ok(own), Ok(asked)) if own == asked)
    }

    /// The spec of this revision at a parallelism; what it does not cover has its default.
    ///
    /// # Errors
    /// The frozen spec was written by a version with other types.
    pub fn spec(&self, parallelism: u32) -> Result<StreamJobSpec, serde_json::Error> {
        let mut keys = self.covered.clone();
        if let Value::Object(keys) = &mut keys {
            keys.insert("parallelism".to_owned(), json!(parallelism));
        }
        serde_json::from_value(keys)
    }

    /// Its checkpoint storage.
    pub fn storage(&self) -> &str {
        let storage = self.covered.pointer("/checkpoint/storage");
        storage.and_then(Value::as_str).unwrap_or_default()
    }

    /// The job file that coordinator and workers read. `owner` is the identity under which the
    /// job owns its storage path.
    ///
    /// # Errors
    /// It cannot be written as YAML, which would be a fault of the types.
    pub fn job_file(&self, job: &StreamJob, owner: &str) -> Result<String, serde_yaml::Error> {
        job_file(&self.covered, &job.metadata, owner)
    }

    /// The immutable config map that keeps it.
    ///
    /// # Errors
    /// As [`job_file`](Self::job_file).
    pub fn config_map(&self, job: &StreamJob, owner: &str) -> Result<ConfigMap, serde_yaml::Error> {
        let mut labels = Names::of(job).labels(Role::Coordinator);
        labels.insert(LABEL_REVISION.to_owned(), self.hash.clone());
        let data = [
            (JOB_FILE.to_owned(), self.job_file(job, owner)?),
            (REVISION_SPEC.to_owned(), self.covered.to_string()),
        ];
        Ok(ConfigMap {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: job.metadata.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(super::build::owner(job)),
                ..ObjectMeta::default()
            },
            immutable: Some(true),
            data: Some(data.into()),
            binary_data: None,
        })
    }
}

/// The covered part of a spec.
fn covered(spec: &StreamJobSpec) -> Result<Value, serde_json::Error> {
    let mut covered = serde_json::to_value(spec)?;
    if let Value::Object(keys) = &mut covered {
        keys.retain(|key, _| !NOT_IN_REVISION.contains(&key.as_str()));
    }
    drop_nulls(&mut covered);
    Ok(covered)
}

/// What is not given is not there: the runtime's reader refuses a key without a value.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(keys) => {
            keys.retain(|_, value| !value.is_null());
            keys.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// The job file of a spec, as far as the runtime reads it.
///
/// # Errors
/// It cannot be written as YAML.
pub fn job_file(spec: &Value, meta: &ObjectMeta, owner: &str) -> Result<String, serde_yaml::Error> {
    let keys: Map<String, Value> = RUNTIME_KEYS
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), spec.get(key)?.clone())))
        .collect();
    let mut file = json!({
        "apiVersion": "millstream.dev/v1alpha1",
        "kind": "StreamJob",
        "metadata": { "name": meta.name, "namespace": meta.namespace, "uid": owner },
        "spec": keys,
    });
    drop_nulls(&mut file);
    serde_yaml::to_string(&file)
}

#[cfg(test)]
mod tests;
