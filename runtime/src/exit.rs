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
    /// It failed. Starting again may help.
    Failed,
    /// Starting again does not help until somebody has changed something: the command or the job is
    /// wrong, or the data need a decision.
    Final,
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
            Self::Final => 2,
            Self::Fenced => 3,
            Self::Interrupted => 130,
        }
    }

    /// Says what went wrong, once, on standard error.
    pub(crate) fn failed(failure: &Failure) -> Self {
        let pages = pages(failure);
        let text = format!("error: {failure}\n  what to do: {pages}\n");
        // Standard error may be closed; there is nowhere left to say so.
        drop(std::io::stderr().write_all(text.as_bytes()));
        match failure.kind {
            ErrorKind::Fenced => Self::Fenced,
            kind if kind.is_restartable() => Self::Failed,
            _ => Self::Final,
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

/// The pages about a failure, the one about its cause first: that of an attempt may be the reason
/// of the job's.
fn pages(failure: &Failure) -> String {
    let own = failure.code.code();
    let words = failure.message.split([' ', ':']);
    let cause = words.filter(|word| *word != own).find(|word| is_code(word));
    match cause {
        Some(cause) => format!("docs/errors/{cause}.md and docs/errors/{own}.md"),
        None => format!("docs/errors/{own}.md"),
    }
}

fn is_code(word: &str) -> bool {
    let digits = word.strip_prefix("MS");
    digits.is_some_and(|digits| digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()))
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
