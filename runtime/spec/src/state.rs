//! The `stateBackend` section.

use std::path::PathBuf;

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
    /// Most memory of all keyed state in one worker, such as `512Mi`. What does not fit is kept in
    /// `directory`. Default: 60 % of what the worker may have, by the limit of its container or the memory of
    /// its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<KubeSize>,
    /// Directory on a local disk for state that does not fit into memory, an absolute path. It needs no
    /// copy: what is in it is removed when the worker ends, and filled from the checkpoint when it starts.
    /// Default: `millstream` in the directory for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub directory: Option<PathBuf>,
}
