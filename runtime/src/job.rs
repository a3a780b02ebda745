//! Reads a job file and plans it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use millstream_plan::{JobGraph, PlanError};
use millstream_spec::read::locate;
use millstream_spec::read::yaml::MAX_BYTES;
use millstream_spec::{JobFileError, ValidJob};
use millstream_types::{ErrorCode, ErrorKind, Failure};

/// A job file, read, checked and planned.
#[derive(Debug, Clone)]
pub struct LoadedJob {
    /// The text of the file.
    pub text: String,
    /// The checked job.
    pub job: ValidJob,
    /// Its plan.
    pub graph: JobGraph,
}

/// Why a job file cannot run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read from disk.
    #[error("{origin}: {error}")]
    Io {
        /// Its name.
        origin: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not YAML, or breaks rules.
    #[error(transparent)]
    File(JobFileError),
    /// What it says cannot be planned.
    #[error(transparent)]
    Plan(PlanError),
    /// It breaks rules, and its SQL is at fault too.
    #[error("{0}\n\n{1}")]
    Both(JobFileError, PlanError),
}

impl LoadError {
    /// All that is wrong with a file that breaks rules.
    fn of(error: JobFileError, text: &str) -> Self {
        let plan = error.draft().map(millstream_plan::plan);
        match plan {
            Some(Err(more)) => Self::Both(error, located(more, text)),
            Some(Ok(_)) | None => Self::File(error),
        }
    }
}

/// Faults with the lines of the job file on which they stand.
fn located(error: PlanError, text: &str) -> PlanError {
    error.located(|fault| match (fault.transform(), &fault.place) {
        (Some(name), Some(place)) => locate::sql_line(text, name, place.line),
        (Some(name), None) => locate::sql_line(text, name, 0),
        (None, _) => match fault.transform_key() {
            Some((name, key)) => locate::transform_key(text, name, key),
            None => locate::part(text, &fault.subject).map(|place| place.line),
        },
    })
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Io { .. } => Self::new(
                ErrorCode::UnreadableJobFile,
                ErrorKind::InvalidJob,
                error.to_string(),
            ),
            LoadError::File(error) => error.into(),
            LoadError::Plan(error) => error.into(),
            LoadError::Both(ref first, _) => {
                Self::new(first.code(), ErrorKind::InvalidJob, error.to_string())
            }
        }
    }
}

impl LoadedJob {
    /// Reads a job file from disk.
    ///
    /// # Errors
    /// The file cannot be read, or what it says cannot run.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let origin = path.display().to_string();
        let bytes = read_bytes(path).map_err(|error| LoadError::Io {
            origin: origin.clone(),
            error,
        })?;
        let job = millstream_spec::read_bytes(&bytes, &origin);
        // If they are none, that has just been said.
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match job {
            Ok(job) => Self::plan(text, job),
            Err(error) => Err(LoadError::of(error, &text)),
        }
    }

    /// Checks and plans the text of a job file; `origin` names it in messages.
    ///
    /// # Errors
    /// What it says cannot run.
    pub fn parse(text: String, origin: &str) -> Result<Self, LoadError> {
        match millstream_spec::read(&text, origin) {
            Ok(job) => Self::plan(text, job),
            Err(error) => Err(LoadError::of(error, &text)),
        }
    }

    /// The same with another parallelism.
    ///
    /// # Errors
    /// It is too high.
    pub fn rescaled(self, parallelism: u32) -> Result<Self, Failure> {
        let refused = |message| {
            let kind = ErrorKind::InvalidJob;
            Failure::new(ErrorCode::InvalidJob, kind, message)
        };
        self.graph.check_parallelism(parallelism).map_err(refused)?;
        let job = self.job.rescaled(parallelism).map_err(refused)?;
        Ok(Self { job, ..self })
    }

    fn plan(text: String, job: ValidJob) -> Result<Self, LoadError> {
        let graph =
            millstream_plan::plan(&job).map_err(|error| LoadError::Plan(located(error, &text)))?;
        Ok(Self { text, job, graph })
    }
}

/// Reads no more than what tells that a file is too long.
fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    // Opening a pipe would wait for somebody who writes into it.
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    File::open(path)?
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
