//! Options of each connector.

pub mod custom;
pub mod files;
pub mod generator;
pub mod kafka;
pub mod postgres;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use custom::CustomSink;
pub use files::{FilesSink, FilesSource};
pub use generator::GeneratorSource;
pub use kafka::{
    DeliveryGuarantee, KafkaPartitioner, KafkaSink, KafkaSource, OffsetFallback, Sasl,
    SaslMechanism, StartingOffsets, Tls, ValueFields,
};
pub use postgres::{PostgresMode, PostgresSink};

/// Options of the `print` sink.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrintSink {
    /// Print at most this many rows per subtask, then only count; all if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 9_007_199_254_740_991_u64))]
    pub limit: Option<u64>,
}

/// Options of the `blackhole` sink: there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlackholeSink {}
