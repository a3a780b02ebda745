//! Why pods do not start.

/// Why a pod does not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which kind.
    pub kind: ProblemKind,
    /// What Kubernetes or the container says, with the name of the pod.
    pub message: String,
}

/// Kinds of problems, by what can be done about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The image cannot be had and will not be tried again: its name is malformed, or it must be
    /// there and is not.
    ImageUnusable,
    /// The image cannot be pulled now; the kubelet tries again.
    ImagePull,
    /// The container ended with faults of the job file: exit code 2.
    InvalidJob,
    /// The container ends again and again.
    Crash,
    /// The container cannot be made: a secret or config map is missing, a path cannot be mounted.
    Container,
    /// Pods cannot be created: quota, service account, admission.
    NotCreated,
    /// No node has room.
    NotScheduled,
}

impl ProblemKind {
    /// Whether waiting cannot help.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::ImageUnusable | Self::InvalidJob)
    }
}
