//! Which periodic savepoints have had their time. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::DynamicObject;
use millstream_crds::{SavepointState, StreamSavepoint};
use serde_json::Value;

/// How many are kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Completed ones that are kept, the newest.
    pub keep: usize,
    /// Older ones go, but never the newest.
    pub max_age: Option<Duration>,
}

/// A periodic savepoint that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The job it is of.
    pub job: String,
    /// When it was created.
    pub created: Timestamp,
    /// How it stands.
    pub state: Option<SavepointState>,
    /// Where it lies.
    pub path: Option<String>,
    /// Whether it is being deleted already.
    pub leaving: bool,
}

impl Kept {
    /// Of a resource.
    pub fn of(savepoint: &StreamSavepoint) -> Option<Self> {
        let metadata = &savepoint.metadata;
        let status = savepoint.status.clone().unwrap_or_default();
        Some(Self {
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            job: savepoint.spec.job_ref.name.clone(),
            created: metadata.creation_timestamp.as_ref()?.0,
            state: status.state,
            path: status.path,
            leaving: metadata.deletion_timestamp.is_some(),
        })
    }

    /// Whether nothing more will become of it.
    pub fn has_ended(&self) -> bool {
        !matches!(
            self.state,
            None | Some(SavepointState::Pending | SavepointState::InProgress)
        )
    }
}

/// Those that may go: completed ones beyond the limits, and failed ones that are older than the
/// newest that completed. What is still being taken stays.
pub fn expired(mut existing: Vec<Kept>, limits: Limits, now: Timestamp) -> Vec<Kept> {
    existing.retain(|one| !one.leaving && one.has_ended());
    existing.sort_by(|one, other| (other.created, &other.name).cmp(&(one.created, &one.name)));
    let mut completed_before = 0_usize;
    existing.retain(|one| {
        if one.state != Some(SavepointState::Completed) {
            return completed_before > 0;
        }
        let rank = completed_before;
        completed_before += 1;
        let age = Duration::try_from(now.duration_since(one.created)).unwrap_or_default();
        let too_old = limits.max_age.is_some_and(|max_age| age > max_age);
        rank >= limits.keep.max(1) || (rank > 0 && too_old)
    });
    existing
}

/// What jobs refer to: every text in their statuses and in `spec.restore`, and the names of
/// savepoints in `spec.restore.from`.
#[derive(Debug, Default)]
pub struct References {
    texts: BTreeSet<String>,
    names: BTreeSet<(String, String)>,
}

impl References {
    /// Adds what a job refers to.
    pub fn add(&mut self, job: &DynamicObject) {
        for part in ["/status", "/spec/restore"] {
            if let Some(value) = job.data.pointer(part) {
                self.collect(value);
            }
        }
        let named = job
            .data
            .pointer("/spec/restore/from/savepoint")
            .and_then(Value::as_str);
        if let Some(name) = named {
            let namespace = job.metadata.namespace.clone().unwrap_or_default();
            self.names.insert((namespace, name.to_owned()));
        }
    }

    fn collect(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                if text.contains("://") {
                    self.texts.insert(text.clone());
                }
            }
            Value::Array(values) => values.iter().for_each(|value| self.collect(value)),
            Value::Object(fields) => fields.values().for_each(|value| self.collect(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Whether a savepoint is referred to. Also a mention in a message counts: keeping one too
    /// many is cheap.
    pub fn name(&self, namespace: &str, savepoint: &Kept) -> bool {
        let by_name = self
            .names
            .contains(&(namespace.to_owned(), savepoint.name.clone()));
        let path = savepoint
            .path
            .as_deref()
            .map(|path| path.trim_end_matches('/'));
        let by_path = path.is_some_and(|path| self.texts.iter().any(|text| text.contains(path)));
        by_name || by_path
    }
}

#[cfg(test)]
mod tests;
