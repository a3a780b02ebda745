//! Names and labels of everything that belongs to a job.

use std::collections::BTreeMap;

use millstream_crds::StreamJob;

/// Field manager of everything that the operator applies.
pub const FIELD_MANAGER: &str = "millstream-operator";

/// Label that selects everything of one job; its value is the job's name.
pub const LABEL_JOB: &str = "millstream.dev/job";
/// Label with the part that a pod plays: `coordinator`, `worker`, `preflight` or `disposal`.
pub const LABEL_ROLE: &str = "millstream.dev/role";
/// Label with the revision that an object was made from.
pub const LABEL_REVISION: &str = "millstream.dev/revision";
/// Annotation by which a person approves a revision.
pub const ANNOTATION_APPROVE: &str = "millstream.dev/approve";

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
        Self { job: job.metadata.name.clone().unwrap_or_default() }
    }

    /// Deployment of the coordinator, and its headless service.
    pub fn coordinator(&self) -> String {
        format!("{}-coordinator", self.job)
    }

    /// Deployment of the workers, and their disruption budget.
    pub fn workers(&self) -> String {
        format!("{}-workers", self.job)
    }

    /// Network policy of all pods.
    pub fn network_policy(&self) -> String {
        format!("{}-pods", self.job)
    }

    /// Immutable config map of a revision.
    pub fn revision(&self, hash: &str) -> String {
        format!("{}-{hash}", self.job)
    }

    /// Job that checks a revision.
    pub fn preflight(&self, hash: &str) -> String {
        format!("{}-preflight-{hash}", self.job)
    }

    /// Labels that never change and select all pods of a role.
    pub fn selector(&self, role: Role) -> BTreeMap<String, String> {
        BTreeMap::from([
            (LABEL_JOB.to_owned(), self.job.clone()),
            (LABEL_ROLE.to_owned(), role.as_str().to_owned()),
        ])
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

    /// The selector of the workers as text, for the scale subresource.
    pub fn worker_selector_text(&self) -> String {
        let selector = self.selector(Role::Worker);
        let parts: Vec<String> =
            selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
        parts.join(",")
    }
}
