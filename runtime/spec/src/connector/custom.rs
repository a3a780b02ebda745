//! Options of sinks of one's own.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Write with a sink that the program itself has: one that was registered by a program of your own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomSink {
    /// Name that it was registered under.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 63), pattern(r"^[a-z]([a-z0-9-]*[a-z0-9])?$"))]
    pub sink_type: String,
    /// What it is told: any keys that it knows.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "anything")]
    pub options: Map<String, Value>,
}

fn anything(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}
