//! `diff`

use std::io::Read as _;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::answer;
use crate::arguments::{Connection, DiffOptions};
use crate::cluster::{Cluster, Writing};
use crate::exit::{Exit, print};
use crate::job::Job;
use crate::problem::Problem;
use crate::redact::LAST_APPLIED;
use crate::revision::{changed_paths, changes_text, covered, difference, yaml};

/// What a manifest would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// What the operator would do about it.
    pub consequence: String,
    /// Places of the spec that differ.
    pub changed: Vec<String>,
    /// The difference as text.
    pub difference: String,
}

/// Shows what a manifest would change.
///
/// # Errors
/// It is no manifest of a job, or the API server refuses it.
pub async fn run(
    cluster: Cluster,
    options: &DiffOptions,
    connection: &Connection,
) -> Result<Exit, Problem> {
    let manifest = read(&options.file)?;
    let (name, namespace) = identity(&manifest, &options.file)?;
    let cluster = match namespace {
        Some(namespace) if connection.namespace.is_none() => cluster.with_namespace(namespace),
        _ => cluster,
    };
    let old = match cluster.job(&name).await {
        Ok(job) => Some(job),
        Err(Problem::NotFound { .. }) => None,
        Err(problem) => return Err(problem),
    };
    let new = tried(&cluster, &name, old.as_ref(), &manifest).await?;
    let changes = changes(old.as_ref(), &new);
    let is_same = changes.changed.is_empty() && old.is_some();
    print(&answer(options.answer.output, &changes, |changes| {
        format!(
            "{}{}\n{}",
            changes.difference,
            changes.consequence,
            changes_text(&changes.changed)
        )
    })?)?;
    Ok(if is_same { Exit::Done } else { Exit::Differs })
}

fn read(path: &Path) -> Result<Value, Problem> {
    let unreadable = |reason: String| Problem::System {
        what: format!("{} cannot be read", path.display()),
        reason,
    };
    let mut text = String::new();
    if path == Path::new("-") {
        let read = std::io::stdin().read_to_string(&mut text);
        read.map_err(|error| unreadable(error.to_string()))?;
    } else {
        text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    }
    serde_yaml::from_str(&text).map_err(|error| unreadable(error.to_string()))
}

/// Name and namespace of the job in a manifest.
fn identity(manifest: &Value, path: &Path) -> Result<(String, Option<String>), Problem> {
    let text = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str);
    let is_job = text("/kind") == Some("StreamJob");
    match text("/metadata/name").filter(|_| is_job) {
        Some(name) => Ok((
            name.to_owned(),
            text("/metadata/namespace").map(str::to_owned),
        )),
        None => Err(Problem::Unreadable {
            what: path.display().to_string(),
            reason: "it is not the manifest of one StreamJob with a name".to_owned(),
        }),
    }
}

/// What applying the manifest would make of the job: as `kubectl apply` does it where that has
/// been used before, else as a server-side apply by whoever applied it last.
async fn tried(
    cluster: &Cluster,
    name: &str,
    old: Option<&Job>,
    manifest: &Value,
) -> Result<Job, Problem> {
    if let Some(applied) = old.and_then(last_applied) {
        let patch = three_way_patch(&applied, manifest);
        return cluster.patch_job(name, &patch, Writing::DryRun).await;
    }
    let manager = old.and_then(manager).unwrap_or("kubectl");
    cluster.try_apply(name, manifest, manager).await
}

/// The manifest that `kubectl apply` was given last.
fn last_applied(job: &Job) -> Option<Value> {
    let annotations = job.metadata.annotations.as_ref()?;
    serde_json::from_str(annotations.get(LAST_APPLIED)?).ok()
}

/// Who applied the spec last by server-side apply.
fn manager(job: &Job) -> Option<&str> {
    let entries = job.metadata.managed_fields.iter().flatten();
    let mut applied = entries
        .filter(|entry| entry.operation.as_deref() == Some("Apply") && entry.subresource.is_none());
    applied.next_back()?.manager.as_deref()
}

/// The merge patch by which `kubectl apply` changes a custom resource: everything that the
/// manifest says, and `null` for what the last one said and this one does not.
///
/// Source: Kubernetes docs, "Declarative Management of Kubernetes Objects Using Configuration
/// Files", "How apply calculates differences and merges changes".
pub fn three_way_patch(applied: &Value, manifest: &Value) -> Value {
    let (Value::Object(applied), Value::Object(manifest)) = (applied, manifest) else {
        return manifest.clone();
    };
    let gone = applied.keys().filter(|key| !manifest.contains_key(*key));
    let mut patch: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in manifest {
        let before = applied.get(key).unwrap_or(&Value::Null);
        patch.insert(key.clone(), three_way_patch(before, value));
    }
    Value::Object(patch)
}

/// What becomes of a job.
pub fn changes(old: Option<&Job>, new: &Job) -> Changes {
    let Some(old) = old else {
        return Changes {
            consequence: format!("`{}` would be created", new.name()),
            changed: Vec::new(),
            difference: yaml(&new.spec),
        };
    };
    let changed = changed_paths(&old.spec, &new.spec);
    Changes {
        consequence: consequence(old, new, &changed),
        difference: difference("spec now", &old.spec, "manifest", &new.spec),
        changed,
    }
}

fn consequence(old: &Job, new: &Job, changed: &[String]) -> String {
    if changed.is_empty() {
        return "nothing would change".to_owned();
    }
    let state = |job: &Job| job.text("/state").unwrap_or("Running").to_owned();
    let mut parts = Vec::new();
    if new.is_set("/paused") {
        parts.push("nothing while spec.paused is set".to_owned());
    }
    match (state(old).as_str(), state(new).as_str()) {
        (_, "Suspended") if state(old) == "Suspended" => {
            parts.push("it stays suspended; the change counts when it is resumed".to_owned());
        }
        (_, "Suspended") => parts.push("the job is stopped with a savepoint".to_owned()),
        ("Suspended", _) => parts.push("the job is resumed".to_owned()),
        _ => parts.extend(running_consequence(old, new)),
    }
    if parts.is_empty() {
        parts.push("no restart: only options of the operator change".to_owned());
    }
    format!("The operator would do: {}. Changed:", parts.join("; "))
}

fn running_consequence(old: &Job, new: &Job) -> Option<String> {
    // A spec of another version is compared as it is.
    let of = |job: &Job| covered(job).unwrap_or_else(|_| job.spec.clone());
    if of(old) != of(new) {
        let strategy = new.text("/upgrade/strategy").unwrap_or("Savepoint");
        let manual = new.text("/upgrade/approval") == Some("Manual");
        let approval = if manual {
            ", waiting for your approval after its check"
        } else {
            ""
        };
        return Some(format!("an upgrade with strategy {strategy}{approval}"));
    }
    let parallelism = |job: &Job| job.number("/parallelism").unwrap_or(1);
    let (from, to) = (parallelism(old), parallelism(new));
    (from != to).then(|| format!("a rescale from {from} to {to}, from the newest checkpoint"))
}
