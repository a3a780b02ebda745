//! The `metrics` section.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is told about the running job besides its own metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MetricsSpec {
    /// Whether the coordinator tells Prometheus the metrics of the job under Flink's names and in
    /// Flink's units, too, so that alerts and boards made for Flink go on. Default: false.
    pub flink_names: bool,
}
