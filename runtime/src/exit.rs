//! How the process ends, and how it says why.

use std::io::Write;
use std::process::ExitCode;

use millstream_coordinator::Outcome;
use millstream_types::{ErrorKind, Failure};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// What was asked for is done.
    Done,
    /// It failed.
    Failed,
    /// The job or the command cannot work as it is written.
    Invalid,
    /// A newer attempt of the job has taken over.
    Fenced,
    /// A signal ended the process before the job was over.
    Interrupted,
}

impl Exit {
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Invalid => 2,
            Self::Fenced => 3,
            Self::Interrupted => 130,
        }
    }

    /// Says what went wrong, once, on standard error.
    pub(crate) fn failed(failure: &Failure) -> Self {
        let code = failure.code.code();
        let text = format!("error: {failure}\n  docs/errors/{code}.md says what to do\n");
        // Standard error may be closed; there is nowhere left to say so.
        drop(std::io::stderr().write_all(text.as_bytes()));
        match failure.kind {
            ErrorKind::InvalidJob => Self::Invalid,
            ErrorKind::Fenced => Self::Fenced,
            ErrorKind::Retryable
            | ErrorKind::CorruptData
            | ErrorKind::DataLoss
            | ErrorKind::Internal => Self::Failed,
        }
    }

    /// The end of a coordinator.
    pub(crate) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Completed | Outcome::Stopped { .. } => Self::Done,
            Outcome::Failed(failure) | Outcome::Fenced(failure) => Self::failed(failure),
            Outcome::Interrupted => Self::Interrupted,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
