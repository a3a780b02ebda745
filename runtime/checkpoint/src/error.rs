//! What can go wrong between a job and its checkpoint store.

use millstream_types::{Attempt, CheckpointId, Deployment, ErrorCode, ErrorKind, Failure, JobId};

/// Cause of an [`Error::Unavailable`], as the operating system or the S3 client gives it.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Error of the checkpoint store, by what the caller does about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store did not answer, or refused. What was asked for may or may not have happened.
    #[error("cannot {operation} {object}: {}", advice(object, source.as_ref()))]
    Unavailable {
        /// What was tried, as a verb.
        operation: &'static str,
        /// Address of the object.
        object: String,
        /// Why it failed.
        #[source]
        source: Cause,
        /// Whether the store has answered that it does not, and trying again does not help: there is
        /// no such bucket, or the credentials are not valid.
        is_refusal: bool,
    },
    /// What was to be written to a file could not be read. Nothing has the file's name.
    #[error("{object} is not written, because what was to be in it cannot be read")]
    Unreadable {
        /// Address of the file.
        object: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The storage address is not one.
    #[error("`{uri}` is not a checkpoint storage: {reason}")]
    Address {
        /// The address as it was given.
        uri: String,
        /// What is wrong with it, and what is allowed.
        reason: String,
    },
    /// The store breaks a rule that fencing needs.
    #[error(
        "{storage} {reason}: two coordinators could both believe that they own the job, so exactly-once is impossible there; use a store that honours `If-None-Match: *` on PUT"
    )]
    NotConditional {
        /// Address of the storage.
        storage: String,
        /// What the probe saw.
        reason: String,
    },
    /// An object is there but is not what was written, or one that must be there is not.
    #[error(
        "{object} is corrupt: {reason}; do not delete it, but bring it back from a backup. If it is lost, start the job under another name or storage path, from a savepoint with --restore, or from an older checkpoint with --restore and --fork"
    )]
    Corrupt {
        /// Address of the object.
        object: String,
        /// Which check failed.
        reason: String,
    },
    /// A newer attempt has claimed the chain.
    #[error(
        "attempt {attempt} of {job} is fenced: {by} has claimed {chain}; this coordinator must stop and touch nothing"
    )]
    Fenced {
        /// Which job.
        job: JobId,
        /// The deposed attempt.
        attempt: Attempt,
        /// Who took over, as far as known.
        by: String,
        /// Address of the chain.
        chain: String,
    },
    /// A newer deployment of the job has claimed the chain.
    #[error(
        "deployment {deployment} of {job} is fenced: the newer deployment {newest} has claimed {chain}; this coordinator must stop and touch nothing"
    )]
    Superseded {
        /// Which job.
        job: JobId,
        /// The older deployment.
        deployment: Deployment,
        /// The newer one.
        newest: Deployment,
        /// Address of the chain.
        chain: String,
    },
    /// The deployment of the job has ended by itself and is not run on.
    #[error(
        "deployment {deployment} of {job} has ended and has released {chain}; only a newer deployment runs the job on"
    )]
    Over {
        /// Which job.
        job: JobId,
        /// The deployment that has ended.
        deployment: Deployment,
        /// Address of the chain.
        chain: String,
    },
    /// The storage path belongs to another job.
    #[error("{path} is taken: {reason}")]
    PathTaken {
        /// Address of the chain or reservation.
        path: String,
        /// Who owns it, who wants it, and what to do.
        reason: String,
    },
    /// A checkpoint or savepoint that somebody asked for is not there.
    #[error("no checkpoint or savepoint at {path}: {reason}")]
    Missing {
        /// Address that was asked for.
        path: String,
        /// What was looked for.
        reason: String,
    },
    /// A chain has no checkpoint although the job is known to have had state.
    #[error(
        "{chain} holds no checkpoint, but {job} is known to have had state: it was not started from nothing, which would lose or repeat its output. Check that `checkpoint.storage` and the store's endpoint are those that the job ran with; bring back what was deleted; or start from a savepoint with --restore, or with --restore fresh if the state is to be given up"
    )]
    StateMissing {
        /// Which job.
        job: JobId,
        /// Address of the chain.
        chain: String,
    },
    /// A job is to be started from a checkpoint of a chain that another job still holds.
    #[error(
        "{path} is a checkpoint of a chain that is still in use: {by} has claimed it and has not released it. Both jobs would write the output from there on. Stop the other job first (a stopped one releases its chain), start from a savepoint of it, or say with --fork that both may run on from there or that the other one is gone for good"
    )]
    InUse {
        /// What the job is to be started from.
        path: String,
        /// Who holds that chain.
        by: String,
    },
    /// A job of another identity was started from the same point before, on the same chain.
    #[error(
        "{chain} was started from {path} before, by another incarnation of the job ({identity}), and has gone on to checkpoint {newest} since: starting from there again would write the output again that came after it. To go on, start with --restore latest (`restore.policy: Latest` of a StreamJob). To go back on purpose, delete the chain first and keep the savepoints: `millstream checkpoints delete --job … --keep-savepoints`"
    )]
    RestoredBefore {
        /// Address of the chain.
        chain: String,
        /// What it was started from.
        path: String,
        /// Identity of the job that was started from it.
        identity: String,
        /// The newest checkpoint.
        newest: CheckpointId,
    },
    /// A restore point that somebody believes to be the newest state, and a chain, that have
    /// nothing to do with each other.
    #[error(
        "{path} (checkpoint {checkpoint} of {job}) was to be started from because it was believed to be the newest state, but {chain} holds checkpoint {newest}, and neither was started from the other: which of them is the newer cannot be told. Start from the one that is meant: --restore {path} alone goes back to it (`restore.policy: From` of a StreamJob), --restore latest goes on from the chain"
    )]
    Unrelated {
        /// The restore point.
        path: String,
        /// The checkpoint that it is.
        checkpoint: CheckpointId,
        /// The job that took it.
        job: JobId,
        /// Address of the chain.
        chain: String,
        /// Its newest checkpoint.
        newest: CheckpointId,
    },
    /// State is kept by key group, and the job asks for another number of them.
    #[error(
        "{state} holds state in {frozen} key groups, and the job asks for {asked}: the number is chosen once, with the first checkpoint that holds state. Set `maxParallelism` to {frozen}, or start without the state with --restore fresh"
    )]
    MaxParallelism {
        /// What holds the state.
        state: String,
        /// Number of the state.
        frozen: u32,
        /// Number of the job.
        asked: u32,
    },
    /// Another savepoint has the name.
    #[error("savepoint {path} exists already and is checkpoint {existing}: choose another name")]
    SavepointExists {
        /// Address of the savepoint.
        path: String,
        /// What it holds.
        existing: String,
    },
    /// A caller broke a rule of the chain: a bug of ours.
    #[error("rule of the chain broken: {0}")]
    Rule(String),
}

/// Result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

fn advice(object: &str, source: &(dyn std::error::Error + 'static)) -> &'static str {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};

    match source.downcast_ref().map(std::io::Error::kind) {
        Some(StorageFull | QuotaExceeded) => return "make room there, or choose another disk",
        Some(ReadOnlyFilesystem) => {
            return "it is mounted for reading only: mount it for writing, or choose another directory";
        }
        _ => {}
    }
    if object.starts_with("file://") {
        "check that every part of the path is a directory, and that this process may use it"
    } else {
        "check that the store runs, that its address is right and that the credentials allow it"
    }
}

impl Error {
    /// Its code, which names its page.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Unavailable { .. } => ErrorCode::StoreUnavailable,
            Self::Unreadable { .. } => ErrorCode::OperatingSystem,
            Self::Address { .. } => ErrorCode::InvalidJob,
            Self::NotConditional { .. } => ErrorCode::StoreNotConditional,
            Self::Corrupt { .. } => ErrorCode::CorruptObject,
            Self::Rule(_) => ErrorCode::ChainRuleBroken,
            Self::Fenced { .. } | Self::Superseded { .. } | Self::Over { .. } => ErrorCode::Fenced,
            Self::PathTaken { .. } => ErrorCode::PathTaken,
            Self::Missing { .. } => ErrorCode::CheckpointMissing,
            Self::StateMissing { .. } => ErrorCode::StateMissing,
            Self::InUse { .. } => ErrorCode::ChainInUse,
            Self::RestoredBefore { .. } => ErrorCode::RestoredBefore,
            Self::Unrelated { .. } => ErrorCode::UnrelatedState,
            Self::MaxParallelism { .. } => ErrorCode::IncompatibleState,
            Self::SavepointExists { .. } => ErrorCode::SavepointExists,
        }
    }

    /// What to do about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. } | Self::Unreadable { .. } => ErrorKind::Retryable,
            Self::Address { .. }
            | Self::NotConditional { .. }
            | Self::PathTaken { .. }
            | Self::Missing { .. }
            | Self::StateMissing { .. }
            | Self::InUse { .. }
            | Self::RestoredBefore { .. }
            | Self::Unrelated { .. }
            | Self::MaxParallelism { .. }
            | Self::SavepointExists { .. } => ErrorKind::InvalidJob,
            Self::Corrupt { .. } => ErrorKind::CorruptData,
            Self::Fenced { .. } | Self::Superseded { .. } | Self::Over { .. } => ErrorKind::Fenced,
            Self::Rule(_) => ErrorKind::Internal,
        }
    }

    pub(crate) fn unavailable(
        operation: &'static str,
        object: impl Into<String>,
        source: impl Into<Cause>,
    ) -> Self {
        Self::Unavailable {
            operation,
            object: object.into(),
            source: source.into(),
            is_refusal: false,
        }
    }

    /// The same, for a start that nobody has waited for yet: what the store refuses is for the user to
    /// correct.
    pub fn into_failure_of_first_start(self) -> Failure {
        let is_refusal = matches!(
            self,
            Self::Unavailable {
                is_refusal: true,
                ..
            }
        );
        let failure = Failure::from(self);
        Failure {
            kind: if is_refusal {
                ErrorKind::InvalidJob
            } else {
                failure.kind
            },
            ..failure
        }
    }

    pub(crate) fn corrupt(object: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Corrupt {
            object: object.into(),
            reason: reason.into(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(
            error.code(),
            error.kind(),
            millstream_types::error::chain(&error),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_made_room_on_and_every_other_fault_has_its_own_advice() {
        use std::io::{Error as Io, ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem};

        let full = std::fs::write("/dev/full", "x").unwrap_err();
        for (object, source, advice) in [
            (
                "file:///c/chain/1",
                full,
                "make room there, or choose another disk",
            ),
            (
                "file:///c/chain/1",
                ReadOnlyFilesystem.into(),
                "mount it for writing",
            ),
            (
                "file:///c/chain/1",
                PermissionDenied.into(),
                "that this process may use it",
            ),
            (
                "s3://c/chain/1",
                Io::other("no route"),
                "that the store runs",
            ),
        ] {
            let failure = Failure::from(Error::unavailable("write", object, source));
            assert_eq!(failure.kind, ErrorKind::Retryable);
            for part in [object, advice] {
                assert!(failure.message.contains(part), "{failure}");
            }
        }
    }
}
