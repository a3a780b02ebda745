//! What is there: pods, Kubernetes jobs, and what the coordinator says. No judgement.

pub mod pods;

use std::collections::BTreeSet;

use crate::runtime_client::{AuditReport, RuntimeStatus};
use pods::Problem;

/// Everything that a decision looks at, besides the resource itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// The coordinator's pods.
    pub coordinator: Pods,
    /// The workers' pods.
    pub workers: Pods,
    /// What the coordinator of the newest deployment says.
    pub runtime: Runtime,
    /// The savepoint that `status.upgrade.savepoint` names.
    pub savepoint: SavepointSeen,
    /// The check of `status.upgrade.to`, of the current step only.
    pub preflight: TaskSeen,
    /// The deletion of the job's checkpoints.
    pub disposal: TaskSeen,
    /// Names of the revisions whose config maps exist.
    pub revisions: BTreeSet<String>,
    /// The runtime's own account of the records.
    pub audit: Option<AuditReport>,
    /// The namespace is being deleted: nothing can be created in it any more.
    pub namespace_terminating: bool,
}

/// The pods of one deployment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pods {
    /// Whether the Kubernetes deployment exists.
    pub present: bool,
    /// How many pods exist, also those that are being deleted.
    pub count: i32,
    /// How many pods are ready.
    pub ready: i32,
    /// Why pods do not start.
    pub problem: Option<Problem>,
}

/// What the coordinator says.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Runtime {
    /// There is no pod that could be asked.
    #[default]
    NoPod,
    /// There is a pod, but nobody answers there.
    Silent(String),
    /// A coordinator of an older deployment still answers.
    Outdated(RuntimeStatus),
    /// The coordinator of the newest deployment.
    Answers(RuntimeStatus),
}

/// How a savepoint stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SavepointSeen {
    /// Nobody was asked, or nobody answered.
    #[default]
    Unknown,
    /// The coordinator has not heard of it.
    NotAsked,
    /// It is being taken.
    InProgress,
    /// It lies at this path.
    Completed(String),
    /// It failed for this reason.
    Failed(String),
}

/// How a Kubernetes job that does one thing stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TaskSeen {
    /// It does not exist.
    #[default]
    Absent,
    /// It has not ended; perhaps its pod does not start.
    Waiting(Option<Problem>),
    /// It has succeeded, with what it wrote at its end.
    Succeeded(String),
    /// It has failed, with what it wrote at its end or why it was ended.
    Failed(String),
}

impl Runtime {
    /// The status, if it is that of the newest deployment.
    pub fn current(&self) -> Option<&RuntimeStatus> {
        match self {
            Self::Answers(status) => Some(status),
            _ => None,
        }
    }
}
