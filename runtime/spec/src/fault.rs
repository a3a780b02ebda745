//! What is wrong with a job file, and where.

use std::fmt;

use millstream_types::{ErrorCode, ErrorKind, Failure};

use crate::{ValidJob, path};

/// Most faults that are listed; further ones are counted.
pub const MAX_FAULTS: usize = 100;

/// A place in the text of a job file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// One thing that is wrong with a job file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which part, such as `spec.dataflow.sources[0].kafka.topics`; empty if it is the text
    /// itself.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
    /// Where it stands, or what it is missing from.
    pub place: Place,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "{}: {}", self.place, self.message)
        } else {
            write!(f, "{}: {} ({})", self.path, self.message, self.place)
        }
    }
}

/// Why a job file is refused: everything that is wrong with it.
///
/// Its text has one line for the file and one per fault.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFileError {
    origin: String,
    code: ErrorCode,
    faults: Vec<Fault>,
    unlisted: usize,
    draft: Option<Box<ValidJob>>,
}

impl JobFileError {
    pub(crate) fn unreadable(origin: &str, place: Place, message: String) -> Self {
        Self {
            origin: origin.to_owned(),
            code: ErrorCode::UnreadableJobFile,
            faults: vec![Fault {
                path: String::new(),
                message,
                place,
            }],
            unlisted: 0,
            draft: None,
        }
    }

    pub(crate) fn with_draft(self, draft: Option<ValidJob>) -> Self {
        Self {
            draft: draft.map(Box::new),
            ..self
        }
    }

    /// What of the file has no fault, for finding more: a plan of it names what is wrong with its SQL.
    /// It is not the job, and never run.
    pub fn draft(&self) -> Option<&ValidJob> {
        self.draft.as_deref()
    }

    /// The faults in the order of the text, at least one and at most [`MAX_FAULTS`].
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// How many faults there are in all.
    pub fn count(&self) -> usize {
        self.faults.len() + self.unlisted
    }

    /// [`ErrorCode::UnreadableJobFile`] or [`ErrorCode::InvalidJob`].
    pub const fn code(&self) -> ErrorCode {
        self.code
    }
}

impl fmt::Display for JobFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.count() {
            1 => write!(f, "{}: 1 fault", self.origin)?,
            count => write!(f, "{}: {count} faults", self.origin)?,
        }
        for fault in &self.faults {
            write!(f, "\n  {fault}")?;
        }
        match self.unlisted {
            0 => Ok(()),
            unlisted => write!(f, "\n  … and {unlisted} more"),
        }
    }
}

impl std::error::Error for JobFileError {}

impl From<JobFileError> for Failure {
    fn from(error: JobFileError) -> Self {
        Self::new(error.code, ErrorKind::InvalidJob, error.to_string())
    }
}

/// Faults as they are found.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    found: Vec<Fault>,
    unlisted: usize,
}

impl Faults {
    pub(crate) fn add(&mut self, path: &str, place: Place, message: String) {
        if self.found.len() < MAX_FAULTS {
            self.found.push(Fault {
                path: path.to_owned(),
                message,
                place,
            });
        } else {
            self.unlisted += 1;
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Whether this part or anything in it has a fault.
    pub(crate) fn any_within(&self, part: &str) -> bool {
        // A fault that is not listed may be anywhere.
        self.unlisted > 0
            || self
                .found
                .iter()
                .any(|fault| path::is_within(&fault.path, part))
    }

    /// The keys of this mapping that have a fault, or one in them.
    pub(crate) fn keys_within<'a>(&'a self, mapping: &'a str) -> impl Iterator<Item = &'a str> {
        let paths = self.found.iter().map(|fault| fault.path.as_str());
        paths.filter_map(move |path| {
            let rest = path.strip_prefix(mapping)?.strip_prefix('.')?;
            rest.split(['.', '[']).next()
        })
    }

    /// The error with all of them.
    pub(crate) fn into_error(mut self, origin: &str) -> JobFileError {
        self.found.sort_by_key(|fault| fault.place);
        JobFileError {
            origin: origin.to_owned(),
            code: ErrorCode::InvalidJob,
            faults: self.found,
            unlisted: self.unlisted,
            draft: None,
        }
    }
}
