//! Reads a job file and plans it.

use std::path::Path;

use millstream_plan::JobGraph;
use millstream_spec::ValidJob;
use millstream_types::{ErrorCode, ErrorKind, Failure};

/// Most bytes of a job file; a Kubernetes object cannot be larger.
const JOB_FILE_BYTES_MAX: u64 = 1_024 * 1_024;

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

impl LoadedJob {
    /// Reads a job file from disk.
    ///
    /// # Errors
    /// The file cannot be read, or what it says cannot run.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let origin = path.display().to_string();
        let text = read_text(path).map_err(|error| {
            let message = format!("{origin}: {error}");
            Failure::new(ErrorCode::UnreadableJobFile, ErrorKind::InvalidJob, message)
        })?;
        Self::parse(text, &origin)
    }

    /// Checks and plans the text of a job file; `origin` names it in messages.
    ///
    /// # Errors
    /// What it says cannot run.
    pub fn parse(text: String, origin: &str) -> Result<Self, Failure> {
        let job = millstream_spec::read(&text, origin)?;
        let graph = millstream_plan::plan(&job)?;
        Ok(Self { text, job, graph })
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let bytes = std::fs::metadata(path)?.len();
    if bytes > JOB_FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!(
            "the file has {bytes} bytes; a job file has at most {JOB_FILE_BYTES_MAX}"
        )));
    }
    std::fs::read_to_string(path)
}
