//! What a coordinator says of its job.

use millstream_types::api::{CheckpointSummary, JobStatus};

/// Whether and how a coordinator answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Coordinator {
    /// There is no coordinator pod.
    None,
    /// There is one, and it does not answer.
    Silent {
        /// Why.
        reason: String,
    },
    /// It answered.
    Answers {
        /// About the job.
        job: Box<JobStatus>,
        /// About checkpoints, the newest first.
        checkpoints: Vec<CheckpointSummary>,
    },
}

impl Coordinator {
    /// What it says of the job.
    pub fn job(&self) -> Option<&JobStatus> {
        match self {
            Self::Answers { job, .. } => Some(job),
            Self::None | Self::Silent { .. } => None,
        }
    }

    /// What it says of checkpoints.
    pub fn checkpoints(&self) -> &[CheckpointSummary] {
        match self {
            Self::Answers { checkpoints, .. } => checkpoints,
            Self::None | Self::Silent { .. } => &[],
        }
    }
}
