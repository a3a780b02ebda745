//! Options of the files connector.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Read the lines of files. Bounded: the files that are there when the job first starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesSource {
    /// A directory, all of whose files (not starting with `.` or `_`) are read, or one file.
    /// Absolute, or relative to the directory that the process was started in.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
}

/// Write lines to files that appear complete, by rename, when their checkpoint is committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FilesSink {
    /// The directory. Absolute, or relative to the directory that the process was started in.
    /// Created if missing; must be one file system, seen by coordinator and workers alike.
    #[schemars(length(min = 1, max = 1024))]
    pub path: String,
}
