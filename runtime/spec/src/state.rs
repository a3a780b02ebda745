//! The `stateBackend` section.

use millstream_types::duration::{KubeDuration, KubeSize};
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
    /// Most memory of all keyed state in one worker, such as `512Mi`. A worker whose state needs more
    /// fails. Default: 60 % of what the worker may have, by the limit of its container or the memory of
    /// its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<KubeSize>,
}
