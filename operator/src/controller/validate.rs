//! From what the API server stores to what can be worked with. Pure.

use millstream_crds::StreamJobSpec;

use super::revision::Revision;

/// A spec without faults.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The spec.
    pub spec: StreamJobSpec,
    /// The revision that it asks for: the one that runs, if it asks for nothing else.
    pub revision: Revision,
    /// Hash of `spec.restore`, without `allowDroppedState`.
    pub restore_hash: String,
    /// What `spec.restore` means now: `latest`, `fresh` or a path, or why that is not known yet.
    pub restore: Result<String, String>,
}

/// Everything that is wrong with a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// One line each, with the path of the field.
    pub lines: Vec<String>,
}
