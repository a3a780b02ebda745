//! How a coordinator's run ends.

use millstream_types::Failure;

/// How [`Coordinator::run`](crate::Coordinator::run) ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Bounded sources have ended, everything is committed and the chain is released.
    Completed,
    /// Stopped by request; everything is committed and the chain is released.
    Stopped {
        /// Path of the savepoint that was asked for.
        savepoint: Option<String>,
    },
    /// Given up: restarting does not help or is not allowed any more. The chain is released as failed.
    Failed(Failure),
    /// A newer coordinator owns the job. This one has touched nothing since it noticed.
    Fenced(Failure),
    /// The process was told to end. Nothing was checkpointed; the next coordinator goes on from
    /// the newest checkpoint, as after a crash.
    Interrupted,
}

impl Outcome {
    /// Whether the job is over with it, and not only this coordinator's run.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Stopped { .. } | Self::Failed(_)
        )
    }
}
