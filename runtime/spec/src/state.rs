//! The `stateBackend` section.

use millstream_types::duration::KubeDuration;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the state of transforms that group records is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StateBackendSpec {
    /// How long the state of a key is kept after its last change. A key that comes again later begins
    /// anew. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<KubeDuration>,
}
