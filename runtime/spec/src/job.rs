//! The `spec` of a `StreamJob`, as far as the runtime reads it.

use millstream_types::keys::DEFAULT_MAX_PARALLELISM;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CheckpointSpec, Dataflow, MetricsSpec, RestartStrategy, StateBackendSpec};

/// What a stream job does and how it is kept safe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSpec {
    /// How many subtasks run every node of the dataflow that does not say otherwise. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 32_768))]
    pub parallelism: u32,
    /// Highest parallelism of a node with `partitionBy` or keyed state: into how many key groups its
    /// records are divided. Default: 1024.
    #[serde(default = "max_parallelism")]
    #[schemars(range(min = 1, max = 32_768))]
    pub max_parallelism: u32,
    /// Whether neighbouring steps run in one task without a queue between them. Turning it off
    /// gives every step its own thread. Default: true.
    #[serde(default = "yes")]
    pub operator_chaining: bool,
    /// How the state of transforms that group records is kept.
    #[serde(default)]
    pub state_backend: StateBackendSpec,
    /// When and where checkpoints are taken.
    pub checkpoint: CheckpointSpec,
    /// What happens after a failure. Default: exponential delay.
    #[serde(default)]
    pub restart: RestartStrategy,
    /// What is told about the running job besides its own metrics.
    #[serde(default)]
    pub metrics: MetricsSpec,
    /// Sources, transforms and sinks.
    pub dataflow: Dataflow,
}

const fn one() -> u32 {
    1
}

const fn max_parallelism() -> u32 {
    DEFAULT_MAX_PARALLELISM
}

const fn yes() -> bool {
    true
}
