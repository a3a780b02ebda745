//! From what the API server stores to what can be worked with. Pure.
//!
//! The API server refuses what a schema and CEL can say. The rest is looked at here, and all of
//! it is reported at once: what the runtime would say of the job file, what the types refuse, and
//! what only the operator knows. What needs the planner (does the SQL bind?) is left to the
//! preflight, or for a first deployment to the coordinator.

mod pods;

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millstream_crds::StreamJobSpec;
use millstream_crds::contract::IN_A_POD;
use millstream_crds::stream_job::{RestorePolicy, RestoreSpec};
use millstream_types::duration::KubeDuration;
use serde_json::{Value, json};

use super::build::names::Names;
use super::build::pod::CONFIG_DIRECTORY;
use super::deletion::Deletion;
use super::digest;
use super::revision::{self, Revision};

/// Shortest interval of periodic savepoints.
const SAVEPOINT_INTERVAL_MIN: KubeDuration = KubeDuration::from_secs(60);

/// A spec without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The spec.
    pub spec: StreamJobSpec,
    /// The revision that it asks for: a known one, if it asks for nothing else than that.
    pub revision: Revision,
    /// Hash of `spec.restore`, without what may be dropped or lost.
    pub restore_hash: String,
    /// What `spec.restore` means now: `latest`, `fresh` or a path, or why that is not known yet.
    pub restore: Result<String, String>,
}

/// Everything that is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// One line each, with the path of the field.
    pub lines: Vec<String>,
}

impl Faults {
    /// All lines, as one text.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

/// What is validated.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The resource's metadata.
    pub meta: &'a ObjectMeta,
    /// The spec as the API server stores it.
    pub spec: &'a Value,
    /// The identity under which the job owns its storage path.
    pub owner: &'a str,
    /// The revisions that are kept.
    pub known: &'a [Revision],
    /// Name of the one that is deployed.
    pub current: Option<&'a str>,
    /// What `spec.restore.from` refers to, or why that is not known yet.
    pub source: &'a Result<String, String>,
}

/// Checks a spec.
///
/// # Errors
/// Everything that is wrong with it.
pub fn validate(asked: &Asked<'_>) -> Result<Wish, Faults> {
    let mut lines = runtime_faults(asked);
    lines.extend(Deletion::of(asked.spec).fault);
    let spec: StreamJobSpec = match serde_path_to_error::deserialize(asked.spec) {
        Ok(spec) => spec,
        Err(error) => {
            // The runtime's reader says the same with better words where it is its part.
            if lines.is_empty() {
                lines.push(format!("spec.{}: {}", error.path(), error.inner()));
            }
            return Err(Faults { lines });
        }
    };
    lines.extend(operator_faults(&spec));
    let wanted = wanted_revision(asked, &spec);
    match wanted {
        Ok(revision) if lines.is_empty() => Ok(Wish {
            revision,
            restore_hash: restore_hash(&spec.restore),
            restore: match spec.restore.policy {
                RestorePolicy::Latest => Ok("latest".to_owned()),
                RestorePolicy::Fresh => Ok("fresh".to_owned()),
                RestorePolicy::From => asked.source.clone(),
            },
            spec,
        }),
        Ok(_) => Err(Faults { lines }),
        Err(error) => {
            lines.push(format!("spec: {error}"));
            Err(Faults { lines })
        }
    }
}

/// What the runtime would say of the job file.
fn runtime_faults(asked: &Asked<'_>) -> Vec<String> {
    let file = match revision::job_file(asked.spec, asked.meta, asked.owner) {
        Ok(file) => file,
        Err(error) => return vec![format!("spec: {error}")],
    };
    let Err(error) = millstream_spec::read(&file, "spec") else {
        return Vec::new();
    };
    let mut lines: Vec<String> = error
        .faults()
        .iter()
        .map(|fault| format!("{}: {}", fault.path, fault.message))
        .collect();
    let unlisted = error.count().saturating_sub(lines.len());
    if unlisted > 0 {
        lines.push(format!("… and {unlisted} more"));
    }
    lines
}

/// What only the operator knows.
fn operator_faults(spec: &StreamJobSpec) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(at) = &spec.restart_at
        && let Err(error) = at.parse::<Timestamp>()
    {
        faults.push(format!(
            "spec.restartAt: `{at}` is not a time, write one such as 2026-01-31T12:00:00Z ({error})"
        ));
    }
    if let Some(savepoints) = &spec.savepoints
        && savepoints.interval < SAVEPOINT_INTERVAL_MIN
    {
        faults.push(format!(
            "spec.savepoints.interval: {} is too short, it must be {SAVEPOINT_INTERVAL_MIN} or more",
            savepoints.interval
        ));
    }
    if spec.checkpoint.storage.starts_with("file:") {
        faults.push(format!("spec.checkpoint.storage: {IN_A_POD}"));
    }
    if spec.upgrade.progress_deadline.0.millis() == 0 {
        faults.push("spec.upgrade.progressDeadline: it must be longer than 0s".to_owned());
    }
    faults.extend(secret_faults(spec));
    faults.extend(pods::faults(spec));
    faults
}

fn secret_faults(spec: &StreamJobSpec) -> Vec<String> {
    let mut faults = Vec::new();
    let mut paths = BTreeSet::new();
    for (index, secret) in spec.secrets.iter().enumerate() {
        let default = format!("/etc/millstream/secrets/{}", secret.name);
        let path = secret.mount_path.clone().unwrap_or(default);
        let at = format!("spec.secrets[{index}].mountPath");
        let taken = [CONFIG_DIRECTORY, "/tmp"]
            .iter()
            .any(|ours| is_within(&path, ours) || is_within(ours, &path));
        if path.split('/').any(|part| part == "..") {
            faults.push(format!("{at}: {path} must not contain `..`"));
        } else if taken {
            faults.push(format!(
                "{at}: {path} is used by Millstream itself, choose another one"
            ));
        }
        if !paths.insert(path.trim_end_matches('/').to_owned()) {
            faults.push(format!("{at}: {path} is the path of another secret too"));
        }
    }
    faults
}

fn is_within(path: &str, directory: &str) -> bool {
    let path = path.trim_end_matches('/');
    path.strip_prefix(directory.trim_end_matches('/'))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The revision that a spec asks for. One that is known and asks for the same is preferred to a
/// new one, because new fields of the types would give it another hash.
fn wanted_revision(asked: &Asked<'_>, spec: &StreamJobSpec) -> Result<Revision, serde_json::Error> {
    let current = asked
        .known
        .iter()
        .filter(|known| Some(known.name.as_str()) == asked.current);
    let same = current
        .chain(asked.known)
        .find(|known| known.is_asked_by(spec));
    if let Some(revision) = same {
        return Ok(revision.clone());
    }
    let names = Names::of_name(asked.meta.name.as_deref().unwrap_or_default());
    Revision::wanted(&names, spec)
}

/// Hash of what `spec.restore` asks for: what may be dropped or lost does not make it another wish.
fn restore_hash(restore: &RestoreSpec) -> String {
    let mut asked = json!({ "policy": restore.policy, "from": restore.from });
    asked.sort_all_objects();
    digest::of(&asked.to_string(), 5)
}

#[cfg(test)]
mod tests;
