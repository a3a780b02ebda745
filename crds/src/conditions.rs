//! The closed lists of condition types and reasons. Events use the same reasons.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition is about. The comment says what `True` means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// All tasks run, and a checkpoint has completed since they do.
    Ready,
    /// The operator is working towards the spec (kstatus).
    Reconciling,
    /// The operator cannot go on without a person (kstatus).
    Stalled,
    /// The spec has no fault.
    Valid,
    /// The newest checkpoint is not older than two intervals and a timeout.
    CheckpointHealthy,
    /// The running attempt was restored from state.
    RestoredFromState,
    /// A savepoint is being taken.
    SavepointInProgress,
    /// The job runs an older revision because a newer one failed.
    RolledBack,
    /// The job is suspended, and its pods are gone.
    Suspended,
    /// All sources were bounded and everything is committed.
    Completed,
    /// Counters in the checkpoints add up over restarts and upgrades.
    Audit,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Why a condition is as it is, and what an event is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The reason as it stands in conditions and events.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// All is as it should be.
    AsExpected,
    /// Pods are being created or do not run yet.
    WaitingForPods,
    /// Tasks run; the first checkpoint of the revision has not completed yet.
    WaitingForCheckpoint,
    /// The coordinator does not answer.
    CoordinatorUnreachable,
    /// The runtime restores or restarts the job.
    Restarting,
    /// The new revision is being checked; the old one runs on.
    Preflight,
    /// The new revision cannot work; the old one runs on.
    PreflightFailed,
    /// The upgrade waits for a person's approval.
    WaitingForApproval,
    /// The savepoint of an upgrade or suspension is being taken.
    TakingSavepoint,
    /// The new revision is being deployed.
    Deploying,
    /// A revision or a parallelism runs and has completed its first checkpoints.
    Deployed,
    /// The parallelism is being changed.
    Rescaling,
    /// The job was not healthy, so its newest checkpoint is used instead of a savepoint.
    FellBackToCheckpoint,
    /// State cannot be carried over to another `checkpoint.storage`; the old revision runs on.
    StorageMoved,
    /// The new revision did not become good before its deadline.
    ProgressDeadlineExceeded,
    /// An older revision was deployed again.
    RolledBack,
    /// The runtime has given up.
    JobFailed,
    /// The spec has faults.
    InvalidSpec,
    /// The job is suspended.
    Suspended,
    /// The job is complete.
    Completed,
    /// The job is being deleted.
    Deleting,
    /// `spec.paused` is set.
    Paused,
    /// State of an earlier job of the same name was found and is used.
    AdoptedState,
    /// The job was restored.
    Restored,
    /// The job began without state.
    StartedFresh,
    /// The last checkpoint is older than the interval allows.
    CheckpointOverdue,
    /// Checkpoints fail.
    CheckpointFailing,
    /// No checkpoint has completed yet.
    NoCheckpointYet,
    /// A savepoint has completed.
    SavepointCompleted,
    /// A savepoint has failed.
    SavepointFailed,
    /// A deadline has passed.
    DeadlineExceeded,
    /// Kubernetes refused an object.
    ApplyFailed,
    /// Pods cannot be created, or do not start.
    PodsFailing,
    /// The job's checkpoints were deleted.
    StateDeleted,
    /// Something that the spec refers to does not exist.
    ReferenceMissing,
    /// The counters add up.
    Verified,
    /// The counters do not add up.
    Gap,
    /// Not known yet.
    Unknown,
}

impl ConditionType {
    /// All of them, in the order in which they are written.
    pub const ALL: &'static [Self] = &[
        Self::Ready,
        Self::Reconciling,
        Self::Stalled,
        Self::Valid,
        Self::CheckpointHealthy,
        Self::RestoredFromState,
        Self::SavepointInProgress,
        Self::RolledBack,
        Self::Suspended,
        Self::Completed,
        Self::Audit,
    ];

    /// The type as it stands in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Valid => "Valid",
            Self::CheckpointHealthy => "CheckpointHealthy",
            Self::RestoredFromState => "RestoredFromState",
            Self::SavepointInProgress => "SavepointInProgress",
            Self::RolledBack => "RolledBack",
            Self::Suspended => "Suspended",
            Self::Completed => "Completed",
            Self::Audit => "Audit",
        }
    }
}

/// Value of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Nobody knows yet.
    Unknown,
}

impl ConditionStatus {
    /// The value as it stands in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// A condition to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCondition {
    /// What it is about.
    pub condition_type: ConditionType,
    /// Its value.
    pub status: ConditionStatus,
    /// Why.
    pub reason: Reason,
    /// What is waited for, since when, until when, and what a person can do. Cut at 4 KiB.
    pub message: String,
}

/// Longest message of a condition, bytes; keeps the status small.
const MESSAGE_BYTES_MAX: usize = 4_096;

impl NewCondition {
    /// The condition as it is stored. The transition time of `previous` stays if its value stays.
    pub fn stored(self, previous: &[Condition], generation: i64, now: &Time) -> Condition {
        let name = self.condition_type.as_str();
        let since = previous
            .iter()
            .find(|old| old.type_ == name && old.status == self.status.as_str())
            .map_or_else(|| now.clone(), |old| old.last_transition_time.clone());
        let mut message = self.message;
        if message.len() > MESSAGE_BYTES_MAX {
            let end = (0..=MESSAGE_BYTES_MAX)
                .rev()
                .find(|end| message.is_char_boundary(*end));
            message.truncate(end.unwrap_or(0));
        }
        Condition {
            last_transition_time: since,
            message,
            observed_generation: Some(generation),
            reason: self.reason.as_str().to_owned(),
            status: self.status.as_str().to_owned(),
            type_: name.to_owned(),
        }
    }
}
