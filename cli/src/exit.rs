//! How the process ends, and how it says why.

use std::io::Write as _;
use std::process::ExitCode;

use crate::problem::Problem;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done.
    Done,
    /// It failed.
    Failed,
    /// What was waited for did not happen.
    WaitedInVain,
    /// `diff` found differences.
    Differs,
}

impl Exit {
    /// The exit code. 2 is wrong usage and comes from the command line's parser.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::WaitedInVain => 3,
            Self::Differs => 4,
        }
    }

    /// Says what went wrong and what to do, once, on standard error.
    pub fn failed(problem: &Problem) -> Self {
        if let Problem::ClosedOutput = problem {
            return Self::Done;
        }
        let mut text = format!("error: {problem}\n");
        for line in problem.what_to_do().lines() {
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
        }
        note(&text);
        match problem {
            Problem::WaitedInVain { .. } => Self::WaitedInVain,

            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Writes to standard error.
pub fn note(text: &str) {
    // Standard error may be closed; there is nowhere left to say so.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

/// Writes to standard output.
///
/// # Errors
/// The reader is gone (`| head`), or the output cannot be written.
pub fn print(text: &str) -> Result<(), Problem> {
    let mut output = std::io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::BrokenPipe => Problem::ClosedOutput,
            _ => Problem::System {
                what: "standard output cannot be written".to_owned(),
                reason: error.to_string(),
            },
        })
}
