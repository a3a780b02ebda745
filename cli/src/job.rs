//! A `StreamJob` as it is stored.
//!
//! The status is read as the type that the operator writes; the spec is looked at by path, and
//! read as its type only where a whole revision is compared or written.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::api::DynamicObject;
use millstream_crds::{ConditionType, StreamJobStatus};
use serde_json::Value;

use crate::problem::Problem;

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: Value,
    /// What the operator says; empty if no operator has seen it.
    pub status: StreamJobStatus,
}

impl Job {
    /// Reads a job.
    ///
    /// # Errors
    /// Its status was written by a version with other fields.
    pub fn read(mut object: DynamicObject) -> Result<Self, Problem> {
        let name = object.metadata.name.clone().unwrap_or_default();
        let status = object.data.get_mut("status").map(Value::take);
        let status = status.filter(|status| !status.is_null());
        let status = status.map_or_else(|| Ok(StreamJobStatus::default()), serde_json::from_value);
        Ok(Self {
            spec: object.data.get_mut("spec").map_or(Value::Null, Value::take),
            metadata: object.metadata,
            status: status.map_err(|error| Problem::Unreadable {
                what: format!("the status of StreamJob `{name}`"),
                reason: error.to_string(),
            })?,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Generation of its spec.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or(0)
    }

    /// Whether the operator's status is about this spec, not an older one.
    pub fn is_observed(&self) -> bool {
        self.status.observed_generation.unwrap_or(0) >= self.generation()
    }

    /// A text of the spec, by JSON pointer.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.spec.pointer(pointer)?.as_str()
    }

    /// A number of the spec, by JSON pointer.
    pub fn number(&self, pointer: &str) -> Option<i64> {
        self.spec.pointer(pointer)?.as_i64()
    }

    /// Whether a switch of the spec is on.
    pub fn is_set(&self, pointer: &str) -> bool {
        self.spec.pointer(pointer).and_then(Value::as_bool) == Some(true)
    }

    /// A condition of the status.
    pub fn condition(&self, condition: ConditionType) -> Option<&Condition> {
        let name = condition.as_str();
        self.status.conditions.iter().find(|one| one.type_ == name)
    }

    /// Whether a condition is there with this value.
    pub fn has(&self, condition: ConditionType, value: &str) -> bool {
        self.condition(condition)
            .is_some_and(|condition| condition.status == value)
    }

    /// What else writes this resource: a change made here is undone by it.
    pub fn git_tool(&self) -> Option<&'static str> {
        let labels = self.metadata.labels.iter().flatten();
        let annotations = self.metadata.annotations.iter().flatten();
        labels.chain(annotations).find_map(|(key, _)| {
            if key.starts_with("argocd.argoproj.io/") {
                Some("Argo CD")
            } else if key.contains(".toolkit.fluxcd.io/") {
                Some("Flux")
            } else {
                None
            }
        })
    }
}
