//! Reads a job file and plans it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use millstream_plan::{JobGraph, PlanError};
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
    File(#[from] JobFileError),
    /// What it says cannot be planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
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
        let job = millstream_spec::read_bytes(&bytes, &origin)?;
        // They have just been read as text.
        Self::plan(String::from_utf8_lossy(&bytes).into_owned(), job)
    }

    /// Checks and plans the text of a job file; `origin` names it in messages.
    ///
    /// # Errors
    /// What it says cannot run.
    pub fn parse(text: String, origin: &str) -> Result<Self, LoadError> {
        let job = millstream_spec::read(&text, origin)?;
        Self::plan(text, job)
    }

    /// The same with another parallelism.
    ///
    /// # Errors
    /// It is too high.
    pub fn rescaled(self, parallelism: u32) -> Result<Self, Failure> {
        let job = self.job.rescaled(parallelism).map_err(|message| {
            let kind = ErrorKind::InvalidJob;
            Failure::new(ErrorCode::InvalidJob, kind, message)
        })?;
        Ok(Self { job, ..self })
    }

    fn plan(text: String, job: ValidJob) -> Result<Self, LoadError> {
        let graph = millstream_plan::plan(&job)?;
        Ok(Self { text, job, graph })
    }
}

/// Reads no more than what tells that a file is too long.
fn read_bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)?
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}
