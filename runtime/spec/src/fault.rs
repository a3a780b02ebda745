//! What is wrong with a job file, and where.

use std::fmt;

use millstream_types::{ErrorCode, ErrorKind, Failure};

/// A place in the text of a job file, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One thing that is wrong with a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which part, such as `spec.dataflow.sources[0].kafka.topics`; empty for the file itself.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
    /// Where in the text.
    pub place: Option<Place>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a job file was refused: everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFileError {
    origin: String,
    code: ErrorCode,
    faults: Vec<Fault>,
}

impl JobFileError {
    pub(crate) fn unreadable(origin: &str, fault: Fault) -> Self {
        Self {
            origin: origin.to_owned(),
            code: ErrorCode::UnreadableJobFile,
            faults: vec![fault],
        }
    }

    pub(crate) fn invalid(origin: &str, faults: Vec<Fault>) -> Self {
        Self {
            origin: origin.to_owned(),
            code: ErrorCode::InvalidJob,
            faults,
        }
    }

    /// The faults, at least one.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// [`ErrorCode::UnreadableJobFile`] or [`ErrorCode::InvalidJob`].
    pub const fn code(&self) -> ErrorCode {
        self.code
    }
}

impl fmt::Display for JobFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.origin)?;
        for fault in &self.faults {
            write!(f, "\n  ")?;
            if let Some(place) = fault.place {
                write!(f, "{place}: ")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for JobFileError {}

impl From<JobFileError> for Failure {
    fn from(error: JobFileError) -> Self {
        Self::new(error.code, ErrorKind::InvalidJob, error.to_string())
    }
}
