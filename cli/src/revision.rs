//! Revisions of a job: what was asked for, frozen in a config map each, and what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use millstream_crds::StreamJobSpec;
use millstream_crds::contract::{NOT_IN_REVISION, REVISION_SPEC};
use serde::Serialize;
use serde_json::{Map, Value};
use similar::TextDiff;

use crate::job::Job;
use crate::problem::Problem;
use crate::text::parse_time;

/// A frozen spec.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Name of its config map.
    pub name: String,
    /// When that was created.
    pub created: Option<Timestamp>,
    /// The covered part of the spec.
    pub covered: Value,
}

impl Revision {
    /// Reads a revision.
    ///
    /// # Errors
    /// The config map holds no frozen spec.
    pub fn read(map: &ConfigMap) -> Result<Self, Problem> {
        let name = map.metadata.name.clone().unwrap_or_default();
        let unreadable = |reason: String| Problem::Unreadable {
            what: format!("the config map `{name}` of a revision"),
            reason,
        };
        let text = map.data.as_ref().and_then(|data| data.get(REVISION_SPEC));
        let text = text.ok_or_else(|| unreadable(format!("it has no key {REVISION_SPEC}")))?;
        let covered: Value =
            serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        Ok(Self {
            covered: plain(&covered),
            created: map.metadata.creation_timestamp.as_ref().map(|time| time.0),
            name,
        })
    }

    /// Whether a person means this revision: by its name, its hash, or the beginning of it.
    pub fn is_meant(&self, job: &str, text: &str) -> bool {
        let hash = self.name.strip_prefix(job).unwrap_or(&self.name);
        let hash = hash.trim_start_matches('-');
        !text.is_empty() && (self.name == text || hash.starts_with(text))
    }
}

/// The part of a job's spec that revisions cover, in the form in which they are frozen.
///
/// # Errors
/// The spec was written for another version.
pub fn covered(job: &Job) -> Result<Value, Problem> {
    let spec: StreamJobSpec =
        serde_json::from_value(job.spec.clone()).map_err(|error| Problem::Unreadable {
            what: format!("the spec of StreamJob `{}`", job.name()),
            reason: error.to_string(),
        })?;
    let mut spec = serde_json::to_value(&spec).map_err(|error| Problem::Unreadable {
        what: format!("the spec of StreamJob `{}`", job.name()),
        reason: error.to_string(),
    })?;
    if let Value::Object(keys) = &mut spec {
        keys.retain(|key, _| !NOT_IN_REVISION.contains(&key.as_str()));
    }
    Ok(plain(&spec))
}

/// One entry of a job's history.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Name of the revision.
    pub name: String,
    /// When it was deployed first.
    pub deployed: Option<Timestamp>,
    /// Generation of the spec that it was made from.
    pub generation: Option<i64>,
    /// What is special about it: `runs`, `good`, `rejected`, `coming`.
    pub marks: Vec<&'static str>,
    /// State that it was stopped with.
    pub restore_point: Option<String>,
    /// Paths of what differs from the revision before it; none for the oldest.
    pub changed: Option<Vec<String>>,
    /// The difference as text.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub difference: String,
    /// Why it was rejected.
    pub rejected: Option<String>,
}

/// The history of a job, the newest revision first.
pub fn history(job: &Job, revisions: &[Revision]) -> Vec<Entry> {
    let status = &job.status;
    let mut ordered: Vec<&Revision> = revisions.iter().collect();
    let place = |revision: &Revision| {
        let listed = status
            .revisions
            .iter()
            .position(|one| one.name == revision.name);
        // What the status does not list yet is coming; what it lists no longer is old.
        let is_coming = status
            .upgrade
            .as_ref()
            .and_then(|upgrade| upgrade.to.as_ref())
            == Some(&revision.name);
        let rank = if is_coming && listed.is_none() {
            0
        } else {
            listed.map_or(usize::MAX, |position| position + 1)
        };
        (
            rank,
            std::cmp::Reverse(revision.created),
            revision.name.clone(),
        )
    };
    ordered.sort_by_cached_key(|revision| place(revision));
    let older = ordered
        .iter()
        .skip(1)
        .map(Some)
        .chain(std::iter::once(None));
    let pairs = ordered.iter().zip(older);
    pairs
        .map(|(new, old)| entry(job, new, old.copied()))
        .collect()
}

fn entry(job: &Job, revision: &Revision, older: Option<&Revision>) -> Entry {
    let status = &job.status;
    let known = status
        .revisions
        .iter()
        .find(|one| one.name == revision.name);
    let rejected = status.rejected.as_ref();
    let rejected = rejected.filter(|rejected| rejected.revision == revision.name);
    let coming = status
        .upgrade
        .as_ref()
        .and_then(|upgrade| upgrade.to.as_deref());
    let mut marks = Vec::new();
    if status.revision.as_deref() == Some(&revision.name) {
        marks.push("runs");
    } else if coming == Some(&revision.name) {
        marks.push("coming");
    }
    if known.is_some_and(|known| known.good) {
        marks.push("good");
    }
    if rejected.is_some() {
        marks.push("rejected");
    }
    let deployed = known.and_then(|known| parse_time(&known.deployed_at));
    Entry {
        name: revision.name.clone(),
        deployed: deployed.or(revision.created),
        generation: known.map(|known| known.generation),
        marks,
        restore_point: known.and_then(|known| known.restore_point.clone()),
        changed: older.map(|older| changed_paths(&older.covered, &revision.covered)),
        difference: older.map_or_else(String::new, |older| {
            difference(
                &older.name,
                &older.covered,
                &revision.name,
                &revision.covered,
            )
        }),
        rejected: rejected.map(|rejected| format!("{}: {}", rejected.reason, rejected.message)),
    }
}

/// The unified difference of two values as YAML; empty if they are equal.
pub fn difference(old_name: &str, old: &Value, new_name: &str, new: &Value) -> String {
    let (old, new) = (yaml(old), yaml(new));
    let diff = TextDiff::from_lines(&old, &new);
    diff.unified_diff()
        .context_radius(3)
        .header(old_name, new_name)
        .to_string()
}

/// A value without keys that are null, which says the same as not to be there, and with the keys
/// of all objects in order, so that equal values have equal texts.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            let entries: BTreeMap<&String, Value> = object
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, plain(value)))
                .collect();
            let entries = entries.into_iter();
            Value::Object(entries.map(|(key, value)| (key.clone(), value)).collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(plain).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// A value as YAML, keys in order.
pub fn yaml(value: &Value) -> String {
    // JSON is YAML, so a value that cannot be written as the latter still can as the former.
    serde_yaml::to_string(&plain(value)).unwrap_or_else(|_| value.to_string())
}

/// Places where two values differ, elements of lists by their name where they have one.
pub fn changed_paths(old: &Value, new: &Value) -> Vec<String> {
    let mut paths = BTreeSet::new();
    compare("", old, new, &mut paths);
    paths.into_iter().collect()
}

fn compare(path: &str, old: &Value, new: &Value, paths: &mut BTreeSet<String>) {
    match (old, new) {
        _ if old == new => {}
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let at = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                compare_entry(&at, old.get(key), new.get(key), paths);
            }
        }
        (Value::Array(old), Value::Array(new)) if named(old) && named(new) => {
            let names: BTreeSet<&str> = old.iter().chain(new).filter_map(name).collect();
            let before = paths.len();
            for one in names {
                let find = |list: &'_ [Value]| {
                    let position = list.iter().position(|value| name(value) == Some(one));
                    position.and_then(|position| list.get(position)).cloned()
                };
                let at = format!("{path}[{one}]");
                compare_entry(&at, find(old).as_ref(), find(new).as_ref(), paths);
            }
            if paths.len() == before {
                paths.insert(format!("{path} (order)"));
            }
        }
        _ => {
            paths.insert(path.to_owned());
        }
    }
}

fn compare_entry(at: &str, old: Option<&Value>, new: Option<&Value>, paths: &mut BTreeSet<String>) {
    match (old, new) {
        (Some(old), Some(new)) => compare(at, old, new, paths),
        (None, Some(_)) => {
            paths.insert(format!("{at} (new)"));
        }
        (Some(_), None) => {
            paths.insert(format!("{at} (removed)"));
        }
        (None, None) => {}
    }
}

fn name(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

/// Whether all elements of a list have a name, and no two the same.
fn named(list: &[Value]) -> bool {
    let names: BTreeSet<&str> = list.iter().filter_map(name).collect();
    names.len() == list.len()
}

/// The JSON merge patch (RFC 7396) that makes `new` of `old`; `None` if they are equal. Neither
/// contains null.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        _ if old == new => None,
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for key in old.keys().filter(|key| !new.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in new {
                let change = match old.get(key) {
                    Some(before) => merge_patch(before, value),
                    None => Some(value.clone()),
                };
                if let Some(change) = change {
                    patch.insert(key.clone(), change);
                }
            }
            Some(Value::Object(patch))
        }
        _ => Some(new.clone()),
    }
}

/// Text of changed places, one a line.
pub fn changes_text(paths: &[String]) -> String {
    let mut text = String::new();
    for path in paths {
        // Writing to a String cannot fail.
        let _written = writeln!(text, "  {path}");
    }
    text
}
