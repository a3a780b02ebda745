//! What a job was started with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `GET /v1/job/config`
///
/// Passwords are not in it: a job file names the files that hold them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JobConfiguration {
    /// Version of the coordinator.
    pub version: String,
    /// How many subtasks run every node that does not say otherwise.
    pub parallelism: u32,
    /// Into how many key groups keys are divided.
    pub max_parallelism: u32,
    /// The section `checkpoint`, with the defaults that hold.
    pub checkpoint: Map<String, Value>,
    /// The section `restart`, with the defaults that hold.
    pub restart: Map<String, Value>,
    /// The job file, as the coordinator has read it.
    pub job: String,
}
