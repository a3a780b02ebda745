//! Names and labels of everything that belongs to a job.

use std::collections::BTreeMap;

use millstream_crds::StreamJob;
pub use millstream_crds::contract::{
    ANNOTATION_APPROVE, LABEL_DEPLOYMENT, LABEL_JOB, LABEL_REVISION, LABEL_ROLE,
};

use crate::controller::digest;

/// Field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "millstream-operator";

/// Label of a `StreamSavepoint` that was made by `spec.savepoints`.
pub const LABEL_PERIODIC: &str = "millstream.dev/periodic";
/// Label by which any pod may be let through to the REST interfaces of jobs.
pub const LABEL_CLIENT: &str = "millstream.dev/client";
/// Annotation by which a person lets a resource go although something should still be done.
pub const ANNOTATION_SKIP_FINALIZER: &str = "millstream.dev/skip-finalizer";

/// Longest name of a service, a job, or the value of a label.
const NAME_MAX: usize = 63;

/// What a pod of a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Owns the job's truth.
    Coordinator,
    /// Runs tasks.
    Worker,
    /// Checks a new revision.
    Preflight,
    /// Deletes stored state.
    Disposal,
}

impl Role {
    /// The value of [`LABEL_ROLE`].
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Coordinator => "coordinator",
            Self::Worker => "worker",
            Self::Preflight => "preflight",
            Self::Disposal => "disposal",
        }
    }
}

/// Names of a job's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    job: String,
}

impl Names {
    /// Of a job.
    pub fn of(job: &StreamJob) -> Self {
        Self::of_name(job.metadata.name.as_deref().unwrap_or_default())
    }

    /// Of a job of that name.
    pub fn of_name(job: &str) -> Self {
        Self {
            job: job.to_owned(),
        }
    }

    /// Service of the newest coordinator, for clients of its REST interface.
    pub fn coordinator(&self) -> String {
        bounded(&self.job, "coordinator")
    }

    /// Deployment of a coordinator, and the service by which its own workers find it. The number
    /// is that of the job's deployment, so that none ever waits for the pods of another.
    pub fn coordinator_of(&self, deployment: u64) -> String {
        bounded(&self.job, &format!("coordinator-{deployment}"))
    }

    /// Disruption budget of the newest workers.
    pub fn workers(&self) -> String {
        bounded(&self.job, "workers")
    }

    /// Deployment of the workers of one deployment of the job.
    pub fn workers_of(&self, deployment: u64) -> String {
        bounded(&self.job, &format!("workers-{deployment}"))
    }

    /// Network policy of all pods.
    pub fn network_policy(&self) -> String {
        bounded(&self.job, "pods")
    }

    /// Immutable config map of a revision.
    pub fn revision(&self, hash: &str) -> String {
        bounded(&self.job, hash)
    }

    /// Job that checks a revision.
    pub fn preflight(&self, hash: &str) -> String {
        bounded(&self.job, &format!("preflight-{hash}"))
    }

    /// Name of the config map that says which deployment has had a checkpoint.
    pub fn ran(&self) -> String {
        bounded(&self.job, "ran")
    }

    /// Job that deletes the checkpoints of the job.
    pub fn disposal(&self) -> String {
        bounded(&self.job, "disposal")
    }

    /// Labels that never change and select all pods of a role.
    pub fn selector(&self, role: Role) -> BTreeMap<String, String> {
        let mut selector = self.all();
        selector.insert(LABEL_ROLE.to_owned(), role.as_str().to_owned());
        selector
    }

    /// Labels that select the pods of a role of one deployment of the job.
    pub fn selector_of(&self, role: Role, deployment: u64) -> BTreeMap<String, String> {
        let mut selector = self.selector(role);
        selector.insert(LABEL_DEPLOYMENT.to_owned(), deployment.to_string());
        selector
    }

    /// Labels that select everything of the job.
    pub fn all(&self) -> BTreeMap<String, String> {
        BTreeMap::from([(LABEL_JOB.to_owned(), self.job.clone())])
    }

    /// Labels of an object of a role.
    pub fn labels(&self, role: Role) -> BTreeMap<String, String> {
        let mut labels = self.selector(role);
        for (key, value) in [
            ("app.kubernetes.io/name", "millstream"),
            ("app.kubernetes.io/instance", self.job.as_str()),
            ("app.kubernetes.io/component", role.as_str()),
            ("app.kubernetes.io/managed-by", FIELD_MANAGER),
        ] {
            labels.insert(key.to_owned(), value.to_owned());
        }
        labels
    }

    /// The selector of the workers of the newest deployment as text, for the scale subresource.
    pub fn worker_selector_text(&self, deployment: Option<u64>) -> String {
        let selector = deployment.map_or_else(
            || self.selector(Role::Worker),
            |deployment| self.selector_of(Role::Worker, deployment),
        );
        let parts: Vec<String> = selector
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        parts.join(",")
    }
}

/// `<name>-<suffix>`; a name that would make it too long is cut, and a hash of the whole name
/// keeps it apart from others that begin alike.
pub fn bounded(name: &str, suffix: &str) -> String {
    let whole = format!("{name}-{suffix}");
    if whole.len() <= NAME_MAX {
        return whole;
    }
    let hash = digest::of(name, 4);
    let room = NAME_MAX.saturating_sub(suffix.len() + hash.len() + 2);
    let kept: String = name.chars().take(room).collect();
    let kept = kept.trim_end_matches(['-', '.']);
    format!("{kept}-{hash}-{suffix}")
}
